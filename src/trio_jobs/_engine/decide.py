"""The decisions of the engine: one function for each command. Pure and synchronous.

A function takes the record of a job and returns events, numbered from `seq`; it changes nothing itself. The caller
applies the events before anything else can run, so each decision sees the effect of all earlier ones without a lock.

Where the state of the job does not allow the command, the function raises `InvalidState` if an operator gave the
command, and returns no events if the queue did, which was then too late.

`attempt_result` decides about attempts that have ended, `saving` about work that is not saved yet, `operator_commands`
about what else an operator can do; this module exports their functions too.
"""

from __future__ import annotations

from typing import Final, Literal

import msgspec

from trio_jobs._engine import events as ev
from trio_jobs._engine.attempt_result import abandon_verify, begin_verify, crashed, doubted, end, stuck, verified
from trio_jobs._engine.event_writer import AttemptResult, Events, EventWriter, VerifyAnswer, is_expired
from trio_jobs._engine.jobs import FINAL, CancelAnswer, EndedBy, JobRecord, State
from trio_jobs._engine.operator_commands import (
    answered,
    ask_again,
    check_correctable,
    claim,
    correct,
    release,
    reschedule,
    run_now,
)
from trio_jobs._engine.retry import Rules
from trio_jobs._engine.safety import may_repeat
from trio_jobs._engine.saving import returned, save_failed, saved, unsaved
from trio_jobs._errors import InvalidState, JobMayHaveActed

__all__ = [
    "AttemptResult",
    "Resolution",
    "VerifyAnswer",
    "abandon_verify",
    "answered",
    "ask_again",
    "begin_verify",
    "cancel",
    "check_correctable",
    "claim",
    "correct",
    "crashed",
    "due",
    "end",
    "enter",
    "expire",
    "finish_step",
    "overdue",
    "release",
    "reschedule",
    "resolve",
    "retry",
    "returned",
    "run_now",
    "save_failed",
    "saved",
    "start",
    "start_step",
    "stuck",
    "submit",
    "unsaved",
    "verified",
]

Resolution = Literal["done", "not_done", "failed"]

_PENDING: Final = State.PENDING


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
    delay: float | None = None,
    deadline_after: float | None = None,
    labels: dict[str, str] | None = None,
) -> ev.Submitted:
    """Start the history of a job: scheduled if it is due in the future, else pending.

    A time is a date (`due_at`, `deadline_at`) or seconds from now (`delay`, `deadline_after`).
    """
    if delay is not None:
        due_at = now + delay
    if deadline_after is not None:
        deadline_at = now + deadline_after
    if due_at is not None and due_at > now:
        return ev.Scheduled(
            seq=seq, at=now, job=job, kind=kind, payload=payload, key=key, digest=digest,
            due_at=due_at, delay=delay, deadline_at=deadline_at, deadline_after=deadline_after, by=by,
            labels=labels,
        )  # fmt: skip
    return ev.Submitted(
        seq=seq, at=now, job=job, kind=kind, payload=payload, key=key, digest=digest,
        deadline_at=deadline_at, deadline_after=deadline_after, by=by, labels=labels,
    )  # fmt: skip


def due(record: JobRecord, now: float, seq: int) -> Events:
    """The wait of a scheduled or retrying job is over."""
    if record.state is not State.SCHEDULED and record.state is not State.RETRYING:
        return ()
    return (ev.Due(seq=seq, at=now, job=record.id),)


def expire(record: JobRecord, now: float, seq: int, elapsed: float | None = None) -> Events:
    """Fail a waiting job whose deadline has passed. No events before the deadline or while an attempt runs."""
    if not is_expired(record, now, elapsed):
        return ()
    if record.state not in (State.SCHEDULED, State.PENDING, State.RETRYING):
        return ()
    return (
        ev.Failed(
            seq=seq, at=now, job=record.id, reason="expired", may_have_acted=record.may_have_acted, error=record.error
        ),
    )


def start(record: JobRecord, entered: bool, rules: Rules, now: float, seq: int, elapsed: float | None = None) -> Events:
    """Start an attempt of a pending job, or fail the job if its deadline has passed. No events in another state.

    A job that may have acted, and that nothing permits to repeat, gets in doubt instead: its handler has been declared
    differently since the attempt was scheduled.
    """
    if record.state is not _PENDING:
        return ()
    if record.deadline_at is not None and is_expired(record, now, elapsed):
        return expire(record, now, seq, elapsed)
    if record.may_have_acted and not may_repeat(record, rules, automatic=True):
        return doubted(record, rules, now, seq, "not_permitted")
    last = record.last_attempt
    attempt = 1 if last is None else last.number + 1
    return (ev.Started(seq=seq, at=now, job=record.id, attempt=attempt, entered=entered),)


def enter(record: JobRecord, now: float, seq: int) -> Events:
    """Record that an async handler is about to call the SDK. No events if this attempt has entered it already."""
    if record.state is not State.PROCESSING or record.attempt.entered:
        return ()
    return (ev.SdkEntered(seq=seq, at=now, job=record.id, attempt=record.attempt.number),)


