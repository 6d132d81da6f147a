"""A disk that hangs, at each kind of call: the loop goes on, a stop ends, and the store can be opened again."""

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
from bad_disks import FaultyDisk, error

from trio_jobs import OutcomeUnknown, SqliteStore, StoreError
from trio_jobs._engine import events as ev
from trio_jobs._stores.sqlite.disk import Disk
from trio_jobs._stores.sqlite.journal import Journal
from trio_jobs.testing.store_check import submitted


class SdkSessionManager:
    """Where a thread of the store stands still, from `close` on until `open`."""

    def __init__(self) -> None:
        self._open = threading.Event()
        self.reached = threading.Event()
        self.open()

    def close(self) -> None:
        self._open.clear()
        self.reached.clear()

    def open(self) -> None:
        self._open.set()

    def pass_through(self) -> None:
        if not self._open.is_set():
            self.reached.set()
            assert self._open.wait(30), "nobody let the disk go on"

    async def until_reached(self) -> None:
        await trio.to_thread.run_sync(self.reached.wait, 30)
        assert self.reached.is_set()


class GatedDisk(FaultyDisk):
    """Asks `pass_through` before every call that is made of it, by name: statements, doors, and what is asked of small
    files ("file sync")."""

    def __init__(self) -> None:
        super().__init__()
        self.sessions = SdkSessionManager()
        self.fault = lambda sql, done: None if done else self.pass_through(sql)
        of_files = ("create", "open_file", "size", "head", "identity", "move", "rewrite", "sync_folder")
        for name in ("connect", "discard", *of_files):
            setattr(self, name, self._gated(name, getattr(self, name)))

    def _gated(self, name: str, door: Callable[..., Any]) -> Callable[..., Any]:
        def gated(*args: Any, **options: Any) -> Any:
            self.pass_through(name)
            result = door(*args, **options)
            return _File(self, result) if name == "open_file" and result is not None else result

        return gated

    def pass_through(self, name: str) -> None:
        raise NotImplementedError


class HangingDisk(GatedDisk):
    """Hangs at each call whose name begins so, once its gate is closed."""

    def __init__(self, at: str) -> None:
        super().__init__()
        self._at = at

    def pass_through(self, name: str) -> None:
        if name.startswith(self._at):
            self.sessions.pass_through()


class HangingAtCall(GatedDisk):
    """Hangs in call number `at`."""

    def __init__(self, at: int) -> None:
        super().__init__()
        self.sessions.close()
        self.calls = 0
        self._at = at
        self._lock = threading.Lock()  # the mark has a thread of its own

    def pass_through(self, name: str) -> None:
        with self._lock:
            self.calls += 1
            is_it = self.calls == self._at
        if is_it:
            self.sessions.pass_through()


class _File:
    def __init__(self, disk: GatedDisk, real: Any) -> None:
        self._disk = disk
        self._real = real

    def __getattr__(self, name: str) -> Any:
        self._disk.pass_through(f"file {name}")
        return getattr(self._real, name)


async def opened(store: SqliteStore, told: list[int]) -> None:
    def on_commit(events: Sequence[ev.Event]) -> None:
        told.extend(event.seq for event in events)

    await store.open(on_commit)


async def closed_within(store: SqliteStore, seconds: float) -> None:
    with trio.move_on_after(seconds):
        await store.aclose()


async def a_day(store: SqliteStore, told: list[int]) -> None:
    """Everything that a queue asks of its store, on a new journal or on that of the day before."""
    await opened(store, told)
    first = store.last_seq + 1
    for seq in range(first, first + 3):
        store.append([submitted(seq)])
        await store.committed(seq)
    assert len(await store.events(first - 1, 10)) == 3
    await store.prune({f"job-{first}": (first, first)})
    store.append([submitted(first + 3)])
    await store.committed(first + 3)
    await store.aclose()


async def two_days(store: SqliteStore, told: list[int], disk: HangingAtCall) -> None:
    for _ in range(2):
        await a_day(store, told)
    disk.sessions.reached.set()  # it may be by with fewer calls: a mark's sync that is under way stands for the next


async def count_calls(path: Path) -> int:
    disk = HangingAtCall(0)
    await two_days(SqliteStore(path, disk=disk), [], disk)
    return disk.calls


#: The campaign hangs in each call, the tests in every seventh, so that it is not always the same of a group's
any_call = pytest.mark.parametrize("every", [pytest.param(1, marks=pytest.mark.campaign), 7])


@any_call
async def test_a_hang_in_any_call_ends_with_the_call(tmp_path: Path, every: int) -> None:
    calls = await count_calls(tmp_path / "counted.db")
    assert calls > 100
    for at in range(1, calls + 1, every):
        disk, told = HangingAtCall(at), list[int]()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(two_days, SqliteStore(tmp_path / f"{at}.db", disk=disk), told, disk)
            await disk.sessions.until_reached()
            disk.sessions.open()
        assert told == list(range(1, 9)), f"hanging in call {at}"


