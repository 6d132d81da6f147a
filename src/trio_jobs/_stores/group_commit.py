"""What one commit sets going is gathered for the next one, so that it shares a sync.

A commit wakes who waits for his submit, who submits again at once, and the consumer, which ends an attempt and begins
the next one two turns later. Given to the journal's thread one by one, the first of them would be synced alone while
the others wait for the sync after it: two for each job, where one is enough.

So what comes is held until Trio's loop has nothing left to do, which is when all that was set going is in; a lone
caller is not kept waiting for others. In a loop that never rests it is held for a few turns only: some 20 us each,
where a sync takes ten times that.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import Final

import trio

from trio_jobs._engine.events import Event

__all__ = ["TURNS", "GroupCommit"]

#: Measured with 1 to 4 turns, groups for each job: 2.0, 1.0, 1.0, 1.0 for one producer, 1.5, 1.1, 1.0, 1.0 for 100
TURNS: Final = 3


class GroupCommit(trio.abc.Instrument):
    """give: gets what was gathered, in order. turns: of the loop, after which it does in any case.

    It listens to Trio's loop rather than being run in it: a callback of its own for each turn would cost the loop as
    much as a small task does.
    """

    def __init__(self, give: Callable[[Sequence[Event]], None], turns: int = TURNS) -> None:
        self._give = give
        self._most = turns
        self._left = turns
        self._events: list[Event] = []

    def begin(self) -> None:
        """From now on, in this run of Trio, until `end`."""
        trio.lowlevel.add_instrument(self)

    def end(self) -> None:
        """Give what is left. Ending twice is harmless."""
        self.give_now()
        with contextlib.suppress(KeyError):
            trio.lowlevel.remove_instrument(self)

    def add(self, events: Sequence[Event]) -> None:
        self._events.extend(events)

    def clear(self) -> None:
        self._events = []
        self._left = self._most

    def give_now(self) -> None:
        events = self._events
        if events:
            self.clear()
            self._give(events)

    def before_io_wait(self, timeout: float) -> None:
        """timeout: seconds; 0 where a task is ready to run (or a clock of tests is about to jump)."""
        if self._events:
            self._left -= 1
            if timeout or not self._left:
                self.give_now()
