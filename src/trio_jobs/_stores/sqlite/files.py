"""The files of a journal before SQLite opens them: what they are, and how a new journal is begun.

A new journal begins with its high-water mark, which is on the disk before SQLite writes its first byte. So a file with
contents and without a mark was separated from its other files, by a copy or by a mount of the file alone. SQLite would
open it as it is: without the events that were in its WAL, and a young journal has all of them there.

A mark without an epoch says that a journal was begun and not finished. Nothing was committed to it, so whatever a crash
has left of it is continued.
"""

from __future__ import annotations

from typing import Final

from trio_jobs._errors import JournalDamaged
from trio_jobs._log import Log
from trio_jobs._stores.sqlite.disk import RENAMED, Disk
from trio_jobs._stores.sqlite.high_water_mark import NO_EPOCH, HighWaterMark, HighWaterMarkFile
from trio_jobs._stores.sqlite.recovery import finish_rebuild
from trio_jobs._stores.sqlite.restore import extent, refuse_foreign_file, restore_backup

__all__ = ["finish_renames", "prepare_files"]

log: Final = Log("trio_jobs.journal")


def finish_renames(disk: Disk, path: str) -> None:
    """Give the file its name, if a process was killed while it had another one. Raises `OSError`."""
    if disk.size(path) is None:
        disk.move(path + RENAMED, path)  # in `close_without_checkpoint`
    finish_rebuild(disk, path)


def prepare_files(disk: Disk, path: str, file: HighWaterMarkFile) -> HighWaterMark:
    """Begin a new journal, turn a backup into a journal, or refuse the files. Return the stored high-water mark.

    Raises:
        JournalDamaged: The files do not belong together, or one of them is missing.
        StoreError: The file is no journal, or a backup that must not be opened here.
        OSError: The files cannot be written to.
    """
    for suffix in ("", "-wal"):
        disk.check_writable(path + suffix)  # SQLite reports a file that it cannot write to as a failed disk
    if not disk.size(path):
        return _begin(disk, path, file)
    refuse_foreign_file(disk, path, file.stored)
    restored = restore_backup(disk, path, file)
    if restored is not None:
        log.warning("journal %s: restored from a backup %s; the epoch is new", path, extent(restored.seq))
        return restored
    if file.stored is None:
        raise JournalDamaged(path, _no_mark(path, file))
    return file.stored


def _begin(disk: Disk, path: str, file: HighWaterMarkFile) -> HighWaterMark:
    """Begin a journal in a file that is missing or empty."""
    stored = file.stored
    if stored is not None and stored.seq > 0:
        raise JournalDamaged(path, f"the file is missing or empty, but events up to {stored.seq} were committed to it")
    if disk.size(path + "-wal") and (stored is None or stored.epoch != NO_EPOCH):
        raise JournalDamaged(path, f"the file is missing or empty, but its WAL ({path}-wal) is not")
    if stored is None and (file.exists or disk.size(path) is not None):
        found = path if disk.size(path) is not None else f"{path}-mark"
        log.warning("journal %s: %s was there, without contents; a new journal is begun", path, found)
    stored = HighWaterMark(NO_EPOCH, 0, 0)
    file.create(stored)  # also if it was there: the process that wrote it may have ended before its sync
    disk.create(path)
    disk.sync_folder(path)
    return stored


def _no_mark(path: str, file: HighWaterMarkFile) -> str:
    return (
        f"its high-water mark ({path}-mark) {'cannot be read' if file.exists else 'is missing'}, so events that were "
        f"committed may be missing too; {path}, {path}-wal and {path}-mark belong together: put them back, and in a "
        "container mount their folder, not the file alone"
    )
