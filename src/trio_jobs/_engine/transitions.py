"""The table of transitions: which event a job can have in which state, and which state follows.

This is the only place where a move between states can be expressed. `_engine.fold` looks up every event in it; a
missing cell raises `IllegalTransition`. The diagram and the table in docs/states.md are generated from it
(`python -m tools.diagram`), and a test fails when they are stale.

A row is (state before, event, state after, guard, reason). The guard is what `_engine.decide` has checked before it
returns such an event. It is prose for the docs, since the event itself is the evidence. `None` is the state before a
job exists.

Two things are absent on purpose. A job in doubt is never `Cancelled`, `Snoozed` or `Interrupted` directly: it is
`DoubtResolved` first, so that the history shows what resolved the doubt. And nothing leaves `completed`.

`failed` is the end of a run, with one exception: verify, called on request of an operator, finds the work done.
"""

from __future__ import annotations

from typing import Final

import attrs

from trio_jobs._engine import events as ev
from trio_jobs._engine.jobs import State
from trio_jobs._errors import IllegalTransition

__all__ = ["STATE_AFTER", "TABLE", "TRANSITIONS", "Transition", "target"]


@attrs.frozen
class Transition:
    """One cell of the table."""

    before: State | None
    """The state before the event; None before the job exists."""

    event: type[ev.JobEvent]
    """The class of the event."""

    after: State
    """The state after the event."""

    guard: str
    """What was checked before the event, in words; empty if nothing was."""

    reason: str
    """Why the event happens, in words."""


_SCHEDULED = State.SCHEDULED
_PENDING = State.PENDING
_PROCESSING = State.PROCESSING
_SAVING = State.SAVING
_RETRYING = State.RETRYING
_IN_DOUBT = State.IN_DOUBT
_COMPLETED = State.COMPLETED
_FAILED = State.FAILED
_CANCELLED = State.CANCELLED

_T = Transition

