"""The events: one class for each accepted change, in the order of a job's life. Public as `trio_jobs.events`.

The journal stores them, jobs are folded from them, and readers get them, so they are created once and encoded often:
`msgspec.Struct` rather than attrs. A Struct takes 0.2 us instead of 1.5 us to create, is encoded without a hook, and a
union of Structs is decoded by its `type` tag. Events cannot be part of a reference cycle (`gc=False`).

Times are stored as seconds since the epoch, UTC (`at`, `due_at`, `deadline_at`); `occurred_at`, `due` and `deadline`
are the same times as aware datetimes. A client decodes the same classes from the wire, which withholds payloads,
results, digests and tracebacks: they are UNSET or None there, as documented at each field.

Attributes of a class that are the same for all its events (`state`, `type`) are not fields, so they are not stored.
"""

from __future__ import annotations

from datetime import datetime
from typing import ClassVar, final

import msgspec

from trio_jobs._engine.event_base import Event, JobEvent, QueueEvent
from trio_jobs._engine.jobs import EndedBy, ErrorInfo, OperatorEnding, Outcome, State, to_datetime
from trio_jobs._engine.json_values import moment
from trio_jobs._engine.operator_events import Claimed, Corrected, Rescheduled, RunRestarted, Verified
from trio_jobs._engine.queue_events import (
    DrainEnded,
    DrainStarted,
    Forgotten,
    Paused,
    Resumed,
    Saved,
    SaveFailed,
    SessionClosed,
    SessionOpened,
    SessionOpening,
    SessionOpeningFailed,
    Stuck,
    SubmitRejected,
)

__all__ = [
    "ALL_EVENTS",
    "AnyEvent",
    "CancelRequested",
    "Cancelled",
    "Claimed",
    "Completed",
    "Corrected",
    "DoubtResolved",
    "DrainEnded",
    "DrainStarted",
    "Due",
    "Ended",
    "Event",
    "Failed",
    "Forgotten",
    "InDoubt",
    "Interrupted",
    "JobEvent",
    "Overdue",
    "Paused",
    "QueueEvent",
    "Rescheduled",
    "Resumed",
    "RetryScheduled",
    "Returned",
    "RunRestarted",
    "SaveFailed",
    "Saved",
    "Scheduled",
    "SdkEntered",
    "SessionClosed",
    "SessionOpened",
    "SessionOpening",
    "SessionOpeningFailed",
    "Snoozed",
    "Started",
    "StepFinished",
    "StepStarted",
    "Stuck",
    "SubmitRejected",
    "Submitted",
    "Verified",
]


class Submitted(JobEvent, frozen=True, kw_only=True, omit_defaults=True, gc=False, tag="submitted"):
    """A job was accepted."""

    state: ClassVar[State | None] = State.PENDING

    kind: str
    """The kind of the job."""
    payload: msgspec.Raw | msgspec.UnsetType
    """The payload as JSON, a bytes-like object; UNSET over the wire."""
    digest: str | None = None
    """The hash of the canonical payload of a job with a key; None over the wire."""
    deadline_at: float | None = None
    """When the job expires: seconds since the epoch, UTC; None for never. See `deadline`."""
    deadline_after: float | None = None
    """The seconds from this event to the deadline, where it was given in seconds; None for a date or without one."""
    by: str | None = None
    """Who submitted the job: the name of a token, or `by` of the submit. None for a client of scope `watch`."""
    labels: dict[str, str] | None = None
    """The labels of the job, by name; None without any, and for a client of scope `watch`."""

    @property
    def deadline(self) -> datetime | None:
        """When the job expires, UTC; None for never."""
        return to_datetime(self.deadline_at)


@final
class Scheduled(Submitted, frozen=True, kw_only=True, omit_defaults=True, gc=False, tag="scheduled"):
    """A job was accepted that becomes due later."""

    state: ClassVar[State | None] = State.SCHEDULED

    due_at: float
    """When the job becomes due: seconds since the epoch, UTC. See `due`."""
    delay: float | None = None
    """The seconds from this event until the job is due, where they were given; None for a date."""

    @property
    def due(self) -> datetime:
        """When the job becomes due, UTC."""
        return moment(self.due_at)


