"""The service of `examples/gnucash_book.py` with faults, run by a Python that has GnuCash.

`gnucash_child.py COUNT GROUP SEED` books COUNT invoices in the book of its folder, and prints each step.
`gnucash_child.py new` makes the book, `... stay` is inside, `... enter` tries to be. Replies of posting and of saving
are lost, before and after the work is done, with chances that the seed decides.
"""

from __future__ import annotations

import datetime as dt
import json
import random
import sys
import time
from collections.abc import Callable
from typing import Any

import gnucash
import gnucash_book as example
import trio
from gnucash.gnucash_core_c import ACCT_TYPE_INCOME, ACCT_TYPE_RECEIVABLE

import trio_jobs


def make_book() -> None:
    session = gnucash.Session(f"xml://{example.FILE}", gnucash.SessionOpenMode.SESSION_NEW_STORE)
    for name, kind in (("Customers", ACCT_TYPE_RECEIVABLE), ("Sales", ACCT_TYPE_INCOME)):
        account = gnucash.Account(session.book)
        session.book.get_root_account().append_child(account)
        account.SetName(name)
        account.SetType(kind)
        account.SetCommodity(session.book.get_table().lookup("CURRENCY", "EUR"))
    session.save()
    session.end()


def with_faults(step: str, fn: Callable[..., Any], chance: random.Random, likely: float) -> Callable[..., Any]:
    def faulty(*args: Any) -> Any:
        print(step, flush=True)
        fault = chance.random() / likely
        if fault < 0.5:
            raise ConnectionError(f"{step}: refused")
        result = fn(*args)
        print(f"{step} done", flush=True)
        if fault < 1:
            raise ConnectionError(f"{step}: the reply is lost")
        return result

    return faulty


def save_in_a_second_of_its_own(book: Any) -> None:
    """As `min_interval=1.1` does for groups of one job: GnuCash refuses two saves in one second."""
    time.sleep(1.05 - time.time() % 1)
    book.session.save()


def make_service(group: int, chance: random.Random) -> trio_jobs.Service:
    example.Book.post = with_faults("post", example.Book.post, chance, 0.1 if group == 1 else 0.02)
    save = save_in_a_second_of_its_own if group > 1 else lambda book: book.session.save()
    service = trio_jobs.Service(
        sdk=example.open_book,
        save=with_faults("save", save, chance, 0.1),
        save_after_jobs=group,
        save_after=0.5,
        min_interval=1.1 if group == 1 else 0,
        seat_lock=f"{example.FILE}-seat",
        max_crashes=1000,  # the test kills more often than a bad job does
    )
    retry = trio_jobs.Retry(1000, waits=[0.01])
    service.handler(verify=example.already_posted, retry=retry, attempt_timeout=60)(example.post_invoice)
    return service


async def book_all(count: int, service: trio_jobs.Service) -> None:
    async with service.open(journal="jobs.db") as queue:
        invoices = [example.Invoice(dt.date(2026, 3, 1), 100 + n) for n in range(count)]
        jobs = []
        for n, invoice in enumerate(invoices):
            jobs.append((await queue.submit(example.post_invoice, invoice, key=f"A-{n}")).job_id)
        for job in jobs:
            await queue.result(job, in_doubt="raise")
        attempts = sum(queue.get(job).attempt_count for job in jobs)
        print(json.dumps({"attempts": attempts}), flush=True)


async def stay_inside() -> None:
    """Until the standard input ends."""
    async with make_service(1, random.Random(0)).open(journal="jobs.db"):
        print("inside", flush=True)
        await trio.to_thread.run_sync(sys.stdin.read)


async def try_to_enter() -> None:
    """With another journal, and a factory that would break the lock."""

    def break_in() -> Any:
        print("broken into")
        return example.open_book(trio_jobs.Opening("start", 1, unclean=True))

    service = trio_jobs.Service(sdk=break_in, open_timeout=0.3, seat_lock=f"{example.FILE}-seat")
    try:
        async with service.open(journal="other.db"):
            pass
    except trio_jobs.SdkInUse:
        print("in use")


if __name__ == "__main__":
    if sys.argv[1] == "new":
        make_book()
    elif sys.argv[1] == "stay":
        trio.run(stay_inside)
    elif sys.argv[1] == "enter":
        trio.run(try_to_enter)
    else:
        count, group, seed = map(int, sys.argv[1:])
        trio.run(book_all, count, make_service(group, random.Random(seed)))
