"""Each kind of damage, made by hand, is refused with a message of its own.

Everything else about the files is sound, so the message can only be about that damage.
"""

from __future__ import annotations

import os
import re
import sqlite3
import sys
import zlib
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import trio
from faulty_disks import FaultyDisk
from journals import make_journal, write_journal

from trio_jobs import JournalDamaged, SqliteStore, StoreError, UsageError
from trio_jobs._engine import events as ev
from trio_jobs._engine.jobs import State
from trio_jobs._engine.key_tombstones import KeyTombstone, key_name
from trio_jobs._file_lock import read_owner
from trio_jobs._stores.sqlite import check as check_module
from trio_jobs._stores.sqlite.check import check
from trio_jobs._stores.sqlite.disk import Connection, Disk
from trio_jobs._stores.sqlite.errors import explain
from trio_jobs._stores.sqlite.keys import read_tombstones
from trio_jobs._stores.sqlite.rows import decode, is_sound, to_row
from trio_jobs._stores.sqlite.schema import BACKUP_ID, row_checksum
from trio_jobs._stores.sqlite.verification import RowReader
from trio_jobs.testing.store_check import submitted

KEYS = [KeyTombstone(key_name("k", text), text, "digest", State.COMPLETED, 1_700_000_000.0) for text in "ab"]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A closed journal of 9 events and 2 keys."""
    journal = write_journal(tmp_path / "jobs.db", 3, close=False)
    journal.prune([], 1, KEYS)
    journal.close()
    return tmp_path / "jobs.db"


def edit(path: Path, *statements: str | tuple[str, tuple[Any, ...]]) -> None:
    """Execute statements on a closed journal."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for statement in statements:
            sql, values = (statement, ()) if isinstance(statement, str) else statement
            connection.execute(sql, values)


def body(seq: int, new: bytes, job: str | None = None) -> tuple[str, tuple[Any, ...]]:
    """Change the body of an event, and its checksum to match. job: "" for a queue event."""
    checksum = row_checksum(seq, f"job-{seq}" if job is None else job, new)
    return "UPDATE events SET body = ?, checksum = ? WHERE seq = ?", (new, checksum, seq)


def meta(name: str, value: str) -> tuple[str, tuple[Any, ...]]:
    """Change a value of the meta table, and its checksum to match."""
    return (
        "UPDATE meta SET value = ?, checksum = ? WHERE name = ?",
        (value, zlib.crc32(f"{name}={value}".encode()), name),
    )


def test_the_journal_of_these_tests_is_sound(path: Path) -> None:
    journal = make_journal(path)
    assert len(journal.open()) == 9
    assert {key.job for key in journal.take_tombstones()} == {key.job for key in KEYS}
    journal.close()
    assert check(path).damage is None


@pytest.mark.parametrize(
    ("statements", "message"),
    [
        (["UPDATE events SET body = x'7b7d' WHERE seq = 4"], "the row of event 4 fails its checksum"),
        (["UPDATE events SET job = CAST(x'ff' AS TEXT) WHERE seq = 4"], "decode"),
        (["DELETE FROM events WHERE seq = 4"], "it contains 8 events instead of 9"),
        (["DELETE FROM keys WHERE job = 'a'"], "it contains 1 key tombstones instead of 2"),
        (["UPDATE keys SET digest = 'x' WHERE job = 'a'"], "the row of a key tombstone fails its checksum"),
        (["UPDATE keys SET state = 'pending' WHERE job = 'a'"], "the row of a key tombstone fails its checksum"),
        (["UPDATE meta SET value = '7' WHERE name = 'oldest'"], "its meta table fails its checksum"),
        (["DELETE FROM meta WHERE name IN ('keys', 'oldest')"], "its meta table lacks keys, oldest"),
        ([meta("epoch", "f" * 32)], "its epoch is not that of its high-water mark"),
        (
            [body(9, to_row(submitted(9, payload=b"2"))[2])],
            "the checksum of event 9 is not that in its high-water mark",
        ),
        (["CREATE TABLE more (x)"], "its tables are not those of schema"),
        (["PRAGMA user_version = 0"], "its schema version is 0, which never existed"),
    ],
    ids=str,
)
def test_each_damage_has_a_message_of_its_own(
    path: Path, statements: list[str | tuple[str, tuple[Any, ...]]], message: str
) -> None:
    edit(path, *statements)
    with pytest.raises(JournalDamaged, match=message):
        make_journal(path).open()
    assert message in str(check(path).damage)
    rebuilt = make_journal(path, allow_data_loss=True)
    assert len(rebuilt.open()) in (8, 9), "sound jobs are kept"
    rebuilt.close()