@any_call
async def test_who_gives_up_on_a_hang_in_any_call_leaves_what_was_told_and_no_lock(tmp_path: Path, every: int) -> None:
    for at in range(1, await count_calls(tmp_path / "counted.db") + 1, every):
        disk, told = HangingAtCall(at), list[int]()
        path = tmp_path / f"{at}.db"
        store = SqliteStore(path, disk=disk)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(two_days, store, told, disk)
            await disk.sessions.until_reached()
            nursery.cancel_scope.cancel()
        await closed_within(store, 0.0)
        disk.sessions.open()
        await store._ended.wait()
        again = SqliteStore(path)
        await again.open(lambda events: None)
        assert again.last_seq >= max(told, default=0), f"hanging in call {at}"
        await again.aclose()


@pytest.mark.parametrize("at", ["INSERT", "identity", "file write"])
async def test_a_commit_that_hangs_holds_up_nobody_but_those_who_wait_for_it(tmp_path: Path, at: str) -> None:
    disk, told = HangingDisk(at), list[int]()
    store = SqliteStore(tmp_path / "jobs.db", disk=disk, stall_after=0.0)
    await opened(store, told)
    store.append([submitted(1)])
    await store.committed(1)
    disk.sessions.close()
    store.append([submitted(2)])
    await disk.sessions.until_reached()
    with trio.move_on_after(0.01) as scope:
        await store.committed(2)
    assert scope.cancelled_caught
    assert "has not returned" in str(store.trouble)
    disk.sessions.open()
    await store.committed(2)
    assert told == [1, 2]
    assert store.trouble is None
    await store.aclose()


@asynccontextmanager
async def mark_is_synced_after(path: Path) -> AsyncIterator[SqliteStore]:
    """A store with one group; behind the block the mark's sync has begun."""
    disk = HangingDisk("file sync")
    store = SqliteStore(path, disk=disk)
    await opened(store, [])
    disk.sessions.close()
    store.append([submitted(1)])
    await store.committed(1)
    yield store
    await disk.sessions.until_reached()
    disk.sessions.open()
    await store.aclose()


async def test_a_mark_is_synced_though_no_group_comes_after_its_own(tmp_path: Path) -> None:
    async with mark_is_synced_after(tmp_path / "jobs.db"):
        pass


async def test_a_mark_is_synced_though_nothing_but_pages_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trio_jobs._stores.sqlite.writer_thread.IDLE", 3600)
    async with mark_is_synced_after(tmp_path / "jobs.db") as store:
        await store.events(0, 10)


async def test_a_mark_whose_sync_hangs_delays_no_commit_at_all(tmp_path: Path) -> None:
    disk, told = HangingDisk("file sync"), list[int]()
    store = SqliteStore(tmp_path / "jobs.db", disk=disk)
    await opened(store, told)
    store.append([submitted(1)])
    await store.committed(1)
    disk.sessions.close()
    for seq in range(2, 20):
        store.append([submitted(seq)])
        await store.committed(seq)
    await disk.sessions.until_reached()
    disk.sessions.open()
    await store.aclose()
    assert told == list(range(1, 20))


@pytest.mark.parametrize(
    ("at", "ask"),
    [
        ("SELECT seq, job, body, checksum FROM events WHERE seq > ? ORDER", lambda store, path: store.events(0, 10)),
        ("SELECT seq, job FROM events", lambda store, path: store.prune({"job-1": (1, 1)})),
        ("DELETE", lambda store, path: store.prune({"job-1": (1, 1)})),
        ("COMMIT", lambda store, path: store.prune({"job-1": (1, 1)})),
        ("SELECT * FROM keys", lambda store, path: store.backup(str(path / "copy.db"))),
    ],
)
async def test_a_wish_that_hangs_can_be_given_up_and_the_store_goes_on_when_it_does(
    tmp_path: Path, at: str, ask: Any
) -> None:
    disk, told = HangingDisk(at), list[int]()
    store = SqliteStore(tmp_path / "jobs.db", disk=disk)
    await opened(store, told)
    store.append([submitted(1), submitted(2)])
    await store.committed(2)
    disk.sessions.close()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask, store, tmp_path)
        await disk.sessions.until_reached()
        nursery.cancel_scope.cancel()
    store.append([submitted(3)])
    disk.sessions.open()
    await store.committed(3)
    assert told == [1, 2, 3]
    assert list(tmp_path.glob("copy*")) == []
    await store.aclose()
    left = [event.seq for event in await store.open(lambda events: None)]
    assert left in ([1, 2, 3], [2, 3]), "the wish was done, or not"
    await store.aclose()


