"""The states of a job, the outcomes of an attempt and the answers of `verify`, as docs/states.md names them."""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Final, Literal, final

import attrs

__all__ = [
    "FINAL",
    "CancelAnswer",
    "Done",
    "EndedBy",
    "NotDone",
    "OnDoubt",
    "OperatorEnding",
    "Outcome",
    "State",
    "Unknown",
    "Verdict",
]


class State(StrEnum):
    """The state of a job. The values are the same in code, on the wire, in logs and docs."""

    SCHEDULED = "scheduled"
    """The job waits for its `due_at`."""
    PENDING = "pending"
    """The job waits for the SDK."""
    PROCESSING = "processing"
    """An attempt is running."""
    SAVING = "saving"
    """The handler has returned, and the SDK has not saved its work yet. Only with `Service(save=)`."""
    RETRYING = "retrying"
    """The last attempt failed; the next one starts at `due_at`."""
    IN_DOUBT = "in_doubt"
    """It is not known what the last attempt did."""
    COMPLETED = "completed"
    """Final: the work is done."""
    FAILED = "failed"
    """Final: the job ended without success."""
    CANCELLED = "cancelled"
    """Final: a person or the handler cancelled the job."""

    # Enum hashes in Python code; states key the hottest dictionaries there are. Python 3.11 also finds a member through
    # `EnumType.__getattr__`, as long as three calls take: modules that run for every job name the members they need
    __hash__ = str.__hash__


FINAL: Final = frozenset({State.COMPLETED, State.FAILED, State.CANCELLED})


class Outcome(StrEnum):
    """What an attempt came to (docs/attempts.md). Several outcomes lead to the same state of the job."""

    COMPLETED = "completed"
    """The handler returned. With `Service(save=)` the job is completed when the SDK has saved its work."""
    ALREADY_DONE = "already_done"
    """`verify` found that an earlier attempt had done the work."""
    ERROR = "error"
    """The handler raised."""
    FAIL = "fail"
    """The handler raised `Fail`."""
    CANCEL = "cancel"
    """The handler raised `Cancel`."""
    SNOOZE = "snooze"
    """The handler raised `Snooze`."""
    RETRY_AFTER = "retry_after"
    """The handler raised `RetryAfter`."""
    TIMED_OUT = "timed_out"
    """`attempt_timeout` ended the attempt."""
    EXPIRED = "expired"
    """The job's deadline ended the attempt."""
    CANCELLED = "cancelled"
    """A person cancelled the job."""
    STOPPED = "stopped"
    """The shutdown of the queue ended the attempt."""
    CRASHED = "crashed"
    """The process died during the attempt."""
    KILLED = "killed"
    """The attempt exceeded its limit, and the process of the SDK was killed."""
    DIED = "died"
    """The process of the SDK died by itself during the attempt."""
    UNVERIFIED = "unverified"
    """`verify` returned `Unknown` for an earlier attempt, so the handler was not called."""
    UNSAVED = "unsaved"
    """The handler returned, and the SDK did not save its work, or it is not known whether it did."""
    INSIDE = "inside"
    """The call into the SDK had not returned when its limit and `stuck_after` had passed."""

    __hash__ = str.__hash__


class EndedBy(StrEnum):
    """The limit that ended an attempt, the innermost first. A record has None where the attempt ended by itself."""

    ATTEMPT_TIMEOUT = "attempt_timeout"
    DEADLINE = "deadline"
    CANCEL = "cancel"
    STOP = "stop"

    __hash__ = str.__hash__


OnDoubt = Literal["hold", "retry", "fail"]
CancelAnswer = Literal["cancelled", "requested", "too_late"]
OperatorEnding = Literal["cancel", "resolve", "verify"]


@final
@attrs.frozen
class Done:
    """An answer of `verify`: the attempt did its work."""

    result: Any = None
    """Becomes the result of the job. Anything that can be encoded as JSON."""


@final
@attrs.frozen
class NotDone:
    """An answer of `verify`: the attempt left nothing behind, so the job can be tried again."""


@final
@attrs.frozen
class Unknown:
    """An answer of `verify`: it cannot be found out. The handler's `on_doubt` decides what follows."""


Verdict = Done | NotDone | Unknown
