"""A queue with jobs in all states, as a support desk finds it on a bad day."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterator
from typing import Literal

import trio
from attrs import frozen

import trio_jobs
from support.page import Served, served

__all__ = ["in_trouble", "screens"]


@frozen
class Invoice:
    folio: str
    customer: str
    total_cents: int
    currency: Literal["EUR", "SEK"] = "EUR"
    note: str | None = None


class LedgerError(Exception):
    """An error of the ledger."""


def make_service() -> trio_jobs.Service:
    @contextlib.asynccontextmanager
    async def open_ledger() -> AsyncIterator[str]:
        yield "ledger"

    service = trio_jobs.Service(async_sdk=open_ledger, renew_after_error=False, drain_timeout=0.1)

    async def was_sent(ledger: str, job: trio_jobs.JobContext) -> trio_jobs.Verdict:
        return trio_jobs.Unknown()

    async def make_voucher() -> str:
        return "V"

    @service.handler(on_doubt="hold")
    async def post_invoice(ledger: str, invoice: Invoice, job: trio_jobs.JobContext) -> str:
        if invoice.customer == "Initech":
            raise trio_jobs.Fail("the customer is blocked since 2026-11-02")
        if invoice.customer == "Hooli":
            await job.step("create the voucher", make_voucher)
            raise LedgerError("the connection to the ledger was reset while it was posting")
        return f"V-{invoice.folio}"

    @service.handler(verify=was_sent, attempt_timeout=0.05)
    async def send_invoice(ledger: str, address: str) -> str:
        if address.endswith(".invalid"):
            await trio.sleep_forever()
        return "250 accepted"

    @service.handler(retry=trio_jobs.Retry(5, waits=(3600.0,)))
    async def print_label(ledger: str, printer: str) -> None:
        if printer == "warehouse-2":
            raise ConnectionError("the printer is out of paper")

    @service.handler(idempotent=True)
    async def close_month(ledger: str, month: str, job: trio_jobs.JobContext) -> None:
        job.progress(312, 890, "account 4010 of 8999")
        await trio.sleep_forever()

    return service


@contextlib.contextmanager
def in_trouble() -> Iterator[Served]:
    """A served queue with jobs in all states."""
    customers = ["Acme", "Globex", "Umbrella", "Initech", "Soylent", "Hooli", "Stark", "Wayne"]
    with served(make_service()) as place:
        jobs = []
        for at in range(64):
            customer = customers[at % (7 if at < 40 else 5)]
            if customer == "Hooli" and at > 20:
                customer = "Acme"
            invoice = Invoice(f"2026-{1000 + at}", customer, 4900 + 317 * at)
            labels = {"company": "north" if at % 3 else "south"}
            jobs.append(place.submit("post_invoice", invoice, key=invoice.folio, labels=labels, by="webshop"))
        jobs.append(place.submit("send_invoice", "billing@vehement.invalid", key="mail 2026-1007"))
        jobs += [place.submit("send_invoice", f"billing@{name.lower()}.example") for name in customers]
        place.settled(*jobs)
        place.submit("print_label", "warehouse-2", key="label 2026-1003")
        for at in range(3):
            place.submit("print_label", "warehouse-1", key=f"label of tomorrow {at + 1}", delay=86_400.0)
        place.submit("close_month", "2026-10", key="2026-10")
        for at in range(9):
            place.submit(
                "post_invoice", Invoice(f"2026-{2000 + at}", "Acme", 9900), key=f"2026-{2000 + at}", by="webshop"
            )
        cancelled = place.submit("post_invoice", Invoice("2026-2099", "Stark", 100), key="2026-2099", by="webshop")

        async def act() -> None:
            await place.queue.cancel(cancelled, by="ada", note="the customer has withdrawn the order")

        place.run(act)
        yield place


def screens(place: Served) -> dict[str, str]:
    """The screens by their names, with their paths."""

    def newest(state: str) -> str:
        return place.call(
            lambda: next(iter(place.queue.list(state=trio_jobs.State(state), order="newest", limit=1))).id
        )

    return {
        "overview": "#/",
        "jobs": "#/jobs",
        "search": "#/jobs?q=state%3Afailed%2Cin_doubt%20kind%3Apost_invoice",
        "job": f"#/job/{newest('failed')}",
        "done": f"#/job/{newest('completed')}",
        "doubt": "#/doubt",
        "failed": "#/failed?error=Fail",
        "activity": "#/activity",
        "submit": "#/submit?kind=post_invoice",
        "gone": "#/job/00000000",
    }
