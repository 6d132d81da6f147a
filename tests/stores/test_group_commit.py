"""Which events share a sync."""

from __future__ import annotations

import signal
import sqlite3
from collections.abc import Sequence
from pathlib import Path

import pytest
import trio
from faulty_disks import FaultyDisk, error

from trio_jobs import NewJob, Service, SqliteStore
from trio_jobs._engine import events as ev
from trio_jobs._stores.group_commit import MAX_TURNS, GroupCommit
from trio_jobs.testing.store_check import submitted


class CountingDisk(FaultyDisk):
    """Counts the transactions with events, in `groups`."""

    def __init__(self) -> None:
        super().__init__()
        self.groups = 0
        self.fault = self._count

    def _count(self, sql: str, done: bool) -> None:
        self.groups += sql.startswith("INSERT INTO events") and not done


async def test_events_that_one_commit_causes_share_the_next_sync(tmp_path: Path) -> None:
    """They are a turn of the loop apart, like the end of an attempt and the start of the next one."""
    disk = CountingDisk()
    store = SqliteStore(tmp_path / "jobs.db", disk=disk)
    committed: list[int] = []
    await store.open(lambda events: committed.extend(event.seq for event in events))
    for seq in range(1, 60, 2):
        store.append([submitted(seq)])
        await trio.lowlevel.checkpoint()
        store.append([submitted(seq + 1)])
        await store.committed(seq + 1)
    assert disk.groups == 30
    assert committed == list(range(1, 61))
    await store.aclose()


class Groups:
    """The groups of a `GroupCommit`, and the turn of the loop, counted from 1, in which each was passed on."""

    def __init__(self, max_turns: int = MAX_TURNS) -> None:
        self.events: list[list[int]] = []
        self.turns: list[int] = []
        self.turn = 1
        self.group_commit = GroupCommit(self._commit, max_turns)

    def _commit(self, events: Sequence[ev.Event]) -> None:
        self.events.append([event.seq for event in events])
        self.turns.append(self.turn)

    async def next_turn(self) -> None:
        await trio.lowlevel.checkpoint()
        self.turn += 1


async def test_a_busy_loop_commits_after_a_few_turns() -> None:
    groups = Groups()
    groups.group_commit.start()
    for seq in range(1, 2 * MAX_TURNS + 1):
        groups.group_commit.add([submitted(seq)])
        await groups.next_turn()
    assert groups.events == [list(range(1, MAX_TURNS + 1)), list(range(MAX_TURNS + 1, 2 * MAX_TURNS + 1))]
    assert groups.turns == [MAX_TURNS, 2 * MAX_TURNS]
    groups.group_commit.stop()


async def test_a_single_caller_does_not_wait_for_others() -> None:
    """The group is passed on in the turn in which the loop has nothing left to do."""
    groups = Groups(max_turns=1000)
    groups.group_commit.start()
    groups.group_commit.add([submitted(1)])
    await trio.to_thread.run_sync(lambda: None)
    assert groups.events == [[1]]
    groups.group_commit.stop()


async def test_stopping_commits_the_current_group_once_and_nothing_after_it() -> None:
    groups = Groups()
    groups.group_commit.start()
    groups.group_commit.add([submitted(1)])
    groups.group_commit.stop()
    groups.group_commit.stop()
    groups.group_commit.add([submitted(2)])
    for _ in range(2 * MAX_TURNS):
        await groups.next_turn()
    assert groups.events == [[1]]


class TransactionDisk(FaultyDisk):
    """Counts transactions with events, also those of groups that are too large for one statement."""

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
async def test_submit_many_is_one_commit(tmp_path: Path, count: int) -> None:
    """Also for more events than fit into a statement, or into a group that is collected."""
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


async def test_a_job_in_an_idle_queue_needs_two_syncs(tmp_path: Path) -> None:
    """One for its acceptance and start, one for its end."""
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


async def test_a_close_commits_what_was_appended(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "jobs.db")
    for seq in range(1, 4):
        await store.open(lambda events: None)
        store.append([submitted(seq)])
        await store.aclose()
    assert len(list(await store.open(lambda events: None))) == 3
    await store.aclose()


async def test_events_gathered_while_a_commit_fails_are_committed_once(tmp_path: Path) -> None:
    disk = CountingDisk()
    left = 1

    def fail_once(sql: str, done: bool) -> None:
        nonlocal left
        if sql.startswith("INSERT INTO events") and done and left:
            left -= 1
            raise error(sqlite3.SQLITE_IOERR_FSYNC)

    store = SqliteStore(tmp_path / "jobs.db", disk=disk)
    uncommitted: list[ev.Event] = []
    committed: list[int] = []

    def on_commit(events: Sequence[ev.Event]) -> None:
        committed.extend(event.seq for event in events)
        del uncommitted[: len(events)]

    def append(event: ev.Event) -> None:
        uncommitted.append(event)
        store.append([event])

    def on_failure() -> Sequence[ev.Event]:
        return list(uncommitted)

    await store.open(on_commit, on_failure)
    disk.fault = lambda sql, done: None if done else fail_once(sql, True)  # before the insert: it has no effect
    append(submitted(1))
    # one by one: the failure is reported in some turn in between
    for seq in range(2, 200):
        await trio.lowlevel.checkpoint()
        append(submitted(seq))
    await store.committed(199)
    assert left == 0
    assert committed == list(range(1, 200))
    await store.aclose()
    assert len(list(await store.open(lambda events: None))) == 199
    await store.aclose()


class InterruptedGroups(GroupCommit):
    """Ctrl-C comes when a group was removed."""

    def discard(self) -> None:
        super().discard()
        signal.raise_signal(signal.SIGINT)


def test_ctrl_c_in_a_task_that_reads_loses_no_group() -> None:
    """A task that reads the journal passes on what was appended before."""
    groups: list[Sequence[ev.Event]] = []

    async def main() -> None:
        group_commit = InterruptedGroups(groups.append)
        group_commit.add([submitted(1)])
        group_commit.flush()
        await trio.sleep_forever()

    with pytest.raises(KeyboardInterrupt):
        trio.run(main)
    assert groups == [[submitted(1)]]
