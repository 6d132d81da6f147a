"""What follows from the end of an attempt: the table of docs/attempts.md, row by row. Pure.

`end` returns the events of an attempt that has ended. They depend on how it ended, on whether it had entered the SDK,
and on the handler's rules. `verified` returns the events of a verify of a job in doubt.

The hard part is `may_have_acted`. It must survive an attempt that did not enter the SDK, since that attempt says
nothing about an earlier one that did. Only three things reset it: a handler that returned, a verify that answered Done
or NotDone, and an operator.
"""

from __future__ import annotations

from typing import Final, assert_never

from msgspec import UNSET

from trio_jobs._engine import events as ev
from trio_jobs._engine.event_writer import AttemptResult, Events, EventWriter, VerifyAnswer
from trio_jobs._engine.jobs import Done, Doubt, EndedBy, ErrorInfo, JobRecord, NotDone, Outcome, State, open_step
from trio_jobs._engine.retry import Rules

__all__ = [
    "abandon_verify",
    "begin_verify",
    "crashed",
    "doubted",
    "end",
    "stuck",
    "verified",
]

_PROCESSING: Final = State.PROCESSING
_COMPLETED: Final = Outcome.COMPLETED
_UNSAVED: Final = Outcome.UNSAVED

#: Outcomes after which the job starts again without using a retry, if the attempt did not do its work
_INTERRUPTED: Final = (Outcome.STOPPED, Outcome.CRASHED, Outcome.DIED, Outcome.INSIDE)


def stuck(record: JobRecord, limit: EndedBy, now: float, seq: int, *, reason: str = "stuck") -> Events:
    """The events of an attempt that exceeded its limits and whose call is still inside the SDK."""
    if record.state is not State.PROCESSING:
        return ()
    attempt = record.attempt
    # `may_have_acted` still describes earlier attempts only; the end of this one will add to it
    return (
        ev.InDoubt(
            seq=seq, at=now, job=record.id, attempt=attempt.number, outcome=Outcome.INSIDE, ended_by=limit,
            entered=attempt.entered, may_have_acted=record.may_have_acted, late=True, reason=reason, inside=True,
        ),
    )  # fmt: skip


def end(
    record: JobRecord,
    ending: AttemptResult,
    rules: Rules,
    now: float,
    chance: float,
    seq: int,
    elapsed: float | None = None,
) -> Events:
    """The events of an attempt that has ended.

    There are none if an operator resolved the job while the call was still inside: the end of a late call then no
    longer matters to the job.

    Args:
        record: The job, processing or in doubt with its call inside; saving, if the outcome is "unsaved".
        ending: How the attempt ended.
        rules: The rules of the job's handler.
        now: UTC, seconds since the epoch.
        chance: Uniform in [0, 1), for the jitter of a retry.
        seq: The number of the first event.
        elapsed: See `is_expired`.
    """
    outcome = ending.outcome
    if (record.state is not _PROCESSING or outcome is _UNSAVED) and _is_settled(record, ending):
        return ()
    if outcome is _COMPLETED or outcome is Outcome.ALREADY_DONE:
        attempt = record.last_attempt
        assert attempt is not None
        return (
            ev.Completed(
                seq=seq, at=now, job=record.id, attempt=attempt.number, outcome=outcome,
                entered=ending.entered, late=ending.late, problem=ending.problem,
                result=UNSET if ending.result is None else ending.result,
                reason="returned" if outcome is _COMPLETED else "verified",
            ),
        )  # fmt: skip
    out = EventWriter(record, now, seq, ending, elapsed=elapsed)
    match outcome:
        case Outcome.FAIL:
            out.write(ev.Failed, reason="fail")
        case Outcome.CANCEL:
            out.resolve_first()
            out.write(ev.Cancelled, reason=_message(ending.error))
        case Outcome.SNOOZE:
            _snooze(out, record, ending, rules)
        case Outcome.RETRY_AFTER:
            _retry(
                out, record, rules, chance, reason="retry_after", retryable=True, may_have_acted=False, wait=ending.wait
            )
        case Outcome.ERROR:
            _after_error(out, record, ending, rules, chance)
        case Outcome.TIMED_OUT | Outcome.KILLED:
            if _may_have_acted(ending, rules):
                _enter_doubt(out, record, rules, chance, reason=str(outcome))
            else:
                _retry(out, record, rules, chance, reason=str(outcome), retryable=True, may_have_acted=False)
        case Outcome.EXPIRED:
            if _may_have_acted(ending, rules):
                _enter_doubt(out, record, rules, chance, reason="expired")
            else:
                out.write(ev.Failed, reason="expired")
        case Outcome.CANCELLED:
            if _may_have_acted(ending, rules):
                _enter_doubt(out, record, rules, chance, reason="cancelled")
            else:
                out.resolve_first()
                out.write(ev.Cancelled, reason="cancelled")
        case Outcome.UNVERIFIED:
            _enter_doubt(out, record, rules, chance, reason="unverified", asked=True)
        case Outcome.STOPPED | Outcome.CRASHED | Outcome.DIED:
            _interrupt(out, record, ending, rules, chance)
        case Outcome.UNSAVED:
            _unsaved(out, record, ending, rules, chance)
        case Outcome.INSIDE:
            return stuck(record, ending.ended_by or EndedBy.STOP, now, seq, reason="stopped")
        case _:
            assert_never(outcome)
    return out.events


