"""Copy the journal, as of one event, while it is in use.

The copy is read in pages, each in a request between two commits, and written by another thread into a file that gets
its final name when all of it is on the disk. Nothing is pruned meanwhile, so the pages together are one state: all
events up to the last one that was committed when the backup started. Each row is verified, so a backup is sound.

A backup is not a journal yet: its header says so, and `restore` turns it into one.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import sqlite3
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

import trio

from trio_jobs._backup import Backup
from trio_jobs._errors import StoreError, UsageError
from trio_jobs._stores.sqlite.disk import Disk
from trio_jobs._stores.sqlite.errors import describe
from trio_jobs._stores.sqlite.journal import Journal
from trio_jobs._stores.sqlite.schema import BACKUP_ID, create, set_meta

__all__ = ["backup"]

PAGE: Final = 500  #: rows read between two commits: half a millisecond

Call = Callable[[Callable[[], Any]], Awaitable[Any]]


async def backup(call: Call, journal: Journal, disk: Disk, to: str) -> Backup:
    """Copy the journal to a new file.

    Args:
        call: Runs a function in the writer thread, between two groups.
        journal: Must not be pruned meanwhile.
        disk: Syncs the folder of the copy.
        to: Path of the copy.

    Raises:
        UsageError: The file exists.
        StoreError: It cannot be written, or the journal cannot be read. The file is not created.
        JournalDamaged: The journal has a damaged row. The file is not created.

    Cancelled:
        The file is not created.
    """
    part = _PartialFile(to, disk)
    limiter = trio.CapacityLimiter(1)
    meta: dict[str, str] = await call(journal.meta)
    last = journal.last_seq  # read a moment later, which is harmless: it may be higher, in the same history
    try:
        await trio.to_thread.run_sync(part.create, meta, limiter=limiter)
        count = 0
        for pages, table in ((journal.row_page, "events"), (journal.tombstone_page, "keys")):
            after: Any = 0 if table == "events" else b""
            while rows := await call(partial(pages, after, last, PAGE)):
                after = rows[-1][0]
                count += len(rows) if table == "events" else 0
                await trio.to_thread.run_sync(part.add, table, rows, limiter=limiter)
        size = await trio.to_thread.run_sync(part.finish, limiter=limiter)
    except FileExistsError:
        raise UsageError(f"{to} already exists; a backup does not overwrite files") from None
    except (sqlite3.Error, OSError) as error:
        raise StoreError(f"backup {to}: {describe(error)}") from error
    finally:
        part.discard()
    return Backup(part.to, last, count, size)


class _PartialFile:
    """The copy under its temporary name. The file is created with mode 0600."""

    def __init__(self, to: str, disk: Disk) -> None:
        self.to = str(Path(to).absolute())
        self._path = f"{self.to}.part-{secrets.token_hex(4)}"
        self._disk = disk
        self._connection: sqlite3.Connection | None = None

    def create(self, meta: dict[str, str]) -> None:
        """Create the file and its tables. Raises `FileExistsError` if the final name is in use."""
        if Path(self.to).exists():
            raise FileExistsError
        os.close(os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
        self._connection = connection = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False)
        # an unfinished file is deleted, so nothing needs to be durable before `finish`
        connection.execute("PRAGMA journal_mode = OFF").fetchone()
        connection.execute("PRAGMA synchronous = OFF")
        create(connection, meta["epoch"], application_id=BACKUP_ID)
        connection.execute("BEGIN IMMEDIATE")
        for name, value in meta.items():
            set_meta(connection, name, value)

    def add(self, table: str, rows: Sequence[Sequence[Any]]) -> None:
        """Insert rows."""
        assert self._connection is not None
        places = ", ".join("?" * len(rows[0]))
        self._connection.executemany(f"INSERT INTO {table} VALUES ({places})", rows)  # noqa: S608 - constants

    def finish(self) -> int:
        """Sync the file and give it its final name. Return its size in bytes."""
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
            os.link(self._path, self.to)  # atomic, and never replaces a file
        except FileExistsError:
            raise
        except OSError:  # the file system has no hard links
            if Path(self.to).exists():
                raise FileExistsError from None
            Path(self._path).rename(self.to)
        with contextlib.suppress(OSError):  # a power cut may lose the name, but not leave a partial file
            self._disk.sync_folder(self.to)
        return size

    def discard(self) -> None:
        """Close the file and delete its temporary name."""
        if self._connection is not None:
            self._connection.close()
        Path(self._path).unlink(missing_ok=True)
