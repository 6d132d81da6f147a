"""Damaged, truncated, older, replaced and foreign files are refused, and never opened with fewer jobs."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import sqlite3
import stat
import struct
import sys
import zlib
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from journals import SUFFIXES, copy_journal, make_journal, write_journal

from support.processes import Process
from trio_jobs import JournalDamaged, JournalInUse, Service, SqliteStore, StoreError
from trio_jobs._engine import events as ev
from trio_jobs._engine.jobs import State
from trio_jobs._engine.key_tombstones import KeyTombstone, key_name
from trio_jobs._stores.sqlite import schema
from trio_jobs._stores.sqlite.check import check
from trio_jobs._stores.sqlite.schema import APPLICATION_ID, BACKUP_ID, SCHEMA_VERSION
from trio_jobs.testing.store_check import submitted

GOLDEN = Path(__file__).with_name("golden")


@pytest.mark.parametrize("closed", [True, False])
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_flipped_byte_is_found_or_harmless(tmp_path: Path, suffix: str, closed: bool) -> None:
    flip_bytes(tmp_path, suffix, closed, 60)


@pytest.mark.campaign
@pytest.mark.parametrize("closed", [True, False])
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_each_of_2000_flipped_bytes_is_found_or_harmless(tmp_path: Path, suffix: str, closed: bool) -> None:
    flip_bytes(tmp_path, suffix, closed, 2000)


def flip_bytes(tmp_path: Path, suffix: str, closed: bool, count: int) -> None:
    chance = random.Random(7)
    journal = write_journal(tmp_path / "jobs.db", 40, close=closed)
    good = copy_journal(tmp_path / "jobs.db", tmp_path / "good.db")
    journal.close()
    whole = make_journal(copy_journal(good, tmp_path / "tried.db"))
    bodies = whole.open()
    whole.close()
    target = tmp_path / f"tried.db{suffix}"
    if not (tmp_path / f"good.db{suffix}").exists():
        return
    found = 0
    for _ in range(count):
        copy_journal(good, tmp_path / "tried.db")
        data = bytearray(target.read_bytes())
        at = chance.randrange(len(data))
        data[at] ^= 1 << chance.randrange(8)
        target.write_bytes(data)
        tried = make_journal(tmp_path / "tried.db")
        try:
            assert tried.open() == bodies, f"byte {at} of {suffix or 'the file'} changed the events"
        except StoreError:
            found += 1
        finally:
            tried.close()
    # an open journal has everything in its WAL too, and the high-water mark has another slot
    assert found or suffix == "-mark" or (suffix == "" and not closed)


def test_a_truncated_file_is_refused_at_any_length(tmp_path: Path) -> None:
    write_journal(tmp_path / "jobs.db", 40)
    good = copy_journal(tmp_path / "jobs.db", tmp_path / "good.db")
    length = good.stat().st_size
    for keep in [0, 1, 100, 512, 4095, 4096, *range(8192, length, 4096), length - 1]:
        copy_journal(good, tmp_path / "tried.db")
        os.truncate(tmp_path / "tried.db", keep)
        with pytest.raises(StoreError):
            make_journal(tmp_path / "tried.db").open()


def test_a_truncated_wal_is_refused(tmp_path: Path) -> None:
    journal = write_journal(tmp_path / "jobs.db", 20, size=1, close=False)
    good = copy_journal(tmp_path / "jobs.db", tmp_path / "good.db")
    journal.close()
    length = (tmp_path / "good.db-wal").stat().st_size
    for keep in range(0, length, 1000):
        copy_journal(good, tmp_path / "tried.db")
        os.truncate(tmp_path / "tried.db-wal", keep)
        with pytest.raises(JournalDamaged):
            make_journal(tmp_path / "tried.db").open()


def test_an_older_copy_is_refused(tmp_path: Path) -> None:
    write_journal(tmp_path / "jobs.db", 2)
    shutil.copy(tmp_path / "jobs.db", tmp_path / "older")
    again = make_journal(tmp_path / "jobs.db")
    again.open()
    again.write([submitted(7)])
    again.close()
    shutil.copy(tmp_path / "older", tmp_path / "jobs.db")
    with pytest.raises(JournalDamaged, match="ends at event 6, but events up to 7 were committed"):
        make_journal(tmp_path / "jobs.db").open()


def test_a_file_of_another_journal_is_refused(tmp_path: Path) -> None:
    write_journal(tmp_path / "jobs.db", 2)
    write_journal(tmp_path / "other.db", 5)
    shutil.copy(tmp_path / "other.db", tmp_path / "jobs.db")
    with pytest.raises(JournalDamaged, match="its epoch is not that of its high-water mark"):
        make_journal(tmp_path / "jobs.db").open()


def test_a_missing_journal_is_refused_while_its_high_water_mark_exists(tmp_path: Path) -> None:
    write_journal(tmp_path / "jobs.db", 2)
    (tmp_path / "jobs.db").unlink()
    with pytest.raises(JournalDamaged, match="missing or empty, but events up to 6 were committed"):
        make_journal(tmp_path / "jobs.db").open()


def test_a_journal_without_its_high_water_mark_is_refused(tmp_path: Path) -> None:
    write_journal(tmp_path / "jobs.db", 2)
    (tmp_path / "jobs.db-mark").unlink()
    with pytest.raises(JournalDamaged, match=r"mark .* is missing"):
        make_journal(tmp_path / "jobs.db").open()


def test_a_missing_row_is_found(tmp_path: Path) -> None:
    write_journal(tmp_path / "jobs.db", 2)
    with sqlite3.connect(tmp_path / "jobs.db") as connection:
        connection.execute("DELETE FROM events WHERE seq = 3")
    connection.close()
    with pytest.raises(JournalDamaged, match="contains 5 events instead of 6"):
        make_journal(tmp_path / "jobs.db").open()


def test_a_refused_journal_holds_no_lock_while_its_error_is_handled(tmp_path: Path) -> None:
    write_journal(tmp_path / "jobs.db", 2)
    with sqlite3.connect(tmp_path / "jobs.db") as connection:
        connection.execute("UPDATE events SET body = x'00' WHERE seq = 2")
    connection.close()
    try:
        make_journal(tmp_path / "jobs.db").open()
    except JournalDamaged:  # its traceback keeps the frames, and what they read, alive
        rebuilt = make_journal(tmp_path / "jobs.db", allow_data_loss=True)
        assert len(rebuilt.open()) == 5, "the last event can be read"
        rebuilt.close()


def test_a_refused_journal_is_not_changed(tmp_path: Path) -> None:
    """Its WAL above all: a checkpoint would lose everything after the damage."""
    journal = write_journal(tmp_path / "jobs.db", 20, close=False)
    good = copy_journal(tmp_path / "jobs.db", tmp_path / "good.db")
    journal.close()
    log = bytearray((tmp_path / "good.db-wal").read_bytes())
    log[len(log) // 2] ^= 1
    (tmp_path / "good.db-wal").write_bytes(log)
    before = {path.name: path.read_bytes() for path in tmp_path.glob("good*")}
    for _ in range(2):
        with pytest.raises(JournalDamaged, match="but events up to 60 were committed"):
            make_journal(good).open()
        assert {path.name: path.read_bytes() for path in tmp_path.glob("good*")} == before
    rebuilt = make_journal(good, allow_data_loss=True)
    assert 0 < len(rebuilt.open()) < 60
    rebuilt.close()
    renamed = {path.name.removeprefix("good.db")[17:]: path.read_bytes() for path in tmp_path.glob("good.db.damaged-*")}
    assert renamed == {name.removeprefix("good.db"): data for name, data in before.items()}, (
        "the damaged files are renamed, not changed"
    )


def test_a_kill_during_a_close_without_checkpoint_is_harmless(tmp_path: Path) -> None:
    write_journal(tmp_path / "jobs.db", 2)
    (tmp_path / "jobs.db").rename(tmp_path / "jobs.db.held")
    again = make_journal(tmp_path / "jobs.db")
    assert len(again.open()) == 6
    again.close()


def test_allowed_data_loss_continues_with_readable_jobs_under_a_new_epoch(tmp_path: Path) -> None:
    journal = make_journal(tmp_path / "jobs.db")
    journal.open()
    journal.write([submitted(1, "a"), submitted(2, "b"), submitted(3, "c")])
    journal.write([ev.Started(seq=4, at=1.0, job="b", attempt=1), ev.Started(seq=5, at=1.0, job="c", attempt=1)])
    journal.write([ev.Completed(seq=6, at=2.0, job="b", attempt=1)])
    journal.close()
    with sqlite3.connect(tmp_path / "jobs.db") as connection:
        connection.execute("UPDATE events SET body = x'00' WHERE seq = 4")
    connection.close()
    with pytest.raises(JournalDamaged, match="event 4"):
        make_journal(tmp_path / "jobs.db").open()
    rebuilt = make_journal(tmp_path / "jobs.db", allow_data_loss=True)
    bodies = rebuilt.open()
    # the history of b is inconsistent: completed and never started
    assert [json.loads(body)["seq"] for body in bodies] == [1, 3, 5]
    assert rebuilt.epoch != journal.epoch
    assert (rebuilt.last_seq, rebuilt.oldest) == (6, 7)
    rebuilt.write([submitted(7)])
    rebuilt.close()
    again = make_journal(tmp_path / "jobs.db")
    assert len(again.open()) == 4
    again.close()
    kept = [path.name for path in tmp_path.glob("jobs.db.damaged-*") if path.stat().st_size]
    assert len(kept) == 2, "the damaged file and its high-water mark are kept"


async def test_jobs_that_survived_a_data_loss_can_be_pruned(tmp_path: Path) -> None:
    path = tmp_path / "jobs.db"
    journal = make_journal(path)
    journal.open()
    started = ev.Started(seq=3, at=1.0, job="a", attempt=1)
    journal.write([submitted(1, "a"), ev.Stuck(seq=2, at=1.0, culprit="a"), started])
    journal.write([submitted(4, "b")])
    journal.close()
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE events SET body = x'00' WHERE seq = 4")
    connection.close()
    store = SqliteStore(path, allow_data_loss=True)
    assert [event.seq for event in await store.open(lambda events: None)] == [1, 2, 3]
    await store.prune({"a": (1, 3)})
    await store.aclose()
    again = SqliteStore(path)
    assert list(await again.open(lambda events: None)) == []
    await again.aclose()


def test_allowed_loss_of_everything_continues_after_the_last_number(tmp_path: Path) -> None:
    write_journal(tmp_path / "jobs.db", 2)
    (tmp_path / "jobs.db").unlink()
    rebuilt = make_journal(tmp_path / "jobs.db", allow_data_loss=True)
    assert rebuilt.open() == []
    assert rebuilt.last_seq == 6
    rebuilt.close()


def test_a_file_of_another_program_is_not_changed(tmp_path: Path) -> None:
    path = tmp_path / "jobs.db"
    path.write_text("my diary " * 1000)
    with pytest.raises(StoreError, match="not a trio-jobs journal"):
        make_journal(path, allow_data_loss=True).open()
    assert path.read_text().startswith("my diary")
    other = tmp_path / "other.db"
    with sqlite3.connect(other) as connection:
        connection.execute("CREATE TABLE mine (x)")
    connection.close()
    before = other.read_bytes()
    with pytest.raises(StoreError, match="not a trio-jobs journal"):
        make_journal(other, allow_data_loss=True).open()
    assert other.read_bytes() == before, "not even its journal mode is changed"
    assert sorted(found.name for found in tmp_path.iterdir()) == ["jobs.db", "other.db"]


def test_a_newer_schema_is_refused(tmp_path: Path) -> None:
    write_journal(tmp_path / "jobs.db", 1)
    with sqlite3.connect(tmp_path / "jobs.db") as connection:
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    connection.close()
    with pytest.raises(StoreError, match=rf"written by a newer trio-jobs .schema {SCHEMA_VERSION + 1}"):
        make_journal(tmp_path / "jobs.db").open()


def older_tombstones(path: Path) -> sqlite3.Connection:
    """Make a journal of schema 2 with the tombstones of three jobs. The caller closes the connection."""
    shutil.copy(GOLDEN / "v2.db", path)
    shutil.copy(GOLDEN / "v2.db-mark", f"{path}-mark")
    connection = sqlite3.connect(path, isolation_level=None)
    for state in (State.COMPLETED, State.FAILED):
        name, at = key_name("post", state), 1_700_000_080.5
        parts = (name, state.encode(), b"digest", state.encode(), struct.pack("<d", at))
        row = (name, str(state), "digest", str(state), at, zlib.crc32(b"\0".join(parts)))
        connection.execute("INSERT INTO keys VALUES (?, ?, ?, ?, ?, ?)", row)
    connection.execute("UPDATE meta SET value = '3', checksum = ? WHERE name = 'keys'", (zlib.crc32(b"keys=3"),))
    return connection


def test_the_job_of_an_older_tombstone_may_have_acted_unless_it_was_cancelled(tmp_path: Path) -> None:
    older_tombstones(tmp_path / "jobs.db").close()
    for _ in range(2):  # migrated, then read
        journal = make_journal(tmp_path / "jobs.db")
        journal.open()
        found = {tombstone.state: tombstone.may_have_acted for tombstone in journal.take_tombstones()}
        journal.close()
        assert found == {State.COMPLETED: True, State.FAILED: True, State.CANCELLED: False}


def test_a_damaged_tombstone_of_an_older_schema_is_reported_and_the_others_are_rebuilt(tmp_path: Path) -> None:
    with contextlib.closing(older_tombstones(tmp_path / "jobs.db")) as connection:
        connection.execute("UPDATE keys SET digest = 'other' WHERE state = 'failed'")
    with pytest.raises(JournalDamaged, match="tombstone fails its checksum"):
        make_journal(tmp_path / "jobs.db").open()
    assert check(tmp_path / "jobs.db").schema == 2, "nothing was changed"
    journal = make_journal(tmp_path / "jobs.db", allow_data_loss=True)
    journal.open()
    found = {tombstone.state: tombstone.may_have_acted for tombstone in journal.take_tombstones()}
    journal.close()
    assert found == {State.COMPLETED: True, State.CANCELLED: False}


def test_an_older_schema_is_migrated_in_one_transaction(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A newer one, invented here."""
    write_journal(tmp_path / "jobs.db", 2)
    monkeypatch.setattr(schema, "SCHEMA_VERSION", SCHEMA_VERSION + 1)
    monkeypatch.setitem(
        schema.MIGRATIONS, SCHEMA_VERSION, ("CREATE TABLE more (x TEXT) STRICT", "CREATE TABLE more (y TEXT)")
    )
    monkeypatch.setitem(schema.TABLES, "more", "CREATE TABLE more (x TEXT) STRICT")
    with pytest.raises(StoreError, match="more already exists"):
        make_journal(tmp_path / "jobs.db").open()
    with sqlite3.connect(tmp_path / "jobs.db") as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (SCHEMA_VERSION,)
        assert connection.execute("SELECT count(*) FROM sqlite_master WHERE name = 'more'").fetchone() == (0,)
    connection.close()
    monkeypatch.setitem(schema.MIGRATIONS, SCHEMA_VERSION, ("CREATE TABLE more (x TEXT) STRICT",))
    for _ in range(2):
        journal = make_journal(tmp_path / "jobs.db")
        assert len(journal.open()) == 6
        journal.close()
    with sqlite3.connect(tmp_path / "jobs.db") as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (SCHEMA_VERSION + 1,)
    connection.close()


