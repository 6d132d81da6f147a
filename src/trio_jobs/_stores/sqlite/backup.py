"""A copy of the journal as of one event, made while it is in use.

It is read in pages, each a wish between two commits, and written by a thread of its own into a file that gets its final
name only when all of it is on the disk. Nothing is pruned meanwhile, so what is copied page by page is one state: all
events up to the last one that was committed when it began. Each row is checked on its way, so a backup is sound.

A backup is no journal yet: it says so in its header, and `restore` makes one of it.
"""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import sqlite3
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

import trio

from trio_jobs._errors import StoreError
from trio_jobs._ports import Backup
from trio_jobs._stores.sqlite.disk import Disk
from trio_jobs._stores.sqlite.errors import is_full
from trio_jobs._stores.sqlite.journal import Journal
from trio_jobs._stores.sqlite.schema import BACKUP_ID, create, set_meta

__all__ = ["backup"]

log: Final = logging.getLogger("trio_jobs.journal")

PAGE: Final = 500  #: rows read between two commits: half a millisecond

ReadRequest = Callable[[Callable[[], Any]], Awaitable[Any]]


async def backup(ask: ReadRequest, journal: Journal, disk: Disk, to: str) -> Backup:
    """Copy `journal` to the file `to`. `ask` has the journal's thread do something; nothing may be pruned meanwhile.

    Raises `StoreError`, `JournalDamaged`. Cancelled, or with an error: there is no such file.
    """
    part = _Part(to, disk)
    limiter = trio.CapacityLimiter(1)
    meta: dict[str, str] = await ask(journal.meta)
    last = journal.last_seq  # of a moment later, which does no harm: more of the same history
    try:
        await trio.to_thread.run_sync(part.begin, meta, limiter=limiter)
        count = 0
        for pages, table in ((journal.raw_page, "events"), (journal.raw_keys, "keys")):
            after: Any = 0 if table == "events" else b""
            while rows := await ask(partial(pages, after, last, PAGE)):
                after = rows[-1][0]
                count += len(rows) if table == "events" else 0
                await trio.to_thread.run_sync(part.add, table, rows, limiter=limiter)
        size = await trio.to_thread.run_sync(part.finish, limiter=limiter)
    except FileExistsError:
        raise StoreError(f"{to} exists already; a backup overwrites nothing") from None
    except (sqlite3.Error, OSError) as error:
        full = isinstance(error, sqlite3.Error) and is_full(error)
        raise StoreError(f"backup {to}: {'the disk is full' if full else error}") from error
    finally:
        part.discard()
    return Backup(part.to, last, count, size)


class _Part:
    """The file that is being made; 0600 from its first moment."""

    def __init__(self, to: str, disk: Disk) -> None:
        self.to = str(Path(to).absolute())
        self._path = f"{self.to}.part-{secrets.token_hex(4)}"
        self._disk = disk
        self._connection: sqlite3.Connection | None = None

    def begin(self, meta: dict[str, str]) -> None:
        if Path(self.to).exists():
            raise FileExistsError
        os.close(os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
        self._connection = connection = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False)
        # what is not finished is thrown away, so nothing needs to be safe before the end
        connection.execute("PRAGMA journal_mode = OFF").fetchone()
        connection.execute("PRAGMA synchronous = OFF")
        create(connection, meta["epoch"], application_id=BACKUP_ID)
        connection.execute("BEGIN IMMEDIATE")
        for name, value in meta.items():
            set_meta(connection, name, value)

    def add(self, table: str, rows: Sequence[Sequence[Any]]) -> None:
        assert self._connection is not None
        places = ", ".join("?" * len(rows[0]))
        self._connection.executemany(f"INSERT INTO {table} VALUES ({places})", rows)  # noqa: S608 - our words

    def finish(self) -> int:
        """Give it its name. Bytes of it."""
        assert self._connection is not None
        self._connection.execute("COMMIT")
        self._connection.close()
        fd = os.open(self._path, os.O_RDWR)
        try:
            os.fsync(fd)
            size = os.fstat(fd).st_size
        finally:
            os.close(fd)
        try:
            os.link(self._path, self.to)  # in one step, and never over another file
        except FileExistsError:
            raise
        except OSError:  # a file system without links
            if Path(self.to).exists():
                raise FileExistsError from None
            Path(self._path).rename(self.to)
        with contextlib.suppress(OSError):  # a power cut may take the name away, never leave half a file under it
            self._disk.sync_folder(self.to)
        return size

    def discard(self) -> None:
        if self._connection is not None:
            self._connection.close()
        Path(self._path).unlink(missing_ok=True)
