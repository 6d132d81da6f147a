"""huey with a worker thread in the same process.

`consumer`: its Consumer with one worker thread, as documented, beside the producer. `drained`: all tasks are enqueued,
then a loop runs `huey.execute(huey.dequeue())` in the same thread, which is what its worker does without thread
switches: its best in memory. Tasks return None, of which huey stores nothing; `keep` stores each result (`store_none`),
so that the state of a task can be queried.
"""

from __future__ import annotations

import logging
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from huey import MemoryHuey, RedisHuey, SqliteHuey
from huey.consumer import Consumer

from benchmarks.peers.common import PAUSE, answer, arrivals, rate, warm, worker_apart

logging.getLogger("huey").setLevel(logging.ERROR)


def throughput(huey: Any, jobs: int, consumer: bool, **settings: Any) -> float:
    done = threading.Event()
    last = -1

    @huey.task()
    def nothing(number: int) -> None:
        if number == last:
            done.set()

    def drain() -> None:
        while (task := huey.dequeue()) is not None:
            huey.execute(task)

    def go(count: int) -> None:
        nonlocal last
        last = count - 1
        done.clear()
        for number in range(count):
            nothing(number)
        if not consumer:
            drain()
        done.wait()

    workers = Consumer(huey, workers=1, periodic=False, **settings)
    if consumer:
        start(workers)
    go(warm(jobs))
    began = time.perf_counter()
    go(jobs)
    rated = rate(jobs, began)
    workers.stop_flag.set()
    return rated


def start(consumer: Any) -> None:
    """`Consumer.run` without its signal handlers, which belong to the main thread."""
    for _, thread in consumer.worker_threads:
        thread.start()


def memory(jobs: int, consumer: bool, keep: bool = False) -> float:
    return throughput(MemoryHuey("bench", store_none=keep), jobs, consumer, initial_delay=0.001, max_delay=0.001)


def sqlite(jobs: int, folder: str, consumer: bool, keep: bool = False) -> float:
    with tempfile.TemporaryDirectory(dir=folder) as there:
        huey = SqliteHuey("bench", filename=str(Path(there) / "huey.db"), fsync=True, store_none=keep)
        return throughput(huey, jobs, consumer, initial_delay=0.001, max_delay=0.001)


def on_redis(port: int) -> Any:
    huey = RedisHuey("bench", port=port)  # blocking pops: its docs' default, no polling

    @huey.task()
    def nothing(number: int) -> int:
        return number  # kept as the result: the state of the job

    return huey, nothing


def redis(jobs: int, port: int) -> float:
    """Its consumer in a process of its own."""
    huey, nothing = on_redis(port)
    huey.storage.flush_all()

    def go(count: int) -> None:
        for number in range(count - 1):
            nothing(number)
        last = nothing(count)
        while last.get() is None:
            time.sleep(0.001)

    with worker_apart("benchmarks.peers.huey_", port=port):
        go(warm(jobs))
        began = time.perf_counter()
        go(jobs)
        return rate(jobs, began)


def work(port: int) -> None:
    Consumer(on_redis(port)[0], workers=1, periodic=False).run()


def latency(count: int, per_second: float | None, poll: float) -> dict[str, list[float]]:
    """poll: seconds that the worker sleeps when there is nothing to do (its docs' default: 0.1, growing to 10)."""
    huey = MemoryHuey("bench")
    due, started = [0.0] * count, [0.0] * count
    done = threading.Event()

    @huey.task()
    def stamp(number: int) -> None:
        started[number] = time.perf_counter()
        if number == count - 1:
            done.set()

    consumer = Consumer(huey, workers=1, periodic=False, initial_delay=poll, max_delay=max(poll, 0.001), backoff=1.15)
    start(consumer)
    if per_second is None:
        for number in range(count):
            time.sleep(max(PAUSE, poll * 1.37))
            due[number] = time.perf_counter()
            stamp(number)
    else:
        began = time.perf_counter()
        for number, at in enumerate(arrivals(count, per_second)):
            due[number] = began + at
            if (left := due[number] - time.perf_counter()) > 0:
                time.sleep(left)
            stamp(number)
    done.wait()
    consumer.stop_flag.set()
    return {"starts": [after - before for before, after in zip(due, started, strict=True)]}


if __name__ == "__main__":
    answer(
        memory=memory,
        sqlite=sqlite,
        redis=redis,
        latency=lambda jobs, per_second, poll: latency(jobs, per_second, poll),
        worker=work,
    )
