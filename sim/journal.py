"""The real store on the simulated disk: its thread's code runs in a task of Trio's, in virtual time.

`WriterThread` does everything as in its thread; only where it would wait it is asked instead. A sync takes virtual
time before the group is written, and what the thread tells arrives one scheduler step later or more, so that a crash
can come between any two of: handed over, collected, on the disk, told.
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
from trio_jobs._stores.group_commit import GroupCommit
from trio_jobs._stores.sqlite.high_water_mark import BackgroundSync
from trio_jobs._stores.sqlite.journal import Journal
from trio_jobs._stores.sqlite.rows import insert, to_row
from trio_jobs._stores.sqlite.store import SqliteStore
from trio_jobs._stores.sqlite.writer_thread import IDLE, Item, StoreListener, WriterThread

__all__ = ["PowerSwitch", "SimStore"]

PATH: Final = "/simulated/jobs.db"


class PowerSwitch(Protocol):
    """The machine that a store runs on."""

    alive: bool
    nursery: trio.Nursery

    async def sleep(self, seconds: float) -> None:
        """Virtual time; over at once where the machine is dead."""
        ...

    def note(self, who: str, what: str) -> None: ...


class SimStore(SqliteStore):
    """A `SqliteStore` on `disk`, for one life of `machine`."""

    _monotonic = staticmethod(trio.current_time)

    def __init__(self, disk: SimDisk, machine: PowerSwitch, habits: DiskHabits, chance: random.Random) -> None:
        super().__init__(PATH, disk=disk)
        self._group_commit = GroupCommit(self._hand_over, turns=1)  # the clock, which never waits, would jump meanwhile
        self._sim_disk = disk
        self._machine = machine
        self._habits = habits
        self._disk_chance = chance
        self.loop: _LoopWriterThread | None = None

    def _make_thread(self) -> tuple[Journal, WriterThread]:
        background = _LoopBackgroundSync(self._disk_chance, self._machine)
        journal = Journal(self.path, self._disk, allow_data_loss=self._allow_data_loss, background=background.run)
        self.loop = _LoopWriterThread(
            journal, background, self, self._sim_disk, self._machine, self._habits, self._disk_chance
        )
        return journal, self.loop

    @property
    def habits(self) -> DiskHabits:
        return self._habits

    @habits.setter
    def habits(self, habits: DiskHabits) -> None:
        self._habits = habits
        if self.loop is not None:
            self.loop.habits = habits

    def crash(self) -> None:
        """The power fails. A group that was being written is in, or it is not."""
        if self.loop is not None:
            self.loop.crash()


class _LoopBackgroundSync(BackgroundSync):
    """The mark's sync: at once, or so late that a crash comes first."""

    def __init__(self, chance: random.Random, machine: PowerSwitch) -> None:
        super().__init__()
        self._chance = chance
        self._machine = machine

    def run(self, sync: Callable[[], None]) -> None:
        if self._machine.alive and self._chance.random() < 0.7:
            sync()

    def stop(self) -> None:
        """There is no thread."""


class _Inbox:
    """A `SimpleQueue` that never blocks: who would wait asks `arrived` first."""

    def __init__(self) -> None:
        self._items: deque[Item] = deque()
        self._arrived = trio.Event()

    def put(self, item: Item) -> None:
        self._items.append(item)
        self._arrived.set()

    def get_nowait(self) -> Item:
        if not self._items:
            raise Empty
        return self._items.popleft()

    get = get_nowait

    async def arrived(self) -> None:
        while not self._items:
            self._arrived = trio.Event()
            await self._arrived.wait()


class _Waits:
    """In place of the thread's own waits: they are remembered, and slept afterwards."""

    def __init__(self) -> None:
        self.owed = 0.0

    def wait(self, seconds: float) -> None:
        self.owed += seconds

    def set(self) -> None:
        """Whoever gives up does not want to wait."""


