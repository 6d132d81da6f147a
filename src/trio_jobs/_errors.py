"""Floor 0: everything that can go wrong, sorted by whose doing it is.

The caller's: `UsageError` and its children. The line's: `QueueFull`, `QueueClosed`. The job's own end, told to whoever
waits for it: `JobFailed`, `JobCancelled`, `ResultUnavailable`. The thing behind the queue: `SdkOpenFailed`,
`SdkCallStuck`. The store's: `StoreError`, `OutcomeUnknown`. The network's: `ConnectionFailed`. Our bug: `QueueBroken`.

What a handler raises to decide about its own job (`Fail`, `Cancel`, `Snooze`, `RetryAfter`) is in `_engine.directives`:
those are not failures of the queue, so they do not share its base class.
"""

from __future__ import annotations

from typing import Final

__all__ = [
    "ConnectionFailed",
    "IllegalTransition",
    "InvalidHandler",
    "InvalidPayload",
    "InvalidState",
    "JobCancelled",
    "JobFailed",
    "JobInDoubt",
    "JobNotFound",
    "JournalDamaged",
    "JournalInUse",
    "KeyConflict",
    "Lagged",
    "OutcomeUnknown",
    "PermissionDenied",
    "QueueBroken",
    "QueueClosed",
    "QueueFull",
    "ResultUnavailable",
    "SdkCallRefused",
    "SdkCallStuck",
    "SdkOpenFailed",
    "StoreError",
    "TrioJobsError",
    "UnhandledJobs",
    "UnknownKind",
    "UsageError",
]


class TrioJobsError(Exception):
    """The base of every error of this package."""


class UsageError(TrioJobsError):
    """The caller asked for something that cannot be; nothing was changed and nothing is lost."""


class InvalidHandler(UsageError):
    """A handler or a setting of the service that cannot work; raised where it is declared."""


class UnknownKind(UsageError):
    """No handler is registered under that name.

    `known` holds the names that are, sorted.
    """

    def __init__(self, kind: str, known: tuple[str, ...]) -> None:
        self.kind: Final = kind
        self.known: Final = known
        there_are = ", ".join(known) if known else "none"
        super().__init__(f"no handler is registered for kind {kind!r} (registered: {there_are})")


class UnhandledJobs(UsageError):
    """The store holds open jobs that no handler here can take: a kind without one, or a payload that does not fit.

    `kinds` says how many, by kind. Register the handlers, or open with `unknown="hold"` to leave those jobs alone.
    """

    def __init__(self, kinds: dict[str, int], why: str) -> None:
        self.kinds: Final = kinds
        super().__init__(f"the store holds open jobs that no handler can take: {why} (unknown='hold' leaves them be)")


class InvalidPayload(UsageError):
    """The payload does not fit the handler's type; the message names the field."""

    def __init__(self, kind: str, why: str) -> None:
        self.kind: Final = kind
        self.why: Final = why
        super().__init__(f"payload for {kind!r} refused: {why}")


class KeyConflict(UsageError):
    """The key was used before, with another payload. Use another key, or send the same payload again."""

    def __init__(self, kind: str, key: str, job_id: str) -> None:
        self.kind: Final = kind
        self.key: Final = key
        self.job_id: Final = job_id
        super().__init__(f"key {key!r} of {kind!r} already belongs to job {job_id}, which has another payload")


class JobNotFound(UsageError):
    """No job has that id: it never had, or the job was pruned."""

    def __init__(self, job_id: str) -> None:
        self.job_id: Final = job_id
        super().__init__(f"no job {job_id!r} is known (never submitted here, or pruned since)")


class InvalidState(UsageError):
    """The job is not in a state in which this can be asked of it."""

    def __init__(self, job_id: str, state: str, why: str) -> None:
        self.job_id: Final = job_id
        self.state: Final = state
        super().__init__(f"job {job_id} is {state}: {why}")


class QueueFull(TrioJobsError):
    """No place is free. Nothing was accepted; try again after `retry_after` seconds (an estimate, at least 0.1).

    `capacity` is the number of places, `waiting` how many callers already wait for one.
    """

    def __init__(self, capacity: int, waiting: int, retry_after: float) -> None:
        self.capacity: Final = capacity
        self.waiting: Final = waiting
        self.retry_after: Final = retry_after
        super().__init__(
            f"all {capacity} places are taken and {waiting} callers wait; try again in about {retry_after:.1f} s"
        )


