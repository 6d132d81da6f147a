"""The memory channel between submit and the consumer, with slots that are reserved before anything is accepted.

With a Trio channel alone, `submit` could accept the job first and then be cancelled while it waits for capacity, so
that the job never runs; or wait first, and then another task could use the capacity. Here a *slot* is reserved first,
which is the only wait that can be cancelled; after that `send` cannot fail. The number of slots is the capacity of the
channel. Tokio's channels have the same pattern, `reserve` and permits.

Two kinds of callers wait for a slot: new submits, in the order of their calls, and the scheduler, for jobs that are due
again. While both wait, every second free slot goes to the scheduler, beginning with the first. With `strict` all free
slots go to the scheduler, so that no new job is processed before one that was submitted earlier. A slot that becomes
free is given to a waiter directly, so that no later caller can take it.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Awaitable, Callable
from itertools import islice

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
    """Slots that are not reserved."""
    used: int
    """Jobs in the channel."""
    waiting: int
    """Submits that wait for a slot."""


@attrs.define(eq=False, init=False, repr=False)
class JobChannel:
    """A bounded, ordered channel of pending jobs.

    Args:
        capacity: The number of slots, 1 or more.
        strict: While jobs wait to be requeued, new jobs get no slot.
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
    _waiting: int
    _jobs: deque[JobRecord]
    """Those in Trio's channel, in which one cannot look, and the one that it is delivering."""
    receive: Callable[[], Awaitable[JobRecord]]
    """Returns the next job. It stays in the channel until `received` is called; the caller must call `received` or
    `unreceive` before its next checkpoint. Cancelled: no job was received."""
    kinds: dict[str, int]
    """The number of these jobs by kind, of each kind that ever had any."""

    def __init__(self, capacity: int, *, strict: bool = False) -> None:
        self.capacity = capacity
        self.strict = strict
        self._free = capacity
        self._sender, self._receiver = trio.open_memory_channel[JobRecord](capacity)
        self.receive = self._receiver.receive
        self._submits = trio.lowlevel.ParkingLot()
        self._requeues = trio.lowlevel.ParkingLot()
        self._requeue_is_next = True
        self._requeue_waiting = False
        self._waiting = 0  # the callers in both parking lots, and those that have just been unparked
        self._jobs = deque()
        self.kinds = {}

    def __repr__(self) -> str:
        return f"<JobChannel {self.used} waiting, {self._free} of {self.capacity} free>"

    @property
    def used(self) -> int:
        """Jobs in the channel."""
        return len(self._jobs)

    @property
    def consumer_waits(self) -> bool:
        """Whether the channel is empty and the consumer waits in `receive`."""
        return self.used == 0 and self._receiver.statistics().tasks_waiting_receive > 0

    def statistics(self) -> ChannelStatistics:
        return ChannelStatistics(self.capacity, max(self._free, 0), self.used, len(self._submits))

    def try_reserve(self) -> bool:
        """Reserve a slot for a new job if one is free.

        While a slot is free no submit waits, since a released slot is given to a waiter.
        """
        if self._free <= 0 or self._requeue_waiting:
            return False
        self._free -= 1
        return True

    async def reserve(self) -> None:
        """Reserve a slot for a new job. Callers wait in the order of their calls.

        Cancelled:
            No slot is reserved.
        """
        if not self.try_reserve():
            await self._park(self._submits)

    def try_reserve_requeue(self) -> bool:
        """Reserve a slot for a job that is due again, if one is free."""
        if self._free <= 0:
            return False
        self._free -= 1
        return True

    async def reserve_requeue(self) -> None:
        """Reserve a slot for a job that is due again. Waits until one is free.

        Cancelled:
            No slot is reserved.
        """
        if not self.try_reserve_requeue():
            await self._park(self._requeues)

    async def _park(self, lot: trio.lowlevel.ParkingLot) -> None:
        self._waiting += 1
        try:
            await lot.park()
        finally:
            self._waiting -= 1

    def set_requeue_waiting(self, waiting: bool) -> None:
        """Set whether jobs wait to be requeued. With `strict`, free slots are then kept for them."""
        if not self.strict:
            return
        self._requeue_waiting = waiting
        while not waiting and self._free > 0 and self._submits:
            self._free -= 1
            self._submits.unpark()

    def release(self) -> None:
        """Release a reserved slot. It is given to the next waiter, if there is one."""
        if not self._waiting or self._free < 0:  # the usual case, found without a look at the parking lots
            self._free += 1
        elif self._requeues and (self._requeue_is_next or self._requeue_waiting or not self._submits):
            self._requeue_is_next = False
            self._requeues.unpark()
        elif self._submits and not self._requeue_waiting:
            self._requeue_is_next = True
            self._submits.unpark()
        else:
            self._free += 1

    def send(self, record: JobRecord) -> int:
        """Append a job, and return its position. The caller has reserved a slot for it, so this cannot fail."""
        self._sender.send_nowait(record)
        jobs, kinds, kind = self._jobs, self.kinds, record.kind
        jobs.append(record)
        kinds[kind] = kinds.get(kind, 0) + 1
        return len(jobs)

    def receive_nowait(self) -> JobRecord:
        """As `receive`, at once: the channel must not be empty. No checkpoint."""
        return self._receiver.receive_nowait()

    def received(self, record: JobRecord) -> None:
        """Remove this job, which `receive` has returned, and release its slot."""
        self._jobs.popleft()
        self.kinds[record.kind] -= 1
        if self._waiting:
            self.release()
        else:
            self._free += 1

    def unreceive(self, record: JobRecord) -> None:
        """Return the job of the last `receive` to the front of the channel. O(capacity)."""
        for other in (record, *self._drain()):
            self._sender.send_nowait(other)

    def remove(self, record: JobRecord) -> bool:
        """Remove a job from any position and release its slot. O(capacity). False: it is not in the channel."""
        jobs = self._drain()
        rest = [other for other in jobs if other is not record]
        for other in rest:
            self._sender.send_nowait(other)
        if len(rest) == len(jobs):
            return False
        del self._jobs[self.position(record) - 1]
        self.kinds[record.kind] -= 1
        self.release()
        return True

    def position(self, record: JobRecord) -> int:
        """Return the position of a job: 1 for the next one, 0 if it is not in the channel. O(capacity)."""
        return next((i for i, other in enumerate(self._jobs, 1) if other is record), 0)

    def kinds_before(self, position: int) -> list[str]:
        """Return the kinds of the jobs before this position, in order. O(capacity)."""
        return [job.kind for job in islice(self._jobs, position - 1)]

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
