"""Floor 1: the values a job is told by. Words and their meaning are those of docs/states.md.

`JobRecord` and `AttemptRecord` are the one exception to "values are frozen": only `_engine.fold` writes them. A frozen
record copied at each change costs about half the throughput of the whole queue. Everybody outside the engine and the
queue sees `Job` and `Attempt`, which are frozen. They hold nothing that could close a cycle, so the collector need not
look at them (`gc=False`): a tenth of the throughput.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Final, Literal

import attrs
import msgspec

__all__ = [
    "FINAL",
    "UNSAFE",
    "Attempt",
    "AttemptRecord",
    "CancelAnswer",
    "Done",
    "Doubt",
    "EndedBy",
    "ErrorInfo",
    "Job",
    "JobRecord",
    "NotDone",
    "OnDoubt",
    "Outcome",
    "Receipt",
    "State",
    "Unknown",
    "Verdict",
    "escape",
    "open_step",
    "to_datetime",
    "uuid7",
    "view",
]

MAX_MESSAGE: Final = 1024
MAX_TRACEBACK: Final = 16 * 1024


class State(StrEnum):
    """Where a job stands. The names are the same in code, on the wire, in logs and docs."""

    SCHEDULED = "scheduled"
    PENDING = "pending"
    PROCESSING = "processing"
    RETRYING = "retrying"
    IN_DOUBT = "in_doubt"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"

    # Enum hashes in Python code; states key the hottest dictionaries there are
    __hash__ = str.__hash__


FINAL: Final = frozenset({State.COMPLETED, State.FAILED, State.CANCELLED})


class Outcome(StrEnum):
    """What an attempt came to (docs/attempts.md). Not a state of the job: several outcomes lead to the same state."""

    COMPLETED = "completed"  # the handler returned
    ALREADY_DONE = "already_done"  # verify found it done
    ERROR = "error"  # the handler raised
    FAIL = "fail"  # the handler raised Fail
    CANCEL = "cancel"  # the handler raised Cancel
    SNOOZE = "snooze"  # the handler raised Snooze
    RETRY_AFTER = "retry_after"  # the handler raised RetryAfter
    TIMED_OUT = "timed_out"  # attempt_timeout ended it
    EXPIRED = "expired"  # the job's deadline ended it
    CANCELLED = "cancelled"  # a person's cancel ended it
    STOPPED = "stopped"  # the queue's stop ended it
    CRASHED = "crashed"  # the process died
    UNVERIFIED = "unverified"  # verify could not tell what an earlier attempt did, so the handler was not called
    INSIDE = "inside"  # its call had not returned when its limits and stuck_after were over

    __hash__ = str.__hash__


class EndedBy(StrEnum):
    """Which bound ended an attempt, the innermost first; None in a record where the attempt ended by itself."""

    ATTEMPT_TIMEOUT = "attempt_timeout"
    DEADLINE = "deadline"
    CANCEL = "cancel"
    STOP = "stop"

    __hash__ = str.__hash__


OnDoubt = Literal["hold", "retry", "fail"]
CancelAnswer = Literal["cancelled", "requested", "too_late"]


@attrs.frozen
class Done:
    """A verify's answer: the attempt did its work; `result` becomes the job's result."""

    result: Any = None


@attrs.frozen
class NotDone:
    """A verify's answer: the attempt left nothing behind; it may be tried again."""


@attrs.frozen
class Unknown:
    """A verify's answer: cannot tell. The handler's `on_doubt` decides."""


Verdict = Done | NotDone | Unknown


