"""All exceptions, grouped by their cause.

- The caller: `UsageError` and its subclasses; also those in `_lookup_errors`. `InvalidJournalPath` is a `StoreError`
  too.
- The limits and the stop of the queue: `QueueFull`, `QueueClosed`.
- The end of a job, raised where its result is awaited: `JobFailed`, `JobCancelled`, `JobInDoubt`, `ResultUnavailable`.
- The SDK: `SdkOpenFailed`, `SdkCallStuck`, `SdkCallRefused`, `SessionDiscarded`.
- The store: `StoreError` and its subclasses, `OutcomeUnknown`.
- The network: `ConnectionFailed`, `TooManyRequests`; also `OutcomeUnknown`.
- A bug of this package: `QueueBroken`.

What a handler raises to decide about its own job is in `_engine.directives` and does not share the base class.
"""

from __future__ import annotations

from typing import Any, Final

__all__ = [
    "ConnectionFailed",
    "Copyable",
    "IllegalTransition",
    "InvalidHandler",
    "InvalidJournalPath",
    "InvalidPayload",
    "InvalidState",
    "JobCancelled",
    "JobFailed",
    "JobInDoubt",
    "JobMayHaveActed",
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
    "SessionDiscarded",
    "StoreError",
    "TooManyRequests",
    "TrioJobsError",
    "UnhandledJobs",
    "UnknownKind",
    "UsageError",
]


class Copyable(Exception):
    """An exception that `pickle` and `copy` reproduce with its message and its attributes.

    By default Python calls the class with the message, which fails where the class takes other arguments.
    """

    def __reduce__(self) -> tuple[Any, ...]:
        return _restore, (type(self), self.args, self.__dict__)


def _restore(class_: type[Copyable], args: tuple[Any, ...], attributes: dict[str, Any]) -> Copyable:
    error = class_.__new__(class_, *args)
    error.args = args
    error.__dict__.update(attributes)
    return error


class TrioJobsError(Copyable):
    """The base class of every error of this package."""


class UsageError(TrioJobsError):
    """The call, its arguments or the state of the queue do not allow the operation. Nothing was changed."""

    index: int | None = None
    """Which of the jobs of `submit_many` is refused, from 0; None if no single one is, and for other calls."""


class InvalidHandler(UsageError):
    """A function cannot be a handler as it is declared. Raised by `Service.handler`."""


class UnknownKind(UsageError):
    """No handler is registered for the kind of the job."""

    kind: Final[str]
    """The requested kind."""

    known: Final[tuple[str, ...]]
    """The registered kinds, sorted."""

    def __init__(self, kind: str, known: tuple[str, ...]) -> None:
        self.kind = kind
        self.known = known
        registered = ", ".join(known) if known else "none"
        super().__init__(f"no handler is registered for kind {kind!r} (registered: {registered})")


class UnhandledJobs(UsageError):
    """The store has open jobs that no handler can process: their kind is not registered, or their payload does not fit.
    Register handlers for them, or leave the jobs as they are with `unhandled_jobs="hold"`."""

    kinds: Final[dict[str, int]]
    """The number of such jobs, by kind."""

    def __init__(self, kinds: dict[str, int], why: str) -> None:
        self.kinds = kinds
        super().__init__(
            f"the store has open jobs that no handler can process: {why}; register handlers for them, "
            "or leave them as they are with Service(unhandled_jobs='hold')"
        )


class InvalidPayload(UsageError):
    """The payload does not fit the handler's type. The message names the field."""

    kind: Final[str]
    """The kind of the job."""

    why: Final[str]
    """What is wrong with the payload."""

    def __init__(self, kind: str, why: str) -> None:
        self.kind = kind
        self.why = why
        super().__init__(f"payload for {kind!r} refused: {why}")


