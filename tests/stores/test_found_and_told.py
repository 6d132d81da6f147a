"""What can be wrong with a journal, one thing at a time, made by hand: each is refused, and told in words of its own.

Everything else about the files is in order, so that what is told is about that one thing.
"""

from __future__ import annotations

import os
import sqlite3
import sys
import zlib
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import trio
from bad_disks import FaultyDisk
from test_damage import journal, write_some

from trio_jobs import JournalDamaged, SqliteStore, StoreError
from trio_jobs._engine import events as ev
from trio_jobs._engine.jobs import State
from trio_jobs._engine.key_tombstones import KeyTombstone, key_name
from trio_jobs._stores.sqlite import check as check_module
from trio_jobs._stores.sqlite.check import check
from trio_jobs._stores.sqlite.disk import Connection, Disk
from trio_jobs._stores.sqlite.errors import explain
from trio_jobs._stores.sqlite.keys import read_keys
from trio_jobs._stores.sqlite.lock import _owner
from trio_jobs._stores.sqlite.rows import Rows, decode, is_sound, to_row
from trio_jobs._stores.sqlite.schema import BACKUP_ID, row_checksum
from trio_jobs.testing.store_check import submitted

KEYS = [KeyTombstone(key_name("k", text), text, "digest", State.COMPLETED, 1_700_000_000.0) for text in "ab"]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A closed journal of 9 events and 2 keys."""
    made = write_some(tmp_path / "jobs.db", 3, close=False)
    made.forget([], 1, KEYS)
    made.close()
    return tmp_path / "jobs.db"


def edit(path: Path, *statements: str | tuple[str, tuple[Any, ...]]) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for statement in statements:
            sql, values = (statement, ()) if isinstance(statement, str) else statement
            connection.execute(sql, values)


def body(seq: int, of: bytes, job: str | None = None) -> tuple[str, tuple[Any, ...]]:
    """That event's body, with the checksum that fits it. job: "" for an event of the queue itself."""
    checksum = row_checksum(seq, f"job-{seq}" if job is None else job, of)
    return "UPDATE events SET body = ?, checksum = ? WHERE seq = ?", (of, checksum, seq)


def meta(name: str, value: str) -> tuple[str, tuple[Any, ...]]:
    return (
        "UPDATE meta SET value = ?, checksum = ? WHERE name = ?",
        (value, zlib.crc32(f"{name}={value}".encode()), name),
    )


def test_nothing_is_wrong_with_the_journal_that_these_tests_begin_with(path: Path) -> None:
    whole = journal(path)
    assert len(whole.open()) == 9
    assert {key.job for key in whole.keys} == {key.job for key in KEYS}
    whole.close()
    assert check(path).damage is None


@pytest.mark.parametrize(
    ("statements", "told"),
    [
        (["UPDATE events SET body = x'7b7d' WHERE seq = 4"], "the row of event 4 fails its checksum"),
        (["UPDATE events SET job = CAST(x'ff' AS TEXT) WHERE seq = 4"], "decode"),
        (["DELETE FROM events WHERE seq = 4"], "it holds 8 events and should hold 9"),
        (["DELETE FROM keys WHERE job = 'a'"], "it holds 1 keys of forgotten jobs and should hold 2"),
        (["UPDATE keys SET digest = 'x' WHERE job = 'a'"], "the row of a forgotten job's key fails its checksum"),
        (["UPDATE keys SET state = 'pending' WHERE job = 'a'"], "the row of a forgotten job's key fails its checksum"),
        (["UPDATE meta SET value = '7' WHERE name = 'oldest'"], "its meta table fails its checksum"),
        (["DELETE FROM meta WHERE name IN ('keys', 'oldest')"], "its meta table lacks keys, oldest"),
        ([meta("epoch", "f" * 32)], "it is not the history that its high-water mark is about"),
        ([body(9, to_row(submitted(9, payload=b"2"))[2])], "event 9 is not the one that its high-water mark is about"),
        (["CREATE TABLE more (x)"], "its tables are not those of schema"),
        (["PRAGMA user_version = 0"], "its schema version reads 0, which there never was"),
    ],
    ids=str,
)
def test_a_damage_is_told_in_its_own_words(
    path: Path, statements: list[str | tuple[str, tuple[Any, ...]]], told: str
) -> None:
    edit(path, *statements)
    with pytest.raises(JournalDamaged, match=told):
        journal(path).open()
    assert told in str(check(path).damage)
    kept = journal(path, allow_data_loss=True)
    assert len(kept.open()) in (8, 9), "what is good is kept"
    kept.close()


