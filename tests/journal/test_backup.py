"""Backups of a journal in use: their contents, their restore, and their failures."""

from __future__ import annotations

import os
import shutil
import sqlite3
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio
import trio.testing

from trio_jobs import JournalDamaged, Queue, Service, SqliteStore, State, StoreError, UsageError
from trio_jobs._engine import events as ev
from trio_jobs._runtime.queue import runtime_of
from trio_jobs._stores.sqlite import backup as backup_module
from trio_jobs.testing.store_check import submitted


@attrs.frozen
class Order:
    n: int


def make_service(entries: list[int], **settings: Any) -> Service:
    service = Service(**settings)

    @service.handler
    def post(order: Order) -> int:
        entries.append(order.n)
        return order.n

    return service


async def run_jobs(queue: Queue, numbers: Sequence[int]) -> None:
    for n in numbers:
        await queue.result((await queue.submit("post", Order(n), key=str(n))).job_id)


async def test_a_backup_contains_what_was_committed_and_can_be_continued(tmp_path: Path) -> None:
    entries: list[int] = []
    async with make_service(entries, max_finished_jobs=2).open(journal=tmp_path / "jobs.db") as queue:
        await run_jobs(queue, range(4))
        while await runtime_of(queue).pruner.run_once():
            pass
        backup = await queue.backup(tmp_path / "copy.db")
        epoch, jobs = queue.epoch, queue.list()
        await run_jobs(queue, range(10, 12))
        assert backup.path == str(tmp_path / "copy.db")
        assert backup.seq < queue.statistics().seq
        assert backup.size == (tmp_path / "copy.db").stat().st_size
    assert sorted(path.name for path in tmp_path.glob("copy*")) == ["copy.db"]
    if os.name == "posix":
        assert stat.S_IMODE((tmp_path / "copy.db").stat().st_mode) == 0o600
    async with make_service(entries).open(journal=tmp_path / "copy.db") as queue:
        assert queue.list() == jobs
        assert queue.epoch != epoch, "a subscriber of the other history must not continue in this one"
        for n in range(4):
            assert not (await queue.submit("post", Order(n), key=str(n))).created
        await run_jobs(queue, [77])
        second = queue.epoch
    async with make_service(entries).open(journal=tmp_path / "copy.db") as queue:
        assert queue.epoch == second, "the restored backup is an ordinary journal"
        assert len(queue.list()) == 3
    assert entries == [0, 1, 2, 3, 10, 11, 77]


async def test_commits_go_on_while_a_backup_is_made_and_pruning_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backup_module, "PAGE", 5)
    store = SqliteStore(tmp_path / "jobs.db")
    await store.open(lambda events: None)
    store.append([submitted(seq) for seq in range(1, 101)])
    await store.committed(100)
    pages, order = 0, list[str]()
    call = store._call

    async def slow_call(do: Any) -> Any:
        nonlocal pages
        pages += 1
        if pages == 3:
            nursery.start_soon(prune)
            await trio.testing.wait_all_tasks_blocked()
        seq = store.last_seq + 1
        store.append([submitted(seq)])
        await store.committed(seq)
        return await call(do)

    async def prune() -> None:
        await store.prune({"job-99": (99, 99)})
        order.append("pruned")

    monkeypatch.setattr(store, "_call", slow_call)
    async with trio.open_nursery() as nursery:
        backup = await store.backup(str(tmp_path / "copy.db"))
        order.append("copied")
    assert pages > 20
    assert order == ["copied", "pruned"]
    assert backup.seq > 100, "everything committed before the start is in it"
    await store.aclose()
    copy = SqliteStore(tmp_path / "copy.db")
    assert [event.seq for event in await copy.open(lambda events: None)] == list(range(1, backup.seq + 1))
    await copy.aclose()


async def test_a_backup_overwrites_nothing(tmp_path: Path) -> None:
    (tmp_path / "copy.db").write_text("mine")
    async with make_service([]).open(journal=tmp_path / "jobs.db") as queue:
        with pytest.raises(UsageError, match="already exists"):
            await queue.backup(tmp_path / "copy.db")
        with pytest.raises(UsageError, match="already exists"):
            await queue.backup(tmp_path / "jobs.db")
    assert (tmp_path / "copy.db").read_text() == "mine"


async def test_a_backup_does_not_overwrite_a_file_created_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with make_service([]).open(journal=tmp_path / "jobs.db") as queue:
        finish = backup_module._PartialFile.finish

        def late(part: Any) -> int:
            (tmp_path / "copy.db").write_text("mine")
            return finish(part)

        monkeypatch.setattr(backup_module._PartialFile, "finish", late)
        with pytest.raises(UsageError, match="already exists"):
            await queue.backup(tmp_path / "copy.db")
    assert (tmp_path / "copy.db").read_text() == "mine"
    assert list(tmp_path.glob("copy.db.part*")) == []


async def test_a_backup_that_fails_or_is_cancelled_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_room(part: Any, table: str, rows: Any) -> None:
        error = sqlite3.OperationalError("made up")
        error.sqlite_errorcode = sqlite3.SQLITE_FULL
        raise error

    async with make_service([]).open(journal=tmp_path / "jobs.db") as queue:
        await run_jobs(queue, [1])
        with pytest.raises(StoreError, match="backup"):
            await queue.backup(tmp_path / "nowhere" / "copy.db")
        with trio.CancelScope() as scope:
            scope.cancel()
            await queue.backup(tmp_path / "copy.db")
        assert scope.cancelled_caught
        with monkeypatch.context() as patch:
            patch.setattr(backup_module._PartialFile, "add", no_room)
            with pytest.raises(StoreError, match="the disk is full"):
                await queue.backup(tmp_path / "copy.db")
        await run_jobs(queue, [2])
        await queue.backup(tmp_path / "copy.db")
    assert [path.name for path in tmp_path.glob("copy*")] == ["copy.db"]


