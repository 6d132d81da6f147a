"""The turns of Trio's loop: in which one events are appended, and Ctrl-C in chosen ones."""

from __future__ import annotations

import signal
from collections.abc import Iterable, Sequence

import trio

from trio_jobs._engine.events import Event

__all__ = ["InterruptTurns", "Turns"]


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


class InterruptTurns(Turns):
    """Presses Ctrl-C in these turns of Trio's loop."""

    def __init__(self, turns: Sequence[int]) -> None:
        super().__init__()
        self.turns = turns

    def before_io_wait(self, timeout: float) -> None:
        super().before_io_wait(timeout)
        if self.count in self.turns:
            signal.raise_signal(signal.SIGINT)
