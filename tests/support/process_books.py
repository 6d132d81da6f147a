"""Books that only one process may have open, for services that are killed: see `test_left_process`.

Files in the current folder: "books" has a line for each posting, "pids" the processes that had the books open, and
"two" exists if two had them open at once.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import random
from collections.abc import Iterator
from pathlib import Path

from trio_jobs import Done, JobContext, NotDone, Opening, Retry, Service


class Books:
    """The SDK."""

    def post(self, number: int) -> None:
        with Path("books").open("a") as file:
            file.write(f"{number}\n")

    def has(self, number: str) -> bool:
        return Path("books").exists() and number in Path("books").read_text().splitlines()


@contextlib.contextmanager
def open_books(opening: Opening) -> Iterator[Books]:
    with Path("pids").open("a") as file:
        file.write(f"{os.getpid()}\n")
    with Path("lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # ends with the process
        except BlockingIOError:
            Path("two").touch()
        yield Books()


def is_posted(books: Books, job: JobContext) -> Done | NotDone:
    return Done("found") if books.has(job.key or "") else NotDone()


service = Service(sdk=open_books, executor="process", max_crashes=1000)


@service.handler(attempt_timeout=0.2, verify=is_posted, retry=Retry(1000, waits=[0]))
def post(books: Books, number: int) -> str:
    wait = ctypes.PyDLL(None).usleep  # with the interpreter locked
    wait(random.randrange(40_000))  # the moment of a kill
    books.post(number)
    if random.random() < 0.05:
        wait(60_000_000)
    wait(random.randrange(40_000))
    return "posted"
