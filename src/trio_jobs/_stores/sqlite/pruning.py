"""How jobs are taken out of the journal without holding a commit up for long.

A job's events lie anywhere between its first and its last, and there is no index to find them by (it would cost each
commit a second page). One job that waited for a week may span a million events of others. So all jobs of a batch are
looked for at once, window by window, each a wish of its own between two commits; and what was found is then deleted by
number, some jobs to a transaction. That takes time in proportion to the events that are there, however the jobs lie.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Final, TypeVar

from trio_jobs._engine.key_tombstones import KeyTombstone
from trio_jobs._stores.sqlite.journal import Journal

__all__ = ["prune"]

WINDOW: Final = 5000  #: numbers of events looked through at once: a millisecond or two
JOBS: Final = 50  #: in one transaction
KEYS: Final = 100  #: let go of in one transaction: as many pages, in the worst case

T = TypeVar("T")
ReadRequest = Callable[[Callable[[], Any]], Awaitable[Any]]


async def prune(
    ask: ReadRequest,
    journal: Journal,
    jobs: Mapping[str, tuple[int, int]],
    keys: Sequence[KeyTombstone],
    stale: Sequence[KeyTombstone],
) -> None:
    """See `Store.prune`. `ask` has the journal's thread do something between two groups."""
    if jobs:
        # events of the queue itself go with those around them
        start = min(journal.oldest, *(first for first, _ in jobs.values()))
        end = max(last for _, last in jobs.values())
        seqs: dict[str, list[int]] = {job: [] for job in ("", *jobs)}
        for at in range(start, end + 1, WINDOW):
            for seq, job in await ask(partial(journal.rows_of, list(seqs), at, min(at + WINDOW - 1, end))):
                seqs[job].append(seq)
        of_queue = seqs.pop("")
        key_of = {key.job: key for key in keys}
        parts = list(_parts(list(seqs), JOBS))
        for n, part in enumerate(parts, 1):
            rows = [seq for job in part for seq in seqs[job]]
            oldest = max(jobs[job][1] for job in part) + 1
            if n == len(parts):
                oldest, rows = end + 1, rows + of_queue
            kept = [key_of[job] for job in part if job in key_of]
            await ask(partial(journal.forget, rows, oldest, kept))
    for some in _parts(stale, KEYS):
        await ask(partial(journal.forget_keys, some))


def _parts(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    for at in range(0, len(items), size):
        yield items[at : at + size]
