"""A job, what happened to it, and the time give events. Pure and synchronous.

One function for each command. Each takes the job's record and gives the events, numbered from `seq`; whoever calls
applies them in the same synchronous step, so that every decision is made on what all decisions before it have left
(there is no lock). A function changes nothing itself. Where a command makes no sense in the job's state the function
raises `InvalidState` (a person asked) or gives no events (the queue itself came too late).

What an attempt comes to (`end` and its kin) is in `endings`, and is offered here with the rest.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from trio_jobs._engine import events as ev
from trio_jobs._engine.attempt_result import (
    AttemptResult,
    Events,
    VerifyAnswer,
    Writer,
    asks_verify,
    crashed,
    end,
    is_expired,
    stuck,
    verified,
)
from trio_jobs._engine.jobs import FINAL, CancelAnswer, EndedBy, JobRecord, State
from trio_jobs._errors import InvalidState

__all__ = [
    "AttemptResult",
    "Resolution",
    "VerifyAnswer",
    "asks_verify",
    "cancel",
    "crashed",
    "due",
    "end",
    "enter",
    "expire",
    "finish_step",
    "overdue",
    "resolve",
    "retry",
    "start",
    "start_step",
    "stuck",
    "submit",
    "verified",
]

Resolution = Literal["done", "not_done", "failed"]


def submit(
    job: str,
    kind: str,
    payload: msgspec.Raw,
    now: float,
    seq: int,
    key: str | None = None,
    digest: str | None = None,
    due_at: float | None = None,
    deadline_at: float | None = None,
    by: str | None = None,
) -> ev.Submitted:
    """Begin a job; scheduled if `due_at` lies ahead."""
    if due_at is not None and due_at > now:
        return ev.Scheduled(
            seq=seq, at=now, job=job, kind=kind, payload=payload, key=key, digest=digest,
            due_at=due_at, deadline_at=deadline_at, by=by,
        )  # fmt: skip
    return ev.Submitted(
        seq=seq, at=now, job=job, kind=kind, payload=payload, key=key, digest=digest, deadline_at=deadline_at, by=by
    )


def due(record: JobRecord, now: float, seq: int) -> Events:
    """The wait of a scheduled or retrying job is over."""
    if record.state is not State.SCHEDULED and record.state is not State.RETRYING:
        return ()
    return (ev.Due(seq=seq, at=now, job=record.id),)


def expire(record: JobRecord, now: float, seq: int) -> Events:
    """A waiting job's deadline has passed. No events where it has not, or where an attempt is under way."""
    if not is_expired(record, now):
        return ()
    if record.state not in (State.SCHEDULED, State.PENDING, State.RETRYING):
        return ()
    return (
        ev.Failed(
            seq=seq, at=now, job=record.id, reason="expired", may_have_acted=record.may_have_acted, error=record.error
        ),
    )


def start(record: JobRecord, entered: bool, now: float, seq: int) -> Events:
    """An attempt begins, or the job expires because it would begin after its deadline. None if not pending any more."""
    if record.state is not State.PENDING:
        return ()
    if is_expired(record, now):
        return expire(record, now, seq)
    return (ev.Started(seq=seq, at=now, job=record.id, attempt=len(record.attempts) + 1, entered=entered),)


def enter(record: JobRecord, now: float, seq: int) -> Events:
    """An async handler is about to call the SDK. No events if it did before."""
    if record.state is not State.PROCESSING or record.attempts[-1].entered:
        return ()
    return (ev.SdkEntered(seq=seq, at=now, job=record.id, attempt=record.attempts[-1].number),)


def start_step(record: JobRecord, step: str, now: float, seq: int) -> Events:
    """A step begins. No events where the job has been settled meanwhile; then the step must not be done."""
    if record.state is not State.PROCESSING:
        return ()
    return (ev.StepStarted(seq=seq, at=now, job=record.id, attempt=record.attempts[-1].number, step=step),)


def finish_step(record: JobRecord, step: str, result: msgspec.Raw, now: float, seq: int) -> Events:
    """A step is done. No events where a person has settled the job while it was being done."""
    inside = record.doubt is not None and record.doubt.inside
    if record.state is not State.PROCESSING and not inside:
        return ()
    attempt = record.attempts[-1].number
    return (ev.StepFinished(seq=seq, at=now, job=record.id, attempt=attempt, step=step, result=result),)


def overdue(record: JobRecord, limit: EndedBy, now: float, seq: int) -> Events:
    """The limit has passed and the attempt goes on."""
    if record.state is not State.PROCESSING or record.attempts[-1].overdue:
        return ()
    return (ev.Overdue(seq=seq, at=now, job=record.id, attempt=record.attempts[-1].number, limit=limit),)


def cancel(record: JobRecord, by: str | None, now: float, seq: int) -> tuple[CancelAnswer, Events]:
    """A person's cancel. Raises `InvalidState` for a job in doubt: only `resolve` can settle that."""
    state = record.state
    if state is State.CANCELLED:
        return "cancelled", ()
    if state in FINAL:
        return "too_late", ()
    if state is State.IN_DOUBT:
        raise InvalidState(record.id, state, "nobody knows what it did; settle that with resolve instead of cancel")
    if state is State.PROCESSING:
        if record.cancel_requested:
            return "requested", ()
        return "requested", (ev.CancelRequested(seq=seq, at=now, job=record.id, by=by),)
    return "cancelled", (
        ev.Cancelled(
            seq=seq,
            at=now,
            job=record.id,
            by=by,
            reason="cancelled",
            may_have_acted=record.may_have_acted,
            error=record.error,
        ),
    )


def retry(record: JobRecord, by: str | None, now: float, seq: int) -> Events:
    """A person begins a new run of a job that failed or was cancelled. Raises `InvalidState` for any other."""
    if record.state not in (State.FAILED, State.CANCELLED):
        raise InvalidState(record.id, record.state, "only a failed or cancelled job can be retried")
    return (ev.RunRestarted(seq=seq, at=now, job=record.id, by=by),)


def resolve(
    record: JobRecord, resolution: Resolution, by: str | None, now: float, seq: int, result: msgspec.Raw | None = None
) -> Events:
    """A person settles a doubt. Raises `InvalidState` for a job not in doubt, and for "not_done" while a call is
    inside."""
    if record.state is not State.IN_DOUBT:
        raise InvalidState(record.id, record.state, "only a job that is in_doubt can be resolved")
    out = Writer(record, now, seq, None, by)
    inside = record.doubt is not None and record.doubt.inside
    if resolution == "done":
        out.complete(result, None, "resolved")
    elif resolution == "failed":
        # a call that is still inside may do its work yet, whatever the person knows
        may_have_acted = inside and (record.may_have_acted or record.attempts[-1].entered)
        out.write(ev.Failed, reason="resolved", may_have_acted=may_have_acted, error=record.error)
    else:
        if inside:
            raise InvalidState(record.id, record.state, "its call is still inside the SDK; wait for it to return")
        out.write(ev.DoubtResolved, reason="resolved")
        if record.cancel_requested:
            out.write(ev.Cancelled, reason="cancelled")
        elif is_expired(record, now):
            out.write(ev.Failed, reason="expired", error=record.error)
    return out.events
