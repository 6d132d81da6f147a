"""A served queue on a journal, in a process of its own, until it is killed.

`event_source_child.py JOURNAL PORT ORIGIN` prints its port, the epoch and the number of the last event. Browsers
connect again after a tenth of a second.
"""

from __future__ import annotations

import sys
from unittest import mock

import trio

import trio_jobs
from trio_jobs._runtime.queue import runtime_of

service = trio_jobs.Service(watchdog=None)


@service.handler(idempotent=True)
async def double(number: int) -> int:
    return number * 2


async def main(journal: str, port: int, origin: str) -> None:
    async with (
        service.open(journal=journal) as queue,
        trio_jobs.serve(queue, port=port, tokens=None, origins=[origin]) as server,
    ):
        print(server.port, runtime_of(queue).event_log.store.epoch, runtime_of(queue).feed.seq, flush=True)
        await trio.sleep_forever()


if __name__ == "__main__":
    with mock.patch.multiple("trio_jobs._server.sse", RETRY=100, JITTER=0):
        trio.run(main, sys.argv[1], int(sys.argv[2]), sys.argv[3])
