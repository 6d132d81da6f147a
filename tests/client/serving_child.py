"""A served queue on a journal, in a process of its own: it works under load until it is killed, or told to stop.

`serving_child.py JOURNAL SECRET LIFE` says its port, and submits without end; a line on its standard input stops it.
With LIFE "end" it finishes what is left and one job more, and says the number of the last event, which completes it.
"""

from __future__ import annotations

import contextlib
import sys

import trio

import trio_jobs
from trio_jobs import State

service = trio_jobs.Service(buffer=30, watchdog=None)


@service.handler(idempotent=True)
async def double(number: int) -> int:
    return number * 2


@service.handler(idempotent=True)
async def fail(why: str) -> None:
    raise trio_jobs.Fail(why)


async def produce(queue: trio_jobs.Queue, life: str, name: int) -> None:
    n = 0
    while True:
        if n % 7:
            await queue.submit(double, n, key=f"{life}/{name}/{n}")
        else:
            await queue.submit(fail, "because", key=f"{life}/{name}/{n}")
        n += 1
        await trio.sleep(0.005)  # enough events for each life, and not so many that following them all takes long


async def main(journal: str, secret: str, life: str) -> None:
    async with (
        service.open(journal=journal) as queue,
        trio_jobs.serve(queue, port=0, tokens=[trio_jobs.Token(secret)]) as server,
        trio.open_nursery() as nursery,
    ):
        print(server.port, flush=True)
        if life == "end":
            for state in (State.PENDING, State.PROCESSING):
                for job in queue.list(state=state, limit=1000):
                    with contextlib.suppress(trio_jobs.JobFailed):
                        await queue.result(job.id)
            await queue.result((await queue.submit(double, 0, key="the last")).job_id)
            print(queue.statistics().seq, flush=True)
        else:
            for name in range(3):
                nursery.start_soon(produce, queue, life, name)
        await trio.to_thread.run_sync(sys.stdin.readline)
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    trio.run(main, sys.argv[1], sys.argv[2], sys.argv[3])
