"""Group commit, part one: gather the events that belong into one commit.

A commit wakes the caller of `submit`, which submits again at once, and the consumer, which ends an attempt and starts
the next one in the same turn of Trio's loop, or in the next one. If each of these events went to the writer thread
alone, the first would be synced by itself while the others wait for the next sync: two syncs for each job, where one is
enough.

So events are gathered until Trio's loop has nothing left to do, which is when everything that the last commit caused
has been appended; a single caller does not wait for others. In a loop that is never idle, events are gathered for a few
turns only: about 20 us each, where a sync takes ten times as long.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import Final

import trio

from trio_jobs._engine.events import Event

__all__ = ["MAX_TURNS", "GroupCommit"]

#: Measured with 1 to 4 turns, groups for each job: 1.0 for one producer, 1.9, 1.0, 1.0, 1.0 for 100
MAX_TURNS: Final = 3


class GroupCommit(trio.abc.Instrument):
    """Gathers events and passes them on as one group.

    It is an instrument of Trio's loop rather than a task in it: a callback for each turn would cost the loop as much as
    a small task does.

    Args:
        commit: Receives each group, in the order of `add`.
        max_turns: Turns of the loop after which a group is passed on although the loop is not idle.
        on_run_end: Called if the run of Trio ends before `stop`.
    """

    def __init__(
        self,
        commit: Callable[[Sequence[Event]], None],
        max_turns: int = MAX_TURNS,
        on_run_end: Callable[[], None] = lambda: None,
    ) -> None:
        self._commit = commit
        self._on_run_end = on_run_end
        self._max_turns = max_turns
        self._turns_left = max_turns
        self._events: list[Event] = []

    def start(self) -> None:
        """Pass groups on from now on, in this run of Trio, until `stop`."""
        trio.lowlevel.add_instrument(self)

    def stop(self) -> None:
        """Pass on the events gathered so far and no more after them. Stopping twice is harmless."""
        self.flush()
        with contextlib.suppress(KeyError):
            trio.lowlevel.remove_instrument(self)

    def add(self, events: Sequence[Event]) -> None:
        """Add events to the current group."""
        self._events.extend(events)

    def discard(self) -> None:
        """Drop the current group."""
        self._events = []
        self._turns_left = self._max_turns

    @trio.lowlevel.enable_ki_protection
    def flush(self) -> None:
        """Pass the current group on now. Ctrl-C cannot come between its removal here and its arrival there."""
        events = self._events
        if events:
            self.discard()
            self._commit(events)

    def after_run(self) -> None:
        """Called by Trio at the end of its run."""
        self.flush()
        self._on_run_end()

    def before_io_wait(self, timeout: float) -> None:
        """Called by Trio once in each turn; `timeout` is 0 if a task is ready to run (or a test clock will jump)."""
        if self._events:
            self._turns_left -= 1
            if timeout or not self._turns_left:
                self.flush()
