"""The example of docs/testing.md: a handler that books before it checks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from attrs import frozen

import trio_jobs
from trio_jobs import JobContext


@frozen
class Invoice:
    folio: str
    cents: int


class Ledger:
    """The accounting SDK. Its vouchers survive the process."""

    def __init__(self) -> None:
        self.vouchers: list[tuple[str, str]] = []

    def book(self, folio: str, cents: int, reference: str) -> str:
        self.vouchers.append((folio, reference))
        return f"voucher of {folio}"

    def check_period(self) -> None:
        """Asks the SDK's server whether the month is open."""

    def find(self, reference: str) -> str | None:
        return next((f"voucher of {folio}" for folio, found in self.vouchers if found == reference), None)

    @contextmanager
    def session(self) -> Iterator[Ledger]:
        yield self


def make_service(ledger: Ledger) -> trio_jobs.Service:
    service = trio_jobs.Service(sdk=ledger.session)

    @service.handler(retry=trio_jobs.Retry())  # repeat an attempt that raised
    def post_invoice(ledger: Ledger, invoice: Invoice, job: JobContext) -> str:
        voucher = ledger.book(invoice.folio, invoice.cents, job.id)
        ledger.check_period()
        return voucher

    return service


def make_corrected_service(ledger: Ledger) -> trio_jobs.Service:
    """The corrected handler: it checks first, and a verify finds what an earlier attempt booked."""
    service = trio_jobs.Service(sdk=ledger.session)

    def already_booked(ledger: Ledger, job: JobContext) -> trio_jobs.Done | trio_jobs.NotDone:
        voucher = ledger.find(job.id)
        return trio_jobs.Done(voucher) if voucher else trio_jobs.NotDone()

    @service.handler(verify=already_booked)
    def post_invoice(ledger: Ledger, invoice: Invoice, job: JobContext) -> str:
        ledger.check_period()
        return ledger.book(invoice.folio, invoice.cents, job.id)

    return service