class ErrorInfo(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """An error as data: what is kept of an exception.

    type: the class's name. message: at most 1 KiB. code: the SDK's own number or word, if the exception has a `code`,
    `hresult` or `errno`. traceback: at most 16 KiB, its end; for the owner's eyes, never in logs by default.
    """

    type: str
    message: str = ""
    code: str | int | None = None
    traceback: str | None = None

    def __str__(self) -> str:
        return f"{self.type}: {self.message}" if self.message else self.type


class Doubt(msgspec.Struct, frozen=True, gc=False):
    """Why a job is in_doubt.

    outcome: what its attempt came to. retryable: whether the retry policy would try that error again. inside: the call
    has not returned yet. asked: verify was asked and could not tell.
    """

    outcome: Outcome
    retryable: bool
    inside: bool
    asked: bool


class AttemptRecord(msgspec.Struct, gc=False):
    """See `Attempt`."""

    number: int
    run: int
    started_at: float
    entered: bool
    ended_at: float | None = None
    outcome: Outcome | None = None
    ended_by: EndedBy | None = None
    error: ErrorInfo | None = None
    late: bool = False
    overdue: bool = False


_NO_STEPS: Final[Mapping[str, msgspec.Raw | None]] = MappingProxyType({})


class JobRecord(msgspec.Struct, gc=False):
    """See `Job`. Times are seconds since the epoch, UTC. Written by `_engine.fold` alone."""

    id: str
    kind: str
    payload: msgspec.Raw
    submitted_at: float
    submitted_seq: int
    changed_at: float
    last_seq: int
    state: State
    key: str | None = None
    digest: str | None = None
    by: str | None = None
    due_at: float | None = None
    deadline_at: float | None = None
    run: int = 1
    retries_used: int = 0
    snoozes: int = 0
    crashes: int = 0
    cancel_requested: bool = False
    # an attempt that is over entered the SDK, and nobody has said since that it left nothing behind
    may_have_acted: bool = False
    doubt: Doubt | None = None
    # results of the steps that are done; None: begun, and nobody knows what it did
    steps: Mapping[str, msgspec.Raw | None] = _NO_STEPS
    attempts: list[AttemptRecord] = msgspec.field(default_factory=list)
    result: msgspec.Raw | None = None
    result_problem: str | None = None
    reason: str = ""
    error: ErrorInfo | None = None
    # the event by which it came into its state: its place among those that are in it
    state_seq: int = 0


def to_datetime(at: float | None) -> datetime | None:
    """Seconds since the epoch as an aware UTC datetime."""
    return None if at is None else datetime.fromtimestamp(at, UTC)


@attrs.frozen
class Attempt:
    """One try of a job, as it stands in the job's history.

    number: from 1, never repeated in a job. run: which run of the job it belongs to, from 1. ended_at, outcome: None
    while it is under way. ended_by: which bound ended it, None if it ended by itself. entered: a call into the SDK
    began. late: it returned after its limit. overdue: its call was still inside when its limit passed.
    """

    number: int
    run: int
    started_at: datetime
    ended_at: datetime | None
    outcome: Outcome | None
    ended_by: EndedBy | None
    error: ErrorInfo | None
    entered: bool
    late: bool
    overdue: bool


@attrs.frozen
class Job:
    """A job as it stood at event `seq`.

    payload: JSON. key: what makes its submit idempotent, None without. due_at: set in scheduled and retrying.
    deadline_at: when it expires, None for never. run: from 1, one more for each retry by a person. retries_used:
    errors, timeouts and crashes of this run. may_have_acted: the SDK was entered and nobody has said yet what that left
    behind. steps: those that are done. open_step: the one that has begun and of which nobody knows what it did. result:
    JSON, set in completed. result_problem: why a completed job has no result. reason, error: why it is where it is,
    empty and None where there is nothing to say. inside: in_doubt because a call has not returned yet.
    """

    id: str
    kind: str
    state: State
    seq: int
    key: str | None
    payload: bytes = attrs.field(repr=False)
    submitted_at: datetime
    changed_at: datetime
    due_at: datetime | None
    deadline_at: datetime | None
    by: str | None
    run: int
    retries_used: int
    snoozes: int
    cancel_requested: bool
    may_have_acted: bool
    inside: bool
    steps: tuple[str, ...]
    open_step: str | None
    attempts: tuple[Attempt, ...]
    result: bytes | None = attrs.field(repr=False)
    result_problem: str | None
    reason: str
    error: ErrorInfo | None

    @property
    def is_final(self) -> bool:
        return self.state in FINAL


def open_step(record: JobRecord) -> str | None:
    """The step that has begun and of which nobody knows what it did; the outer one, if a step was begun in a step."""
    return next((name for name, result in record.steps.items() if result is None), None)


def view(record: JobRecord) -> Job:
    """The record as a frozen value that stays as it is when the job moves on."""
    inside = record.doubt is not None and record.doubt.inside
    return Job(
        id=record.id,
        kind=record.kind,
        state=record.state,
        seq=record.last_seq,
        key=record.key,
        payload=bytes(record.payload),
        submitted_at=_moment(record.submitted_at),
        changed_at=_moment(record.changed_at),
        due_at=to_datetime(record.due_at),
        deadline_at=to_datetime(record.deadline_at),
        by=record.by,
        run=record.run,
        retries_used=record.retries_used,
        snoozes=record.snoozes,
        cancel_requested=record.cancel_requested,
        may_have_acted=record.may_have_acted or (inside and record.attempts[-1].entered),
        inside=inside,
        steps=tuple(name for name, result in record.steps.items() if result is not None),
        open_step=open_step(record),
        attempts=tuple(
            Attempt(
                number=a.number,
                run=a.run,
                started_at=_moment(a.started_at),
                ended_at=to_datetime(a.ended_at),
                outcome=a.outcome,
                ended_by=a.ended_by,
                error=a.error,
                entered=a.entered,
                late=a.late,
                overdue=a.overdue,
            )
            for a in record.attempts
        ),
        result=None if record.result is None else bytes(record.result),
        result_problem=record.result_problem,
        reason=record.reason,
        error=record.error,
    )


def _moment(at: float) -> datetime:
    return datetime.fromtimestamp(at, UTC)


class Receipt(msgspec.Struct, frozen=True, gc=False):
    """What `submit` answers.

    created: False when the key was known and this is the job it already belongs to. position: 1 for the next to be
    taken; 0 when the job is not in the line (scheduled, under way, or over). state: the job's state. Position and
    state are those of the moment in which a new job was accepted, and those of now for a known one.
    expected_wait: seconds until it is taken, if attempts go on taking as long as lately; None before the first has
    ended.
    """

    job_id: str
    created: bool
    position: int
    state: State
    expected_wait: float | None = None


def uuid7(at: float, chance: int) -> str:
    """A UUID of version 7 (RFC 9562, section 5.7): 48 bits of `at` in milliseconds, then `chance`, 74 bits of it."""
    ms = int(at * 1000) & 0xFFFF_FFFF_FFFF
    # the old way of formatting takes two thirds of an f-string's time, and each job has one
    return "%08x-%04x-%04x-%04x-%012x" % (  # noqa: UP031
        ms >> 16,
        ms & 0xFFFF,
        0x7000 | chance >> 62 & 0xFFF,
        0x8000 | chance >> 48 & 0x3FFF,
        chance & 0xFFFF_FFFF_FFFF,
    )


# C0 and C1 controls, the marks that turn the direction of text, and lone surrogates: what could move a terminal's
# cursor, lie about the order of what is read, or not be written at all
UNSAFE: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\u061c\ud800-\udfff]")


def escape(text: str) -> str:
    r"""Foreign text as it may be shown in a terminal or a log: each control character as its \x or \u escape."""
    return UNSAFE.sub(lambda match: match[0].encode("unicode_escape").decode("ascii"), text)
