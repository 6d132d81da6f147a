"""The real journal on the simulated disk, with the code of its writer thread in a Trio task, in virtual time.

`WriterThread` does everything as in its thread, except that it never blocks: where it would wait, a task waits first. A
sync takes virtual time before the group is written, and each report to the store arrives one scheduler step later or
more. So a crash can come between any two of: appended, collected, on the disk, reported.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable
from queue import Empty
from typing import Any, Final, Protocol, cast

import outcome
import trio

from sim.disk import SimDisk
from sim.plan import DiskHabits
from trio_jobs._engine.events import Event
from trio_jobs._stores.durable_log import DurableLog
from trio_jobs._stores.durable_store import DurableStore
from trio_jobs._stores.sqlite.durable_log import SqliteLog
from trio_jobs._stores.sqlite.high_water_mark import BackgroundSync
from trio_jobs._stores.sqlite.journal import Journal
from trio_jobs._stores.sqlite.rows import insert, to_row
from trio_jobs._stores.sqlite.store import SqliteStore
from trio_jobs._stores.writer_thread import Item, StoreListener, WriterThread

__all__ = ["PowerSwitch", "SimStore"]

PATH: Final = "/simulated/jobs.db"


class PowerSwitch(Protocol):
    """The machine that a store runs on."""

    alive: bool
    """False once the power has failed."""
    nursery: trio.Nursery
    """Runs the tasks of the machine."""

    async def sleep(self, seconds: float) -> None:
        """Sleep in virtual time; return at once on a machine without power."""
        ...

    def note(self, who: str, what: str) -> None:
        """Add a line to the record of the schedule."""
        ...


class SimStore(SqliteStore):
    """A `SqliteStore` on a simulated disk, for one life of a machine."""

    def __init__(self, disk: SimDisk, machine: PowerSwitch, habits: DiskHabits, chance: random.Random) -> None:
        super().__init__(PATH, disk=disk)
        self._sim_disk = disk
        self._machine = machine
        self._habits = habits
        self._disk_chance = chance
        self._writer: _WriterTask | None = None
        self._durable = DurableStore(
            self._make_log,
            make_writer=self._make_writer,
            monotonic=trio.current_time,
            max_turns=1,  # the virtual clock would jump while events are gathered
        )

    def _make_log(self) -> SqliteLog:
        background = _BackgroundSync(self._disk_chance, self._machine)
        journal = Journal(
            self.path,
            self._disk,
            allow_data_loss=self._allow_data_loss,
            run_in_background=background.request,
            monotonic=trio.current_time,
        )
        return SqliteLog(journal, background, None)

    def _make_writer(self, log: DurableLog, listener: StoreListener, post: object) -> WriterThread:
        self._writer = _WriterTask(log, listener, self._sim_disk, self._machine, self._habits, self._disk_chance)
        return self._writer

    @property
    def habits(self) -> DiskHabits:
        """How the disk behaves from now on."""
        return self._habits

    @habits.setter
    def habits(self, habits: DiskHabits) -> None:
        self._habits = habits
        if self._writer is not None:
            self._writer.habits = habits

    def crash(self) -> None:
        """Fail the power. A group that was being written is committed or not."""
        if self._writer is not None:
            self._writer.crash()


class _BackgroundSync(BackgroundSync):
    """Syncs at once, or so late that a crash comes first."""

    def __init__(self, chance: random.Random, machine: PowerSwitch) -> None:
        super().__init__()
        self._chance = chance
        self._machine = machine

    def request(self, sync: Callable[[], None]) -> None:
        if self._machine.alive and self._chance.random() < 0.7:
            sync()

    def stop(self) -> None:
        """There is no thread."""


class _Inbox:
    """A `SimpleQueue` that never blocks; a task waits with `arrived` first."""

    def __init__(self) -> None:
        self._items: deque[Item] = deque()
        self._arrived = trio.Event()

    def __len__(self) -> int:
        return len(self._items)

    def put(self, item: Item) -> None:
        self._items.append(item)
        self._arrived.set()

    def empty(self) -> bool:
        return not self._items

    def get_nowait(self) -> Item:
        if not self._items:
            raise Empty
        return self._items.popleft()

    get = get_nowait

    async def arrived(self) -> None:
        """Wait for an item."""
        while not self._items:
            self._arrived = trio.Event()
            await self._arrived.wait()


class _Delays:
    """Replaces the event on which the writer thread waits before a retry: the task sleeps that long afterwards."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def wait(self, seconds: float) -> None:
        self.seconds += seconds

    def set(self) -> None:
        """Nothing is waiting."""


