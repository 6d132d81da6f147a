"""SQLite's errors as errors of the store."""

from __future__ import annotations

import sqlite3
from typing import Final

from trio_jobs._errors import JournalDamaged, StoreError

__all__ = ["describe", "explain", "is_full"]

_DAMAGE: Final = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_FORMAT}


def is_full(error: BaseException) -> bool:
    """Whether SQLite found the disk full: then it has written nothing, and the connection remains usable."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_FULL


def describe(error: BaseException) -> str:
    """What happened, in words. SQLite's own are the same for all errors of the disk, so its error name is added."""
    if is_full(error):
        return "the disk is full"
    if isinstance(error, MemoryError):  # the one of sqlite3 has no text
        return "there is not enough memory"
    if isinstance(error, OSError) and error.strerror and error.filename:
        return f"{error.strerror}: {error.filename}"
    name = getattr(error, "sqlite_errorname", "")
    if name == "SQLITE_IOERR_WRITE":
        name += ": the system refused a write, as it does at a quota or a limit of file sizes"
    return f"{error} ({name})" if name.startswith("SQLITE_IOERR") else str(error)


def explain(error: sqlite3.Error, path: str, *, is_known: bool) -> StoreError:
    """The `StoreError` to raise instead.

    Args:
        error: Raised by SQLite while the file was opened or read.
        path: Of the journal.
        is_known: Whether a high-water mark says that the file is a journal.
    """
    code = getattr(error, "sqlite_errorcode", None)
    primary = None if code is None else code & 0xFF
    if primary is None or primary in _DAMAGE:
        if primary == sqlite3.SQLITE_NOTADB and not is_known:
            return StoreError(f"{path} is not a trio-jobs journal: {error}")
        return JournalDamaged(path, str(error))
    if primary == sqlite3.SQLITE_BUSY:
        return StoreError(f"journal {path} is locked by another program; close the file there")
    if primary == sqlite3.SQLITE_CANTOPEN:
        return StoreError(
            f"journal {path} cannot be written to: SQLite could not open it, or could not create {path}-wal beside it"
        )
    if primary in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM):
        return StoreError(f"journal {path} cannot be written to: {error}")
    return StoreError(f"journal {path}: {describe(error)}")