def test_a_database_of_another_application_is_not_a_journal(path: Path) -> None:
    edit(path, "PRAGMA application_id = 1")
    with pytest.raises(StoreError, match="is a database, but not a trio-jobs journal"):
        make_journal(path).open()


async def test_an_unknown_event_is_not_skipped(path: Path) -> None:
    unknown = b'{"type":"from the future","seq":4,"at":1.0,"job":"job-4"}'
    edit(path, body(4, unknown))
    store = SqliteStore(path)
    events = await store.open(lambda events: None)
    with pytest.raises(StoreError, match="an event that this version of trio-jobs cannot decode"):
        list(events)
    await store.aclose()


def test_allowed_data_loss_drops_only_the_jobs_of_undecodable_events(path: Path) -> None:
    journal = make_journal(path)
    journal.open()
    journal.write([ev.Paused(seq=10, at=1.0), submitted(11)])
    journal.close()
    unknown = b'{"type":"from the future \xff"}'
    ended = to_row(ev.Cancelled(seq=12, at=1.0, job="job-4", reason="cancelled", may_have_acted=False))
    more = ("INSERT INTO events VALUES (?, ?, ?, ?)", ended)
    edit(path, body(4, unknown), body(10, unknown, job=""), more, "DELETE FROM events WHERE seq = 7")
    result = check(path)
    assert result.damage == "it contains 11 events instead of 12"
    assert result.jobs is not None and sum(result.jobs.values()) == 8
    rebuilt = make_journal(path, allow_data_loss=True)
    assert [decode(encoded).seq for encoded in rebuilt.open()] == [1, 2, 3, 5, 6, 8, 9, 11]
    rebuilt.close()


@pytest.mark.parametrize("mark", ["missing", "behind"])
@pytest.mark.parametrize("job", ["", "job-10"])
def test_the_number_of_a_dropped_event_is_not_used_again(path: Path, job: str, mark: str) -> None:
    before = path.with_name("jobs.db-mark").read_bytes()
    journal = make_journal(path)
    journal.open()
    journal.write([submitted(10) if job else ev.Paused(seq=10, at=1.0)])
    journal.close()
    unknown = b'{"type":"from the future"}'
    edit(path, body(10, unknown, job), "DELETE FROM events WHERE seq = 4")
    path.with_name("jobs.db-mark").write_bytes(b"" if mark == "missing" else before)
    rebuilt = make_journal(path, allow_data_loss=True)
    assert len(rebuilt.open()) == 8
    assert rebuilt.last_seq == 10
    rebuilt.close()


def test_the_number_of_a_pruned_event_is_not_used_again(path: Path) -> None:
    journal = make_journal(path)
    journal.open()
    journal.prune(range(1, 10), 10, [])
    journal.close()
    path.with_name("jobs.db-mark").unlink()
    rebuilt = make_journal(path, allow_data_loss=True)
    assert rebuilt.open() == []
    assert rebuilt.last_seq == 9
    rebuilt.close()


def test_allowed_data_loss_drops_a_job_that_was_submitted_twice(path: Path) -> None:
    journal = make_journal(path)
    journal.open()
    journal.write([submitted(10, "job-1")])
    journal.close()
    edit(path, "DELETE FROM events WHERE seq = 4")
    rebuilt = make_journal(path, allow_data_loss=True)
    assert [decode(encoded).seq for encoded in rebuilt.open()] == [2, 3, 5, 6, 7, 8, 9]
    rebuilt.close()
    assert check(path).damage is None


def test_allowed_data_loss_reads_tables_with_additional_columns(path: Path) -> None:
    edit(path, "ALTER TABLE events ADD COLUMN more TEXT", "ALTER TABLE keys ADD COLUMN more TEXT")
    assert "its tables are not those" in str(check(path).damage)
    rebuilt = make_journal(path, allow_data_loss=True)
    assert len(rebuilt.open()) == 9
    assert len(rebuilt.take_tombstones()) == 2
    rebuilt.close()


def test_rows_out_of_order_are_refused() -> None:
    rows = [to_row(submitted(seq)) for seq in (1, 2, 2)]
    with pytest.raises(JournalDamaged, match="event 2 follows event 2"):
        list(RowReader("jobs.db", 1).read(rows, 0))


@pytest.mark.parametrize("row", [("1", "j", b"", 0), (1, None, b"", 0), (1, "j", "", 0), (0, "j", b"", 0)], ids=repr)
def test_a_row_with_values_of_other_types_is_not_sound(row: tuple[Any, ...]) -> None:
    """A flipped byte can change the type of a value in spite of the declared type."""
    assert not is_sound(row)
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.execute("CREATE TABLE keys (name, job, digest, state, acted, at, checksum)")
        connection.execute("INSERT INTO keys VALUES (?, 'j', 'd', 'completed', 1, 1.0, 0)", row[:1])
        with pytest.raises(JournalDamaged, match="key tombstone fails its checksum"):
            list(read_tombstones(connection, "jobs.db", 1))


