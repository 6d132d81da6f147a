"""A program that uses the public API. Type checkers accept it in their strict modes; it is never run."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime, timedelta
from typing import assert_type

import attrs
import trio

import trio_jobs
from trio_jobs import (
    CloseFailure,
    CompletedJob,
    Done,
    Fail,
    Job,
    JobContext,
    NotDone,
    Opening,
    Queue,
    Retry,
    SdkHandle,
    Service,
    Unknown,
)
from trio_jobs.ports import CallReport, Clock, Discard, SdkCall, SdkExecutor, Store


@attrs.frozen
class Invoice:
    folio: str
    cents: int


class Ledger:
    """The SDK."""

    def book(self, folio: str, cents: int) -> int:
        return cents

    def find(self, folio: str) -> int | None:
        return None


@contextmanager
def open_ledger() -> Iterator[Ledger]:
    yield Ledger()


@asynccontextmanager
async def open_ledger_in_trio() -> AsyncIterator[Ledger]:
    yield Ledger()


service = Service(
    sdk=open_ledger,
    executor="thread",
    buffer=10,
    max_waiting=100,
    open_timeout=5,
    open_retry=Retry(2, first=0.5),
    drain_timeout=1.5,
    on_stuck="stop",
    strict_order=True,
    max_crashes=2,
    renew_after_jobs=None,
    watchdog=None,
    job_retention={"failed": 86400.0},
    max_finished_jobs=10,
    max_keys=None,
    unhandled_jobs="hold",
)


def was_booked(ledger: Ledger, job: JobContext) -> Done | NotDone | Unknown:
    voucher = None if job.key is None else ledger.find(job.key)
    return NotDone() if voucher is None else Done(voucher)


@service.handler(on_doubt="hold")
def book(ledger: Ledger, invoice: Invoice) -> int:
    return ledger.book(invoice.folio, invoice.cents)


@service.handler(kind="book carefully", attempt_timeout=30, retry=Retry(1), verify=was_booked, on_doubt="retry")
def book_carefully(ledger: Ledger, invoice: Invoice, job: JobContext) -> int:
    if invoice.cents < 0:
        raise Fail("the amount is negative")
    return ledger.book(invoice.folio, invoice.cents)


@service.handler(idempotent=True)
async def look_up(ledger: SdkHandle, folio: str) -> str:
    await ledger.call(Ledger.find, folio)
    return folio


assert_type(book(Ledger(), Invoice("A-1", 5)), int)

without_sdk = Service()


@without_sdk.handler
def double(number: int) -> int:
    return number * 2


assert_type(double(3), int)

in_trio = Service(async_sdk=open_ledger_in_trio)


def page_the_operator(job: Job) -> None: ...


async def mail_the_names(failure: CloseFailure) -> None:
    assert_type(failure.jobs, tuple[CompletedJob, ...])


service.on("in_doubt", page_the_operator)
service.on("close_failed", mail_the_names)


class MyExecutor:
    """Conforms to `SdkExecutor`."""

    session = 0
    is_open = False
    inside = False

    def take_close_problem(self) -> str | None: ...

    async def open(self, opening: Opening) -> None: ...

    async def call(self, call: SdkCall) -> CallReport:
        report, _ = call.run(Ledger())
        return report

    def handle(self, enter: Callable[[], Awaitable[None]], leave: Callable[[], None]) -> Ledger:
        return Ledger()

    def abandon(self) -> None: ...

    async def close(self, discard: Discard | None = None) -> bool:
        return True

    async def stop(self) -> None: ...


def make_executor(nursery: trio.Nursery) -> SdkExecutor:
    return MyExecutor()


with_an_executor = Service(executor=make_executor)

store: Store = trio_jobs.MemoryStore()
clock: Clock = trio_jobs.TrioClock()


async def use(queue: Queue) -> None:
    receipt = await queue.submit(book, Invoice("A-1", 11600), key="A-1")
    assert_type(receipt.job_id, str)
    assert_type(receipt.created, bool)
    await queue.submit("book carefully", {"folio": "A-1", "cents": 5}, delay=3, by="import")
    await queue.submit(look_up, "A-1", due_at=datetime.now(UTC) + timedelta(days=1))
    voucher: int = await queue.result(receipt.job_id)
    job = queue.get(receipt.job_id)
    assert_type(job.state, trio_jobs.State)
    assert job.attempts is not None
    assert_type(job.attempts[0].entered, bool)
    await queue.cancel(receipt.job_id)
    await queue.resolve(receipt.job_id, "done", result=voucher)
    await queue.pause("lunch", by="Ana")
    await queue.resume(by="Ana")
    async for event in queue.events():
        print(event)


async def main() -> None:
    async with service.open(journal="jobs.db") as queue:
        await use(queue)
        token = trio_jobs.Token("secret" * 6)
        async with trio_jobs.serve(queue, tokens=[token]) as server:
            assert_type(server, trio_jobs.Server)
            async with trio_jobs.connect(server.url, token="secret" * 6) as client:
                assert_type(client, trio_jobs.Client)
                receipt = await client.submit("book", {"folio": "A-1", "cents": 5}, key="A-1")
                assert_type(receipt.job_id, str)
                await client.result(receipt.job_id)
                async with client.subscribe() as updates:
                    assert_type(updates, trio_jobs.Subscription)
                    async for update in updates:
                        print(update)
    print(queue.report)


if __name__ == "__main__":
    trio.run(main)