class _LoopWriterThread(WriterThread):
    def __init__(
        self,
        journal: Journal,
        background: BackgroundSync,
        listener: StoreListener,
        disk: SimDisk,
        machine: PowerSwitch,
        habits: DiskHabits,
        chance: random.Random,
    ) -> None:
        super().__init__(journal, None, background, listener, cast("Any", None))
        self._box = _Inbox()
        self.inbox = cast("Any", self._box)
        self._waits = _Waits()
        self._hurry = cast("Any", self._waits)
        self._disk = disk
        self._machine = machine
        self.habits = habits
        self._chance = chance
        self._to_tell: deque[tuple[Callable[..., None], tuple[Any, ...]]] = deque()
        self._in_flight: list[Event] = []

    def start(self) -> None:
        self._machine.nursery.start_soon(self._live)

    def crash(self) -> None:
        group, self._in_flight = self._in_flight, []
        if group and self._chance.random() < 0.5:
            rows = [to_row(event) for event in group]
            self._disk.keep([(row[0], row[2]) for row in rows])
            if rows[0][0] > self._journal.last_seq:  # else it was in already, and `keep` has told of it
                insert(self._disk.database, rows)
            self._disk.fault = ""

    def _tell(self, fn: Callable[..., None], *args: Any) -> None:
        self._to_tell.append((fn, args))
        if fn == self._listener.on_failed:
            self._flush()  # what it answers is waited for right behind this

    def _flush(self) -> None:
        while self._to_tell:
            fn, args = self._to_tell.popleft()
            fn(*args)

    async def _told(self) -> None:
        """Let what was told arrive, after as many turns as it likes."""
        for _ in range(self._chance.choice((1, 1, 1, 2, 4))):
            await trio.lowlevel.checkpoint()
        self._flush()

    async def _live(self) -> None:
        try:
            result = outcome.capture(self._open)
            self._tell(self._listener.on_opened, result)
            await self._told()
            if isinstance(result, outcome.Value):
                await self._serve_in_trio()
        except Exception as error:
            self._tell(self._listener.on_broken, error)
        finally:
            if self._machine.alive:
                self._journal.close()
            self._tell(self._listener.on_closed)
            self._flush()

    async def _serve_in_trio(self) -> None:
        group: list[Event] = []
        while True:
            if not group:
                if self._closing and not self._asked and not self._box._items:
                    return
                if not self._asked and not self._closing:
                    await self._arrived()
                self._collect(group, wait=False)
            if group:
                group = await self._commit_in_trio(group)
                if self._give_up:
                    return
            if self._asked:
                ask = self._asked.popleft()
                if self._machine.alive:
                    self._answer(ask)
                await self._told()

    async def _arrived(self) -> None:
        if self._journal.mark_is_due:
            with trio.move_on_after(IDLE) as wait:
                await self._box.arrived()
            if wait.cancelled_caught and self._machine.alive:
                self._journal.sync_mark()
        await self._box.arrived()

    async def _commit_in_trio(self, group: list[Event]) -> list[Event]:
        habits, chance = self.habits, self._chance
        self._in_flight = list(group)
        await self._machine.sleep(habits.sync_time(chance))
        self._in_flight = []
        if not self._machine.alive:  # nobody can be told anything any more; only let go of those who wait
            self._tell(self._listener.on_committed, group)
            await self._told()
            return []
        self._disk.fault = habits.fault(chance)
        if self._disk.fault:
            self._disk.reopen_failures = habits.reopen_failures(chance)
            self._machine.note("disk", f"commit of {group[0].seq} to {group[-1].seq} fails ({self._disk.fault})")
        else:
            self._machine.note("disk", f"commits {group[0].seq} to {group[-1].seq}")
        rest = self._commit(group)
        await self._told()
        owed, self._waits.owed = self._waits.owed, 0.0
        if owed:
            await self._machine.sleep(owed)
        return rest
