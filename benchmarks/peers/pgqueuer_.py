"""pgqueuer with its in-memory adapter.

`single`: one job at a time, as documented (`concurrency_limit=1`), enqueued and fetched one by one (with larger batches
and this limit, version 1.6 does not end). Otherwise enqueued in one call and fetched in batches of 100 that run
concurrently: its best, but with another guarantee.
"""

from __future__ import annotations

import asyncio
import logging
import time

from pgqueuer import PgQueuer
from pgqueuer.types import QueueExecutionMode

from benchmarks.peers.common import answer, rate

logging.disable(logging.WARNING)


async def memory(jobs: int, single: bool) -> float:
    queue = PgQueuer.in_memory()
    done = 0

    @queue.entrypoint("nothing", concurrency_limit=1 if single else 0)
    async def nothing(job: object) -> None:
        nonlocal done
        done += 1

    began = time.perf_counter()
    if single:
        for number in range(jobs):
            await queue.qm.queries.enqueue("nothing", str(number).encode())
    else:
        payloads = [str(number).encode() for number in range(jobs)]
        await queue.qm.queries.enqueue(["nothing"] * jobs, payloads, [0] * jobs)
    await queue.qm.run(batch_size=1 if single else 100, mode=QueueExecutionMode.drain)
    assert done == jobs, done
    return rate(jobs, began)


if __name__ == "__main__":
    answer(memory=lambda jobs, single: asyncio.run(memory(jobs, single)))
