"""Floor 2: the events, one class for each accepted change, in the order of a job's life.

They are what the journal keeps, what subscribers see and what a job is folded from, so they are written once and
encoded often: `msgspec.Struct` rather than attrs, which takes 0.2 us instead of 1.5 us to make one, encodes without a
hook, and reads a whole union back by its `type` tag. They hold no reference that could close a cycle (`gc=False`).

`seq` numbers all events of one history from 1 without a gap. `at` is UTC, seconds since the epoch. `job` is the job's
id. `by` names the person, None where the queue itself acted.
"""

from __future__ import annotations

import msgspec

from trio_jobs._engine.jobs import EndedBy, ErrorInfo, Outcome

__all__ = [
    "ALL_EVENTS",
    "AnyEvent",
    "CancelRequested",
    "Cancelled",
    "Completed",
    "DoubtResolved",
    "Due",
    "Ended",
    "Event",
    "Failed",
    "InDoubt",
    "Interrupted",
    "JobEvent",
    "Overdue",
    "Paused",
    "QueueEvent",
    "Resumed",
    "RetryScheduled",
    "RunRestarted",
    "Scheduled",
    "SdkEntered",
    "SessionClosed",
    "SessionOpened",
    "Snoozed",
    "Started",
    "StepFinished",
    "StepStarted",
    "Stuck",
    "SubmitRejected",
    "Submitted",
]


class Event(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False, tag_field="type"):
    """What every event has."""

    seq: int
    at: float


