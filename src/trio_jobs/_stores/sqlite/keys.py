"""Keys of forgotten jobs as rows of the journal. They are written in the transaction that deletes their job's events,
so a key is always somewhere: in its job's first event, or here."""

from __future__ import annotations

import sqlite3
import struct
import zlib
from collections.abc import Iterator, Sequence
from contextlib import closing
from typing import Any, Final

from trio_jobs._engine.jobs import FINAL
from trio_jobs._engine.key_tombstones import KeyTombstone
from trio_jobs._errors import JournalDamaged
from trio_jobs._stores.sqlite.disk import Connection

__all__ = ["KeyRow", "delete_keys", "insert_keys", "key_page", "read_keys", "salvage_keys"]

KeyRow = tuple[bytes, str, str, str, float, int]  #: name, job, digest, state, at, checksum

_COLUMNS: Final = "name, job, digest, state, at, checksum"  #: by name where the table may be another than was made
_PLACES: Final = "(?, ?, ?, ?, ?, ?)"
_FINAL: Final = {str(state): state for state in FINAL}


def insert_keys(connection: Connection, keys: Sequence[KeyTombstone]) -> int:
    """How many were added: one that is there already is kept once."""
    added = 0
    for key in keys:
        row = _to_row(key)
        there = connection.execute("DELETE FROM keys WHERE name = ?", row[:1]).rowcount
        connection.execute(f"INSERT INTO keys VALUES {_PLACES}", row)  # noqa: S608 - placeholders alone
        added += 1 - there
    return added


def delete_keys(connection: Connection, keys: Sequence[KeyTombstone]) -> int:
    return sum(connection.execute("DELETE FROM keys WHERE name = ?", (key.name,)).rowcount for key in keys)


def read_keys(connection: Connection, path: str, expected: int) -> Iterator[KeyTombstone]:
    """Raises `JournalDamaged` if one of them is not what was written, or is missing."""
    count = 0
    with closing(connection.execute("SELECT * FROM keys ORDER BY at")) as cursor:
        for row in cursor:
            _check(row, path)
            count += 1
            name, job, digest, state, at, _ = row
            yield KeyTombstone(name, job, digest, _FINAL[state], at)
    if count != expected:
        raise JournalDamaged(path, f"it holds {count} keys of forgotten jobs and should hold {expected}")


def key_page(connection: Connection, path: str, after: bytes, limit: int) -> list[KeyRow]:
    """Rows in the order of their names, behind that name. Raises `JournalDamaged`."""
    rows: list[KeyRow] = connection.execute(
        "SELECT * FROM keys WHERE name > ? ORDER BY name LIMIT ?", (after, limit)
    ).fetchall()
    for row in rows:
        _check(row, path)
    return rows


def salvage_keys(connection: Connection) -> list[KeyRow]:
    """Every one that can be read."""
    found: dict[bytes, KeyRow] = {}
    for order in ("ASC", "DESC"):  # from both ends to where it is broken
        try:
            for row in connection.execute(f"SELECT {_COLUMNS} FROM keys ORDER BY name {order}"):  # noqa: S608 - our words
                if _is_sound(row):
                    found[row[0]] = tuple(row)
        except (sqlite3.Error, UnicodeDecodeError):
            continue
    return list(found.values())


def _to_row(key: KeyTombstone) -> KeyRow:
    checksum = _checksum(key.name, key.job, key.digest, key.state, key.at)
    return key.name, key.job, key.digest, str(key.state), key.at, checksum


def _checksum(name: bytes, job: str, digest: str, state: str, at: float) -> int:
    return zlib.crc32(b"\0".join((name, job.encode(), digest.encode(), state.encode(), struct.pack("<d", at))))


def _check(row: Any, path: str) -> None:
    if not _is_sound(row):
        raise JournalDamaged(path, "the row of a forgotten job's key fails its checksum")


def _is_sound(row: Any) -> bool:
    name, job, digest, state, at, checksum = row
    if not (isinstance(name, bytes) and isinstance(job, str) and isinstance(digest, str) and isinstance(at, float)):
        return False
    return state in _FINAL and _checksum(name, job, digest, state, at) == checksum
