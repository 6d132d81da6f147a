"""The events of pruned jobs are deleted in few transactions, since each waits for its turn between two groups."""

from __future__ import annotations

import gc
import sqlite3
from collections.abc import Callable
from typing import Any, cast

import trio
from hypothesis import given
from hypothesis import strategies as st

from trio_jobs._engine.key_tombstones import KeyTombstone
from trio_jobs._engine.states import State
from trio_jobs._stores.sqlite import keys, rows
from trio_jobs._stores.sqlite.journal import Journal
from trio_jobs._stores.sqlite.pruning import JOBS_PER_TRANSACTION, TRANSACTIONS, prune
from trio_jobs._stores.sqlite.schema import create


class Deletions:
    """Has two events of each job, and records how many each transaction deletes."""

    oldest = 1

    def __init__(self, jobs: int) -> None:
        self.spans = {str(n): (2 * n + 1, 2 * n + 2) for n in range(jobs)}
        self.sizes: list[int] = []
        self.deleted: list[int] = []

    def find_events(self, jobs: list[str], first: int, last: int) -> dict[int, str]:
        return {seq: job for job, span in self.spans.items() for seq in span if job in jobs and first <= seq <= last}

    def prune(self, events: list[int], oldest: int, tombstones: object, activity: object) -> None:
        self.sizes.append(len(events))
        self.deleted += events


async def at_once(fn: Callable[[], Any]) -> Any:
    return fn()


@given(st.integers(1, 2500))
def test_many_jobs_are_deleted_in_larger_transactions_and_not_in_more(jobs: int) -> None:
    journal = Deletions(jobs)
    trio.run(prune, at_once, cast("Journal", journal), journal.spans, (), ())
    assert sorted(journal.deleted) == list(range(1, 2 * jobs + 1))
    assert len(journal.sizes) == min(-(-jobs // JOBS_PER_TRANSACTION), TRANSACTIONS)
    assert max(journal.sizes) <= 2 * max(JOBS_PER_TRANSACTION, -(-jobs // TRANSACTIONS))


def test_no_collection_begins_while_the_events_of_pruned_jobs_are_searched() -> None:
    """One begins when 700 objects (2,000 since Python 3.13) more were made than freed, and visits all that is young."""
    connection = sqlite3.connect(":memory:")
    connection.execute("CREATE TABLE events (seq INTEGER PRIMARY KEY, job TEXT)")
    connection.executemany("INSERT INTO events VALUES (?, ?)", [(seq, f"{seq // 3}") for seq in range(6000)])
    jobs = [f"{number}" for number in range(2000)]
    gc.collect()
    before = gc.get_stats()[0]["collections"]
    found = rows.find(connection, jobs, 1, 5998)
    assert gc.get_stats()[0]["collections"] == before
    assert found == {seq: f"{seq // 3}" for seq in range(1, 5999)}
    connection.close()


def test_tombstones_are_inserted_with_few_cursors_and_replace_those_of_the_same_keys() -> None:
    """`sqlite3` keeps a reference to each cursor until there are 200, and the garbage collector counts them."""
    connection = sqlite3.connect(":memory:", isolation_level=None)
    create(connection, "epoch")

    def tombstones(first: int, last: int) -> list[KeyTombstone]:
        names = (b"%016d" % number for number in range(first, last))
        return [KeyTombstone(name, f"job {first}", "", State.COMPLETED, 1.0) for name in names]

    assert keys.insert_tombstones(connection, tombstones(0, 10)) == 10
    gc.disable()
    try:
        twice = [*tombstones(5, 105), *tombstones(105, 106), *tombstones(105, 106)]
        before = gc.get_count()[0]
        added = keys.insert_tombstones(connection, twice)
        made = gc.get_count()[0] - before
    finally:
        gc.enable()
    assert (added, made < 50) == (96, True), made
    found = list(keys.read_tombstones(connection, "", 106))
    assert {int(one.name): one.job for one in found} == dict.fromkeys(range(5), "job 0") | {
        n: "job 5" if n < 105 else "job 105" for n in range(5, 106)
    }
    assert keys.insert_tombstones(connection, []) == 0
    connection.close()
