"""The service of the demo: it books each invoice as one balanced voucher in a ledger with a single session."""

from __future__ import annotations

import contextlib
import itertools
import json
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import attrs

import trio_jobs
from trio_jobs_demo.content import content_of, difference, is_same
from trio_jobs_demo.faulty_ledger import CrashingLedger, FaultScript, FaultyLedger
from trio_jobs_demo.invoices import Invoice, InvoiceError
from trio_jobs_demo.ledger import AccountBalance, AlreadyBooked, BookLocked, Books, Ledger, VoucherRefused, WrongBook
from trio_jobs_demo.vouchers import Side, voucher_for

__all__ = [
    "BOOK",
    "FIND",
    "TOTALS",
    "Booking",
    "Bookkeeping",
    "Totals",
    "book_invoice",
    "find_voucher",
    "read_totals",
    "verify_booked",
]

# The kinds of jobs
BOOK: Final = "book_invoice"
FIND: Final = "find_voucher"
TOTALS: Final = "totals"


@attrs.frozen
class Booking:
    """The payload of a job: an invoice, for a book."""

    book: str
    """The id of the book. A journal may be used with another book by mistake."""
    side: Side
    """Whose book it is: the issuer's or the customer's."""
    invoice: Invoice

    @property
    def key(self) -> str:
        """The key of the job: the same invoice is the same job. Another one with its number is another job.

        The book decides what becomes of that job. The journal could not: it does not know which job booked a voucher.
        """
        return f"{self.invoice.key} {content_of(self.invoice, self.side).identity}"


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
    given_owner: frozenset[str] = frozenset()
    """Identifiers of the owner (see `owner.normal_id`), which a new book keeps; empty to use those of the book."""
    journal_book: str | None = None
    """The id of the book that the journal's jobs are for; None if it has none."""
    opened: int = 0
    """How many sessions were opened."""
    closed: int = 0
    """How many sessions were closed."""
    threads: set[int] = attrs.field(factory=set)
    """The threads on which sessions were opened and closed."""
    book_id: str = ""
    """The id of the book; empty until the first session is open."""
    owner: frozenset[str] = frozenset()
    """The identifiers of the book's owner, from the first session on; none if each invoice is a sale of its issuer."""
    calls: Counter[str] = attrs.field(factory=Counter)
    """How many vouchers were to be created for each reference, in all sessions."""
    silent: Counter[str] = attrs.field(factory=Counter)
    """How many of the next calls of `find` are to raise, by reference."""
    _crashes: Iterator[bool] = attrs.field(init=False)
    newest_before: int = 0
    """The newest voucher when the first session was opened: vouchers with higher numbers were booked by this run."""
    vouchers_before: int = 0
    """How many vouchers were in the book then."""

    @_crashes.default
    def _crash_once(self) -> Iterator[bool]:
        return (call == self.crash_at for call in itertools.count(1))

    @contextlib.contextmanager
    def open_ledger(self) -> Iterator[Books]:
        """Open a session of the ledger, on the thread that will use and close it.

        Raises:
            WrongBook: The journal's jobs are for another book, or the book has another owner.
        """
        if self.journal_book is not None and not self.book.exists():
            raise WrongBook(_OTHER_BOOK)  # before it is created
        ledger = Ledger.open(self.book, self.one_voucher_per_reference)
        try:
            if not self.opened:
                self._begin(ledger)
        except BaseException:
            ledger.close()
            raise
        self.opened += 1
        self.threads.add(threading.get_ident())
        try:
            books: Books = FaultyLedger(ledger, self.script, self.calls, self.silent) if self.script else ledger
            yield books if self.crash_at is None else CrashingLedger(books, self._crashes)
        finally:
            ledger.close()
            self.closed += 1
            self.threads.add(threading.get_ident())

    def _begin(self, ledger: Ledger) -> None:
        self.book_id = ledger.book_id()
        if self.journal_book not in (None, self.book_id):
            raise WrongBook(_OTHER_BOOK)
        self.newest_before, self.vouchers_before = ledger.newest(), ledger.voucher_count()
        owner = frozenset(json.loads(ledger.owner() or "[]"))
        if self.given_owner - owner:
            if owner and not owner & self.given_owner:
                raise WrongBook(f"this is the book of {', '.join(sorted(owner))}: name its owner, or another book")
            if not owner and self.vouchers_before:
                raise WrongBook(
                    "this book was begun without --we, for sales of any issuer: leave out --we, or begin another book"
                )
            owner |= self.given_owner
            ledger.set_owner(json.dumps(sorted(owner)))
        self.owner = owner

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
            key_retention=0.0,  # the book knows what was booked, so a job may be forgotten together with its key
        )
        service.handler(
            kind=BOOK,
            attempt_timeout=30,
            retry=trio_jobs.Retry(first=wait),
            verify=verify_booked,
            verify_first=True,  # an earlier run that was killed may have booked it
        )(book_invoice)
        service.handler(kind=FIND, idempotent=True, retry=trio_jobs.Retry(first=wait))(find_voucher)
        service.handler(kind=TOTALS, idempotent=True)(totals)
        return service


