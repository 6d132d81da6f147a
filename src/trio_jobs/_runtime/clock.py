"""The clocks.

There are three kinds of time. A date is read from the wall clock, which may be set while the queue runs. A number of
seconds is measured on a clock that is never set and that also counts while the machine is suspended. Trio's clock, on
which tasks sleep, stops during a suspend on most systems, so longer waits are compared with the other two again and
again (`waits`).
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from typing import Final, final

import trio

__all__ = ["CountedFromWallClock", "SystemClock", "TrioClock"]

TOLERANCE: Final = 1.0  #: seconds by which the wall clock may differ from the monotonic clock between two readings


class CountedFromWallClock:
    """Elapsed seconds for systems without a clock that counts a suspend: the wall clock, forward only.

    While the machine is suspended, the wall clock advances and the monotonic clock does not. A wall clock that is set
    forward looks the same, and is counted too; one that is set back is not. Differences below `TOLERANCE`, by which a
    time service corrects the clock and by which two readings differ, are not counted.

    Args:
        monotonic: Seconds on a clock that is never set.
        wall: Seconds on a clock that may be set.
    """

    def __init__(self, monotonic: Callable[[], float], wall: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._wall = wall
        self._suspended = 0.0
        self._ahead = wall() - monotonic()

    def __call__(self) -> float:
        """The seconds, from an arbitrary zero."""
        now = self._monotonic()
        ahead = self._wall() - now
        if ahead > self._ahead + TOLERANCE:
            self._suspended += ahead - self._ahead
        self._ahead = ahead
        return now + self._suspended


@final
class SystemClock:
    """The clocks of the system, and Trio's clock for waits. Conforms to `Clock`."""

    # both are read several times for each job, so they are the functions of the system and not methods that call them
    now = staticmethod(time.time)
    elapsed: Callable[[], float]

    def __init__(self) -> None:
        self.elapsed = _elapsed_clock()

    def monotonic(self) -> float:
        return trio.current_time()


def _elapsed_clock() -> Callable[[], float]:
    number: int | None = getattr(time, "CLOCK_BOOTTIME", None)  # Linux; it counts while the machine is suspended
    if number is None:
        return CountedFromWallClock(time.monotonic, time.time)
    return functools.partial(time.clock_gettime, number)


class TrioClock:
    """All times are derived from Trio's clock, so that with a `MockClock` all time is virtual. Conforms to `Clock`.

    Args:
        epoch: The wall-clock time at the zero of Trio's clock, in seconds (UTC).
    """

    def __init__(self, epoch: float = 1_700_000_000.0) -> None:
        self.epoch = epoch
        self._suspended = 0.0

    def now(self) -> float:
        return self.epoch + self._suspended + trio.current_time()

    def elapsed(self) -> float:
        return self._suspended + trio.current_time()

    def monotonic(self) -> float:
        return trio.current_time()

    def set_wall(self, seconds: float) -> None:
        """Set the wall clock, as an operator or a time service does.

        Args:
            seconds: How far it is set forward; negative for back.
        """
        self.epoch += seconds

    def suspend(self, seconds: float) -> None:
        """Let the machine have been suspended: the wall clock and the elapsed seconds advance, Trio's clock does not.

        Args:
            seconds: How long, 0 or more.
        """
        self._suspended += seconds