def crashed(
    record: JobRecord,
    rules: Rules,
    now: float,
    chance: float,
    seq: int,
    elapsed: float | None = None,
    *,
    alone: bool = False,
) -> Events:
    """The events of an attempt that was running, whose call was inside, or whose work was not saved, when the process
    died.

    Args:
        record: The job; with the further arguments as for `end`.
        rules: See `end`.
        now: See `end`.
        chance: See `end`.
        seq: See `end`.
        elapsed: See `end`.
        alone: No other work was unsaved and no attempt was running, so that a crash counts against a job that is
            saving.
    """
    attempt = record.attempt
    if record.state is State.SAVING:
        ending = AttemptResult(
            Outcome.UNSAVED, entered=attempt.entered, late=attempt.late, reason="crashed", interrupted=True,
            crashed=alone,
        )  # fmt: skip
    else:
        ending = AttemptResult(Outcome.CRASHED, entered=attempt.entered)
    return end(record, ending, rules, now, chance, seq, elapsed)


def doubted(record: JobRecord, rules: Rules, now: float, seq: int, reason: str) -> Events:
    """The events of a job that may have acted, and whose next attempt must not start before that is known."""
    out = EventWriter(record, now, seq, None)
    out.write(ev.InDoubt, reason=reason, may_have_acted=True, interrupted=True, error=record.error)
    if rules.on_doubt == "fail" and not rules.verifies:
        out.write(ev.Failed, reason="on_doubt", may_have_acted=True, error=record.error)
    return out.events


def verified(
    record: JobRecord,
    answer: VerifyAnswer,
    rules: Rules,
    now: float,
    chance: float,
    seq: int,
    elapsed: float | None = None,
) -> Events:
    """The events of an answer of verify about a job in doubt.

    There are none if the doubt was resolved in the meantime, or verify could not answer.
    """
    doubt = record.doubt
    if record.state is not State.IN_DOUBT or doubt is None or doubt.inside or not answer.asked:
        return ()
    out = EventWriter(record, now, seq, None, elapsed=elapsed)
    if isinstance(answer.verdict, Done):
        if record.unsaved is not None:  # its handler has returned, so the job has a result
            out.write(ev.Completed, reason="verified")
        else:
            out.complete(answer.result, answer.problem, "verified")
    elif isinstance(answer.verdict, NotDone):
        if record.cancel_requested:
            out.write(ev.DoubtResolved, reason="not_done", error=record.error)
            out.write(ev.Cancelled, reason="cancelled", error=record.error)
        elif out.is_expired(record):
            out.write(ev.Failed, reason="expired", error=record.error)
        elif doubt.interrupted or doubt.outcome in _INTERRUPTED:
            out.write(ev.DoubtResolved, reason="not_done")
        else:
            _retry(out, record, rules, chance, reason="not_done", retryable=doubt.retryable, may_have_acted=False)
    else:
        _still_in_doubt(out, record, doubt, asked=True)
        _apply_on_doubt(out, record, rules, chance, doubt.outcome, doubt.retryable, interrupted=doubt.interrupted)
    return out.events


