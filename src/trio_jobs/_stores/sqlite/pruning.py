"""Delete the events of pruned jobs without delaying a commit for long.

The events of a job are anywhere between its first and its last, and no index finds them (an index would cost each
commit a second page). A job that waited for a week may span a million events of other jobs. So the events of all jobs
of a batch are searched window by window, each window in a request of its own between two commits; then the events are
deleted by number, some jobs in each transaction. The time is proportional to the number of events in the range, in
whatever order the jobs ran.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Final, TypeVar

from trio_jobs._engine.key_tombstones import KeyTombstone
from trio_jobs._stores.sqlite.journal import Journal

__all__ = ["prune"]

WINDOW: Final = 5000  #: `seq` numbers searched in one request: a millisecond or two
JOBS_PER_TRANSACTION: Final = 100  #: 1 to 3 milliseconds
TRANSACTIONS: Final = 5  #: at most so many for the jobs: a group of commits, in which as many jobs end, precedes each
KEYS_PER_TRANSACTION: Final = 100  #: in the worst case each is in a page of its own

T = TypeVar("T")
Call = Callable[[Callable[[], Any]], Awaitable[Any]]


async def prune(
    call: Call,
    journal: Journal,
    jobs: Mapping[str, tuple[int, int]],
    keys: Sequence[KeyTombstone],
    stale: Sequence[KeyTombstone],
    activity: str | None = None,
) -> None:
    """See `Store.prune`. `call` runs a function in the writer thread, between two groups.

    The activity is written in the first transaction that deletes events.
    """
    if jobs:
        # queue events are deleted together with the jobs around them
        start = min(journal.oldest, *(first for first, _ in jobs.values()))
        end = max(last for _, last in jobs.values())
        parts = list(_split(list(jobs), max(JOBS_PER_TRANSACTION, -(-len(jobs) // TRANSACTIONS))))
        events: list[list[int]] = [[] for _ in parts]
        events_of = {job: seqs for part, seqs in zip(parts, events, strict=True) for job in part}
        events_of[""] = events[-1]
        searched = list(events_of)
        for first in range(start, end + 1, WINDOW):
            found = await call(partial(journal.find_events, searched, first, min(first + WINDOW - 1, end)))
            for seq, job in found.items():
                events_of[job].append(seq)
        tombstone_of = {key.job: key for key in keys}
        for n, part in enumerate(parts):
            oldest = max(jobs[job][1] for job in part) if n + 1 < len(parts) else end
            tombstones = [tombstone_of[job] for job in part if job in tombstone_of]
            await call(partial(journal.prune, events[n], oldest + 1, tombstones, activity if n == 0 else None))
    for part_of_stale in _split(stale, KEYS_PER_TRANSACTION):
        await call(partial(journal.delete_tombstones, part_of_stale))


def _split(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]
