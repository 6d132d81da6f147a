"""One attempt while it is running, the slot that holds it, and the classification of its end.

The hard part is to determine afterwards what ended an attempt. A handler may catch Cancelled, raise another exception
while it is cancelled, raise a Cancelled that belongs to another scope, exceed its deadline behind a shield, or return
at that moment. So nothing is concluded from the exception alone: `RunningAttempt` records which limit or request ended
the attempt first, and `classify` considers that record, the exception, and whether the handler returned.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final, Protocol

import msgspec
import outcome
import trio

from trio_jobs._call_report import CallReport, Renew, report_error
from trio_jobs._concurrency import NEVER
from trio_jobs._engine.decide import AttemptResult
from trio_jobs._engine.handlers import Handler
from trio_jobs._engine.jobs import EndedBy, ErrorInfo, Job, JobRecord, Outcome, escape
from trio_jobs._engine.struct_writes import plain_writes
from trio_jobs._exception_tree import holding
from trio_jobs._ports import Clock, Discard
from trio_jobs._runtime.waits import seconds_to_deadline
from trio_jobs._sdk_call import NO_SDK

__all__ = ["AttemptSlot", "RunningAttempt", "call_unprotected", "captured", "classify", "log_fields"]

_COMPLETED: Final = Outcome.COMPLETED
_BY_LIMIT: Final = {
    EndedBy.ATTEMPT_TIMEOUT: Outcome.TIMED_OUT,
    EndedBy.DEADLINE: Outcome.EXPIRED,
    EndedBy.CANCEL: Outcome.CANCELLED,
    EndedBy.STOP: Outcome.STOPPED,
}


#: Seconds for the commit of a step while the queue stops: a disk that works needs some milliseconds
STEP_GRACE: Final = 0.5

_NOT_RUN: Final = (
    "the handler returned {}, which has not run; declare it with async def and await what it calls, or return the "
    "result of the work"
)

JITTER: Final = 0.001  #: seconds by which two clocks may differ only because they are read one after the other


class Cancellable(Protocol):
    """What can be ended from another task."""

    def cancel(self) -> None:
        """End it. Does nothing if it has ended."""


@plain_writes
class RunningAttempt(msgspec.Struct, eq=False):
    """A running attempt or verification."""

    record: JobRecord
    handler: Handler
    started_elapsed: float = 0.0
    """When its start was recorded, on the clock of elapsed time."""
    scope: trio.CancelScope | None = None
    """Limits the handler: by attempt_timeout, by an operator's cancel and by the stop of the queue. None while no
    handler is running: the scope of an attempt without a limit is also that of the next one."""
    has_own_scope: bool = False
    """Whether `scope` is of this attempt alone, since a limit can end it."""
    deadline_scope: trio.CancelScope | None = None
    """Limits the handler by the job's deadline; None without one."""
    limit_at: float = NEVER
    """When the attempt is overdue, on Trio's clock. See `adjust_limits`."""
    limit: EndedBy = EndedBy.ATTEMPT_TIMEOUT
    """The limit that ends at `limit_at`."""
    limit_passed: bool = False
    """The limit has passed. A call reads it in the thread of the SDK, where no cancel scope can be asked."""
    ends_at: float = NEVER
    """When the limit in seconds is over, on the clock of elapsed time."""
    ends_after: float = NEVER
    """The limit in seconds."""
    limited_scope: trio.CancelScope | None = None
    """The scope that the limit in seconds ends; None for a call that cannot be cancelled."""
    follows_deadline: bool = False
    """The deadline of the job limits what is running."""
    entered: bool = False
    """A call into the SDK has begun."""
    why: EndedBy | None = None
    """What requested the end of the attempt before a limit was reached; None if nothing did."""
    discard: Discard | None = None
    """Why the session cannot be used after the attempt; None if it can."""
    was_raised_by_call: Callable[[BaseException], bool] = lambda error: False
    """Whether the last call of the SDK handle of this attempt raised this exception."""
    stop_scope: Cancellable | None = None
    """Limits what precedes and follows the handler (the wait for a commit, the delay of a verify, the verify itself).
    Only the stop of the queue cancels it: after an operator's cancel, verify must still resolve the doubt."""
    stopped: bool = False
    """The queue is stopping."""
    misused_queue: bool = False
    """It raised an error of this package that only a change of the program can prevent."""
    abandoned: bool = False
    """The stop no longer waits for its call."""
    slot: AttemptSlot | None = None
    """Where it runs; None before it is there."""
    verifies: bool = False
    """What runs is verify, which an operator's cancel does not end."""
    interrupted_call: int | None = None
    """The number of the last call that was to be interrupted; None if none was."""
    was_interrupted: bool = False
    """A call was interrupted, so that what it raised is no error of its own."""
    sdk: Any = NO_SDK
    """Where the SDK lives: the SDK that the call of the handler has, so that its steps can be saved. See `bind_sdk`."""
    handle: Any = None
    """The SDK handle of an asynchronous handler; None for other calls."""
    group: tuple[JobRecord, ...] = ()
    """If this is not an attempt but a save: the jobs whose work is saved, of which `record` is the first."""
    on_end_requested: Callable[[], None] | None = None
    """Called when the attempt should end, for a call in another process, which cannot read `should_end`."""
    commit_scope: trio.CancelScope | None = None
    """Limits the wait for the commit of a step, in which a thread cannot be cancelled; None if there is none."""

    @property
    def recorder(self) -> Any:
        """Records the steps and the progress of the attempt, which is in the slot."""
        assert self.slot is not None
        return self.slot.recorder

    @property
    def stuck_after(self) -> float:
        """Seconds after the limit until the call is stuck."""
        return self.ends_after if self.group else self.handler.stuck_after

    def __str__(self) -> str:
        record = self.record
        if self.group:
            return f"the save of {len(self.group)} jobs (the first is {record.id})"
        return f"job {record.id} ({record.kind})"

    def bind_sdk(self, sdk: Any) -> Callable[[], None]:
        """Give the call of the handler the SDK. Returns the function that takes it back, when the call has returned."""

        def unbind() -> None:
            self.sdk = NO_SDK

        self.sdk = sdk
        return unbind

    @property
    def should_end(self) -> bool:
        """Whether the attempt should end: it was cancelled, or one of its limits or the stop ends it."""
        return self.record.cancel_requested or self.why is not None or self.limit_passed

    def request_end(self) -> None:
        """The attempt should end: notify a call in another process."""
        if self.on_end_requested is not None:
            self.on_end_requested()

    def new_commit_scope(self) -> trio.CancelScope:
        """Make a new `commit_scope`."""
        self.commit_scope = trio.CancelScope(deadline=trio.current_time() + STEP_GRACE if self.stopped else NEVER)
        return self.commit_scope

    def new_stop_scope(self, timeout: float = NEVER) -> trio.CancelScope:
        """Make a new `stop_scope` that ends after `timeout` seconds. A cancel scope can be entered only once."""
        scope = self.stop_scope = trio.CancelScope(deadline=trio.current_time() + timeout)
        if self.stopped:
            scope.cancel()
        return scope

    def limit_in_seconds(self, clock: Clock, seconds: float, scope: trio.CancelScope | None) -> None:
        """Limit what starts now to so many seconds, after which `scope` is cancelled."""
        self.limit, self.limit_at = EndedBy.ATTEMPT_TIMEOUT, clock.monotonic() + seconds
        self.ends_at = clock.elapsed() + seconds
        self.ends_after = seconds
        self.limited_scope = scope
        if scope is not None:
            scope.deadline = self.limit_at

    def limit_by_deadline(self, clock: Clock) -> None:
        """Limit the handler by the deadline of its job too."""
        deadline = clock.monotonic() + max(seconds_to_deadline(self.record, clock), 0.0)
        self.deadline_scope = trio.CancelScope(deadline=deadline)
        self.follows_deadline = True
        if deadline < self.limit_at:
            self.limit, self.limit_at = EndedBy.DEADLINE, deadline

    def adjust_limits(self, clock: Clock) -> None:
        """Compute again when the limits end on Trio's clock, until one of them has passed.

        Trio's clock may have stopped during a suspend, and the wall clock may have been set.
        """
        now = clock.monotonic()
        if now >= self.limit_at or self.ended_by() is not None:
            return
        limit, limit_at = EndedBy.ATTEMPT_TIMEOUT, NEVER
        if self.ends_at != NEVER:
            limit_at = now + self.ends_at - clock.elapsed()
            _move(self.limited_scope, limit_at)
        if self.follows_deadline:
            deadline = now + seconds_to_deadline(self.record, clock)
            _move(self.deadline_scope, deadline)
            if deadline < limit_at:
                limit, limit_at = EndedBy.DEADLINE, deadline
        if abs(limit_at - self.limit_at) > JITTER:
            self.limit, self.limit_at = limit, limit_at

    def clear_limits(self) -> None:
        """What was limited has ended."""
        self.limit_at = self.ends_at = NEVER
        self.limited_scope = None
        self.follows_deadline = False

    def cancel(self, why: EndedBy) -> None:
        """End the attempt, unless it is being ended already. A save is not ended: it has a limit of its own."""
        if self.group:
            return
        if why is EndedBy.STOP:
            self.stopped = True
            if self.stop_scope is not None:
                self.stop_scope.cancel()
            if self.commit_scope is not None:
                self.commit_scope.deadline = trio.current_time() + STEP_GRACE
        if self.ended_by() is None:
            self.why = why
            if self.scope is not None:
                self.scope.cancel()
        self.request_end()
        interrupts = None if self.slot is None else self.slot.interrupts
        if interrupts is not None and (why is EndedBy.STOP or not self.verifies):
            interrupts(self)

    def ended_by(self) -> EndedBy | None:
        """Return what has ended the attempt, or is ending it; None if nothing has."""
        if self.why is not None:
            return self.why
        scope, deadline_scope = self.scope, self.deadline_scope
        inner = scope is not None and scope.cancel_called
        outer = deadline_scope is not None and deadline_scope.cancel_called
        if scope is not None and deadline_scope is not None and inner and outer:
            outer = deadline_scope.deadline <= scope.deadline
        if outer:
            return EndedBy.DEADLINE
        return EndedBy.ATTEMPT_TIMEOUT if inner else None


