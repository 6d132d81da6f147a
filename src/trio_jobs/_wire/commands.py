"""The parameters and results of the methods that change jobs, and of queue.pause."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from trio_jobs._engine.jobs import CancelAnswer, State
from trio_jobs._engine.operator_events import VerifyWord
from trio_jobs._wire.job_lists import Conditions
from trio_jobs._wire.params import Kind, Note, Params, Seconds, Time, Wait
from trio_jobs._wire.schemas import JobId, Labels, OneJobId, Seq

__all__ = [
    "MAX_JOBS",
    "Cancel",
    "CancelMany",
    "CancelManyResult",
    "CancelResult",
    "Claim",
    "Correct",
    "NewJob",
    "Pause",
    "Reschedule",
    "Resolve",
    "Retry",
    "RetryMany",
    "RetryManyResult",
    "StateResult",
    "Submit",
    "SubmitMany",
    "SubmitManyResult",
    "SubmitResult",
    "Verify",
    "VerifyResult",
]

MAX_JOBS = 1000  #: jobs that one request submits, cancels or retries

IfSeq = Seq | None
Ids = Annotated[list[JobId], Meta(min_length=1, max_length=MAX_JOBS)] | None
Limit = Annotated[int, Meta(ge=1, le=MAX_JOBS)]


class Submit(Params, frozen=True):
    """payload: null by default; all digits of its numbers are kept. key: the same key and payload give the same job.
    due_at: the job does not start before this date. delay: nor before these seconds are over. deadline_at,
    deadline_after: the job expires at this date, or after these seconds. Dates are compared with the clock of the
    server; seconds do not depend on any clock. At most one of due_at and delay, and one of deadline_at and
    deadline_after. wait: for a free slot. labels: by which jobs are listed and counted; a known key keeps those that it
    has. correct: if the key belongs to a failed or cancelled job with another payload, start that job again with this
    one."""

    kind: Kind
    payload: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    key: Annotated[str, Meta(min_length=1, max_length=500)] | None = None
    due_at: Time | None = None
    deadline_at: Time | None = None
    wait: Wait = 0.0
    delay: Seconds | None = None
    deadline_after: Seconds | None = None
    labels: Labels | None = None
    correct: bool = False


class SubmitResult(Struct, frozen=True, omit_defaults=True):
    """created: false if the key was known. position: in the channel, 1 for the next job to start; 0 for a job
    that does not wait there. expected_wait: seconds until it starts; absent where nobody can know, as in a pause."""

    job: str
    created: bool
    position: int
    state: State
    expected_wait: float | None = None


class Cancel(Params, frozen=True):
    """job: as of jobs.get. note: why; recorded. if_seq: only if this is the last event of the
    job."""

    job: OneJobId
    note: Note = None
    if_seq: IfSeq = None


class CancelResult(Struct, frozen=True):
    """answer: cancelled; requested (an attempt is running and is cancelled, no retry follows); too_late (the job is
    final)."""

    job: str
    answer: CancelAnswer
    state: State


class Retry(Params, frozen=True):
    """even_if_acted: repeat the job although it may have done its work and its handler has no verify; needs a token of
    scope control. note: why; recorded. if_seq: only if this is the last event of the job."""

    job: OneJobId
    even_if_acted: bool = False
    note: Note = None
    if_seq: IfSeq = None


class StateResult(Struct, frozen=True):
    """state: of the job now."""

    job: str
    state: State


class Resolve(Params, frozen=True):
    """resolution: what the job in doubt came to. result: with done only; all digits of its numbers are kept. note: why;
    recorded. if_seq: only if this is the last event of the job."""

    job: OneJobId
    resolution: Literal["done", "not_done", "failed"]
    result: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    note: Note = None
    if_seq: IfSeq = None


class Pause(Params, frozen=True):
    """reason: why the queue is paused; shown wherever the state of the queue is. until: the pause ends by itself
    then."""

    reason: Annotated[str, Meta(max_length=1000)] = ""
    until: Time | None = None


class NewJob(Params, frozen=True):
    """A job of jobs.submit_many. The fields are those of jobs.submit."""

    kind: Kind
    payload: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    key: Annotated[str, Meta(min_length=1, max_length=500)] | None = None
    due_at: Time | None = None
    deadline_at: Time | None = None
    delay: Seconds | None = None
    deadline_after: Seconds | None = None
    labels: Labels | None = None


class SubmitMany(Params, frozen=True):
    """jobs: all of them are accepted, or none. wait: until there is a slot for each, at most as many as the channel has
    slots."""

    jobs: Annotated[list[NewJob], Meta(min_length=1, max_length=MAX_JOBS)]
    wait: Wait = 0.0


class SubmitManyResult(Struct, frozen=True):
    """jobs: in the order of the request."""

    jobs: list[SubmitResult]


class CancelMany(Conditions, frozen=True, kw_only=True):
    """The jobs that match all conditions, which are those of jobs.list, the oldest first. ids: only jobs with these
    whole ids. limit: the highest number. dry_run: change nothing, and answer what the request would do. note: why;
    recorded."""

    ids: Ids = None
    limit: Limit = MAX_JOBS
    dry_run: bool = False
    note: Note = None


class CancelManyResult(Struct, frozen=True):
    """jobs: the ids of the jobs that were cancelled, or whose attempt was requested to end."""

    jobs: list[str]
    dry_run: bool


class RetryMany(CancelMany, frozen=True, kw_only=True):
    """As jobs.cancel_many, for failed and cancelled jobs. even_if_acted: as of jobs.retry; needs a token of scope
    control."""

    even_if_acted: bool = False


class RetryManyResult(Struct, frozen=True):
    """Ids of jobs. jobs: a new run of these has begun. refused: these match and are left as they are: they may have
    acted, and their handlers have no verify. may_have_acted: all of these jobs that may have acted. verified_first: the
    retried jobs whose verify is called before anything is done again."""

    jobs: list[str]
    refused: list[str]
    may_have_acted: list[str]
    verified_first: list[str]
    dry_run: bool


class Correct(Params, frozen=True):
    """payload: replaces that of a failed or cancelled job that has not acted and has finished no step; null by default.
    note: why; recorded. if_seq: only if this is the last event of the job."""

    job: OneJobId
    payload: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    note: Note = None
    if_seq: IfSeq = None


class Verify(Params, frozen=True):
    """job: a failed, cancelled or in_doubt job whose handler has a verify. note: why; recorded."""

    job: OneJobId
    note: Note = None


class VerifyResult(Struct, frozen=True):
    """answer: done completes a failed job; not_done: it can be corrected. state, may_have_acted: of the job now."""

    job: str
    answer: VerifyWord
    state: State
    may_have_acted: bool


class Reschedule(Params, frozen=True):
    """due_at, delay, now: one of these says when a scheduled, pending or retrying job is due. note: why; recorded.
    if_seq: only if this is the last event of the job."""

    job: OneJobId
    due_at: Time | None = None
    delay: Seconds | None = None
    now: bool = False
    note: Note = None
    if_seq: IfSeq = None


class Claim(Params, frozen=True):
    """seconds: how long the claim lasts. take_over: replace or end a claim of somebody else. release: end the claim.
    note: why; recorded."""

    job: OneJobId
    seconds: Annotated[float, Meta(ge=1, le=86400)] = 900.0
    take_over: bool = False
    release: bool = False
    note: Note = None