async def test_damage_is_found_by_the_backup_and_not_copied(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "jobs.db")
    await store.open(lambda events: None)
    store.append([submitted(1), submitted(2)])
    await store.committed(2)
    journal = store._durable.log.journal
    await store._call(lambda: journal.connection.execute("UPDATE events SET body = x'00' WHERE seq = 2"))
    with pytest.raises(JournalDamaged, match="event 2"):
        await store.backup(str(tmp_path / "copy.db"))
    assert list(tmp_path.glob("copy*")) == []
    await store.aclose()


async def test_jobs_in_memory_have_no_backup() -> None:
    async with make_service([]).open() as queue:
        with pytest.raises(UsageError, match="cannot be backed up"):
            await queue.backup("copy.db")
        with pytest.raises(UsageError, match="cannot be backed up"):
            await queue.backend.backup("copy")


async def test_a_named_backup_is_written_beside_the_journal(tmp_path: Path) -> None:
    async with make_service([]).open(journal=tmp_path / "jobs.db") as queue:
        backup = await queue.backend.backup("monday.1")
        assert backup.path == str(tmp_path / "jobs.db.backup-monday.1")
        assert Path(backup.path).exists()
        for name in ("", "../x", "a/b", "a\\b", "/etc/x", "a\n", "a" * 101, "é", "a b", "nul:"):
            with pytest.raises(UsageError, match="a backup's name is"):
                await queue.backend.backup(name)


async def make_backup(tmp_path: Path, *, later: bool) -> None:
    """Make a closed jobs.db and a backup of it, copy.db; with `later`, a job ran after the backup."""
    async with make_service([]).open(journal=tmp_path / "jobs.db") as queue:
        await run_jobs(queue, [1])
        if not later:
            await run_jobs(queue, [2])
    async with make_service([]).open(journal=tmp_path / "jobs.db") as queue:
        await queue.backup(tmp_path / "copy.db")
        if later:
            await run_jobs(queue, [2])


async def count_events(path: Path) -> int:
    store = SqliteStore(path)
    events = list(await store.open(lambda events: None))
    await store.aclose()
    return len(events)


async def test_a_backup_beside_a_newer_high_water_mark_is_refused_with_what_to_do(tmp_path: Path) -> None:
    await make_backup(tmp_path, later=True)
    shutil.copy(tmp_path / "copy.db", tmp_path / "jobs.db")
    before = (tmp_path / "jobs.db").read_bytes(), (tmp_path / "jobs.db-mark").read_bytes()
    for _ in range(2):
        with pytest.raises(
            StoreError, match=r"is a backup up to event .*: to go back to the backup, move .*-mark away"
        ):
            await count_events(tmp_path / "jobs.db")
    assert ((tmp_path / "jobs.db").read_bytes(), (tmp_path / "jobs.db-mark").read_bytes()) == before
    (tmp_path / "jobs.db-mark").unlink()
    assert await count_events(tmp_path / "jobs.db") > 0


async def test_the_wal_of_another_journal_is_not_checkpointed_into_a_backup(tmp_path: Path) -> None:
    await make_backup(tmp_path, later=False)
    (tmp_path / "copy.db-wal").write_bytes(b"frames of another journal")
    before = (tmp_path / "copy.db").read_bytes()
    with pytest.raises(StoreError, match=r"copy\.db-wal belongs to another journal"):
        await count_events(tmp_path / "copy.db")
    assert (tmp_path / "copy.db").read_bytes() == before
    assert (tmp_path / "copy.db-wal").read_bytes() == b"frames of another journal"


async def test_a_power_cut_during_a_restore_is_harmless(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from trio_jobs._stores.sqlite import restore

    def cut(connection: Any) -> Any:
        raise OSError("the power failed")

    await make_backup(tmp_path, later=False)
    with monkeypatch.context() as patch:
        patch.setattr(restore, "transaction", cut)
        with pytest.raises(StoreError, match="the power failed"):
            await count_events(tmp_path / "copy.db")
    assert (tmp_path / "copy.db-mark").exists()
    assert await count_events(tmp_path / "copy.db") == await count_events(tmp_path / "copy.db") > 0


async def test_a_backup_of_an_empty_journal_can_be_opened(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "jobs.db")
    await store.open(lambda events: None)
    await store.backup(str(tmp_path / "copy.db"))
    await store.aclose()
    assert await count_events(tmp_path / "copy.db") == 0


async def test_a_backup_without_jobs_continues_the_numbers(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "jobs.db")
    await store.open(lambda events: None)
    store.append([submitted(1), ev.Stuck(seq=2, at=1.0, culprit="job-1")])
    await store.committed(2)
    await store.prune({"job-1": (1, 2)})
    await store.backup(str(tmp_path / "copy.db"))
    await store.aclose()
    copy = SqliteStore(tmp_path / "copy.db")
    assert list(await copy.open(lambda events: None)) == []
    assert copy.last_seq == 2
    await copy.aclose()
    assert await count_events(tmp_path / "copy.db") == 0


async def test_pending_jobs_of_a_backup_run_where_it_is_opened(tmp_path: Path) -> None:
    entries: list[int] = []
    async with make_service(entries).open(journal=tmp_path / "jobs.db") as queue:
        await queue.pause()
        receipt = await queue.submit("post", Order(5))
        await queue.backup(tmp_path / "copy.db")
    assert entries == []
    async with make_service(entries).open(journal=tmp_path / "copy.db") as queue:
        assert queue.get(receipt.job_id).state is State.PENDING
        await queue.resume()
        assert await queue.result(receipt.job_id) == 5
    assert entries == [5]
