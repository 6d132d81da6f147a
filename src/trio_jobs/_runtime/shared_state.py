"""Small pieces of state that several parts of a running queue share."""

from __future__ import annotations

import attrs
import trio

from trio_jobs._runtime.report import ShutdownReport

__all__ = ["Estimates", "JobWaiters", "QueueStatus"]


@attrs.define(eq=False)
class QueueStatus:
    """How far the queue is on its way to its end."""

    closing: bool = False
    """Submits are refused: the queue drains or stops."""
    report: ShutdownReport | None = None
    """How it stopped; None while it runs."""
    unhandled: set[str] = attrs.field(factory=set)
    """Ids of open jobs that no handler of this service can process."""


class Estimates:
    """How long attempts take, as a mean that follows the last sixteen or so."""

    def __init__(self, min_interval: float) -> None:
        self._min_interval = min_interval
        self.mean_run: float | None = None
        """Seconds that an attempt took lately; None before the first has ended."""
        self.mean_turn: float | None = None
        """Seconds from one start to the next; None before the first attempt has ended."""

    def add(self, ran: float) -> None:
        """An attempt has taken `ran` seconds."""
        mean = self.mean_run
        self.mean_run = mean = ran if mean is None else mean + (ran - mean) / 16
        self.mean_turn = mean + self._min_interval

    def wait_at(self, position: int) -> float | None:
        """Seconds until the job at this position of the channel is started."""
        turn = self.mean_turn
        return None if turn is None else turn * position

    def wait_for_slot(self, waiting: int) -> float:
        """Seconds until a slot is free for the caller behind `waiting` others: one is freed for each attempt."""
        return min(max((self.mean_turn or 0.0) * (waiting + 1), 0.1), 600.0)


class JobWaiters:
    """Tasks that wait for a job's end, or for the queue to become idle."""

    def __init__(self) -> None:
        self.by_job: dict[str, trio.Event] = {}
        self._idle: trio.Event | None = None

    @property
    def idle_is_awaited(self) -> bool:
        return self._idle is not None

    async def wait(self, job_id: str) -> None:
        """Return at the job's next final or doubtful event, or when the queue stops. The caller looks again."""
        await self.by_job.setdefault(job_id, trio.Event()).wait()

    def wake(self, job_id: str) -> None:
        waiter = self.by_job.pop(job_id, None)
        if waiter is not None:
            waiter.set()

    async def wait_idle(self) -> None:
        """Return when the queue may be idle, or stops. The caller looks again."""
        if self._idle is None or self._idle.is_set():
            self._idle = trio.Event()
        await self._idle.wait()

    def wake_idle(self) -> None:
        if self._idle is not None:
            self._idle.set()

    def wake_all(self) -> None:
        """The queue has stopped."""
        waiters, self.by_job = self.by_job, {}
        for waiter in waiters.values():
            waiter.set()
        self.wake_idle()
