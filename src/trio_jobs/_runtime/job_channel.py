"""The memory channel between submit and the consumer, with slots that are reserved before anything is accepted.

A Trio channel alone gives `submit` two bad choices: accept first and then be cancelled while it waits for room (a job
that nobody will run), or wait first and find the room taken. Here a *slot* is reserved first, which is the only wait
that can be cancelled; then `send` cannot fail. The capacity of the channel and the number of slots are the same number.
Tokio's channels name this pattern `reserve` and permit.

Two kinds of callers wait for a slot: new submits, first come first served, and the scheduler, for jobs that are due
again. While both wait, every second free slot goes to the scheduler, and it is served first; with `strict` all of them
do, so that no new job passes one that was submitted earlier. A slot that comes free is handed to a waiter directly, so
that no later caller can overtake it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable

import attrs
import trio

from trio_jobs._engine.jobs import JobRecord

__all__ = ["ChannelStatistics", "JobChannel"]


@attrs.frozen
class ChannelStatistics:
    """A snapshot of a `JobChannel`."""

    capacity: int
    """Number of slots."""
    free: int
    """Slots that nobody has reserved."""
    used: int
    """Jobs in the channel."""
    waiting: int
    """Submits that wait for a slot."""


@attrs.define(eq=False, init=False, repr=False)
class JobChannel:
    """A bounded, ordered channel of pending jobs.

    Args:
        capacity: number of slots, 1 or more.
        strict: while jobs wait to be requeued, new jobs get no slot.
    """

    capacity: int
    strict: bool
    _free: int
    _sender: trio.MemorySendChannel[JobRecord]
    _receiver: trio.MemoryReceiveChannel[JobRecord]
    _submits: trio.lowlevel.ParkingLot
    _requeues: trio.lowlevel.ParkingLot
    _requeue_is_next: bool
    _requeue_waiting: bool
    used: int
    """Jobs in the channel."""

    def __init__(self, capacity: int, *, strict: bool = False) -> None:
        self.capacity = capacity
        self.strict = strict
        self._free = capacity
        self._sender, self._receiver = trio.open_memory_channel[JobRecord](capacity)
        self._submits = trio.lowlevel.ParkingLot()
        self._requeues = trio.lowlevel.ParkingLot()
        self._requeue_is_next = True
        self._requeue_waiting = False
        self.used = 0

    def __repr__(self) -> str:
        return f"<JobChannel {self.used} waiting, {self._free} of {self.capacity} free>"

    @property
    def consumer_waits(self) -> bool:
        """The channel is empty and the consumer waits in `receive`."""
        return self.used == 0 and self._receiver.statistics().tasks_waiting_receive > 0

    def statistics(self) -> ChannelStatistics:
        return ChannelStatistics(self.capacity, max(self._free, 0), self.used, len(self._submits))

    def try_reserve(self) -> bool:
        """Reserve a slot for a new job if one is free.

        No submit can be waiting when one is free, since a free slot is handed to a waiter.
        """
        if self._free <= 0 or self._requeue_waiting:
            return False
        self._free -= 1
        return True

    async def reserve(self) -> None:
        """Reserve a slot for a new job; wait for one in the order of the calls.

        Cancelled:
            No slot is reserved.
        """
        if not self.try_reserve():
            await self._submits.park()

    def try_reserve_requeue(self) -> bool:
        """Reserve a slot for a job that is due again, if one is free."""
        if self._free <= 0:
            return False
        self._free -= 1
        return True

    async def reserve_requeue(self) -> None:
        """Reserve a slot for a job that is due again; wait for one.

        Cancelled:
            No slot is reserved.
        """
        if not self.try_reserve_requeue():
            await self._requeues.park()

    def set_requeue_waiting(self, waiting: bool) -> None:
        """Say whether jobs wait to be requeued. With `strict`, slots are kept for them, also while the scheduler is
        busy with another job."""
        if not self.strict:
            return
        self._requeue_waiting = waiting
        while not waiting and self._free > 0 and self._submits:
            self._free -= 1
            self._submits.unpark()

    def release(self) -> None:
        """Give a reserved slot back, to the waiter whose turn it is."""
        if self._free < 0:  # the slot was never there, see `wake_submits`
            self._free += 1
        elif self._requeues and (self._requeue_is_next or self._requeue_waiting or not self._submits):
            self._requeue_is_next = False
            self._requeues.unpark()
        elif self._submits and not self._requeue_waiting:
            self._requeue_is_next = True
            self._submits.unpark()
        else:
            self._free += 1

    def send(self, record: JobRecord) -> None:
        """Append a job. The caller has reserved a slot for it, so this cannot fail."""
        self._sender.send_nowait(record)
        self.used += 1

    def receive(self) -> Awaitable[JobRecord]:
        """Return the next job. In the same step the caller calls `received` or `unreceive`; until then the job counts
        as being in the channel.

        Cancelled:
            No job was received.
        """
        return self._receiver.receive()

    def received(self) -> None:
        """The job that `receive` returned has left the channel: release its slot."""
        self.used -= 1
        self.release()

    def unreceive(self, record: JobRecord) -> None:
        """Put the job that `receive` returned back as the next one. O(capacity)."""
        for other in (record, *self._drain()):
            self._sender.send_nowait(other)

    def remove(self, record: JobRecord) -> bool:
        """Take a job out of the channel, wherever it is, and release its slot. O(capacity). False: it is not there."""
        jobs = self._drain()
        rest = [other for other in jobs if other is not record]
        for other in rest:
            self._sender.send_nowait(other)
        for _ in range(len(jobs) - len(rest)):
            self.used -= 1
            self.release()
        return len(rest) < len(jobs)

    def position(self, record: JobRecord) -> int:
        """1 for the next job to be received, 0 if the job is not in the channel. O(capacity)."""
        jobs = self._drain()
        for other in jobs:
            self._sender.send_nowait(other)
        in_delivery = self.used - len(jobs)  # handed to a consumer that Trio has not resumed yet
        return next((i for i, other in enumerate(jobs, 1 + in_delivery) if other is record), 0)

    def _drain(self) -> list[JobRecord]:
        jobs: list[JobRecord] = []
        with contextlib.suppress(trio.WouldBlock):
            while True:
                jobs.append(self._receiver.receive_nowait())
        return jobs

    def wake_submits(self) -> None:
        """Resume every waiting submit with a slot that does not exist; each must release it and fail.

        The number of free slots is negative until as many have been released, by them or by others.
        """
        while self._submits:
            self._free -= 1
            self._submits.unpark()
