"""dramatiq with its StubBroker and one worker thread.

As documented (with all standard middleware), without results, and with the result of each message in its stub backend.
`plain` removes the middleware that a no-op does not need (time limits, callbacks, pipelines), which is its best.
"""

from __future__ import annotations

import logging
import threading
import time
from typing import Any

import dramatiq
from dramatiq.brokers.stub import StubBroker
from dramatiq.results import Results
from dramatiq.results.backends import StubBackend

from benchmarks.peers.common import PAUSE, answer, arrivals, rate, warm

logging.disable(logging.WARNING)


def make(keep: bool, plain: bool) -> Any:
    broker = StubBroker(middleware=[]) if plain else StubBroker()
    if keep:
        broker.add_middleware(Results(backend=StubBackend(), store_results=True))
    broker.emit_after("process_boot")
    dramatiq.set_broker(broker)
    return broker


def memory(jobs: int, keep: bool, plain: bool = False) -> float:
    broker = make(keep, plain)

    @dramatiq.actor
    def nothing(number: int) -> None:
        pass

    worker = dramatiq.Worker(broker, worker_timeout=100, worker_threads=1)
    worker.start()

    def go(count: int) -> None:
        for number in range(count):
            nothing.send(number)
        broker.join(nothing.queue_name)

    go(warm(jobs))
    began = time.perf_counter()
    go(jobs)
    rated = rate(jobs, began)
    worker.stop(timeout=1000)
    return rated


def latency(count: int, per_second: float | None) -> dict[str, list[float]]:
    broker = make(False, False)
    due, started = [0.0] * count, [0.0] * count
    done = threading.Event()

    @dramatiq.actor
    def stamp(number: int) -> None:
        started[number] = time.perf_counter()
        if number == count - 1:
            done.set()

    worker = dramatiq.Worker(broker, worker_timeout=100, worker_threads=1)
    worker.start()
    if per_second is None:
        for number in range(count):
            time.sleep(PAUSE)
            due[number] = time.perf_counter()
            stamp.send(number)
    else:
        began = time.perf_counter()
        for number, at in enumerate(arrivals(count, per_second)):
            due[number] = began + at
            if (left := due[number] - time.perf_counter()) > 0:
                time.sleep(left)
            stamp.send(number)
    done.wait()
    worker.stop(timeout=1000)
    return {"starts": [after - before for before, after in zip(due, started, strict=True)]}


if __name__ == "__main__":
    answer(memory=memory, latency=lambda jobs, per_second: latency(jobs, per_second))
