"""What contestants share: how they are asked, how they answer, when jobs arrive."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


def answer(**actions: Callable[..., Any]) -> None:
    """Do what the command line asks, and print the answer as the last line of the output."""
    action, arguments = sys.argv[1], json.loads(sys.argv[2])
    told = actions[action](**arguments)
    print("\n" + json.dumps(told), flush=True)


def warm(jobs: int) -> int:
    """How many jobs to do before the clock starts."""
    return max(jobs // 10, 10)


def rate(jobs: int, began: float) -> float:
    """Jobs a second since `began`."""
    return jobs / (time.perf_counter() - began)


def arrivals(count: int, per_second: float) -> list[float]:
    """When jobs arrive, in seconds from the start: at random, independently, so many a second on average.

    The same in every process, so that all contestants get the same bursts.
    """
    chance = random.Random(7)
    at, times = 0.0, []
    for _ in range(count):
        at += chance.expovariate(per_second)
        times.append(at)
    return times


@contextmanager
def worker_apart(module: str, **arguments: Any) -> Iterator[None]:
    """The contestant's worker in a process of its own, as the docs of queues behind a server advise."""
    process = subprocess.Popen([sys.executable, "-m", module, "worker", json.dumps(arguments)])
    try:
        yield
    finally:
        process.kill()
        process.wait()