class QueueClosed(TrioJobsError):
    """The queue takes no new jobs (it drains or has stopped), or it stopped before the job reached its end."""


class JobFailed(TrioJobsError):
    """The job ended failed. `may_have_acted` says that the SDK was entered and nobody knows what it did there."""

    def __init__(self, job_id: str, reason: str, error: str, may_have_acted: bool) -> None:
        self.job_id: Final = job_id
        self.reason: Final = reason
        self.error: Final = error
        self.may_have_acted: Final = may_have_acted
        acted = "; it may have acted" if may_have_acted else ""
        super().__init__(
            f"job {job_id} failed ({reason}): {error}{acted}" if error else f"job {job_id}: {reason}{acted}"
        )


class JobCancelled(TrioJobsError):
    """The job ended cancelled."""

    def __init__(self, job_id: str, reason: str) -> None:
        self.job_id: Final = job_id
        self.reason: Final = reason
        super().__init__(f"job {job_id} was cancelled: {reason}" if reason else f"job {job_id} was cancelled")


class JobInDoubt(TrioJobsError):
    """Nobody knows whether the job's work was done; it waits for `resolve`. Only raised where it was asked for."""

    def __init__(self, job_id: str, reason: str) -> None:
        self.job_id: Final = job_id
        self.reason: Final = reason
        super().__init__(f"job {job_id} is in doubt ({reason}): nobody knows what its attempt did; resolve it")


class ResultUnavailable(TrioJobsError):
    """The job completed, but its result could not be kept (too large, or not JSON). The work itself is done."""

    def __init__(self, job_id: str, why: str) -> None:
        self.job_id: Final = job_id
        super().__init__(f"job {job_id} completed, its result was not kept: {why}")


class SdkOpenFailed(TrioJobsError):
    """The SDK could not be opened, so no job was taken. `__cause__` is the last error, if there was one."""


class SdkCallStuck(TrioJobsError):
    """A call into the SDK did not return within its limits, and `on_stuck="stop"` asked to stop for that."""


class SdkCallRefused(TrioJobsError):
    """The attempt that this handle belonged to is over, or about to be: its calls are no longer taken."""


class StoreError(TrioJobsError):
    """The store did not take it: what was asked did not happen."""


class JournalInUse(StoreError):
    """Another queue has this journal open. `pid` and `since` (UTC, ISO 8601) say whose, where that could be read."""

    def __init__(self, path: str, pid: int | None, since: str | None) -> None:
        self.path: Final = path
        self.pid: Final = pid
        self.since: Final = since
        whose = f"process {pid}, since {since}" if pid is not None else "another process"
        super().__init__(f"journal {path} is in use by {whose}")


class JournalDamaged(StoreError):
    """The journal does not hold what it should. Nothing was changed; `found` says what is wrong with it.

    Bring back the right file, or open with `allow_data_loss=True` to go on with what is left.
    """

    def __init__(self, path: str, found: str) -> None:
        self.path: Final = path
        self.found: Final = found
        super().__init__(f"journal {path} is refused: {found} (allow_data_loss=True goes on with what is left)")


class OutcomeUnknown(TrioJobsError):
    """The store did not answer in time: it may or may not have happened. Ask again with the same key."""


class ConnectionFailed(TrioJobsError):
    """The server cannot be reached, or the connection was lost and asking again could do something twice."""


class PermissionDenied(UsageError):
    """The server does not know this token, or it is not for this."""


class Lagged(TrioJobsError):
    """Events after `after` are pruned; a stream of events can continue from `oldest`, with a gap."""

    def __init__(self, after: int, oldest: int) -> None:
        self.after: Final = after
        self.oldest: Final = oldest
        super().__init__(
            f"events {after + 1} to {oldest - 1} are not kept any more; "
            f"read the jobs again, then continue after {oldest - 1}"
        )


class QueueBroken(TrioJobsError):
    """A part of the queue itself has died; `__cause__` is why. What was accepted is in `queue.report`."""


class IllegalTransition(QueueBroken):
    """An event met a job in a state in which the table has no cell for it. That is a bug of ours."""
