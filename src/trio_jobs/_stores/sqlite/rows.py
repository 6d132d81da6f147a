"""Events as rows of the journal and back, and every check that a row can stand up to."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final, NamedTuple

import msgspec

from trio_jobs._engine.events import AnyEvent, Event, JobEvent, Submitted
from trio_jobs._engine.fold import begin, fold
from trio_jobs._engine.jobs import JobRecord
from trio_jobs._errors import IllegalTransition, JournalDamaged, StoreError
from trio_jobs._stores.sqlite.disk import Connection
from trio_jobs._stores.sqlite.schema import row_checksum

__all__ = ["Row", "Rows", "decode", "decode_all", "insert", "is_pause", "is_sound", "row_page", "salvage", "to_row"]

Row = tuple[int, str, bytes, int]  #: seq, job ("" for an event of the queue itself), body, checksum

_encode: Final = msgspec.json.Encoder().encode
_decode: Final = msgspec.json.Decoder(AnyEvent).decode
_PAUSES: Final = (b'{"type":"paused"', b'{"type":"resumed"')
_MOST: Final = 100  #: rows in one statement


def to_row(event: Event) -> Row:
    job = event.job if isinstance(event, JobEvent) else ""
    body = _encode(event)
    return event.seq, job, body, row_checksum(event.seq, job, body)


def is_pause(row: Row) -> bool:
    return row[2].startswith(_PAUSES)


def insert(connection: Connection, rows: Sequence[Row]) -> None:
    """All rows in one transaction, with one sync.

    Each call into SQLite gives up the interpreter lock and has to win it back, up to 5 ms if the event loop is busy.
    So a group is few calls, and one that fits into one statement is one call: such a statement is a transaction itself.
    """
    if len(rows) <= _MOST:
        _insert_some(connection, rows)
        return
    connection.execute("BEGIN IMMEDIATE")
    for start in range(0, len(rows), _MOST):
        _insert_some(connection, rows[start : start + _MOST])
    connection.execute("COMMIT")


def _insert_some(connection: Connection, rows: Sequence[Row]) -> None:
    places = ", ".join(["(?, ?, ?, ?)"] * len(rows))
    values = [value for row in rows for value in row]
    connection.execute(f"INSERT INTO events VALUES {places}", values)  # noqa: S608 - placeholders alone


def decode(body: bytes) -> Event:
    """Raises `StoreError`: its checksum was good, so whoever wrote it knows events that this program does not."""
    try:
        event: Event = _decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise StoreError(f"the journal holds an event that this trio-jobs cannot read: {error}") from error
    return event


def decode_all(bodies: Iterable[bytes]) -> Iterator[Event]:
    return map(decode, bodies)


class Rows:
    """Reads all rows in order; afterwards it knows what was there. of_queue_before: `seq` of the events of the queue
    itself before `oldest`."""

    def __init__(self, path: str, oldest: int) -> None:
        self._path = path
        self._oldest = oldest
        self.of_queue_before: list[int] = []
        self.count = 0
        self.last: Row | None = None
        self.last_pause = 0
        self.checksums: dict[int, int] = {}

    def read(self, cursor: Iterable[Any], watch: int) -> Iterator[bytes]:
        """The bodies. `watch`: the seq whose checksum is to be known afterwards. Raises `JournalDamaged`."""
        before = 0
        for row in cursor:
            if not is_sound(row):
                raise JournalDamaged(self._path, f"the row of event {row[0]} fails its checksum")
            if row[0] <= before:
                raise JournalDamaged(self._path, f"event {row[0]} stands behind event {before}")
            before = row[0]
            if before == watch:
                self.checksums[watch] = row[3]
            if not row[1]:
                if is_pause(row):
                    self.last_pause = before
                if before < self._oldest:
                    self.of_queue_before.append(before)
            self.count += 1
            self.last = row
            yield row[2]


def is_sound(row: Any) -> bool:
    seq, job, body, checksum = row
    if not (isinstance(seq, int) and isinstance(job, str) and isinstance(body, bytes)):
        return False
    return 0 < seq < 2**63 and row_checksum(seq, job, body) == checksum


def row_page(connection: Connection, path: str, after: int, last: int, limit: int) -> list[Row]:
    """Rows behind `after`, up to `last`, in order; numbers may be missing. Raises `sqlite3.Error`, `JournalDamaged`."""
    rows: list[Row] = connection.execute(
        "SELECT seq, job, body, checksum FROM events WHERE seq > ? AND seq <= ? ORDER BY seq LIMIT ?",
        (after, last, limit),
    ).fetchall()
    for row in rows:
        if not is_sound(row):
            raise JournalDamaged(path, f"event {row[0]} cannot be read any more")
    return rows


class Salvaged(NamedTuple):
    """rows: every one that can be read and makes sense. broken: the jobs left out since theirs do not add up. last: the
    last number that was seen, of whatever row; 0 for none."""

    rows: list[Row]
    broken: list[str]
    last: int


def salvage(connection: Connection) -> Salvaged:
    """What is left. Columns by name: the tables may be others than were made."""
    found: dict[int, Row] = {}
    for order in ("ASC", "DESC"):  # from both ends to where it is broken
        try:
            for row in connection.execute(f"SELECT seq, job, body, checksum FROM events ORDER BY seq {order}"):  # noqa: S608 - our words
                if is_sound(row):
                    found[row[0]] = row
        except (sqlite3.Error, UnicodeDecodeError):
            continue
    last = max(found, default=0)
    records: dict[str, JobRecord] = {}
    broken: dict[str, None] = {}
    for seq in sorted(found):
        _, job, body, _ = found[seq]
        if job in broken:
            continue
        try:
            event = decode(body)
            if isinstance(event, Submitted) and job not in records:
                records[job] = begin(event)
            elif isinstance(event, JobEvent):
                fold(records[job], event)
        except (IllegalTransition, KeyError, IndexError, StoreError):
            if job:
                broken[job] = None
            else:
                del found[seq]
    return Salvaged([found[seq] for seq in sorted(found) if found[seq][1] not in broken], list(broken), last)
