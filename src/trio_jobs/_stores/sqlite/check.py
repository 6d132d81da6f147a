"""Check a journal without changing anything: not the file, its WAL or its high-water mark.

SQLite cannot read a journal without writing to it: opening checkpoints the WAL into the file, and damage looks
different afterwards. So the files are copied to a private folder, and the copy is opened as a service would open it.
That needs as much space in the system's folder for temporary files (TMPDIR) as the journal has.
"""

from __future__ import annotations

import errno
import shutil
import sqlite3
import tempfile
from collections.abc import Iterable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Final

import attrs

from trio_jobs._engine.events import Event
from trio_jobs._engine.jobs import State
from trio_jobs._engine.projection import Projection
from trio_jobs._errors import JournalDamaged, JournalInUse, QueueBroken, StoreError
from trio_jobs._stores.sqlite.disk import RENAMED, Disk
from trio_jobs._stores.sqlite.high_water_mark import HighWaterMark, HighWaterMarkFile
from trio_jobs._stores.sqlite.journal import Journal
from trio_jobs._stores.sqlite.keys import salvage_tombstones
from trio_jobs._stores.sqlite.lock import shared_lock
from trio_jobs._stores.sqlite.path import resolve_path
from trio_jobs._stores.sqlite.recovery import REBUILT, finish_rebuild, salvage
from trio_jobs._stores.sqlite.restore import restore_backup
from trio_jobs._stores.sqlite.rows import decode
from trio_jobs._stores.sqlite.schema import HEADER_SIZE, connect, is_backup

__all__ = ["CheckResult", "check"]

_COPY: Final = "journal.db"
_FOLDER: Final = "trio-jobs-check-"
_UNDER_OTHER_NAMES: Final = (RENAMED, REBUILT, f"{REBUILT}-mark")


@attrs.frozen(kw_only=True)
class CheckResult:
    """What a journal or a backup contains. A field is None where it could not be read."""

    path: str
    """The resolved path."""
    size: int
    """Bytes of the file and its WAL."""
    is_backup: bool = False
    """Whether the file is a backup that was not opened yet."""
    holder: dict[str, int | str | None] | None = None
    """The process that has the journal open: `pid` and `since` (UTC, ISO 8601), None where unknown. Nothing but the
    high-water mark is checked then. None if no process has it open."""
    mark_epoch: str | None = None
    """The epoch in the high-water mark."""
    mark_seq: int | None = None
    """The last event according to the high-water mark."""
    damage: str | None = None
    """What is damaged; None if the journal is sound or in use."""
    schema: int | None = None
    """The version of the schema."""
    epoch: str | None = None
    """See `Store.epoch`."""
    last_seq: int | None = None
    """See `Store.last_seq`."""
    oldest: int | None = None
    """See `Store.oldest`."""
    events: int | None = None
    """Number of events; of a damaged journal those that `allow_data_loss` would continue with."""
    jobs: dict[str, int] | None = None
    """Number of jobs by state; of a damaged journal those that `allow_data_loss` would continue with."""
    keys: int | None = None
    """Number of key tombstones."""


def check(path: str | Path) -> CheckResult:
    """Check a journal or a backup. One that is in use is not opened; the result names the process.

    Raises:
        InvalidJournalPath: No file can have this path, or it is not a regular file.
        StoreError: There is no such file, it is not a journal, or it cannot be read.
    """
    file = Path(resolve_path(path))
    try:
        if not any(Path(f"{file}{suffix}").exists() for suffix in ("", "-wal", "-mark", *_UNDER_OTHER_NAMES)):
            raise StoreError(f"there is no {file}")
        return _check(file)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            reason = f"there is no space for a copy in {tempfile.gettempdir()}; name another folder in TMPDIR"
            raise StoreError(f"{file} cannot be checked: {reason}") from error
        raise StoreError(f"{file} cannot be checked: {error}") from error


def _check(file: Path) -> CheckResult:
    names = [Path(f"{file}{suffix}") for suffix in ("", "-wal", "-mark")]
    if not file.exists():  # a process may have been killed while the journal had another name
        names += [Path(f"{file}{suffix}") for suffix in _UNDER_OTHER_NAMES]
    rebuilt = Path(f"{file}{REBUILT}-mark")
    mark = _read_mark(rebuilt if rebuilt in names and rebuilt.exists() else names[2])
    result = CheckResult(
        path=str(file),
        size=sum(name.stat().st_size for name in names[:2] if name.exists()),
        mark_epoch=None if mark is None else mark.epoch,
        mark_seq=None if mark is None else mark.seq,
    )
    try:
        with shared_lock(f"{file}-lock", str(file)), tempfile.TemporaryDirectory(prefix=_FOLDER) as folder:
            if mark is None or mark.seq == 0:
                _refuse_empty_file(names)
            # not earlier: closing a file that this process has open would release SQLite's lock on it
            result = attrs.evolve(result, is_backup=is_backup(Disk().read_start(str(file), HEADER_SIZE)))
            copy = Path(folder, _COPY)
            before = _fingerprints(names)
            for name in names[:1] if result.is_backup else names:
                if name.exists():
                    shutil.copyfile(name, f"{copy}{str(name).removeprefix(str(file))}")
            if _fingerprints(names) != before:
                raise StoreError(f"{file} was written to while it was copied; try again")
            return _check_copy(copy, result)
    except JournalInUse as error:
        return attrs.evolve(result, holder={"pid": error.pid, "since": error.since})