@pytest.mark.parametrize("at", ["PRAGMA journal_mode", "SELECT", "file read", "rewrite"])
async def test_an_opening_that_hangs_can_be_cancelled_and_lets_go_of_everything_in_the_end(
    tmp_path: Path, at: str
) -> None:
    path = tmp_path / "jobs.db"
    first = SqliteStore(path)
    await first.open(lambda events: None)
    first.append([submitted(1)])
    await first.aclose()
    if at == "rewrite":
        Path(f"{path}-wal").write_bytes(b"")
    disk = HangingDisk(at)
    store = SqliteStore(path, disk=disk)
    disk.sessions.close()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(store.open, lambda events: None)
        await disk.sessions.until_reached()
        nursery.cancel_scope.cancel()
    with pytest.raises(StoreError, match="in use"):
        await store.open(lambda events: None)
    disk.sessions.open()
    await store._ended.wait()
    for again in (store, SqliteStore(path)):
        assert [event.seq for event in await again.open(lambda events: None)] == [1]
        await again.aclose()


async def test_a_hang_while_it_is_read_back_is_unknown_until_it_returns(tmp_path: Path) -> None:
    disk, told = HangingDisk("rewrite"), list[int]()
    store = SqliteStore(tmp_path / "jobs.db", disk=disk)
    await opened(store, told)
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
    disk.sessions.close()
    store.append([submitted(2)])
    await disk.sessions.until_reached()
    with trio.move_on_after(0.01) as scope:
        await store.committed(2)
    assert scope.cancelled_caught
    disk.sessions.open()
    await store.committed(2)
    assert told == [1, 2]
    await store.aclose()


async def test_a_close_that_hangs_can_be_given_up(tmp_path: Path) -> None:
    disk = HangingDisk("INSERT")
    store = SqliteStore(tmp_path / "jobs.db", disk=disk)
    await store.open(lambda events: None)
    disk.sessions.close()
    store.append([submitted(1)])
    await disk.sessions.until_reached()
    await closed_within(store, 0.01)
    disk.sessions.open()
    await store._ended.wait()
    again = SqliteStore(tmp_path / "jobs.db")
    assert len(list(await again.open(lambda events: None))) == 1
    await again.aclose()


async def test_a_log_that_could_not_be_secured_is_not_poured_into_the_file(tmp_path: Path) -> None:
    """After a failed sync nobody knows what of the log is on the disk, but the log itself, once written anew."""
    poured: list[str] = []

    class Bad(FaultyDisk):
        is_bad = False

        def rewrite(self, path: str) -> None:
            if self.is_bad:
                raise OSError(5, "made up")
            super().rewrite(path)

        def discard(self, connection: Any, path: str) -> None:
            poured.append("kept")
            before = Path(path).read_bytes(), Path(f"{path}-wal").read_bytes()
            Disk.discard(self, connection, path)
            assert (Path(path).read_bytes(), Path(f"{path}-wal").read_bytes()) == before

    disk = Bad()
    path = tmp_path / "jobs.db"
    store = SqliteStore(path, disk=disk)
    told: list[StoreError] = []
    await store.open(lambda events: None, lambda: (), told.append)
    store.append([submitted(1)])
    await store.committed(1)
    disk.is_bad = True
    disk.fault = lambda sql, done: (_ for _ in ()).throw(error(sqlite3.SQLITE_IOERR_FSYNC)) if done else None
    store.append([submitted(2)])
    with pytest.raises(OutcomeUnknown):
        await store.committed(2)
    await store.aclose()
    assert "could not be opened again" in str(told[0])
    assert poured == ["kept"]
    again = SqliteStore(path)
    assert [event.seq for event in await again.open(lambda events: None)] == [1, 2], "it was in, all the same"
    await again.aclose()


async def test_a_path_that_is_relative_or_linked_stays_the_file_that_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "real").mkdir()
    monkeypatch.chdir(tmp_path / "real")
    store = SqliteStore("jobs.db")
    monkeypatch.chdir(tmp_path)
    await store.open(lambda events: None)
    assert (tmp_path / "real" / "jobs.db").exists()
    try:
        (tmp_path / "link.db").symlink_to(tmp_path / "real" / "jobs.db")
    except OSError:
        pytest.skip("no links here")
    with pytest.raises(StoreError, match="in use"):
        await SqliteStore(tmp_path / "link.db").open(lambda events: None)
    store.append([submitted(1)])
    await store.aclose()
    through = SqliteStore(tmp_path / "link.db")
    assert len(list(await through.open(lambda events: None))) == 1
    await through.aclose()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link.db", "real"]


def test_huge_rows_and_odd_names_are_written_and_read_back(tmp_path: Path) -> None:
    made = Journal(str(tmp_path / "jobs.db"), Disk(), allow_data_loss=False, background=lambda sync: sync())
    made.open()
    made.write([submitted(1, payload=b'"' + b"x" * 2_000_000 + b'"'), submitted(2, "j\u0000\U0001f600")])
    made.close()
    bodies = made.open()
    assert len(bodies[0]) > 2_000_000
    made.close()
