"""trio-jobs with what takes long: the longest pause of the event loop in each, in seconds of its thread's CPU time."""

from __future__ import annotations

import contextlib
import gc
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path

import trio

import trio_jobs
from benchmarks.peers.common import answer
from benchmarks.peers.ours import submit

IDLE = 3.0
PINGS = 20.0  # seconds in which each connection is pinged once


def service(keep: int = 1_000_000) -> trio_jobs.Service:
    made = trio_jobs.Service(max_finished_jobs=keep, watchdog=None)

    @made.handler(idempotent=True)
    async def nothing(number: int) -> None:
        pass

    return made


class Longest:
    """The longest turn of the event loop: a task that only measures runs once in each."""

    seconds = 0.0


@contextlib.asynccontextmanager
async def measured() -> AsyncIterator[Longest]:
    longest = Longest()

    async def turns() -> None:
        while True:
            before = time.thread_time()
            await trio.lowlevel.checkpoint()
            longest.seconds = max(longest.seconds, time.thread_time() - before)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(turns)
        await trio.lowlevel.checkpoint()
        yield longest
        gc.collect()
        for _ in range(2):  # else the task that measures may be cancelled before it has run
            await trio.lowlevel.checkpoint()
        nursery.cancel_scope.cancel()


async def read_all(events: trio_jobs.EventStream) -> None:
    async for _ in events:
        pass


def load(jobs: int, finished: int, keep: int = 1_000_000, readers: int = 0, served: bool = False) -> float:
    with contextlib.ExitStack() as stack:
        if served:  # the modules of the server are in no other row
            from trio_jobs._cli.serve import modules_not_collected

            stack.enter_context(modules_not_collected())
        return trio.run(loaded, jobs, finished, keep, readers)


async def loaded(jobs: int, finished: int, keep: int, readers: int) -> float:
    async with trio.open_nursery() as nursery, service(keep).open() as queue:
        await submit(queue, finished)
        for _ in range(readers):
            nursery.start_soon(read_all, queue.events())
        gc.collect()
        async with measured() as longest:
            await submit(queue, jobs)
        nursery.cancel_scope.cancel()
    return longest.seconds


async def behind(jobs: int) -> float:
    async with service().open() as queue:
        await submit(queue, jobs)
        async with measured() as longest:
            left = 3 * jobs
            async for _ in queue.events(after=0):
                left -= 1
                if not left:
                    break
    return longest.seconds


async def backup(jobs: int, folder: str) -> float:
    with tempfile.TemporaryDirectory(dir=folder) as there:
        async with service().open(journal=Path(there) / "jobs.db") as queue:
            await submit(queue, jobs)
            async with measured() as longest, trio.open_nursery() as nursery:
                nursery.start_soon(submit, queue, jobs // 10)
                await queue.backup(Path(there) / "copy.db")
    return longest.seconds


async def idle(clients: int) -> dict[str, float]:
    """clients: WebSocket connections, each with a subscription. All are pinged once in the time measured."""
    import resource  # not on Windows

    from benchmarks.peers.fan import TOKEN, readers, subscribed

    seconds = PINGS if clients else IDLE
    async with contextlib.AsyncExitStack() as stack:
        queue = await stack.enter_async_context(trio_jobs.Service().open())
        server = await stack.enter_async_context(trio_jobs.serve(queue, port=0, tokens=[TOKEN]))
        if clients:
            await readers(stack, server.port, clients, subscribe=True)
            await subscribed(queue, clients)
        await trio.sleep(1)
        before = resource.getrusage(resource.RUSAGE_SELF)
        await trio.sleep(seconds)
        after = resource.getrusage(resource.RUSAGE_SELF)
        assert server.connections == clients
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"wakes": (after.ru_nvcsw - before.ru_nvcsw) / seconds, "cpu": cpu / seconds * 1000}


if __name__ == "__main__":
    answer(
        load=load,
        behind=lambda jobs: trio.run(behind, jobs),
        backup=lambda jobs, folder: trio.run(backup, jobs, folder),
        idle=lambda clients: trio.run(idle, clients),
    )
