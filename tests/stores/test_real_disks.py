"""The system's own trouble, not made up: a small file system that is full, and one that can only be read.

They are mounted for the test, which takes Linux and root; elsewhere these tests say so. CI is root.
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
from trio_jobs import Queue, Service, SqliteStore, State, StoreError
from trio_jobs._stores.sqlite.check import check
from trio_jobs.testing.stores import submitted

SIZE = 20_000_000  #: bytes: the log takes four of them, and what is in it has to fit into the file too


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A folder on a file system of its own."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount("-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", str(folder))
    try:
        yield folder
    finally:
        run(["umount", "--lazy", folder], check=True)


def mount(*arguments: str) -> None:
    if sys.platform != "linux" or os.geteuid() != 0:
        pytest.skip("mounting takes Linux and root")
    done = run(["mount", *arguments])
    if done.returncode != 0:
        pytest.skip(f"nothing can be mounted here: {done.stderr.strip()}")


@attrs.frozen
class Order:
    text: str


FULL = r"the disk is full|no jobs are accepted now"

sessions: list[trio.Event] = []
ended: list[str] = []  #: what `wait` has done


def make_service() -> Service:
    service = Service(buffer=10)

    @service.handler
    async def post(order: Order) -> int:
        return len(order.text)

    @service.handler
    async def wait(order: Order) -> str:
        await sessions[0].wait()
        ended.append(order.text)
        return order.text * 200_000

    return service


def fill(folder: Path) -> Path:
    """Leave no room at all."""
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
    with trio.fail_after(30):
        async for _ in queue.events(after=0):
            if queue.health().store is None:
                return


async def test_a_job_that_ends_while_the_disk_is_full_has_ended_and_is_told_once_there_is_room(small: Path) -> None:
    sessions[:] = [trio.Event()]
    del ended[:]
    async with make_service().open(journal=small / "jobs.db") as queue:
        running = await queue.submit("wait", Order("x"))
        async for _ in queue.events(after=0, jobs=[running.job_id], states=[State.PROCESSING]):
            break
        filler = fill(small)
        # the log has room for a while, which it was given at the start: these are kept, or refused, never both
        kept: list[str] = []
        with pytest.raises(StoreError, match=FULL):
            for n in range(300):
                receipt = await queue.submit("post", Order("x" * 100_000), key=str(n), delay=3600)
                kept += [receipt.job_id]  # those before the one that raises
        assert len(kept) < 300
        sessions[0].set()
        await trio.testing.wait_all_tasks_blocked()
        assert ended == ["x"], "its handler runs to its end"
        for n in range(3):  # the end is longer than what was just refused; until it is in, nothing else is
            with pytest.raises(StoreError, match=FULL):
                await queue.submit("post", Order("y"), key=f"refused {n}")
            assert "store" in queue.health().problems
        assert queue.get(running.job_id).state is State.PROCESSING, "what is not on the disk is not told"
        assert os.statvfs(small).f_bavail == 0
        filler.unlink()
        assert await queue.result(running.job_id) == "x" * 200_000
        await healthy(queue)
        assert await queue.result((await queue.submit("post", Order("abc"))).job_id) == 3
        assert [job.id for job in queue.list(state=State.SCHEDULED, limit=1000)] == kept
    async with make_service().open(journal=small / "jobs.db") as queue:
        assert [job.id for job in queue.list(state=State.SCHEDULED, limit=1000)] == kept
        job = queue.get(running.job_id)
        assert (job.state, len(job.attempts)) == (State.COMPLETED, 1), "it is not done again"
        assert await queue.result(running.job_id) == "x" * 200_000
    assert ended == ["x"]


async def test_a_backup_for_which_there_is_no_room_leaves_nothing_and_harms_nothing(
    small: Path, tmp_path: Path
) -> None:
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


async def test_no_room_for_a_new_journal_is_said_in_one_line(small: Path) -> None:
    fill(small)
    with pytest.raises(StoreError) as caught:
        await SqliteStore(small / "jobs.db").open(lambda events: None)
    assert "\n" not in str(caught.value)


async def test_a_journal_that_can_only_be_read_is_refused_in_one_line_and_can_be_looked_into(small: Path) -> None:
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
