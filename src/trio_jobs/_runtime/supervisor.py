"""How a queue starts and stops. Whatever happens to the body of `async with service.open()`, the stop runs whole.

Three things make that so. The loops run behind shields: a cancellation from outside reaches the owner's body alone, and
it is the stop that ends the loops, in order. A loop that dies is caught, remembered, and cancels the body. And nothing
is raised through the nursery, so that the owner's own exception comes out as it was, not in a group.

The stop, each step with its budget: no new jobs; what is to be finished is finished (drain_timeout; the one step that
a cancellation cuts short); the running attempt is cancelled (cancel_timeout), and given up if its call does not return;
the SDK is closed (close_timeout); what is left is reported.
"""

from __future__ import annotations

import logging
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

import trio

from trio_jobs._engine import decide
from trio_jobs._engine.handlers import Handler
from trio_jobs._engine.jobs import FINAL, EndedBy, Job, JobRecord, State, escape
from trio_jobs._engine.retry import Rules
from trio_jobs._errors import OutcomeUnknown, QueueBroken, SdkCallStuck, TrioJobsError, UnhandledJobs, UsageError
from trio_jobs._ports import Clock, SdkExecutor, Store
from trio_jobs._runtime.clock import SystemClock
from trio_jobs._runtime.event_log import EventLog
from trio_jobs._runtime.hooks import HookName
from trio_jobs._runtime.queue import Queue
from trio_jobs._runtime.report import ShutdownReport, UnfinishedJob
from trio_jobs._runtime.sdk_session import SdkSessionManager
from trio_jobs._runtime.settings import Settings
from trio_jobs._runtime.watchdog import Watchdog

__all__ = ["open_queue"]

log: Final = logging.getLogger("trio_jobs.queue")


@asynccontextmanager
async def open_queue(
    *,
    handlers: dict[str, Handler],
    settings: Settings,
    store: Store,
    make_executor: Callable[[trio.Nursery], SdkExecutor],
    clock: Clock,
    chance: random.Random,
    hooks: Mapping[HookName, Sequence[Callable[[Job], Any]]],
) -> AsyncIterator[Queue]:
    """Open store and SDK, run the loops, yield the queue; then stop it."""
    if not trio.lowlevel.in_trio_run():
        raise UsageError("a queue runs in Trio: open it in what trio.run() runs, not in asyncio")
    raised: BaseException | None = None
    life: Supervisor | None = None
    async with trio.open_nursery() as nursery:
        # what comes out of here must not pass the nursery, which would put it into a group
        try:
            life = Supervisor(handlers, settings, store, make_executor(nursery), clock, chance, hooks, nursery)
            await life.open()
            with life.body:
                try:
                    yield life.queue
                except BaseException as error:
                    raised = error
                    raise
                await life.finish_work()
        except BaseException as error:
            raised = error
        finally:
            if life is not None:
                with trio.CancelScope(shield=True):
                    await life.stop()
    assert life is not None or raised is not None
    if life is not None:
        life.raise_failure(raised)
    if raised is not None:
        try:
            raise raised
        finally:
            del raised, life  # no cycle through this frame


