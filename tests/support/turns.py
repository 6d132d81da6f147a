"""In which turn of Trio's loop events are appended."""

from __future__ import annotations

from collections.abc import Iterable

import trio

from trio_jobs._engine.events import Event

__all__ = ["Turns"]


class Turns(trio.abc.Instrument):
    """Counts the turns of Trio's loop, from when it is added as an instrument."""

    def __init__(self) -> None:
        self.count = 0
        self.events: list[tuple[type[Event], int]] = []
        """The events that were recorded: their classes and turns."""

    def before_io_wait(self, timeout: float) -> None:
        self.count += 1

    def record(self, events: Iterable[Event]) -> None:
        self.events.extend((type(event), self.count) for event in events)

    def of(self, class_: type[Event]) -> list[int]:
        """The turns of the events of one class."""
        return [turn for event, turn in self.events if event is class_]
