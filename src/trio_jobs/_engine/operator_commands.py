"""The decisions about commands that only a person gives: correct, verify now, reschedule, run now, claim. Pure.

Like those of `decide`, which exports them: a function takes the record of a job and returns events, numbered from
`seq`; it changes nothing itself.

The hard part is the correction. A job that may have done its work must not do it again with another payload, and its
`verify` cannot prevent that: asked in the new run, it would find the work of the old payload and report it as that of
the new one. So a job is corrected only while it is known to have done nothing.
"""

from __future__ import annotations

from typing import Final

import msgspec

from trio_jobs._engine import events as ev
from trio_jobs._engine.event_writer import Events, EventWriter, VerifyAnswer, is_expired
from trio_jobs._engine.jobs import Done, JobRecord, NotDone, State
from trio_jobs._engine.json_values import moment
from trio_jobs._engine.operator_events import VerifyWord
from trio_jobs._engine.retry import Rules
from trio_jobs._errors import InvalidState, JobMayHaveActed
from trio_jobs._operator_errors import JobClaimed

__all__ = [
    "answered",
    "ask_again",
    "check_correctable",
    "claim",
    "correct",
    "release",
    "reschedule",
    "run_now",
]

_WAITING: Final = (State.SCHEDULED, State.PENDING, State.RETRYING)


def check_correctable(record: JobRecord, rules: Rules) -> None:
    """Check that the payload of a job can be replaced.

    Raises:
        JobMayHaveActed: It may have done its work, or a step of it.
        InvalidState: It is open or completed.
    """
    state = record.state
    if state is State.COMPLETED:
        raise InvalidState(record.id, state, "its work is done; submit the other payload with another key")
    if state is State.IN_DOUBT:
        raise InvalidState(record.id, state, "it is not known what its attempt did; resolve it, then correct it")
    if state not in (State.FAILED, State.CANCELLED):
        raise InvalidState(record.id, state, "only a failed or cancelled job can be corrected; cancel it first")
    if record.has_acted:
        how = (
            "verify it, and correct it if the answer is not_done"
            if rules.verifies
            else "its handler has no verify; find out, and if nothing was done, submit the job with another key"
        )
        raise JobMayHaveActed(record.id, state, f"it may have done its work, which a correction would repeat; {how}")
    finished = [name for name, result in record.steps.items() if result is not None]
    if finished and not record.not_done:
        how = "verify it, and correct it if the answer is not_done" if rules.verifies else "submit it with another key"
        names = ", ".join(map(repr, finished[:3]))
        raise JobMayHaveActed(
            record.id, state, f"it has finished {names}, and a correction would repeat all steps; {how}"
        )


def correct(
    record: JobRecord,
    payload: msgspec.Raw,
    digest: str | None,
    rules: Rules,
    now: float,
    seq: int,
    elapsed: float | None = None,
    *,
    deadline_at: float | None = None,
    deadline_after: float | None = None,
    by: str | None = None,
    note: str | None = None,
) -> Events:
    """Replace the payload of a job that has failed or was cancelled, and start a new run of it.

    Args:
        record: The job.
        payload: The new payload.
        digest: Its digest; None for a job without a key.
        rules: The rules of its handler.
        now: UTC, seconds since the epoch.
        seq: The number of the event.
        elapsed: See `is_expired`.
        deadline_at: The deadline of the new run; None for the present one, unless it has passed.
        deadline_after: The same in seconds from now.
        by: The operator.
        note: What the operator noted.

    Raises:
        InvalidState: As `check_correctable`.
    """
    check_correctable(record, rules)
    if deadline_after is not None:
        deadline_at = now + deadline_after
    expired = is_expired(record, now, elapsed)
    return (
        ev.Corrected(
            seq=seq, at=now, job=record.id, payload=payload, digest=digest, deadline_at=deadline_at,
            deadline_after=deadline_after, expired=None if expired is is_expired(record, now) else expired, by=by,
            note=note,
        ),
    )  # fmt: skip


