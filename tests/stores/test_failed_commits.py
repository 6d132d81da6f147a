"""Failed, full and hanging commits: what each caller gets, and how the store recovers."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio
import trio.testing
from faulty_disks import BlindDisk, Fault, FaultyDisk, Hanging, error, times
from trio.testing import MockClock

import trio_jobs
from support.rig import everything_committed
from support.waiting import DEADLINE, deadline
from trio_jobs import OutcomeUnknown, Queue, Service, SqliteStore, State, StoreError
from trio_jobs._engine import events as ev
from trio_jobs._engine.projection import Projection
from trio_jobs._runtime.queue import runtime_of
from trio_jobs._stores.writer_thread import CLOSE
from trio_jobs.testing.store_check import submitted


@attrs.frozen
class Order:
    n: int


def make_service(**settings: Any) -> Service:
    service = Service(**settings)

    @service.handler
    async def post(order: Order) -> int:
        return order.n

    @service.handler
    async def wait(order: Order) -> int:
        await gates[order.n].wait()
        return order.n

    return service


gates: dict[int, trio.Event] = {}


async def healthy(queue: Queue) -> None:
    """Wait until the store has recovered; the next commit after the failure is published as an event."""
    with deadline("the store recovers"):
        async for _ in queue.events(after=0):
            if queue.health().store is None:
                return


async def check_fold(queue: Queue, path: Path) -> None:
    """The projection is what a fold of the journal alone gives."""
    await everything_committed(queue)
    projection = Projection()
    for event in await runtime_of(queue).event_log.store.events(0, 10_000):
        projection.apply(event)
    assert {j: r.state for j, r in projection.jobs.items()} == {
        j: r.state for j, r in runtime_of(queue).event_log.projection.jobs.items()
    }
    assert projection.keys.keys() == runtime_of(queue).event_log.projection.keys.keys()
    assert projection.seq == runtime_of(queue).event_log.projection.seq


@pytest.mark.parametrize("code", [sqlite3.SQLITE_IOERR_FSYNC, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_FULL])
async def test_a_submit_whose_commit_fails_is_rejected_and_the_next_one_is_accepted(tmp_path: Path, code: int) -> None:
    disk = FaultyDisk()
    async with make_service(buffer=2).open(store=SqliteStore(tmp_path / "jobs.db", disk=disk)) as queue:
        await everything_committed(queue)
        disk.fault = times(1, code)
        with pytest.raises(StoreError):
            await queue.submit("post", Order(1), key="a")
        assert queue.list() == []
        await healthy(queue)
        receipts = [await queue.submit("post", Order(n), key=f"{n}") for n in range(5)]
        assert [await queue.result(receipt.job_id) for receipt in receipts] == list(range(5))
        again = await queue.submit("post", Order(1), key="a")
        assert again.created
        assert await queue.result(again.job_id) == 1
        assert queue.statistics().free == 2
        await check_fold(queue, tmp_path)


async def test_a_submit_is_accepted_if_its_failed_commit_took_effect(tmp_path: Path) -> None:
    disk = FaultyDisk()
    async with make_service().open(store=SqliteStore(tmp_path / "jobs.db", disk=disk)) as queue:
        await everything_committed(queue)
        disk.fault = times(1, sqlite3.SQLITE_IOERR_FSYNC, done=True)
        receipt = await queue.submit("post", Order(1))
        assert disk.connections == 2, "a connection on which a commit failed is not used again"
        assert await queue.result(receipt.job_id) == 1
        await check_fold(queue, tmp_path)


@pytest.mark.parametrize("blind", [1, 2, 3])
async def test_a_commit_is_read_back_if_the_file_cannot_be_identified_afterwards(tmp_path: Path, blind: int) -> None:
    """Once after the insert, and then at the first reopenings."""
    disk = BlindDisk()
    async with make_service().open(store=SqliteStore(tmp_path / "jobs.db", disk=disk)) as queue:
        await everything_committed(queue)
        disk.blind = blind
        receipt = await queue.submit("post", Order(1))
        assert disk.blind == 0
        assert await queue.result(receipt.job_id) == 1
        assert queue.health().store is None
        await check_fold(queue, tmp_path)


@pytest.mark.parametrize("code", [sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_WRITE])
async def test_a_full_disk_rejects_submits_and_does_not_stop_the_running_job(tmp_path: Path, code: int) -> None:
    disk = FaultyDisk()
    gates[7] = trio.Event()
    async with make_service().open(store=SqliteStore(tmp_path / "jobs.db", disk=disk)) as queue:
        running = await queue.submit("wait", Order(7))
        waiting = await queue.submit("post", Order(8))
        async for event in queue.events(after=0):
            if isinstance(event, ev.Started):
                break
        disk.fault = times(10**9, code)
        with pytest.raises(StoreError):
            await queue.submit("post", Order(1))
        assert not queue.health().ok
        assert "store" in queue.health().problems
        with pytest.raises(StoreError, match="no jobs are accepted now"):
            await queue.submit("post", Order(2))
        gates[7].set()
        await trio.testing.wait_all_tasks_blocked()
        assert queue.get(running.job_id).state is State.PROCESSING, "uncommitted changes are not visible"
        disk.fault = lambda sql, done: None
        assert await queue.result(running.job_id) == 7
        assert await queue.result(waiting.job_id) == 8
        await healthy(queue)
        assert await queue.result((await queue.submit("post", Order(9))).job_id) == 9
        await check_fold(queue, tmp_path)


async def test_p4_a_rejected_job_that_was_started_does_not_occupy_the_consumer(tmp_path: Path) -> None:
    disk = FaultyDisk()
    async with make_service().open(store=SqliteStore(tmp_path / "jobs.db", disk=disk)) as queue:
        await everything_committed(queue)
        await trio.testing.wait_all_tasks_blocked()
        disk.fault = times(10**9, sqlite3.SQLITE_FULL)
        with pytest.raises(StoreError):
            await queue.submit("post", Order(1), key="a")
        await trio.testing.wait_all_tasks_blocked()
        assert runtime_of(queue).slot.current is None
        assert queue.statistics().free == queue.statistics().capacity
        disk.fault = lambda sql, done: None
        await healthy(queue)
        assert await queue.result((await queue.submit("post", Order(1), key="a")).job_id) == 1
        await check_fold(queue, tmp_path)


async def commit_timeout_passes(hang: Hanging, clock: MockClock) -> None:
    """Let the time of all waits pass when the disk hangs; until then, none passes because a disk is slow."""
    assert await trio.to_thread.run_sync(hang.is_blocked.wait, DEADLINE)
    await trio.testing.wait_all_tasks_blocked()
    clock.jump(40)


async def test_a_hanging_sync_makes_outcomes_unknown_and_does_not_block_the_loop(
    tmp_path: Path, mock_clock: MockClock
) -> None:
    disk, hang = FaultyDisk(), Hanging()
    store = SqliteStore(tmp_path / "jobs.db", disk=disk, stall_after=0.0)
    async with make_service().open(store=store) as queue, trio.open_nursery() as nursery:
        await everything_committed(queue)
        disk.fault = hang
        nursery.start_soon(commit_timeout_passes, hang, mock_clock)
        with pytest.raises(OutcomeUnknown):
            await queue.submit("post", Order(1), key="a")
        assert "has not returned" in str(queue.health().store)
        with pytest.raises(StoreError, match="no jobs are accepted now"):
            await queue.submit("post", Order(2))
        nursery.start_soon(commit_timeout_passes, hang, mock_clock)
        with pytest.raises(OutcomeUnknown):  # the error says: submit again with the same key
            await queue.submit("post", Order(1), key="a")
        hang.resume.set()
        with deadline("the store recovers"):
            while queue.health().store is not None:
                await queue.events().__anext__()
        receipt = await queue.submit("post", Order(1), key="a")
        assert not receipt.created
        assert await queue.result(receipt.job_id) == 1
        await check_fold(queue, tmp_path)


async def test_a_queue_with_a_hanging_journal_can_be_stopped(tmp_path: Path, mock_clock: MockClock) -> None:
    disk, hang = FaultyDisk(), Hanging()
    with deadline("the stop"):
        async with trio.open_nursery() as nursery:
            async with make_service().open(store=SqliteStore(tmp_path / "jobs.db", disk=disk)) as queue:
                await queue.submit("post", Order(1))
                disk.fault = hang
                nursery.start_soon(commit_timeout_passes, hang, mock_clock)
                with pytest.raises(OutcomeUnknown):
                    await queue.submit("post", Order(2))
                mock_clock.rate = 1000.0  # nothing is left that a thread must do in time
            nursery.cancel_scope.cancel()
    hang.resume.set()
    assert queue.report is not None


async def test_a_journal_that_cannot_be_reopened_ends_the_queue(tmp_path: Path) -> None:
    disk = FaultyDisk()
    with pytest.raises(StoreError, match="cannot be reopened"):
        async with make_service().open(store=SqliteStore(tmp_path / "jobs.db", disk=disk)) as queue:
            await everything_committed(queue)
            disk.fault = times(10**9, sqlite3.SQLITE_IOERR, what="")
            with pytest.raises(OutcomeUnknown):
                await queue.submit("post", Order(1))
            await trio.sleep_forever()


@pytest.mark.parametrize("replace", [False, True])
async def test_a_journal_deleted_or_replaced_while_in_use_ends_the_queue(tmp_path: Path, replace: bool) -> None:
    path = tmp_path / "jobs.db"
    with pytest.raises(trio_jobs.JournalDamaged, match="deleted or replaced"):
        async with make_service().open(journal=path) as queue:
            await queue.submit("post", Order(0))
            if replace:
                (tmp_path / "other").write_bytes(path.read_bytes())
                (tmp_path / "other").replace(path)
            else:
                path.unlink()
            with pytest.raises(OutcomeUnknown):
                await queue.submit("post", Order(1))
            await trio.sleep_forever()


async def test_all_submits_of_a_failed_group_are_rejected_and_release_their_slots(tmp_path: Path) -> None:
    disk = FaultyDisk()
    results: list[str] = []
    async with make_service(buffer=50).open(store=SqliteStore(tmp_path / "jobs.db", disk=disk)) as queue:
        await everything_committed(queue)
        disk.fault = times(1, sqlite3.SQLITE_IOERR_FSYNC)

        async def one(n: int) -> None:
            try:
                await queue.submit("post", Order(n), key=str(n))
                results.append("accepted")
            except StoreError:
                results.append("rejected")

        async with trio.open_nursery() as nursery:
            for n in range(40):
                nursery.start_soon(one, n)
        await healthy(queue)
        assert len(results) == 40
        assert results.count("accepted") == len(queue.list())
        for job in queue.list():
            await queue.result(job.id)
        assert queue.statistics().free == 50
        await check_fold(queue, tmp_path)


@pytest.mark.parametrize("done", [False, True])
@pytest.mark.parametrize("at", range(12))
async def test_a_fault_at_any_commit_of_a_job_loses_nothing(tmp_path: Path, at: int, done: bool) -> None:
    """Each commit in turn fails once: every accepted job ends once, and a restart finds the same."""
    disk = FaultyDisk()
    ends: list[tuple[str, State]] = []
    async with make_service().open(store=SqliteStore(tmp_path / "jobs.db", disk=disk)) as queue:
        left = at

        def fault(sql: str, is_done: bool) -> None:
            nonlocal left
            if sql.startswith("INSERT INTO events") and is_done is done:
                left -= 1
                if left == -1:
                    times(1, sqlite3.SQLITE_IOERR, done=done)(sql, is_done)

        disk.fault = fault
        accepted = []
        for n in range(6):
            try:
                accepted.append((await queue.submit("post", Order(n))).job_id)
            except StoreError:
                await everything_committed(queue)
        for job_id in accepted:
            await queue.result(job_id)
        ends = [(job.id, job.state) for job in queue.list()]
        assert [job_id for job_id, _ in ends] == accepted
        await check_fold(queue, tmp_path)
    async with make_service().open(journal=tmp_path / "jobs.db") as queue:
        assert [(job.id, job.state) for job in queue.list()] == ends


async def opened(disk: FaultyDisk, path: Path, committed: list[ev.Event]) -> SqliteStore:
    """A store without a queue: events whose commit failed are appended again unchanged."""
    store = SqliteStore(path, disk=disk)
    appended: list[ev.Event] = []

    def on_failure() -> Sequence[ev.Event]:
        return appended[len(committed) :]

    append = store.append

    def recording(events: Sequence[ev.Event]) -> None:
        appended.extend(events)
        append(events)

    store.append = recording  # type: ignore[method-assign]
    await store.open(committed.extend, on_failure)
    return store


async def hanging_commit(disk: FaultyDisk, store: SqliteStore, fails: Fault) -> Hanging:
    """Start a commit of event 1 that hangs; when it is released, `fails` is called."""
    hang = Hanging()

    def fault(sql: str, is_done: bool) -> None:
        hang(sql, is_done)
        fails(sql, is_done)

    disk.fault = fault
    store.append([submitted(1)])
    await trio.to_thread.run_sync(hang.is_blocked.wait, 30)
    return hang


async def test_a_large_group_is_rolled_back_as_a_whole_if_the_disk_fills_up(tmp_path: Path) -> None:
    """More events than fit into one statement, so there is a transaction to roll back."""
    disk, committed = FaultyDisk(), list[ev.Event]()
    store = await opened(disk, tmp_path / "jobs.db", committed)
    second = iter([False, True])

    def fault(sql: str, is_done: bool) -> None:
        if sql.startswith("INSERT INTO events") and not is_done and next(second, False):
            raise error(sqlite3.SQLITE_FULL)

    disk.fault = fault
    store.append([submitted(seq) for seq in range(1, 251)])
    await store.committed(250)
    assert [event.seq for event in committed] == list(range(1, 251))
    assert disk.connections == 1, "the connection remains usable"
    await store.aclose()


async def test_a_page_and_a_close_requested_during_a_failure_are_served_after_it(tmp_path: Path) -> None:
    disk, committed = FaultyDisk(), list[ev.Event]()
    store = await opened(disk, tmp_path / "jobs.db", committed)
    pages: list[Sequence[ev.Event]] = []

    async def read() -> None:
        pages.append(await store.events(0, 10))

    hang = await hanging_commit(disk, store, times(1, sqlite3.SQLITE_IOERR))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(store.aclose)
        await trio.testing.wait_all_tasks_blocked()
        hang.resume.set()
    assert [[event.seq for event in page] for page in pages] == [[]], "nothing was committed by then"
    assert [event.seq for event in committed] == [1]


@pytest.mark.parametrize("is_abandoned", [False, True])
async def test_a_close_between_a_failure_and_its_replacement_commits_unless_abandoned(
    tmp_path: Path, is_abandoned: bool
) -> None:
    disk, committed = FaultyDisk(), list[ev.Event]()
    store = SqliteStore(tmp_path / "jobs.db", disk=disk)

    def on_failure() -> Sequence[ev.Event]:
        assert store._durable.writer is not None
        if is_abandoned:
            store._durable.writer.abandon()
        else:
            store._durable.writer.inbox.put(CLOSE)
        return [submitted(1)]

    await store.open(committed.extend, on_failure)
    disk.fault = times(1, sqlite3.SQLITE_IOERR)
    store.append([submitted(1)])
    await store._durable.ended.wait()
    assert [event.seq for event in committed] == ([] if is_abandoned else [1])
    await store.aclose()


async def test_a_close_abandoned_during_a_failing_commit_ends_without_it(tmp_path: Path) -> None:
    disk, committed = FaultyDisk(), list[ev.Event]()
    store = await opened(disk, tmp_path / "jobs.db", committed)
    hang = await hanging_commit(disk, store, times(10**9, sqlite3.SQLITE_IOERR))
    with trio.move_on_after(0):
        await store.aclose()
    hang.resume.set()
    await store._durable.ended.wait()
    assert committed == []


async def test_a_full_disk_is_not_a_failure_if_the_group_is_committed(tmp_path: Path) -> None:
    disk, committed = FaultyDisk(), list[ev.Event]()
    store = await opened(disk, tmp_path / "jobs.db", committed)
    disk.fault = times(1, sqlite3.SQLITE_FULL, done=True)
    store.append([submitted(1)])
    await store.committed(1)
    store.append([submitted(2)])
    await store.committed(2)
    assert [event.seq for event in committed] == [1, 2]
    await store.aclose()


async def test_a_store_can_be_reopened_after_a_failed_open_that_is_reported_late(tmp_path: Path) -> None:
    path = tmp_path / "jobs.db"
    path.write_bytes(b"no database" * 1000)
    store = SqliteStore(path)

    async def keep_trio_busy() -> None:
        while store._durable.writer is None and not store._durable.ended.is_set():
            await trio.lowlevel.checkpoint()
        if store._durable.writer is not None:  # else all its reports have arrived already
            store._durable.writer.join(30)  # so that all its reports arrive in one turn

    async with trio.open_nursery() as nursery:
        nursery.start_soon(keep_trio_busy)
        with pytest.raises(StoreError, match="not a trio-jobs journal"):
            await store.open(lambda events: None)
    path.unlink()
    await store.open(lambda events: None)
    await store.aclose()


async def test_a_journal_works_without_a_thread_for_its_high_water_mark(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = threading.Thread.start

    def start(self: threading.Thread) -> None:
        if self.name == "trio-jobs high-water mark":
            raise RuntimeError("can't start new thread")
        real(self)

    monkeypatch.setattr(threading.Thread, "start", start)
    store = await opened(FaultyDisk(), tmp_path / "jobs.db", [])
    for seq in range(1, 4):
        store.append([submitted(seq)])
        await store.committed(seq)
    await store.aclose()
    store = await opened(FaultyDisk(), tmp_path / "jobs.db", [])
    assert store.last_seq == 3
    await store.aclose()


async def test_a_failed_prune_raises_and_the_journal_continues(tmp_path: Path) -> None:
    disk, committed = FaultyDisk(), list[ev.Event]()
    store = await opened(disk, tmp_path / "jobs.db", committed)
    store.append([submitted(1, "a"), ev.Cancelled(seq=2, at=1.0, job="a", reason="cancelled", may_have_acted=False)])
    await store.committed(2)
    disk.fault = times(1, sqlite3.SQLITE_IOERR, what="DELETE FROM events")
    with pytest.raises(StoreError, match="made up"):
        await store.prune({"a": (1, 2)})
    assert len(await store.events(0, 10)) == 2
    await store.prune({"a": (1, 2)})
    store.append([submitted(3)])
    await store.committed(3)
    await store.aclose()
    with pytest.raises(StoreError, match="this store is closed"):
        await store.events(0, 10)


async def test_a_reader_of_a_breaking_journal_gets_the_reason(tmp_path: Path) -> None:
    disk, committed = FaultyDisk(), list[ev.Event]()
    store = await opened(disk, tmp_path / "jobs.db", committed)  # without an `on_broken`
    errors: list[StoreError] = []

    async def read() -> None:
        try:
            await store.events(0, 10)
        except StoreError as error:
            errors.append(error)

    hang = await hanging_commit(disk, store, times(10**9, sqlite3.SQLITE_IOERR, what=""))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        await trio.testing.wait_all_tasks_blocked()
        hang.resume.set()
    with pytest.raises(StoreError, match="cannot be reopened"):
        await store.events(0, 10)
    assert "cannot be reopened" in str(errors[0])
    assert "cannot be reopened" in str(store.trouble)
    await store.aclose()


async def test_a_failed_commit_without_a_failure_callback_is_dropped(tmp_path: Path) -> None:
    disk, committed = FaultyDisk(), list[ev.Event]()
    store = SqliteStore(tmp_path / "jobs.db", disk=disk)
    await store.open(committed.extend)
    disk.fault = times(1, sqlite3.SQLITE_FULL)
    store.append([submitted(1)])
    assert await store.events(0, 10) == []
    assert store.trouble is None
    store.append([submitted(1)])
    await store.committed(1)
    assert [event.seq for event in committed] == [1]
    await store.aclose()


async def test_a_callback_that_raises_breaks_the_store_and_not_trio(tmp_path: Path) -> None:
    reports: list[StoreError] = []

    def on_commit(events: Sequence[ev.Event]) -> None:
        raise ValueError("a bug")

    store = SqliteStore(tmp_path / "jobs.db")
    await store.open(on_commit, None, reports.append)
    store.append([submitted(1)])
    with pytest.raises(OutcomeUnknown):
        await store.committed(1)
    store.append([submitted(2)])
    await store.aclose()
    assert len(reports) == 1, "reported once, though the second group raised too"
    assert "ValueError" in str(reports[0])
