"""A disk that hangs in any call: the loop continues, a close ends, and the store can be opened again."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing
from faulty_disks import FaultyDisk, error

from trio_jobs import OutcomeUnknown, SqliteStore, StoreError
from trio_jobs._engine import events as ev
from trio_jobs._stores.sqlite.disk import Disk
from trio_jobs._stores.sqlite.journal import Journal
from trio_jobs.testing.store_check import submitted


class Gate:
    """Blocks threads of the store between `close` and `open`."""

    def __init__(self) -> None:
        self._open = threading.Event()
        self.blocked = threading.Event()
        self.open()

    def close(self) -> None:
        self._open.clear()
        self.blocked.clear()

    def open(self) -> None:
        self._open.set()

    def pass_through(self) -> None:
        if not self._open.is_set():
            self.blocked.set()
            assert self._open.wait(30), "the test did not open the gate"

    async def until_blocked(self) -> None:
        await trio.to_thread.run_sync(self.blocked.wait, 30)
        assert self.blocked.is_set()


class GatedDisk(FaultyDisk):
    """Calls `pass_through` with the name of every call before it: a statement, a method, or a method of a small file
    ("file sync")."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = Gate()
        self.fault = lambda sql, done: None if done else self.pass_through(sql)
        of_files = ("create", "open_file", "size", "read_start", "identity", "move", "rewrite", "sync_folder")
        for name in ("connect", "close_without_checkpoint", *of_files):
            setattr(self, name, self._gated(name, getattr(self, name)))

    def _gated(self, name: str, method: Callable[..., Any]) -> Callable[..., Any]:
        def gated(*args: Any, **options: Any) -> Any:
            self.pass_through(name)
            result = method(*args, **options)
            return _File(self, result) if name == "open_file" and result is not None else result

        return gated

    def pass_through(self, name: str) -> None:
        raise NotImplementedError


class HangingDisk(GatedDisk):
    """Hangs in each call whose name begins with `at` while the gate is closed."""

    def __init__(self, at: str) -> None:
        super().__init__()
        self._at = at

    def pass_through(self, name: str) -> None:
        if name.startswith(self._at):
            self.gate.pass_through()


class HangingAtCall(GatedDisk):
    """Hangs in call number `at`."""

    def __init__(self, at: int) -> None:
        super().__init__()
        self.gate.close()
        self.calls = 0
        self._at = at
        self._lock = threading.Lock()  # the high-water mark has a thread of its own

    def pass_through(self, name: str) -> None:
        with self._lock:
            self.calls += 1
            hangs = self.calls == self._at
        if hangs:
            self.gate.pass_through()


class _File:
    def __init__(self, disk: GatedDisk, real: Any) -> None:
        self._disk = disk
        self._real = real

    def __getattr__(self, name: str) -> Any:
        self._disk.pass_through(f"file {name}")
        return getattr(self._real, name)


async def opened(store: SqliteStore, committed: list[int]) -> None:
    def on_commit(events: Sequence[ev.Event]) -> None:
        committed.extend(event.seq for event in events)

    await store.open(on_commit)


async def closed_within(store: SqliteStore, seconds: float) -> None:
    with trio.move_on_after(seconds):
        await store.aclose()


async def use(store: SqliteStore, committed: list[int]) -> None:
    """Make every call that a queue makes, on a new journal or on an existing one."""
    await opened(store, committed)
    first = store.last_seq + 1
    for seq in range(first, first + 3):
        store.append([submitted(seq)])
        await store.committed(seq)
    assert len(await store.events(first - 1, 10)) == 3
    await store.prune({f"job-{first}": (first, first)})
    store.append([submitted(first + 3)])
    await store.committed(first + 3)
    await store.aclose()


async def use_twice(store: SqliteStore, committed: list[int], disk: HangingAtCall) -> None:
    for _ in range(2):
        await use(store, committed)
    disk.gate.blocked.set()  # there may be fewer calls, as a running sync of the high-water mark absorbs the next


async def count_calls(path: Path) -> int:
    disk = HangingAtCall(0)
    await use_twice(SqliteStore(path, disk=disk), [], disk)
    return disk.calls


#: The campaign hangs in each call; the tests in every 23rd, so that it is not always the same call of a group
any_call = pytest.mark.parametrize("every", [pytest.param(1, marks=pytest.mark.campaign), 23])


@any_call
async def test_a_hang_in_any_call_delays_and_loses_nothing(tmp_path: Path, every: int) -> None:
    calls = await count_calls(tmp_path / "counted.db")
    assert calls > 100
    for at in range(1, calls + 1, every):
        disk, committed = HangingAtCall(at), list[int]()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(use_twice, SqliteStore(tmp_path / f"{at}.db", disk=disk), committed, disk)
            await disk.gate.until_blocked()
            disk.gate.open()
        assert committed == list(range(1, 9)), f"hanging in call {at}"


