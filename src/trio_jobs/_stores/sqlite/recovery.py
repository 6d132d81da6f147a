"""Rebuild a damaged journal from the rows that can be read, for an owner who allows data loss."""

from __future__ import annotations

import contextlib
import secrets
import sqlite3
from typing import Final, NamedTuple

from trio_jobs._engine.events import JobEvent, Submitted
from trio_jobs._engine.fold import begin, fold
from trio_jobs._engine.jobs import JobRecord
from trio_jobs._errors import IllegalTransition, StoreError
from trio_jobs._log import Log
from trio_jobs._stores.sqlite.disk import Connection, Disk
from trio_jobs._stores.sqlite.high_water_mark import HighWaterMark, HighWaterMarkFile
from trio_jobs._stores.sqlite.keys import TombstoneRow, salvage_tombstones
from trio_jobs._stores.sqlite.rows import Row, decode, is_sound
from trio_jobs._stores.sqlite.schema import connect, create, get_meta, set_meta

__all__ = ["rebuild", "salvage"]

log: Final = Log("trio_jobs.journal")


class Salvaged(NamedTuple):
    """The events that can be read from a damaged journal."""

    rows: list[Row]
    """Sound rows of jobs with a consistent history, in the order of `seq`."""
    inconsistent: list[str]
    """Jobs that were left out, since too much of their history is missing."""
    last_seq: int
    """The highest `seq` in any sound row; 0 for none."""


def salvage(connection: Connection) -> Salvaged:
    """Read what can be read. Columns are named, since the tables may have others too."""
    found: dict[int, Row] = {}
    for order in ("ASC", "DESC"):  # from both ends up to the damage
        try:
            for row in connection.execute(f"SELECT seq, job, body, checksum FROM events ORDER BY seq {order}"):  # noqa: S608 - constants
                if is_sound(row):
                    found[row[0]] = row
        except (sqlite3.Error, UnicodeDecodeError):
            continue
    last_seq = max(found, default=0)
    records: dict[str, JobRecord] = {}
    inconsistent: dict[str, None] = {}
    for seq in sorted(found):
        _, job, body, _ = found[seq]
        if job in inconsistent:
            continue
        try:
            event = decode(body)
            if isinstance(event, Submitted) and job not in records:
                records[job] = begin(event)
            elif isinstance(event, JobEvent):
                fold(records[job], event)
        except (IllegalTransition, KeyError, IndexError, StoreError):
            if job:
                inconsistent[job] = None
            else:
                del found[seq]
    rows = [found[seq] for seq in sorted(found) if found[seq][1] not in inconsistent]
    return Salvaged(rows, list(inconsistent), last_seq)


def rebuild(disk: Disk, path: str, last_known: int) -> None:
    """Write what can be read to a new journal with a new epoch. The old files are renamed.

    Args:
        disk: Where the journal is. No connection to it is open.
        path: Of the journal.
        last_known: `seq` of the last event according to the high-water mark; 0 for none.
    """
    rows: list[Row] = []
    tombstones: list[TombstoneRow] = []
    inconsistent: list[str] = []
    last_seen = 0
    try:
        connection = connect(disk, path)
        try:
            rows, inconsistent, last_seen = salvage(connection)
            with contextlib.suppress(sqlite3.Error, StoreError, ValueError):  # pruned events had numbers too
                last_seen = max(last_seen, int(get_meta(connection, path)["oldest"]) - 1)
            tombstones = salvage_tombstones(connection)
        finally:
            disk.close_without_checkpoint(connection, path)
    except (sqlite3.Error, StoreError) as error:
        log.error("journal %s: nothing can be read from it: %s", path, error)
    damaged = f"{path}.damaged-{secrets.token_hex(4)}"
    for suffix in ("-wal", "-mark", ""):
        disk.move(path + suffix, damaged + suffix)
    log.error("journal %s: continues with %d events; the damaged file was renamed to %s", path, len(rows), damaged)
    if inconsistent:
        log.error("journal %s: lost jobs, since their events are incomplete: %s", path, ", ".join(inconsistent))
    # no number is used twice, not even that of a lost event
    last_seq = max(last_known, last_seen)
    disk.create(path)
    connection = connect(disk, path)
    try:
        create(connection, secrets.token_hex(16))
        connection.execute("BEGIN IMMEDIATE")
        connection.executemany("INSERT INTO events VALUES (?, ?, ?, ?)", rows)
        connection.executemany("INSERT INTO keys VALUES (?, ?, ?, ?, ?, ?)", tombstones)
        set_meta(connection, "pruned", str(last_seq - len(rows)))
        set_meta(connection, "oldest", str(last_seq + 1))
        set_meta(connection, "keys", str(len(tombstones)))
        connection.execute("COMMIT")
        epoch = get_meta(connection, path)["epoch"]
    finally:
        connection.close()
    file = HighWaterMarkFile(disk, path + "-mark")
    file.create(HighWaterMark(epoch, last_seq, rows[-1][3] if rows and rows[-1][0] == last_seq else 0))
    file.close()
