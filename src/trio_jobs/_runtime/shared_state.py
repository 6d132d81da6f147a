"""State that several parts of a running queue share."""

from __future__ import annotations

from typing import Literal

import attrs
import trio

from trio_jobs._runtime.report import ShutdownReport

__all__ = ["Estimates", "JobWaiters", "QueueStatus"]


@attrs.define(eq=False)
class QueueStatus:
    """Whether the queue is closing or has stopped, and which jobs it cannot process."""

    closing: bool = False
    """Whether submits are refused, since the queue drains or stops."""
    stopping: bool = False
    """Whether the queue stops, so that it never accepts submits again."""
    pump: Literal["overdue", "stuck"] | None = None
    """What is wrong with the pump; None if it is not inside, or not for long."""
    report: ShutdownReport | None = None
    """The report of the stop; None while the queue runs."""
    unhandled: set[str] = attrs.field(factory=set)
    """Ids of open jobs that no handler of this service can process."""


class Estimates:
    """Estimates of waiting times, from an exponential moving average over about sixteen attempts.

    Args:
        min_interval: The least time between two calls of the SDK, in seconds.
    """

    def __init__(self, min_interval: float) -> None:
        self._between = self._min_interval = min_interval
        """Seconds from the end of an attempt to the next start: the rest of the SDK, and a share of a save."""
        self._runs: dict[str, float] = {}
        self.mean_run: float | None = None
        """The mean duration of an attempt in seconds; None before the first has ended."""
        self._mean_save: float | None = None

    def add(self, kind: str, ran: float) -> None:
        """Add an attempt of a job of this kind that has taken `ran` seconds."""
        runs, mean = self._runs, self.mean_run
        of_kind = runs.get(kind, ran)
        runs[kind] = of_kind + (ran - of_kind) / 16
        self.mean_run = ran if mean is None else mean + (ran - mean) / 16

    def add_save(self, took: float, jobs: int) -> None:
        """Add a save that has taken `took` seconds and has completed so many jobs."""
        share, mean = took / jobs, self._mean_save
        self._mean_save = mean = share if mean is None else mean + (share - mean) / 16
        self._between = self._min_interval + mean

    def turn(self, kind: str) -> float | None:
        """Return the estimated seconds from the start of an attempt of a job of this kind to the next start.

        For a kind of which no attempt has ended, those of all kinds. None before the first attempt has ended.
        """
        ran = self._runs.get(kind, self.mean_run)
        return None if ran is None else ran + self._between

    def wait_for_slot(self, waiting: int) -> float:
        """Return the estimated seconds until a slot is free for a caller behind `waiting` others, 0.1 to 600."""
        mean_turn = 0.0 if self.mean_run is None else self.mean_run + self._between
        return min(max(mean_turn * (waiting + 1), 0.1), 600.0)


class JobWaiters:
    """Tasks that wait until a job is final, or until the queue is idle."""

    def __init__(self) -> None:
        self.by_job: dict[str, trio.Event] = {}
        self.idle: trio.Event | None = None
        """Set when the queue may be idle; None before the first caller waits for that."""

    async def wait(self, job_id: str) -> None:
        """Return when the job becomes final or in doubt, or the queue stops. The caller must check its condition."""
        await self.by_job.setdefault(job_id, trio.Event()).wait()

    def wake(self, job_id: str) -> None:
        waiter = self.by_job.pop(job_id, None)
        if waiter is not None:
            waiter.set()

    async def wait_idle(self) -> None:
        """Return when the queue may be idle, or stops. The caller must check its condition."""
        if self.idle is None or self.idle.is_set():
            self.idle = trio.Event()
        await self.idle.wait()

    def wake_idle(self) -> None:
        if self.idle is not None:
            self.idle.set()

    def wake_all(self) -> None:
        """Wake all waiting tasks, since the queue has stopped."""
        waiters, self.by_job = self.by_job, {}
        for waiter in waiters.values():
            waiter.set()
        self.wake_idle()