def ask_again(record: JobRecord, by: str | None, now: float, seq: int, note: str | None = None) -> Events:
    """Let verify be called for a job in doubt, although it has answered before.

    Raises:
        InvalidState: The call of the job is still inside the SDK.
    """
    doubt = record.doubt
    assert doubt is not None
    if doubt.inside:
        raise InvalidState(record.id, record.state, "its call is still inside the SDK; wait for it to return")
    out = EventWriter(record, now, seq, None, by, None, "verify", note)
    out.write(
        ev.InDoubt, reason=record.reason, error=record.error, may_have_acted=True, retryable=doubt.retryable,
        interrupted=doubt.interrupted,
    )  # fmt: skip
    return out.events


def answered(
    record: JobRecord, answer: VerifyAnswer, by: str | None, now: float, seq: int, note: str | None = None
) -> Events:
    """The events of an answer of verify about a failed or cancelled job. There are none if a new run has begun."""
    if record.state not in (State.FAILED, State.CANCELLED) or not answer.asked:
        return ()
    if isinstance(answer.verdict, Done):
        if record.state is State.FAILED:
            out = EventWriter(record, now, seq, None, by, None, "verify", note)
            out.complete(answer.result, answer.problem, "verified")
            return out.events
        word: VerifyWord = "done"
    else:
        word = "not_done" if isinstance(answer.verdict, NotDone) else "unknown"
    return (ev.Verified(seq=seq, at=now, job=record.id, answer=word, by=by, note=note),)


def reschedule(
    record: JobRecord,
    now: float,
    seq: int,
    *,
    due_at: float | None = None,
    delay: float | None = None,
    by: str | None = None,
    note: str | None = None,
) -> Events:
    """Change when a waiting job becomes due: a date, or seconds from now.

    Raises:
        InvalidState: The job does not wait.
    """
    if record.state not in _WAITING:
        raise InvalidState(record.id, record.state, _why_not_waiting(record))
    if due_at is None:
        due_at = now + (delay or 0.0)
    return (ev.Rescheduled(seq=seq, at=now, job=record.id, due_at=due_at, delay=delay, by=by, note=note),)


def run_now(record: JobRecord, by: str | None, now: float, seq: int, note: str | None = None) -> Events:
    """Let a waiting job become due at once. No events for a job that is pending already.

    Raises:
        InvalidState: The job does not wait.
    """
    if record.state not in _WAITING:
        raise InvalidState(record.id, record.state, _why_not_waiting(record))
    if record.state is State.PENDING:
        return ()
    return (ev.Due(seq=seq, at=now, job=record.id, early=True, by=by, note=note),)


def _why_not_waiting(record: JobRecord) -> str:
    if record.state in (State.FAILED, State.CANCELLED):
        return "it does not wait; retry it, then change when it is due"
    if record.state is State.IN_DOUBT:
        return "it does not wait for a time but for verify or a person; resolve it"
    return "only a job that waits can be started at another time"


def claim(
    record: JobRecord,
    by: str,
    until: float,
    now: float,
    seq: int,
    note: str | None = None,
    *,
    take_over: bool = False,
) -> Events:
    """Let others see that a person works on a job. A claim of the same person is renewed.

    Raises:
        InvalidState: The job is completed.
        JobClaimed: Somebody else has claimed it.
    """
    if record.state is State.COMPLETED:
        raise InvalidState(record.id, record.state, "its work is done; nothing is left to be claimed")
    _refuse_if_claimed(record, by, now, take_over=take_over)
    return (ev.Claimed(seq=seq, at=now, job=record.id, until=until, by=by, note=note),)


def release(
    record: JobRecord, by: str | None, now: float, seq: int, note: str | None = None, *, take_over: bool = False
) -> Events:
    """End a claim. No events without one.

    Raises:
        JobClaimed: It is somebody else's.
    """
    if not is_claimed(record, now):
        return ()
    _refuse_if_claimed(record, by, now, take_over=take_over)
    return (ev.Claimed(seq=seq, at=now, job=record.id, by=by, note=note),)


def is_claimed(record: JobRecord, now: float) -> bool:
    """Whether somebody has claimed the job, and the claim has not ended."""
    return record.claim is not None and record.claim.until > now


def _refuse_if_claimed(record: JobRecord, by: str | None, now: float, *, take_over: bool) -> None:
    claim = record.claim
    if take_over or claim is None or claim.until <= now or claim.by == by:
        return
    raise JobClaimed(record.id, record.state, claim.by or "somebody", moment(claim.until))