def _refuse_empty_file(names: Sequence[Path]) -> None:
    """Raise `StoreError` if a service would begin a new journal."""
    if not any(name.exists() and name.stat().st_size for name in names if not name.name.endswith("-mark")):
        raise StoreError(f"{names[0]} is empty: it has no journal yet, and a service would begin one in it")


def _read_mark(path: Path) -> HighWaterMark | None:
    """The stored high-water mark. Its file is copied too, since it is opened for writing."""
    if not path.exists():
        return None
    with tempfile.TemporaryDirectory(prefix=_FOLDER) as folder:
        file = HighWaterMarkFile(Disk(), str(shutil.copyfile(path, Path(folder, "mark"))))
        file.close()
    return file.stored


def _fingerprints(names: Iterable[Path]) -> list[tuple[int, int, int] | None]:
    """What changes when a file is written to."""
    stats = [name.stat() if name.exists() else None for name in names]
    return [None if stat is None else (stat.st_ino, stat.st_size, stat.st_mtime_ns) for stat in stats]


def _check_copy(copy: Path, result: CheckResult) -> CheckResult:
    """Open the copy as a service would open the journal. The copy may be changed."""
    disk = Disk()
    if disk.size(str(copy)) is None:
        disk.move(f"{copy}{RENAMED}", str(copy))
        finish_rebuild(disk, str(copy), f"{copy}-damaged")
    epoch, schema = _read_epoch_and_schema(copy) if copy.exists() else (None, None)
    result = attrs.evolve(result, epoch=epoch, schema=schema)
    journal = Journal(str(copy), disk, allow_data_loss=False, run_in_background=lambda sync: sync())
    try:
        if result.is_backup:
            file = HighWaterMarkFile(disk, f"{copy}-mark")
            restore_backup(disk, str(copy), file)
            file.close()
        bodies = journal.open()
    except JournalDamaged as damage:
        return _salvage(copy, attrs.evolve(result, damage=damage.found.replace(str(copy), result.path)))
    except sqlite3.Error as error:
        return _salvage(copy, attrs.evolve(result, damage=str(error)))
    except StoreError as error:
        raise StoreError(str(error).replace(str(copy), result.path)) from error
    journal.close()
    jobs, inconsistency = _count_jobs(map(decode, bodies))
    return attrs.evolve(
        result,
        damage=inconsistency,
        last_seq=journal.last_seq,
        oldest=journal.oldest,
        events=len(bodies),
        keys=len(journal.take_tombstones()),
        jobs=jobs,
    )


def _count_jobs(events: Iterable[Event]) -> tuple[dict[str, int] | None, str | None]:
    """Jobs by state, or the inconsistency of their events."""
    projection = Projection()
    try:
        for event in events:
            projection.seq = event.seq - 1
            projection.apply(event)
    except (QueueBroken, IndexError) as error:
        return None, f"its events are inconsistent: {error}"
    return {str(state): projection.count(state) for state in State if projection.count(state)}, None


def _read_epoch_and_schema(copy: Path) -> tuple[str | None, int | None]:
    try:
        with closing(sqlite3.connect(copy)) as connection:
            schema: int = connection.execute("PRAGMA user_version").fetchone()[0]
            row: Sequence[str] | None = connection.execute("SELECT value FROM meta WHERE name = 'epoch'").fetchone()
    except sqlite3.Error:
        return None, None
    return (None if row is None else str(row[0])), schema


def _salvage(copy: Path, result: CheckResult) -> CheckResult:
    """Add what can be read of a damaged journal."""
    try:
        connection = connect(Disk(), str(copy))
    except (sqlite3.Error, StoreError):
        return result
    try:
        rows = salvage(connection).rows
        keys = salvage_tombstones(connection)
        jobs, _ = _count_jobs(decode(row[2]) for row in rows)
    finally:
        connection.close()
    return attrs.evolve(result, last_seq=rows[-1][0] if rows else None, events=len(rows), keys=len(keys), jobs=jobs)
