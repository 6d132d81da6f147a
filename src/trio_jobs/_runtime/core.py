"""What the parts of a queue share: its rooms, wired to each other, and what follows from each committed event."""

from __future__ import annotations

import logging
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final

import trio

from trio_jobs._engine import events as ev
from trio_jobs._engine.handlers import Handler
from trio_jobs._engine.jobs import Job, JobRecord, State, escape
from trio_jobs._errors import OutcomeUnknown, QueueClosed, StoreError, UsageError
from trio_jobs._ports import Clock, SdkExecutor
from trio_jobs._runtime.attempt import RunningAttempt, log_fields
from trio_jobs._runtime.attempt_recorder import AttemptRecorder
from trio_jobs._runtime.consumer import Consumer
from trio_jobs._runtime.event_log import EventLog
from trio_jobs._runtime.feed import Feed
from trio_jobs._runtime.hooks import HookName, Hooks
from trio_jobs._runtime.job_channel import JobChannel
from trio_jobs._runtime.job_context import Progress
from trio_jobs._runtime.overrun_monitor import OverrunMonitor
from trio_jobs._runtime.pruner import Pruner
from trio_jobs._runtime.report import ShutdownReport
from trio_jobs._runtime.scheduler import Scheduler
from trio_jobs._runtime.sdk_session import SdkSessionManager
from trio_jobs._runtime.settings import MAX_KEYS, Settings

__all__ = ["MAX_PAGE", "Core", "read_state"]

log: Final = logging.getLogger("trio_jobs.queue")

MAX_PAGE: Final = 1000  #: jobs that one call lists or changes