class _WriterTask(WriterThread):
    """A `WriterThread` that runs in a task."""

    def __init__(
        self,
        log: DurableLog,
        listener: StoreListener,
        disk: SimDisk,
        machine: PowerSwitch,
        habits: DiskHabits,
        chance: random.Random,
    ) -> None:
        super().__init__(log, listener, cast("Any", None))
        self._items = _Inbox()
        self.inbox = cast("Any", self._items)
        self._delays = _Delays()
        self._retry_now = cast("Any", self._delays)
        self._disk = disk
        self._machine = machine
        self.habits = habits
        self._chance = chance
        self._reports: deque[tuple[Callable[..., None], tuple[Any, ...]]] = deque()
        self._in_flight: list[Event] = []

    def start(self) -> None:
        self._machine.nursery.start_soon(self._run_in_trio)

    def crash(self) -> None:
        """Fail the power: a group that is in flight is committed or not."""
        group, self._in_flight = self._in_flight, []
        if group and self._chance.random() < 0.5:
            rows = [to_row(event) for event in group]
            self._disk.keep([(row[0], row[2]) for row in rows])
            if rows[0][0] > self._log.last_seq:  # else it is committed already, and `keep` has reported the clash
                insert(self._disk.database, rows)
            self._disk.fault = ""

    def _notify(self, fn: Callable[..., None], *args: Any) -> None:
        self._reports.append((fn, args))
        if fn == self._listener.on_failed:
            self._deliver()  # the caller waits for the replacement at once

    def _deliver(self) -> None:
        """Deliver the reports now."""
        while self._reports:
            fn, args = self._reports.popleft()
            fn(*args)

    async def _deliver_later(self) -> None:
        """Deliver the reports after a random number of turns."""
        for _ in range(self._chance.choice((1, 1, 1, 2, 4))):
            await trio.lowlevel.checkpoint()
        self._deliver()

    async def _run_in_trio(self) -> None:
        """See `_run`."""
        try:
            result = outcome.capture(self._log.open)
            self._notify(self._listener.on_opened, result)
            await self._deliver_later()
            if isinstance(result, outcome.Value):
                await self._serve_in_trio()
        except Exception as error:
            self._notify(self._listener.on_broken, error)
        finally:
            if self._machine.alive:
                self._log.close()
            self._notify(self._listener.on_closed)
            self._deliver()

    async def _serve_in_trio(self) -> None:
        """See `_serve`."""
        group: list[Event] = []
        while True:
            if not group:
                if self._is_closing and not self._requests and not self._items:
                    return
                if not self._requests and not self._is_closing:
                    await self._arrived()
                self._collect(group, wait=False)
            if group:
                group = await self._commit_in_trio(group)
                if self._is_abandoned:
                    return
            if self._requests:
                request = self._requests.popleft()
                if self._machine.alive:
                    self._answer(request)
                await self._deliver_later()

    async def _arrived(self) -> None:
        """See `_next_item`."""
        seconds = self._log.deferred_sync_wait
        if seconds is not None:
            with trio.move_on_after(seconds) as wait:
                await self._items.arrived()
            if wait.cancelled_caught and self._machine.alive:
                self._log.start_deferred_sync()
        await self._items.arrived()

    async def _commit_in_trio(self, group: list[Event]) -> list[Event]:
        """See `_commit`."""
        habits, chance = self.habits, self._chance
        self._in_flight = list(group)
        await self._machine.sleep(habits.sync_time(chance))
        self._in_flight = []
        if not self._machine.alive:  # nothing is read any more; only wake the tasks that wait for the commit
            self._notify(self._listener.on_committed, group)
            await self._deliver_later()
            return []
        self._disk.fault = habits.fault(chance)
        if self._disk.fault:
            self._disk.reopen_failures = habits.reopen_failures(chance)
            self._machine.note("disk", f"commit of {group[0].seq} to {group[-1].seq} fails ({self._disk.fault})")
        else:
            self._machine.note("disk", f"commits {group[0].seq} to {group[-1].seq}")
        rest = self._commit(group)
        await self._deliver_later()
        seconds, self._delays.seconds = self._delays.seconds, 0.0
        if seconds:
            await self._machine.sleep(seconds)
        return rest
