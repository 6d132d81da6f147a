"""A journal that is being created opens as new after any crash; one that was separated from its files never does."""

from __future__ import annotations

import errno
import logging
import os
import random
import shutil
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("apsw")

from journals import make_journal, write_journal
from power_disk import PowerDisk, Step, cut

from support.processes import Process, run
from trio_jobs import JournalDamaged, SqliteStore, StoreError
from trio_jobs._cli.main import main
from trio_jobs._stores.sqlite.check import check
from trio_jobs._stores.sqlite.disk import Disk
from trio_jobs._stores.sqlite.high_water_mark import NO_EPOCH, HighWaterMark, HighWaterMarkFile
from trio_jobs._stores.sqlite.journal import Journal
from trio_jobs._stores.sqlite.rows import decode
from trio_jobs.testing.store_check import submitted

PATH = "/jobs.db"


def journal_on(disk: PowerDisk) -> Journal:
    return Journal(PATH, disk, allow_data_loss=False, run_in_background=lambda sync: sync())


def steps_of_creation(files: dict[str, bytes] | None = None) -> list[Step]:
    disk = PowerDisk(files)
    journal_on(disk).open()
    return disk.steps


def after_a_kill(steps: list[Step]) -> dict[str, bytes]:
    """The files as the next process finds them: everything that was written, synced or not."""
    names: dict[str, None] = {}
    for step in steps:
        if step.kind == "delete":
            names.pop(step.name)
        elif step.name:
            names[step.name] = None
    return cut([*steps, *(Step("sync", name) for name in names), Step("folder")], random.Random(0))[0]


def check_new(files: dict[str, bytes]) -> None:
    """The files open as a new journal, which can be used."""
    disk = PowerDisk(files)
    journal = journal_on(disk)
    assert journal.open() == []
    journal.write([submitted(1)])
    journal.close()
    again = journal_on(PowerDisk({name: bytes(file.data) for name, file in disk.files.items()}))
    assert len(again.open()) == 1


def test_a_power_cut_at_any_step_of_a_creation_leaves_files_that_open_as_a_new_journal() -> None:
    chance = random.Random(1)
    for end in range(len(steps := steps_of_creation()) + 1):
        for _ in range(8):
            check_new(cut(steps[:end], chance)[0])


def test_a_creation_that_is_cut_twice_leaves_files_that_open_as_a_new_journal() -> None:
    """First by a kill: the next process finds what the system has in memory. Then by a power cut."""
    chance = random.Random(2)
    first = steps_of_creation()
    for end in range(0, len(first) + 1, 2):
        killed = first[:end]
        second = steps_of_creation(after_a_kill(killed))
        for at in range(0, len(second) + 1, 3):
            check_new(cut([*killed, *second[:at]], chance)[0])


@pytest.mark.parametrize("kept", [("",), ("", "-wal"), ("", "-mark"), ("-wal",), ("-wal", "-mark")], ids=str)
def test_a_part_of_the_files_of_a_young_journal_never_opens_with_fewer_events(kept: tuple[str, ...]) -> None:
    """After a kill at each step of its first groups."""
    disk = PowerDisk()
    journal = journal_on(disk)
    journal.open()
    for seq in range(1, 4):
        journal.write([submitted(seq)])
        disk.acked(seq)
    journal.close()
    first = next(at for at, step in enumerate(disk.steps, 1) if step.kind == "acked")
    acked = refused = 0
    for end in range(first, len(disk.steps) + 1):
        files = after_a_kill(disk.steps[:end])
        acked = max(acked, disk.steps[end - 1].at if disk.steps[end - 1].kind == "acked" else 0)
        part = {name: data for name, data in files.items() if name.removeprefix(PATH) in kept}
        if not part:  # a closed journal has no WAL
            continue
        opened = journal_on(PowerDisk(part))
        try:
            seqs = [decode(body).seq for body in opened.open()]
        except StoreError:
            refused += 1
        else:
            assert len(seqs) >= acked, f"{sorted(part)} opens with {len(seqs)} of {acked} events"
            assert kept == ("", "-mark"), "its WAL is not needed once it is closed"
    assert refused


