"""What an attempt comes to: the table of docs/attempts.md, row by row. Pure; the longer half of `decide`.

`end` is the heart. It looks at how the attempt ended, at whether it had entered the SDK, at what verify said and at the
handler's rules, and gives the events; `verified` does the same for a job in doubt.
"""

from __future__ import annotations

from typing import Any, assert_never

import attrs
import msgspec
from msgspec import UNSET

from trio_jobs._engine import events as ev
from trio_jobs._engine.jobs import Done, EndedBy, ErrorInfo, JobRecord, NotDone, Outcome, State, Verdict, open_step
from trio_jobs._engine.retry import Rules

__all__ = [
    "AttemptResult",
    "Events",
    "VerifyAnswer",
    "Writer",
    "asks_verify",
    "crashed",
    "end",
    "is_expired",
    "stuck",
    "verified",
]

Events = tuple[ev.JobEvent, ...]


class AttemptResult(msgspec.Struct, frozen=True, gc=False):
    """How an attempt ended, as the consumer saw it.

    result, problem: of one that returned. error: of one that raised. retryable: the handler's retry policy would try
    that error again. wait: seconds asked for by Snooze and RetryAfter. ended_by: the bound that ended it. entered: a
    call into the SDK began. late: it ended after its limit.
    """

    outcome: Outcome
    result: msgspec.Raw | None = None
    problem: str | None = None
    error: ErrorInfo | None = None
    retryable: bool = False
    wait: float = 0.0
    ended_by: EndedBy | None = None
    entered: bool = False
    late: bool = False


@attrs.frozen
class VerifyAnswer:
    """What verify answered, its result encoded. `problem` says why a result of Done was not kept. asked: False where
    the queue's stop kept it from answering, so that the next start asks again."""

    verdict: Verdict
    result: msgspec.Raw | None = None
    problem: str | None = None
    asked: bool = True


def stuck(record: JobRecord, limit: EndedBy, now: float, seq: int, *, reason: str = "stuck") -> Events:
    """The attempt cannot be ended: nobody knows what it does until it returns."""
    if record.state is not State.PROCESSING:
        return ()
    attempt = record.attempts[-1]
    # `may_have_acted` stays what earlier attempts left: of this one its return will tell, as of any that is under way
    return (
        ev.InDoubt(
            seq=seq, at=now, job=record.id, attempt=attempt.number, outcome=Outcome.INSIDE, ended_by=limit,
            entered=attempt.entered, may_have_acted=record.may_have_acted, late=True, reason=reason, inside=True,
        ),
    )  # fmt: skip


def asks_verify(record: JobRecord, ending: AttemptResult, rules: Rules) -> bool:
    """Is verify to be asked before `end` can decide about this ending?"""
    return (
        ending.outcome is Outcome.ERROR and _may_have_acted(ending, rules) and rules.verifies and not _is_over(record)
    )


def end(
    record: JobRecord,
    ending: AttemptResult,
    rules: Rules,
    now: float,
    chance: float,
    seq: int,
    verdict: VerifyAnswer | None = None,
) -> Events:
    """What an attempt comes to.

    `verdict` is verify's answer where `asks_verify` wanted one. No events where a person has resolved the job while
    the call was still inside: what the late call came to is then no longer the job's.
    """
    if _is_over(record):
        return ()
    if ending.outcome is Outcome.COMPLETED or ending.outcome is Outcome.ALREADY_DONE:
        return (
            ev.Completed(
                seq=seq,
                at=now,
                job=record.id,
                attempt=record.attempts[-1].number,
                outcome=ending.outcome,
                entered=ending.entered,
                late=ending.late,
                result=UNSET if ending.result is None else ending.result,
                problem=ending.problem,
                reason="returned" if ending.outcome is Outcome.COMPLETED else "verified",
            ),
        )
    out = Writer(record, now, seq, ending)
    match ending.outcome:
        case Outcome.FAIL:
            out.write(ev.Failed, reason="fail")
        case Outcome.CANCEL:
            out.pending_first()
            out.write(ev.Cancelled, reason=_message(ending.error))
        case Outcome.SNOOZE:
            _put_off(out, record, ending, rules)
        case Outcome.RETRY_AFTER:
            _again(
                out, record, rules, chance, reason="retry_after", retryable=True, may_have_acted=False, wait=ending.wait
            )
        case Outcome.ERROR:
            _raised(out, record, ending, rules, chance, verdict)
        case Outcome.TIMED_OUT:
            if _may_have_acted(ending, rules):
                _doubt(out, record, rules, chance, reason="timed_out")
            else:
                _again(out, record, rules, chance, reason="timed_out", retryable=True, may_have_acted=False)
        case Outcome.EXPIRED:
            if _may_have_acted(ending, rules):
                _doubt(out, record, rules, chance, reason="expired")
            else:
                out.write(ev.Failed, reason="expired")
        case Outcome.CANCELLED:
            if _may_have_acted(ending, rules):
                _doubt(out, record, rules, chance, reason="cancelled")
            else:
                out.pending_first()
                out.write(ev.Cancelled, reason="cancelled")
        case Outcome.UNVERIFIED:
            _doubt(out, record, rules, chance, reason="unverified", asked=True)
        case Outcome.STOPPED | Outcome.CRASHED:
            _broken_off(out, record, ending, rules, chance)
        case Outcome.INSIDE:
            return stuck(record, ending.ended_by or EndedBy.STOP, now, seq, reason="stopped")
        case _:
            assert_never(ending.outcome)
    return out.events


