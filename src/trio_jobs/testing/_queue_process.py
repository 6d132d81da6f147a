"""A simulated process that runs a queue, which can stop or crash, and the storage that survives it."""

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
from trio_jobs._service import Service, parts_of
from trio_jobs._stores.memory import MemoryStore
from trio_jobs._stores.sqlite.store import SqliteStore, call_in_writer
from trio_jobs.testing._instrumented import CallRecorder, instrument
from trio_jobs.testing._virtual_time import ExecutorLog, ThreadActivity
from trio_jobs.testing.crashable_store import CrashableStore
from trio_jobs.testing.kit import open_queue

__all__ = ["JobStorage", "QueueProcess", "StorageKind"]

StorageKind = Literal["memory", "disk", "sqlite"]

_MAX_JUMPS: Final = 10_000  #: deadlines that the clock advances by until a queue must have ended


class JobStorage:
    """The storage of a queue's jobs over several processes.

    Args:
        kind: "memory": a `MemoryStore`, which can be opened again, but cannot crash. "disk": a `CrashableStore`.
            "sqlite": a file; the next process after a crash opens a copy of the file, taken between two commits.
    """

    def __init__(self, kind: StorageKind) -> None:
        self.kind = kind
        self._memory = MemoryStore()
        self._disk = CrashableStore()
        self._folder: Path | None = None
        self._copies = count()
        self._path = Path()
        if kind == "sqlite":
            self._folder = Path(tempfile.mkdtemp(prefix="trio-jobs-"))
            self._path = self._folder / "jobs.db"
        self._sqlite: SqliteStore | None = None

    def store(self) -> Store:
        """A store for the next process."""
        if self.kind == "memory":
            return self._memory
        if self.kind == "disk":
            return self._disk.store()
        self._sqlite = SqliteStore(self._path)
        return self._sqlite

    def crash_now(self) -> None:
        """Crash a "disk" at once, from any thread."""
        self._disk.crash()

    async def crash(self) -> None:
        """Keep what is committed now for the next process; later writes of this process are lost."""
        assert self.kind != "memory", "jobs in memory do not survive a crash"
        self._disk.crash()
        if self._sqlite is not None and self._folder is not None:
            folder = self._folder / str(next(self._copies))
            old = self._path

            def copy() -> None:
                folder.mkdir()
                for name in old.parent.glob(old.name + "*"):
                    if not name.name.endswith("-lock"):
                        shutil.copy(name, folder / name.name)

            await call_in_writer(self._sqlite, copy)
            self._path = folder / old.name

    def clear(self) -> None:
        """Delete the files."""
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)


class QueueProcess:
    """One process that runs a queue until `stop` or `crash`.

    Args:
        service: The service under test.
        storage: Survives the process.
        clock: The clock of the current Trio run.
        settings: Override settings of the service.
        number: Counts processes; the seed of the queue.
    """

    def __init__(
        self,
        service: Service,
        storage: JobStorage,
        clock: trio.testing.MockClock,
        settings: dict[str, Any],
        number: int,
    ) -> None:
        self.recorder = CallRecorder()
        self.log = ExecutorLog()
        self.activity = ThreadActivity(clock)
        self.queue: Queue
        self._service = service
        self._storage = storage
        self._clock = clock
        self._settings = settings
        self._number = number
        self._stop = trio.Event()
        self._scope = trio.CancelScope()
        self._crashed = False
        self.ended = trio.Event()
        """The queue is closed."""
        self.read_after = 0
        """The event behind which the process reads the queue's events."""
        self.read: list[Event] = []
        """The events it has read."""

    @property
    def is_ending(self) -> bool:
        """Whether the process was asked to stop, or has crashed."""
        return self._stop.is_set() or self._crashed

    async def open(self, nursery: trio.Nursery) -> None:
        """Start the queue in `nursery`, which raises what ends the queue."""
        await nursery.start(self._run)

    async def _run(self, task_status: trio.TaskStatus[None]) -> None:
        handlers = {
            kind: instrument(handler, self.recorder) for kind, handler in parts_of(self._service).handlers.items()
        }
        try:
            with self._scope:
                async with open_queue(
                    self._service,
                    store=self._storage.store(),
                    activity=self.activity,
                    log=self.log,
                    handlers=handlers,
                    seed=self._number,  # job ids depend on it and on the time, which does not pass during a restart
                    **self._settings,
                ) as queue:
                    self.queue = queue
                    self.recorder.on_stop = self._stop.set
                    async with trio.open_nursery() as readers:
                        readers.start_soon(self._read_events)
                        task_status.started()
                        await self._stop.wait()
                        readers.cancel_scope.cancel()
        except Exception:
            if not (self._crashed or self.recorder.dead):  # errors of a dead process do not count
                raise
        finally:
            self.ended.set()

    async def _read_events(self) -> None:
        async for event in self.queue.events(after=self.read_after):
            self.read.append(event)

    async def settle(self) -> None:
        """Wait until all tasks are blocked and no thread is active."""
        while True:
            await trio.testing.wait_all_tasks_blocked()
            if not self.activity.is_active:
                return
            await self.activity.wait_idle()

    async def pass_time(self, seconds: float) -> None:
        """As `testing.pass_time`; it also waits for threads at each deadline."""
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

    async def stop(self) -> ShutdownReport:
        """Stop the queue normally; virtual time passes as needed."""
        self._stop.set()
        await self._until_ended()
        assert self.queue.report is not None
        return self.queue.report

    async def crash(self, release: Callable[[], None]) -> None:
        """Kill the process.

        Args:
            release: Releases blocked calls, which then raise `ProcessDied`.
        """
        if self._storage.kind != "memory":
            await self._storage.crash()
        self._crashed = self.recorder.dead = True
        release()
        self._scope.cancel()
        await self._until_ended()

    async def drain(self, within: float) -> bool:
        """Let jobs end within so many seconds of virtual time, and return whether the queue's drain returned."""
        drained = trio.Event()

        async def drain() -> None:
            await self.queue.drain()
            drained.set()

        ends_at = trio.current_time() + within
        async with trio.open_nursery() as nursery:
            nursery.start_soon(drain)
            while await self._advance(drained) and trio.current_time() < ends_at and not self.recorder.dead:
                pass
            nursery.cancel_scope.cancel()
        return drained.is_set()

    async def _until_ended(self) -> None:
        for _ in range(_MAX_JUMPS):
            if not await self._advance(self.ended):
                return
        raise AssertionError(f"the queue has not stopped after {_MAX_JUMPS} deadlines")

    async def _advance(self, until: trio.Event) -> bool:
        """Advance the clock to the next deadline and return true, unless `until` is set."""
        await self.settle()
        if until.is_set():
            return False
        until_next = trio.lowlevel.current_statistics().seconds_to_next_deadline
        assert until_next != float("inf"), "the queue waits for an event without a deadline"
        self._clock.jump(max(until_next, 0.0))
        return True
