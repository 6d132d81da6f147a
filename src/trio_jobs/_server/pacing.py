"""Limits the time that pages of jobs take of the event loop, over all connections.

The rate limit of a connection bounds how many pages it requests, but a snapshot of 100,000 jobs is one request, and
the number of connections is large. So all pages of a server are made one after another, in steps of about half a
millisecond, and between the steps the event loop is left to others for four times as long. benchmarks/watchers.py
measures what remains: ten watchers at their rate limits add about a quarter to the time of a submit.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final, TypeVar

import trio

__all__ = ["STEP", "Pacer"]

T = TypeVar("T")

STEP: Final = 50  #: jobs of one step, about 10 us each
SHARE: Final = 0.2  #: of the time of the event loop
BURST: Final = 0.05  #: seconds of steps that may follow each other without a pause, such as a snapshot of 5,000 jobs


class Pacer:
    """Runs the steps of all pages of a server, first come first served.

    Args:
        clock: Seconds, to measure how long a step takes.
    """

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._turn = trio.StrictFIFOLock()
        # on Trio's clock; each step adds what it took, divided by its share (the generic cell rate algorithm)
        self._paid_until = 0.0

    async def run(self, step: Callable[[], T]) -> T:
        """Run a step when its turn has come, and return its result. A caller that has several steps calls again.

        Cancelled:
            The step did not run.
        """
        async with self._turn:
            await trio.sleep(max(self._paid_until - trio.current_time() - BURST / SHARE, 0.0))
            begun = self._clock()
            try:
                return step()
            finally:
                took = max(self._clock() - begun, 0.0)
                self._paid_until = max(self._paid_until, trio.current_time()) + took / SHARE
