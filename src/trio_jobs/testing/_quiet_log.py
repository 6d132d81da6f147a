"""Keep the log records of simulated queues from the handlers of the program: all that they report is planned.

Queues that run beside a check are not affected. A simulated queue is told from them by its context: tasks have that of
the task which has started them, and the thread of a journal that of the task which has opened it.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from trio_jobs._log import diversion

__all__ = ["QuietLog", "quiet_log"]

MAX_LINES: Final = 1000  #: of the log of one check that are kept; its first ones


class QuietLog:
    """Collects the records of trio-jobs from `start` to `stop` that are logged in the context of `start`, and in those
    of the tasks that were started in it.

    Several can be started in one context; the handlers of the program get records again when all have stopped.
    """

    def __init__(self) -> None:
        self.lines: list[str] = []
        """What was logged since the start, or since the list was cleared: WARNING and above."""
        self.is_started = False
        self.outer: QuietLog | None = None
        """What had been started in the same context before."""

    def start(self) -> None:
        self.outer, self.is_started = _innermost(), True
        diversion.set(self)

    def stop(self) -> None:
        """End the collection, from whichever context. A second call does nothing."""
        self.is_started = False
        diversion.set(_innermost())

    def take(self, level: int, name: str, message: str, args: tuple[object, ...]) -> bool:
        is_outside = self.outer is not None and self.outer.take(level, name, message, args)
        if self.is_started and level >= logging.WARNING and len(self.lines) < MAX_LINES:
            self.lines.append(f"{logging.getLevelName(level)} {name}: {message % args if args else message}")
        return self.is_started or is_outside


def _innermost() -> QuietLog | None:
    """What was started last in this context, of those that have not stopped, in whichever context."""
    found = diversion.get()
    assert found is None or isinstance(found, QuietLog)
    while found is not None and not found.is_started:
        found = found.outer
    return found


@contextmanager
def quiet_log(log: bool) -> Iterator[list[str]]:
    """Keep the records of trio-jobs from the handlers of the program within the block, and yield them as lines.

    Args:
        log: Let the handlers of the program have them instead. The list stays empty.
    """
    quiet = QuietLog()
    if not log:
        quiet.start()
    try:
        yield quiet.lines
    finally:
        quiet.stop()
