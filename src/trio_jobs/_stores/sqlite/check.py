"""What is in a journal, told without changing anything: not the file, its log, its mark, nor whose it is.

SQLite cannot look into a journal without writing to it: opening pours the log into the file, and what was damaged looks
different afterwards. So the files are copied to a private folder, and the copy is opened, as a start of the service
would open it. That takes as much room in the system's folder for such things (TMPDIR) as the journal has.
"""

from __future__ import annotations

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
from trio_jobs._stores.sqlite.disk import Disk
from trio_jobs._stores.sqlite.high_water_mark import HighWaterMarkFile
from trio_jobs._stores.sqlite.journal import Journal
from trio_jobs._stores.sqlite.keys import salvage_keys
from trio_jobs._stores.sqlite.lock import look
from trio_jobs._stores.sqlite.restore import restore_backup
from trio_jobs._stores.sqlite.rows import decode, salvage
from trio_jobs._stores.sqlite.schema import connect, is_backup

__all__ = ["Found", "check"]

NAME: Final = "journal.db"


@attrs.frozen(kw_only=True)
class Found:
    """What is there.

    size: bytes of file and log. is_backup: it is a copy that was not opened yet. holder: the process that has it open,
    {pid, since}, as far as they are known; None if nobody has. mark_epoch, mark_seq: what the high-water mark says;
    None without one. damage: what is wrong with it; None if nothing is, or it could not be looked into. The others are
    None where they could not be read. schema: its version. epoch, last_seq, oldest: of the history (see the protocol).
    events, keys: how many are kept; jobs: by state. With damage, events and jobs are what `allow_data_loss` would go on
    with.
    """

    path: str
    size: int
    is_backup: bool = False
    holder: dict[str, int | str | None] | None = None
    mark_epoch: str | None = None
    mark_seq: int | None = None
    damage: str | None = None
    schema: int | None = None
    epoch: str | None = None
    last_seq: int | None = None
    oldest: int | None = None
    events: int | None = None
    jobs: dict[str, int] | None = None
    keys: int | None = None


def check(path: str | Path) -> Found:
    """Look into a journal, or a backup. One that is in use is not looked into: its `holder` is told.

    Raises `StoreError` if there is no such file, it is no journal, or it cannot be read.
    """
    file = Path(path).resolve()
    try:
        if not file.exists() and not Path(f"{file}-mark").exists():
            raise StoreError(f"there is no {file}")
        return _look(file)
    except OSError as error:
        raise StoreError(f"{file} cannot be looked into: {error}") from error


def _look(file: Path) -> Found:
    names = [Path(f"{file}{suffix}") for suffix in ("", "-wal", "-mark")]
    size = sum(name.stat().st_size for name in names[:2] if name.exists())
    mark = _mark(names[2])
    found = Found(
        path=str(file),
        size=size,
        is_backup=is_backup(Disk().head(str(file), 100)),
        mark_epoch=None if mark is None else mark[0],
        mark_seq=None if mark is None else mark[1],
    )
    try:
        with look(f"{file}-lock", str(file)), tempfile.TemporaryDirectory(prefix="trio-jobs-check-") as folder:
            copy = Path(folder, NAME)
            before = _stamps(names)
            for name in names if not found.is_backup else names[:1]:
                if name.exists():
                    shutil.copyfile(name, f"{copy}{str(name).removeprefix(str(file))}")
            if _stamps(names) != before:
                raise StoreError(f"{file} was written to while it was read; try again")
            return _open(copy, found)
    except JournalInUse as error:
        return attrs.evolve(found, holder={"pid": error.pid, "since": error.since})


def _mark(path: Path) -> tuple[str, int] | None:
    if not path.exists():
        return None
    with tempfile.TemporaryDirectory(prefix="trio-jobs-check-") as folder:
        copy = shutil.copyfile(path, Path(folder, "mark"))
        mark = HighWaterMarkFile(Disk(), str(copy))
        mark.close()
    return None if mark.found is None else (mark.found.epoch, mark.found.seq)


def _stamps(names: Iterable[Path]) -> list[tuple[int, int, int] | None]:
    stats = [name.stat() if name.exists() else None for name in names]
    return [None if stat is None else (stat.st_ino, stat.st_size, stat.st_mtime_ns) for stat in stats]


def _open(copy: Path, found: Found) -> Found:
    """What a start would find. The copy is ours: it may be changed."""
    disk = Disk()
    epoch, schema = _said(copy)
    found = attrs.evolve(found, epoch=epoch, schema=schema)
    journal = Journal(str(copy), disk, allow_data_loss=False, background=lambda sync: sync())
    try:
        if found.is_backup:
            mark = HighWaterMarkFile(disk, f"{copy}-mark")
            restore_backup(disk, str(copy), mark)
            mark.close()
        bodies = journal.open()
    except JournalDamaged as damage:
        return _left(copy, attrs.evolve(found, damage=damage.found))
    except sqlite3.Error as error:
        return _left(copy, attrs.evolve(found, damage=str(error)))
    except StoreError as error:
        raise StoreError(str(error).replace(str(copy), found.path)) from error
    journal.close()
    jobs, problem = _folded(map(decode, bodies))
    return attrs.evolve(
        found,
        damage=problem,
        last_seq=journal.last_seq,
        oldest=journal.oldest,
        events=len(bodies),
        keys=len(journal.keys),
        jobs=jobs,
    )


def _folded(events: Iterable[Event]) -> tuple[dict[str, int] | None, str | None]:
    """Jobs by state; or what does not add up."""
    head = Projection()
    try:
        for event in events:
            head.seq = event.seq - 1
            head.apply(event)
    except (QueueBroken, IndexError) as error:
        return None, f"its events do not add up: {error}"
    return {str(state): head.count(state) for state in State if head.count(state)}, None


def _said(copy: Path) -> tuple[str | None, int | None]:
    """Epoch and schema, as far as they can be read."""
    try:
        with closing(sqlite3.connect(copy)) as connection:
            schema: int = connection.execute("PRAGMA user_version").fetchone()[0]
            row: Sequence[str] | None = connection.execute("SELECT value FROM meta WHERE name = 'epoch'").fetchone()
    except sqlite3.Error:
        return None, None
    return (None if row is None else str(row[0])), schema


def _left(copy: Path, found: Found) -> Found:
    """What can be read of a damaged one."""
    try:
        connection = connect(Disk(), str(copy))
    except (sqlite3.Error, StoreError):
        return found
    try:
        rows = salvage(connection).rows
        keys = salvage_keys(connection)
        jobs, _ = _folded(decode(row[2]) for row in rows)
    finally:
        connection.close()
    return attrs.evolve(found, last_seq=rows[-1][0] if rows else None, events=len(rows), keys=len(keys), jobs=jobs)
