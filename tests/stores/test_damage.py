"""Damaged, truncated, older, replaced and foreign files: refused with what was found, never opened with fewer jobs."""

from __future__ import annotations

import json
import os
import random
import shutil
import sqlite3
import stat
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from support.processes import Process
from trio_jobs import JournalDamaged, JournalInUse, SqliteStore, StoreError
from trio_jobs._engine import events as ev
from trio_jobs._engine.jobs import State
from trio_jobs._engine.key_tombstones import KeyTombstone, key_name
from trio_jobs._stores.sqlite import schema
from trio_jobs._stores.sqlite.disk import Disk
from trio_jobs._stores.sqlite.journal import Journal
from trio_jobs._stores.sqlite.schema import APPLICATION_ID, SCHEMA_VERSION
from trio_jobs.testing.stores import submitted

SUFFIXES = ("", "-wal", "-mark")
GOLDEN = Path(__file__).with_name("golden")


def at_once(sync: Callable[[], None]) -> None:
    sync()


def journal(path: Path, *, allow_data_loss: bool = False) -> Journal:
    # without room in advance each byte of its log counts
    return Journal(str(path), Disk(log_size=0), allow_data_loss=allow_data_loss, background=at_once)


def write_some(path: Path, groups: int, *, size: int = 3, close: bool = True) -> Journal:
    """A journal of `groups` groups; not closed, its write-ahead log is still there."""
    made = journal(path)
    made.open()
    for _ in range(groups):
        made.write([submitted(made.last_seq + 1 + i) for i in range(size)])
    if close:
        made.close()
    return made


def copy(path: Path, to: Path) -> Path:
    for suffix in SUFFIXES:
        (to.parent / (to.name + suffix)).unlink(missing_ok=True)
        if (path.parent / (path.name + suffix)).exists():
            shutil.copy(path.parent / (path.name + suffix), to.parent / (to.name + suffix))
    return to


@pytest.mark.parametrize("closed", [True, False])
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_flipped_byte_is_found_or_does_no_harm(tmp_path: Path, suffix: str, closed: bool) -> None:
    flips(tmp_path, suffix, closed, 60)


@pytest.mark.campaign
@pytest.mark.parametrize("closed", [True, False])
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_of_2000_flipped_bytes_each_is_found_or_does_no_harm(tmp_path: Path, suffix: str, closed: bool) -> None:
    flips(tmp_path, suffix, closed, 2000)


def flips(tmp_path: Path, suffix: str, closed: bool, count: int) -> None:
    chance = random.Random(7)
    made = write_some(tmp_path / "jobs.db", 40, close=closed)
    good = copy(tmp_path / "jobs.db", tmp_path / "good.db")
    made.close()
    whole = journal(copy(good, tmp_path / "tried.db"))
    bodies = whole.open()
    whole.close()
    target = tmp_path / f"tried.db{suffix}"
    if not (tmp_path / f"good.db{suffix}").exists():
        return
    found = 0
    for _ in range(count):
        copy(good, tmp_path / "tried.db")
        data = bytearray(target.read_bytes())
        at = chance.randrange(len(data))
        data[at] ^= 1 << chance.randrange(8)
        target.write_bytes(data)
        tried = journal(tmp_path / "tried.db")
        try:
            assert tried.open() == bodies, f"byte {at} of {suffix or 'the file'} changed what is there"
        except StoreError:
            found += 1
        finally:
            tried.close()
    # not closed, all that the file itself holds is in its log once more; and the other slot stands in for a bad mark
    assert found or suffix == "-mark" or (suffix == "" and not closed)


def test_a_truncated_file_is_refused_at_any_length(tmp_path: Path) -> None:
    write_some(tmp_path / "jobs.db", 40)
    good = copy(tmp_path / "jobs.db", tmp_path / "good.db")
    length = good.stat().st_size
    for keep in [0, 1, 100, 512, 4095, 4096, *range(8192, length, 4096), length - 1]:
        copy(good, tmp_path / "tried.db")
        os.truncate(tmp_path / "tried.db", keep)
        with pytest.raises(StoreError):
            journal(tmp_path / "tried.db").open()