@any_call
async def test_cancelling_during_a_hang_keeps_committed_events_and_releases_the_lock(
    tmp_path: Path, every: int
) -> None:
    for at in range(1, await count_calls(tmp_path / "counted.db") + 1, every):
        disk, committed = HangingAtCall(at), list[int]()
        path = tmp_path / f"{at}.db"
        store = SqliteStore(path, disk=disk)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(use_twice, store, committed, disk)
            await disk.gate.until_blocked()
            nursery.cancel_scope.cancel()
        await closed_within(store, 0.0)
        disk.gate.open()
        await store._durable.ended.wait()
        again = SqliteStore(path)
        await again.open(lambda events: None)
        assert again.last_seq >= max(committed, default=0), f"hanging in call {at}"
        await again.aclose()


@pytest.mark.parametrize("at", ["INSERT", "identity", "file write"])
async def test_a_hanging_commit_blocks_only_its_waiters(tmp_path: Path, at: str) -> None:
    disk, committed = HangingDisk(at), list[int]()
    store = SqliteStore(tmp_path / "jobs.db", disk=disk, stall_after=0.0)
    await opened(store, committed)
    store.append([submitted(1)])
    await store.committed(1)
    disk.gate.close()
    store.append([submitted(2)])
    await disk.gate.until_blocked()
    with trio.move_on_after(0.01) as scope:
        await store.committed(2)
    assert scope.cancelled_caught
    assert "has not returned" in str(store.trouble)
    disk.gate.open()
    await store.committed(2)
    assert committed == [1, 2]
    assert store.trouble is None
    await store.aclose()


@asynccontextmanager
async def synced_afterwards(path: Path) -> AsyncIterator[SqliteStore]:
    """A store with two groups, of which the mark of the first is synced; after the block the sync of the second one
    has started."""
    disk = HangingDisk("file sync")
    store = SqliteStore(path, disk=disk)
    await opened(store, [])
    disk.gate.close()
    store.append([submitted(1)])
    await store.committed(1)
    await disk.gate.until_blocked()
    store.append([submitted(2)])
    await store.committed(2)
    disk.gate.open()
    disk.gate.close()
    try:
        yield store
        await disk.gate.until_blocked()
    finally:
        disk.gate.open()
        await store.aclose()


async def test_the_high_water_mark_is_synced_without_another_group(tmp_path: Path) -> None:
    async with synced_afterwards(tmp_path / "jobs.db"):
        pass


async def test_the_high_water_mark_is_synced_if_only_pages_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trio_jobs._stores.sqlite.high_water_mark.SYNC_EVERY", 3600)
    async with synced_afterwards(tmp_path / "jobs.db") as store:
        await store.events(0, 10)


async def test_a_hanging_sync_of_the_high_water_mark_delays_no_commit(tmp_path: Path) -> None:
    disk, committed = HangingDisk("file sync"), list[int]()
    store = SqliteStore(tmp_path / "jobs.db", disk=disk)
    await opened(store, committed)
    store.append([submitted(1)])
    await store.committed(1)
    disk.gate.close()
    for seq in range(2, 20):
        store.append([submitted(seq)])
        await store.committed(seq)
    await disk.gate.until_blocked()
    disk.gate.open()
    await store.aclose()
    assert committed == list(range(1, 20))


@pytest.mark.parametrize(
    ("at", "read"),
    [
        ("SELECT seq, job, body, checksum FROM events WHERE seq > ? ORDER", lambda store, path: store.events(0, 10)),
        ("SELECT seq, job FROM events", lambda store, path: store.prune({"job-1": (1, 1)})),
        ("DELETE", lambda store, path: store.prune({"job-1": (1, 1)})),
        ("COMMIT", lambda store, path: store.prune({"job-1": (1, 1)})),
        ("SELECT * FROM keys", lambda store, path: store.backup(str(path / "copy.db"))),
    ],
)
async def test_a_hanging_read_request_can_be_cancelled_and_the_store_continues(
    tmp_path: Path, at: str, read: Any
) -> None:
    disk, committed = HangingDisk(at), list[int]()
    store = SqliteStore(tmp_path / "jobs.db", disk=disk)
    await opened(store, committed)
    store.append([submitted(1), submitted(2)])
    await store.committed(2)
    disk.gate.close()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(read, store, tmp_path)
        await disk.gate.until_blocked()
        nursery.cancel_scope.cancel()
    store.append([submitted(3)])
    disk.gate.open()
    await store.committed(3)
    assert committed == [1, 2, 3]
    assert list(tmp_path.glob("copy*")) == []
    await store.aclose()
    left = [event.seq for event in await store.open(lambda events: None)]
    assert left in ([1, 2, 3], [2, 3]), "the request took effect or not"
    await store.aclose()