CHILD = """
import sys, trio
from trio_jobs import Service
service = Service()
@service.handler
async def wait(n: int) -> None:
    await trio.sleep_forever()
async def main():
    async with service.open(journal=sys.argv[1]) as queue:
        await queue.submit("wait", 1, key="a")
        print("accepted", flush=True)
        await trio.sleep_forever()
trio.run(main)
"""


@pytest.mark.parametrize("ended", ["kill", "copy"])
async def test_a_young_file_alone_is_refused_with_what_to_do(
    tmp_path: Path, ended: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """As it is in a container that mounts the file and not its folder, or after `cp jobs.db`."""
    path, alone = tmp_path / "jobs.db", tmp_path / "alone" / "jobs.db"
    alone.parent.mkdir()
    with Process([sys.executable, "-c", CHILD, path]) as process:
        assert process.out.line() == "accepted\n"
        if ended == "copy":
            shutil.copy(path, alone)
        process.kill()
    if ended == "kill":
        path.rename(alone)
    with pytest.raises(JournalDamaged, match=r"mark .* is missing") as caught:
        await SqliteStore(alone).open(lambda events: None)
    assert "put them back, and in a container mount their folder" in str(caught.value)
    assert "high-water mark" in str(check(alone).damage)
    assert main(["journal", "check", str(alone)]) == 1
    assert f"({alone}-mark) is missing" in capsys.readouterr().out
    assert [found.name for found in alone.parent.iterdir()] == ["jobs.db"]
    # with its files it is whole
    for suffix in ("", "-wal", "-mark"):
        if (source := path.with_name(path.name + suffix)).exists():
            shutil.copy(source, alone.with_name(alone.name + suffix))
    store = SqliteStore(alone)
    assert [event.seq for event in await store.open(lambda events: None)]
    await store.aclose()


def test_a_wal_without_its_file_is_refused(tmp_path: Path) -> None:
    """SQLite would delete it."""
    journal = write_journal(tmp_path / "jobs.db", 2, close=False)
    shutil.copy(tmp_path / "jobs.db-wal", tmp_path / "other.db-wal")
    journal.close()
    for exists in (False, True):
        if exists:
            (tmp_path / "other.db").touch()
        with pytest.raises(JournalDamaged, match=r"missing or empty, but its WAL \(.*other.db-wal\) is not"):
            make_journal(tmp_path / "other.db").open()
        assert (tmp_path / "other.db-wal").stat().st_size > 0
        assert not (tmp_path / "other.db-mark").exists()


def test_the_mark_of_a_journal_that_was_begun_fits_no_other_journal(tmp_path: Path) -> None:
    write_journal(tmp_path / "jobs.db", 1)
    (tmp_path / "jobs.db-mark").unlink()
    mark = HighWaterMarkFile(Disk(), str(tmp_path / "jobs.db-mark"))
    mark.create(HighWaterMark(NO_EPOCH, 0, 0))
    mark.close()
    with pytest.raises(JournalDamaged, match="its epoch is not that of its high-water mark"):
        make_journal(tmp_path / "jobs.db").open()


@pytest.mark.parametrize(("was_there", "named"), [("", "jobs.db"), ("-mark", "jobs.db-mark"), (None, None)])
def test_a_journal_that_is_begun_in_a_file_that_was_there_is_logged(
    tmp_path: Path, was_there: str | None, named: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    if was_there is not None:
        (tmp_path / f"jobs.db{was_there}").touch()
    journal = make_journal(tmp_path / "jobs.db")
    assert journal.open() == []
    journal.close()
    warnings = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert warnings == (
        [] if named is None
        else [f"journal {tmp_path}/jobs.db: {tmp_path}/{named} was there, without contents; a new journal is begun"]
    )  # fmt: skip


def test_an_empty_file_is_no_journal_to_a_check(tmp_path: Path) -> None:
    (tmp_path / "jobs.db").touch()
    with pytest.raises(StoreError, match="is empty: it has no journal yet, and a service would begin one"):
        check(tmp_path / "jobs.db")
    assert [found.name for found in tmp_path.iterdir()] == ["jobs.db"]


# what a refused opening leaves behind, and says


def damaged(path: Path) -> None:
    write_journal(path, 2)
    data = bytearray(path.read_bytes())
    data[data.index(b'"submitted"') + 3] ^= 1
    path.write_bytes(data)


def foreign(path: Path) -> None:
    path.write_text("my diary " * 1000)


def without_mark(path: Path) -> None:
    write_journal(path, 2)
    path.with_name(path.name + "-mark").unlink()


@pytest.mark.parametrize("make", [damaged, foreign, without_mark])
async def test_a_refused_opening_leaves_no_file_behind(tmp_path: Path, make: Any) -> None:
    make(tmp_path / "jobs.db")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(StoreError):
        await SqliteStore(tmp_path / "jobs.db").open(lambda events: None)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


async def test_a_lock_file_that_was_there_stays(tmp_path: Path) -> None:
    """Another process may be about to lock it."""
    foreign(tmp_path / "jobs.db")
    (tmp_path / "jobs.db-lock").touch()
    with pytest.raises(StoreError):
        await SqliteStore(tmp_path / "jobs.db").open(lambda events: None)
    assert (tmp_path / "jobs.db-lock").exists()


def test_the_command_line_names_its_own_option(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    damaged(tmp_path / "jobs.db")
    assert main(["journal", "backup", str(tmp_path / "copy"), "--journal", str(tmp_path / "jobs.db")]) == 2
    message = capsys.readouterr().err
    assert "--allow-data-loss" in message
    assert "allow_data_loss" not in message


def test_the_command_line_refuses_a_path_that_cannot_be_a_journal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["journal", "backup", str(tmp_path / "copy"), "--journal", str(tmp_path)]) == 2
    assert main(["journal", "check", str(tmp_path)]) == 2
    assert "it is a folder" in capsys.readouterr().err


def test_a_journal_without_events_is_described_in_words(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_journal(tmp_path / "jobs.db", 0)
    shutil.copy(tmp_path / "jobs.db", tmp_path / "older.db")
    assert main(["journal", "check", str(tmp_path / "jobs.db")]) == 0
    assert "last event: none" in (out := capsys.readouterr().out)
    assert "event 0" not in out
    again = make_journal(tmp_path / "jobs.db")
    again.open()
    again.write([submitted(1)])
    again.close()
    shutil.copy(tmp_path / "older.db", tmp_path / "jobs.db")
    with pytest.raises(JournalDamaged, match="it has no events, but events up to 1 were committed to it"):
        make_journal(tmp_path / "jobs.db").open()


async def test_a_folder_that_cannot_be_synced_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on CIFS and some FUSE file systems."""
    real = os.fsync

    def fsync(fd: int) -> None:
        if stat.S_ISDIR(os.fstat(fd).st_mode):
            raise OSError(errno.EINVAL, "Invalid argument")
        real(fd)

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(StoreError, match=f"cannot sync the folder.*Invalid argument: {tmp_path}$"):
        await SqliteStore(tmp_path / "jobs.db").open(lambda events: None)


@pytest.fixture
def immutable(tmp_path: Path) -> Iterator[Any]:
    """Make files immutable, for one test."""
    made: list[Path] = []

    def make(path: Path) -> None:
        if shutil.which("chattr") is None or run(["chattr", "+i", path]).returncode != 0:
            pytest.skip("no file can be made immutable here")
        made.append(path)

    yield make
    for path in made:
        run(["chattr", "-i", path], check=True)


@pytest.mark.parametrize("suffix", ["", "-mark"])
async def test_a_file_that_cannot_be_written_to_is_named(tmp_path: Path, suffix: str, immutable: Any) -> None:
    write_journal(tmp_path / "jobs.db", 1)
    immutable(tmp_path / f"jobs.db{suffix}")
    with pytest.raises(StoreError, match=f"Operation not permitted.*jobs.db{suffix}$"):
        await SqliteStore(tmp_path / "jobs.db").open(lambda events: None)


async def test_a_folder_in_which_no_wal_can_be_created_is_named(tmp_path: Path, immutable: Any) -> None:
    write_journal(tmp_path / "jobs.db", 1)
    store = SqliteStore(tmp_path / "jobs.db")
    await store.open(lambda events: None)  # creates the lock file
    await store.aclose()
    immutable(tmp_path)
    with pytest.raises(StoreError, match=r"cannot be written to: .* could not create .*jobs.db-wal beside it"):
        await store.open(lambda events: None)
