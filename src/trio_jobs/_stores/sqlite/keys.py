"""Key tombstones as rows of the `keys` table.

A tombstone is written in the transaction that deletes the events of its job, so every key is always in one place: in
the first event of its job, or here.
"""

from __future__ import annotations

import sqlite3
import struct
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from typing import Any, Final

from trio_jobs._engine.jobs import FINAL, State
from trio_jobs._engine.key_tombstones import KeyTombstone
from trio_jobs._errors import JournalDamaged
from trio_jobs._stores.sqlite.disk import Connection

__all__ = [
    "TombstoneRow",
    "delete_tombstones",
    "insert_rows",
    "insert_tombstones",
    "migrate_tombstones",
    "read_tombstones",
    "salvage_tombstones",
    "tombstone_page",
]

TombstoneRow = tuple[bytes, str, str, str, int, float, int]  #: name, job, digest, state, acted, at, checksum

_COLUMNS: Final = "name, job, digest, state, acted, at, checksum"  #: for a table that may have other columns too
_COLUMNS_BEFORE_3: Final = "name, job, digest, state, at, checksum"
_PLACES: Final = "(?, ?, ?, ?, ?, ?, ?)"
_FINAL: Final = {str(state): state for state in FINAL}


def insert_tombstones(connection: Connection, tombstones: Sequence[KeyTombstone]) -> int:
    """Insert tombstones, replacing those of the same key. Return how many keys are new.

    Two statements for all of them: for each statement `sqlite3` makes a cursor, and drops what it has kept of it after
    200 others.
    """
    by_name = {tombstone.name: tombstone for tombstone in tombstones}
    if not by_name:
        return 0
    replaced: int = connection.executemany("DELETE FROM keys WHERE name = ?", ((name,) for name in by_name)).rowcount
    insert_rows(connection, map(_to_row, by_name.values()))
    return len(by_name) - replaced


def insert_rows(connection: Connection, found: Iterable[TombstoneRow]) -> None:
    """Insert rows of keys that the table does not have."""
    connection.executemany(f"INSERT INTO keys VALUES {_PLACES}", found)  # noqa: S608 - placeholders alone


def migrate_tombstones(connection: Connection, path: str) -> None:
    """Copy the rows of `keys_before_3` to `keys`, which has one more column: whether the job may have acted.

    That was not recorded: it counts as true, unless the job was cancelled.

    Raises:
        JournalDamaged: A row is damaged.
    """
    with closing(connection.execute(f"SELECT {_COLUMNS_BEFORE_3} FROM keys_before_3")) as cursor:  # noqa: S608 - constants
        insert_rows(connection, (_migrated(row, path) for row in cursor))


def _migrated(row: Any, path: str) -> TombstoneRow:
    if not _was_sound(row):
        raise JournalDamaged(path, "the row of a key tombstone fails its checksum")
    return _to_row(_before_3(row))


def _before_3(row: Any) -> KeyTombstone:
    name, job, digest, state, at, _ = row
    return KeyTombstone(name, job, digest, _FINAL[state], at, may_have_acted=state != State.CANCELLED)


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
            name, job, digest, state, acted, at, _ = row
            yield KeyTombstone(name, job, digest, _FINAL[state], at, bool(acted))
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
    """All sound rows of a damaged journal, which may be one of an older schema."""
    found: dict[bytes, TombstoneRow] = {}
    for columns in (_COLUMNS, _COLUMNS_BEFORE_3):
        for order in ("ASC", "DESC"):  # from both ends up to the damage
            try:
                for row in connection.execute(f"SELECT {columns} FROM keys ORDER BY name {order}"):  # noqa: S608 - constants
                    if columns is _COLUMNS and _is_sound(row):
                        found[row[0]] = tuple(row)
                    elif columns is _COLUMNS_BEFORE_3 and _was_sound(row):
                        found.setdefault(row[0], _to_row(_before_3(row)))
            except (sqlite3.Error, UnicodeDecodeError):
                continue
    return list(found.values())


def _to_row(tombstone: KeyTombstone) -> TombstoneRow:
    name, job, digest, state, at = tombstone.name, tombstone.job, tombstone.digest, str(tombstone.state), tombstone.at
    acted = int(tombstone.may_have_acted)
    return name, job, digest, state, acted, at, _checksum(name, job, digest, state, at, b"\0%d" % acted)


def _checksum(name: bytes, job: str, digest: str, state: str, at: float, acted: bytes = b"") -> int:
    """acted: empty for a row of a schema before 3."""
    parts = (name, job.encode(), digest.encode(), state.encode(), struct.pack("<d", at))
    return zlib.crc32(b"\0".join(parts) + acted)


def _check(row: Any, path: str) -> None:
    if not _is_sound(row):
        raise JournalDamaged(path, "the row of a key tombstone fails its checksum")


def _is_sound(row: Any) -> bool:
    name, job, digest, state, acted, at, checksum = row
    return acted in (0, 1) and _has_checksum(name, job, digest, state, at, b"\0%d" % acted, checksum)


def _was_sound(row: Any) -> bool:
    """Whether a row of a schema before 3 is sound."""
    name, job, digest, state, at, checksum = row
    return _has_checksum(name, job, digest, state, at, b"", checksum)


def _has_checksum(name: Any, job: Any, digest: Any, state: Any, at: Any, acted: bytes, checksum: Any) -> bool:
    if not (isinstance(name, bytes) and isinstance(job, str) and isinstance(digest, str) and isinstance(at, float)):
        return False
    return state in _FINAL and _checksum(name, job, digest, state, at, acted) == checksum
