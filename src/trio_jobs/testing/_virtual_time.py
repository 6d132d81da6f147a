"""Virtual time that waits for real threads.

The hard part: an autojump clock jumps as soon as all of Trio's tasks sleep. A task that waits for a thread sleeps too,
so with a plain SDK on its thread, or a journal on its own, hours would pass during a call of a millisecond, and every
attempt would time out.

The trick: the executor and the store are wrapped, and the wrappers count active threads. While one is active, the clock
does not jump. A thread that is blocked in a `Blocker`, or slow by script, does not count as active.

The limit: only threads behind these wrappers are counted.
"""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

import trio
import trio.testing

from trio_jobs._call_report import CallReport
from trio_jobs._engine.events import Event
from trio_jobs._engine.key_tombstones import KeyTombstone
from trio_jobs._engine.openings import Opening
from trio_jobs._errors import StoreError
from trio_jobs._executors.wrapping import WrappingExecutor
from trio_jobs._interruption import Interruption
from trio_jobs._ports import Discard, SdkExecutor, Store
from trio_jobs._sdk_call import CallEnd, SdkCall
from trio_jobs.testing.crashable_store import SimulatedStore

__all__ = [
    "ExecutorLog",
    "ThreadActivity",
    "VirtualTimeExecutor",
    "VirtualTimeStore",
    "current_activity",
    "working_for",
]

_INF: Final = float("inf")

_thread_local: Final = threading.local()


def current_activity() -> ThreadActivity | None:
    """The activity counter of the queue in virtual time that the calling thread works for; None on other threads."""
    return getattr(_thread_local, "activity", None)


@contextmanager
def working_for(activity: ThreadActivity) -> Iterator[None]:
    """In the block, the calling thread works for the queue of this counter."""
    _thread_local.activity = activity
    try:
        yield
    finally:
        _thread_local.activity = None


class ThreadActivity:
    """A count of active threads; while it is not 0, `clock` does not jump.

    All methods are for Trio's thread, except `sleep`.
    """

    def __init__(self, clock: object) -> None:
        self.token = trio.lowlevel.current_trio_token()
        self._clock = clock if isinstance(clock, trio.testing.MockClock) else None
        self._threshold = _INF if self._clock is None else self._clock.autojump_threshold
        self._count = 0
        self._idle = trio.Event()

    @property
    def is_active(self) -> bool:
        return self._count > 0

    async def wait_idle(self) -> None:
        """Wait until no thread is active."""
        while self._count:
            await self._idle.wait()

    def begin(self) -> None:
        self._count += 1
        if self._count == 1:
            self._idle = trio.Event()
            if self._clock is not None and self._threshold != _INF:
                self._clock.autojump_threshold = _INF

    def end(self) -> None:
        self._count -= 1
        if self._count == 0:
            self._idle.set()
            if self._clock is not None and self._threshold != _INF:
                self._clock.autojump_threshold = self._threshold

    @contextmanager
    def running(self) -> Iterator[None]:
        self.begin()
        try:
            yield
        finally:
            self.end()

    def sleep(self, seconds: float) -> None:
        """Sleep in virtual time, in an active thread."""

        async def sleep() -> None:
            self.end()
            try:
                with trio.CancelScope(shield=True):
                    await trio.sleep(seconds)
            finally:
                self.begin()

        trio.from_thread.run(sleep, trio_token=self.token)


class ExecutorLog:
    """A record of what went through an executor, for P1 to P3."""

    def __init__(self) -> None:
        self.opened = self.closed = 0
        """How many sessions were opened and closed."""
        self.inside = 0
        """How many calls are in the SDK."""
        self.threads: set[int] = set()
        """The threads on which calls of the current session were made."""
        self.violations: list[str] = []
        """Violations of P1 and P2, a sentence each."""
        self._lock = threading.Lock()

    @contextmanager
    def call(self) -> Iterator[None]:
        with self._lock:
            self.inside += 1
            self.threads.add(threading.get_ident())
            if self.inside > 1:
                self.violations.append(f"P1: {self.inside} calls were inside at once")
            if len(self.threads) > 1:
                self.violations.append("P2: a session was called on two threads")
        try:
            yield
        finally:
            with self._lock:
                self.inside -= 1

    def record_open(self) -> None:
        self.opened += 1
        self.threads.clear()
        if self.opened - self.closed > 1:
            self.violations.append("P1: a session was opened while another was open")

    def record_close(self) -> None:
        self.closed += 1
        if self.inside:
            self.violations.append("P1: a session was closed while a call was inside")


class _RecordedCall(SdkCall):
    """A call that is recorded, and during which the thread has the counter of its queue."""

    def __init__(self, call: SdkCall, activity: ThreadActivity, log: ExecutorLog) -> None:
        self._call = call
        self._activity = activity
        self._log = log

    def invoke(self, sdk: Any) -> Any:
        with working_for(self._activity), self._log.call():
            return self._call.invoke(sdk)

    def returned(self, value: Any) -> CallReport:
        return self._call.returned(value)

    def raised(self, error: BaseException) -> CallEnd:
        return self._call.raised(error)