def test_allowed_data_loss_replaces_an_unreadable_journal_with_an_empty_one(path: Path) -> None:
    path.write_bytes(b"not a database at all" * 1000)
    with pytest.raises(JournalDamaged):
        make_journal(path).open()
    rebuilt = make_journal(path, allow_data_loss=True)
    assert rebuilt.open() == []
    assert rebuilt.last_seq == 9, "no number is used twice"
    rebuilt.close()
    assert len(list(path.parent.glob("jobs.db.damaged-*"))) >= 1


def test_a_failed_rebuild_leaves_the_files_in_place_and_releases_them(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    edit(path, "DELETE FROM events WHERE seq = 4")

    def full(*args: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("trio_jobs._stores.sqlite.journal.rebuild", full)
        with pytest.raises(OSError, match="No space left"):
            make_journal(path, allow_data_loss=True).open()
    rebuilt = make_journal(path, allow_data_loss=True)
    assert len(rebuilt.open()) == 8
    rebuilt.close()


# errors of SQLite


@pytest.mark.parametrize(
    ("code", "is_known", "message", "is_damage"),
    [
        (sqlite3.SQLITE_CORRUPT, True, "malformed", True),
        (sqlite3.SQLITE_NOTADB, True, "malformed", True),
        (sqlite3.SQLITE_NOTADB, False, "is not a trio-jobs journal", False),
        (None, False, "malformed", True),
        (sqlite3.SQLITE_BUSY, True, "is locked by another program", False),
        (sqlite3.SQLITE_READONLY, True, "cannot be written to", False),
        (sqlite3.SQLITE_CANTOPEN, True, "cannot be written to", False),
        (sqlite3.SQLITE_NOMEM, True, "journal jobs.db: malformed", False),
    ],
)
def test_an_error_of_sqlite_is_reported_with_its_consequence(
    code: int | None, is_known: bool, message: str, is_damage: bool
) -> None:
    error = sqlite3.DatabaseError("malformed")
    if code is not None:
        error.sqlite_errorcode = code
    explained = explain(error, "jobs.db", is_known=is_known)
    assert message in str(explained)
    assert isinstance(explained, JournalDamaged) == is_damage


class IgnoringConnection:
    """A connection on which `PRAGMA synchronous` has no effect."""

    def __init__(self, real: Connection) -> None:
        self._real = real

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def execute(self, sql: str, *parameters: Any) -> Any:
        return self._real.execute("SELECT 1" if sql == "PRAGMA synchronous" else sql, *parameters)


def test_an_sqlite_that_does_not_sync_each_commit_is_refused(tmp_path: Path) -> None:
    class IgnoringDisk(Disk):
        def connect(self, path: str) -> Connection:
            return IgnoringConnection(super().connect(path))

    store = SqliteStore(tmp_path / "jobs.db", disk=IgnoringDisk())
    with pytest.raises(StoreError, match="reports synchronous = 1, not 2"):
        trio.run(store.open, lambda events: None)


def test_text_that_is_not_utf8_is_damage(path: Path) -> None:
    """Where sqlite3 raises a UnicodeDecodeError."""
    disk = FaultyDisk()

    def fault(sql: str, is_done: bool) -> None:
        if sql.startswith("SELECT seq, job, body"):
            b"\xff".decode()

    disk.fault = fault
    with pytest.raises(JournalDamaged, match="can't decode byte 0xff"):
        trio.run(SqliteStore(path, disk=disk).open, lambda events: None)


# damage while the journal is open


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        (meta("epoch", "f" * 32), "after a failed commit its epoch is another one"),
        ("DELETE FROM events WHERE seq = 2", "after a failed commit events are missing (8 are left)"),
        (
            ("INSERT INTO events VALUES (?, ?, ?, ?)", to_row(submitted(10))),
            "after a failed commit it has events after number 9 that were never written",
        ),
        ("DELETE FROM meta WHERE name = 'oldest'", "its meta table lacks oldest"),
    ],
    ids=str,
)
def test_recovery_refuses_contents_that_were_not_written(
    path: Path, statement: str | tuple[str, tuple[Any, ...]], message: str
) -> None:
    journal = make_journal(path)
    journal.open()
    sql, values = (statement, ()) if isinstance(statement, str) else statement
    journal.connection.execute(sql, values)
    error = sqlite3.OperationalError("disk I/O error")
    with pytest.raises(JournalDamaged, match=re.escape(message)):
        journal.recover(error)
    journal.close()