def test_a_missing_folder_is_reported_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(StoreError) as caught:
        make_journal(tmp_path / "nowhere" / "jobs.db").open()
    assert "\n" not in str(caught.value)
    assert "nowhere" in str(caught.value)


async def test_files_are_readable_by_their_owner_alone(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "jobs.db")
    await store.open(lambda events: None)
    store.append([submitted(1)])
    await store.committed(1)
    found = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    assert set(found) == {"jobs.db", "jobs.db-wal", "jobs.db-mark", "jobs.db-lock"}
    if os.name == "posix":
        assert set(found.values()) == {0o600}
    await store.aclose()


HOLDER = """
import sys, trio
from trio_jobs import SqliteStore
async def main():
    store = SqliteStore(sys.argv[1])
    await store.open(lambda events: None)
    print("open", flush=True)
    await trio.sleep_forever()
trio.run(main)
"""


async def test_a_second_process_is_refused_and_the_lock_of_a_dead_one_is_released(tmp_path: Path) -> None:
    path = tmp_path / "jobs.db"
    holder = Process([sys.executable, "-c", HOLDER, path])
    assert holder.out.line() == "open\n"
    with pytest.raises(JournalInUse) as caught:
        await SqliteStore(path).open(lambda events: None)
    assert caught.value.pid == holder.pid
    assert str(caught.value.since).startswith("20")
    holder.end()
    store = SqliteStore(path)
    await store.open(lambda events: None)
    await store.aclose()