def _move(scope: trio.CancelScope | None, deadline: float) -> None:
    if scope is not None and abs(scope.deadline - deadline) > JITTER:
        scope.deadline = deadline


class AttemptSlot:
    """Holds the running attempt or verification. There is never a second one (P1)."""

    def __init__(self) -> None:
        self.current: RunningAttempt | None = None
        self.interrupts: Callable[[RunningAttempt], None] | None = None
        """Interrupts the call of an attempt that an operator's cancel or the stop of the queue ends."""
        self.recorder: Any = None
        """Records the steps and the progress of attempts."""
        self._emptied: trio.Event | None = None

    def __repr__(self) -> str:
        return f"<AttemptSlot {'empty' if self.current is None else self.current.record.id}>"

    def fill(self, running: RunningAttempt) -> RunningAttempt:
        assert self.current is None
        self.current = running
        running.slot = self
        return running

    def empty(self) -> None:
        self.current = None
        if self._emptied is not None:
            self._emptied.set()

    def attempt_of(self, record: JobRecord) -> RunningAttempt | None:
        """Return the running attempt if it belongs to this job, otherwise None."""
        current = self.current
        return current if current is not None and current.record is record and not current.group else None

    async def wait_empty(self) -> None:
        """Return when no attempt and no verification is running.

        Cancelled:
            Nothing has changed.
        """
        await trio.lowlevel.checkpoint()
        while self.current is not None:
            self._emptied = trio.Event()
            await self._emptied.wait()


