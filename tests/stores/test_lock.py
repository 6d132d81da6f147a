"""One opening has a journal at a time, whatever names the file has, and its locks stay while others are refused."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

with contextlib.suppress(ImportError):  # Windows
    import fcntl

from support.processes import Process, run
from trio_jobs import InvalidJournalPath, JournalDamaged, JournalInUse, SqliteStore, StoreError, UsageError
from trio_jobs._stores.sqlite.check import check
from trio_jobs._stores.sqlite.lock import FileLock
from trio_jobs.testing.store_check import submitted

OPENER = """
import sys, trio
from trio_jobs import SqliteStore
async def main():
    try:
        await SqliteStore(sys.argv[1]).open(lambda events: None)
    except Exception as error:
        print(type(error).__name__, error)
    else:
        print("opened", flush=True)
        if sys.argv[2:]:
            await trio.sleep_forever()
trio.run(main)
"""

READER = """
import sqlite3, sys
try:
    sqlite3.connect(sys.argv[1], timeout=0).execute("SELECT count(*) FROM events").fetchone()
except sqlite3.OperationalError as error:
    print(error)
else:
    print("read")
"""


def open_elsewhere(path: Path) -> str:
    """The answer to another process that opens the journal."""
    return run([sys.executable, "-c", OPENER, path], check=True).stdout


def read_elsewhere(path: Path) -> str:
    """The answer of SQLite to another process that reads the file."""
    return run([sys.executable, "-c", READER, path], check=True).stdout.strip()


@pytest.fixture
async def path(tmp_path: Path) -> AsyncIterator[Path]:
    """A journal that this process has open."""
    store = SqliteStore(tmp_path / "jobs.db")
    await store.open(lambda events: None)
    store.append([submitted(1)])
    await store.committed(1)
    yield tmp_path / "jobs.db"
    store.append([submitted(2)])
    await store.committed(2)
    assert store.trouble is None
    await store.aclose()


async def test_a_second_hard_link_lets_nobody_in_and_releases_no_lock(path: Path) -> None:
    other = path.with_name("other.db")
    os.link(path, other)
    with pytest.raises(JournalInUse) as caught:
        await SqliteStore(other).open(lambda events: None)
    assert caught.value.pid == os.getpid()
    assert check(other).holder is not None
    assert read_elsewhere(path) == "database is locked", "an opening that was refused has released SQLite's lock"
    for name in (path, other):
        answer = open_elsewhere(name)
        assert answer.startswith("StoreError")
        assert "2 names (hard links)" in answer
    other.unlink()
    assert "JournalInUse" in open_elsewhere(path)


async def test_a_closed_journal_with_a_second_hard_link_is_refused(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "jobs.db")
    await store.open(lambda events: None)
    await store.aclose()
    os.link(tmp_path / "jobs.db", tmp_path / "other.db")
    for name in ("jobs.db", "other.db"):
        with pytest.raises(StoreError, match=rf"{name} is refused: the file has 2 names .*delete the other names"):
            await SqliteStore(tmp_path / name).open(lambda events: None)
        with pytest.raises(StoreError, match="2 names"):
            check(tmp_path / name)
    (tmp_path / "other.db").unlink()
    await store.open(lambda events: None)
    await store.aclose()


async def test_a_check_of_a_journal_in_use_releases_no_lock(path: Path) -> None:
    assert check(path).holder is not None
    assert read_elsewhere(path) == "database is locked"


async def test_a_deleted_lock_file_lets_nobody_in(path: Path) -> None:
    path.with_name("jobs.db-lock").unlink()
    with pytest.raises(JournalInUse):
        await SqliteStore(path).open(lambda events: None)
    assert open_elsewhere(path).startswith("JournalInUse")
    assert read_elsewhere(path) == "database is locked"


async def test_a_journal_that_was_rebuilt_is_still_locked(tmp_path: Path) -> None:
    """The rebuilt file is another one."""
    path = tmp_path / "jobs.db"
    store = SqliteStore(path, allow_data_loss=True)
    await store.open(lambda events: None)
    store.append([submitted(1)])
    await store.committed(1)
    await store.aclose()
    path.with_name("jobs.db-mark").unlink()
    await store.open(lambda events: None)
    path.with_name("jobs.db-lock").unlink()
    other = path.with_name("other.db")
    os.link(path, other)
    with pytest.raises(JournalInUse):
        await SqliteStore(other).open(lambda events: None)
    await store.aclose()


@pytest.fixture
def mounted() -> Iterator[Callable[[Path, Path], Path]]:
    """Mount a file at a second place, for one test."""
    places: list[Path] = []

    def mount(path: Path, to: Path) -> Path:
        if sys.platform != "linux" or os.geteuid() != 0:
            pytest.skip("mounting needs Linux and root")
        to.touch()
        done = run(["mount", "--bind", path, to])
        if done.returncode != 0:
            pytest.skip(f"mounting failed: {done.stderr.strip()}")
        places.append(to)
        return to

    yield mount
    for place in places:
        run(["umount", "--lazy", place], check=True)


async def test_a_journal_in_use_that_is_mounted_elsewhere_is_in_use_and_not_damaged(
    path: Path, tmp_path: Path, mounted: Callable[[Path, Path], Path]
) -> None:
    (tmp_path / "container").mkdir()
    place = mounted(path, tmp_path / "container" / "jobs.db")
    with pytest.raises(JournalInUse):
        await SqliteStore(place).open(lambda events: None)
    answer = open_elsewhere(place)
    assert answer.startswith("JournalInUse")
    assert "loss" not in answer
    done = run([sys.executable, "-m", "trio_jobs._cli", "journal", "check", place])
    assert (done.returncode, "in use" in done.stdout) == (4, True)
    assert read_elsewhere(path) == "database is locked"
    assert [found.name for found in place.parent.iterdir()] == ["jobs.db"], "a refused opening leaves no file"


async def test_a_process_whose_journal_is_mounted_elsewhere_keeps_it(
    tmp_path: Path, mounted: Callable[[Path, Path], Path]
) -> None:
    path = tmp_path / "jobs.db"
    (tmp_path / "container").mkdir()
    store = SqliteStore(path)
    await store.open(lambda events: None)
    await store.aclose()
    place = mounted(path, tmp_path / "container" / "jobs.db")
    with Process([sys.executable, "-c", OPENER, path, "stay"]) as holder:
        assert holder.out.line() == "opened\n"
        with pytest.raises(JournalInUse):
            await SqliteStore(place).open(lambda events: None)
        with pytest.raises(JournalInUse) as caught:
            await SqliteStore(path).open(lambda events: None)
        assert caught.value.pid == holder.pid
    with pytest.raises(JournalDamaged, match="high-water mark"):
        await SqliteStore(place).open(lambda events: None)


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX error numbers")
@pytest.mark.parametrize("number", ["ENOLCK", "EOPNOTSUPP", "EINVAL", "EIO", "EACCES", "EAGAIN"])
async def test_only_a_lock_that_somebody_has_means_in_use(
    tmp_path: Path, number: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: Any) -> None:
        code = getattr(errno, number)
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as patch:
        patch.setattr("fcntl.lockf", refuse)
        with pytest.raises(StoreError) as caught:
            await SqliteStore(tmp_path / "jobs.db").open(lambda events: None)
    is_taken = number in ("EACCES", "EAGAIN")
    assert isinstance(caught.value, JournalInUse) == is_taken
    if not is_taken:
        assert os.strerror(getattr(errno, number)) in str(caught.value)
        assert not list(tmp_path.iterdir()), "a refused opening leaves no file"
        with pytest.raises(StoreError, match="cannot be locked"):
            refuse_check(tmp_path / "jobs.db", refuse, monkeypatch)


def refuse_check(path: Path, refuse: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    """Check a journal whose lock file cannot be locked."""
    path.touch()
    path.with_name("jobs.db-lock").touch()
    with monkeypatch.context() as patch:
        patch.setattr("fcntl.lockf", refuse)
        check(path)


@pytest.mark.skipif(sys.platform == "win32", reason="an open file cannot be deleted there")
async def test_a_lock_file_that_is_deleted_while_it_is_acquired_is_not_the_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "jobs.db-lock"
    path.touch()
    with monkeypatch.context() as patch:
        real = fcntl.lockf

        def delete_first(*arguments: Any) -> None:
            patch.undo()
            path.unlink()
            real(*arguments)

        patch.setattr(fcntl, "lockf", delete_first)
        lock = FileLock(str(path), str(tmp_path / "jobs.db"))
        lock.acquire()
    assert path.exists(), "another process would lock another file"
    lock.release()


async def test_a_path_that_cannot_be_a_journal_is_refused_with_the_reason(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "folder").mkdir()
    cases: list[tuple[Any, str]] = [
        ("a\0b", "NUL"),
        (tmp_path / "loop", "loop"),
        (tmp_path / "folder", "it is a folder"),
        (b"jobs.db", "not bytes"),
        (7, "not int"),
        ("", "is empty"),
    ]
    if os.name == "posix":
        os.mkfifo(tmp_path / "pipe")
        cases += [(tmp_path / "pipe", "not a regular file"), ("\ud800", "no such file names")]
    before = sorted(tmp_path.iterdir())
    for given, reason in cases:
        with pytest.raises(InvalidJournalPath, match=reason) as caught:
            await SqliteStore(given).open(lambda events: None)
        assert isinstance(caught.value, UsageError)
        with pytest.raises(StoreError):
            check(given)
    assert sorted(tmp_path.iterdir()) == before


async def test_a_link_to_a_journal_that_does_not_exist_yet_creates_it_at_its_target(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("jobs.db")
    store = SqliteStore(tmp_path / "link")
    await store.open(lambda events: None)
    assert sorted(found.name for found in tmp_path.glob("jobs.db-*")) == ["jobs.db-lock", "jobs.db-mark", "jobs.db-wal"]
    with pytest.raises(JournalInUse):
        await SqliteStore(tmp_path / "jobs.db").open(lambda events: None)
    await store.aclose()