def test_a_truncated_log_is_refused_but_for_the_last_group(tmp_path: Path) -> None:
    made = write_some(tmp_path / "jobs.db", 20, size=1, close=False)
    good = copy(tmp_path / "jobs.db", tmp_path / "good.db")
    made.close()
    length = (tmp_path / "good.db-wal").stat().st_size
    for keep in range(0, length, 1000):
        copy(good, tmp_path / "tried.db")
        os.truncate(tmp_path / "tried.db-wal", keep)
        with pytest.raises(JournalDamaged):
            journal(tmp_path / "tried.db").open()


def test_an_older_copy_is_refused(tmp_path: Path) -> None:
    write_some(tmp_path / "jobs.db", 2)
    shutil.copy(tmp_path / "jobs.db", tmp_path / "older")
    again = journal(tmp_path / "jobs.db")
    again.open()
    again.write([submitted(7)])
    again.close()
    shutil.copy(tmp_path / "older", tmp_path / "jobs.db")
    with pytest.raises(JournalDamaged, match="ends at event 6; it held events up to 7"):
        journal(tmp_path / "jobs.db").open()


def test_another_journal_in_its_place_is_refused(tmp_path: Path) -> None:
    write_some(tmp_path / "jobs.db", 2)
    write_some(tmp_path / "other.db", 5)
    shutil.copy(tmp_path / "other.db", tmp_path / "jobs.db")
    with pytest.raises(JournalDamaged, match="not the history"):
        journal(tmp_path / "jobs.db").open()


def test_a_journal_that_is_gone_is_refused_while_its_mark_is_there(tmp_path: Path) -> None:
    write_some(tmp_path / "jobs.db", 2)
    (tmp_path / "jobs.db").unlink()
    with pytest.raises(JournalDamaged, match="gone or empty; it held events up to 6"):
        journal(tmp_path / "jobs.db").open()


def test_a_journal_without_its_mark_is_refused(tmp_path: Path) -> None:
    write_some(tmp_path / "jobs.db", 2)
    (tmp_path / "jobs.db-mark").unlink()
    with pytest.raises(JournalDamaged, match=r"mark .* is missing"):
        journal(tmp_path / "jobs.db").open()


def test_a_row_that_is_missing_is_noticed(tmp_path: Path) -> None:
    write_some(tmp_path / "jobs.db", 2)
    with sqlite3.connect(tmp_path / "jobs.db") as connection:
        connection.execute("DELETE FROM events WHERE seq = 3")
    connection.close()
    with pytest.raises(JournalDamaged, match="holds 5 events and should hold 6"):
        journal(tmp_path / "jobs.db").open()


def test_a_refusal_that_is_still_being_handled_holds_no_lock(tmp_path: Path) -> None:
    write_some(tmp_path / "jobs.db", 2)
    with sqlite3.connect(tmp_path / "jobs.db") as connection:
        connection.execute("UPDATE events SET body = x'00' WHERE seq = 2")
    connection.close()
    try:
        journal(tmp_path / "jobs.db").open()
    except JournalDamaged:  # with all its frames, and what they read
        left = journal(tmp_path / "jobs.db", allow_data_loss=True)
        assert len(left.open()) == 5, "also where the last event is among what is left"
        left.close()


