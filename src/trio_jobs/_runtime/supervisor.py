"""The supervisor: starts and stops a queue. However the owner's block ends, the stop runs to its end.

Three rules ensure this. The loops run behind shields, so that a cancellation from outside only cancels the owner's
block, and the stop ends the loops in order. If a loop raises, its error is kept and the block is cancelled. No task
raises through the nursery, so that the exception of the block propagates without a group.

The stop has these steps, each with its time limit:

1. Submits are refused, and jobs are finished (drain_timeout). Only this step is shortened by a cancellation. With a
   journal only the running attempt is finished.
2. The running attempt is cancelled (cancel_timeout), and abandoned if its call does not return.
3. What the session holds in memory is saved, if nothing went wrong in it (save_timeout).
4. The SDK is closed (close_timeout).
5. The loops are cancelled, the last events are committed, and the report is made.
6. The store is closed. Both together have commit_timeout; a store whose commits fail has 5 seconds.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Any, Final

import trio

from trio_jobs._concurrency import bare_nursery, protected_manager
from trio_jobs._engine.error_info import class_name, describe
from trio_jobs._engine.handlers import Handler
from trio_jobs._engine.jobs import EndedBy
from trio_jobs._errors import OutcomeUnknown, QueueBroken, SdkCallStuck, StoreError, TrioJobsError, UsageError
from trio_jobs._log import Log
from trio_jobs._ports import Clock, SdkExecutor, Store
from trio_jobs._runtime.clock import SystemClock
from trio_jobs._runtime.first_opening import FirstOpening
from trio_jobs._runtime.hook_names import HookName
from trio_jobs._runtime.pumped_executor import PumpedExecutor
from trio_jobs._runtime.queue import Queue
from trio_jobs._runtime.restored_jobs import check_restored_jobs, resume_restored_jobs
from trio_jobs._runtime.runtime import build_runtime
from trio_jobs._runtime.seat_lock import SeatLock
from trio_jobs._runtime.settings import Settings
from trio_jobs._runtime.start_report import log_condition
from trio_jobs._runtime.stop_report import log_report, make_report
from trio_jobs._runtime.stop_task import StopTask
from trio_jobs._runtime.watchdog import Watchdog

__all__ = ["open_queue"]

_FAILING_STORE: Final = 5.0  #: seconds for the last events, if commits fail
_MIN_CLOSE: Final = 1.0  #: seconds at least for a store to close

log: Final = Log("trio_jobs.queue")


@protected_manager
async def open_queue(
    *,
    handlers: dict[str, Handler],
    settings: Settings,
    store: Store,
    make_executor: Callable[[trio.Nursery], SdkExecutor],
    clock: Clock,
    chance: random.Random,
    hooks: Mapping[HookName, Sequence[Callable[[Any], Any]]],
    seat: SeatLock | None = None,
) -> AsyncIterator[Queue]:
    """Open the store and the SDK, start the loops, yield the queue; then stop it.

    Args:
        seat: Keeps other queues out of the SDK; None for none.

    Raises:
        UsageError: It was not called within Trio.
        StoreError: The store cannot be opened, or has failed permanently.
        SdkOpenFailed: The SDK cannot be opened.
        UnhandledJobs: The store has open jobs that no handler can process.
        SdkCallStuck: A call did not return, and `on_stuck` is "stop"; or the caller was cancelled while the SDK was
            being opened, and its opening did not return within `close_timeout`.
        QueueBroken: A part of the queue has raised, which is a bug of this package.

    Cancelled:
        The running attempt is cancelled and the SDK is closed.
    """
    if not trio.lowlevel.in_trio_run():
        raise UsageError("a queue runs in Trio: open it within trio.run(), not in asyncio")
    supervisor: Supervisor | None = None
    try:
        async with bare_nursery() as nursery:
            executor = make_executor(nursery)
            if settings.pump is not None:
                executor = PumpedExecutor(executor, settings.pump, settings.pump_every)
            supervisor = Supervisor(handlers, settings, store, executor, seat, clock, chance, hooks, nursery)
            try:
                await supervisor.open()
                with supervisor.body:
                    yield supervisor.queue
                    await supervisor.finish_work()
            finally:
                supervisor.begin_stop()
                nursery.start_soon(supervisor.stop_task.run)
                await supervisor.stop_task.wait()
    except BaseException as error:
        if supervisor is not None:
            supervisor.raise_failure(error)
        raise
    else:
        supervisor.raise_failure(None)
    finally:
        del supervisor  # no reference cycle through this frame


class Supervisor:
    """Builds a runtime, starts its loops, handles their errors, and stops them."""

    def __init__(
        self,
        handlers: Mapping[str, Handler],
        settings: Settings,
        store: Store,
        executor: SdkExecutor,
        seat: SeatLock | None,
        clock: Clock,
        chance: random.Random,
        hooks: Mapping[HookName, Sequence[Callable[[Any], Any]]],
        nursery: trio.Nursery,
    ) -> None:
        self.body = trio.CancelScope()
        """The scope around the owner's block."""
        self._settings = settings
        self._store = store
        self._executor = executor
        self._clock = clock
        self._nursery = nursery
        self._failure: BaseException | None = None
        self._consumer_scope = trio.CancelScope(shield=True)
        self._pending_scope = trio.CancelScope(shield=True)
        self._loop_scopes: list[trio.CancelScope] = []
        self._attempt_limit = trio.CancelScope()
        """Limits how long the stop waits for the running attempt."""
        self.stop_task = StopTask(self.stop, self._attempt_limit, self.fail)
        self._watchdog: Watchdog | None = None
        self._runtime = build_runtime(
            handlers=handlers,
            settings=settings,
            store=store,
            executor=executor,
            seat=seat,
            clock=clock,
            chance=chance,
            hooks=hooks,
            on_stuck=self._on_stuck,
            fail=self.fail,
        )
        self._first_opening = FirstOpening(self._runtime.sessions, executor, settings.close_timeout)
        self.queue = Queue(self._runtime)

    async def open(self) -> None:
        """Open the store, then the SDK, and start the loops. Raises: as `open_queue`.

        Cancelled:
            The store and the SDK may be open; `stop` closes them.
        """
        runtime = self._runtime
        await runtime.event_log.open(runtime.reactions)
        runtime.activity.restore()
        check_restored_jobs(runtime)
        runtime.feed.seq = runtime.event_log.committed_seq
        await self._first_opening.open(self._nursery)
        with contextlib.suppress(StoreError):  # logged; the pruner tries again
            await runtime.erasure.remove()
        resume_restored_jobs(runtime)
        log_condition(runtime.queries.health())
        if self._settings.watchdog is not None and isinstance(self._clock, SystemClock):
            self._start_watchdog(self._settings.watchdog)
        for loop in (
            runtime.scheduler.run,
            runtime.pruner.run,
            runtime.feed.run,
            runtime.overruns.run,
            runtime.recorder.run,
            runtime.hooks.run,
        ):
            self._start_loop(loop)
        if runtime.interrupter.is_used:
            self._start_loop(runtime.interrupter.run)
        if runtime.pump is not None:
            self._start_loop(runtime.pump.run)
        self._nursery.start_soon(self._run_loop, runtime.consumer.run, self._consumer_scope)
        self._nursery.start_soon(self._run_loop, runtime.admission.pending.run, self._pending_scope)

    def _start_watchdog(self, limit: float) -> None:
        self._watchdog = Watchdog(limit)
        try:
            self._watchdog.start()
        except RuntimeError as error:
            log.warning("the watchdog does not run yet, since its thread cannot start: %s", error)
        self._start_loop(self._watchdog.run)

    def _start_loop(self, loop: Callable[[], Awaitable[None]]) -> None:
        scope = trio.CancelScope(shield=True)
        self._loop_scopes.append(scope)
        self._nursery.start_soon(self._run_loop, loop, scope)

    @trio.lowlevel.enable_ki_protection
    async def _run_loop(self, loop: Callable[[], Awaitable[None]], scope: trio.CancelScope) -> None:
        """Run a loop behind its shield. If it raises, the queue has failed."""
        try:
            with scope:
                await loop()
        except BaseException as error:
            self.fail(error)

    def fail(self, error: BaseException) -> None:
        """A part of the queue has failed: keep the first error, and end the owner's block."""
        if self._failure is None:
            self._failure = error
        self.body.cancel()

    def _on_stuck(self, what: str) -> None:
        if self._settings.on_stuck == "stop":
            self._attempt_limit.cancel()  # nothing can end the call
            self.fail(SdkCallStuck(f"{what} did not return; end the process"))

    async def finish_work(self) -> None:
        """Before a normal stop, finish all jobs in memory, which would be lost; with a journal the running attempt.

        Cancelled:
            The work is not finished. The stop follows.
        """
        runtime = self._runtime
        runtime.admission.close()
        with trio.move_on_after(self._settings.drain_timeout):
            if self._store.durable or not self._settings.drain_timeout:
                runtime.sessions.stop()  # at once: no other job may start
                await runtime.slot.wait_empty()
            else:
                await runtime.operations.drain()

    def begin_stop(self) -> None:
        """Accept and start no more jobs. The stop follows, some turns of the loop later."""
        self._runtime.admission.close()
        self._runtime.sessions.stop()

    async def stop(self) -> None:
        """Stop the queue and make its report. Called once, by `stop_task`.

        Errors are kept as failures of the queue. If this method raised, the loops would continue behind their shields,
        and the nursery would never end.
        """
        runtime = self._runtime
        if (stuck := await self._first_opening.end()) is not None:
            self.fail(stuck)
        try:
            closed, problem = await self._end_attempt_and_close_sdk()
        except BaseException as error:
            closed = not (self._executor.is_open or self._executor.inside)
            problem = f"the stop raised {class_name(error)}"
            self.fail(error)
        deadline = trio.current_time() + self._settings.commit_timeout
        if runtime.hooks.are_used:
            await self._wait_for_store(deadline)
            await runtime.hooks.finish()
        for scope in (self._consumer_scope, *self._loop_scopes):
            scope.cancel()
        await self._wait_for_store(deadline)
        report = make_report(runtime.event_log, closed, problem)
        runtime.status.report = report
        runtime.waiters.wake_all()
        runtime.requests.close()
        runtime.feed.close()
        try:
            # a store that could not commit commits nothing more: the report would be wrong
            end = trio.current_time() if report.unstored_events else max(deadline, trio.current_time() + _MIN_CLOSE)
            with trio.CancelScope(deadline=end) as scope:
                await runtime.event_log.aclose()
            if scope.cancelled_caught and not report.unstored_events:
                log.error("the store did not close within %g s", self._settings.commit_timeout)
        except BaseException as error:
            self.fail(error)
        runtime.admission.pending.end()
        self._pending_scope.cancel()
        log_report(report, runtime.event_log, self._settings.commit_timeout)
        if self._watchdog is not None:
            self._watchdog.stop()

    async def _end_attempt_and_close_sdk(self) -> tuple[bool, str | None]:
        """End the attempt and close the SDK, also if the store refuses an event of it. Returns: as `close_sdk`."""
        sessions = self._runtime.sessions
        try:
            await self._end_attempt_and_save()
        except BaseException as error:
            self.fail(error)
        try:
            closed, problem = await sessions.close_sdk()
        except BaseException as error:
            self.fail(error)
            closed, problem = await sessions.close_sdk()  # what was refused is not appended again
        if closed:
            await self._executor.stop()
            sessions.opener.leave_seat()
            problem = sessions.work.problem  # also of a session that was closed before
        return closed, problem

    async def _end_attempt_and_save(self) -> None:
        try:
            await self._end_attempt()
        finally:
            self._consumer_scope.cancel()
        if not self._executor.inside:  # an asynchronous `alive` that was cancelled has not returned yet (P1)
            await self._runtime.sessions.wait_settled()
        if self._runtime.saver is not None:
            await self._runtime.saver.save_at_stop(self._settings.save_timeout)

    async def _end_attempt(self) -> None:
        slot = self._runtime.slot
        if slot.current is not None:
            slot.current.cancel(EndedBy.STOP)
        settled = await self._wait_settled()
        self._attempt_limit.deadline = trio.current_time() + self._settings.cancel_timeout
        with self._attempt_limit:
            await slot.wait_empty()
        current = slot.current
        if current is not None and current.group:  # the save that follows the attempt has a limit of its own
            with trio.move_on_after(current.ends_after):
                await slot.wait_empty()
        # the attempt may have left a session that is being discarded; its close has `close_timeout`, however long the
        # attempt took
        settled = settled and await self._wait_settled()
        if slot.current is not None:
            if self._executor.inside:
                slot.current.abandoned = True
                self._executor.abandon()
            # a Trio handler behind a shield cannot be abandoned, since the nursery waits for it too; and its session
            # cannot be closed while it runs (P1)
            await slot.wait_empty()
            if settled:
                await self._wait_settled()

    async def _wait_settled(self) -> bool:
        """Wait until no session is being opened or closed. Returns whether that is so.

        An opening gets `close_timeout`, although it could take longer: to abandon it could leave the SDK running, but a
        supervisor of the process does not wait for ever. A close has the same limit.
        """
        with trio.move_on_after(self._settings.close_timeout) as limit:
            await self._runtime.sessions.wait_settled()
        return not limit.cancelled_caught

    async def _wait_for_store(self, deadline: float) -> None:
        """Wait for the last commits, so that their callers get the results before the queue reports its stop."""
        event_log = self._runtime.event_log
        if not event_log.durable:
            return
        with contextlib.suppress(OutcomeUnknown), trio.CancelScope(deadline=deadline):
            with trio.move_on_after(_FAILING_STORE) as patience:
                await event_log.committed(event_log.projection.seq)
            if patience.cancelled_caught and not event_log.is_failing:  # a slow disk may still answer
                await event_log.committed(event_log.projection.seq)

    def raise_failure(self, raised: BaseException | None) -> None:
        """Raise the failure of the queue, as an exception of this package. Returns if the queue has not failed.

        Args:
            raised: The exception of the owner's block; None without one.
        """
        failure = self._failure
        if failure is None:
            return
        if not isinstance(failure, TrioJobsError) and isinstance(failure, Exception):
            raise QueueBroken(f"a part of the queue has failed: {describe(failure)}") from failure
        if raised is None:
            raise failure
        raise failure from raised