_OTHER_BOOK: Final = "the jobs of the journal are for another book: use the journal with its own book, or a new journal"


def verify_booked(books: Books, job: trio_jobs.JobContext) -> trio_jobs.Done | trio_jobs.NotDone:
    """Verify: does the book have a voucher of this invoice, with this content? Both are in the key of the job.

    A voucher with another content answers NotDone: this invoice is not in the book. The attempt then says why.
    """
    reference, _, identity = (job.key or "").rpartition(" ")
    for number in books.find(reference):
        if is_same(books.origin(number), identity):
            return trio_jobs.Done(number)
    return trio_jobs.NotDone()


def booked(books: Books, booking: Booking) -> int | None:
    """The number of the invoice's voucher; None if its number has no voucher yet.

    Raises:
        Fail: The number has a voucher of another content; or the job is for another book.
    """
    if booking.book != books.book_id():
        raise trio_jobs.Fail(_OTHER_BOOK)
    new = content_of(booking.invoice, booking.side)
    problem = ""
    for number in books.find(booking.invoice.key):
        differs = difference(books.origin(number), new)
        if not differs:
            return number
        problem = problem or f"its number has voucher {number} already, which differs: {differs}"
    if problem:
        raise trio_jobs.Fail(problem)
    return None


def book_invoice(books: Books, booking: Booking, job: trio_jobs.JobContext) -> int:
    """Book an invoice and return the number of its voucher.

    An invoice that cannot be booked fails without a retry; a busy ledger is retried.
    """
    job.progress(0, 2, "creating the voucher")
    try:
        voucher = voucher_for(booking.invoice, booking.side)
    except InvoiceError as refusal:
        raise trio_jobs.Fail(refusal.reason) from refusal
    number = booked(books, booking)
    if number is not None:
        return number
    job.progress(1, 2, "booking the voucher")
    voucher = attrs.evolve(voucher, origin=content_of(booking.invoice, booking.side).encode())
    try:
        made: int = job.step("book", books.create_voucher, voucher)
    except AlreadyBooked:
        found = booked(books, booking)
        assert found is not None
        return found
    except VoucherRefused as refusal:
        raise trio_jobs.Fail(str(refusal)) from refusal
    return made


def find_voucher(books: Books, booking: Booking) -> int | None:
    """Return the number of an invoice's voucher; None if it is not in the book.

    Asked where a journal has the invoice as booked, which the book must confirm.
    """
    return booked(books, booking)


def totals(books: Books, nothing: None) -> Totals:
    """Return the totals of the book. This is a job, since the ledger accepts one call at a time."""
    return Totals(books.voucher_count(), books.trial_balance())


def read_totals(book: Path, one_voucher_per_reference: bool) -> Totals:
    """The totals of a book that no session has open, after a run that ended early. Raises `LedgerError`."""
    ledger = Ledger.open(book, one_voucher_per_reference)
    try:
        return totals(ledger, None)
    finally:
        ledger.close()
