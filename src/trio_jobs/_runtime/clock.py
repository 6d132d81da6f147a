"""Floor 6: the clocks."""

from __future__ import annotations

import time
from typing import final

import trio

__all__ = ["SystemClock", "TrioClock"]


@final
class SystemClock:
    """The machine's wall clock, and Trio's for waits. Conforms to `Clock`."""

    def now(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        return trio.current_time()


class TrioClock:
    """Both times from Trio's clock, `epoch` (UTC, seconds) being its zero: with a MockClock, all time is virtual."""

    def __init__(self, epoch: float = 1_700_000_000.0) -> None:
        self.epoch = epoch

    def now(self) -> float:
        return self.epoch + trio.current_time()

    def monotonic(self) -> float:
        return trio.current_time()