class KeyConflict(UsageError):
    """The key belongs to a job with another payload. Use another key, or submit the same payload. The message says
    whether the job can be corrected."""

    kind: Final[str]
    """The kind of the job."""

    key: Final[str]
    """The key that was submitted."""

    job_id: Final[str]
    """The job to which the key belongs."""

    why: Final[str]
    """Whether the job can be corrected; empty if that is not known."""

    def __init__(self, kind: str, key: str, job_id: str, why: str = "") -> None:
        self.kind = kind
        self.key = key
        self.job_id = job_id
        self.why = why
        more = f"; {why}" if why else ""
        super().__init__(f"key {key!r} of {kind!r} already belongs to job {job_id}, which has another payload{more}")


class InvalidState(UsageError):
    """The state of the job does not allow the operation."""

    job_id: Final[str]
    """The job."""

    state: Final[str]
    """The state of the job."""

    def __init__(self, job_id: str, state: str, why: str) -> None:
        self.job_id = job_id
        self.state = state
        super().__init__(f"job {job_id} is {state}: {why}")


class JobMayHaveActed(InvalidState):
    """A retry was refused: the job may have done its work, and its handler has no `verify` that finds that out."""


class QueueFull(TrioJobsError):
    """No slot is free. The job was not accepted; submit it again after `retry_after` seconds."""

    capacity: Final[int]
    """The number of slots."""

    waiting: Final[int]
    """How many callers already wait for a slot."""

    retry_after: Final[float]
    """An estimate of when a slot will be free, in seconds; at least 0.1."""

    def __init__(self, capacity: int, waiting: int, retry_after: float) -> None:
        self.capacity = capacity
        self.waiting = waiting
        self.retry_after = retry_after
        super().__init__(
            f"all {capacity} places are taken and {waiting} callers wait; try again in about {retry_after:.1f} s"
        )


class QueueClosed(TrioJobsError):
    """The queue accepts no new jobs (it drains, or has stopped), or it stopped before the job was final."""


class JobFailed(TrioJobsError):
    """The job has failed."""

    job_id: Final[str]
    """The job."""

    reason: Final[str]
    """Why it failed, as one word: "error", "timed_out", "expired", "poison" or another of `Job.reason`."""

    error: Final[str]
    """The last error as "Type: message"; empty if there was none."""

    may_have_acted: Final[bool]
    """Whether an attempt entered the SDK and its effect is not known."""

    def __init__(self, job_id: str, reason: str, error: str, may_have_acted: bool) -> None:
        self.job_id = job_id
        self.reason = reason
        self.error = error
        self.may_have_acted = may_have_acted
        acted = "; it may have acted" if may_have_acted else ""
        super().__init__(
            f"job {job_id} failed ({reason}): {error}{acted}" if error else f"job {job_id} failed: {reason}{acted}"
        )


class JobCancelled(TrioJobsError):
    """The job was cancelled."""

    job_id: Final[str]
    """The job."""

    reason: Final[str]
    """Why it was cancelled: "cancelled" by an operator, or the message of the handler's `Cancel`."""

    def __init__(self, job_id: str, reason: str) -> None:
        self.job_id = job_id
        self.reason = reason
        super().__init__(f"job {job_id} was cancelled: {reason}" if reason else f"job {job_id} was cancelled")


class JobInDoubt(TrioJobsError):
    """It is not known whether the job's work was done. Raised only with `in_doubt="raise"`.

    Find out what the SDK has done, then call `resolve`.
    """

    job_id: Final[str]
    """The job."""

    reason: Final[str]
    """Why it is in doubt, as one word: "error", "timed_out", "crashed" or another of `Job.reason`."""

    def __init__(self, job_id: str, reason: str) -> None:
        self.job_id = job_id
        self.reason = reason
        super().__init__(f"job {job_id} is in doubt ({reason}): it is not known what its attempt did; resolve it")


class ResultUnavailable(TrioJobsError):
    """The job is completed, but its result was not kept: it was too large, or not JSON. The work itself is done."""

    job_id: Final[str]
    """The job."""

    def __init__(self, job_id: str, why: str) -> None:
        self.job_id = job_id
        super().__init__(f"job {job_id} completed, its result was not kept: {why}")