def test_a_damaged_journal_that_is_refused_stays_as_it_was_found(tmp_path: Path) -> None:
    """Its log above all: poured into the file, it would be gone from where the damage is."""
    made = write_some(tmp_path / "jobs.db", 20, close=False)
    good = copy(tmp_path / "jobs.db", tmp_path / "good.db")
    made.close()
    log = bytearray((tmp_path / "good.db-wal").read_bytes())
    log[len(log) // 2] ^= 1
    (tmp_path / "good.db-wal").write_bytes(log)
    before = {path.name: path.read_bytes() for path in tmp_path.glob("good*")}
    for _ in range(2):
        with pytest.raises(JournalDamaged, match="it held events up to 60"):
            journal(good).open()
        assert {path.name: path.read_bytes() for path in tmp_path.glob("good*")} == before
    left = journal(good, allow_data_loss=True)
    assert 0 < len(left.open()) < 60
    left.close()
    aside = {path.name.removeprefix("good.db")[17:]: path.read_bytes() for path in tmp_path.glob("good.db.damaged-*")}
    assert aside == {name.removeprefix("good.db"): data for name, data in before.items()}, "nor when loss is accepted"


def test_a_kill_while_a_journal_is_let_go_of_does_no_harm(tmp_path: Path) -> None:
    write_some(tmp_path / "jobs.db", 2)
    (tmp_path / "jobs.db").rename(tmp_path / "jobs.db.held")
    again = journal(tmp_path / "jobs.db")
    assert len(again.open()) == 6
    again.close()


def test_accepted_loss_goes_on_with_what_is_left_under_a_new_epoch(tmp_path: Path) -> None:
    made = journal(tmp_path / "jobs.db")
    made.open()
    made.write([submitted(1, "a"), submitted(2, "b"), submitted(3, "c")])
    made.write([ev.Started(seq=4, at=1.0, job="b", attempt=1), ev.Started(seq=5, at=1.0, job="c", attempt=1)])
    made.write([ev.Completed(seq=6, at=2.0, job="b", attempt=1)])
    made.close()
    with sqlite3.connect(tmp_path / "jobs.db") as connection:
        connection.execute("UPDATE events SET body = x'00' WHERE seq = 4")
    connection.close()
    with pytest.raises(JournalDamaged, match="event 4"):
        journal(tmp_path / "jobs.db").open()
    left = journal(tmp_path / "jobs.db", allow_data_loss=True)
    bodies = left.open()
    # b does not add up any more: completed, and never started
    assert [json.loads(body)["seq"] for body in bodies] == [1, 3, 5]
    assert left.epoch != made.epoch
    assert (left.last_seq, left.oldest) == (6, 7)
    left.write([submitted(7)])
    left.close()
    again = journal(tmp_path / "jobs.db")
    assert len(again.open()) == 4
    again.close()
    kept = [path.name for path in tmp_path.glob("jobs.db.damaged-*") if path.stat().st_size]
    assert len(kept) == 2, "the damaged file and its mark are kept"


async def test_jobs_that_outlived_a_loss_can_be_forgotten_with_what_lies_between_their_events(tmp_path: Path) -> None:
    path = tmp_path / "jobs.db"
    made = journal(path)
    made.open()
    started = ev.Started(seq=3, at=1.0, job="a", attempt=1)
    made.write([submitted(1, "a"), ev.SessionClosed(seq=2, at=1.0, session=1), started])
    made.write([submitted(4, "b")])
    made.close()
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


def test_accepted_loss_of_everything_begins_anew_behind_the_last_number(tmp_path: Path) -> None:
    write_some(tmp_path / "jobs.db", 2)
    (tmp_path / "jobs.db").unlink()
    left = journal(tmp_path / "jobs.db", allow_data_loss=True)
    assert left.open() == []
    assert left.last_seq == 6
    left.close()


def test_a_file_of_somebody_else_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "jobs.db"
    path.write_text("my diary " * 1000)
    with pytest.raises(StoreError, match="no journal of trio-jobs"):
        journal(path, allow_data_loss=True).open()
    assert path.read_text().startswith("my diary")
    other = tmp_path / "other.db"
    with sqlite3.connect(other) as connection:
        connection.execute("CREATE TABLE mine (x)")
    connection.close()
    before = other.read_bytes()
    with pytest.raises(StoreError, match="no journal of trio-jobs"):
        journal(other, allow_data_loss=True).open()
    assert other.read_bytes() == before, "not even its mode is changed"
    assert sorted(found.name for found in tmp_path.iterdir()) == ["jobs.db", "other.db"]


def test_a_newer_schema_is_refused_by_name(tmp_path: Path) -> None:
    write_some(tmp_path / "jobs.db", 1)
    with sqlite3.connect(tmp_path / "jobs.db") as connection:
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    connection.close()
    with pytest.raises(StoreError, match=rf"written by a newer trio-jobs .schema {SCHEMA_VERSION + 1}"):
        journal(tmp_path / "jobs.db").open()


def test_an_older_schema_is_brought_up_to_date_in_one_transaction(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There is no older one yet; this makes a newer one, to show that there is a way, and that it is all or nothing."""
    write_some(tmp_path / "jobs.db", 2)
    monkeypatch.setattr(schema, "SCHEMA_VERSION", SCHEMA_VERSION + 1)
    monkeypatch.setitem(
        schema.MIGRATIONS, SCHEMA_VERSION, ("CREATE TABLE more (x TEXT) STRICT", "CREATE TABLE more (y TEXT)")
    )
    monkeypatch.setitem(schema.TABLES, "more", "CREATE TABLE more (x TEXT) STRICT")
    with pytest.raises(StoreError, match="more already exists"):
        journal(tmp_path / "jobs.db").open()
    with sqlite3.connect(tmp_path / "jobs.db") as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (SCHEMA_VERSION,)
        assert connection.execute("SELECT count(*) FROM sqlite_master WHERE name = 'more'").fetchone() == (0,)
    connection.close()
    monkeypatch.setitem(schema.MIGRATIONS, SCHEMA_VERSION, ("CREATE TABLE more (x TEXT) STRICT",))
    for _ in range(2):
        made = journal(tmp_path / "jobs.db")
        assert len(made.open()) == 6
        made.close()
    with sqlite3.connect(tmp_path / "jobs.db") as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (SCHEMA_VERSION + 1,)
    connection.close()


def test_a_folder_that_is_not_there_or_not_ours_is_said_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(StoreError) as caught:
        journal(tmp_path / "nowhere" / "jobs.db").open()
    assert "\n" not in str(caught.value)
    assert "nowhere" in str(caught.value)


async def test_files_are_for_their_owner_alone(tmp_path: Path) -> None:
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
    print("held", flush=True)
    await trio.sleep_forever()
trio.run(main)
"""


async def test_another_process_is_refused_by_name_and_a_dead_one_is_taken_over(tmp_path: Path) -> None:
    path = tmp_path / "jobs.db"
    holder = Process([sys.executable, "-c", HOLDER, path])
    assert holder.out.line() == "held\n"
    with pytest.raises(JournalInUse) as caught:
        await SqliteStore(path).open(lambda events: None)
    assert caught.value.pid == holder.pid
    assert str(caught.value.since).startswith("20")
    holder.end()
    store = SqliteStore(path)
    await store.open(lambda events: None)
    await store.aclose()


def test_the_golden_file_of_this_schema_is_read_as_ever(tmp_path: Path) -> None:
    """Made once by this schema's first program; if this fails, journals that people have cannot be read."""
    for suffix in ("", "-mark"):
        shutil.copy(GOLDEN / f"v{SCHEMA_VERSION}.db{suffix}", tmp_path / f"jobs.db{suffix}")
    golden = journal(tmp_path / "jobs.db")
    bodies = golden.open()
    assert golden.epoch == (GOLDEN / f"v{SCHEMA_VERSION}.epoch").read_text().strip()
    assert (golden.last_seq, golden.oldest) == (11, 3)
    assert [json.loads(body)["type"] for body in bodies] == [
        "host_opened", "submitted", "scheduled", "started", "completed", "due", "started", "in_doubt", "paused",
    ]  # fmt: skip
    assert golden.keys == [
        KeyTombstone(
            bytes.fromhex("e6ff99e963b6a9d7258f6ca2cc77f299"), "018bcfe5-6800-7000-8000-000000000003", "11" * 16,
            State.CANCELLED, 1_700_000_070.125,
        )
    ]  # fmt: skip
    assert golden.keys[0].name == key_name("post", "A-0"), "else every key ever kept would be new"
    golden.close()
    assert APPLICATION_ID == 0x74726A62
