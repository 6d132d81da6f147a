"""The process that is killed while it works under load: `crash_child.py JOURNAL BOOK LIFE`.

LIFE "serve": serves a websocket and prints its port. "end": finishes all open jobs and exits. Any other: submits jobs
itself and prints the key of each acknowledged one.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import attrs
import trio

import trio_jobs
from trio_jobs import Done, JobContext, NotDone, Service, State

journal, book_path, life = sys.argv[1:]


@attrs.frozen
class Order:
    n: int


class Book:
    """A book without a uniqueness constraint: an entry made twice is there twice."""

    def __init__(self) -> None:
        self._fd = os.open(book_path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)

    def create(self, key: str) -> None:
        os.write(self._fd, f"{key}\n".encode())

    def find(self, key: str) -> bool:
        return key in Path(book_path).read_text().splitlines()


@contextmanager
def open_book() -> Iterator[Book]:
    yield Book()


def already_entered(book: Book, job: JobContext) -> Done | NotDone:
    assert job.key is not None
    return Done(job.key) if book.find(job.key) else NotDone()


service = Service(sdk=open_book, buffer=20, watchdog=None)


@service.handler(verify=already_entered)
def enter(book: Book, order: Order, job: JobContext) -> str:
    assert job.key is not None
    book.create(job.key)
    return job.key


async def produce(queue: trio_jobs.Queue, name: int) -> None:
    n = 0
    while True:
        key = f"{life}/{name}/{n}"
        await queue.submit(enter, Order(n), key=key)
        os.write(1, f"{key}\n".encode())
        n += 1


async def main() -> None:
    async with service.open(journal=journal) as queue:
        if life == "end":
            open_states = (State.PENDING, State.PROCESSING, State.RETRYING, State.SCHEDULED, State.IN_DOUBT)
            for state in open_states:
                for job in queue.list(state=state, limit=1000):
                    await queue.result(job.id)
            return
        if life == "serve":
            async with trio_jobs.serve(queue, port=0, tokens=None) as server:
                print(server.port, flush=True)
                await trio.sleep_forever()
        async with trio.open_nursery() as nursery:
            for name in range(4):
                nursery.start_soon(produce, queue, name)


trio.run(main)