TABLE: Final[tuple[Transition, ...]] = (
    # a new job
    _T(None, ev.Submitted, _PENDING, "payload valid, key new, slot reserved", "submit"),
    _T(None, ev.Scheduled, _SCHEDULED, "payload valid, key new, below max_waiting", "submit for later"),
    # a waiting job
    _T(_SCHEDULED, ev.Due, _PENDING, "due_at has passed, or started early", "the job is due"),
    _T(
        _RETRYING,
        ev.Due,
        _PENDING,
        "due_at has passed, or started early",
        "the wait before the retry is over",
    ),
    _T(_PENDING, ev.Started, _PROCESSING, "taken from the queue, SDK free", "an attempt starts"),
    _T(_PENDING, ev.InDoubt, _IN_DOUBT, "may have acted", "verify or an operator decides before the next attempt"),
    # a running attempt
    _T(_PROCESSING, ev.SdkEntered, _PROCESSING, "not entered yet", "an async handler makes its first SDK call"),
    _T(_PROCESSING, ev.StepStarted, _PROCESSING, "step not finished before", "a step starts"),
    _T(_PROCESSING, ev.StepFinished, _PROCESSING, "step started", "a step finishes; it will not run again"),
    _T(_IN_DOUBT, ev.StepFinished, _IN_DOUBT, "step started, call still inside", "a step of a late call finishes"),
    _T(_PROCESSING, ev.CancelRequested, _PROCESSING, "not requested yet", "an operator cancels; no retry will follow"),
    _T(_PROCESSING, ev.Overdue, _PROCESSING, "limit passed", "the attempt cannot be stopped from outside"),
    _T(_PROCESSING, ev.Completed, _COMPLETED, "handler returned, or verify answered Done", "the work is done"),
    _T(_PROCESSING, ev.RetryScheduled, _RETRYING, "retries left, no cancel requested", "a retry follows"),
    _T(_PROCESSING, ev.Snoozed, _SCHEDULED, "below max_snoozes, no cancel requested", "the handler snoozes the job"),
    _T(_PROCESSING, ev.Interrupted, _PENDING, "not entered, or idempotent", "a stop or a crash interrupts the attempt"),
    _T(
        _PROCESSING, ev.InDoubt, _IN_DOUBT, "entered and not returned, or stuck", "the effect of the attempt is unknown"
    ),
    _T(_PROCESSING, ev.Failed, _FAILED, "no retry allowed or left, expired, or poison", "the job ends without success"),
    _T(_PROCESSING, ev.Cancelled, _CANCELLED, "nothing left behind", "an operator or the handler cancels"),
    # work that the SDK has not saved yet: only with save=
    _T(_PROCESSING, ev.Returned, _SAVING, "the service has save=", "the handler returned"),
    _T(_IN_DOUBT, ev.Returned, _SAVING, "its call was inside", "the late call returned"),
    _T(_SAVING, ev.CancelRequested, _SAVING, "not requested yet", "an operator cancels; no retry will follow"),
    _T(_SAVING, ev.Completed, _COMPLETED, "save returned, for its whole group", "the work is done"),
    _T(_SAVING, ev.InDoubt, _IN_DOUBT, "unsaved, not idempotent", "it is unknown whether the work is durable"),
    _T(_SAVING, ev.RetryScheduled, _RETRYING, "save raised; retries left, no cancel requested", "a retry follows"),
    _T(_SAVING, ev.Interrupted, _PENDING, "not entered, or idempotent", "the session ended before a save returned"),
    _T(_SAVING, ev.Failed, _FAILED, "no retry allowed or left, expired, or poison", "the job ends without success"),
    _T(_SAVING, ev.Cancelled, _CANCELLED, "requested; not entered, or idempotent", "an operator cancelled"),
    # a job in doubt
    _T(_IN_DOUBT, ev.InDoubt, _IN_DOUBT, "call returned, or verify answered Unknown", "the doubt remains"),
    _T(_IN_DOUBT, ev.Completed, _COMPLETED, "late return, verify answered Done, or resolved", "the work is done"),
    _T(_IN_DOUBT, ev.RetryScheduled, _RETRYING, "NotDone, on_doubt is retry, or late error", "a retry follows"),
    _T(
        _IN_DOUBT,
        ev.DoubtResolved,
        _PENDING,
        "NotDone, on_doubt is retry, late end, or resolved",
        "the job starts again",
    ),
    _T(_IN_DOUBT, ev.Failed, _FAILED, "no retry left, expired, poison, or resolved", "the job ends without success"),
    # the end of a waiting job
    _T(_SCHEDULED, ev.Cancelled, _CANCELLED, "", "an operator cancels"),
    _T(_PENDING, ev.Cancelled, _CANCELLED, "", "an operator cancels, or requested it during the attempt"),
    _T(_RETRYING, ev.Cancelled, _CANCELLED, "", "an operator cancels"),
    _T(_SCHEDULED, ev.Failed, _FAILED, "deadline_at has passed", "the job expires"),
    _T(_PENDING, ev.Failed, _FAILED, "deadline_at has passed", "the job expires"),
    _T(_RETRYING, ev.Failed, _FAILED, "deadline_at has passed", "the job expires"),
    # a new run
    _T(_FAILED, ev.RunRestarted, _PENDING, "no call inside, may be repeated", "an operator retries"),
    _T(_CANCELLED, ev.RunRestarted, _PENDING, "no call inside, may be repeated", "an operator retries"),
    _T(_FAILED, ev.Corrected, _PENDING, "has done nothing", "an operator replaces the payload"),
    _T(_CANCELLED, ev.Corrected, _PENDING, "has done nothing", "an operator replaces the payload"),
    # verify on request of an operator
    _T(_FAILED, ev.Completed, _COMPLETED, "verify answered Done", "the work is done"),
    _T(_FAILED, ev.Verified, _FAILED, "verify was called", "verify answered NotDone or Unknown"),
    _T(_CANCELLED, ev.Verified, _CANCELLED, "verify was called", "verify has answered"),
    # when a waiting job is due
    _T(_SCHEDULED, ev.Rescheduled, _SCHEDULED, "due_at in the future", "an operator postpones or advances it"),
    _T(_PENDING, ev.Rescheduled, _SCHEDULED, "due_at in the future", "an operator postpones it"),
    _T(_RETRYING, ev.Rescheduled, _SCHEDULED, "due_at in the future", "an operator postpones or advances it"),
    # who works on a job
    *(
        _T(state, ev.Claimed, state, "not claimed by another", "an operator works on it, or no longer does")
        for state in State
        if state is not _COMPLETED
    ),
)

TRANSITIONS: Final[dict[type[ev.Event], dict[State | None, State]]] = {
    event: {row.before: row.after for row in TABLE if row.event is event} for event in {row.event for row in TABLE}
}
"""The state after, by event and then by state before."""

#: The state that each event leads to. An event that the table allows in several states, leaving each as it is, is not
#: in here.
STATE_AFTER: Final[dict[type[ev.Event], State]] = {
    event: next(iter(rows.values())) for event, rows in TRANSITIONS.items() if len(set(rows.values())) == 1
}


def target(before: State | None, event: type[ev.Event]) -> State:
    """The state after `event` in state `before`.

    Raises:
        IllegalTransition: The table has no such cell.
    """
    try:
        return TRANSITIONS[event][before]
    except KeyError:
        raise IllegalTransition(f"{event.__name__} cannot happen to a job that is {before or 'not there'}") from None
