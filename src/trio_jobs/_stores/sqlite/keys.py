"""Key tombstones as rows of the `keys` table.

A tombstone is written in the transaction that deletes the events of its job, so every key is always in one place: in
the first event of its job, or here.
"""

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

__all__ = [
    "TombstoneRow",
    "delete_tombstones",
    "insert_tombstones",
    "read_tombstones",
    "salvage_tombstones",
    "tombstone_page",
]

TombstoneRow = tuple[bytes, str, str, str, float, int]  #: name, job, digest, state, at, checksum

_COLUMNS: Final = "name, job, digest, state, at, checksum"  #: for a table that may have other columns too
_PLACES: Final = "(?, ?, ?, ?, ?, ?)"
_FINAL: Final = {str(state): state for state in FINAL}


def insert_tombstones(connection: Connection, tombstones: Sequence[KeyTombstone]) -> int:
    """Insert tombstones, replacing those of the same key. Return how many keys are new."""
    added = 0
    for tombstone in tombstones:
        row = _to_row(tombstone)
        replaced = connection.execute("DELETE FROM keys WHERE name = ?", row[:1]).rowcount
        connection.execute(f"INSERT INTO keys VALUES {_PLACES}", row)  # noqa: S608 - placeholders alone
        added += 1 - replaced
    return added


def delete_tombstones(connection: Connection, tombstones: Sequence[KeyTombstone]) -> int:
    """Delete tombstones. Return how many there were."""
    return sum(connection.execute("DELETE FROM keys WHERE name = ?", (one.name,)).rowcount for one in tombstones)


def read_tombstones(connection: Connection, path: str, expected: int) -> Iterator[KeyTombstone]:
    """Yield all tombstones. Raises `JournalDamaged` if a row is damaged or missing."""
    count = 0
    with closing(connection.execute("SELECT * FROM keys ORDER BY at")) as cursor:
        for row in cursor:
            _check(row, path)
            count += 1
            name, job, digest, state, at, _ = row
            yield KeyTombstone(name, job, digest, _FINAL[state], at)
    if count != expected:
        raise JournalDamaged(path, f"it contains {count} key tombstones instead of {expected}")


def tombstone_page(connection: Connection, path: str, after: bytes, limit: int) -> list[TombstoneRow]:
    """At most `limit` rows with a name above `after`, ordered by name. Raises `JournalDamaged`."""
    rows: list[TombstoneRow] = connection.execute(
        "SELECT * FROM keys WHERE name > ? ORDER BY name LIMIT ?", (after, limit)
    ).fetchall()
    for row in rows:
        _check(row, path)
    return rows


def salvage_tombstones(connection: Connection) -> list[TombstoneRow]:
    """All sound rows of a damaged journal."""
    found: dict[bytes, TombstoneRow] = {}
    for order in ("ASC", "DESC"):  # from both ends up to the damage
        try:
            for row in connection.execute(f"SELECT {_COLUMNS} FROM keys ORDER BY name {order}"):  # noqa: S608 - constants
                if _is_sound(row):
                    found[row[0]] = tuple(row)
        except (sqlite3.Error, UnicodeDecodeError):
            continue
    return list(found.values())


def _to_row(tombstone: KeyTombstone) -> TombstoneRow:
    name, job, digest, state, at = tombstone.name, tombstone.job, tombstone.digest, tombstone.state, tombstone.at
    return name, job, digest, str(state), at, _checksum(name, job, digest, state, at)


def _checksum(name: bytes, job: str, digest: str, state: str, at: float) -> int:
    return zlib.crc32(b"\0".join((name, job.encode(), digest.encode(), state.encode(), struct.pack("<d", at))))


def _check(row: Any, path: str) -> None:
    if not _is_sound(row):
        raise JournalDamaged(path, "the row of a key tombstone fails its checksum")


def _is_sound(row: Any) -> bool:
    name, job, digest, state, at, checksum = row
    if not (isinstance(name, bytes) and isinstance(job, str) and isinstance(digest, str) and isinstance(at, float)):
        return False
    return state in _FINAL and _checksum(name, job, digest, state, at) == checksum
