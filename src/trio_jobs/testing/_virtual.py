"""Virtual time that waits for real threads.

An autojump clock jumps as soon as all of Trio's tasks sleep. A task that waits for a thread sleeps too, so with a plain
SDK on its thread, or a journal on its own, hours would go by while a call of a millisecond is inside, and every attempt
would time out. Here time stands still while such a thread works, and runs again when it has answered, or when it
stands still itself: in a `Blocker`, or because it is slow by script.

The host and the store are wrapped for that.
"""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

import outcome
import trio
import trio.testing

from trio_jobs._engine.events import Event
from trio_jobs._engine.key_tombstones import KeyTombstone
from trio_jobs._errors import StoreError
from trio_jobs._executors.thread import SdkHandle
from trio_jobs._ports import SdkExecutor, Store
from trio_jobs.testing.crashable_store import DiskStore

__all__ = ["ExecutorLog", "PatientExecutor", "PatientStore", "Work", "at_work"]

_INF: Final = float("inf")

_here: Final = threading.local()


def at_work() -> Work | None:
    """The work that the calling thread does for a queue in virtual time; None elsewhere."""
    return getattr(_here, "work", None)


class Work:
    """How many threads work; while any does, `clock` does not jump. All methods are for Trio's thread, except `nap`."""

    def __init__(self, clock: object) -> None:
        self.token = trio.lowlevel.current_trio_token()
        self._clock = clock if isinstance(clock, trio.testing.MockClock) else None
        self._threshold = _INF if self._clock is None else self._clock.autojump_threshold
        self._count = 0
        self._rest = trio.Event()

    @property
    def is_going_on(self) -> bool:
        return self._count > 0

    async def rest(self) -> None:
        """Return when no thread works. Cancelled: nothing is changed."""
        while self._count:
            await self._rest.wait()

    def begin(self) -> None:
        self._count += 1
        if self._count == 1:
            self._rest = trio.Event()
            if self._clock is not None and self._threshold != _INF:
                self._clock.autojump_threshold = _INF

    def end(self) -> None:
        self._count -= 1
        if self._count == 0:
            self._rest.set()
            if self._clock is not None and self._threshold != _INF:
                self._clock.autojump_threshold = self._threshold

    @contextmanager
    def going_on(self) -> Iterator[None]:
        self.begin()
        try:
            yield
        finally:
            self.end()

    def nap(self, seconds: float) -> None:
        """From a thread that works: let virtual time go by. The thread does nothing meanwhile."""

        async def sleep() -> None:
            self.end()
            try:
                with trio.CancelScope(shield=True):
                    await trio.sleep(seconds)
            finally:
                self.begin()

        trio.from_thread.run(sleep, trio_token=self.token)


class ExecutorLog:
    """What went through a host, for P1 to P3.

    opened, closed: sessions. inside, most_inside: calls at once. threads: on which they were made, in this session.
    wrong: what must never be, in words.
    """

    def __init__(self) -> None:
        self.opened = self.closed = self.inside = self.most_inside = 0
        self.threads: set[int] = set()
        self.wrong: list[str] = []
        self._lock = threading.Lock()

    @contextmanager
    def call(self) -> Iterator[None]:
        with self._lock:
            self.inside += 1
            self.most_inside = max(self.most_inside, self.inside)
            self.threads.add(threading.get_ident())
            if self.inside > 1:
                self.wrong.append(f"P1: {self.inside} calls were inside at once")
            if len(self.threads) > 1:
                self.wrong.append("P2: a session was called on two threads")
        try:
            yield
        finally:
            with self._lock:
                self.inside -= 1

    def did_open(self) -> None:
        self.opened += 1
        self.threads.clear()
        if self.opened - self.closed > 1:
            self.wrong.append("P1: a session was opened beside another")

    def did_close(self) -> None:
        self.closed += 1
        if self.inside:
            self.wrong.append("P1: a session was closed under a call")


