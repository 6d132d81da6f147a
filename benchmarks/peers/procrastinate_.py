"""procrastinate on PostgreSQL, one job at a time; finished jobs are kept (its default).

`batch` jobs are deferred with one call: 1 as on the first page of its documentation, 100 as its best. The worker starts
when all are deferred, which is faster for it than both at once.
"""

from __future__ import annotations

import asyncio
import logging
import time

import procrastinate

from benchmarks.peers.common import answer, rate

logging.disable(logging.WARNING)


async def postgres(jobs: int, dsn: str, batch: int) -> float:
    app = procrastinate.App(connector=procrastinate.PsycopgConnector(conninfo=dsn, min_size=2, max_size=4))

    @app.task(name=f"nothing{batch}", queue=f"bench{batch}")
    async def nothing(number: int) -> None:
        pass

    async with app.open_async():
        if not await app.check_connection_async():
            await app.schema_manager.apply_schema_async()
        began = time.perf_counter()
        if batch == 1:
            for number in range(jobs):
                await nothing.defer_async(number=number)
        else:
            for start in range(0, jobs, batch):
                await nothing.batch_defer_async(*({"number": n} for n in range(start, min(start + batch, jobs))))
        await app.run_worker_async(queues=[f"bench{batch}"], wait=False, concurrency=1, install_signal_handlers=False)
        return rate(jobs, began)


if __name__ == "__main__":
    answer(postgres=lambda jobs, dsn, batch: asyncio.run(postgres(jobs, dsn, batch)))
