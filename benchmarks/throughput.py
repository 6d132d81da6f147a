"""Jobs a second in memory, beside a bare Trio loop in the same run, as a ratio.

The bare loop is the least that could be called a queue: a memory channel of the same capacity, one consumer, a cancel
scope around each call of the handler, one mutable record a job. It checks no payload, keeps no history, has no keys and
promises nothing. Rounds are interleaved, since machines are noisy; the median is told, with the lowest and highest.
"""

from __future__ import annotations

import argparse
import gc
import platform
import statistics
import time
from collections.abc import Awaitable, Callable

import attrs
import trio

import trio_jobs


@attrs.define
class Record:
    number: int
    state: str = "pending"


async def bare(jobs: int) -> float:
    send, receive = trio.open_memory_channel[Record](100)
    records: dict[int, Record] = {}
    done = trio.Event()

    async def handler(number: int) -> None:
        pass

    async def consume() -> None:
        async for record in receive:
            record.state = "processing"
            with trio.CancelScope():
                await handler(record.number)
            record.state = "completed"
        done.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(consume)
        began = time.perf_counter()
        async with send:
            for number in range(jobs):
                record = records[number] = Record(number)
                await send.send(record)
        await done.wait()
        return jobs / (time.perf_counter() - began)


service = trio_jobs.Service()


@service.handler
async def nothing(payload: int) -> None:
    pass


async def queue(jobs: int, *, subscribed: bool = False) -> float:
    async def follow(events: trio_jobs.Subscription) -> None:
        async for _ in events:
            pass

    async with trio.open_nursery() as nursery, service.open() as running:
        if subscribed:
            nursery.start_soon(follow, running.events())
        began = time.perf_counter()
        for number in range(jobs):
            await running.submit(nothing, number)
        await running.drain()
        return jobs / (time.perf_counter() - began)


async def subscribed_queue(jobs: int) -> float:
    return await queue(jobs, subscribed=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--jobs", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    contestants: dict[str, Callable[[int], Awaitable[float]]] = {
        "bare Trio loop": bare,
        "trio-jobs": queue,
        "trio-jobs, one reader": subscribed_queue,
    }
    speeds: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(options.rounds):
        for name, contestant in contestants.items():
            gc.collect()
            speeds[name].append(trio.run(contestant, options.jobs))
    print(f"Python {platform.python_version()}, trio {trio.__version__}, {options.jobs} jobs, {options.rounds} rounds")
    limit = statistics.median(speeds["bare Trio loop"])
    for name, rates in speeds.items():
        middle = statistics.median(rates)
        print(
            f"{name:24}{middle:10,.0f} jobs/s  ({min(rates):,.0f} to {max(rates):,.0f})  {middle / limit:5.2f} of bare"
        )


if __name__ == "__main__":
    main()
