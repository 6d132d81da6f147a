"""`trio-jobs journal check`: what is there, told without changing anything."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import trio

from support.processes import Process
from trio_jobs import SqliteStore, State, StoreError
from trio_jobs._cli.main import main
from trio_jobs._engine import events as ev
from trio_jobs._engine.key_tombstones import KeyTombstone, key_name
from trio_jobs._stores.sqlite.check import check
from trio_jobs.testing.stores import submitted

EVENTS: Sequence[ev.Event] = (
    submitted(1, "a"),
    submitted(2, "b"),
    ev.Started(seq=3, at=1.0, job="a", attempt=1),
    ev.Completed(seq=4, at=1.0, job="a", attempt=1),
    submitted(5, "c"),
    ev.Cancelled(seq=6, at=2.0, job="c"),
)


@pytest.fixture
async def path(tmp_path: Path) -> Path:
    store = SqliteStore(tmp_path / "jobs.db")
    await store.open(lambda events: None)
    store.append(EVENTS)
    await store.committed(6)
    key = KeyTombstone(key_name("k", "c"), "c", "digest", State.CANCELLED, 3.0)
    await store.prune({"c": (5, 6)}, [key])
    await store.aclose()
    return tmp_path / "jobs.db"


def contents(folder: Path) -> dict[str, tuple[bytes, int]]:
    return {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.iterdir()}


async def test_a_sound_journal_is_told_and_not_touched(path: Path) -> None:
    before = contents(path.parent)
    found = check(path)
    assert contents(path.parent) == before
    assert (found.damage, found.holder, found.is_backup, found.schema) == (None, None, False, 1)
    assert (found.last_seq, found.oldest, found.events, found.keys) == (6, 7, 4, 1)
    assert found.jobs == {"pending": 1, "completed": 1}
    assert (found.mark_epoch, found.mark_seq) == (found.epoch, 6)
    assert found.size == path.stat().st_size


async def test_one_that_was_left_by_a_kill_is_told_with_its_log_and_not_touched(path: Path, tmp_path: Path) -> None:
    store = SqliteStore(path)
    await store.open(lambda events: None)
    store.append([submitted(7, "d")])
    await store.committed(7)
    left = tmp_path / "left"
    left.mkdir()
    for suffix in ("", "-wal", "-mark"):
        shutil.copy(f"{path}{suffix}", left)
    await store.aclose()
    before = contents(left)
    found = check(left / "jobs.db")
    assert contents(left) == before
    assert (found.damage, found.last_seq, found.events) == (None, 7, 5)


async def test_damage_is_told_with_what_is_left_and_not_touched(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE events SET body = x'00' WHERE seq = 2")
    connection.close()
    before = contents(path.parent)
    found = check(path)
    assert contents(path.parent) == before
    assert found.damage == "the row of event 2 fails its checksum"
    assert (found.events, found.jobs, found.keys) == (3, {"completed": 1}, 1)


async def test_rows_that_are_sound_and_do_not_add_up_are_damage(path: Path) -> None:
    store = SqliteStore(path)
    await store.open(lambda events: None)
    store.append([ev.Completed(seq=7, at=1.0, job="nobody", attempt=1)])
    await store.aclose()
    assert "do not add up" in str(check(path).damage)


async def test_a_journal_that_is_gone_is_damage_while_its_mark_is_there(path: Path) -> None:
    path.unlink()
    before = contents(path.parent)
    found = check(path)
    assert "held events up to 6" in str(found.damage)
    assert contents(path.parent) == before


async def test_one_in_use_is_not_looked_into_and_its_holder_is_named(path: Path) -> None:
    store = SqliteStore(path)
    await store.open(lambda events: None)
    found = check(path)
    assert found.holder is not None
    assert found.holder["pid"] == os.getpid()
    assert found.mark_seq == 6
    assert (found.events, found.damage) == (None, None)
    store.append([submitted(7)])
    await store.committed(7)
    await store.aclose()
    assert check(path).holder is None


async def test_one_that_another_process_has_is_not_looked_into(path: Path) -> None:
    holder = (
        "import sys, trio\nfrom trio_jobs import SqliteStore\nasync def main():\n"
        " await SqliteStore(sys.argv[1]).open(lambda events: None)\n print('held', flush=True)\n"
        " await trio.sleep_forever()\ntrio.run(main)"
    )
    with Process([sys.executable, "-c", holder, path]) as process:
        assert process.out.line() == "held\n"
        found = check(path)
    assert found.holder is not None
    assert found.holder["pid"] == process.pid
    assert found.events is None
    assert check(path).events == 4, "a dead one holds nothing"


async def test_a_backup_is_told_as_one_and_stays_one(path: Path, tmp_path: Path) -> None:
    store = SqliteStore(path)
    await store.open(lambda events: None)
    await store.backup(str(tmp_path / "copy.db"))
    epoch = store.epoch
    await store.aclose()
    before = contents(tmp_path)
    found = check(tmp_path / "copy.db")
    assert contents(tmp_path) == before
    assert (found.is_backup, found.damage, found.events, found.keys) == (True, None, 4, 1)
    assert found.epoch == epoch


async def test_what_is_no_journal_is_said_to_be_none(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="there is no"):
        check(tmp_path / "jobs.db")
    (tmp_path / "diary").write_text("dear diary " * 1000)
    with pytest.raises(StoreError, match="diary is no journal of trio-jobs"):
        check(tmp_path / "diary")
    with pytest.raises(StoreError):
        check(tmp_path)


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = main(arguments)
    told = capsys.readouterr()
    return code, told.out, told.err


def made(path: Path) -> None:
    async def make() -> None:
        store = SqliteStore(path)
        await store.open(lambda events: None)
        store.append(EVENTS)
        await store.aclose()

    trio.run(make)


def test_the_command_tells_it_and_exits_by_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "jobs.db"
    made(path)
    code, out, _ = run(capsys, "journal", "check", str(path))
    assert code == 0
    assert "1 pending, 1 completed, 1 cancelled" in out
    assert out.endswith("sound\n")
    code, out, _ = run(capsys, "journal", "check", str(path), "--json")
    told: Any = json.loads(out)
    assert (code, told["events"], told["jobs"]["pending"], told["damage"]) == (0, 6, 1, None)
    (tmp_path / "jobs.db-mark").unlink()
    code, out, _ = run(capsys, "journal", "check", str(path))
    assert code == 1
    assert "DAMAGED: its high-water mark" in out
    code, out, err = run(capsys, "journal", "check", str(tmp_path / "nothing"))
    assert (code, out) == (2, "")
    assert "there is no" in err


def test_the_command_copies_a_journal_that_nobody_has_open(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, copy = tmp_path / "jobs.db", tmp_path / "copy.db"
    made(path)
    code, out, _ = run(capsys, "journal", "backup", str(copy), "--journal", str(path), "--json")
    assert code == 0
    assert json.loads(out) == {"path": str(copy), "seq": 6, "events": 6, "size": copy.stat().st_size}
    assert check(copy).is_backup
    code, _, err = run(capsys, "journal", "backup", str(copy), "--journal", str(path))
    assert (code, "exists already" in err) == (5, True)
    code, _, err = run(capsys, "journal", "backup", str(copy), "--journal", str(tmp_path / "nothing"))
    assert (code, "there is no" in err) == (2, True)
    assert not (tmp_path / "nothing").exists()
