"""The service of the demo: it books each invoice as one balanced voucher in a ledger with a single session."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path

import attrs

import trio_jobs
from trio_jobs_demo.faulty_ledger import CrashingLedger, FaultScript, FaultyLedger
from trio_jobs_demo.invoices import Invoice, InvoiceError
from trio_jobs_demo.ledger import AccountBalance, AlreadyBooked, BookLocked, Books, Ledger, VoucherRefused
from trio_jobs_demo.vouchers import voucher_for

__all__ = ["Bookkeeping", "Totals"]


@attrs.frozen
class Totals:
    """The totals of a book."""

    vouchers: int
    """How many vouchers are posted."""
    balances: tuple[AccountBalance, ...]
    """The debits and credits of each account."""


@attrs.define(eq=False)
class Bookkeeping:
    """A book and the service that books in it."""

    book: Path
    script: FaultScript = attrs.field(factory=dict)
    """The faults of the ledger, by reference."""
    one_voucher_per_reference: bool = True
    """The database itself refuses a second voucher of an invoice."""
    crash_at: int | None = None
    """The create call, from 1, after which the process kills itself: its voucher is booked and not acknowledged."""
    opened: int = 0
    """How many sessions were opened."""
    closed: int = 0
    """How many sessions were closed."""
    threads: set[int] = attrs.field(factory=set)
    """The threads on which sessions were opened and closed."""

    @contextlib.contextmanager
    def open_ledger(self) -> Iterator[Books]:
        """Open a session of the ledger, on the thread that will use and close it."""
        ledger = Ledger.open(self.book, self.one_voucher_per_reference)
        self.opened += 1
        self.threads.add(threading.get_ident())
        try:
            books: Books = FaultyLedger(ledger, self.script) if self.script else ledger
            yield books if self.crash_at is None else CrashingLedger(books, self.crash_at)
        finally:
            ledger.close()
            self.closed += 1
            self.threads.add(threading.get_ident())

    def service(self, *, min_interval: float = 0.0, wait: float = 0.25) -> trio_jobs.Service:
        """Declare the service.

        Args:
            min_interval: Seconds between two calls.
            wait: Seconds before the first retry; doubled for each further one.
        """
        service = trio_jobs.Service(
            sdk=self.open_ledger,
            min_interval=min_interval,
            open_retry=trio_jobs.Retry(on=BookLocked),  # another process may be closing it
        )
        service.handler(
            kind="book_invoice",
            attempt_timeout=30,
            retry=trio_jobs.Retry(first=wait),
            verify=find_voucher,
            verify_first=True,  # an earlier run that was killed may have booked it
        )(book_invoice)
        service.handler(kind="totals", idempotent=True)(totals)
        return service


def find_voucher(books: Books, job: trio_jobs.JobContext) -> trio_jobs.Done | trio_jobs.NotDone:
    """Verify: is there a voucher with the invoice's key as its reference?"""
    numbers = books.find(job.key or "")
    return trio_jobs.Done(numbers[0]) if numbers else trio_jobs.NotDone()


def book_invoice(books: Books, invoice: Invoice, job: trio_jobs.JobContext) -> int:
    """Book an invoice and return the number of its voucher.

    An invoice that cannot be booked fails without a retry; a busy ledger is retried.
    """
    job.progress(0, 2, "creating the voucher")
    try:
        voucher = voucher_for(invoice)
    except InvoiceError as refusal:
        raise trio_jobs.Fail(refusal.reason) from refusal
    job.progress(1, 2, "booking the voucher")
    try:
        number: int = job.step("book", books.create_voucher, voucher)
    except AlreadyBooked as booked:
        return booked.number
    except VoucherRefused as refusal:
        raise trio_jobs.Fail(str(refusal)) from refusal
    return number


def totals(books: Books, nothing: None) -> Totals:
    """Return the totals of the book. This is a job, since the ledger accepts one call at a time."""
    return Totals(books.voucher_count(), books.trial_balance())
