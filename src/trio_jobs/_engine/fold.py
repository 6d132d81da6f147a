"""Applies events to jobs. The only code that writes a `JobRecord`; the table of transitions is looked up each time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from msgspec import UNSET

from trio_jobs._engine import events as ev
from trio_jobs._engine.jobs import NO_STEPS, AttemptRecord, Claim, Doubt, JobRecord, Outcome, State, Unsaved, Wait
from trio_jobs._engine.operator_actions import MAX_ACTIONS, ActionName, ActionRecord
from trio_jobs._engine.operator_events import REMARKS
from trio_jobs._engine.transitions import TRANSITIONS, target
from trio_jobs._errors import IllegalTransition

__all__ = ["begin", "fold"]

MAX_EARLIER: Final = 10  #: payloads that corrections have replaced are kept with the job, the newest ones

_CRASHED: Final = Outcome.CRASHED
_DIED: Final = Outcome.DIED

_RESOLUTIONS: dict[type[ev.Event], str] = {
    ev.Completed: "done",
    ev.DoubtResolved: "not_done",
    ev.Failed: "failed",
}

_ByOperator = (
    ev.Ended | ev.CancelRequested | ev.RunRestarted | ev.Corrected | ev.Rescheduled | ev.Due | ev.Claimed | ev.Verified
)

_BEGIN = {event: rows[None] for event, rows in TRANSITIONS.items() if None in rows}


def begin(event: ev.Submitted, elapsed: float | None = None) -> JobRecord:
    """The record of a new job, from its first event.

    Args:
        event: The event.
        elapsed: See `fold`.
    """
    assert event.payload is not UNSET  # only a client's events are without
    seq, at = event.seq, event.at
    record = JobRecord(
        event.job,
        event.kind,
        event.payload,
        at,
        seq,
        at,
        seq,
        _BEGIN[type(event)],
        event.key,
        event.digest,
        event.by,
        labels=event.labels,
        state_seq=seq,
        moved_seq=seq,
        changed_elapsed=elapsed,
    )
    if event.deadline_at is not None:
        record.deadline_at, record.deadline_wait = event.deadline_at, _wait_of(event.deadline_after, elapsed)
    if type(event) is ev.Scheduled:
        record.due_at, record.due_wait = event.due_at, _wait_of(event.delay, elapsed)
    return record


def fold(record: JobRecord, event: ev.JobEvent, elapsed: float | None = None) -> State:
    """Apply `event` to `record`, and return the state after it.

    Args:
        record: The job.
        event: Its next event.
        elapsed: When it happened, on the clock of elapsed seconds; None for an event of an earlier process. The times
            in events are dates, and the wall clock may be set. So the waits that this process has begun end, and ages
            are measured, on a clock that is never set.

    Raises:
        IllegalTransition: The table does not allow the event in this state, or the event is not newer than the record.
            Nothing was changed.
    """
    try:
        after, change, is_remark = _MOVES[type(event)][record.state]
    except KeyError:
        target(record.state, type(event))  # raises, and says why
        raise
    seq = event.seq
    if seq <= record.last_seq:
        raise IllegalTransition(f"event {seq} cannot follow event {record.last_seq} of job {record.id}")
    if change is not None:
        change(record, event, elapsed)
    record.last_seq = seq
    if is_remark:
        return after
    if record.state is not after:
        record.state = after
        record.state_seq = seq
    record.moved_seq = seq
    record.changed_at = event.at
    if elapsed is not None:
        record.changed_elapsed = elapsed
    return after


def _wait_of(seconds: float | None, elapsed: float | None) -> Wait | None:
    """The wait that begins now; None for one that ends at a date."""
    return None if seconds is None else Wait(seconds, None if elapsed is None else elapsed + seconds)


def _started(record: JobRecord, event: ev.Started, elapsed: float | None) -> None:
    before = record.last_attempt
    if before is not None:
        record.earlier_attempts = (*record.earlier_attempts, before)
    record.last_attempt = AttemptRecord(event.attempt, record.run, event.at, event.entered)
    record.due_at = record.due_wait = None
    record.reason = ""
    record.error = record.unsaved = None
    record.not_done = False


def _due(record: JobRecord, event: ev.Due, elapsed: float | None) -> None:
    # otherwise due_at stays, since it orders the jobs that wait for a slot
    if event.early:
        record.due_at, record.due_wait = event.at, None
        _keep_action(record, event, "run_now")


def _rescheduled(record: JobRecord, event: ev.Rescheduled, elapsed: float | None) -> None:
    record.due_at, record.due_wait = event.due_at, _wait_of(event.delay, elapsed)
    record.reason = "rescheduled"
    _keep_action(record, event, "reschedule")


def _entered(record: JobRecord, event: ev.SdkEntered, elapsed: float | None) -> None:
    record.attempt.entered = True


def _step_started(record: JobRecord, event: ev.StepStarted, elapsed: float | None) -> None:
    record.steps = {**record.steps, event.step: None}
    record.attempt.entered = True  # a step acts, through the SDK or not


def _step_finished(record: JobRecord, event: ev.StepFinished, elapsed: float | None) -> None:
    assert event.result is not UNSET  # only a client's events are without
    record.steps = {**record.steps, event.step: event.result}


def _cancel_requested(record: JobRecord, event: ev.CancelRequested, elapsed: float | None) -> None:
    record.cancel_requested = True
    _keep_action(record, event, "cancel", "requested")


def _overdue(record: JobRecord, event: ev.Overdue, elapsed: float | None) -> None:
    record.attempt.overdue = True


def _ended(record: JobRecord, event: ev.Ended, elapsed: float | None) -> None:
    outcome, error = event.outcome, event.error
    if outcome is not None:
        attempt = record.last_attempt
        assert attempt is not None
        attempt.ended_at = event.at
        attempt.outcome = outcome
        if elapsed is not None:
            record.ended_elapsed = elapsed
        attempt.ended_by = event.ended_by
        attempt.entered = event.entered
        attempt.late = event.late
        attempt.error = error
        if outcome is _CRASHED or outcome is _DIED:
            record.crashes += 1
            record.retries_used += 1
    if event.crashed:
        record.crashes += 1
    if record.steps and not event.may_have_acted and not isinstance(event, ev.InDoubt | ev.Returned):
        # the handler, verify or an operator says that nothing is half done: an open step may start again
        record.steps = {name: result for name, result in record.steps.items() if result is not None}
    record.may_have_acted = event.may_have_acted
    if event.reason == "not_done":
        record.not_done = True
    record.doubt = record.due_wait = None
    record.reason = event.reason
    record.error = error
    if event.action is not None or event.by is not None:
        _operator_ended(record, event)


def _operator_ended(record: JobRecord, event: ev.Ended) -> None:
    """An operator cancelled the job, resolved its doubt or let verify be called."""
    if event.action is None and record.actions and record.actions[-1].seq == event.seq - 1:
        return  # a consequence of the action: a job that was to be cancelled is resolved as not done
    cancelled = isinstance(event, ev.Cancelled)
    # events of earlier versions have no action
    action = event.action or ("cancel" if cancelled else "resolve")
    _keep_action(record, event, action, "" if action == "cancel" else _RESOLUTIONS.get(type(event), ""))


def _keep_action(record: JobRecord, event: _ByOperator, action: ActionName, detail: str = "") -> None:
    kept = ActionRecord(action, event.seq, event.at, event.by, event.note, detail)
    record.actions = (*record.actions[1 - MAX_ACTIONS :], kept)


def _returned(record: JobRecord, event: ev.Returned, elapsed: float | None) -> None:
    _ended(record, event, elapsed)
    record.unsaved = Unsaved(None if event.result is UNSET else event.result, event.problem)


def _completed(record: JobRecord, event: ev.Completed, elapsed: float | None) -> None:
    _ended(record, event, None)  # nothing waits for the time since this end
    record.claim = None
    result, problem = event.result, event.problem
    if record.unsaved is not None:
        if result is UNSET and problem is None:  # the handler has returned it before
            result, problem = record.unsaved.result or UNSET, record.unsaved.problem
        record.unsaved = None
    record.result = None if result is UNSET else result
    record.result_problem = problem


def _retrying(record: JobRecord, event: ev.RetryScheduled, elapsed: float | None) -> None:
    _ended(record, event, elapsed)
    _wait(record, event, elapsed)
    if event.uses_retry:
        record.retries_used += 1
    else:
        record.snoozes += 1


def _snoozed(record: JobRecord, event: ev.Snoozed, elapsed: float | None) -> None:
    _ended(record, event, elapsed)
    _wait(record, event, elapsed)
    record.snoozes += 1


def _wait(record: JobRecord, event: ev.RetryScheduled | ev.Snoozed, elapsed: float | None) -> None:
    record.due_at = event.due_at
    record.due_wait = _wait_of(max(event.due_at - event.at, 0.0), elapsed)


def _in_doubt(record: JobRecord, event: ev.InDoubt, elapsed: float | None) -> None:
    before = record.doubt
    _ended(record, event, elapsed)
    # an answer of verify does not change how the attempt ended
    outcome = event.outcome or (before.outcome if before is not None else Outcome.INSIDE)
    record.doubt = Doubt(outcome, event.retryable, event.inside, event.asked, event.interrupted, event.verifying)
    if event.verifying and before is not None and before.verifying:
        record.crashes += 1  # the process died during the last call of verify


def _final(record: JobRecord, event: ev.Ended, elapsed: float | None) -> None:
    _ended(record, event, elapsed)
    record.due_at = None
    record.unsaved = None


def _retried(record: JobRecord, event: ev.RunRestarted, elapsed: float | None) -> None:
    _new_run(record, event)
    record.repeats = event.even_if_acted
    _keep_action(record, event, "retry", "even_if_acted" if event.even_if_acted else "")


def _new_run(record: JobRecord, event: ev.RunRestarted | ev.Corrected) -> None:
    record.run += 1
    record.retries_used = 0
    record.snoozes = 0
    record.crashes = 0
    record.cancel_requested = False
    if record.deadline_at is not None:
        expired = record.deadline_at <= event.at if event.expired is None else event.expired
        if expired:  # otherwise the new run would expire before it starts
            record.deadline_at = record.deadline_wait = None
    record.reason = ""
    record.error = None


def _corrected(record: JobRecord, event: ev.Corrected, elapsed: float | None) -> None:
    assert event.payload is not UNSET  # only a client's events are without
    record.earlier = (*record.earlier[1 - MAX_EARLIER :], (record.run, record.payload))
    _new_run(record, event)
    record.payload, record.digest = event.payload, event.digest
    record.steps = NO_STEPS
    record.repeats = False
    if event.deadline_at is not None:
        record.deadline_at, record.deadline_wait = event.deadline_at, _wait_of(event.deadline_after, elapsed)
    _keep_action(record, event, "correct")


def _verified(record: JobRecord, event: ev.Verified, elapsed: float | None) -> None:
    if event.answer == "not_done":
        record.may_have_acted = False
        record.not_done = True
        record.steps = {name: result for name, result in record.steps.items() if result is not None}
    elif event.answer == "done":
        record.may_have_acted = True
    _keep_action(record, event, "verify", event.answer)


def _claimed(record: JobRecord, event: ev.Claimed, elapsed: float | None) -> None:
    record.claim = None if event.until is None else Claim(event.by, event.until)
    _keep_action(record, event, "release" if event.until is None else "claim")


_CHANGES: dict[type[ev.Event], Callable[[JobRecord, Any, float | None], None]] = {
    ev.Due: _due,
    ev.Rescheduled: _rescheduled,
    ev.Started: _started,
    ev.SdkEntered: _entered,
    ev.StepStarted: _step_started,
    ev.StepFinished: _step_finished,
    ev.CancelRequested: _cancel_requested,
    ev.Overdue: _overdue,
    ev.Returned: _returned,
    ev.Completed: _completed,
    ev.RetryScheduled: _retrying,
    ev.Snoozed: _snoozed,
    ev.Interrupted: _ended,
    ev.InDoubt: _in_doubt,
    ev.DoubtResolved: _ended,
    ev.Failed: _final,
    ev.Cancelled: _final,
    ev.RunRestarted: _retried,
    ev.Corrected: _corrected,
    ev.Verified: _verified,
    ev.Claimed: _claimed,
}

_MOVES = {
    event: {before: (after, _CHANGES.get(event), event in REMARKS) for before, after in moves.items()}
    for event, moves in TRANSITIONS.items()
}
