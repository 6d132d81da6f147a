"""oban for Python on PostgreSQL, a queue with a limit of one.

It fetches when it is notified of a job and when one has ended, at most every 5 ms (`debounce_interval`, its default);
`debounce` 0 is its best. Finished jobs are kept (its default). It runs on uvloop, which it installs itself.
"""

from __future__ import annotations

import asyncio
import logging
import time

from oban import Oban, worker
from oban.schema import install_sql

from benchmarks.peers.common import answer, rate

logging.disable(logging.WARNING)
left = 0
done = asyncio.Event()


@worker(queue="bench")
class Nothing:
    async def process(self, job: object) -> None:
        global left
        left -= 1
        if not left:
            done.set()


async def postgres(jobs: int, dsn: str, debounce: float, batch: int) -> float:
    global left
    left = jobs
    pool = await Oban.create_pool(dsn, min_size=4, max_size=10)
    async with pool.connection() as connection:
        there = await connection.execute("SELECT to_regclass('public.oban_jobs')")
        if (await there.fetchone())[0] is None:
            await connection.execute(install_sql())
    async with Oban(pool=pool, queues={"bench": {"limit": 1, "debounce_interval": debounce}}) as oban:
        began = time.perf_counter()
        for start in range(0, jobs, batch):
            await oban.enqueue_many([Nothing.new({"number": n}) for n in range(start, min(start + batch, jobs))])
        await done.wait()
        rated = rate(jobs, began)
    await pool.close()
    return rated


if __name__ == "__main__":
    import uvloop

    answer(postgres=lambda jobs, dsn, debounce, batch: uvloop.run(postgres(jobs, dsn, debounce, batch)))