def test_a_page_is_verified_when_it_is_read(path: Path) -> None:
    journal = make_journal(path)
    journal.open()
    journal.connection.execute("UPDATE events SET body = x'7b7d' WHERE seq = 4")
    assert len(journal.page(0, 3)) == 3
    with pytest.raises(JournalDamaged, match="event 4 can no longer be read"):
        journal.page(0, 9)
    journal.connection.execute("DELETE FROM events WHERE seq = 4")
    with pytest.raises(JournalDamaged, match="event 4 can no longer be read"):
        journal.page(3, 9)
    journal.connection.execute("DROP TABLE events")
    with pytest.raises(StoreError, match="no such table"):
        journal.page(0, 9)
    journal.close()


# the file system


def test_rewriting_a_missing_file_does_nothing(tmp_path: Path) -> None:
    Disk().rewrite(str(tmp_path / "none"))
    assert list(tmp_path.iterdir()) == []


def test_preallocating_a_vanished_wal_does_nothing(tmp_path: Path) -> None:
    class LateDisk(Disk):
        def size(self, path: str) -> int:
            return 0

    LateDisk().preallocate(str(tmp_path / "jobs.db-wal"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="from 3.12 on SQLite can be configured not to checkpoint")
def test_a_file_that_cannot_be_renamed_is_checkpointed(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As an open file on Windows."""

    def rename(self: Path, to: object) -> None:
        raise PermissionError(13, "in use")

    journal = make_journal(path)
    journal.open()
    journal.write([submitted(10)])
    assert path.with_name("jobs.db-wal").exists()
    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", rename)
        journal.close_connection(checkpoint=False)
    assert not path.with_name("jobs.db-wal").exists()
    journal = make_journal(path)
    assert len(journal.open()) == 10
    journal.close()


@pytest.mark.parametrize("text", [b"", b"7 since noon", b'{"pid": 7}', b'{"pid": "seven", "since": "noon"}', b"[]"])
def test_an_unreadable_lock_file_has_an_unknown_owner(tmp_path: Path, text: bytes) -> None:
    (tmp_path / "lock").write_bytes(text)
    with (tmp_path / "lock").open("rb") as file:
        assert read_owner(file.fileno()) == (None, None)


@pytest.mark.parametrize("is_there", [False, True])
async def test_a_backup_overwrites_nothing_on_a_file_system_without_links(
    path: Path, monkeypatch: pytest.MonkeyPatch, is_there: bool
) -> None:
    to = path.with_name("backup.db")

    def link(*args: object) -> None:
        if is_there:
            to.write_bytes(b"another file")
        raise OSError(95, "Operation not supported")

    store = SqliteStore(path)
    await store.open(lambda events: None)
    monkeypatch.setattr(os, "link", link)
    if is_there:
        with pytest.raises(UsageError, match="already exists; a backup does not overwrite files"):
            await store.backup(str(to))
        assert to.read_bytes() == b"another file"
    else:
        await store.backup(str(to))
        assert check(to).events == 9
    await store.aclose()
    assert not list(path.parent.glob("*.part-*"))


def test_a_backup_with_an_unreadable_last_row_is_not_restored(path: Path) -> None:
    edit(
        path,
        f"PRAGMA application_id = {BACKUP_ID}",
        "DROP TABLE events",
        "CREATE TABLE events (seq, job, body, checksum)",
        "INSERT INTO events VALUES (9, 'j', x'00', 'none')",
    )
    for suffix in ("-wal", "-mark"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
    with pytest.raises(JournalDamaged, match="its last row cannot be read"):
        make_journal(path).open()


# the check of a journal


def test_a_check_reports_a_file_that_is_not_a_database(path: Path) -> None:
    path.write_bytes(b"not a database at all" * 1000)
    assert check(path).damage == "file is not a database"


def test_a_check_fails_if_the_journal_changes_meanwhile(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stamps = iter([[(1, 1, 1)], [(1, 1, 2)]])
    monkeypatch.setattr(check_module, "_fingerprints", lambda names: next(stamps))
    with pytest.raises(StoreError, match="was written to while it was copied; try again"):
        check(path)


def test_a_check_of_an_unreadable_backup_reports_the_error_of_sqlite(path: Path) -> None:
    edit(path, f"PRAGMA application_id = {BACKUP_ID}", "DROP TABLE events")
    for suffix in ("-wal", "-mark"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
    result = check(path)
    assert result.is_backup
    assert result.damage == "no such table: events"