def crashed(record: JobRecord, rules: Rules, now: float, chance: float, seq: int) -> Events:
    """The process died while the attempt was under way (or its call inside)."""
    entered = record.attempts[-1].entered
    return end(record, AttemptResult(Outcome.CRASHED, entered=entered), rules, now, chance, seq)


def verified(record: JobRecord, answer: VerifyAnswer, rules: Rules, now: float, chance: float, seq: int) -> Events:
    """Verify's answer about a job in doubt. No events if somebody settled it meanwhile, or nobody was asked."""
    doubt = record.doubt
    if record.state is not State.IN_DOUBT or doubt is None or doubt.inside or not answer.asked:
        return ()
    out = Writer(record, now, seq, None)
    if isinstance(answer.verdict, Done):
        out.complete(answer.result, answer.problem, "verified")
    elif isinstance(answer.verdict, NotDone):
        if record.cancel_requested:
            out.write(ev.DoubtResolved, reason="not_done")
            out.write(ev.Cancelled, reason="cancelled")
        elif is_expired(record, now):
            out.write(ev.Failed, reason="expired", error=record.error)
        elif doubt.outcome in (Outcome.STOPPED, Outcome.CRASHED, Outcome.INSIDE):
            out.write(ev.DoubtResolved, reason="not_done")
        else:
            _again(out, record, rules, chance, reason="not_done", retryable=doubt.retryable, may_have_acted=False)
    else:
        out.write(
            ev.InDoubt,
            reason=record.reason,
            error=record.error,
            may_have_acted=True,
            retryable=doubt.retryable,
            asked=True,
        )
        _after_doubt(out, record, rules, chance, doubt.outcome, doubt.retryable)
    return out.events


class Writer:
    """Collects events of one job; the first of them carries what the attempt came to."""

    def __init__(
        self, record: JobRecord, now: float, seq: int, ending: AttemptResult | None, by: str | None = None
    ) -> None:
        self.events: Events = ()
        self._in_doubt = record.state is State.IN_DOUBT
        self._job = record.id
        self.now = now
        self._seq = seq
        self._by = by
        self.ending = ending
        self._attempt = record.attempts[-1].number if record.attempts else 0
        # how this attempt ended says nothing about what an earlier one left; only verify, a person or a return does
        self.earlier_acted = record.may_have_acted and ending is not None

    def write(
        self, kind: type[ev.Ended], *, may_have_acted: bool = False, error: ErrorInfo | None = None, **fields: Any
    ) -> None:
        seq = self._seq + len(self.events)
        ending = self.ending
        may_have_acted = (may_have_acted or self.earlier_acted) and kind is not ev.Completed
        if ending is not None and not self.events:
            event = kind(
                seq=seq, at=self.now, job=self._job, by=self._by, attempt=self._attempt, outcome=ending.outcome,
                ended_by=ending.ended_by, entered=ending.entered, late=ending.late, may_have_acted=may_have_acted,
                error=ending.error, **fields,
            )  # fmt: skip
        else:
            event = kind(
                seq=seq, at=self.now, job=self._job, by=self._by, attempt=self._attempt, may_have_acted=may_have_acted,
                error=error if ending is None else ending.error, **fields,
            )  # fmt: skip
        self.events = (*self.events, event)
        self._in_doubt = kind is ev.InDoubt

    def complete(self, result: msgspec.Raw | None, problem: str | None, reason: str) -> None:
        self.write(ev.Completed, result=UNSET if result is None else result, problem=problem, reason=reason)

    def pending_first(self) -> None:
        """The table lets a job leave in_doubt only by a settled doubt; the late call's own word settles it."""
        if self._in_doubt:
            self.write(ev.DoubtResolved, reason="returned")


def _is_over(record: JobRecord) -> bool:
    return record.state is not State.PROCESSING and not (
        record.state is State.IN_DOUBT and record.doubt is not None and record.doubt.inside
    )


def is_expired(record: JobRecord, now: float) -> bool:
    return record.deadline_at is not None and record.deadline_at <= now


def _may_have_acted(ending: AttemptResult, rules: Rules) -> bool:
    """The right-hand column of the table: entered, and what it did matters."""
    return ending.entered and not rules.idempotent


def _message(error: ErrorInfo | None) -> str:
    return error.message if error is not None else ""


