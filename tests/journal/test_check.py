"""`trio-jobs journal check` reports the contents of a journal and changes nothing."""

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
from trio_jobs import JournalDamaged, SqliteStore, State, StoreError
from trio_jobs._cli.main import main
from trio_jobs._engine import events as ev
from trio_jobs._engine.key_tombstones import KeyTombstone, key_name
from trio_jobs._stores.sqlite.check import check
from trio_jobs._stores.sqlite.schema import SCHEMA_VERSION
from trio_jobs.testing.store_check import submitted

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


async def test_a_check_of_a_sound_journal_changes_nothing(path: Path) -> None:
    before = contents(path.parent)
    result = check(path)
    assert contents(path.parent) == before
    assert (result.damage, result.holder, result.is_backup, result.schema) == (None, None, False, SCHEMA_VERSION)
    assert (result.last_seq, result.oldest, result.events, result.keys) == (6, 7, 4, 1)
    assert result.jobs == {"pending": 1, "completed": 1}
    assert (result.mark_epoch, result.mark_seq) == (result.epoch, 6)
    assert result.size == path.stat().st_size


async def test_a_check_of_a_journal_after_a_kill_includes_its_wal(path: Path, tmp_path: Path) -> None:
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
    result = check(left / "jobs.db")
    assert contents(left) == before
    assert (result.damage, result.last_seq, result.events) == (None, 7, 5)


async def test_a_check_reports_damage_and_what_can_be_read(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE events SET body = x'00' WHERE seq = 2")
    connection.close()
    before = contents(path.parent)
    result = check(path)
    assert contents(path.parent) == before
    assert result.damage == "the row of event 2 fails its checksum"
    assert (result.events, result.jobs, result.keys) == (3, {"completed": 1}, 1)


async def test_sound_rows_with_an_inconsistent_history_are_damage(path: Path) -> None:
    store = SqliteStore(path)
    await store.open(lambda events: None)
    store.append([ev.Completed(seq=7, at=1.0, job="nobody", attempt=1)])
    await store.aclose()
    assert "are inconsistent" in str(check(path).damage)


async def test_a_missing_journal_is_damage_while_its_high_water_mark_exists(path: Path) -> None:
    path.unlink()
    before = contents(path.parent)
    result = check(path)
    assert "events up to 6 were committed" in str(result.damage)
    assert contents(path.parent) == before


async def test_a_check_of_a_journal_in_use_names_its_holder(path: Path) -> None:
    store = SqliteStore(path)
    await store.open(lambda events: None)
    result = check(path)
    assert result.holder is not None
    assert result.holder["pid"] == os.getpid()
    assert result.mark_seq == 6
    assert (result.events, result.damage) == (None, None)
    store.append([submitted(7)])
    await store.committed(7)
    await store.aclose()
    assert check(path).holder is None


async def test_a_check_names_the_process_that_has_the_journal_open(path: Path) -> None:
    holder = (
        "import sys, trio\nfrom trio_jobs import SqliteStore\nasync def main():\n"
        " await SqliteStore(sys.argv[1]).open(lambda events: None)\n print('open', flush=True)\n"
        " await trio.sleep_forever()\ntrio.run(main)"
    )
    with Process([sys.executable, "-c", holder, path]) as process:
        assert process.out.line() == "open\n"
        result = check(path)
    assert result.holder is not None
    assert result.holder["pid"] == process.pid
    assert result.events is None
    assert check(path).events == 4, "the lock of a dead process is released"


async def test_a_checked_backup_remains_a_backup(path: Path, tmp_path: Path) -> None:
    store = SqliteStore(path)
    await store.open(lambda events: None)
    await store.backup(str(tmp_path / "copy.db"))
    epoch = store.epoch
    await store.aclose()
    before = contents(tmp_path)
    result = check(tmp_path / "copy.db")
    assert contents(tmp_path) == before
    assert (result.is_backup, result.damage, result.events, result.keys) == (True, None, 4, 1)
    assert result.epoch == epoch


async def test_a_check_of_another_file_raises(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="there is no"):
        check(tmp_path / "jobs.db")
    for pages in (1000, 1):
        (tmp_path / "diary").write_text("dear diary " * pages)
        with pytest.raises(StoreError, match="diary is not a trio-jobs journal") as raised:
            check(tmp_path / "diary")
        assert not isinstance(raised.value, JournalDamaged)
    with pytest.raises(StoreError):
        check(tmp_path)


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = main(arguments)
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def write_journal(path: Path) -> None:
    async def make() -> None:
        store = SqliteStore(path)
        await store.open(lambda events: None)
        store.append(EVENTS)
        await store.aclose()

    trio.run(make)


def test_the_check_command_prints_the_result_and_exits_with_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "jobs.db"
    write_journal(path)
    code, out, _ = run(capsys, "journal", "check", str(path))
    assert code == 0
    assert "1 pending, 1 completed, 1 cancelled" in out
    assert out.endswith("sound\n")
    code, out, _ = run(capsys, "journal", "check", str(path), "--json")
    result: Any = json.loads(out)
    assert (code, result["events"], result["jobs"]["pending"], result["damage"]) == (0, 6, 1, None)
    (tmp_path / "jobs.db-mark").unlink()
    code, out, _ = run(capsys, "journal", "check", str(path))
    assert code == 1
    assert "DAMAGED: its high-water mark" in out
    code, out, err = run(capsys, "journal", "check", str(tmp_path / "nothing"))
    assert (code, out) == (2, "")
    assert "there is no" in err


def test_the_backup_command_copies_a_closed_journal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, copy = tmp_path / "jobs.db", tmp_path / "copy.db"
    write_journal(path)
    code, out, _ = run(capsys, "journal", "backup", str(copy), "--journal", str(path), "--json")
    assert code == 0
    assert json.loads(out) == {"path": str(copy), "seq": 6, "events": 6, "size": copy.stat().st_size}
    assert check(copy).is_backup
    code, _, err = run(capsys, "journal", "backup", str(copy), "--journal", str(path))
    assert (code, "already exists" in err) == (2, True)
    code, _, err = run(capsys, "journal", "backup", str(copy), "--journal", str(tmp_path / "nothing"))
    assert (code, "does not exist" in err) == (2, True)
    assert not (tmp_path / "nothing").exists()
