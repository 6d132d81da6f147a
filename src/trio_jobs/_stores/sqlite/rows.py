"""Events as rows of the `events` table: encode, decode, insert, read, delete."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from typing import Any, Final

import msgspec

from trio_jobs._engine.events import AnyEvent, Event, JobEvent
from trio_jobs._engine.queue_events import RETAINED
from trio_jobs._errors import JournalDamaged, StoreError
from trio_jobs._stores.sqlite.disk import Connection
from trio_jobs._stores.sqlite.schema import row_checksum

__all__ = [
    "Row",
    "decode",
    "decode_all",
    "delete",
    "find",
    "insert",
    "is_sound",
    "of_job",
    "retained_group",
    "row_page",
    "to_row",
]

Row = tuple[int, str, bytes, int]  #: seq, job ("" for a queue event), body, checksum

_encode: Final = msgspec.json.Encoder().encode
_decode: Final = msgspec.json.Decoder(AnyEvent).decode
_GROUPS: Final = tuple(
    tuple(f'{{"type":"{event.__struct_config__.tag}"'.encode() for event in group) for group in RETAINED
)
_MAX_INSERTED: Final = 100  #: rows in one statement
_MAX_DELETED: Final = 500  #: rows in one statement


def to_row(event: Event) -> Row:
    """Encode an event."""
    job = event.job if isinstance(event, JobEvent) else ""
    body = _encode(event)
    return event.seq, job, body, row_checksum(event.seq, job, body)


def decode(body: bytes) -> Event:
    """Decode an event. Raises `StoreError`: the checksum was correct, so another version has written the event."""
    try:
        event: Event = _decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise StoreError(
            f"the journal contains an event that this version of trio-jobs cannot decode: {error}"
        ) from error
    return event


def decode_all(bodies: Iterable[bytes]) -> Iterator[Event]:
    """Decode events one by one, as they are consumed."""
    return map(decode, bodies)


def retained_group(row: Row) -> int | None:
    """The number of the group of `RETAINED` to which the event belongs; None for none."""
    if not row[1]:
        for number, starts in enumerate(_GROUPS):
            if row[2].startswith(starts):
                return number
    return None


def is_sound(row: Any) -> bool:
    """Whether the values have the right types and match the checksum."""
    seq, job, body, checksum = row
    if not (isinstance(seq, int) and isinstance(job, str) and isinstance(body, bytes)):
        return False
    return 0 < seq < 2**63 and row_checksum(seq, job, body) == checksum


def insert(connection: Connection, rows: Sequence[Row]) -> None:
    """Insert all rows in one transaction, with one sync.

    Each call into SQLite releases the interpreter lock and must acquire it again, which takes up to 5 ms if the event
    loop is busy. So a group uses few calls, and one call if it fits into one statement, which is a transaction itself.
    """
    if len(rows) <= _MAX_INSERTED:
        _insert_part(connection, rows)
        return
    connection.execute("BEGIN IMMEDIATE")
    for start in range(0, len(rows), _MAX_INSERTED):
        _insert_part(connection, rows[start : start + _MAX_INSERTED])
    connection.execute("COMMIT")


def _insert_part(connection: Connection, rows: Sequence[Row]) -> None:
    values: list[int | str | bytearray] = []
    for seq, job, body, checksum in rows:
        # `sqlite3` looks for an adapter of each value that is bytes, and for none of a bytearray
        values += (seq, job, bytearray(body), checksum)
    connection.execute(_insert_statement(len(rows)), values)


@cache  # the thread has just been woken, when any code that it runs takes a multiple of its usual time
def _insert_statement(rows: int) -> str:
    places = ", ".join(["(?, ?, ?, ?)"] * rows)
    return f"INSERT INTO events VALUES {places}"  # noqa: S608 - placeholders alone


def delete(connection: Connection, seqs: Sequence[int]) -> int:
    """Delete events in the current transaction. Return how many there were."""
    deleted: int = 0
    for start in range(0, len(seqs), _MAX_DELETED):
        part = seqs[start : start + _MAX_DELETED]
        sql = f"DELETE FROM events WHERE seq IN ({', '.join('?' * len(part))})"  # noqa: S608 - placeholders
        deleted += connection.execute(sql, part).rowcount
    return deleted


def find(connection: Connection, jobs: Sequence[str], first: int, last: int) -> dict[int, str]:
    """The jobs of the events of these jobs, by `seq`, with `seq` from `first` to `last`.

    A dict, since a list of rows would be thousands of tuples, and the garbage collector begins a collection after 700.
    """
    places = ", ".join("?" * len(jobs))
    return dict(
        connection.execute(
            f"SELECT seq, job FROM events WHERE seq BETWEEN ? AND ? AND job IN ({places})",  # noqa: S608 - placeholders
            (first, last, *jobs),
        )
    )


def of_job(connection: Connection, path: str, job: str, first: int, last: int) -> list[Row]:
    """The events of one job with `seq` from `first` to `last`, in order. Raises `sqlite3.Error`, `JournalDamaged`."""
    found: list[Row] = connection.execute(
        "SELECT seq, job, body, checksum FROM events WHERE seq BETWEEN ? AND ? AND job = ? ORDER BY seq",
        (first, last, job),
    ).fetchall()
    for row in found:
        if not is_sound(row):
            raise JournalDamaged(path, f"event {row[0]} can no longer be read")
    return found


def row_page(connection: Connection, path: str, after: int, last: int, limit: int) -> list[Row]:
    """At most `limit` rows with `seq` above `after`, up to `last`, in order; there may be gaps.

    Raises `sqlite3.Error`, `JournalDamaged`.
    """
    rows: list[Row] = connection.execute(
        "SELECT seq, job, body, checksum FROM events WHERE seq > ? AND seq <= ? ORDER BY seq LIMIT ?",
        (after, last, limit),
    ).fetchall()
    for row in rows:
        if not is_sound(row):
            raise JournalDamaged(path, f"event {row[0]} can no longer be read")
    return rows
