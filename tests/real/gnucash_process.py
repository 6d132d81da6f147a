"""GnuCash in a process of its own, with calls that hang and hold the interpreter, so that only a kill ends them.

`gnucash_process.py hang`: the first call hangs after it has saved; prints what became of two calls, and their seconds.
`gnucash_process.py FIRST COUNT STAYS`: submits COUNT invoices; then stays, or books all that were ever submitted.
Files in the current folder: "pids" has the processes that had the book open, and "two" exists if two had it at once.
"""

from __future__ import annotations

import contextlib
import ctypes
import datetime as dt
import fcntl
import os
import random
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gnucash_book as example
import trio

import trio_jobs


@contextlib.contextmanager
def open_book(opening: trio_jobs.Opening) -> Iterator[Any]:
    with Path("pids").open("a") as file:
        file.write(f"{os.getpid()}\n")
    with Path("lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # ends with the process
        except BlockingIOError:
            Path("two").touch()
        with example.open_book(opening) as book:
            yield book


service = trio_jobs.Service(
    sdk=open_book, executor="process", min_interval=1.1, seat_lock=f"{example.FILE}-seat", max_crashes=1000
)


def hang() -> None:
    """Hold the interpreter: the function of C is called with it."""
    while True:
        ctypes.PyDLL(None).sleep(1000)


@service.handler(verify=example.already_posted, attempt_timeout=1)
def post(book: Any, cents: int, job: trio_jobs.JobContext) -> bool:
    book.post(job.key, dt.date(2026, 3, 1), cents)
    book.session.save()
    if job.attempt == 1 and job.key == "A-0":
        hang()
    return threading.current_thread() is threading.main_thread()


@service.handler(verify=example.already_posted, attempt_timeout=1, retry=trio_jobs.Retry(1000, waits=[0]))
def post_or_hang(book: Any, cents: int, job: trio_jobs.JobContext) -> None:
    book.post(job.key, dt.date(2026, 3, 1), cents)
    if random.random() < 0.05:
        hang()
    book.session.save()
    if random.random() < 0.05:
        hang()


async def book_two() -> None:
    async with service.open(journal="jobs.db") as queue:
        for key in ("A-0", "A-1"):
            receipt = await queue.submit(post, 100, key=key)
            on_main_thread = await queue.result(receipt.job_id, in_doubt="raise")
            attempts = queue.get(receipt.job_id).attempts or ()
            print(key, on_main_thread, *(str(attempt.outcome) for attempt in attempts))
            for attempt in attempts:
                assert attempt.ended_at is not None
                print(key, f"{(attempt.ended_at - attempt.started_at).total_seconds():.2f} s")


async def book_many(first: int, count: int, *, stays: bool) -> None:
    async with service.open(journal="jobs.db") as queue:
        for number in range(first, first + count):
            await queue.submit(post_or_hang, 100 + number, key=f"A-{number}")
        print("submitted", flush=True)
        if stays:
            await trio.sleep_forever()
        for number in range(first):  # those that were not accepted before a kill are submitted now
            receipt = await queue.submit(post_or_hang, 100 + number, key=f"A-{number}")
            await queue.result(receipt.job_id, in_doubt="raise")


if __name__ == "__main__":
    if sys.argv[1] == "hang":
        trio.run(book_two)
    else:
        first, count, stays = map(int, sys.argv[1:])
        trio.run(lambda: book_many(first, count, stays=bool(stays)))
