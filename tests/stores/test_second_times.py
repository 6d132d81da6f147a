"""What must hold the second time as well: after many failures in a row, a repeated deletion, a restart."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import trio
from faulty_disks import FaultyDisk, times
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock

from support.rig import everything_committed, open_queue
from support.stores import SlowStore
from trio_jobs import MemoryStore, Service, SqliteStore, State, StoreError
from trio_jobs._engine import events as ev
from trio_jobs._engine.key_tombstones import KeyTombstone, key_name
from trio_jobs._stores import memory, writer_thread
from trio_jobs._stores.durable_store import DurableStore
from trio_jobs.testing.store_check import submitted


def make_service() -> Service:
    service = Service()

    @service.handler
    async def post(n: int) -> int:
        return n

    return service


@pytest.mark.parametrize("code", [sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_FSYNC], ids=["full", "fsync"])
async def test_a_queue_continues_after_any_number_of_failed_commits_in_a_row(
    tmp_path: Path, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer_thread, "RETRY_DELAYS", (0.0,) * len(writer_thread.RETRY_DELAYS))
    disk = FaultyDisk()
    async with make_service().open(store=SqliteStore(tmp_path / "jobs.db", disk=disk)) as queue:
        await everything_committed(queue)
        count = 3 * len(writer_thread.RETRY_DELAYS)
        disk.fault = times(count, code)
        with pytest.raises(StoreError):
            await queue.submit("post", 1, key="a")
        async for _ in queue.events(after=0):  # until the next commit
            if queue.health().store is None:
                break
        receipt = await queue.submit("post", 1, key="a")
        assert await queue.result(receipt.job_id) == 1


# a stall


class Log:
    """A log that exists for its name."""

    name = "journal /jobs.db"


class StallingStore(DurableStore[Any]):
    """A durable store without a thread: the test commits, and moves its clock."""

    def __init__(self) -> None:
        self.now = 100.0
        super().__init__(Log, stall_after=5.0, monotonic=lambda: self.now)
        self._log = Log()
        self._is_open = True
        self._on_commit = lambda events: None

        class Gatherer:
            def add(self, events: Sequence[ev.Event]) -> None:
                """There is no thread."""

        self._group_commit: Any = Gatherer()


def test_a_stall_behind_another_commit_is_reported() -> None:
    """The time counts from the last reply: the disk was working until then."""
    store = StallingStore()
    store.append([submitted(1)])
    store.append([submitted(2)])
    store.now += 4.0
    assert store.trouble is None
    store.on_committed([submitted(1)])
    store.now += 4.0
    assert store.trouble is None
    store.now += 2.0
    assert store.trouble == "journal /jobs.db: a commit has not returned for 6 s"
    store.on_committed([submitted(2)])
    assert store.trouble is None
    store.now += 60.0
    assert store.trouble is None, "nothing is being committed"
    store.append([submitted(3)])
    store.now += 6.0
    assert store.trouble is not None


# pruning


def tombstones(*keys: str) -> list[KeyTombstone]:
    return [KeyTombstone(key_name("k", key), f"job-{key}", "digest", State.COMPLETED, 1.0) for key in keys]


async def test_a_key_that_is_forgotten_or_pruned_twice_leaves_a_journal_that_opens(tmp_path: Path) -> None:
    a, b = tombstones("a", "b")
    store = SqliteStore(tmp_path / "jobs.db")
    await store.open(lambda events: None)
    store.append([submitted(1, "job-a"), submitted(2, "job-b")])
    await store.prune({"job-a": (1, 1), "job-b": (2, 2)}, [a, b])
    await store.prune({}, [], [a])
    await store.prune({}, [], [a])
    store.append([submitted(3, "job-a"), submitted(4, "job-b")])
    await store.prune({"job-a": (3, 3), "job-b": (4, 4)}, [a, b])
    await store.prune({}, [], [a, *tombstones("never seen")])
    await store.aclose()
    again = SqliteStore(tmp_path / "jobs.db")
    assert list(await again.open(lambda events: None)) == []
    assert list(again.keys()) == [b]
    await again.prune({}, [], [b, b])
    await again.aclose()
    await again.open(lambda events: None)
    assert list(again.keys()) == []
    await again.aclose()


@given(
    st.lists(st.sampled_from("abcde"), min_size=1, max_size=40),
    st.sets(st.sampled_from("abcde")),
    st.integers(1, 7),
    st.integers(0, 2),
)
def test_a_job_that_was_pruned_from_memory_stays_gone(
    jobs: list[str], pruned: set[str], chunk: int, openings: int
) -> None:
    """However its events lie between those of others, in chunks of any size, before or after a queue is opened."""

    async def check() -> None:
        store = MemoryStore()
        await store.open(lambda events: None)
        for seq, job in enumerate(jobs, 1):
            store.append([submitted(seq, job)])
        for _ in range(openings):
            await store.aclose()
            await store.open(lambda events: None)
        spans = {job: (seqs[0], seqs[-1]) for job in pruned if (seqs := numbers(jobs, job))}
        for _ in range(2):
            await store.prune(spans)
        await store.aclose()
        left = [event.seq for event in await store.open(lambda events: None)]
        assert left == [seq for seq, job in enumerate(jobs, 1) if job not in pruned]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(memory, "CHUNK", chunk)
        trio.run(check)


def numbers(jobs: list[str], job: str) -> list[int]:
    return [seq for seq, other in enumerate(jobs, 1) if other == job]


# a restart


class HoldingStore(SlowStore):
    """Commits nothing from `hold` on, apart from the record that the SDK is about to be opened."""

    def hold(self) -> None:
        self._slow = (ev.SessionOpened, ev.JobEvent)
        self._is_slow = True


async def test_a_reader_after_a_restart_gets_the_events_before_it_and_no_old_event_as_news(
    autojump_clock: MockClock,
) -> None:
    """Also before the new process has committed that the SDK is open."""
    store = HoldingStore()
    async with open_queue(make_service(), store=store) as queue:
        await queue.result((await queue.submit("post", 1)).job_id)
    last = store.last_seq
    assert last > 3
    store.hold()
    async with open_queue(make_service(), store=store, seed=2) as queue:
        last += 1
        assert queue.statistics().seq == last
        old: list[int] = []
        with trio.move_on_after(60):
            async for event in queue.events(after=0):
                old.append(event.seq)
                if event.seq == last:
                    break
        assert old == list(range(1, last + 1)), "nothing new has to happen for that"
        seen: list[int] = []

        async def read(after: int | None) -> None:
            async for event in queue.events() if after is None else queue.events(after=after):
                seen.append(event.seq)
                return

        async with trio.open_nursery() as nursery:
            for after in (None, last):
                nursery.start_soon(read, after)
            await trio.testing.wait_all_tasks_blocked()
            assert seen == [], "an event of the last process is no news"
            store.keep()
            with trio.move_on_after(60):
                await queue.submit("post", 2)
        assert seen == [last + 1, last + 1]


# a backup


async def test_a_backup_is_synced_before_it_gets_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    sync, link = os.fsync, os.link
    to = tmp_path / "copy.db"

    def record_sync(fd: int) -> None:
        found = os.fstat(fd)
        if any(os.path.samestat(found, part.stat()) for part in tmp_path.glob("copy.db*")):
            order.append("synced" if not to.exists() else "synced too late")
        elif os.path.samestat(found, tmp_path.stat()) and to.exists():
            order.append("folder synced")
        sync(fd)

    def record_link(source: str, target: str) -> None:
        order.append("named")
        link(source, target)

    async with make_service().open(journal=tmp_path / "jobs.db") as queue:
        await queue.submit("post", 1)
        monkeypatch.setattr(os, "fsync", record_sync)
        monkeypatch.setattr(os, "link", record_link)
        await queue.backup(to)
    assert order[:3] == ["synced", "named", "folder synced"]
