"""Floor 6: the line, a memory channel whose places are held before anything is accepted.

A trio channel alone makes `submit` choose between two wrongs: accept first and then be cancelled in the wait for room
(a job that nobody will run), or wait first and find the room taken. Here a *place* is taken first, the only wait that
can be cancelled; then `put` cannot fail. Capacity of the channel and number of places are the same number.

Two kinds wait for a place: new submits, first come first served, and the one stager, for jobs that are due again. Of
the places that come free while both wait, every second one goes to the stager, and it goes first; in strict order all
of them do, so that no new job gets before one that was submitted earlier. A free place is handed over to a waiter
directly, so that nobody who comes later overtakes.
"""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable

import attrs
import trio

from trio_jobs._engine.jobs import JobRecord

__all__ = ["Line", "LineStatistics"]


@attrs.frozen
class LineStatistics:
    """capacity: places in all. free: places nobody holds. used: jobs in the line. waiting: callers waiting for a
    place."""

    capacity: int
    free: int
    used: int
    waiting: int


@attrs.define(eq=False, init=False, repr=False)
class Line:
    """`capacity` places, 1 or more, and the jobs that stand on them, in order.

    strict: as long as jobs wait to come back, no new one gets a place.
    """

    capacity: int
    strict: bool
    _free: int
    _send: trio.MemorySendChannel[JobRecord]
    _receive: trio.MemoryReceiveChannel[JobRecord]
    _submitters: trio.lowlevel.ParkingLot
    _stager: trio.lowlevel.ParkingLot
    _stager_next: bool
    _some_come_back: bool
    used: int
    """Jobs in the line."""

    def __init__(self, capacity: int, *, strict: bool = False) -> None:
        self.capacity = capacity
        self.strict = strict
        self._free = capacity
        self._send, self._receive = trio.open_memory_channel[JobRecord](capacity)
        self._submitters = trio.lowlevel.ParkingLot()
        self._stager = trio.lowlevel.ParkingLot()
        self._stager_next = True
        self._some_come_back = False
        self.used = 0

    def __repr__(self) -> str:
        return f"<Line {self.used} waiting, {self._free} of {self.capacity} free>"

    @property
    def is_awaited(self) -> bool:
        """Is somebody waiting for the next job, since there is none?"""
        return self.used == 0 and self._receive.statistics().tasks_waiting_receive > 0

    def statistics(self) -> LineStatistics:
        return LineStatistics(self.capacity, max(self._free, 0), self.used, len(self._submitters))

    def take_place_nowait(self) -> bool:
        """Hold a place if one is free. Nobody can be waiting then: a place that comes free goes to a waiter."""
        if self._free <= 0 or self._some_come_back:
            return False
        self._free -= 1
        return True

    def take_place_nowait_as_stager(self) -> bool:
        """The same for jobs that come back."""
        if self._free <= 0:
            return False
        self._free -= 1
        return True

    def some_come_back(self, some: bool) -> None:
        """Whether jobs wait to come back: in strict order places are kept for them, even while the stager is busy."""
        if not self.strict:
            return
        self._some_come_back = some
        while not some and self._free > 0 and self._submitters:
            self._free -= 1
            self._submitters.unpark()

    async def wait_for_place(self) -> None:
        """Hold a place as soon as it is this caller's turn. Cancelled: none is held."""
        if not self.take_place_nowait():
            await self._submitters.park()

    async def wait_for_place_as_stager(self) -> None:
        """The same for jobs that come back. Cancelled: none is held."""
        if not self.take_place_nowait_as_stager():
            await self._stager.park()

    def give_place_back(self) -> None:
        """A held place is needed no longer: it goes to whoever's turn it is."""
        if self._free < 0:  # it stands for one that is not there, see `wake_submitters`
            self._free += 1
        elif self._stager and (self._stager_next or self._some_come_back or not self._submitters):
            self._stager_next = False
            self._stager.unpark()
        elif self._submitters and not self._some_come_back:
            self._stager_next = True
            self._submitters.unpark()
        else:
            self._free += 1

    def put(self, record: JobRecord) -> None:
        """Join the end of the line, on a place that is held."""
        self._send.send_nowait(record)
        self.used += 1

    def receive(self) -> Awaitable[JobRecord]:
        """The next in line, which still counts as standing there until `leave` or `put_back`, in the same step.
        Cancelled: nobody was taken."""
        return self._receive.receive()

    def leave(self) -> None:
        """What was received is taken: it has left the line, and its place is free."""
        self.used -= 1
        self.give_place_back()

    def put_back(self, record: JobRecord) -> None:
        """What was received is not taken after all: it is the next again. O(capacity)."""
        for other in (record, *self._take_all()):
            self._send.send_nowait(other)

    def remove(self, record: JobRecord) -> bool:
        """Let a job leave the line from where it stands, and free its place. O(capacity). False: it is not there."""
        there = self._take_all()
        rest = [other for other in there if other is not record]
        for other in rest:
            self._send.send_nowait(other)
        for _ in range(len(there) - len(rest)):
            self.used -= 1
            self.give_place_back()
        return len(rest) < len(there)

    def position(self, record: JobRecord) -> int:
        """1 for the next to be taken; 0 if it does not stand in the line. O(capacity)."""
        there = self._take_all()
        for other in there:
            self._send.send_nowait(other)
        on_the_way = self.used - len(there)  # to a consumer that has been woken for it
        return next((i for i, other in enumerate(there, 1 + on_the_way) if other is record), 0)

    def _take_all(self) -> list[JobRecord]:
        there: list[JobRecord] = []
        with contextlib.suppress(trio.WouldBlock):
            while True:
                there.append(self._receive.receive_nowait())
        return there

    def wake_submitters(self) -> None:
        """Let every waiting submit go on, each with a place that is not there: they are to give it back and give up.

        The number of free places is below 0 until as many have been given back, by them or by others.
        """
        while self._submitters:
            self._free -= 1
            self._submitters.unpark()