@final
class Due(JobEvent, frozen=True, kw_only=True, omit_defaults=True, gc=False, tag="due"):
    """The job has become due and waits for the SDK."""

    state: ClassVar[State | None] = State.PENDING

    early: bool = False
    """A person started the job before it was due."""
    by: str | None = None
    """Who did that: the name of a token, or `by` of the call."""
    note: str | None = None
    """Why, as given by the operator; None without a note, and for a client of scope `watch`."""


@final
class Started(JobEvent, frozen=True, kw_only=True, omit_defaults=True, gc=False, tag="started"):
    """An attempt has started."""

    state: ClassVar[State | None] = State.PROCESSING

    attempt: int
    """The number of the attempt, from 1."""
    entered: bool = False
    """The attempt enters the SDK at once, as every attempt of a plain handler does."""


@final
class SdkEntered(JobEvent, frozen=True, kw_only=True, omit_defaults=True, gc=False, tag="entered"):
    """The attempt is about to make its first call into the SDK."""

    state: ClassVar[State | None] = State.PROCESSING

    attempt: int
    """The number of the attempt, from 1."""


@final
class StepStarted(JobEvent, frozen=True, kw_only=True, omit_defaults=True, gc=False, tag="step_started"):
    """The attempt is about to execute a step."""

    state: ClassVar[State | None] = State.PROCESSING

    attempt: int
    """The number of the attempt, from 1."""
    step: str
    """The name of the step."""


@final
class StepFinished(JobEvent, frozen=True, kw_only=True, omit_defaults=True, gc=False, tag="step_finished"):
    """A step has finished. It is not executed again."""

    attempt: int
    """The number of the attempt, from 1."""
    step: str
    """The name of the step."""
    result: msgspec.Raw | msgspec.UnsetType
    """The result of the step as JSON, a bytes-like object; UNSET over the wire."""


@final
class CancelRequested(JobEvent, frozen=True, kw_only=True, omit_defaults=True, gc=False, tag="cancel_requested"):
    """A person cancelled the job while an attempt was running or its work was not saved yet. No retry follows."""

    by: str | None = None
    """Who did it: the name of a token, or `by` of the call. None where the queue acted by itself."""
    note: str | None = None
    """Why, as given by the operator; None without a note, and for a client of scope `watch`."""


@final
class Overdue(JobEvent, frozen=True, kw_only=True, omit_defaults=True, gc=False, tag="overdue"):
    """The limit of the attempt has passed, and the attempt cannot be ended from outside."""

    state: ClassVar[State | None] = State.PROCESSING

    attempt: int
    """The number of the attempt, from 1."""
    limit: EndedBy
    """The limit that has passed."""