def start_step(record: JobRecord, step: str, now: float, seq: int) -> Events:
    """Record that a step is about to run. No events if the job is no longer processing: the step must not run then."""
    if record.state is not State.PROCESSING:
        return ()
    return (ev.StepStarted(seq=seq, at=now, job=record.id, attempt=record.attempt.number, step=step),)


def finish_step(record: JobRecord, step: str, result: msgspec.Raw, now: float, seq: int) -> Events:
    """Record the result of a step. No events if an operator resolved the job in the meantime."""
    inside = record.doubt is not None and record.doubt.inside
    if record.state is not State.PROCESSING and not inside:
        return ()
    attempt = record.attempt.number
    return (ev.StepFinished(seq=seq, at=now, job=record.id, attempt=attempt, step=step, result=result),)


def overdue(record: JobRecord, limit: EndedBy, now: float, seq: int) -> Events:
    """Record that an attempt has exceeded its limit and has not ended. No events if that is recorded already."""
    if record.state is not State.PROCESSING or record.attempt.overdue:
        return ()
    return (ev.Overdue(seq=seq, at=now, job=record.id, attempt=record.attempt.number, limit=limit),)


def cancel(
    record: JobRecord, by: str | None, now: float, seq: int, note: str | None = None
) -> tuple[CancelAnswer, Events]:
    """Cancel a job, or request that its attempt is the last one.

    Raises:
        InvalidState: The job is in doubt, which only `resolve` can end.
    """
    state = record.state
    if state is State.CANCELLED:
        return "cancelled", ()
    if state in FINAL:
        return "too_late", ()
    if state is State.IN_DOUBT:
        raise InvalidState(record.id, state, "it is not known what its attempt did; use resolve instead of cancel")
    if state is State.PROCESSING or state is State.SAVING:
        if record.cancel_requested:
            return "requested", ()
        return "requested", (ev.CancelRequested(seq=seq, at=now, job=record.id, by=by, note=note),)
    return "cancelled", (
        ev.Cancelled(
            seq=seq, at=now, job=record.id, by=by, reason="cancelled", may_have_acted=record.may_have_acted,
            error=record.error, action="cancel", note=note,
        ),
    )  # fmt: skip


def retry(
    record: JobRecord,
    rules: Rules,
    by: str | None,
    now: float,
    seq: int,
    elapsed: float | None = None,
    *,
    even_if_acted: bool = False,
    note: str | None = None,
) -> Events:
    """Start a new run of a job. If the job may have acted and its handler has a verify, the run begins in doubt.

    Args:
        record: The job.
        rules: The rules of its handler.
        by: The operator.
        now: UTC, seconds since the epoch.
        seq: The number of the first event.
        elapsed: See `is_expired`.
        even_if_acted: Start it although the job may have acted and there is no verify.
        note: Why, in the words of the operator.

    Raises:
        InvalidState: The job is neither failed nor cancelled.
        JobMayHaveActed: The job may have acted, and nothing permits to repeat it.
    """
    if record.state not in (State.FAILED, State.CANCELLED):
        raise InvalidState(record.id, record.state, "only a failed or cancelled job can be retried")
    if not even_if_acted and not may_repeat(record, rules, automatic=False):
        raise JobMayHaveActed(
            record.id,
            record.state,
            "it may have done its work, and its handler has no verify; find out, and if the work is to be done again, "
            "retry the job with even_if_acted=True",
        )
    expired = is_expired(record, now, elapsed)
    restarted = ev.RunRestarted(
        seq=seq, at=now, job=record.id, by=by, expired=None if expired is is_expired(record, now) else expired,
        even_if_acted=even_if_acted and record.may_have_acted, note=note,
    )  # fmt: skip
    if not record.may_have_acted or rules.idempotent or not rules.verifies:
        return (restarted,)
    return (restarted, *doubted(record, rules, now, seq + 1, "retried"))


def resolve(
    record: JobRecord,
    resolution: Resolution,
    by: str | None,
    now: float,
    seq: int,
    result: msgspec.Raw | None = None,
    elapsed: float | None = None,
    note: str | None = None,
) -> Events:
    """Resolve a doubt as an operator.

    Raises:
        InvalidState: The job is not in doubt; or its call is still inside and the resolution is "not_done", which would
            start the job again beside that call.
    """
    if record.state is not State.IN_DOUBT:
        raise InvalidState(record.id, record.state, "only a job that is in_doubt can be resolved")
    out = EventWriter(record, now, seq, None, by, elapsed, "resolve", note)
    inside = record.doubt is not None and record.doubt.inside
    if resolution == "done":
        if record.unsaved is not None and result in (None, msgspec.Raw(b"null")):  # the handler has returned one
            out.write(ev.Completed, reason="resolved")
        else:
            out.complete(result, None, "resolved")
    elif resolution == "failed":
        # a call that is still inside may still do its work
        may_have_acted = inside and (record.may_have_acted or record.attempt.entered)
        out.write(ev.Failed, reason="resolved", may_have_acted=may_have_acted, error=record.error)
    else:
        if inside:
            raise InvalidState(record.id, record.state, "its call is still inside the SDK; wait for it to return")
        out.write(ev.DoubtResolved, reason="resolved")
        if record.cancel_requested:
            out.write(ev.Cancelled, reason="cancelled")
        elif out.is_expired(record):
            out.write(ev.Failed, reason="expired", error=record.error)
    return out.events