def begin_verify(record: JobRecord, rules: Rules, now: float, seq: int) -> Events:
    """The events of a call of verify that is about to be made for a job in doubt.

    There are none if the doubt was resolved in the meantime. A call that has no answer killed the process: such crashes
    count like those of attempts.
    """
    doubt = record.doubt
    if record.state is not State.IN_DOUBT or doubt is None or doubt.inside or doubt.asked:
        return ()
    out = EventWriter(record, now, seq, None)
    if doubt.verifying and record.crashes + 1 >= rules.max_crashes:
        out.write(ev.Failed, reason="poison", may_have_acted=True, error=record.error)
    else:
        _still_in_doubt(out, record, doubt, verifying=True)
    return out.events


def abandon_verify(record: JobRecord, now: float, seq: int) -> Events:
    """The events of a call of verify that the stop of the queue ended: the next start calls it again."""
    doubt = record.doubt
    if doubt is None or not doubt.verifying:
        return ()
    out = EventWriter(record, now, seq, None)
    _still_in_doubt(out, record, doubt)
    return out.events


def _is_settled(record: JobRecord, ending: AttemptResult) -> bool:
    """Whether the end of the current attempt no longer matters to the job."""
    if ending.outcome is Outcome.UNSAVED or record.state is State.SAVING:
        return ending.outcome is not Outcome.UNSAVED or record.state is not State.SAVING
    return record.state is not State.PROCESSING and not (
        record.state is State.IN_DOUBT and record.doubt is not None and record.doubt.inside
    )


def _may_have_acted(ending: AttemptResult, rules: Rules) -> bool:
    """Whether the right-hand column of the table applies."""
    return ending.entered and not rules.idempotent


def _message(error: ErrorInfo | None) -> str:
    """The text of an error, for a reason."""
    return error.message if error is not None else ""


def _after_error(
    out: EventWriter, record: JobRecord, ending: AttemptResult, rules: Rules, chance: float, reason: str = "error"
) -> None:
    """Handle an attempt whose handler or whose save raised.

    If it may have acted, only the answer of verify or, without a verify, a declared `retry` leads to a retry.
    """
    may_have_acted = _may_have_acted(ending, rules)
    repeats = rules.retries_unverified and not rules.verifies
    if may_have_acted and (not repeats or open_step(record) is not None or not ending.has_run):
        reason = "open_step" if open_step(record) is not None and not rules.verifies else reason
        _enter_doubt(out, record, rules, chance, reason=reason, retryable=ending.retryable)
    else:
        _retry(out, record, rules, chance, reason=reason, retryable=ending.retryable, may_have_acted=may_have_acted)


def _unsaved(out: EventWriter, record: JobRecord, ending: AttemptResult, rules: Rules, chance: float) -> None:
    """Handle an attempt that returned, and whose work was not saved, or not certainly."""
    may_have_acted = _may_have_acted(ending, rules)
    if not ending.interrupted:
        _after_error(out, record, ending, rules, chance, ending.reason)
    elif ending.crashed and record.crashes + 1 >= rules.max_crashes:
        out.write(ev.Failed, reason="poison", may_have_acted=may_have_acted)
    elif may_have_acted:
        _enter_doubt(out, record, rules, chance, reason=ending.reason)
    elif record.cancel_requested:
        out.write(ev.Cancelled, reason="cancelled")
    elif out.is_expired(record):
        out.write(ev.Failed, reason="expired")
    else:  # it is still not known what an earlier attempt left
        out.write(ev.Interrupted, reason=ending.reason, may_have_acted=record.may_have_acted)