class JobEvent(Event, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """A change of one job."""

    job: str


class Submitted(JobEvent, frozen=True, kw_only=True, omit_defaults=True, gc=False, tag="submitted"):
    """Accepted; `payload` is JSON, `digest` the hash of its canonical form where there is a `key`."""

    kind: str
    payload: msgspec.Raw
    key: str | None = None
    digest: str | None = None
    deadline_at: float | None = None
    by: str | None = None


class Scheduled(Submitted, frozen=True, kw_only=True, omit_defaults=True, gc=False, tag="scheduled"):
    """Accepted for later."""

    due_at: float


class Due(JobEvent, frozen=True, kw_only=True, omit_defaults=True, gc=False, tag="due"):
    """Its time has come; it waits for a place in the line."""


class Started(JobEvent, frozen=True, kw_only=True, omit_defaults=True, gc=False, tag="started"):
    """Attempt `attempt` begins; `entered` when it is in the SDK from its first moment."""

    attempt: int
    entered: bool = False


class SdkEntered(JobEvent, frozen=True, kw_only=True, omit_defaults=True, gc=False, tag="entered"):
    """The attempt is about to make its first call into the SDK."""

    attempt: int


class StepStarted(JobEvent, frozen=True, kw_only=True, omit_defaults=True, gc=False, tag="step_started"):
    """The attempt is about to do the step of that name."""

    attempt: int
    step: str


class StepFinished(JobEvent, frozen=True, kw_only=True, omit_defaults=True, gc=False, tag="step_finished"):
    """The step is done and will not be done again; `result` is JSON."""

    attempt: int
    step: str
    result: msgspec.Raw


class CancelRequested(JobEvent, frozen=True, kw_only=True, omit_defaults=True, gc=False, tag="cancel_requested"):
    """A person asked for it while an attempt was under way: no retry follows."""

    by: str | None = None


class Overdue(JobEvent, frozen=True, kw_only=True, omit_defaults=True, gc=False, tag="overdue"):
    """The limit has passed and the attempt has not ended; it cannot be ended from outside."""

    attempt: int
    limit: EndedBy


class Ended(JobEvent, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """An attempt's end, or a decision about a job after it.

    attempt: its number, 0 where no attempt was under way. outcome: None where the attempt had ended before.
    may_have_acted: what is to be remembered of it: the SDK was entered and nobody has said what that left behind.
    """

    attempt: int = 0
    outcome: Outcome | None = None
    ended_by: EndedBy | None = None
    entered: bool = False
    late: bool = False
    may_have_acted: bool = msgspec.field(default=False, name="acted")
    reason: str = ""
    error: ErrorInfo | None = None
    by: str | None = None


class Completed(Ended, frozen=True, kw_only=True, omit_defaults=True, gc=False, tag="completed"):
    """Done. `result` is JSON; unset where there is none, with a `problem` that says why it was not kept."""

    # not `Raw | None`: msgspec encodes that, but reads no value of it back except null
    result: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    problem: str | None = None


class RetryScheduled(Ended, frozen=True, kw_only=True, omit_defaults=True, gc=False, tag="retrying"):
    """To be tried again at `due_at`; `uses_retry` unless it was put off without a failure."""

    due_at: float
    uses_retry: bool = True


class Snoozed(Ended, frozen=True, kw_only=True, omit_defaults=True, gc=False, tag="snoozed"):
    """The handler put it off until `due_at`."""

    due_at: float


class Interrupted(Ended, frozen=True, kw_only=True, omit_defaults=True, gc=False, tag="interrupted"):
    """Given back before it did anything (or it is idempotent): a stop, or a crash."""


class InDoubt(Ended, frozen=True, kw_only=True, omit_defaults=True, gc=False, tag="in_doubt"):
    """Nobody knows what the attempt did. `inside`: its call has not returned. `asked`: verify could not tell."""

    retryable: bool = True
    inside: bool = False
    asked: bool = False


class DoubtResolved(Ended, frozen=True, kw_only=True, omit_defaults=True, gc=False, tag="released"):
    """The doubt is settled: to be done anew."""


class Failed(Ended, frozen=True, kw_only=True, omit_defaults=True, gc=False, tag="failed"):
    """Over without success; `may_have_acted` says that it may have acted."""


class Cancelled(Ended, frozen=True, kw_only=True, omit_defaults=True, gc=False, tag="cancelled"):
    """Over because someone said so: a person, or the handler."""


class RunRestarted(JobEvent, frozen=True, kw_only=True, omit_defaults=True, gc=False, tag="retried"):
    """A person began a new run of a job that had ended."""

    by: str | None = None


class QueueEvent(Event, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """An event of the queue itself."""


class SessionOpened(QueueEvent, frozen=True, kw_only=True, omit_defaults=True, gc=False, tag="host_opened"):
    """The SDK is open; `session` counts from 1 in one life of the queue."""

    session: int


class SessionClosed(QueueEvent, frozen=True, kw_only=True, omit_defaults=True, gc=False, tag="host_closed"):
    """The SDK session is closed; `problem` says what its close raised."""

    session: int
    problem: str | None = None


class Stuck(QueueEvent, frozen=True, kw_only=True, omit_defaults=True, gc=False, tag="stuck"):
    """A call has outlived its limit and `stuck_after`; the line stands until it returns."""

    culprit: str


class Paused(QueueEvent, frozen=True, kw_only=True, omit_defaults=True, gc=False, tag="paused"):
    """No attempt begins until it is resumed."""

    reason: str = ""
    by: str | None = None


class Resumed(QueueEvent, frozen=True, kw_only=True, omit_defaults=True, gc=False, tag="resumed"):
    """Attempts begin again."""

    by: str | None = None


class SubmitRejected(QueueEvent, frozen=True, kw_only=True, omit_defaults=True, gc=False, tag="refused"):
    """Where a submit would stand that the store could not take, and whose caller was told so, or what came right behind
    it of its job. The number is spent."""


AnyEvent = (
    Submitted
    | Scheduled
    | Due
    | Started
    | SdkEntered
    | StepStarted
    | StepFinished
    | CancelRequested
    | Overdue
    | Completed
    | RetryScheduled
    | Snoozed
    | Interrupted
    | InDoubt
    | DoubtResolved
    | Failed
    | Cancelled
    | RunRestarted
    | SessionOpened
    | SessionClosed
    | Stuck
    | Paused
    | Resumed
    | SubmitRejected
)

ALL_EVENTS: tuple[type[Event], ...] = AnyEvent.__args__
