"""The clocks of the machine: the wall clock is set forward and back, and the machine is suspended, at random moments.

Events have the time of the wall clock alone. So each reading of it is recorded, and the oracle finds the moment of an
event by its time.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Final, final

import attrs

from sim.plan import ClockChange
from trio_jobs._runtime.clock import TrioClock

__all__ = ["EPOCH", "EventLoopStandsStill", "SimClock"]

EPOCH = 1_700_000_000.0  #: UTC at virtual time 0
READINGS: Final = 100_000  #: of the elapsed seconds; a step of Trio's scheduler reads them some times


class EventLoopStandsStill(Exception):
    """A task of the queue loops without a checkpoint, and would do so for ever."""


@attrs.frozen
class _Era:
    """The time between two changes of the clocks."""

    began: float
    """Virtual seconds."""
    wall: float
    """What the wall clock shows at virtual time 0 of this era."""
    elapsed: float
    """What the clock of elapsed seconds shows at virtual time 0 of this era."""


@final
class SimClock(TrioClock):
    """Conforms to `Clock`. It survives the machine."""

    def __init__(self) -> None:
        super().__init__(EPOCH)
        self._eras = [_Era(0.0, EPOCH, 0.0)]
        self._readings: dict[float, float] = {}
        self.step: Callable[[], int] = lambda: 0
        """Returns the number of the step of Trio's scheduler; 0 if the steps are not counted."""
        self._last_step = 0
        self._count = 0

    @property
    def is_steady(self) -> bool:
        """Whether the clocks were never changed."""
        return len(self._eras) == 1

    def now(self) -> float:
        now = super().now()
        self._readings[now] = self.monotonic()
        return now

    def elapsed(self) -> float:
        self._count += 1
        if self._count == READINGS:
            step, self._count = self.step(), 0
            if step and step == self._last_step:
                raise EventLoopStandsStill(f"the clock is read {READINGS} times in one step of the scheduler")
            self._last_step = step
        return super().elapsed()

    def change(self, change: ClockChange) -> None:
        """Set the wall clock, or suspend the machine."""
        if change.suspends:
            self.suspend(change.seconds)
        else:
            self.set_wall(change.seconds)
        now = self.monotonic()
        self._eras.append(_Era(now, super().now() - now, self.elapsed() - now))

    # for the oracle: `at` is a time in virtual seconds

    def moment(self, wall: float) -> float | None:
        """The virtual time at which the wall clock was read and showed `wall`; None if it never did."""
        return self._readings.get(wall)

    def wall_at(self, at: float) -> float:
        """What the wall clock showed."""
        return self._era(at).wall + at

    def elapsed_at(self, at: float) -> float:
        """What the clock of elapsed seconds showed."""
        return self._era(at).elapsed + at

    def reached(self, at: float, *, wall: float | None = None, elapsed: float | None = None) -> float:
        """Since when the wall clock, or that of elapsed seconds, has shown this time or a later one, as of `at`.

        Returns:
            Virtual seconds; `at` if it does not show it at that moment.
        """
        since = at
        ends = [*(era.began for era in self._eras[1:]), float("inf")]
        for era, end in reversed([*zip(self._eras, ends, strict=True)]):
            if era.began > at:
                continue
            then = (wall or 0.0) - era.wall if elapsed is None else elapsed - era.elapsed
            if then > min(end, since):
                return since
            if then > era.began:
                return then
            since = era.began
        return since

    def changed_between(self, begin: float, end: float) -> bool:
        """Whether a clock was changed between these moments."""
        return any(begin <= after.began <= end for _, after in pairwise(self._eras))

    def _era(self, at: float) -> _Era:
        return next(era for era in reversed(self._eras) if era.began <= at or era.began == 0.0)
