"""The programs whose instructions are counted: a queue in memory, warmed up, and as many jobs as asked."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import trio

import trio_jobs
from benchmarks.peers import bare, ours
from benchmarks.peers.common import answer, warm


class CountedClock(trio.abc.Clock):
    """Time that advances by the same step each time it is read, whatever the machine does.

    How often subscribers are notified depends on what notifying took, and so do the instructions of a job.
    """

    STEP: Final = 25e-6  #: seconds; a job takes about as many, and reads the clock about once

    def __init__(self) -> None:
        self._now = 0.0

    def start_clock(self) -> None:
        pass

    def current_time(self) -> float:
        self._now += self.STEP
        return self._now

    def deadline_to_sleep_time(self, deadline: float) -> float:
        return max(deadline - self._now, 0.0)


async def on_a_thread(jobs: int) -> None:
    @contextmanager
    def sdk() -> Iterator[object]:
        yield object()

    service = trio_jobs.Service(sdk=sdk, seat_lock=None)

    @service.handler(on_doubt="hold")
    def nothing(sdk: object, number: int) -> None:
        pass

    async with service.open() as queue:
        await ours.submit(queue, warm(jobs), "nothing")
        await ours.submit(queue, jobs, "nothing")


if __name__ == "__main__":
    answer(
        bare=lambda jobs: trio.run(bare.memory, jobs),
        memory=lambda jobs: trio.run(ours.memory, jobs),
        followed=lambda jobs: trio.run(ours.memory, jobs, 1, clock=CountedClock()),
        thread=lambda jobs: trio.run(on_a_thread, jobs),
    )
