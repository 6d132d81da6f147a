"""Going on with what is left of a damaged journal, where its owner has said that the loss is accepted."""

from __future__ import annotations

import contextlib
import logging
import secrets
import sqlite3
from typing import Final

from trio_jobs._errors import StoreError
from trio_jobs._stores.sqlite.disk import Disk
from trio_jobs._stores.sqlite.high_water_mark import HighWaterMark, HighWaterMarkFile
from trio_jobs._stores.sqlite.keys import KeyRow, salvage_keys
from trio_jobs._stores.sqlite.rows import Row, salvage
from trio_jobs._stores.sqlite.schema import connect, create, get_meta, set_meta

__all__ = ["rebuild"]

log: Final = logging.getLogger("trio_jobs.journal")


def rebuild(disk: Disk, path: str, known: int) -> None:
    """Put what is left into a new file under a new epoch; the old files stay beside it, under another name.

    known: the last event that the mark knows of, 0 for none. Nobody else has the files open.
    """
    rows: list[Row] = []
    keys: list[KeyRow] = []
    broken: list[str] = []
    seen = 0
    try:
        connection = connect(disk, path)
        try:
            rows, broken, seen = salvage(connection)
            with contextlib.suppress(sqlite3.Error, StoreError, ValueError):  # what was pruned had numbers too
                seen = max(seen, int(get_meta(connection, path)["oldest"]) - 1)
            keys = salvage_keys(connection)
        finally:
            disk.discard(connection, path)
    except (sqlite3.Error, StoreError) as error:
        log.error("journal %s: nothing can be read of it: %s", path, error)
    aside = f"{path}.damaged-{secrets.token_hex(4)}"
    for suffix in ("-wal", "-mark", ""):
        disk.move(path + suffix, aside + suffix)
    log.error("journal %s: %d events are left; the old file is now %s", path, len(rows), aside)
    if broken:
        log.error("journal %s: left out, since their events do not add up: jobs %s", path, ", ".join(broken))
    # numbers are never used twice, not even those that were lost
    last = max(known, seen)
    disk.create(path)
    connection = connect(disk, path)
    try:
        create(connection, secrets.token_hex(16))
        connection.execute("BEGIN IMMEDIATE")
        connection.executemany("INSERT INTO events VALUES (?, ?, ?, ?)", rows)
        connection.executemany("INSERT INTO keys VALUES (?, ?, ?, ?, ?, ?)", keys)
        set_meta(connection, "pruned", str(last - len(rows)))
        set_meta(connection, "oldest", str(last + 1))
        set_meta(connection, "keys", str(len(keys)))
        connection.execute("COMMIT")
        epoch = get_meta(connection, path)["epoch"]
    finally:
        connection.close()
    mark = HighWaterMarkFile(disk, path + "-mark")
    mark.begin(HighWaterMark(epoch, last, rows[-1][3] if rows and rows[-1][0] == last else 0))
    mark.close()
