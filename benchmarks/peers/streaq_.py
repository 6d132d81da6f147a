"""streaQ on Redis, one task at a time (`concurrency=1`), with its worker in another process.

On Trio like trio-jobs, or on asyncio with uvloop. `batch` jobs are submitted with one call: 1 as on the first page of
its documentation, 100 as its best.
"""

from __future__ import annotations

import logging
import time
from typing import Any

import anyio
from streaq import Worker

from benchmarks.peers.common import answer, rate, warm, worker_apart

logging.disable(logging.WARNING)


def make(port: int, backend: Any) -> tuple[Worker[None], Any]:
    worker: Worker[None] = Worker(
        redis_url=f"redis://127.0.0.1:{port}",
        concurrency=1,
        prefetch=100,
        queue_name=f"bench-{backend}",
        handle_signals=False,
        anyio_backend=backend,
        anyio_kwargs=options(backend),
    )

    @worker.task
    async def nothing(number: int) -> None:
        pass

    return worker, nothing


def options(backend: str) -> dict[str, Any]:
    return {"use_uvloop": True} if backend == "asyncio" else {}


async def redis(jobs: int, port: int, backend: str, batch: int) -> float:
    worker, nothing = make(port, backend)

    async def go(count: int) -> None:
        for start in range(0, count, batch):
            tasks = [nothing.enqueue(number) for number in range(start, min(start + batch, count))]
            if batch == 1:
                await tasks[0]
            else:
                await worker.enqueue_many(tasks)
        await tasks[-1].result(timeout=60)

    with worker_apart("benchmarks.peers.streaq_", port=port, backend=backend):
        async with worker:
            await go(warm(jobs))
            began = time.perf_counter()
            await go(jobs)
            return rate(jobs, began)


if __name__ == "__main__":
    answer(
        redis=lambda jobs, port, backend, batch=1: anyio.run(
            redis, jobs, port, backend, batch, backend=backend, backend_options=options(backend)
        ),
        worker=lambda port, backend: make(port, backend)[0].run_sync(),
    )