def captured(error: BaseException) -> outcome.Error:
    """Return what a function of the user has raised. Called in the except clause, within the scopes of the attempt.

    Cancelled propagates, alone or in a group, so that its scope catches it. No other exception passes a cancel scope
    of the queue: Trio reads its class and splits groups, which a class of the user's own can make raise.
    """
    passing = holding(error, trio.Cancelled)
    if passing is error:
        raise error
    if passing is not None:
        raise passing from None
    return outcome.Error(error)


@trio.lowlevel.disable_ki_protection
async def call_unprotected(fn: Callable[..., Awaitable[Any]], *args: Any) -> Any:
    """Await a user's function. Ctrl-C can interrupt it, although the consumer that awaits it is protected."""
    return await fn(*args)


def classify(
    running: RunningAttempt,
    ended: CallReport | outcome.Error | None,
    late: bool,
    renew: Renew,
    *,
    inside: bool = False,
    stopping: bool = False,
) -> tuple[AttemptResult, BaseException | None]:
    """Classify the end of an attempt.

    Args:
        running: The attempt.
        ended: The report of what the handler returned or raised; or what was raised in Trio's thread; None if a scope
            of the attempt caught the Cancelled that ended it.
        late: The handler ended after its limit.
        renew: `renew_after_error` of the service.
        inside: A call is inside the SDK.
        stopping: The queue starts no further attempt.

    Returns:
        The attempt's result, and the exception that must propagate out of the consumer (Ctrl-C, or a Cancelled of a
        scope around it), if there is one.

    Sets `running.misused_queue`, and `running.discard`: the session is dirty if the attempt entered the SDK and neither
    returned nor raised a directive, which vouches that nothing is half done.
    """
    entered = running.entered
    if isinstance(ended, CallReport) and ended.error is None and ended.not_run is None:
        return AttemptResult(_COMPLETED, ended.result, ended.problem, entered=entered, late=late), None
    ended_by = running.ended_by()
    if ended is None:
        assert ended_by is not None
        if entered and running.handler.takes_sdk and renew is not False:
            running.discard = Discard(ended_by)
        return AttemptResult(_BY_LIMIT[ended_by], ended_by=ended_by, entered=entered, late=late), None
    raised = ended.error if isinstance(ended, outcome.Error) else None
    report = ended if isinstance(ended, CallReport) else report_error(ended.error, running.handler.rules.retry, renew)
    error = report.error
    if error is None:
        error_info = ErrorInfo("InvalidHandler", _NOT_RUN.format(report.not_run))
        return AttemptResult(Outcome.ERROR, error=error_info, has_run=False, entered=entered, late=late), None
    info = error.info
    if error.directive is not None:
        kept = None if error.directive is Outcome.SNOOZE else info
        return AttemptResult(error.directive, error=kept, wait=error.wait, entered=entered, late=late), None
    if error.lost or (entered and running.handler.takes_sdk and error.renews):
        own = raised is None or running.was_raised_by_call(raised)
        running.discard = Discard(info.type, by_last_call=own, next_opening="lost" if error.lost else "error")
    if error.killed or error.died:
        if entered:
            running.discard = Discard(info.type, next_opening="killed")
        if error.died:
            return AttemptResult(Outcome.DIED, error=info, entered=entered, late=late), None
        outcome_ = Outcome.KILLED if ended_by is None or ended_by is EndedBy.ATTEMPT_TIMEOUT else _BY_LIMIT[ended_by]
        return AttemptResult(outcome_, error=info, ended_by=ended_by, entered=entered, late=late), None
    running.misused_queue = error.misuse
    if error.stuck and (inside or running.abandoned):  # else it is that of another queue
        return AttemptResult(Outcome.INSIDE, error=info, ended_by=EndedBy.STOP, entered=True), None
    if error.by_signal:
        passing = KeyboardInterrupt() if raised is None else raised
        return AttemptResult(Outcome.STOPPED, error=info, ended_by=EndedBy.STOP, entered=entered), passing
    if error.cancelled and trio.current_effective_deadline() == -NEVER:
        return AttemptResult(Outcome.STOPPED, ended_by=EndedBy.STOP, entered=entered), raised
    if error.queue_closed and stopping:  # the stop refused what the handler asked of the queue, such as a submit
        return AttemptResult(Outcome.STOPPED, error=info, ended_by=EndedBy.STOP, entered=entered, late=late), None
    if ended_by is not None and (running.handler.is_async or error.refused or running.was_interrupted):
        # after the cancellation its cleanup raised, or its next call or step was refused, or its call was interrupted:
        # the limit ended the attempt
        kept = None if error.refused else info
        return AttemptResult(_BY_LIMIT[ended_by], error=kept, ended_by=ended_by, entered=entered, late=late), None
    return AttemptResult(Outcome.ERROR, error=info, retryable=error.retryable, entered=entered, late=late), None


def log_fields(record: JobRecord | Job) -> dict[str, object]:
    """The fields of a log record about a job, for structured formatters (docs/logging.md). They contain no payload."""
    return {
        "job_id": record.id,
        "kind": record.kind,
        "key": None if record.key is None else escape(record.key),
        "attempt": record.attempt_count,
        "reason": record.reason,
    }