class Supervisor:
    """One queue from its opening to its report. `body` is the scope around what its owner does."""

    def __init__(
        self,
        handlers: dict[str, Handler],
        settings: Settings,
        store: Store,
        executor: SdkExecutor,
        clock: Clock,
        chance: random.Random,
        hooks: Mapping[HookName, Sequence[Callable[[Job], Any]]],
        nursery: trio.Nursery,
    ) -> None:
        self.body = trio.CancelScope()
        self._settings = settings
        self._store = store
        self._executor = executor
        self._clock = clock
        self._chance = chance
        self._nursery = nursery
        self._handlers = handlers
        self.failure: BaseException | None = None
        self._consumer_scope = trio.CancelScope(shield=True)
        self._loop_scopes: list[trio.CancelScope] = []
        self._watchdog: Watchdog | None = None
        self._event_log = EventLog(store)
        self._sessions = SdkSessionManager(
            event_log=self._event_log,
            executor=executor,
            clock=clock,
            settings=settings,
        )
        self.queue = Queue(
            handlers=handlers,
            settings=settings,
            event_log=self._event_log,
            executor=executor,
            sessions=self._sessions,
            clock=clock,
            chance=chance,
            hooks=hooks,
            on_stuck=self._on_stuck,
        )

    async def open(self) -> None:
        """Raises `StoreError`, `SdkOpenFailed`."""
        self._event_log.on_broken = self.fail
        await self._event_log.restore()
        self._check_restored()
        queue = self.queue
        queue._feed.seq = self._event_log.committed_seq
        await self._sessions.open_sdk()
        self._take_up_restored()
        if self._settings.watchdog is not None and isinstance(self._clock, SystemClock):
            self._watchdog = Watchdog(self._settings.watchdog)
            self._watchdog.start()
        for loop in (
            queue._scheduler.run,
            queue._pruner.run,
            queue._feed.run,
            queue._overrun_monitor.run,
            queue._recorder.run,
            queue._hooks.run,
        ):
            scope = trio.CancelScope(shield=True)
            self._loop_scopes.append(scope)
            self._nursery.start_soon(self._guard, loop, scope)
        self._nursery.start_soon(self._guard, queue._consumer.run, self._consumer_scope)

    def _take_up_restored(self) -> None:
        """Give every restored job that is not final its place again, in order; those under way have crashed."""
        for record in sorted(self._event_log.projection.jobs.values(), key=_restore_order):
            if record.state not in FINAL:
                self._take_up(record)
        self.queue._scheduler.fill()

    def _check_restored(self) -> None:
        """Is there a handler for each open job? Raises `UnhandledJobs`, or holds those without one."""
        unknown: dict[str, int] = {}
        undecodable: dict[str, int] = {}
        for record in self._event_log.projection.jobs.values():
            if record.state in FINAL:
                continue
            handler = self._handlers.get(record.kind)
            if handler is None:
                unknown[record.kind] = unknown.get(record.kind, 0) + 1
            elif not _decodes(handler, record):
                undecodable[record.kind] = undecodable.get(record.kind, 0) + 1
            else:
                continue
            self.queue._held.add(record.id)
        if not unknown and not undecodable:
            return
        why = [f"{count} of kind {kind!r}, which has no handler" for kind, count in sorted(unknown.items())]
        why += [f"{count} of kind {k!r}, whose payload does not fit" for k, count in sorted(undecodable.items())]
        if self._settings.unhandled_jobs == "refuse":
            raise UnhandledJobs({**unknown, **undecodable}, "; ".join(why))
        log.warning("held out of the line: %s", "; ".join(why))

    def _take_up(self, record: JobRecord) -> None:
        event_log, queue = self._event_log, self.queue
        handler = self._handlers.get(record.kind)
        rules = Rules() if handler is None else handler.rules
        was_pending = record.state is State.PENDING
        if record.state is State.PROCESSING or (record.doubt is not None and record.doubt.inside):
            now, seq = self._clock.now(), event_log.next_seq
            event_log.append(decide.crashed(record, rules, now, self._chance.random(), seq))
        if record.id in queue._held or handler is None:
            return
        if record.deadline_at is not None and record.state not in FINAL:
            queue._scheduler.watch_deadline(record)
        if self._settings.strict_order and _was_at_the_head(record):
            queue._consumer.hold_first.append(record)
        elif record.state is State.IN_DOUBT:
            if handler.rules.verifies and record.doubt is not None and not record.doubt.asked:
                if handler.verify_delay:
                    queue._scheduler.schedule_verify(record, handler.verify_delay)
                else:
                    queue._scheduler.requeue(record)
        elif was_pending:
            queue._scheduler.requeue(record)
        elif record.state in (State.SCHEDULED, State.RETRYING):
            queue._scheduler.schedule(record)

    async def finish_work(self) -> None:
        """Before a normal stop: in memory all that would be lost, with a journal only the running attempt.

        Cancelled: the stop goes on with what was not finished.
        """
        queue = self.queue
        queue.close_to_submits()
        with trio.move_on_after(self._settings.drain_timeout):
            if self._store.durable:
                self._sessions.stop()
                await queue._consumer.between_attempts()
            else:
                await queue.drain()

    async def stop(self) -> None:
        """Everything from here to the report. Runs once, shielded. What goes wrong here is what the queue died of: if
        it came out, the loops would run on behind their shields, and the block would never end."""
        queue = self.queue
        queue.close_to_submits()
        self._sessions.stop()
        try:
            closed, problem = await self._end_attempt_and_close_sdk()
        except BaseException as error:
            closed, problem = (
                not (self._executor.is_open or self._executor.inside),
                f"the stop met {type(error).__name__}",
            )
            self.fail(error)
        for scope in (self._consumer_scope, *self._loop_scopes):
            scope.cancel()
        await self._settle_store()
        projection = self._event_log.projection
        left = tuple(
            UnfinishedJob(r.id, r.kind, r.key, r.state, r.reason)
            for r in projection.jobs.values()
            if r.state not in FINAL
        )
        queue.report = ShutdownReport(closed, problem, left, {state: projection.count(state) for state in State})
        queue.wake_all_waiters()
        queue._feed.close()
        try:
            with trio.move_on_after(self._settings.commit_timeout) as scope:
                await self._event_log.aclose()
            if scope.cancelled_caught:
                log.error("the store did not close within %g s", self._settings.commit_timeout)
        except BaseException as error:
            self.fail(error)
        if left:
            lost = "stay in the journal" if self._store.durable else "are lost"
            some = ", ".join(f"{escape(job.key or job.job_id)} ({job.state})" for job in left[:10])
            log.warning("stopped with %d jobs that %s: %s%s", len(left), lost, some, " ..." if left[10:] else "")
        if not closed:
            log.error("sdk_not_closed: %s", problem)
        if self._watchdog is not None:
            self._watchdog.stop()

    async def _settle_store(self) -> None:
        """What was recorded is to be seen by those who wait for it, before they are told that the queue has stopped."""
        if not self._event_log.durable:
            return
        try:
            with trio.fail_after(self._settings.commit_timeout):
                await self._event_log.committed(self._event_log.projection.seq)
        except (trio.TooSlowError, OutcomeUnknown) as error:
            lost = self._event_log.projection.seq - self._event_log.committed_seq
            log.error("the last %d events may not be kept: %s", lost, self._store.trouble or error)

    async def _end_attempt_and_close_sdk(self) -> tuple[bool, str | None]:
        """Was it closed; and if not so, or not well, why."""
        await self._end_attempt()
        self._consumer_scope.cancel()
        closed, problem = await self._sessions.close_sdk()
        if closed:
            await self._executor.stop()
        return closed, problem

    async def _end_attempt(self) -> None:
        consumer, settings = self.queue._consumer, self._settings
        if consumer.current is not None:
            consumer.current.cancel(EndedBy.STOP)
        with trio.move_on_after(settings.cancel_timeout):
            await consumer.between_attempts()
            await self._sessions.settle()
        if consumer.current is not None:
            if self._executor.inside:
                self._executor.abandon()
            # a handler that hides behind a shield on Trio's side cannot be given up, as Trio would not let go of it
            # either; nor can its session be closed under it (P1)
            await consumer.between_attempts()

    async def _guard(self, loop: Callable[[], Awaitable[None]], scope: trio.CancelScope) -> None:
        """Run a loop behind its shield; if it dies, remember of what and let the owner know."""
        try:
            with scope:
                await loop()
        except BaseException as error:
            self.fail(error)

    def fail(self, error: BaseException) -> None:
        if self.failure is None:
            self.failure = error
        self.body.cancel()

    def _on_stuck(self, job_id: str) -> None:
        if self._settings.on_stuck == "stop":
            self.fail(SdkCallStuck(f"the call of job {job_id} did not return; the process should end"))

    def raise_failure(self, raised: BaseException | None) -> None:
        """Raise what a loop died of, typed; nothing if none did."""
        died_of = self.failure
        if died_of is None:
            return
        if isinstance(died_of, TrioJobsError) or not isinstance(died_of, Exception):
            raise died_of from raised
        raise QueueBroken(f"a part of the queue died: {died_of!r}") from died_of


def _decodes(handler: Handler, record: JobRecord) -> bool:
    try:
        handler.decode(record.payload)
    except Exception:  # the type's own checks may raise anything
        return False
    return True


def _was_at_the_head(record: JobRecord) -> bool:
    """In strict order: it has been begun and not brought to its end. One that a person has retried waits its turn."""
    return record.state not in FINAL and bool(record.attempts) and record.attempts[-1].run == record.run


def _restore_order(record: JobRecord) -> tuple[bool, int]:
    """Those under way first, since what they left behind is asked about before anything else; then as they came."""
    return record.state is not State.PROCESSING and record.state is not State.IN_DOUBT, record.submitted_seq
