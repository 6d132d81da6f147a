"""Saves: what makes the work of returned handlers durable, for an SDK that keeps work in memory until a save.

The attempts that have returned since the last save are a *group*. A save is a call into the SDK like any other: one at
a time, in the slot of the attempts, with a limit. When it has returned, all jobs of the group are completed in one
append, so that no crash can separate them.

A group belongs to its session. A session in which anything went wrong is never saved, since the half of some work may
be in it. So when a session ends before a save, `session_ends` decides about the jobs of its group, whoever ended it and
why. After a save that raised, the next groups have one job each until the jobs of the failed group are final: the job
that cannot be saved is then alone, and no other pays for it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Final, Protocol

import attrs
import outcome
import trio

from trio_jobs._call_report import CallReport
from trio_jobs._concurrency import NEVER, bare_nursery
from trio_jobs._engine import decide
from trio_jobs._engine import events as ev
from trio_jobs._engine.event_writer import AttemptResult
from trio_jobs._engine.jobs import FINAL, ErrorInfo, JobRecord, Outcome
from trio_jobs._engine.saving import Unsaved
from trio_jobs._errors import SdkCallRefused
from trio_jobs._log import Log
from trio_jobs._ports import Discard
from trio_jobs._runtime.attempt import RunningAttempt
from trio_jobs._runtime.call_parts import CallParts
from trio_jobs._runtime.job_channel import JobChannel
from trio_jobs._runtime.shared_state import Estimates, QueueStatus
from trio_jobs._runtime.verification import Verification, can_verify
from trio_jobs._runtime.waits import LOOK_EVERY, sleep_until
from trio_jobs._sdk_call import SaveCall

__all__ = ["SaveReport", "Saver"]

log: Final = Log("trio_jobs.consumer")

#: Outcomes of attempts that have left nothing half done
_VOUCHED: Final = (
    Outcome.FAIL, Outcome.CANCEL, Outcome.SNOOZE, Outcome.RETRY_AFTER, Outcome.ALREADY_DONE, Outcome.UNVERIFIED,
)  # fmt: skip


@attrs.frozen
class SaveReport:
    """What a save came to."""

    problem: str | None = None
    """Why the work is not saved, or may not be, in words; None if it is saved."""

    error: ErrorInfo | None = None
    """What the save raised; None if it raised nothing."""

    retryable: frozenset[str] = frozenset()
    """The kinds whose retry policy retries that error."""

    interrupted: bool = False
    """The save did not return."""

    discard: Discard | None = None
    """Why the session cannot be used any more; None if it can."""

    passing: BaseException | None = None
    """What must propagate out of the consumer; None if nothing must."""


class Calls(Protocol):
    """Calls `save`. `SaveCalls` conforms."""

    def new(self) -> SaveCall: ...

    async def make(self, running: RunningAttempt) -> SaveReport: ...

    def describe(self, report: CallReport, raised: BaseException | None = None, *, in_step: bool) -> SaveReport: ...


class Saver:
    """Saves the work of attempts that have returned, and decides about work that is not saved.

    Args:
        calls: Calls `save`.
        save_after_jobs: A group of this size is saved.
        save_after: Seconds from the first return of a group until it is saved.
        min_interval: The least time between two saves in seconds.
    """

    def __init__(
        self,
        parts: CallParts,
        *,
        channel: JobChannel,
        verification: Verification,
        estimates: Estimates,
        status: QueueStatus,
        calls: Calls,
        save_after_jobs: int,
        save_after: float,
        min_interval: float,
    ) -> None:
        self._event_log = parts.event_log
        self._executor = parts.executor
        self._clock = parts.clock
        self._handlers = parts.handlers
        self._sessions = parts.sessions
        self._slot = parts.slot
        self._channel = channel
        self._verification = verification
        self._estimates = estimates
        self._status = status
        self._calls = calls
        self._save_after_jobs = save_after_jobs
        self._save_after = save_after
        self._min_interval = min_interval
        self._chance = parts.chance
        self._group: list[JobRecord] = []
        self._since = 0.0
        self._failed: list[JobRecord] = []
        self._doubts: deque[JobRecord] = deque()
        self._wait: trio.CancelScope | None = None
        self._last_end = -NEVER
        self._last_failed = False
        self._step_discard: Discard | None = None
        self._unknown: tuple[int, set[str]] = (0, set())

    def __repr__(self) -> str:
        return f"<Saver {len(self._group)} jobs are not saved>"

    # the group

    @property
    def pending(self) -> bool:
        """Whether the session holds work that is not saved."""
        return bool(self._group)

    @property
    def group(self) -> tuple[JobRecord, ...]:
        """The jobs whose work is not saved, in the order in which their handlers returned."""
        return tuple(self._group)

    def attempt_ended(self, record: JobRecord, result: AttemptResult) -> None:
        """An attempt of this job has ended, and its end is recorded; not, if an operator has resolved the job before.

        What it has left in memory is saved all the same.
        """
        discard, self._step_discard = self._step_discard, None
        if discard is not None:
            self._sessions.discard(discard)
        if result.outcome is Outcome.COMPLETED:
            if not self._group:
                self._since = self._clock.elapsed()
            if not any(other is record for other in self._group):  # it was resolved, retried, and has returned again
                self._group.append(record)
        elif result.entered and result.outcome not in _VOUCHED:
            self._failed_here(record)
            self._last_failed = True
            return
        self._last_failed = False

    def _failed_here(self, *records: JobRecord) -> None:
        """What these jobs did in this session is neither known nor, as long as the session lasts, durable."""
        session = self._executor.session
        if self._unknown[0] != session:
            self._unknown = (session, set())
        self._unknown[1].update(record.id for record in records)

    def can_tell(self, job: str) -> bool:
        """See `UnsavedWork.can_tell`."""
        session, jobs = self._unknown
        return session != self._executor.session or job not in jobs

    def is_due(self) -> bool:
        """Whether the group must be saved now."""
        if not self._group:
            return False
        return (
            len(self._group) >= self._size()
            or self._clock.elapsed() >= self._since + self._save_after
            or (self._status.closing and self._channel.used == 0)  # a drain does not wait for `save_after`
        )

    def _size(self) -> int:
        """How many jobs a group has at most. After a failed save it is one, so that the job that cannot be saved is
        alone."""
        self._failed = [record for record in self._failed if record.state not in FINAL]
        return 1 if self._failed else self._save_after_jobs

    def wait_until_due(self) -> trio.CancelScope:
        """Return a scope that is cancelled when the group may be due. It looks at the clock at least once a minute."""
        left = min(max(self._since + self._save_after - self._clock.elapsed(), 0.0), LOOK_EVERY)
        self._wait = trio.CancelScope(deadline=trio.current_time() + left)
        return self._wait

    def hurry(self) -> None:
        """The queue drains: what is not saved is saved as soon as no job waits."""
        if self._wait is not None and self.is_due():
            self._wait.cancel()

    def session_lost(self) -> None:
        """See `UnsavedWork`."""
        if self._wait is not None:
            self._wait.cancel()

    # saves

    async def save_if_due(self) -> None:
        """Save the group if it is due. Raises and Cancelled: as `save`."""
        if not self.is_due():
            return
        if self._sessions.is_clean:
            await self.save()
        elif not (self._executor.is_open or self._executor.inside):  # it was lost
            self.session_ends(None)

    async def end_if_stuck(self) -> None:
        """Decide what becomes of the group if no session is open and a call is inside, whose process does not end."""
        if self._executor.inside and not self._executor.is_open:
            await self._sessions.wait_settled()  # it may be an opening or a close
            if self._group and not self._executor.is_open:
                self.session_ends(None)

    async def save(self) -> None:
        """Save the group. Its jobs are completed when this returns, or it is decided what becomes of them.

        Raises:
            BaseException: What must propagate out of the consumer, such as Ctrl-C during an asynchronous save.

        Cancelled:
            The group was not saved yet; or it is decided what becomes of its jobs, since an asynchronous save was
            cancelled.
        """
        group = self._group
        if not group:
            return
        first = group[0]
        running = self._slot.fill(RunningAttempt(first, self._handlers[first.kind], group=tuple(group)))
        try:
            await sleep_until(self._clock, self._last_end + self._min_interval)
            began = self._clock.elapsed()
            report = await self._calls.make(running)
            self._last_end = self._clock.elapsed()
            self._sessions.call_ended()
            if report.problem is None:
                self._event_log.append(self._saved(group, self._event_log.next_seq))
                self._estimates.add_save(self._last_end - began, len(group))
            else:
                self._not_saved(group, report, report.problem)
        finally:
            self._slot.empty()
        if report.passing is not None:
            raise report.passing

    async def save_at_stop(self, timeout: float) -> None:
        """Save the group, if the last attempt has returned or has vouched for the session. Called without an attempt.

        Args:
            timeout: The limit in seconds, after which a call that has not returned is abandoned.

        Raises:
            BaseException: As `save`.
        """
        if not self._group or not self._sessions.is_clean or self._last_failed:
            return
        ended = trio.Event()
        scope = trio.CancelScope()
        result: outcome.Maybe[None] = outcome.Value(None)

        @trio.lowlevel.enable_ki_protection
        async def save() -> None:
            nonlocal result
            try:
                with scope:
                    await self.save()
            except BaseException as error:
                result = outcome.Error(error)
            ended.set()

        async with bare_nursery() as nursery:
            nursery.start_soon(save)
            with trio.move_on_after(timeout):
                await ended.wait()
            if not ended.is_set():
                if self._executor.inside:
                    self._executor.abandon()
                # an asynchronous save behind a shield is waited for: its session cannot be closed while it runs (P1)
                scope.cancel()
        result.unwrap()

    # saves within the call of a handler, after a step

    def step_call(self) -> SaveCall | None:
        """See `UnsavedWork.step_call`."""
        return self._calls.new()

    async def before_step_save(self) -> None:
        """See `UnsavedWork.before_step_save`.

        Raises:
            SdkCallRefused: An earlier save of this attempt has raised, so the session is not saved any more.
        """
        if self._step_discard is not None:
            raise SdkCallRefused("a save has raised in this session, which is not saved any more; end the attempt")
        await sleep_until(self._clock, self._last_end + self._min_interval)

    def step_saved(self, seq: int) -> Sequence[ev.Event]:
        """See `UnsavedWork.step_saved`."""
        self._last_end = self._clock.elapsed()
        return self._saved(self._group, seq)

    def step_not_saved(self, report: CallReport) -> None:
        """See `UnsavedWork.step_not_saved`."""
        described = self._calls.describe(report, in_step=True)
        self._step_discard = described.discard
        self._not_saved(self._group, attrs.evolve(described, discard=None), described.problem or "")

    def _saved(self, group: list[JobRecord], seq: int) -> tuple[ev.Event, ...]:
        """Return the events of a save that has returned."""
        log.debug("saved %d jobs", len(group))
        self._group = []
        self._sessions.saved(len(group))
        return decide.saved(group, self._executor.session, self._clock.now(), seq)

    def _not_saved(self, group: list[JobRecord], report: SaveReport, problem: str) -> None:
        log.warning("saving %d jobs failed: %s", len(group), problem)
        self._group = []
        if group:
            now, seq = self._clock.now(), self._event_log.next_seq
            first = decide.save_failed(group, self._executor.session, problem, now, seq)
            self._failed_here(*group)
            self._decide(group, lambda record: _why(report, record.kind), first)
        if len(group) > 1:
            self._failed.extend(group)
        if report.discard is not None:
            self._sessions.discard(report.discard)

    def session_ends(self, discard: Discard | None) -> None:
        """The session has ended or is about to be closed; what it has not saved may be lost.

        Args:
            discard: Why the session was discarded; None if it was not.
        """
        group, self._group = self._group, []
        if not group:
            return
        reason = "session_discarded" if discard is not None else "stopped" if self._status.stopping else "session_lost"
        log.warning("the work of %d jobs was not saved before its session ended (%s)", len(group), reason)
        self._decide(group, lambda _: Unsaved(reason))

    def _decide(
        self, group: list[JobRecord], why: Callable[[JobRecord], Unsaved], first: Sequence[ev.Event] = ()
    ) -> None:
        """Append, in one step, what follows for the jobs of the group; verify is called for those in doubt later."""
        clock, seq = self._clock, self._event_log.next_seq
        events: list[ev.Event] = [*first]
        for record in group:
            events += decide.unsaved(
                record,
                why(record),
                self._handlers[record.kind].rules,
                clock.now(),
                self._chance(),
                seq + len(events),
                clock.elapsed(),
            )
        self._event_log.append(events)
        self._doubts.extend(record for record in group if can_verify(record, self._handlers[record.kind]))

    async def resolve_doubts(self) -> None:
        """Call verify for the jobs whose work was not saved, in a new session, as for every job in doubt.

        Raises and Cancelled: as `Verification.resolve_soon`. The jobs that are left are verified at the next start.
        """
        while self._doubts:
            record = self._doubts.popleft()
            await self._verification.resolve_soon(record, self._handlers[record.kind])


def _why(report: SaveReport, kind: str) -> Unsaved:
    if report.interrupted:
        return Unsaved("save_timed_out")
    return Unsaved("save_failed", interrupted=False, error=report.error, retryable=kind in report.retryable)