class PatientExecutor:
    """Conforms to `SdkExecutor`: `inner`, with time standing still while its thread works.

    threaded: it has a thread; otherwise calls are made by Trio's tasks, and time is theirs. log: what went through it.
    """

    def __init__(self, inner: SdkExecutor, work: Work, *, threaded: bool, log: ExecutorLog | None = None) -> None:
        self._inner = inner
        self._log = ExecutorLog() if log is None else log
        self._work = work
        self._threaded = threaded

    def __repr__(self) -> str:
        return f"<PatientExecutor of {self._inner!r}>"

    @property
    def session(self) -> int:
        return self._inner.session

    @session.setter
    def session(self, number: int) -> None:
        raise AttributeError("sessions are counted where they are opened")

    @property
    def is_open(self) -> bool:
        return self._inner.is_open

    @property
    def inside(self) -> bool:
        return self._inner.inside

    def take_close_problem(self) -> str | None:
        return self._inner.take_close_problem()

    async def open(self) -> None:
        await self._patiently(self._inner.open)
        self._log.did_open()

    async def call(self, fn: Callable[..., Any], *args: Any) -> outcome.Value[Any] | outcome.Error:
        if not self._threaded:
            return await self._inner.call(fn, *args)
        work = self._work

        def marked(*given: Any) -> Any:
            _here.work = work
            try:
                with self._log.call():
                    return fn(*given)
            finally:
                _here.work = None

        return await self._patiently(self._inner.call, marked, *args)  # type: ignore[no-any-return]

    def handle(self, enter: Callable[[], Awaitable[None]], leave: Callable[[], None]) -> Any:
        inner = self._inner.handle(enter, leave)
        if isinstance(inner, SdkHandle):
            return SdkHandle(self, enter, leave)  # type: ignore[arg-type]
        return inner

    def abandon(self) -> None:
        self._inner.abandon()

    async def close(self) -> bool:
        was_open = self._inner.is_open
        closed: bool = await self._patiently(self._inner.close)
        if was_open and closed:
            self._log.did_close()
        return closed

    async def stop(self) -> None:
        await self._inner.stop()

    async def _patiently(self, fn: Callable[..., Awaitable[Any]], *args: Any) -> Any:
        if not self._threaded:
            return await fn(*args)
        with self._work.going_on():
            return await fn(*args)


class PatientStore:
    """Conforms to `Store`: `inner`, with time standing still from each hand-over to its commit, and while it is asked.

    For stores that commit in a thread; others need no patience.
    """

    def __init__(self, inner: Store, work: Work) -> None:
        self._inner = inner
        self._work = work
        self._is_busy = False
        self._handed = 0
        self.durable = inner.durable
        if isinstance(inner, DiskStore):
            inner.on_death = lambda: self._set_busy(False)

    def __repr__(self) -> str:
        return f"<PatientStore of {self._inner!r}>"

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
            if events[-1].seq >= self._handed:
                self._set_busy(False)
            on_commit(events)

        def broken(error: StoreError) -> None:
            self._set_busy(False)
            if on_broken is not None:
                on_broken(error)

        with self._work.going_on():
            return await self._inner.open(committed, on_failure, broken)

    def append(self, events: Sequence[Event]) -> None:
        if self.durable and self._inner.trouble is None:  # else it may be long, or never
            self._set_busy(True)
        self._handed = events[-1].seq
        self._inner.append(events)

    async def committed(self, seq: int) -> None:
        await self._inner.committed(seq)

    async def events(self, after: int, limit: int) -> Sequence[Event]:
        with self._work.going_on():
            return await self._inner.events(after, limit)

    def keys(self) -> Iterable[KeyTombstone]:
        return self._inner.keys()

    async def prune(
        self,
        jobs: Mapping[str, tuple[int, int]],
        keys: Sequence[KeyTombstone] = (),
        stale: Sequence[KeyTombstone] = (),
    ) -> None:
        with self._work.going_on():
            await self._inner.prune(jobs, keys, stale)

    def __getattr__(self, name: str) -> Any:
        """What only some stores can do, such as to be backed up."""
        return getattr(self._inner, name)

    async def aclose(self) -> None:
        with self._work.going_on():
            await self._inner.aclose()
        self._set_busy(False)

    def _set_busy(self, busy: bool) -> None:
        if busy and not self._is_busy:
            self._work.begin()
        elif self._is_busy and not busy:
            self._work.end()
        self._is_busy = busy
