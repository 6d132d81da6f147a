"""Making a journal of a backup, when it is opened as one.

It gets a new epoch: what happened after it is not in it, and who followed the old history must not go on in this one as
if it were the same. It has no high-water mark of its own. A log that lies beside it belongs to another journal, and
SQLite would pour it into this one; a mark that knows of later events says that there is more to lose than its owner may
know. Then it is refused, with what to do.
"""

from __future__ import annotations

import secrets

from trio_jobs._errors import JournalDamaged, StoreError
from trio_jobs._stores.sqlite.disk import Disk
from trio_jobs._stores.sqlite.high_water_mark import HighWaterMark, HighWaterMarkFile
from trio_jobs._stores.sqlite.schema import (
    APPLICATION_ID,
    PAGE_SIZE,
    connect,
    get_meta,
    is_backup,
    is_foreign,
    set_meta,
    transaction,
)

__all__ = ["refuse_foreign_file", "restore_backup"]


def refuse_foreign_file(disk: Disk, path: str, mark: HighWaterMarkFile) -> None:
    """Raise `StoreError` for somebody else's file, before connecting to it, which would change it."""
    # one page may be the first of a new journal, whose name is still in its log
    if mark.found is None and (disk.size(path) or 0) > PAGE_SIZE and is_foreign(disk.head(path, 100)):
        raise StoreError(f"{path} is no journal of trio-jobs")


def restore_backup(disk: Disk, path: str, mark: HighWaterMarkFile) -> HighWaterMark | None:
    """If the file is a backup, make a journal of it, and give its mark; else nothing happens.

    The mark is synced first: a power cut between the two leaves a backup beside a mark that is not newer, which is
    adopted again. Raises `StoreError`, `JournalDamaged`, `sqlite3.Error`, `OSError`.
    """
    if not is_backup(disk.head(path, 100)):
        return None
    what_to_do = f"move {path}-wal and {path}-mark away, and open it again"
    if disk.size(path + "-wal"):
        raise StoreError(f"{path} is a backup, and another journal's log lies beside it: {what_to_do}")
    connection = connect(disk, path, "DELETE")  # no log: it could not be told from another journal's
    try:
        meta = get_meta(connection, path)
        row = connection.execute("SELECT seq, checksum FROM events ORDER BY seq DESC LIMIT 1").fetchone()
        seq, checksum = row if row is not None else (0, 0)
        if not isinstance(seq, int) or not isinstance(checksum, int):
            raise JournalDamaged(path, "its last row cannot be read")
        if seq < int(meta["oldest"]) - 1:
            seq, checksum = int(meta["oldest"]) - 1, 0
        if mark.found is not None and mark.found.seq > seq:
            raise StoreError(
                f"{path} is a backup up to event {seq}, and the journal that was here held events up to "
                f"{mark.found.seq}: to go back, {what_to_do}"
            )
        made = HighWaterMark(secrets.token_hex(16), seq, checksum)
        mark.begin(made)
        with transaction(connection):
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            set_meta(connection, "epoch", made.epoch)
    finally:
        connection.close()
    return made
