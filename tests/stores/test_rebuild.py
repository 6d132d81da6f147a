"""A rebuild that is interrupted loses nothing: the damaged files are in place, or the next opening finishes it."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import pytest
from journals import call, copy_journal, make_journal, write_journal

from trio_jobs import JournalDamaged
from trio_jobs._stores.sqlite.check import check
from trio_jobs._stores.sqlite.disk import Disk
from trio_jobs._stores.sqlite.journal import Journal
from trio_jobs.testing.store_check import submitted


class Killed(BaseException):
    """The process ends here."""


class MortalDisk(Disk):
    """The process is killed in a call that changes names: the one with the number `kill_at`, from 1."""

    def __init__(self, kill_at: int) -> None:
        super().__init__(wal_size=0)
        self.calls = 0
        self._kill_at = kill_at

    def _count(self) -> None:
        self.calls += 1
        if self.calls == self._kill_at:
            raise Killed

    def create(self, path: str) -> None:
        self._count()
        super().create(path)

    def remove(self, path: str) -> None:
        self._count()
        super().remove(path)

    def move(self, path: str, to: str) -> None:
        self._count()
        super().move(path, to)

    def sync_folder(self, path: str) -> None:
        self._count()
        super().sync_folder(path)


def rebuild_until(path: Path, kill_at: int) -> bool:
    """Rebuild the journal, and return whether the process was killed."""
    journal = Journal(str(path), MortalDisk(kill_at), allow_data_loss=True, run_in_background=call)
    try:
        journal.open()
    except Killed:
        return True
    journal.close()
    return False


@pytest.fixture(params=["closed", "with a WAL", "without its file"])
def damaged(tmp_path: Path, request: Any) -> tuple[Path, int]:
    """A damaged journal, and how many of its events can be read."""
    journal = write_journal(tmp_path / "jobs.db", 5, close=request.param == "closed")
    (tmp_path / "damaged").mkdir()
    path = copy_journal(tmp_path / "jobs.db", tmp_path / "damaged" / "jobs.db")
    journal.close()
    path.with_name("jobs.db-mark").unlink()
    if request.param == "without its file":
        path.unlink()
        return path, 0
    return path, 15


def test_a_rebuild_that_is_killed_at_any_call_loses_nothing(damaged: tuple[Path, int], tmp_path: Path) -> None:
    source, readable = damaged
    for kill_at in range(1, 100):
        folder = tmp_path / f"killed-{kill_at}"
        folder.mkdir()
        path = copy_journal(source, folder / "jobs.db")
        was_killed = rebuild_until(path, kill_at)
        checked = check(path)
        journal = make_journal(path)  # a service that does not allow a loss
        try:
            found = len(journal.open())
            assert (checked.damage, checked.events) == (None, found), f"killed in call {kill_at}"
        except JournalDamaged:
            assert checked.damage is not None, f"killed in call {kill_at}"
            journal = make_journal(path, allow_data_loss=True)
            found = len(journal.open())
        assert found == readable, f"killed in call {kill_at}"
        journal.write([submitted(journal.last_seq + 1)])
        journal.close()
        if not was_killed:
            break
    else:
        pytest.fail("the rebuild has no end")
    assert kill_at > 10, "the calls of the disk are counted"
    assert not list(folder.glob("*.rebuil*")), "nothing is left of it"


def test_a_wal_without_its_file_is_renamed_by_a_rebuild_and_not_deleted(tmp_path: Path) -> None:
    """SQLite deletes the WAL of an empty file."""
    journal = write_journal(tmp_path / "other.db", 3, close=False)
    path = copy_journal(tmp_path / "other.db", tmp_path / "jobs.db")
    journal.close()
    wal = path.with_name("jobs.db-wal").read_bytes()
    path.unlink()
    path.touch()
    rebuilt = make_journal(path, allow_data_loss=True)
    assert rebuilt.open() == []
    assert rebuilt.last_seq == 9, "no number is used twice"
    rebuilt.close()
    (kept,) = tmp_path.glob("jobs.db.damaged-*-wal")
    assert kept.read_bytes() == wal


def test_what_an_earlier_rebuild_has_left_is_not_used(tmp_path: Path) -> None:
    """It was interrupted before it was complete."""
    path = tmp_path / "jobs.db"
    write_journal(path, 2)
    path.with_name("jobs.db-mark").unlink()
    for name in ("jobs.db.rebuilding", "jobs.db.rebuilding-mark", "jobs.db.rebuilt"):
        (tmp_path / name).write_bytes(b"half of it")
    with pytest.raises(JournalDamaged):
        make_journal(path).open()
    rebuilt = make_journal(path, allow_data_loss=True)
    assert len(rebuilt.open()) == 6
    rebuilt.close()
    with sqlite3.connect(path) as connection:
        assert connection.execute("SELECT count(*) FROM events").fetchone() == (6,)
    connection.close()