def test_a_journal_that_became_a_database_of_something_else_is_no_journal(path: Path) -> None:
    edit(path, "PRAGMA application_id = 1")
    with pytest.raises(StoreError, match="is a database, but no journal of trio-jobs"):
        journal(path).open()


async def test_an_event_that_this_program_does_not_know_is_not_passed_over(path: Path) -> None:
    of = b'{"type":"from the future","seq":4,"at":1.0,"job":"job-4"}'
    edit(path, body(4, of))
    store = SqliteStore(path)
    events = await store.open(lambda events: None)
    with pytest.raises(StoreError, match="an event that this trio-jobs cannot read"):
        list(events)
    await store.aclose()


def test_an_event_that_cannot_be_read_costs_its_job_alone_when_loss_is_accepted(path: Path) -> None:
    made = journal(path)
    made.open()
    made.write([ev.Paused(seq=10, at=1.0), submitted(11)])
    made.close()
    unknown = b'{"type":"from the future \xff"}'
    ended = to_row(ev.Cancelled(seq=12, at=1.0, job="job-4", reason="cancelled", may_have_acted=False))
    more = ("INSERT INTO events VALUES (?, ?, ?, ?)", ended)
    edit(path, body(4, unknown), body(10, unknown, job=""), more, "DELETE FROM events WHERE seq = 7")
    found = check(path)
    assert found.damage == "it holds 11 events and should hold 12"
    assert found.jobs is not None and sum(found.jobs.values()) == 8
    kept = journal(path, allow_data_loss=True)
    assert [decode(of).seq for of in kept.open()] == [1, 2, 3, 5, 6, 8, 9, 11]
    kept.close()


@pytest.mark.parametrize("mark", ["gone", "behind"])
@pytest.mark.parametrize("job", ["", "job-10"])
def test_the_number_of_an_event_that_is_left_out_is_not_used_again(path: Path, job: str, mark: str) -> None:
    before = path.with_name("jobs.db-mark").read_bytes()
    made = journal(path)
    made.open()
    made.write([submitted(10) if job else ev.Paused(seq=10, at=1.0)])
    made.close()
    unknown = b'{"type":"from the future"}'
    edit(path, body(10, unknown, job), "DELETE FROM events WHERE seq = 4")
    path.with_name("jobs.db-mark").write_bytes(b"" if mark == "gone" else before)
    kept = journal(path, allow_data_loss=True)
    assert len(kept.open()) == 8
    assert kept.last_seq == 10
    kept.close()


def test_nor_is_that_of_what_was_pruned(path: Path) -> None:
    made = journal(path)
    made.open()
    made.forget(range(1, 10), 10, [])
    made.close()
    path.with_name("jobs.db-mark").unlink()
    kept = journal(path, allow_data_loss=True)
    assert kept.open() == []
    assert kept.last_seq == 9
    kept.close()


def test_a_job_that_is_there_twice_is_left_out_when_loss_is_accepted(path: Path) -> None:
    made = journal(path)
    made.open()
    made.write([submitted(10, "job-1")])
    made.close()
    edit(path, "DELETE FROM events WHERE seq = 4")
    kept = journal(path, allow_data_loss=True)
    assert [decode(of).seq for of in kept.open()] == [2, 3, 5, 6, 7, 8, 9]
    kept.close()
    assert check(path).damage is None


def test_a_table_with_more_columns_gives_back_those_that_it_had(path: Path) -> None:
    edit(path, "ALTER TABLE events ADD COLUMN more TEXT", "ALTER TABLE keys ADD COLUMN more TEXT")
    assert "its tables are not those" in str(check(path).damage)
    kept = journal(path, allow_data_loss=True)
    assert len(kept.open()) == 9
    assert len(kept.keys) == 2
    kept.close()


def test_rows_that_do_not_go_up_are_refused() -> None:
    rows = [to_row(submitted(seq)) for seq in (1, 2, 2)]
    with pytest.raises(JournalDamaged, match="event 2 stands behind event 2"):
        list(Rows("jobs.db", 1).read(rows, 0))


