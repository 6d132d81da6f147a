"""No error ends the thread of a store in silence: it is survived, or it breaks the store with a typed error."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path

import pytest
import trio
from faulty_disks import FaultyDisk

from support.rig import everything_committed
from trio_jobs import OutcomeUnknown, Service, SqliteStore, StoreError
from trio_jobs._engine.events import Event
from trio_jobs._stores.sqlite.disk import Disk, File
from trio_jobs._stores.sqlite.high_water_mark import BackgroundSync
from trio_jobs.testing.store_check import submitted


class Unprintable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")

    __repr__ = __str__


def make_service() -> Service:
    service = Service()

    @service.handler
    async def post(n: int) -> int:
        return n

    return service


def raises_once(disk: FaultyDisk, error: BaseException, what: str = "INSERT INTO events") -> None:
    """Make the next statement that begins with `what` raise."""

    def fault(sql: str, done: bool) -> None:
        if sql.startswith(what) and not done:
            disk.fault = lambda sql, done: None
            raise error

    disk.fault = fault


async def test_a_commit_without_memory_is_refused_and_the_next_one_succeeds(tmp_path: Path) -> None:
    disk = FaultyDisk()
    async with make_service().open(store=SqliteStore(tmp_path / "jobs.db", disk=disk)) as queue:
        await everything_committed(queue)
        raises_once(disk, MemoryError())
        with pytest.raises(StoreError, match="there is not enough memory"):
            await queue.submit("post", 1, key="a")
        async for _ in queue.events(after=0):  # until the next commit
            if queue.health().store is None:
                break
        receipt = await queue.submit("post", 1, key="a")
        assert await queue.result(receipt.job_id) == 1


@pytest.mark.parametrize(
    "error",
    [ValueError("our bug"), SystemExit(3), Unprintable(), RecursionError()],
    ids=lambda error: type(error).__name__,
)
async def test_any_other_error_of_a_commit_breaks_the_store_with_a_typed_error(
    tmp_path: Path, error: BaseException
) -> None:
    disk = FaultyDisk()
    with pytest.raises(StoreError, match="its writer thread has failed") as caught:
        async with make_service().open(store=SqliteStore(tmp_path / "jobs.db", disk=disk)) as queue:
            await everything_committed(queue)
            raises_once(disk, error)
            with pytest.raises(OutcomeUnknown):
                await queue.submit("post", 1)
            await trio.sleep_forever()
    assert caught.value.__cause__ is error
    async with make_service().open(journal=tmp_path / "jobs.db") as queue:  # its lock is released
        await queue.submit("post", 1)


@pytest.mark.parametrize(
    "error",
    [MemoryError(), ValueError("our bug"), Unprintable(), SystemExit(3)],
    ids=lambda error: type(error).__name__,
)
async def test_an_unexpected_error_of_an_opening_is_typed_and_releases_the_journal(
    tmp_path: Path, error: BaseException
) -> None:
    disk = FaultyDisk()
    store = SqliteStore(tmp_path / "jobs.db", disk=disk)
    raises_once(disk, error, what="SELECT name, value")
    with pytest.raises(StoreError, match=r"jobs.db cannot be opened") as caught:
        await store.open(lambda events: None)
    assert caught.value.__cause__ is error
    assert list(await store.open(lambda events: None)) == []
    await store.aclose()


class StuckFile:
    """A file that cannot be closed."""

    def __init__(self, real: File) -> None:
        self._real = real

    def read(self) -> bytes:
        return self._real.read()

    def write(self, offset: int, data: bytes) -> None:
        self._real.write(offset, data)

    def sync(self) -> None:
        self._real.sync()

    def close(self) -> None:
        self._real.close()
        raise RuntimeError("this file does not close")


async def test_a_close_that_raises_is_logged_and_releases_the_journal(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    class StuckDisk(Disk):
        def open_file(self, path: str, *, create: bool = False) -> File | None:
            file = super().open_file(path, create=create)
            return None if file is None or not create else StuckFile(file)

    store = SqliteStore(tmp_path / "jobs.db", disk=StuckDisk())
    await store.open(lambda events: None)
    store.append([submitted(1)])
    await store.committed(1)
    await store.aclose()
    assert "not everything of it could be closed: RuntimeError: this file does not close" in caplog.text
    again = SqliteStore(tmp_path / "jobs.db")
    assert [event.seq for event in await again.open(lambda events: None)] == [1]
    await again.aclose()


async def test_callbacks_that_raise_end_neither_trio_nor_the_thread(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def on_commit(events: Sequence[Event]) -> None:
        raise SystemExit(3)

    def on_broken(error: StoreError) -> None:
        raise SystemExit(4)

    store = SqliteStore(tmp_path / "jobs.db")
    await store.open(on_commit, None, on_broken)
    store.append([submitted(1)])
    with pytest.raises(OutcomeUnknown):
        await store.committed(1)
        await store.committed(2)
    assert "its writer thread has failed: SystemExit: 3" in str(store.trouble)
    assert "its failure could not be reported: SystemExit: 4" in caplog.text
    await store.aclose()


def test_a_store_whose_trio_run_has_ended_is_closed_and_can_be_opened_again(tmp_path: Path) -> None:
    """Its owner did not close it. What was appended is committed."""
    store = SqliteStore(tmp_path / "jobs.db")

    async def leave_open(seq: int) -> int:
        found = len(list(await store.open(lambda events: None)))
        store.append([submitted(seq)])
        return found

    assert [trio.run(leave_open, seq) for seq in (1, 2, 3)] == [0, 1, 2]
    with pytest.raises(StoreError, match="this store is closed"):
        store.append([submitted(4)])
    other = SqliteStore(tmp_path / "jobs.db")
    assert len(list(trio.run(other.open, lambda events: None))) == 3


def test_the_thread_of_the_high_water_mark_survives_any_error() -> None:
    background = BackgroundSync()
    synced = threading.Event()

    def fail() -> None:
        raise ValueError("our bug")

    background.request(fail)
    for _ in range(1000):
        background.request(synced.set)
        if synced.wait(0.01):
            break
    assert synced.is_set(), "the thread has ended"
    background.stop()
