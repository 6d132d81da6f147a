"""taskiq, in memory and on Redis.

In memory, `kiq` runs the task at once: as a task of asyncio (its default), or, with `await_inplace`, before it returns
(one at a time, its best). All results are kept (`max_stored_results=-1`), since they are the state of a job. On Redis:
the stream broker that its documentation recommends, or the list broker, which is faster and acknowledges nothing;
results in Redis.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Any

from taskiq import InMemoryBroker

from benchmarks.peers.common import ARRIVAL, PAUSE, answer, generator, rate, warm, worker_apart

logging.disable(logging.WARNING)


async def memory(jobs: int, in_place: bool) -> float:
    broker = InMemoryBroker(max_stored_results=-1, max_async_tasks=1, await_inplace=in_place)

    @broker.task
    async def nothing(number: int) -> None:
        pass

    await broker.startup()

    async def go(count: int) -> None:
        for number in range(count):
            await nothing.kiq(number)
            if not in_place and number % 100 == 99:
                await broker.wait_all()  # else a hundred thousand tasks of asyncio wait for one place
        await broker.wait_all()

    await go(warm(jobs))
    began = time.perf_counter()
    await go(jobs)
    rated = rate(jobs, began)
    await broker.shutdown()
    return rated


def on_redis(port: int, stream: bool) -> tuple[Any, Any]:
    from taskiq_redis import ListQueueBroker, RedisAsyncResultBackend, RedisStreamBroker

    url = f"redis://127.0.0.1:{port}"
    kind: Any = RedisStreamBroker if stream else ListQueueBroker
    broker = kind(url, queue_name=f"bench-{stream}").with_result_backend(RedisAsyncResultBackend(url))

    @broker.task("nothing")
    async def nothing(number: int) -> None:
        pass

    return broker, nothing


async def redis(jobs: int, port: int, stream: bool) -> float:
    """Its worker in a process of its own."""
    broker, nothing = on_redis(port, stream)
    await broker.startup()

    async def go(count: int) -> None:
        for number in range(count - 1):
            await nothing.kiq(number)
        last = await nothing.kiq(count)
        await last.wait_result(check_interval=0.001)

    with worker_apart("benchmarks.peers.taskiq_", port=port, stream=stream):
        await go(warm(jobs))
        began = time.perf_counter()
        await go(jobs)
        rated = rate(jobs, began)
    await broker.shutdown()
    return rated


async def work(port: int, stream: bool) -> None:
    from taskiq.api import run_receiver_task

    broker, _ = on_redis(port, stream)
    await run_receiver_task(broker, max_async_tasks=1, max_prefetch=100, run_startup=True)


async def latency(count: int, per_second: float | None) -> dict[str, list[float]]:
    broker = InMemoryBroker(max_stored_results=-1, max_async_tasks=1)
    due, started = [0.0] * count, [0.0] * count

    @broker.task
    async def stamp(number: int) -> None:
        started[number] = time.perf_counter()

    await broker.startup()
    if per_second is None:
        for number in range(count):
            await asyncio.sleep(PAUSE)
            due[number] = time.perf_counter()
            await stamp.kiq(number)
    else:
        with generator(count, per_second) as process:
            reader = asyncio.StreamReader()
            protocol = asyncio.StreamReaderProtocol(reader)
            await asyncio.get_running_loop().connect_read_pipe(lambda: protocol, process.stdout)
            for number in range(count):
                (due[number],) = ARRIVAL.unpack(await reader.readexactly(ARRIVAL.size))
                await stamp.kiq(number)
    await broker.wait_all()
    return {"starts": [after - before for before, after in zip(due, started, strict=True)]}


if __name__ == "__main__":
    answer(
        memory=lambda jobs, in_place: asyncio.run(memory(jobs, in_place)),
        redis=lambda jobs, port, stream: asyncio.run(redis(jobs, port, stream)),
        worker=lambda port, stream: asyncio.run(work(port, stream)),
        latency=lambda jobs, per_second: asyncio.run(latency(jobs, per_second)),
    )
