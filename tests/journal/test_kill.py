"""A process under load is killed again and again: no acknowledged job is lost, and no work is done twice.

The work is not idempotent and the book accepts an entry twice, so only `verify` prevents a second one. In some hundred
kills the process submits jobs itself, as fast as possible. In two thousand it serves, and a job is acknowledged when a
client has read the answer from its websocket. At each kill that client has submits without an answer; it sends them
again, with the same keys, to the next process.
"""

from __future__ import annotations

import random
import sys
from collections import Counter
from pathlib import Path

import pytest
import trio

import trio_jobs
from support.processes import Process
from support.waiting import deadline
from trio_jobs import SqliteStore, State
from trio_jobs._engine.events import JobEvent
from trio_jobs._engine.jobs import FINAL
from trio_jobs._engine.projection import Projection
from trio_jobs._engine.transitions import STATE_AFTER

CHILD = Path(__file__).with_name("crash_child.py")


def start(tmp_path: Path, name: str) -> Process:
    return Process([sys.executable, CHILD, tmp_path / "jobs.db", tmp_path / "book", name], forked=True)


def run_and_kill(tmp_path: Path, name: str, after: int) -> list[str]:
    """Kill the process once it has acknowledged `after` submits; return the complete lines of its output."""
    process = start(tmp_path, name)
    lines = [process.out.line() for _ in range(after)]
    process.kill()
    done = process.finish()
    lines += done.stdout.splitlines(keepends=True)
    assert all(lines[:after]), f"it exited by itself: {done.stderr}"
    return [line.strip() for line in lines if line.endswith("\n")]


class Producers:
    """Four producers that submit to the current server. acknowledged: the ids of acknowledged jobs, by key."""

    def __init__(self) -> None:
        self.acknowledged: dict[str, str] = {}
        self._next = [0] * 4  #: of each producer; a submit without an answer is sent again

    async def submit_until_killed(self, process: Process, port: int, after: int) -> None:
        """Kill the process as soon as it has acknowledged `after` more submits."""
        enough = len(self.acknowledged) + after
        with deadline(f"{after} submits are acknowledged"):
            async with (
                trio_jobs.connect(f"ws://127.0.0.1:{port}/ws") as client,
                trio.open_nursery() as nursery,
            ):

                async def produce(name: int) -> None:
                    while True:
                        key = f"{name}/{self._next[name]}"
                        receipt = await client.submit("enter", {"n": self._next[name]}, key=key)
                        self.acknowledged[key] = receipt.job_id
                        self._next[name] += 1
                        if len(self.acknowledged) == enough:
                            process.kill()
                            nursery.cancel_scope.cancel()

                for name in range(4):
                    nursery.start_soon(produce, name)


async def serve_and_kill(tmp_path: Path, producers: Producers, after: int) -> None:
    with start(tmp_path, "serve") as process:
        port = await trio.to_thread.run_sync(process.out.line)
        assert port, "it exited by itself"
        await producers.submit_until_killed(process, int(port), after)
        done = await trio.to_thread.run_sync(process.finish)
        assert done.returncode == -9, f"it exited by itself: {done.stderr}"


async def check(tmp_path: Path, kills: int, seed: int) -> None:
    """The process submits jobs itself."""
    chance = random.Random(seed)
    acknowledged: list[str] = []
    for life in range(kills):
        acknowledged += run_and_kill(tmp_path, str(life), chance.randrange(1, 60))
    jobs = await finish(tmp_path)
    assert set(acknowledged) <= jobs.keys(), "an acknowledged job is lost"


async def check_served(tmp_path: Path, kills: int, seed: int) -> None:
    """Clients submit to the process."""
    chance = random.Random(seed)
    producers = Producers()
    for _ in range(kills):
        await serve_and_kill(tmp_path, producers, chance.randrange(1, 60))
    jobs = await finish(tmp_path)
    assert producers.acknowledged.items() <= jobs.items(), "an acknowledged job is lost or is another job"


async def finish(tmp_path: Path) -> dict[str, str]:
    """Let a last process finish all jobs and check the result; return the job ids by key."""
    end = start(tmp_path, "end")
    done = await trio.to_thread.run_sync(end.finish, 120)
    assert done.returncode == 0, done.stderr

    store, projection = SqliteStore(tmp_path / "jobs.db"), Projection()
    for event in await store.open(lambda events: None):
        projection.seq = event.seq - 1
        projection.apply(event)
    ends: Counter[str] = Counter()
    after = 0
    while events := await store.events(after, 1000):
        after = events[-1].seq
        ends.update(
            event.job for event in events if isinstance(event, JobEvent) and STATE_AFTER.get(type(event)) in FINAL
        )
    await store.aclose()
    records = projection.jobs.values()
    assert {record.state for record in records} == {State.COMPLETED}
    assert ends == Counter(record.id for record in records), "each job ends once"
    entered = Counter((tmp_path / "book").read_text().splitlines())
    assert set(entered.values()) == {1}, "nothing is entered twice"
    assert entered.keys() == {record.key for record in records}, (
        "the book has an entry for each completed job and no other"
    )
    return {record.key: record.id for record in records if record.key is not None}


async def test_acknowledged_jobs_survive_a_few_kills_and_run_once(tmp_path: Path) -> None:
    await check(tmp_path, 6, seed=1)


async def test_jobs_acknowledged_by_a_server_survive_a_few_kills_and_run_once(tmp_path: Path) -> None:
    await check_served(tmp_path, 6, seed=1)


@pytest.mark.campaign
@pytest.mark.parametrize("seed", range(10))
async def test_acknowledged_jobs_survive_hundreds_of_kills_and_run_once(tmp_path: Path, seed: int) -> None:
    await check(tmp_path, 50, seed)


@pytest.mark.campaign
@pytest.mark.parametrize("seed", range(40))
async def test_jobs_acknowledged_by_a_server_survive_thousands_of_kills_and_run_once(tmp_path: Path, seed: int) -> None:
    await check_served(tmp_path, 50, seed)
