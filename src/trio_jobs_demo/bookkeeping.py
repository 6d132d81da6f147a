"""The service of the demo: invoices in, one balanced voucher each, in a ledger that takes one caller at a time."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path

import attrs

import trio_jobs
from trio_jobs_demo.invoices import Invoice, InvoiceError
from trio_jobs_demo.ledger import AccountBalance, AlreadyBooked, BookLocked, Books, Ledger, VoucherRefused
from trio_jobs_demo.trouble import CrashingLedger, Script, TroubledLedger
from trio_jobs_demo.vouchers import voucher_for

__all__ = ["Bookkeeping", "Totals"]


@attrs.frozen
class Totals:
    """What the book holds: all its vouchers, and what they come to on each account."""

    vouchers: int
    balances: tuple[AccountBalance, ...]


@attrs.define(eq=False)
class Bookkeeping:
    """A book and the service that books in it.

    script: troubles to be staged, by reference. crash_at: the create call after which the process kills itself, counted
    from 1; the voucher is booked by then, and nobody has been told. opened, closed, threads: what became of the
    ledger's sessions.
    """

    book: Path
    script: Script = attrs.field(factory=dict)
    one_voucher_per_reference: bool = True
    crash_at: int | None = None
    opened: int = 0
    closed: int = 0
    threads: set[int] = attrs.field(factory=set)

    @contextlib.contextmanager
    def open_ledger(self) -> Iterator[Books]:
        """The SDK session: from here to the end on one thread."""
        ledger = Ledger.open(self.book, self.one_voucher_per_reference)
        self.opened += 1
        self.threads.add(threading.get_ident())
        try:
            books: Books = TroubledLedger(ledger, self.script) if self.script else ledger
            yield books if self.crash_at is None else CrashingLedger(books, self.crash_at)
        finally:
            ledger.close()
            self.closed += 1
            self.threads.add(threading.get_ident())

    def service(self, *, min_interval: float = 0.0, wait: float = 0.25) -> trio_jobs.Service:
        """min_interval: seconds of rest between two calls. wait: seconds before the first retry, doubled for each
        further one."""
        service = trio_jobs.Service(
            sdk=self.open_ledger,
            min_interval=min_interval,
            open_retry=trio_jobs.Retry(on=BookLocked),  # somebody may be about to close it
        )
        service.handler(
            kind="book_invoice",
            attempt_timeout=30,
            retry=trio_jobs.Retry(first=wait),
            verify=find_voucher,
            verify_first=True,  # a run that was killed may have booked it, and this one is given the same files
        )(book_invoice)
        service.handler(kind="totals", idempotent=True)(totals)
        return service


def find_voucher(books: Books, job: trio_jobs.JobContext) -> trio_jobs.Done | trio_jobs.NotDone:
    """Is there a voucher with the invoice's key as its reference?"""
    numbers = books.find(job.key or "")
    return trio_jobs.Done(numbers[0]) if numbers else trio_jobs.NotDone()


def book_invoice(books: Books, invoice: Invoice, job: trio_jobs.JobContext) -> int:
    """Book it; the voucher's number. What cannot be booked fails at once; a busy ledger is tried again."""
    job.progress(0, 2, "making the voucher")
    try:
        voucher = voucher_for(invoice)
    except InvoiceError as refusal:
        raise trio_jobs.Fail(refusal.reason) from refusal
    job.progress(1, 2, "booking it")
    try:
        number: int = job.step("book", books.create_voucher, voucher)
    except AlreadyBooked as booked:
        return booked.number
    except VoucherRefused as refusal:
        raise trio_jobs.Fail(str(refusal)) from refusal
    return number


def totals(books: Books, nothing: None) -> Totals:
    """What the book holds. It too is a question to the ledger, so it waits its turn like any other."""
    return Totals(books.voucher_count(), books.trial_balance())
