"""GnuCash in a process of its own: the first call hangs, and the process is killed with the book open."""

from __future__ import annotations

import datetime as dt
import threading
import time
from typing import Any

import gnucash_book as example
import trio

import trio_jobs

service = trio_jobs.Service(
    sdk=example.open_book, executor="process", min_interval=1.1, seat_lock=f"{example.FILE}-seat"
)


@service.handler(verify=example.already_posted, attempt_timeout=1)
def post(book: Any, cents: int, job: trio_jobs.JobContext) -> bool:
    book.post(job.key, dt.date(2026, 3, 1), cents)
    if job.attempt == 1 and job.key == "A-0":
        time.sleep(1000)  # as a call does that hangs
    book.session.save()
    return threading.current_thread() is threading.main_thread()


async def main() -> None:
    async with service.open(journal="jobs.db") as queue:
        for key in ("A-0", "A-1"):
            receipt = await queue.submit(post, 100, key=key)
            on_main_thread = await queue.result(receipt.job_id, in_doubt="raise")
            print(key, on_main_thread, *(str(attempt.outcome) for attempt in queue.get(receipt.job_id).attempts or ()))


if __name__ == "__main__":
    trio.run(main)