class Ended(JobEvent, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """The base class of the events that end an attempt, or that decide about a job after its attempt."""

    attempt: int = 0
    """The number of the attempt; 0 if no attempt was running."""
    outcome: Outcome | None = None
    """What the attempt came to; None if it had ended before this event."""
    ended_by: EndedBy | None = None
    """The limit that ended the attempt; None if it ended by itself."""
    entered: bool = False
    """A call into the SDK began during the attempt."""
    late: bool = False
    """The attempt ended after its limit."""
    may_have_acted: bool = msgspec.field(default=False, name="acted")
    """The SDK was entered, and it is not known what that left behind."""
    reason: str = ""
    """Why the job is in its new state; empty if there is nothing to say."""
    error: ErrorInfo | None = None
    """What the handler raised, if it raised; without the traceback over the wire."""
    by: str | None = None
    """Who decided: the name of a token, or `by` of the call. None where the queue acted by itself."""
    note: str | None = None
    """Why, as given by the operator; None without a note, and for a client of scope `watch`."""
    crashed: bool = False
    """The process died while the work of this job alone was not saved yet, which counts towards `max_crashes`. False
    for an attempt that was running then: its outcome says so."""
    action: OperatorEnding | None = None
    """What an operator did, if that is the cause of this event."""


@final
class Returned(Ended, frozen=True, kw_only=True, omit_defaults=True, gc=False, tag="returned"):
    """The handler returned, and the SDK has not saved its work yet."""

    state: ClassVar[State | None] = State.SAVING

    result: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    """The result as JSON, a bytes-like object; UNSET if there is none, and over the wire."""
    problem: str | None = None
    """Why there is no result, such as a result that is too large."""


@final
class Completed(Ended, frozen=True, kw_only=True, omit_defaults=True, gc=False, tag="completed"):
    """The job is completed."""

    state: ClassVar[State | None] = State.COMPLETED

    # not `Raw | None`: msgspec encodes that, but decodes no other value than null
    result: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    """The result as JSON, a bytes-like object; UNSET if there is none, if `Returned` has it, and over the wire."""
    problem: str | None = None
    """Why there is no result, such as a result that is too large."""


@final
class RetryScheduled(Ended, frozen=True, kw_only=True, omit_defaults=True, gc=False, tag="retrying"):
    """The attempt failed, and another one follows."""

    state: ClassVar[State | None] = State.RETRYING

    due_at: float
    """When the job becomes due: `at` and the seconds of the wait. Seconds since the epoch, UTC. See `due`."""
    uses_retry: bool = True
    """The attempt counts as one of the retries of its run."""

    @property
    def due(self) -> datetime:
        """When the job becomes due, UTC."""
        return moment(self.due_at)


@final
class Snoozed(Ended, frozen=True, kw_only=True, omit_defaults=True, gc=False, tag="snoozed"):
    """The handler postponed the job."""

    state: ClassVar[State | None] = State.SCHEDULED

    due_at: float
    """When the job becomes due: `at` and the seconds of the wait. Seconds since the epoch, UTC. See `due`."""

    @property
    def due(self) -> datetime:
        """When the job becomes due, UTC."""
        return moment(self.due_at)


@final
class Interrupted(Ended, frozen=True, kw_only=True, omit_defaults=True, gc=False, tag="interrupted"):
    """A shutdown or a crash ended an attempt that had not acted, or that is idempotent. The job is pending again."""

    state: ClassVar[State | None] = State.PENDING


@final
class InDoubt(Ended, frozen=True, kw_only=True, omit_defaults=True, gc=False, tag="in_doubt"):
    """It is not known what the attempt did."""

    state: ClassVar[State | None] = State.IN_DOUBT

    retryable: bool = True
    """The retry policy would retry the error."""
    inside: bool = False
    """The call into the SDK has not returned."""
    asked: bool = False
    """`verify` was called and returned `Unknown`."""
    interrupted: bool = False
    """The work was not saved because the session ended, and not because `save` raised: if `verify` answers `NotDone`,
    the job starts again without using a retry."""
    verifying: bool = False
    """`verify` is about to be called. The doubt is otherwise unchanged."""


@final
class DoubtResolved(Ended, frozen=True, kw_only=True, omit_defaults=True, gc=False, tag="released"):
    """The doubt is resolved: the job is pending again."""

    state: ClassVar[State | None] = State.PENDING


@final
class Failed(Ended, frozen=True, kw_only=True, omit_defaults=True, gc=False, tag="failed"):
    """The job has failed. It may have acted if `may_have_acted` is true."""

    state: ClassVar[State | None] = State.FAILED


@final
class Cancelled(Ended, frozen=True, kw_only=True, omit_defaults=True, gc=False, tag="cancelled"):
    """The job is cancelled, by a person or by its handler."""

    state: ClassVar[State | None] = State.CANCELLED


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
    | Returned
    | Completed
    | RetryScheduled
    | Snoozed
    | Interrupted
    | InDoubt
    | DoubtResolved
    | Failed
    | Cancelled
    | RunRestarted
    | Corrected
    | Rescheduled
    | Claimed
    | Verified
    | SessionOpening
    | SessionOpeningFailed
    | SessionOpened
    | SessionClosed
    | Saved
    | SaveFailed
    | Stuck
    | Paused
    | Resumed
    | DrainStarted
    | DrainEnded
    | Forgotten
    | SubmitRejected
)

ALL_EVENTS: tuple[type[Event], ...] = AnyEvent.__args__
