"""Floor 3: the table. Which event may meet a job in which state, what state follows, when, and why.

This is the only place where a move between states can be expressed. `_engine.fold` looks every event up in it; a
missing cell raises `IllegalTransition`. The diagram and the table in docs/states.md are made from it
(`python -m tools.diagram`), and a test fails when they are stale.

A row is (state before, event, state after, guard, reason). The guard is what `_engine.decide` has made sure of before
it makes such an event; it is prose, for the docs, since the event itself is the evidence. `None` is the state before
a job exists.

Two events are absent from most rows on purpose. A job in doubt is never `Cancelled`, `Snoozed` or `Interrupted`
directly: it is `DoubtResolved` first, so that the history shows who settled the doubt. And nothing leaves `completed`.
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
    event: type[ev.JobEvent]
    after: State
    guard: str
    reason: str


_SCHEDULED = State.SCHEDULED
_PENDING = State.PENDING
_PROCESSING = State.PROCESSING
_RETRYING = State.RETRYING
_IN_DOUBT = State.IN_DOUBT
_COMPLETED = State.COMPLETED
_FAILED = State.FAILED
_CANCELLED = State.CANCELLED

_T = Transition

TABLE: Final[tuple[Transition, ...]] = (
    # a job begins
    _T(None, ev.Submitted, _PENDING, "the payload fits, the key is new, a place is held", "submitted"),
    _T(None, ev.Scheduled, _SCHEDULED, "the payload fits, the key is new, not too many wait", "submitted for later"),
    # it waits
    _T(_SCHEDULED, ev.Due, _PENDING, "due_at has come", "its time has come"),
    _T(_RETRYING, ev.Due, _PENDING, "due_at has come", "the wait before the retry is over"),
    _T(_PENDING, ev.Started, _PROCESSING, "it has left the line, the host is free", "an attempt begins"),
    # an attempt is under way
    _T(
        _PROCESSING,
        ev.SdkEntered,
        _PROCESSING,
        "not entered yet",
        "an async handler begins its first call into the SDK",
    ),
    _T(_PROCESSING, ev.StepStarted, _PROCESSING, "not done before", "a step begins"),
    _T(_PROCESSING, ev.StepFinished, _PROCESSING, "it has begun", "a step is done, once and for all"),
    _T(_IN_DOUBT, ev.StepFinished, _IN_DOUBT, "it has begun, its call is still inside", "a late step is done"),
    _T(_PROCESSING, ev.CancelRequested, _PROCESSING, "not requested yet", "a person asks for cancel; no retry follows"),
    _T(_PROCESSING, ev.Overdue, _PROCESSING, "its limit has passed", "it cannot be ended from outside"),
    _T(_PROCESSING, ev.Completed, _COMPLETED, "the handler returned, or verify says done", "done"),
    _T(_PROCESSING, ev.RetryScheduled, _RETRYING, "retries are left, no cancel is requested", "to be tried again"),
    _T(_PROCESSING, ev.Snoozed, _SCHEDULED, "fewer than max_snoozes, no cancel is requested", "put off by its handler"),
    _T(_PROCESSING, ev.Interrupted, _PENDING, "not entered, or idempotent", "given back by a stop or a crash"),
    _T(_PROCESSING, ev.InDoubt, _IN_DOUBT, "entered and not returned, or stuck", "nobody knows what it did"),
    _T(_PROCESSING, ev.Failed, _FAILED, "no retry is allowed or left, expired, or poison", "over without success"),
    _T(_PROCESSING, ev.Cancelled, _CANCELLED, "it left nothing behind", "a person or its handler asked"),
    # nobody knows what the attempt did
    _T(_IN_DOUBT, ev.InDoubt, _IN_DOUBT, "its call has ended, or verify cannot tell", "still in doubt"),
    _T(_IN_DOUBT, ev.Completed, _COMPLETED, "it returned late, or verify or a person says done", "it was done"),
    _T(_IN_DOUBT, ev.RetryScheduled, _RETRYING, "not done, on_doubt is retry, or it failed late", "to be tried again"),
    _T(_IN_DOUBT, ev.DoubtResolved, _PENDING, "not done, on_doubt is retry, or it ended late", "to be done anew"),
    _T(_IN_DOUBT, ev.Failed, _FAILED, "no retry is left, expired, poison, or it is said so", "over without success"),
    # it ends before it is tried (again)
    _T(_SCHEDULED, ev.Cancelled, _CANCELLED, "", "a person cancels it"),
    _T(_PENDING, ev.Cancelled, _CANCELLED, "", "a person cancels it, or did while it was under way"),
    _T(_RETRYING, ev.Cancelled, _CANCELLED, "", "a person cancels it"),
    _T(_SCHEDULED, ev.Failed, _FAILED, "deadline_at has passed", "expired"),
    _T(_PENDING, ev.Failed, _FAILED, "deadline_at has passed", "expired"),
    _T(_RETRYING, ev.Failed, _FAILED, "deadline_at has passed", "expired"),
    # a person begins a new run
    _T(_FAILED, ev.RunRestarted, _PENDING, "no call of it is inside", "a person retries it"),
    _T(_CANCELLED, ev.RunRestarted, _PENDING, "no call of it is inside", "a person retries it"),
)

#: The table as it is looked up: by event, then by the state before.
TRANSITIONS: Final[dict[type[ev.Event], dict[State | None, State]]] = {
    event: {row.before: row.after for row in TABLE if row.event is event} for event in {row.event for row in TABLE}
}

#: The state that each event leads to. An event that the table allows in several states, leaving each as it is, is not
#: in here.
STATE_AFTER: Final[dict[type[ev.Event], State]] = {
    event: next(iter(rows.values())) for event, rows in TRANSITIONS.items() if len(set(rows.values())) == 1
}


def target(before: State | None, event: type[ev.Event]) -> State:
    """The state after `event` in state `before`. Raises `IllegalTransition` where the table has no such cell."""
    try:
        return TRANSITIONS[event][before]
    except KeyError:
        raise IllegalTransition(f"{event.__name__} cannot happen to a job that is {before or 'not there'}") from None