GOLDEN_TYPES = [
    "host_opened", "submitted", "scheduled", "started", "completed", "due", "started", "in_doubt", "paused",
]  # fmt: skip
NEW_IN_V2 = [
    "session_opening", "session_opening_failed", "session_opening", "host_opened", "host_closed", "submitted",
    "started", "returned", "saved", "completed", "submitted", "started", "returned", "save_failed", "retrying",
]  # fmt: skip
#: Of the queue, only the last events of a group are retained behind a forgotten job
IN_V3 = [
    "submitted", "scheduled", "started", "completed", "due", "started", "in_doubt", "submitted", "started", "returned",
    "completed", "submitted", "started", "returned", "retrying", "resumed", "submitted", "started", "failed", "claimed",
    "corrected", "started", "step_started", "step_finished", "completed", "submitted", "started", "in_doubt",
    "host_opened", "in_doubt", "in_doubt", "failed", "claimed", "claimed", "verified", "verified", "scheduled",
    "rescheduled", "forgotten", "paused", "drain_started", "drain_ended", "host_closed",
]  # fmt: skip


@pytest.mark.parametrize(
    ("version", "oldest", "last", "types"),
    [(1, 3, 11, GOLDEN_TYPES), (2, 3, 26, [*GOLDEN_TYPES, *NEW_IN_V2]), (3, 60, 64, IN_V3)],
    ids=["v1", "v2", "v3"],
)
def test_the_golden_file_of_each_schema_can_be_read(
    tmp_path: Path, version: int, oldest: int, last: int, types: list[str]
) -> None:
    """Each was written by a version with that schema. If this fails, existing journals cannot be read."""
    for suffix in ("", "-mark"):
        shutil.copy(GOLDEN / f"v{version}.db{suffix}", tmp_path / f"jobs.db{suffix}")
    assert check(tmp_path / "jobs.db").schema == version, "a check changes nothing"
    golden = make_journal(tmp_path / "jobs.db")
    bodies = golden.open()
    assert golden.epoch == (GOLDEN / f"v{version}.epoch").read_text().strip(), "it is the same history"
    assert (golden.last_seq, golden.oldest) == (last, oldest)
    assert [json.loads(body)["type"] for body in bodies] == types
    tombstones = golden.take_tombstones()
    assert tombstones[:1] == [
        KeyTombstone(
            bytes.fromhex("e6ff99e963b6a9d7258f6ca2cc77f299"), "018bcfe5-6800-7000-8000-000000000003", "11" * 16,
            State.CANCELLED, 1_700_000_070.125, may_have_acted=False,
        )
    ]  # fmt: skip
    names = [key_name("post", "A-0"), key_name("invoice", "B-4")][: 2 if version == 3 else 1]
    assert [one.name for one in tombstones] == names, "another hash would make every existing key unknown"
    golden.close()
    assert APPLICATION_ID == 0x74726A62
    found = check(tmp_path / "jobs.db")
    assert (found.schema, found.damage, found.last_seq) == (SCHEMA_VERSION, None, last)


