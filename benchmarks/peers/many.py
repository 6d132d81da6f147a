"""trio-jobs with many jobs: how much memory they take, and how the operations slow down.

One process grows: at each size it measures its memory and then times 1,000 further jobs.
"""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import trio
import trio.testing

import trio_jobs
from benchmarks.peers.common import answer
from benchmarks.peers.memory import resident

BATCH = 1000


def service(**settings: Any) -> trio_jobs.Service:
    made = trio_jobs.Service(**settings)

    @made.handler
    async def nothing(number: int) -> None:
        pass

    return made


def each(times: int, do: Callable[[], Any]) -> float:
    """Microseconds for each, on average."""
    began = time.perf_counter()
    for _ in range(times):
        do()
    return (time.perf_counter() - began) / times * 1e6


async def known(sizes: list[int]) -> dict[str, list[float]]:
    """So many finished jobs are known. Microseconds for: one submit, its publishing included; bringing one to its end;
    looking one up; the newest hundred; the numbers. Bytes for all of them."""
    measured: dict[str, list[float]] = {name: [] for name in ("submit", "run", "get", "list", "statistics", "memory")}
    batch = min(BATCH, sizes[0])
    async with service(buffer=2 * batch, max_finished_jobs=max(sizes) + 10 * batch).open() as queue:
        count = 0

        async def more(jobs: int) -> tuple[float, float, str]:
            nonlocal count
            await queue.pause()
            receipt: trio_jobs.Receipt | None = None

            def submit() -> None:
                nonlocal count, receipt
                receipt = queue.submit_nowait("nothing", count)
                count += 1

            took = each(jobs, submit)
            assert receipt is not None
            began = time.perf_counter()
            await queue.resume()
            await queue.result(receipt.job_id)
            return took, (time.perf_counter() - began) / jobs * 1e6, receipt.job_id

        await more(batch)
        start, at_start = resident(), count
        for size in sizes:
            while count - at_start < size:  # the batch that was timed at the size before is among them
                await more(min(batch, size - (count - at_start)))
            measured["memory"].append(max(resident() - start, 1))
            took, ran, job_id = await more(batch)
            measured["submit"].append(took)
            measured["run"].append(ran)
            measured["get"].append(each(batch, lambda: queue.get(job_id)))  # noqa: B023 - called at once
            measured["list"].append(each(20, lambda: queue.list(limit=100)))
            measured["statistics"].append(each(20, queue.statistics))
    return measured


async def waiting(sizes: list[int], folder: str) -> dict[str, list[float]]:
    """So many accepted jobs wait in a journal; another process, with nothing in its memory yet, opens it again."""
    measured: dict[str, list[float]] = {name: [] for name in ("open", "memory", "submit")}
    for size in sizes:
        with tempfile.TemporaryDirectory(dir=folder) as there:
            journal = Path(there) / "jobs.db"
            async with service(buffer=size).open(journal=journal) as queue:
                await queue.pause()
                for start in range(0, size, BATCH):
                    await queue.submit_many(
                        [trio_jobs.NewJob("nothing", number) for number in range(start, min(start + BATCH, size))]
                    )
            arguments = json.dumps({"journal": str(journal), "size": size})
            done = subprocess.run(
                [sys.executable, "-m", "benchmarks.peers.many", "reopen", arguments],
                capture_output=True,
                text=True,
                check=True,
            )
            for name, value in json.loads(done.stdout.splitlines()[-1]).items():
                measured[name].append(value)
    return measured


async def reopen(journal: str, size: int) -> dict[str, float]:
    """Seconds until the queue is there; bytes it then takes; microseconds for one submit, of a hundred synced at
    once."""
    before = resident()
    began = time.perf_counter()
    async with service(max_waiting=2 * size + 1000).open(journal=journal) as queue:
        opened = time.perf_counter() - began
        taken = max(resident() - before, 1)
        assert queue.statistics().jobs[trio_jobs.State.PENDING] == size
        later = [trio_jobs.NewJob("nothing", number, delay=9999.0) for number in range(100)]
        began = time.perf_counter()
        await queue.submit_many(later)
        submit = (time.perf_counter() - began) / 100 * 1e6
    return {"open": opened, "memory": taken, "submit": submit}


async def subscribers(count: int) -> float:
    """Bytes for each event stream of all events in the process, while it waits."""

    async def follow(events: trio_jobs.EventStream) -> None:
        async for _ in events:
            pass

    async with trio.open_nursery() as nursery, service().open() as queue:
        for _ in range(10):
            nursery.start_soon(follow, queue.events())
        await trio.testing.wait_all_tasks_blocked()
        before = resident()
        for _ in range(count):
            nursery.start_soon(follow, queue.events())
        await trio.testing.wait_all_tasks_blocked()
        after = resident()
        nursery.cancel_scope.cancel()
    return (after - before) / count


async def connections(count: int) -> float:
    """Bytes in the server for each websocket subscription of all events."""
    from benchmarks.peers import fan

    async with AsyncExitStack() as stack:
        queue = await stack.enter_async_context(service().open())
        server = await stack.enter_async_context(trio_jobs.serve(queue, port=0, tokens=[fan.TOKEN], metrics=False))
        await fan.readers(stack, server.port, 10, subscribe=True)
        await fan.subscribed(queue, 10)
        before = resident()
        await fan.readers(stack, server.port, count, subscribe=True)
        await fan.subscribed(queue, 10 + count)
        after = resident()
    return (after - before) / count


if __name__ == "__main__":
    logging.disable(logging.WARNING)  # it is said of each stop how many jobs it leaves in the journal
    answer(
        known=lambda sizes: trio.run(known, sizes),
        waiting=lambda sizes, folder: trio.run(waiting, sizes, folder),
        reopen=lambda journal, size: trio.run(reopen, journal, size),
        subscribers=lambda jobs: trio.run(subscribers, jobs),
        connections=lambda jobs: trio.run(connections, jobs),
    )
