"""Real file systems: a small one that is full, and a read-only one.

They are mounted for the test, which needs Linux and root; elsewhere these tests are skipped. CI runs as root.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest
import trio
import trio.testing

from support.processes import run
from support.waiting import deadline
from trio_jobs import Queue, Service, SqliteStore, State, StoreError
from trio_jobs._stores.sqlite.check import check
from trio_jobs.testing.store_check import submitted

SIZE = 20_000_000  #: bytes: the WAL takes four million, and its contents must fit into the file too


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A folder on a small file system."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount("-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", str(folder))
    try:
        yield folder
    finally:
        run(["umount", "--lazy", folder], check=True)


def mount(*arguments: str) -> None:
    if sys.platform != "linux" or os.geteuid() != 0:
        pytest.skip("mounting needs Linux and root")
    done = run(["mount", *arguments])
    if done.returncode != 0:
        pytest.skip(f"mounting failed: {done.stderr.strip()}")


@attrs.frozen
class Order:
    text: str


FULL = r"the disk is full|no jobs are accepted now"

gates: list[trio.Event] = []
ended: list[str] = []  #: the orders that `wait` has finished


def make_service() -> Service:
    service = Service(buffer=10)

    @service.handler
    async def post(order: Order) -> int:
        return len(order.text)

    @service.handler
    async def wait(order: Order) -> str:
        await gates[0].wait()
        ended.append(order.text)
        return order.text * 200_000

    return service


def fill(folder: Path) -> Path:
    """Leave no free space."""
    filler = folder / "filler"
    with filler.open("wb", buffering=0) as file:
        for size in (100_000, 4096):
            try:
                while True:
                    file.write(bytes(size))
            except OSError:
                continue
    assert os.statvfs(folder).f_bavail == 0
    return filler


async def healthy(queue: Queue) -> None:
    with deadline("the store recovers"):
        async for _ in queue.events(after=0):
            if queue.health().store is None:
                return


async def test_a_job_that_ends_on_a_full_disk_is_committed_once_there_is_space(small: Path) -> None:
    gates[:] = [trio.Event()]
    del ended[:]
    async with make_service().open(journal=small / "jobs.db") as queue:
        running = await queue.submit("wait", Order("x"))
        async for _ in queue.events(after=0, jobs=[running.job_id], states=[State.PROCESSING]):
            break
        filler = fill(small)
        # the preallocated WAL has space for some of these: each is accepted or rejected
        accepted: list[str] = []
        with pytest.raises(StoreError, match=FULL):
            for n in range(300):
                receipt = await queue.submit("post", Order("x" * 100_000), key=str(n), delay=3600)
                accepted += [receipt.job_id]  # those before the one that raises
        assert len(accepted) < 300
        gates[0].set()
        await trio.testing.wait_all_tasks_blocked()
        assert ended == ["x"], "its handler runs to its end"
        for n in range(3):  # the result is larger than what was rejected; nothing else is committed before it
            with pytest.raises(StoreError, match=FULL):
                await queue.submit("post", Order("y"), key=f"refused {n}")
            assert "store" in queue.health().problems
        assert queue.get(running.job_id).state is State.PROCESSING, "uncommitted changes are not visible"
        assert os.statvfs(small).f_bavail == 0
        filler.unlink()
        assert await queue.result(running.job_id) == "x" * 200_000
        await healthy(queue)
        assert await queue.result((await queue.submit("post", Order("abc"))).job_id) == 3
        assert [job.id for job in queue.list(state=State.SCHEDULED, limit=1000)] == accepted
    async with make_service().open(journal=small / "jobs.db") as queue:
        assert [job.id for job in queue.list(state=State.SCHEDULED, limit=1000)] == accepted
        job = queue.get(running.job_id)
        assert (job.state, job.attempt_count) == (State.COMPLETED, 1), "it does not run again"
        assert await queue.result(running.job_id) == "x" * 200_000
    assert ended == ["x"]


async def test_a_backup_to_a_full_disk_fails_and_leaves_nothing(small: Path, tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "jobs.db")
    await store.open(lambda events: None)
    store.append([submitted(seq, payload=b'"' + b"x" * 250_000 + b'"') for seq in range(1, 101)])
    await store.committed(100)
    with pytest.raises(StoreError, match=r"backup .*the disk is full"):
        await store.backup(str(small / "copy.db"))
    assert list(small.iterdir()) == []
    assert store.trouble is None
    store.append([submitted(101)])
    await store.committed(101)
    await store.aclose()


async def test_a_full_disk_is_reported_in_one_line_for_a_new_journal(small: Path) -> None:
    fill(small)
    with pytest.raises(StoreError) as caught:
        await SqliteStore(small / "jobs.db").open(lambda events: None)
    assert "\n" not in str(caught.value)


async def test_a_read_only_journal_is_refused_in_one_line_and_can_be_checked(small: Path) -> None:
    store = SqliteStore(small / "jobs.db")
    await store.open(lambda events: None)
    store.append([submitted(1), submitted(2)])
    await store.aclose()
    mount("-o", "remount,ro", str(small))
    with pytest.raises(StoreError, match="cannot be") as caught:
        await SqliteStore(small / "jobs.db").open(lambda events: None)
    assert "\n" not in str(caught.value)
    found = check(small / "jobs.db")
    assert (found.damage, found.events, found.jobs) == (None, 2, {"pending": 2})
    mount("-o", "remount,rw", str(small))
    again = SqliteStore(small / "jobs.db")
    assert len(list(await again.open(lambda events: None))) == 2
    await again.aclose()