class Core:
    """The rooms of one running queue. `Queue` is this with what its owner may do."""

    def __init__(
        self,
        *,
        handlers: dict[str, Handler],
        settings: Settings,
        event_log: EventLog,
        executor: SdkExecutor,
        sessions: SdkSessionManager,
        clock: Clock,
        chance: random.Random,
        hooks: Mapping[HookName, Sequence[Callable[[Job], Any]]],
        on_stuck: Callable[[str], None],
    ) -> None:
        self.report: ShutdownReport | None = None
        """How it stopped; None while it runs."""
        self._handlers = handlers
        self._by_name = handlers | {handler.fn: handler for handler in handlers.values()}
        """By kind and by function: both name a handler."""
        self._settings = settings
        self._min_interval = settings.min_interval
        self._fewest_kept = min(settings.max_finished_jobs.values())
        self._event_log = event_log
        self._projection = event_log.projection
        self._executor = executor
        self._sessions = sessions
        self._clock = clock
        self._random_bits = chance.getrandbits
        self._many = trio.Lock()
        self._token = trio.lowlevel.current_trio_token()
        self._closing = False
        self._waiters: dict[str, trio.Event] = {}
        self._idle: trio.Event | None = None
        self._ends: dict[tuple[str, State | None], int] = {}
        """Behind which event the newest pages of lists ended, by their last job and the state that was asked for."""
        self._held: set[str] = set()
        """Open jobs that no handler here can take."""
        self._stop_for_stuck = on_stuck
        self._mean_run: float | None = None
        self._mean_turn: float | None = None
        """Seconds from one start to the next, as far as it is known."""
        self._channel = JobChannel(settings.buffer, strict=settings.strict_order)
        self._feed = Feed(event_log.store, self._kind_of)
        self._scheduler = Scheduler(
            event_log=event_log, channel=self._channel, clock=clock, on_expired=self._on_expired
        )
        self._overrun_monitor = OverrunMonitor(
            event_log=event_log,
            executor=executor,
            clock=clock,
            current=lambda: self._consumer.current,
            on_stuck=self._on_stuck,
        )
        self._recorder = AttemptRecorder(
            event_log=event_log, clock=clock, current=lambda: self._consumer.current, tell=self._on_progress
        )
        self._hooks = Hooks(hooks)
        self._told: tuple[RunningAttempt, Progress] | None = None
        self.progress_listeners: set[Callable[[Progress], None]] = set()
        """Called with each progress that is passed on; they must return at once and not raise."""
        self._consumer = Consumer(
            event_log=event_log,
            channel=self._channel,
            executor=executor,
            clock=clock,
            handlers=handlers,
            sessions=sessions,
            recorder=self._recorder,
            strict_order=settings.strict_order,
            watch=self._overrun_monitor.watch,
            verify_later=self._scheduler.schedule_verify,
            chance=chance.random,
        )
        self._pruner = Pruner(
            event_log=event_log,
            clock=clock,
            job_retention=settings.job_retention,
            max_finished_jobs=settings.max_finished_jobs,
            key_retention=settings.key_retention,
            max_keys=settings.max_keys if settings.max_keys is not None else MAX_KEYS[event_log.durable],
        )
        event_log.publish = self._feed.publish
        for kind in (ev.Completed, ev.Failed, ev.Cancelled):
            event_log.reactions[kind] = self._on_final
        event_log.reactions[ev.RetryScheduled] = self._on_put_off
        event_log.reactions[ev.Snoozed] = self._on_put_off
        event_log.reactions[ev.Interrupted] = self._on_pending
        event_log.reactions[ev.DoubtResolved] = self._on_pending
        event_log.reactions[ev.InDoubt] = self._on_doubt

    def close_to_submits(self) -> None:
        """From now on `submit` raises `QueueClosed`, for those who wait for a place too."""
        if not self._closing:
            self._closing = True
            self._channel.wake_submits()

    def wake_all_waiters(self) -> None:
        """The queue has stopped: whoever waits for something of it is to look again."""
        waiters, self._waiters = self._waiters, {}
        for waiter in waiters.values():
            waiter.set()
        if self._idle is not None:
            self._idle.set()

    def _refuse_if_closing(self) -> None:
        if self._closing:
            raise QueueClosed("the queue takes no new jobs: it is draining or has stopped")
        if self._event_log.durable and (trouble := self._event_log.store.trouble) is not None:
            raise StoreError(f"nothing is accepted now: {trouble}")

    async def _kept(self) -> None:
        """Return when what was recorded so far is kept. Raises `OutcomeUnknown`. Shielded."""
        if self._event_log.durable:
            await self._within_commit_timeout(self._event_log.committed, self._projection.seq)
        else:
            await trio.lowlevel.cancel_shielded_checkpoint()

    async def _within_commit_timeout(
        self, wait: Callable[[int], Awaitable[None]], seq: int, since: float | None = None
    ) -> None:
        """since: when the caller began to wait, on Trio's clock; as it comes, it begins with this call."""
        timeout = self._settings.commit_timeout
        began = trio.current_time() if since is None else since
        with trio.CancelScope(deadline=began + timeout, shield=True) as scope:
            await wait(seq)
        if scope.cancelled_caught:
            raise OutcomeUnknown(f"the store did not answer within {timeout:g} s: it may be done, or not; ask again")

    def _committed(self, job_id: str) -> JobRecord:
        """The job's newest record, if there is anything to be seen of it. Raises `JobNotFound`."""
        self._event_log.committed_job(job_id)
        return self._projection.jobs[job_id]

    # what follows from events

    def _on_progress(self, running: RunningAttempt, progress: Progress) -> None:
        self._told = running, progress
        for listener in self.progress_listeners:
            listener(progress)

    def _kind_of(self, job_id: str) -> str | None:
        record = self._projection.jobs.get(job_id)
        return None if record is None else record.kind

    def _on_expired(self, record: JobRecord) -> None:
        self._channel.remove(record)
        self._consumer.touch(record)

    def _on_stuck(self, running: RunningAttempt) -> None:
        self._hooks.tell("stuck", running.record)
        self._stop_for_stuck(running.record.id)

    def _on_final(self, event: ev.Event) -> None:
        assert isinstance(event, ev.Ended)
        jobs = self._projection.jobs
        record = jobs[event.job]
        if self._waiters:
            waiter = self._waiters.pop(event.job, None)
            if waiter is not None:
                waiter.set()
        if self._held:
            self._held.discard(event.job)
        if self._consumer.holding is not None:
            self._consumer.touch(record)
        if record.state is State.FAILED:
            self._hooks.tell("failed", record)
        if event.outcome is not None:
            ran, mean = event.at - record.attempts[-1].started_at, self._mean_run
            self._mean_run = mean = ran if mean is None else mean + (ran - mean) / 16
            self._mean_turn = mean + self._min_interval
        if len(jobs) > self._fewest_kept:
            self._pruner.one_more(record.state)
        if self._idle is not None:
            self._tell_if_idle()

    def _on_put_off(self, event: ev.Event) -> None:
        assert isinstance(event, ev.Ended)
        record = self._projection.jobs[event.job]
        if record.last_seq == event.seq and not self._is_held(record):  # it may have moved on before this was committed
            self._scheduler.schedule(record)
        self._tell_if_idle()

    def _on_pending(self, event: ev.Event) -> None:
        assert isinstance(event, ev.Ended)
        record = self._projection.jobs[event.job]
        if record.last_seq != event.seq or event.job in self._held:
            return  # it has moved on, or nobody here can take it
        if self._is_held(record):
            self._consumer.touch(record)
        else:
            self._scheduler.requeue(record)

    def _is_held(self, record: JobRecord) -> bool:
        """In strict order the consumer keeps the job at the head in hand, until it has ended."""
        if not self._settings.strict_order:
            return False
        current = self._consumer.current
        return self._consumer.holding is record or (current is not None and current.record is record)

    def _on_doubt(self, event: ev.Event) -> None:
        assert isinstance(event, ev.Ended)
        waiter = self._waiters.pop(event.job, None)
        record = self._projection.jobs[event.job]
        asked = isinstance(event, ev.InDoubt) and (event.asked or event.inside)
        handler = self._handlers.get(record.kind)
        if record.state is State.IN_DOUBT and (asked or handler is None or not handler.rules.verifies):
            log.error(
                "job %s (%s, key %s) is in doubt: %s; nobody knows what attempt %d did, resolve it by hand",
                record.id, record.kind, escape(record.key or "none"), record.reason, len(record.attempts),
                extra=log_fields(record),
            )  # fmt: skip
            self._hooks.tell("in_doubt", record)
        if waiter is not None:  # for those who asked to be told of a doubt; the others wait again
            waiter.set()
        self._tell_if_idle()

    def _tell_if_idle(self) -> None:
        if self._idle is not None and not self._projection.count(State.PENDING, State.PROCESSING, State.RETRYING):
            self._idle.set()


def read_state(name: State | str) -> State:
    try:
        return State(name)
    except ValueError:
        raise UsageError(f"there is no state {name!r}; there are {', '.join(State)}") from None
