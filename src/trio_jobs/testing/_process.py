"""One process of a queue under test: opened, used, and ended well, by force or by a crash; and what outlives it."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any, Final, Literal

import trio
import trio.testing

from trio_jobs._engine.events import Event
from trio_jobs._ports import Store
from trio_jobs._runtime.queue import Queue
from trio_jobs._runtime.report import ShutdownReport
from trio_jobs._service import Service
from trio_jobs._stores.memory import MemoryStore
from trio_jobs._stores.sqlite.store import SqliteStore
from trio_jobs.testing._virtual import ExecutorLog, Work
from trio_jobs.testing._watched import Watch, watched
from trio_jobs.testing.crashable_store import CrashableStore
from trio_jobs.testing.kit import open_queue

__all__ = ["Keeps", "Process", "Shelf"]

Keeps = Literal["memory", "disk", "sqlite"]

_MOST_JUMPS: Final = 10_000


class Shelf:
    """Where jobs are kept over several processes.

    "memory": in a `MemoryStore`, which can be opened again, but not crash. "disk": on a simulated disk. "sqlite": in a
    file; a crash leaves what a copy of the file, taken between two commits, holds.
    """

    def __init__(self, keeps: Keeps) -> None:
        self.keeps = keeps
        self._memory = MemoryStore()
        self._disk = CrashableStore()
        self._folder: Path | None = None
        self._copies = count()
        self._path = Path()
        if keeps == "sqlite":
            self._folder = Path(tempfile.mkdtemp(prefix="trio-jobs-"))
            self._path = self._folder / "jobs.db"
        self._sqlite: SqliteStore | None = None

    def store(self) -> Store:
        """For the next process."""
        if self.keeps == "memory":
            return self._memory
        if self.keeps == "disk":
            return self._disk.store()
        self._sqlite = SqliteStore(self._path)
        return self._sqlite

    def die(self) -> None:
        """At once, from any thread, for a simulated disk."""
        self._disk.crash()

    async def crash(self) -> None:
        """What is committed now is what the next process finds; what the dying one still writes goes nowhere."""
        assert self.keeps != "memory", "what is kept in memory dies with the process"
        self._disk.crash()
        if self._sqlite is not None and self._folder is not None:
            folder = self._folder / str(next(self._copies))
            old = self._path

            def copy() -> None:
                folder.mkdir()
                for name in old.parent.glob(old.name + "*"):
                    if not name.name.endswith("-lock"):
                        shutil.copy(name, folder / name.name)

            await self._sqlite._call(copy)
            self._path = folder / old.name

    def clear(self) -> None:
        """Remove its files."""
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)


class Process:
    """A queue that runs in `nursery` until it is told to end. What it dies of comes out of the nursery.

    follow_after, followed: a reader of its events begins behind that one, and these are those that it was given.
    """

    def __init__(
        self, service: Service, shelf: Shelf, clock: trio.testing.MockClock, settings: dict[str, Any], number: int
    ) -> None:
        self.watch = Watch()
        self.log = ExecutorLog()
        self.work = Work(clock)
        self.queue: Queue
        self._service = service
        self._shelf = shelf
        self._clock = clock
        self._settings = settings
        self._number = number
        self._leave = trio.Event()
        self._scope = trio.CancelScope()
        self._crashed = False
        self.ended = trio.Event()
        self.follow_after = 0
        self.followed: list[Event] = []

    async def open(self, nursery: trio.Nursery) -> None:
        await nursery.start(self._run)

    async def _run(self, task_status: trio.TaskStatus[None]) -> None:
        handlers = {kind: watched(handler, self.watch) for kind, handler in self._service._handlers.items()}
        try:
            with self._scope:
                async with open_queue(
                    self._service,
                    store=self._shelf.store(),
                    work=self.work,
                    log=self.log,
                    handlers=handlers,
                    seed=self._number,  # ids come from it and from the time, which stands still over a restart
                    **self._settings,
                ) as queue:
                    self.queue = queue
                    self.watch.on_stop = self._leave.set
                    async with trio.open_nursery() as readers:
                        readers.start_soon(self._follow)
                        task_status.started()
                        await self._leave.wait()
                        readers.cancel_scope.cancel()
        except Exception:
            if not (self._crashed or self.watch.dead):  # what the dead still say does not count
                raise
        finally:
            self.ended.set()

    async def _follow(self) -> None:
        async for event in self.queue.events(after=self.follow_after):
            self.followed.append(event)

    async def settle(self) -> None:
        """Until nothing more happens without time, with all threads at rest."""
        while True:
            await trio.testing.wait_all_tasks_blocked()
            if not self.work.is_going_on:
                return
            await self.work.rest()

    async def pass_time(self, seconds: float) -> None:
        """As `testing.pass_time`; threads are waited for at each stop."""
        left = seconds
        while True:
            await self.settle()
            until_next = max(trio.lowlevel.current_statistics().seconds_to_next_deadline, 0.0)
            if until_next > left:
                break
            self._clock.jump(until_next)
            left -= until_next
        self._clock.jump(left)
        await self.settle()

    async def leave(self) -> ShutdownReport:
        """End it in the ordinary way; time passes as it must."""
        self._leave.set()
        await self._until_ended()
        assert self.queue.report is not None
        return self.queue.report

    async def crash(self, let_go: Callable[[], None]) -> None:
        """It dies now. let_go: frees calls that hang, which find their process dead."""
        if self._shelf.keeps != "memory":
            await self._shelf.crash()
        self._crashed = self.watch.dead = True
        let_go()
        self._scope.cancel()
        await self._until_ended()

    async def drain(self, within: float) -> bool:
        """Let all that can end do so, within so many seconds of virtual time; jobs may be left that cannot. Tells
        whether the queue said that it is drained."""
        drained = trio.Event()

        async def drain() -> None:
            await self.queue.drain()
            drained.set()

        ends_at = trio.current_time() + within
        async with trio.open_nursery() as nursery:
            nursery.start_soon(drain)
            while await self._goes_on(drained) and trio.current_time() < ends_at and not self.watch.dead:
                pass
            nursery.cancel_scope.cancel()
        return drained.is_set()

    async def _until_ended(self) -> None:
        for _ in range(_MOST_JUMPS):
            if not await self._goes_on(self.ended):
                return
        raise AssertionError(f"the queue has not ended after {_MOST_JUMPS} deadlines")

    async def _goes_on(self, until: trio.Event) -> bool:
        """Go on to the next deadline, if `until` has not come."""
        await self.settle()
        if until.is_set():
            return False
        until_next = trio.lowlevel.current_statistics().seconds_to_next_deadline
        assert until_next != float("inf"), "the queue waits for nothing that has a time"
        self._clock.jump(max(until_next, 0.0))
        return True
