"""What SQLite's errors mean to the owner of a journal."""

from __future__ import annotations

import sqlite3
from typing import Final

from trio_jobs._errors import JournalDamaged, StoreError

__all__ = ["explain", "is_full"]

_DAMAGE: Final = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_FORMAT}


def is_full(error: sqlite3.Error | OSError) -> bool:
    """There is no room: nothing was written, and the connection is good."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_FULL


def explain(error: sqlite3.Error, path: str, *, is_known: bool) -> StoreError:
    """The error to raise in its place. is_known: a mark says that there was a journal here."""
    code = getattr(error, "sqlite_errorcode", None)
    primary = None if code is None else code & 0xFF
    if primary is None or primary in _DAMAGE:
        if primary == sqlite3.SQLITE_NOTADB and not is_known:
            return StoreError(f"{path} is no journal of trio-jobs: {error}")
        return JournalDamaged(path, str(error))
    if primary == sqlite3.SQLITE_BUSY:
        return StoreError(f"journal {path} is open in another program")
    if primary in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM):
        return StoreError(f"journal {path} cannot be written to: {error}")
    return StoreError(f"journal {path}: {error}")