class SdkOpenFailed(TrioJobsError):
    """The SDK could not be opened, so no job was started. `__cause__` is the SDK's last error, if there was one."""


class SdkCallStuck(TrioJobsError):
    """An SDK call did not return within its limits, and the queue has stopped because of `on_stuck="stop"`."""


class SessionDiscarded(TrioJobsError):
    """Thrown into the context manager of a session that is discarded because of a timeout, a cancel or a stop, or of an
    exception from outside of the SDK's thread. The message says which."""


class SdkCallRefused(TrioJobsError):
    """The attempt to which the SDK handle belongs is over, or about to be: the handle accepts no more calls."""


class StoreError(TrioJobsError):
    """The store has failed. The operation was not performed."""


class InvalidJournalPath(UsageError, StoreError):
    """The path cannot be that of a journal. Nothing was changed."""

    path: Final[str]
    """The path given, or its `repr` if it is not text."""

    def __init__(self, path: str, why: str) -> None:
        self.path = path
        super().__init__(f"{path} cannot be a journal: {why}")


class JournalInUse(StoreError):
    """Another queue has the journal open. Stop it first; a journal has one queue at a time."""

    path: Final[str]
    """The journal's file."""

    pid: Final[int | None]
    """The process that has it open; None if that could not be read."""

    since: Final[str | None]
    """When that process opened it (UTC, ISO 8601); None if that could not be read."""

    def __init__(self, path: str, pid: int | None, since: str | None) -> None:
        self.path = path
        self.pid = pid
        self.since = since
        holder = f"process {pid}, since {since}" if pid is not None else "another process"
        super().__init__(f"journal {path} is in use by {holder}")


class JournalDamaged(StoreError):
    """The journal's content is wrong or incomplete. Nothing was changed.

    Restore the right file, or open with `allow_data_loss=True` to continue with what can still be read.
    """

    path: Final[str]
    """The journal's file."""

    found: Final[str]
    """What is wrong with it."""

    def __init__(self, path: str, found: str) -> None:
        self.path = path
        self.found = found
        super().__init__(f"journal {path} is refused: {found} (allow_data_loss=True continues with what can be read)")


class OutcomeUnknown(TrioJobsError):
    """The store or the server did not answer in time: the operation may or may not have happened. Submit again with the
    same key: the key finds the job if there is one."""


class ConnectionFailed(TrioJobsError):
    """There is no connection to the server. The request was not done.

    If the connection was lost after a request had been sent that cannot be repeated, `OutcomeUnknown` is raised.
    """


class TooManyRequests(TrioJobsError):
    """The server has refused the request because of a limit of the connection. It was not done.

    A client keeps within the limits that the server announces, and repeats what is refused nevertheless. It raises this
    for one subscription too many, and for a request that is still refused after 30 seconds.
    """

    limit: Final[str]
    """The limit: "rate", "in_flight", "subscriptions" or "followed_jobs"."""

    retry_after: Final[float | None]
    """After how many seconds the request would pass; None if that depends on the end of other requests."""

    def __init__(self, why: str, limit: str, retry_after: float | None = None) -> None:
        self.limit = limit
        self.retry_after = retry_after
        super().__init__(why if retry_after is None else f"{why}; try again in {retry_after:.1f} s")


class PermissionDenied(UsageError):
    """The token is not valid, or does not allow the operation."""


class Lagged(TrioJobsError):
    """The events between `after` and `oldest` are not retained; a stream can continue from `oldest`, with a gap."""

    def __init__(self, after: int, oldest: int) -> None:
        self.after: Final = after
        self.oldest: Final = oldest
        super().__init__(
            f"events {after + 1} to {oldest - 1} are not retained any more; "
            f"read the jobs again, then continue after {oldest - 1}"
        )


class QueueBroken(TrioJobsError):
    """A part of the queue has failed, which is a bug of this package; `__cause__` is the error.

    `queue.report` names the unfinished jobs.
    """


class IllegalTransition(QueueBroken):
    """The table of transitions has no cell for an event in the state of its job, which is a bug of this package."""