def _raised(
    out: Writer, record: JobRecord, ending: AttemptResult, rules: Rules, chance: float, verdict: VerifyAnswer | None
) -> None:
    may_have_acted = _may_have_acted(ending, rules)
    if verdict is not None and isinstance(verdict.verdict, Done):
        out.complete(verdict.result, verdict.problem, "verified")
    elif may_have_acted and verdict is None and (rules.verifies or open_step(record) is not None):
        reason = "error" if open_step(record) is None else "open_step"
        _doubt(out, record, rules, chance, reason=reason, retryable=ending.retryable)
    elif verdict is not None and not isinstance(verdict.verdict, NotDone):
        _doubt(out, record, rules, chance, reason="error", retryable=ending.retryable, asked=verdict.asked)
    else:
        if verdict is not None:  # it left nothing behind, nor did those before it
            may_have_acted = out.earlier_acted = False
        _again(out, record, rules, chance, reason="error", retryable=ending.retryable, may_have_acted=may_have_acted)


def _again(
    out: Writer,
    record: JobRecord,
    rules: Rules,
    chance: float,
    *,
    reason: str,
    retryable: bool,
    may_have_acted: bool,
    wait: float | None = None,
) -> None:
    """Another attempt if the policy has one left; else the end."""
    error = record.error
    if record.cancel_requested and not may_have_acted:
        out.pending_first()
        out.write(ev.Cancelled, reason="cancelled")
    elif record.cancel_requested or not retryable or record.retries_used >= rules.retry.max_retries:
        out.write(ev.Failed, reason=reason, may_have_acted=may_have_acted, error=error)
    elif is_expired(record, out.now):
        out.write(ev.Failed, reason="expired", may_have_acted=may_have_acted, error=error)
    else:
        if wait is None:
            wait = rules.retry.wait_before(record.retries_used + 1, chance)
        out.write(ev.RetryScheduled, reason=reason, may_have_acted=may_have_acted, due_at=out.now + wait, error=error)


def _put_off(out: Writer, record: JobRecord, ending: AttemptResult, rules: Rules) -> None:
    if record.cancel_requested:
        out.pending_first()
        out.write(ev.Cancelled, reason="cancelled")
    elif record.snoozes >= rules.max_snoozes:
        out.write(ev.Failed, reason="too_many_snoozes")
    elif is_expired(record, out.now):
        out.write(ev.Failed, reason="expired")
    elif record.state is State.IN_DOUBT:
        # a late call's snooze: the table has no way from in_doubt to scheduled, and retrying waits just as well
        out.write(ev.RetryScheduled, reason="snooze", due_at=out.now + ending.wait, uses_retry=False)
    else:
        out.write(ev.Snoozed, reason="snooze", due_at=out.now + ending.wait)


def _broken_off(out: Writer, record: JobRecord, ending: AttemptResult, rules: Rules, chance: float) -> None:
    """A stop or a crash: the attempt did not end by itself."""
    crash = ending.outcome is Outcome.CRASHED
    reason = "crashed" if crash else "stopped"
    may_have_acted = _may_have_acted(ending, rules)
    if crash and record.crashes + 1 >= rules.max_crashes:
        out.write(ev.Failed, reason="poison", may_have_acted=may_have_acted)
    elif may_have_acted:
        _doubt(out, record, rules, chance, reason=reason)
    else:
        if record.state is State.IN_DOUBT:
            out.write(ev.DoubtResolved, reason=reason)
        else:  # what an earlier attempt may have left behind is still not known
            out.write(ev.Interrupted, reason=reason, may_have_acted=record.may_have_acted)
        if record.cancel_requested:
            out.write(ev.Cancelled, reason="cancelled")


def _doubt(
    out: Writer,
    record: JobRecord,
    rules: Rules,
    chance: float,
    *,
    reason: str,
    retryable: bool = True,
    asked: bool = False,
) -> None:
    """Into doubt; and out of it again where nobody can be asked and the policy says so."""
    assert out.ending is not None
    out.write(ev.InDoubt, reason=reason, may_have_acted=True, retryable=retryable, asked=asked)
    if asked or not rules.verifies:
        _after_doubt(out, record, rules, chance, out.ending.outcome, retryable)


def _after_doubt(
    out: Writer, record: JobRecord, rules: Rules, chance: float, outcome: Outcome, retryable: bool
) -> None:
    """`on_doubt`, for a doubt that verify cannot settle."""
    if rules.on_doubt == "fail":
        out.write(ev.Failed, reason="on_doubt", may_have_acted=True, error=record.error)
    elif rules.on_doubt == "retry" and not record.cancel_requested:
        if outcome in (Outcome.STOPPED, Outcome.CRASHED, Outcome.INSIDE):
            out.write(ev.DoubtResolved, reason="on_doubt", may_have_acted=True)
        elif outcome is Outcome.EXPIRED:
            out.write(ev.Failed, reason="expired", may_have_acted=True, error=record.error)
        else:
            _again(out, record, rules, chance, reason="on_doubt", retryable=retryable, may_have_acted=True)
