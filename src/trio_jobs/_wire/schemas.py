"""A job, an event, a page, as they stand on the wire. Times are seconds since the epoch, UTC.

What is withheld is withheld by having no field here: payloads, results and tracebacks are in no event and in no list.
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from trio_jobs._engine.jobs import EndedBy, ErrorInfo, Job, Outcome, State

__all__ = [
    "AttemptView",
    "ErrorData",
    "ErrorView",
    "EventView",
    "JobId",
    "JobView",
    "Seq",
    "SubscriptionId",
    "job_view",
    "without_traceback",
]

JobId = Annotated[str, Meta(min_length=1, max_length=64, description="A job's id.")]
Seq = Annotated[int, Meta(ge=0, description="Number of an event; 0 is before the first.")]
SubscriptionId = Annotated[
    str,
    Meta(
        pattern="^[A-Za-z0-9._:-]{1,64}$",
        description="Chosen by the client, so that it can tell a stream's first event whenever it comes.",
    ),
]


class ErrorView(Struct, frozen=True, omit_defaults=True):
    """What went wrong with an attempt. The traceback is only in what jobs.get answers to a token of scope control."""

    type: str
    message: str = ""
    code: str | int | None = None
    traceback: str | None = None


class AttemptView(Struct, frozen=True, omit_defaults=True):
    """One try of a job."""

    number: int
    run: int
    started_at: float
    ended_at: float | None = None
    outcome: Outcome | None = None
    ended_by: EndedBy | None = None
    error: ErrorView | None = None
    entered: bool = False
    late: bool = False
    overdue: bool = False


class JobView(Struct, frozen=True, omit_defaults=True):
    """A job as it stood at event `seq`: an event of the job with that seq or a lower one is already in it.

    attempts: how many there were. history: each of them, and payload: both from jobs.get alone, the payload for scope
    control alone.
    """

    id: str
    kind: str
    state: State
    seq: int
    submitted_at: float
    changed_at: float
    key: str | None = None
    due_at: float | None = None
    deadline_at: float | None = None
    by: str | None = None
    run: int = 1
    attempts: int = 0
    retries_used: int = 0
    snoozes: int = 0
    cancel_requested: bool = False
    may_have_acted: bool = msgspec.field(default=False, name="acted")
    inside: bool = False
    reason: str = ""
    error: ErrorView | None = None
    result_problem: str | None = None
    history: list[AttemptView] | None = None
    payload: Any = msgspec.UNSET


class EventView(Struct, frozen=True, omit_defaults=True):
    """One accepted change. `state` is the job's after it, absent where it may have been one of several and stays as
    it was; events of the queue itself have neither job nor state."""

    seq: int
    at: float
    type: str
    job: str | None = None
    kind: str | None = None
    state: State | None = None
    key: str | None = None
    due_at: float | None = None
    deadline_at: float | None = None
    attempt: int = 0
    step: str | None = None
    outcome: Outcome | None = None
    limit: EndedBy | None = None
    ended_by: EndedBy | None = None
    entered: bool = False
    late: bool = False
    may_have_acted: bool = msgspec.field(default=False, name="acted")
    uses_retry: bool = True
    retryable: bool = True
    inside: bool = False
    asked: bool = False
    reason: str = ""
    error: ErrorView | None = None
    problem: str | None = None
    session: int | None = None
    culprit: str | None = None
    by: str | None = None


class ErrorData(Struct, frozen=True, omit_defaults=True):
    """The facts of an error, where there are some."""

    job: str | None = None
    state: str | None = None
    key: str | None = None
    capacity: int | None = None
    waiting: int | None = None
    retry_after: float | None = None
    epoch: str | None = None
    seq: int | None = None
    oldest: int | None = None


def without_traceback(error: ErrorInfo | None) -> ErrorView | None:
    return None if error is None else ErrorView(error.type, error.message, error.code)


def job_view(job: Job, *, history: bool = False, private: bool = False) -> JobView:
    """history: with each attempt. private: with the payload and with tracebacks."""

    def shown(error: ErrorInfo | None) -> ErrorView | None:
        if error is None or not private:
            return without_traceback(error)
        return ErrorView(error.type, error.message, error.code, error.traceback)

    attempts = None
    if history:
        attempts = [
            AttemptView(
                number=a.number,
                run=a.run,
                started_at=a.started_at.timestamp(),
                ended_at=None if a.ended_at is None else a.ended_at.timestamp(),
                outcome=a.outcome,
                ended_by=a.ended_by,
                error=shown(a.error),
                entered=a.entered,
                late=a.late,
                overdue=a.overdue,
            )
            for a in job.attempts
        ]
    return JobView(
        id=job.id,
        kind=job.kind,
        state=job.state,
        seq=job.seq,
        submitted_at=job.submitted_at.timestamp(),
        changed_at=job.changed_at.timestamp(),
        key=job.key,
        due_at=None if job.due_at is None else job.due_at.timestamp(),
        deadline_at=None if job.deadline_at is None else job.deadline_at.timestamp(),
        by=job.by,
        run=job.run,
        attempts=len(job.attempts),
        retries_used=job.retries_used,
        snoozes=job.snoozes,
        cancel_requested=job.cancel_requested,
        may_have_acted=job.may_have_acted,
        inside=job.inside,
        reason=job.reason,
        error=shown(job.error),
        result_problem=job.result_problem,
        history=attempts,
        payload=msgspec.Raw(job.payload) if private and history else msgspec.UNSET,
    )
