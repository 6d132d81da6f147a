"""The book that the jobs of a journal are for."""

from __future__ import annotations

from pathlib import Path

import msgspec
import trio

import trio_jobs
from trio_jobs_demo.bookkeeping import BOOK

__all__ = ["book_of_journal"]


class _BookId(msgspec.Struct):
    book: str


async def book_of_journal(journal: Path | None) -> str | None:
    """The id of the book in the first job of the journal that has one; None without a journal or such a job.

    The journal is opened by a service without handlers, so that no job of it runs.

    Raises:
        StoreError: The journal cannot be opened.
    """
    if journal is None or not await trio.Path(journal).exists():
        return None
    found: str | None = None
    async with trio_jobs.Service(unhandled_jobs="hold").open(journal=journal) as queue:
        page = queue.list(kind=BOOK, limit=1000)
        while found is None:
            for job in page:
                try:
                    found = msgspec.json.decode(job.payload or b"", type=_BookId).book
                    break
                except msgspec.DecodeError:
                    continue  # of another version of the demo
            if page.next is None:
                break
            page = queue.list(kind=BOOK, limit=1000, after=page.next)
    return found
