"""Turn a backup into a journal when it is opened.

The restored journal gets a new epoch, because it lacks what happened after the backup: a subscriber of the old history
must not continue in this one as if nothing were missing. A backup has no WAL and no high-water mark. A WAL beside it
belongs to another journal, and SQLite would checkpoint it into the backup; a high-water mark with later events means
that more would be lost than the owner may know. Both are refused, with what to do.
"""

from __future__ import annotations

import secrets

from trio_jobs._errors import JournalDamaged, StoreError
from trio_jobs._stores.sqlite.disk import Disk
from trio_jobs._stores.sqlite.high_water_mark import HighWaterMark, HighWaterMarkFile
from trio_jobs._stores.sqlite.schema import (
    APPLICATION_ID,
    HEADER_SIZE,
    PAGE_SIZE,
    connect,
    get_meta,
    is_backup,
    is_database,
    is_foreign,
    set_meta,
    transaction,
)

__all__ = ["extent", "refuse_foreign_file", "restore_backup"]


def extent(last_seq: int) -> str:
    """How far a backup goes, in words."""
    return f"up to event {last_seq}" if last_seq else "without events"


def refuse_foreign_file(disk: Disk, path: str, stored: HighWaterMark | None) -> None:
    """Raise `StoreError` for a file of another program, before a connection would change it."""
    if stored is not None:
        return
    header = disk.read_start(path, HEADER_SIZE)
    # a file of one page may be a new journal whose application id, or all that it has, is still in its WAL
    is_small, has_wal = (disk.size(path) or 0) <= PAGE_SIZE, bool(disk.size(path + "-wal"))
    if (is_foreign(header) and not is_small) or not (is_database(header) or has_wal):
        raise StoreError(f"{path} is not a trio-jobs journal")


def restore_backup(disk: Disk, path: str, file: HighWaterMarkFile) -> HighWaterMark | None:
    """If the file is a backup, make it a journal and return its high-water mark; otherwise do nothing.

    The mark is synced first: a power cut between the two leaves a backup with a mark that is not newer, which the next
    opening restores again. Raises `StoreError`, `JournalDamaged`, `sqlite3.Error`, `OSError`.
    """
    if not is_backup(disk.read_start(path, HEADER_SIZE)):
        return None
    what_to_do = f"move {path}-wal and {path}-mark away and open it again"
    if disk.size(path + "-wal"):
        raise StoreError(f"{path} is a backup, but {path}-wal belongs to another journal: {what_to_do}")
    connection = connect(disk, path, "DELETE")  # without a WAL, which could not be distinguished from another journal's
    try:
        meta = get_meta(connection, path)
        row = connection.execute("SELECT seq, checksum FROM events ORDER BY seq DESC LIMIT 1").fetchone()
        seq, checksum = row if row is not None else (0, 0)
        if not isinstance(seq, int) or not isinstance(checksum, int):
            raise JournalDamaged(path, "its last row cannot be read")
        if seq < int(meta["oldest"]) - 1:
            seq, checksum = int(meta["oldest"]) - 1, 0
        if file.stored is not None and file.stored.seq > seq:
            raise StoreError(
                f"{path} is a backup {extent(seq)}, but the journal before it had events up to "
                f"{file.stored.seq}: to go back to the backup, {what_to_do}"
            )
        high_water_mark = HighWaterMark(secrets.token_hex(16), seq, checksum)
        file.create(high_water_mark)
        with transaction(connection):
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            set_meta(connection, "epoch", high_water_mark.epoch)
    finally:
        connection.close()
    return high_water_mark
