"""Which events share a sync."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from pathlib import Path

import pytest
import trio
from bad_disks import FaultyDisk, error

from trio_jobs import NewJob, Service, SqliteStore
from trio_jobs._engine import events as ev
from trio_jobs._stores.group_commit import TURNS, GroupCommit
from trio_jobs.testing.store_check import submitted


class CountingDisk(FaultyDisk):
    """groups: how many transactions of events there were."""

    def __init__(self) -> None:
        super().__init__()
        self.groups = 0
        self.fault = self._count

    def _count(self, sql: str, done: bool) -> None:
        self.groups += sql.startswith("INSERT INTO events") and not done


async def test_what_one_commit_sets_going_shares_the_next_sync(tmp_path: Path) -> None:
    """A turn of the loop apart, as the end of an attempt and the start of the next, or two producers, are."""
    disk = CountingDisk()
    store = SqliteStore(tmp_path / "jobs.db", disk=disk)
    told: list[int] = []
    await store.open(lambda events: told.extend(event.seq for event in events))
    for seq in range(1, 60, 2):
        store.append([submitted(seq)])
        await trio.lowlevel.checkpoint()
        store.append([submitted(seq + 1)])
        await store.committed(seq + 1)
    assert disk.groups == 30
    assert told == list(range(1, 61))
    await store.aclose()


class Given:
    """What a `GroupCommit` gave, and in which turn of the loop, counted from 1."""

    def __init__(self, gathering_turns: int = TURNS) -> None:
        self.groups: list[list[int]] = []
        self.turns: list[int] = []
        self.turn = 1
        self.group_commit = GroupCommit(self._take, gathering_turns)

    def _take(self, events: Sequence[ev.Event]) -> None:
        self.groups.append([event.seq for event in events])
        self.turns.append(self.turn)

    async def next_turn(self) -> None:
        await trio.lowlevel.checkpoint()
        self.turn += 1


async def test_what_a_loop_without_rest_sets_going_is_given_after_a_few_turns() -> None:
    given = Given()
    given.group_commit.begin()
    for seq in range(1, 2 * TURNS + 1):
        given.group_commit.add([submitted(seq)])
        await given.next_turn()
    assert given.groups == [list(range(1, TURNS + 1)), list(range(TURNS + 1, 2 * TURNS + 1))]
    assert given.turns == [TURNS, 2 * TURNS]
    given.group_commit.end()


async def test_a_lone_caller_is_not_kept_waiting_for_others() -> None:
    """Given in the turn in which the loop has nothing left to do, though more would be waited for."""
    given = Given(gathering_turns=1000)
    given.group_commit.begin()
    given.group_commit.add([submitted(1)])
    await trio.to_thread.run_sync(lambda: None)
    assert given.groups == [[1]]
    given.group_commit.end()


async def test_what_is_gathered_at_the_end_is_given_once_and_nothing_is_listened_to_after_it() -> None:
    given = Given()
    given.group_commit.begin()
    given.group_commit.add([submitted(1)])
    given.group_commit.end()
    given.group_commit.end()
    given.group_commit.add([submitted(2)])
    for _ in range(2 * TURNS):
        await given.next_turn()
    assert given.groups == [[1]]


class TransactionDisk(FaultyDisk):
    """transactions: how many began in which events were written; a group too long for one statement is one too."""

    def __init__(self) -> None:
        super().__init__()
        self.transactions = 0
        self._is_inside = False
        self.fault = self._count

    def _count(self, sql: str, done: bool) -> None:
        if done:
            return
        if sql.startswith("BEGIN"):
            self._is_inside = True
            self.transactions += 1
        elif sql.startswith("COMMIT"):
            self._is_inside = False
        elif sql.startswith("INSERT INTO events"):
            self.transactions += not self._is_inside


@pytest.mark.parametrize("count", [5, 3000])
async def test_what_is_submitted_at_once_is_one_commit(tmp_path: Path, count: int) -> None:
    """More than a statement takes, and more than a group is let grow to, too."""
    disk = TransactionDisk()
    service = Service(buffer=5000)

    @service.handler
    async def post(order: int) -> int:
        return order

    async with service.open(store=SqliteStore(tmp_path / "jobs.db", disk=disk)) as queue:
        await queue.pause()
        before, seq = disk.transactions, queue.statistics().seq
        await queue.submit_many([NewJob("post", n) for n in range(count)])
        assert queue.statistics().seq == seq + count
        assert disk.transactions == before + 1


async def test_a_job_that_meets_an_idle_queue_has_two_syncs_its_end_being_one(tmp_path: Path) -> None:
    """Its acceptance and its start share the other."""
    disk = CountingDisk()
    service = Service()

    @service.handler
    async def post(order: int) -> int:
        return order

    async with service.open(store=SqliteStore(tmp_path / "jobs.db", disk=disk)) as queue:
        await queue.result((await queue.submit("post", 0)).job_id)
        before = disk.groups
        for n in range(20):
            assert await queue.result((await queue.submit("post", n)).job_id) == n
        assert disk.groups == before + 2 * 20


async def test_a_close_leaves_nothing_ungathered(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "jobs.db")
    for life in range(1, 4):
        await store.open(lambda events: None)
        store.append([submitted(life)])
        await store.aclose()
    assert len(list(await store.open(lambda events: None))) == 3
    await store.aclose()


async def test_what_is_gathered_while_a_commit_fails_is_tried_again_once(tmp_path: Path) -> None:
    disk = CountingDisk()
    left = 1

    def fail_once(sql: str, done: bool) -> None:
        nonlocal left
        if sql.startswith("INSERT INTO events") and done and left:
            left -= 1
            raise error(sqlite3.SQLITE_IOERR_FSYNC)

    store = SqliteStore(tmp_path / "jobs.db", disk=disk)
    handed: list[ev.Event] = []
    told: list[int] = []

    def on_commit(events: Sequence[ev.Event]) -> None:
        told.extend(event.seq for event in events)
        del handed[: len(events)]

    def hand_over(event: ev.Event) -> None:
        handed.append(event)
        store.append([event])

    def on_failure() -> Sequence[ev.Event]:
        return list(handed)

    await store.open(on_commit, on_failure)
    disk.fault = lambda sql, done: None if done else fail_once(sql, True)  # before it is done: it is not in
    hand_over(submitted(1))
    # one by one, in whatever turn the failure comes to be told
    for seq in range(2, 200):
        await trio.lowlevel.checkpoint()
        hand_over(submitted(seq))
    await store.committed(199)
    assert left == 0
    assert told == list(range(1, 200))
    await store.aclose()
    assert len(list(await store.open(lambda events: None))) == 199
    await store.aclose()
