"""trio-jobs with its default settings, except for the length of the channel where many jobs are submitted at once."""

from __future__ import annotations

import contextlib
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path

import trio

import trio_jobs
from benchmarks.peers.common import PAUSE, answer, rate, warm
from benchmarks.peers.trio_arrivals import arriving
from trio_jobs._engine import events as ev
from trio_jobs._runtime.feed import Feed
from trio_jobs._runtime.queue import runtime_of

started: dict[int, float] = {}


def service(buffer: int = 100) -> trio_jobs.Service:
    made = trio_jobs.Service(buffer=buffer)

    @made.handler
    async def nothing(number: int) -> None:
        pass

    @made.handler(idempotent=True)
    async def nothing_twice(number: int) -> None:
        pass

    @made.handler
    async def stamp(number: int) -> None:
        started[number] = time.perf_counter()

    return made


async def submit(queue: trio_jobs.Queue, jobs: int, kind: str = "nothing") -> None:
    """One producer; the jobs are done when this returns."""
    for number in range(jobs - 1):
        await queue.submit(kind, number)
    last = await queue.submit(kind, jobs)
    await queue.result(last.job_id)


async def memory(jobs: int, subscribers: int = 0) -> float:
    heard = 0

    async def follow(events: trio_jobs.EventStream) -> None:
        nonlocal heard
        async for _ in events:
            heard += 1

    async with trio.open_nursery() as nursery, service().open() as queue:
        for _ in range(subscribers):
            nursery.start_soon(follow, queue.events())
        await submit(queue, warm(jobs))
        began = time.perf_counter()
        await submit(queue, jobs)
        rated = rate(jobs, began)
    assert heard == subscribers * (3 * (jobs + warm(jobs)) + 1), heard
    return rated


@contextlib.contextmanager
def journal_in(folder: str) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir=folder) as there:
        yield Path(there) / "jobs.db"


async def durable(jobs: int, folder: str, kind: str = "nothing", producers: int = 1) -> float:
    """Submits are sequential for each producer; execution goes on beside them, as in any queue."""

    async def produce() -> None:
        await submit(queue, jobs // producers, kind)

    with journal_in(folder) as journal:
        async with service(buffer=max(100, producers)).open(journal=journal) as queue:
            await submit(queue, warm(jobs), kind)
            began = time.perf_counter()
            async with trio.open_nursery() as nursery:
                for _ in range(producers):
                    nursery.start_soon(produce)
            return rate(jobs // producers * producers, began)


async def closed_loop(jobs: int, folder: str) -> float:
    """Submit, wait for the result, submit the next: the median of one turn, as turns a second."""
    turns = []
    with journal_in(folder) as journal:
        async with service().open(journal=journal) as queue:
            await submit(queue, warm(jobs))
            for number in range(jobs):
                began = time.perf_counter()
                receipt = await queue.submit("nothing", number)
                await queue.result(receipt.job_id)
                turns.append(time.perf_counter() - began)
    return 1 / statistics.median(turns)


@contextlib.asynccontextmanager
async def opened(folder: str | None) -> AsyncIterator[trio_jobs.Queue]:
    with journal_in(folder) if folder is not None else contextlib.nullcontext() as journal:
        async with service().open(journal=journal) as queue:
            yield queue


async def latency(
    count: int, per_second: float | None, folder: str | None = None, wire: bool = False
) -> dict[str, list[float]]:
    """Seconds from the moment a job was due to be submitted until: its handler starts; a subscriber has been told that
    it was completed; the same over a websocket, in another process. And from the commit of an event until a subscriber
    in this process reads it."""
    due = [0.0] * count
    numbers: dict[str, int] = {}
    told: dict[str, float] = {}
    committed: dict[int, float] = {}
    notified: list[float] = []
    all_told = trio.Event()

    async def follow(events: trio_jobs.EventStream) -> None:
        async for event in events:
            if event.seq in committed:
                notified.append(time.perf_counter() - committed.pop(event.seq))
            if isinstance(event, ev.Completed):  # also before `submit` has returned
                told[event.job] = time.perf_counter()
                if len(told) == count:
                    all_told.set()
                    return

    async with opened(folder) as queue, trio.open_nursery() as nursery, contextlib.AsyncExitStack() as stack:
        await submit(queue, 500 if folder is None else 100)
        follower = None
        if wire:
            token = trio_jobs.Token("bench-" + "0" * 20)
            server = await stack.enter_async_context(trio_jobs.serve(queue, port=0, tokens=[token], metrics=False))
            follower = follow_from_afar(server.port, token.secret, count)
            assert follower.stdout is not None
            await trio.to_thread.run_sync(follower.stdout.readline)
        nursery.start_soon(follow, queue.events())
        note_commits(runtime_of(queue).feed, committed)
        if per_second is None:
            for number in range(count):
                await trio.sleep(PAUSE)
                due[number] = time.perf_counter()
                numbers[(await queue.submit("stamp", number)).job_id] = number
        else:
            async for at in arriving(count, per_second):
                number = len(numbers)
                due[number] = at
                numbers[(await queue.submit("stamp", number)).job_id] = number
        await all_told.wait()
        answers = {
            "starts": [started[number] - due[number] for number in range(count)],
            "told": [told[job] - due[number] for job, number in numbers.items()],
            "notified": notified,
        }
        if follower is not None:
            output, _ = await trio.to_thread.run_sync(follower.communicate)
            afar = json.loads(output)
            answers["told over a websocket"] = [afar[job] - due[number] for job, number in numbers.items()]
        nursery.cancel_scope.cancel()
    return answers


def note_commits(feed: Feed, committed: dict[int, float]) -> None:
    """Note from now on when the feed gets each event, by its number."""
    publish = feed.publish

    def noted(events: Sequence[ev.Event]) -> None:
        committed.update(dict.fromkeys([event.seq for event in events], time.perf_counter()))
        publish(events)

    feed.publish = noted  # type: ignore[method-assign] # what is measured begins there


def follow_from_afar(port: int, token: str, count: int) -> subprocess.Popen[bytes]:
    """A subscriber in another process; the clock that perf_counter reads is the machine's, the same in both."""
    arguments = json.dumps({"port": port, "token": token, "count": count})
    command = [sys.executable, "-m", "benchmarks.peers.ours", "afar", arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE)


async def afar(port: int, token: str, count: int) -> dict[str, float]:
    told: dict[str, float] = {}
    async with (
        trio_jobs.connect(f"ws://127.0.0.1:{port}/ws", token=token) as client,
        client.subscribe(kinds=["stamp"]) as updates,
    ):
        print("ready", flush=True)
        async for update in updates:
            if isinstance(update, trio_jobs.events.Completed):
                told[update.job] = time.perf_counter()
                if len(told) == count:
                    break
    return told


if __name__ == "__main__":
    answer(
        memory=lambda jobs, subscribers=0: trio.run(memory, jobs, subscribers),
        durable=lambda jobs, folder, kind="nothing", producers=1: trio.run(durable, jobs, folder, kind, producers),
        closed_loop=lambda jobs, folder: trio.run(closed_loop, jobs, folder),
        latency=lambda jobs, per_second, folder=None, wire=False: trio.run(latency, jobs, per_second, folder, wire),
        afar=lambda port, token, count: trio.run(afar, port, token, count),
    )
