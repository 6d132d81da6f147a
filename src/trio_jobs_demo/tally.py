"""What became of each file, and the sums at the end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path

import attrs

import trio_jobs
from trio_jobs_demo.bookkeeping import Bookkeeping, Totals
from trio_jobs_demo.display import escape, money
from trio_jobs_demo.invoices import Invoice

__all__ = ["Fate", "Item", "Tally"]


class Fate(StrEnum):
    """What became of a file. All but OPEN are ends."""

    OPEN = "open"
    BOOKED = "booked"
    DUPLICATE = "duplicate"
    NOTHING = "nothing to book"
    REFUSED = "refused"
    FAILED = "failed"


@attrs.define(eq=False)
class Item:
    """A file on its way. job_id, state: of its job, once it has one. note: for people, escaped."""

    file: Path
    invoice: Invoice | None = None
    job_id: str | None = None
    state: trio_jobs.State | None = None
    attempts: int = 0
    fate: Fate = Fate.OPEN
    note: str = ""

    @property
    def label(self) -> str:
        return escape(self.invoice.key if self.invoice is not None else self.file.name, 44)

    @property
    def amount(self) -> str:
        return "" if self.invoice is None else f"{self.invoice.payable:,f} {escape(self.invoice.currency, 3)}"


class Tally:
    """All items, in the order of their files."""

    def __init__(self) -> None:
        self.items: list[Item] = []
        self.by_job: dict[str, Item] = {}

    def accept(self, item: Item, receipt: trio_jobs.Receipt) -> None:
        """The item has a job; a second item of the same job is a duplicate."""
        first = self.by_job.get(receipt.job_id)
        if first is not None:
            item.fate, item.note = Fate.DUPLICATE, f"the same as {escape(first.file.name, 60)}"
            return
        item.job_id, item.state = receipt.job_id, receipt.state
        self.by_job[receipt.job_id] = item

    def update(self, job: trio_jobs.Job) -> Item | None:
        """Take in how a job stands; give its item, None for a job that is no invoice."""
        item = self.by_job.get(job.id)
        if item is None:
            return None
        item.state, item.attempts = job.state, job.attempt_count
        reason = escape(str(job.error), 90) if job.error is not None else ""
        if job.state is trio_jobs.State.COMPLETED:
            item.fate = Fate.BOOKED
            number = (job.result or b"?").decode()
            found = job.reason == "verified" and job.attempts[-1].outcome is trio_jobs.Outcome.ALREADY_DONE
            how = " (was there already)" if found and job.attempt_count == 1 else ""
            how = " (found by asking, not booked again)" if job.reason == "verified" and not how else how
            item.note = f"voucher {number}{how}"
        elif job.state is trio_jobs.State.FAILED:
            asked = job.attempts[-1].outcome if job.attempts else None
            item.fate = Fate.REFUSED if asked is trio_jobs.Outcome.FAIL else Fate.FAILED
            item.note = escape(job.error.message, 90) if job.error is not None else job.reason
        elif job.state is trio_jobs.State.RETRYING:
            item.note = reason
        return item

    @property
    def settled(self) -> bool:
        """Was every file booked, or is there a true reason why not?"""
        return all(item.fate not in (Fate.OPEN, Fate.FAILED) for item in self.items)

    def summary(self, bookkeeping: Bookkeeping, totals: Totals | None, seconds: float) -> Iterator[str]:
        """The end of the demo, line by line."""
        fates = Counter(item.fate for item in self.items)
        parts = ", ".join(f"{fates[fate]} {fate}" for fate in Fate if fates[fate])
        yield f"{len(self.items)} files: {parts or 'none'}"
        tries = sum(item.attempts for item in self.items)
        retries = sum(max(item.attempts - 1, 0) for item in self.items)
        yield f"{tries} attempts, {retries} of them retries, in {seconds:.1f} s"
        for fate in (Fate.REFUSED, Fate.FAILED, Fate.NOTHING, Fate.DUPLICATE, Fate.OPEN):
            for item in self.items:
                if item.fate is fate:
                    state = f" ({item.state})" if fate is Fate.OPEN and item.state is not None else ""
                    yield f"  {fate}{state}: {escape(item.file.name, 60)}: {item.note or 'not done'}"
        if totals is not None:
            yield f"the book holds {totals.vouchers} vouchers"
            yield from _balances(totals)
        opened, closed = bookkeeping.opened, bookkeeping.closed
        sessions = f"opened {opened}, closed {closed}, threads {len(bookkeeping.threads)}"
        yield f"ledger closed ({sessions})" if opened == closed else f"LEDGER NOT CLOSED ({sessions})"


def _balances(totals: Totals) -> Iterator[str]:
    currencies = sorted({balance.currency for balance in totals.balances})
    for currency in currencies:
        debit = sum(b.debit for b in totals.balances if b.currency == currency)
        credit = sum(b.credit for b in totals.balances if b.currency == currency)
        sign = "=" if debit == credit else "DIFFERS FROM"
        yield f"  debits {money(debit, currency)} {sign} credits {money(credit, currency)}"
