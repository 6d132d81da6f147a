"""The clocks."""

from __future__ import annotations

import time
from typing import final

import trio

__all__ = ["SystemClock", "TrioClock"]


@final
class SystemClock:
    """The wall clock of the system, and Trio's clock for waits. Conforms to `Clock`."""

    def now(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        return trio.current_time()


class TrioClock:
    """Both times are derived from Trio's clock, so that with a `MockClock` all time is virtual. Conforms to `Clock`.

    Args:
        epoch: The wall-clock time at the zero of Trio's clock, in seconds (UTC).
    """

    def __init__(self, epoch: float = 1_700_000_000.0) -> None:
        self.epoch = epoch

    def now(self) -> float:
        return self.epoch + trio.current_time()

    def monotonic(self) -> float:
        return trio.current_time()
