"""A served queue on a journal, in a process of its own, that is killed.

`page_child.py JOURNAL PORT SECRET` says its port. A line with a number on its standard input submits so many jobs, and
is answered with a line when they are done.
"""

from __future__ import annotations

import contextlib
import itertools
import sys

import trio

import trio_jobs

service = trio_jobs.Service(buffer=500, watchdog=None)


@service.handler(idempotent=True)
async def work(number: int) -> int:
    if number % 10 == 0:
        raise trio_jobs.Fail("divisible by ten")
    return number


async def main(journal: str, port: int, secret: str) -> None:
    async with (
        service.open(journal=journal) as queue,
        trio_jobs.serve(queue, port=port, tokens=[trio_jobs.Token(secret)]) as server,
    ):
        print(server.port, flush=True)
        numbers = itertools.count(queue.statistics().seq)
        while line := await trio.to_thread.run_sync(sys.stdin.readline, abandon_on_cancel=True):
            receipts = []
            for _ in range(int(line) // 250 or 1):
                batch = [
                    trio_jobs.NewJob(work, number, key=str(number))
                    for number in itertools.islice(numbers, min(250, int(line)))
                ]
                receipts += await queue.submit_many(batch)
            for receipt in receipts:
                with contextlib.suppress(trio_jobs.JobFailed):
                    await queue.result(receipt.job_id)
            print("done", flush=True)


if __name__ == "__main__":
    trio.run(main, sys.argv[1], int(sys.argv[2]), sys.argv[3])