async def test_a_queue_continues_the_golden_file_of_the_present_schema(tmp_path: Path) -> None:
    """What operators did to its jobs is in it, and a key belongs to the payload of the correction."""
    for suffix in ("", "-mark"):
        shutil.copy(GOLDEN / f"v3.db{suffix}", tmp_path / f"jobs.db{suffix}")
    service = Service(unhandled_jobs="hold", watchdog=None, job_retention=100 * 365 * 86400.0)

    @service.handler(kind="invoice")
    async def invoice(what: dict[str, Any]) -> None: ...

    async with service.open(journal=tmp_path / "jobs.db") as queue:
        assert (queue.paused, queue.paused_until) == ("month end", datetime(2033, 5, 18, 3, 33, 20, tzinfo=UTC))
        corrected, unknown, postponed = (queue.find("invoice", f"B-{n}") for n in (1, 2, 3))
        assert (corrected.state, corrected.run, corrected.steps) == (State.COMPLETED, 2, ("book",))
        assert corrected.earlier_payloads == {1: b'{"folio":"B-1","total":100}'}
        assert [(one.action, one.by, one.note) for one in corrected.actions or ()] == [
            ("claim", "ada", "asking the customer"), ("correct", "ada", "the total was wrong"),
        ]  # fmt: skip
        assert dict(corrected.labels) == {"company": "acme"}
        assert (unknown.state, unknown.may_have_acted, unknown.claimed_by) == (State.FAILED, False, None)
        assert [one.detail for one in unknown.actions or () if one.action == "verify"] == ["unknown", "not_done"]
        assert (postponed.state, postponed.reason) == (State.SCHEDULED, "rescheduled")
        for key, total in (("B-1", {"total": 200}), ("B-4", {})):  # a corrected job, and a forgotten one
            receipt = await queue.submit("invoice", {"folio": key, **total}, key=key)
            assert (receipt.created, receipt.state) == (False, State.COMPLETED)


def test_a_backup_of_an_older_schema_is_restored_and_migrated(tmp_path: Path) -> None:
    shutil.copy(GOLDEN / "v1.db", tmp_path / "jobs.db")
    with contextlib.closing(sqlite3.connect(tmp_path / "jobs.db")) as connection:
        connection.execute("PRAGMA journal_mode = DELETE").fetchone()
        connection.execute(f"PRAGMA application_id = {BACKUP_ID}")
    assert check(tmp_path / "jobs.db").is_backup
    journal = make_journal(tmp_path / "jobs.db")
    assert len(journal.open()) == len(GOLDEN_TYPES)
    journal.close()
    assert check(tmp_path / "jobs.db").schema == SCHEMA_VERSION