def _retry(
    out: EventWriter,
    record: JobRecord,
    rules: Rules,
    chance: float,
    *,
    reason: str,
    retryable: bool,
    may_have_acted: bool,
    wait: float | None = None,
) -> None:
    """Schedule a retry if the policy has one left; otherwise end the job."""
    error = record.error
    if record.cancel_requested and not may_have_acted:
        out.resolve_first()
        out.write(ev.Cancelled, reason="cancelled")
    elif record.cancel_requested or not retryable or record.retries_used >= rules.retry.max_retries:
        out.write(ev.Failed, reason=reason, may_have_acted=may_have_acted, error=error)
    elif out.is_expired(record):
        out.write(ev.Failed, reason="expired", may_have_acted=may_have_acted, error=error)
    else:
        if wait is None:
            wait = rules.retry.wait_before(record.retries_used + 1, chance)
        out.write(ev.RetryScheduled, reason=reason, may_have_acted=may_have_acted, due_at=out.now + wait, error=error)


def _snooze(out: EventWriter, record: JobRecord, ending: AttemptResult, rules: Rules) -> None:
    """Schedule the next attempt of a job that its handler snoozed, without a retry being used."""
    if record.cancel_requested:
        out.resolve_first()
        out.write(ev.Cancelled, reason="cancelled")
    elif record.snoozes >= rules.max_snoozes:
        out.write(ev.Failed, reason="too_many_snoozes")
    elif out.is_expired(record):
        out.write(ev.Failed, reason="expired")
    elif record.state is State.IN_DOUBT:
        # a late call snoozed: the table has no way from in_doubt to scheduled, and a retrying job waits just as well
        out.write(ev.RetryScheduled, reason="snooze", due_at=out.now + ending.wait, uses_retry=False)
    else:
        out.write(ev.Snoozed, reason="snooze", due_at=out.now + ending.wait)


def _interrupt(out: EventWriter, record: JobRecord, ending: AttemptResult, rules: Rules, chance: float) -> None:
    """Handle an attempt that a stop or a crash interrupted."""
    reason = str(ending.outcome)
    may_have_acted = _may_have_acted(ending, rules)
    if ending.outcome is not Outcome.STOPPED and record.crashes + 1 >= rules.max_crashes:
        out.write(ev.Failed, reason="poison", may_have_acted=may_have_acted)
    elif may_have_acted:
        _enter_doubt(out, record, rules, chance, reason=reason)
    else:
        if record.state is State.IN_DOUBT:
            out.write(ev.DoubtResolved, reason=reason)
        else:  # it is still not known what an earlier attempt left
            out.write(ev.Interrupted, reason=reason, may_have_acted=record.may_have_acted)
        if record.cancel_requested:
            out.write(ev.Cancelled, reason="cancelled")


def _enter_doubt(
    out: EventWriter,
    record: JobRecord,
    rules: Rules,
    chance: float,
    *,
    reason: str,
    retryable: bool = True,
    asked: bool = False,
) -> None:
    """Put the job in doubt, and apply `on_doubt` at once if verify cannot help."""
    assert out.ending is not None
    ending = out.ending
    out.write(
        ev.InDoubt, reason=reason, may_have_acted=True, retryable=retryable, asked=asked, interrupted=ending.interrupted
    )
    if asked or not rules.verifies:
        _apply_on_doubt(out, record, rules, chance, ending.outcome, retryable, interrupted=ending.interrupted)


def _still_in_doubt(out: EventWriter, record: JobRecord, doubt: Doubt, **fields: bool) -> None:
    out.write(
        ev.InDoubt, reason=record.reason, error=record.error, may_have_acted=True, retryable=doubt.retryable,
        interrupted=doubt.interrupted, **fields,
    )  # fmt: skip


def _apply_on_doubt(
    out: EventWriter,
    record: JobRecord,
    rules: Rules,
    chance: float,
    outcome: Outcome,
    retryable: bool,
    *,
    interrupted: bool,
) -> None:
    """Apply `on_doubt` to a doubt that verify did not resolve. "hold" adds no event."""
    if rules.on_doubt == "fail":
        out.write(ev.Failed, reason="on_doubt", may_have_acted=True, error=record.error)
    elif rules.on_doubt == "retry" and not record.cancel_requested:
        if interrupted or outcome in _INTERRUPTED:
            out.write(ev.DoubtResolved, reason="on_doubt", may_have_acted=True)
        elif outcome is Outcome.EXPIRED:
            out.write(ev.Failed, reason="expired", may_have_acted=True, error=record.error)
        else:
            _retry(out, record, rules, chance, reason="on_doubt", retryable=retryable, may_have_acted=True)
