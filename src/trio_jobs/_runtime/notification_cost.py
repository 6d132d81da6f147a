"""What it costs to notify readers, apart from what they do with each event.

A delay saves the overhead of a notification (a turn of the event loop, a switch to each reader, a write to each
socket), since one notification then takes the place of several. It does not save what the readers do with each event.
If that counted too, the notifications of a busy queue would be delayed far too long: a long delay collects many events,
so that the next notification takes long, and is followed by a long delay again. So the two parts are separated by a
line through the measurements, by least squares with less weight for older ones: seconds for each reader, by the number
of events. Its slope is what an event costs.

Other tasks work in the same turns of the event loop. So the overhead is the least of the last few measurements: while
the loop is idle half of the time, one of these had the loop for itself. While it is never idle, none had, so that
notifications are delayed more when they take time from others.
"""

from __future__ import annotations

from collections import deque
from typing import Final

__all__ = ["NotificationCost"]

MEMORY: Final = 0.95  #: weight of a measurement relative to the next one: about the last 20 determine the slope
DOUBT: Final = 0.1  #: the slope is flattened if the numbers of events differ by less than a third of their mean
FEW: Final = 8  #: measurements of which the least overhead counts
EVENTS: Final = 10  #: events that take a reader as long as its overhead, at most: bounds the error of the slope
SELDOM: Final = 8  #: notifications of which one is measured, since that takes two turns of the event loop
INTERVAL: Final = 0.05  #: seconds after which one is measured in any case


class NotificationCost:
    """Estimates the overhead of notifications from those that were measured. Pure."""

    __slots__ = (
        "_busy",
        "_count",
        "_events",
        "_events_seconds",
        "_events_squared",
        "_last",
        "_least",
        "_next",
        "_seconds",
        "_weight",
    )

    def __init__(self) -> None:
        # sums over the measurements so far
        self._weight = self._events = self._seconds = self._events_squared = self._events_seconds = 0.0
        self._last: deque[float] = deque(maxlen=FEW)
        self._least = 0.0
        self._busy = 0
        self._count = 0
        self._next = 0.0

    def is_due(self, now: float) -> bool:
        """Count a notification, and return whether it should be measured. now: seconds."""
        self._count += 1
        return self._count >= SELDOM or now >= self._next or len(self._last) < FEW or not self._least

    @property
    def of_an_event(self) -> float:
        """Seconds that a reader takes for each event."""
        mean = self._events * self._events
        spread = self._events_squared * self._weight - mean
        together = self._events_seconds * self._weight - self._events * self._seconds
        return max(together / (spread + mean * DOUBT), 0.0)

    def add(self, took: float, readers: int, events: int, now: float, *, more: bool) -> None:
        """Add a measurement.

        Args:
            took: Seconds that a notification took, until the readers had run.
            readers: How many were notified, at least 1.
            events: How many events were new, at least 1.
            now: Seconds.
            more: Whether further events were committed in the next turn of the event loop.
        """
        each = took / readers
        self._weight = self._weight * MEMORY + 1
        self._events = self._events * MEMORY + events
        self._seconds = self._seconds * MEMORY + each
        self._events_squared = self._events_squared * MEMORY + events * events
        self._events_seconds = self._events_seconds * MEMORY + events * each
        self._last.append(max(each - self.of_an_event * events, each / (1 + events / EVENTS)))
        self._least = min(self._last)
        self._busy = min(self._busy + 1, FEW) if more else max(self._busy - 3, 0)
        self._count = 0
        self._next = now + INTERVAL

    @property
    def is_busy(self) -> bool:
        """Whether the turns of the event loop after more than three of four measurements committed events."""
        return self._busy >= FEW // 2

    def overhead(self, readers: int) -> float:
        """Return the seconds that a notification of that many readers takes, apart from its events."""
        return readers * self._least