@pytest.mark.parametrize("row", [("1", "j", b"", 0), (1, None, b"", 0), (1, "j", "", 0), (0, "j", b"", 0)], ids=repr)
def test_a_row_of_other_types_than_were_written_is_not_sound(row: tuple[Any, ...]) -> None:
    """A flipped byte may change what a value is, whatever the table says."""
    assert not is_sound(row)
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.execute("CREATE TABLE keys (name, job, digest, state, at, checksum)")
        connection.execute("INSERT INTO keys VALUES (?, 'j', 'd', 'completed', 1.0, 0)", row[:1])
        with pytest.raises(JournalDamaged, match="key fails its checksum"):
            list(read_keys(connection, "jobs.db", 1))


def test_a_journal_with_nothing_to_be_read_in_it_begins_anew_when_loss_is_accepted(path: Path) -> None:
    path.write_bytes(b"not a database at all" * 1000)
    with pytest.raises(JournalDamaged):
        journal(path).open()
    kept = journal(path, allow_data_loss=True)
    assert kept.open() == []
    assert kept.last_seq == 9, "no number is used twice"
    kept.close()
    assert len(list(path.parent.glob("jobs.db.damaged-*"))) >= 1


def test_what_cannot_be_rebuilt_stays_where_it_was_and_is_let_go_of(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    edit(path, "DELETE FROM events WHERE seq = 4")

    def full(*args: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("trio_jobs._stores.sqlite.journal.rebuild", full)
        with pytest.raises(OSError, match="No space left"):
            journal(path, allow_data_loss=True).open()
    kept = journal(path, allow_data_loss=True)
    assert len(kept.open()) == 8
    kept.close()


# what SQLite says


@pytest.mark.parametrize(
    ("code", "is_known", "told", "is_damage"),
    [
        (sqlite3.SQLITE_CORRUPT, True, "malformed", True),
        (sqlite3.SQLITE_NOTADB, True, "malformed", True),
        (sqlite3.SQLITE_NOTADB, False, "is no journal of trio-jobs", False),
        (None, False, "malformed", True),
        (sqlite3.SQLITE_BUSY, True, "is open in another program", False),
        (sqlite3.SQLITE_READONLY, True, "cannot be written to", False),
        (sqlite3.SQLITE_CANTOPEN, True, "cannot be written to", False),
        (sqlite3.SQLITE_NOMEM, True, "journal jobs.db: malformed", False),
    ],
)
def test_what_sqlite_says_is_told_as_what_to_do_about_it(
    code: int | None, is_known: bool, told: str, is_damage: bool
) -> None:
    error = sqlite3.DatabaseError("malformed")
    if code is not None:
        error.sqlite_errorcode = code
    explained = explain(error, "jobs.db", is_known=is_known)
    assert told in str(explained)
    assert isinstance(explained, JournalDamaged) == is_damage


class Reluctant:
    """A connection that does not take a setting on."""

    def __init__(self, real: Connection) -> None:
        self._real = real

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def execute(self, sql: str, *parameters: Any) -> Any:
        return self._real.execute("SELECT 1" if sql == "PRAGMA synchronous" else sql, *parameters)


def test_an_sqlite_that_does_not_sync_each_commit_is_not_relied_on(tmp_path: Path) -> None:
    class Lazy(Disk):
        def connect(self, path: str) -> Connection:
            return Reluctant(super().connect(path))

    store = SqliteStore(tmp_path / "jobs.db", disk=Lazy())
    with pytest.raises(StoreError, match="answers synchronous = 1, not 2"):
        trio.run(store.open, lambda events: None)


def test_text_that_is_none_is_a_damage(path: Path) -> None:
    """In a place where sqlite3 says so with an error of Python's own."""
    disk = FaultyDisk()

    def fault(sql: str, is_done: bool) -> None:
        if sql.startswith("SELECT seq, job, body"):
            b"\xff".decode()

    disk.fault = fault
    with pytest.raises(JournalDamaged, match="can't decode byte 0xff"):
        trio.run(SqliteStore(path, disk=disk).open, lambda events: None)


# while it is open


@pytest.mark.parametrize(
    ("statement", "told"),
    [
        (meta("epoch", "f" * 32), "read back, it is another history"),
        ("DELETE FROM events WHERE seq = 2", "read back, it holds 8 events; some are missing"),
        (
            ("INSERT INTO events VALUES (?, ?, ?, ?)", to_row(submitted(10))),
            "read back, what stands behind event 9 was never written",
        ),
        ("DELETE FROM meta WHERE name = 'oldest'", "its meta table lacks oldest"),
    ],
    ids=str,
)
def test_what_is_read_back_after_a_failure_must_be_what_was_written(
    path: Path, statement: str | tuple[str, tuple[Any, ...]], told: str
) -> None:
    made = journal(path)
    made.open()
    sql, values = (statement, ()) if isinstance(statement, str) else statement
    made._open_connection.execute(sql, values)
    error = sqlite3.OperationalError("disk I/O error")
    with pytest.raises(JournalDamaged, match=told):
        made.recover(error)
    made.close()


def test_a_page_is_checked_as_it_is_read(path: Path) -> None:
    made = journal(path)
    made.open()
    made._open_connection.execute("UPDATE events SET body = x'7b7d' WHERE seq = 4")
    assert len(made.page(0, 3)) == 3
    with pytest.raises(JournalDamaged, match="event 4 cannot be read any more"):
        made.page(0, 9)
    made._open_connection.execute("DELETE FROM events WHERE seq = 4")
    with pytest.raises(JournalDamaged, match="event 4 cannot be read any more"):
        made.page(3, 9)
    made._open_connection.execute("DROP TABLE events")
    with pytest.raises(StoreError, match="no such table"):
        made.page(0, 9)
    made.close()


# doors to the file system


def test_there_may_be_nothing_to_be_written_anew(tmp_path: Path) -> None:
    Disk().rewrite(str(tmp_path / "none"))
    assert list(tmp_path.iterdir()) == []


def test_a_log_that_goes_away_as_it_is_given_its_size_is_let_go(tmp_path: Path) -> None:
    class Late(Disk):
        def size(self, path: str) -> int:
            return 0

    Late().reserve(str(tmp_path / "jobs.db-wal"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="from 3.12 on SQLite is asked to leave the log alone")
def test_a_file_that_cannot_be_moved_gets_its_log(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on Windows, while it is open."""

    def rename(self: Path, to: object) -> None:
        raise PermissionError(13, "in use")

    made = journal(path)
    made.open()
    made.write([submitted(10)])
    assert path.with_name("jobs.db-wal").exists()
    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", rename)
        made._let_go(keep_log=True)
    assert not path.with_name("jobs.db-wal").exists()
    whole = journal(path)
    assert len(whole.open()) == 10
    whole.close()


@pytest.mark.parametrize("text", [b"", b"7 since noon", b'{"pid": 7}', b'{"pid": "seven", "since": "noon"}', b"[]"])
def test_a_lock_whose_owner_cannot_be_read_has_one_all_the_same(tmp_path: Path, text: bytes) -> None:
    (tmp_path / "lock").write_bytes(text)
    with (tmp_path / "lock").open("rb") as file:
        assert _owner(file.fileno()) == (None, None)


@pytest.mark.parametrize("is_there", [False, True])
async def test_a_backup_is_named_in_one_step_where_there_are_no_links_too(
    path: Path, monkeypatch: pytest.MonkeyPatch, is_there: bool
) -> None:
    to = path.with_name("backup.db")

    def link(*args: object) -> None:
        if is_there:
            to.write_bytes(b"somebody else's")
        raise OSError(95, "Operation not supported")

    store = SqliteStore(path)
    await store.open(lambda events: None)
    monkeypatch.setattr(os, "link", link)
    if is_there:
        with pytest.raises(StoreError, match="exists already; a backup overwrites nothing"):
            await store.backup(str(to))
        assert to.read_bytes() == b"somebody else's"
    else:
        await store.backup(str(to))
        assert check(to).events == 9
    await store.aclose()
    assert not list(path.parent.glob("*.part-*"))


def test_a_backup_whose_last_row_cannot_be_read_is_not_adopted(path: Path) -> None:
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
        journal(path).open()


# the check


def test_a_check_of_what_is_no_database_any_more_says_so(path: Path) -> None:
    path.write_bytes(b"not a database at all" * 1000)
    assert check(path).damage == "file is not a database"


def test_a_check_of_what_changes_meanwhile_says_so(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stamps = iter([[(1, 1, 1)], [(1, 1, 2)]])
    monkeypatch.setattr(check_module, "_stamps", lambda names: next(stamps))
    with pytest.raises(StoreError, match="was written to while it was read; try again"):
        check(path)


def test_a_check_of_a_backup_that_sqlite_cannot_read_says_what_it_says(path: Path) -> None:
    edit(path, f"PRAGMA application_id = {BACKUP_ID}", "DROP TABLE events")
    for suffix in ("-wal", "-mark"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
    found = check(path)
    assert found.is_backup
    assert found.damage == "no such table: events"
