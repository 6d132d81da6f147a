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
from trio_jobs._stores.sqlite.keys import TombstoneRow, insert_rows, salvage_tombstones
from trio_jobs._stores.sqlite.rows import Row, decode, is_sound
from trio_jobs._stores.sqlite.schema import connect, create, get_meta, set_meta

__all__ = ["REBUILT", "finish_rebuild", "rebuild", "salvage"]

_REBUILDING: Final = ".rebuilding"  #: suffix of a journal that is being rebuilt
REBUILT: Final = ".rebuilt"  #: suffix of one that is complete
_BESIDE: Final = ("-mark", "-wal", "-journal")

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

    The new journal is complete under another name before the damaged one is renamed; see `finish_rebuild`.

    Args:
        disk: Where the journal is. No connection to it is open.
        path: Of the journal.
        last_known: `seq` of the last event according to the high-water mark; 0 for none.
    """
    for unfinished in (path + _REBUILDING, path + REBUILT):
        for suffix in ("", *_BESIDE):
            disk.remove(unfinished + suffix)
    rows: list[Row] = []
    tombstones: list[TombstoneRow] = []
    inconsistent: list[str] = []
    last_seen = 0
    if disk.size(path):  # SQLite would delete the WAL of an empty file
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
    # no number is used twice, not even that of a lost event
    last_seq = max(last_known, last_seen)
    _write(disk, path + _REBUILDING, rows, tombstones, last_seq)
    for suffix in ("-mark", ""):
        disk.move(path + _REBUILDING + suffix, path + REBUILT + suffix)
    disk.sync_folder(path)
    damaged = _damaged_name(path)
    disk.move(path, damaged)
    disk.sync_folder(path)
    log.error("journal %s: continues with %d events; the damaged file was renamed to %s", path, len(rows), damaged)
    if inconsistent:
        log.error("journal %s: lost jobs, since their events are incomplete: %s", path, ", ".join(inconsistent))
    finish_rebuild(disk, path, damaged)


def finish_rebuild(disk: Disk, path: str, damaged: str | None = None) -> None:
    """Give a rebuilt journal its name, if there is one and the damaged file was moved away.

    A rebuilt journal is complete, with its high-water mark, before the damaged file is moved. So a process that is
    killed leaves the damaged files in their place or a journal that this function finishes, and never no journal.

    Args:
        disk: Where the journal is.
        path: Of the journal.
        damaged: The name of the damaged file; None if another process has moved it.
    """
    rebuilt = path + REBUILT
    if disk.size(path) is not None or disk.size(rebuilt) is None:
        return
    if damaged is None:
        damaged = _damaged_name(path)
        log.warning("journal %s: finishes the rebuild that another process has begun", path)
    if disk.size(rebuilt + "-mark") is not None:
        for suffix in ("-wal", "-mark"):
            disk.move(path + suffix, damaged + suffix)
        disk.sync_folder(path)
        disk.move(rebuilt + "-mark", path + "-mark")
        disk.sync_folder(path)
    disk.move(rebuilt, path)
    disk.sync_folder(path)


def _damaged_name(path: str) -> str:
    return f"{path}.damaged-{secrets.token_hex(4)}"


def _write(disk: Disk, path: str, rows: list[Row], tombstones: list[TombstoneRow], last_seq: int) -> None:
    """Write a journal with these rows, and its high-water mark."""
    disk.create(path)
    connection = connect(disk, path)
    try:
        create(connection, secrets.token_hex(16))
        connection.execute("BEGIN IMMEDIATE")
        connection.executemany("INSERT INTO events VALUES (?, ?, ?, ?)", rows)
        insert_rows(connection, tombstones)
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
