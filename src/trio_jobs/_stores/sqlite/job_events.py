"""Read the events of one job without delaying a commit for long.

They are anywhere between its first and its last, and no index finds them, as described in `pruning`. So that range is
read window by window, the newest first, each window in a request of its own between two commits.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, Final

from trio_jobs._engine.events import Event
from trio_jobs._engine.job_history import MAX_EVENTS
from trio_jobs._stores.sqlite import rows
from trio_jobs._stores.sqlite.journal import Journal

__all__ = ["job_events"]

WINDOW: Final = 5000  #: `seq` numbers searched in one request: a millisecond or two

Call = Callable[[Callable[[], Any]], Awaitable[Any]]


async def job_events(call: Call, journal: Journal, job: str, first: int, last: int) -> Sequence[Event]:
    """See `Store.job_events`. `call` runs a function in the writer thread, between two groups."""
    windows: list[Sequence[Event]] = []
    count = 0
    for end in range(last, first - 1, -WINDOW):
        found: Sequence[Event] = await call(partial(_window, journal, job, max(end - WINDOW + 1, first), end))
        windows.append(found)
        count += len(found)
        if count >= MAX_EVENTS:
            break
    return [event for window in reversed(windows) for event in window][-MAX_EVENTS:]


def _window(journal: Journal, job: str, first: int, last: int) -> list[Event]:
    return [rows.decode(row[2]) for row in rows.of_job(journal.connection, journal.path, job, first, last)]