@pytest.mark.parametrize("at", ["PRAGMA journal_mode", "SELECT", "file read", "rewrite"])
async def test_a_hanging_open_can_be_cancelled_and_releases_everything_later(tmp_path: Path, at: str) -> None:
    path = tmp_path / "jobs.db"
    first = SqliteStore(path)
    await first.open(lambda events: None)
    first.append([submitted(1)])
    await first.aclose()
    if at == "rewrite":
        Path(f"{path}-wal").write_bytes(b"")
    disk = HangingDisk(at)
    store = SqliteStore(path, disk=disk)
    disk.gate.close()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(store.open, lambda events: None)
        await disk.gate.until_blocked()
        nursery.cancel_scope.cancel()
    with pytest.raises(StoreError, match="in use"):
        await store.open(lambda events: None)
    disk.gate.open()
    await store._durable.ended.wait()
    for again in (store, SqliteStore(path)):
        assert [event.seq for event in await again.open(lambda events: None)] == [1]
        await again.aclose()


async def test_the_outcome_is_unknown_while_recovery_hangs(tmp_path: Path) -> None:
    disk, committed = HangingDisk("rewrite"), list[int]()
    store = SqliteStore(tmp_path / "jobs.db", disk=disk)
    await opened(store, committed)
    store.append([submitted(1)])
    await store.committed(1)
    hang, left = disk.fault, 1

    def fault(sql: str, done: bool) -> None:
        nonlocal left
        hang(sql, done)
        if sql.startswith("INSERT") and done and left:
            left -= 1
            raise error(sqlite3.SQLITE_IOERR_FSYNC)

    disk.fault = fault
    disk.gate.close()
    store.append([submitted(2)])
    await disk.gate.until_blocked()
    with trio.move_on_after(0.01) as scope:
        await store.committed(2)
    assert scope.cancelled_caught
    disk.gate.open()
    await store.committed(2)
    assert committed == [1, 2]
    await store.aclose()


async def test_a_hanging_close_can_be_cancelled(tmp_path: Path) -> None:
    disk = HangingDisk("INSERT")
    store = SqliteStore(tmp_path / "jobs.db", disk=disk)
    await store.open(lambda events: None)
    disk.gate.close()
    store.append([submitted(1)])
    await disk.gate.until_blocked()
    await closed_within(store, 0.01)
    disk.gate.open()
    await store._durable.ended.wait()
    again = SqliteStore(tmp_path / "jobs.db")
    assert len(list(await again.open(lambda events: None))) == 1
    await again.aclose()


async def test_a_wal_that_could_not_be_synced_is_not_checkpointed(tmp_path: Path) -> None:
    """After a failed sync it is unknown how much of the WAL is on the disk, until it has been rewritten."""
    closed: list[str] = []

    class UnwritableDisk(FaultyDisk):
        is_unwritable = False

        def rewrite(self, path: str) -> None:
            if self.is_unwritable:
                raise OSError(5, "made up")
            super().rewrite(path)

        def close_without_checkpoint(self, connection: Any, path: str) -> None:
            closed.append(path)
            before = Path(path).read_bytes(), Path(f"{path}-wal").read_bytes()
            Disk.close_without_checkpoint(self, connection, path)
            assert (Path(path).read_bytes(), Path(f"{path}-wal").read_bytes()) == before

    disk = UnwritableDisk()
    path = tmp_path / "jobs.db"
    store = SqliteStore(path, disk=disk)
    reports: list[StoreError] = []
    await store.open(lambda events: None, lambda: (), reports.append)
    store.append([submitted(1)])
    await store.committed(1)
    disk.is_unwritable = True
    disk.fault = lambda sql, done: (_ for _ in ()).throw(error(sqlite3.SQLITE_IOERR_FSYNC)) if done else None
    store.append([submitted(2)])
    with pytest.raises(OutcomeUnknown):
        await store.committed(2)
    await store.aclose()
    assert "cannot be reopened" in str(reports[0])
    assert closed == [str(path.resolve())]
    again = SqliteStore(path)
    assert [event.seq for event in await again.open(lambda events: None)] == [1, 2], "it was committed"
    await again.aclose()


async def test_a_relative_path_or_a_link_is_resolved_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "real").mkdir()
    monkeypatch.chdir(tmp_path / "real")
    store = SqliteStore("jobs.db")
    monkeypatch.chdir(tmp_path)
    await store.open(lambda events: None)
    assert (tmp_path / "real" / "jobs.db").exists()
    try:
        (tmp_path / "link.db").symlink_to(tmp_path / "real" / "jobs.db")
    except OSError:
        pytest.skip("symbolic links are not available")
    with pytest.raises(StoreError, match="in use"):
        await SqliteStore(tmp_path / "link.db").open(lambda events: None)
    store.append([submitted(1)])
    await store.aclose()
    through = SqliteStore(tmp_path / "link.db")
    assert len(list(await through.open(lambda events: None))) == 1
    await through.aclose()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link.db", "real"]


def test_huge_rows_and_unusual_names_are_read_back(tmp_path: Path) -> None:
    journal = Journal(str(tmp_path / "jobs.db"), Disk(), allow_data_loss=False, run_in_background=lambda sync: sync())
    journal.open()
    journal.write([submitted(1, payload=b'"' + b"x" * 2_000_000 + b'"'), submitted(2, "j\u0000\U0001f600")])
    journal.close()
    bodies = journal.open()
    assert len(bodies[0]) > 2_000_000
    journal.close()