class VirtualTimeExecutor(WrappingExecutor):
    """An `SdkExecutor` that wraps `inner` and stops virtual time while its thread is active.

    Args:
        inner: The executor.
        activity: The count of active threads.
        threaded: `inner` has a thread. Otherwise calls are made in Trio, and virtual time passes during a call.
        log: Records opens, calls and closes.
    """

    def __init__(
        self, inner: SdkExecutor, activity: ThreadActivity, *, threaded: bool, log: ExecutorLog | None = None
    ) -> None:
        super().__init__(inner)
        self._log = ExecutorLog() if log is None else log
        self._activity = activity
        self._threaded = threaded

    async def interrupt(self, number: int, fn: Callable[[Any], Any]) -> Interruption:
        """An interruption takes no virtual time."""
        interruption: Interruption = await self._in_real_time(super().interrupt, number, fn)
        return interruption

    async def open(self, opening: Opening) -> None:
        await self._in_real_time(self._inner.open, opening)
        self._log.record_open()

    async def call(self, call: SdkCall) -> CallReport:
        if not self._threaded:
            return await self._inner.call(call)
        report: CallReport = await self._in_real_time(self._inner.call, _RecordedCall(call, self._activity, self._log))
        return report

    async def close(self, discard: Discard | None = None) -> bool:
        was_open = self._inner.is_open
        closed: bool = await self._in_real_time(self._inner.close, discard)
        if was_open and closed:
            self._log.record_close()
        return closed

    async def _in_real_time(self, fn: Callable[..., Awaitable[Any]], *args: Any) -> Any:
        if not self._threaded:
            return await fn(*args)
        with self._activity.running():
            return await fn(*args)


class VirtualTimeStore:
    """A `Store` that wraps `inner` and stops virtual time from each append to its commit, and during each query.

    For stores that commit in a thread; others need no wrapper.
    """

    def __init__(self, inner: Store, activity: ThreadActivity) -> None:
        self._inner = inner
        self._activity = activity
        self._is_busy = False
        self._appended_seq = 0
        self.durable = inner.durable
        if isinstance(inner, SimulatedStore):
            inner.on_death = lambda: self._set_busy(False)

    def __repr__(self) -> str:
        return f"<VirtualTimeStore of {self._inner!r}>"

    @property
    def epoch(self) -> str:
        return self._inner.epoch

    @property
    def trouble(self) -> str | None:
        return self._inner.trouble

    @property
    def oldest(self) -> int:
        return self._inner.oldest

    @property
    def last_seq(self) -> int:
        return self._inner.last_seq

    async def open(
        self,
        on_commit: Callable[[Sequence[Event]], None],
        on_failure: Callable[[], Sequence[Event]] | None = None,
        on_broken: Callable[[StoreError], None] | None = None,
    ) -> Iterable[Event]:
        def committed(events: Sequence[Event]) -> None:
            if events[-1].seq >= self._appended_seq:
                self._set_busy(False)
            on_commit(events)

        def broken(error: StoreError) -> None:
            self._set_busy(False)
            if on_broken is not None:
                on_broken(error)

        with self._activity.running():
            return await self._inner.open(committed, on_failure, broken)

    def append(self, events: Sequence[Event]) -> None:
        if self.durable and self._inner.trouble is None:  # with trouble the commit may take long, or never happen
            self._set_busy(True)
        self._appended_seq = events[-1].seq
        self._inner.append(events)

    async def committed(self, seq: int) -> None:
        await self._inner.committed(seq)

    async def events(self, after: int, limit: int) -> Sequence[Event]:
        with self._activity.running():
            return await self._inner.events(after, limit)

    async def job_events(self, job: str, first: int, last: int) -> Sequence[Event]:
        with self._activity.running():
            return await self._inner.job_events(job, first, last)

    def keys(self) -> Iterable[KeyTombstone]:
        return self._inner.keys()

    async def prune(
        self,
        jobs: Mapping[str, tuple[int, int]],
        keys: Sequence[KeyTombstone] = (),
        stale: Sequence[KeyTombstone] = (),
    ) -> None:
        with self._activity.running():
            await self._inner.prune(jobs, keys, stale)

    async def forget(self, jobs: Mapping[str, tuple[int, int]], keys: Sequence[KeyTombstone]) -> None:
        with self._activity.running():
            await self._inner.forget(jobs, keys)

    def __getattr__(self, name: str) -> Any:
        """Methods that only some stores have, such as a backup."""
        return getattr(self._inner, name)

    async def aclose(self) -> None:
        with self._activity.running():
            await self._inner.aclose()
        self._set_busy(False)

    def _set_busy(self, busy: bool) -> None:
        if busy and not self._is_busy:
            self._activity.begin()
        elif self._is_busy and not busy:
            self._activity.end()
        self._is_busy = busy
