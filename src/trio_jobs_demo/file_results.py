"""The result of each file, and the summary at the end."""

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

__all__ = ["FileResult", "FileResults", "FileStatus"]


class FileStatus(StrEnum):
    """The status of a file. All but OPEN are final."""

    OPEN = "open"
    BOOKED = "booked"
    DUPLICATE = "duplicate"
    NOTHING = "nothing to book"
    REFUSED = "refused"
    FAILED = "failed"


@attrs.define(eq=False)
class FileResult:
    """A file and its job."""

    file: Path
    invoice: Invoice | None = None
    """None until the file is read, or if it cannot be."""
    job_id: str | None = None
    """None without a job, and for a duplicate."""
    state: trio_jobs.State | None = None
    attempts: int = 0
    status: FileStatus = FileStatus.OPEN
    note: str = ""
    """The reason or result for the screen, escaped."""

    @property
    def label(self) -> str:
        """The key of the invoice, or the name of the file, escaped."""
        return escape(self.invoice.key if self.invoice is not None else self.file.name, 44)

    @property
    def amount(self) -> str:
        """The payable amount with its currency; empty without an invoice."""
        return "" if self.invoice is None else f"{self.invoice.payable:,f} {escape(self.invoice.currency, 3)}"


class FileResults:
    """The results of all files, in order."""

    def __init__(self) -> None:
        self.files: list[FileResult] = []
        self.by_job: dict[str, FileResult] = {}

    def accept(self, result: FileResult, receipt: trio_jobs.Receipt) -> None:
        """Record the job of a file. A second file with the same job is a duplicate."""
        first = self.by_job.get(receipt.job_id)
        if first is not None:
            result.status, result.note = FileStatus.DUPLICATE, f"the same as {escape(first.file.name, 60)}"
            return
        result.job_id, result.state = receipt.job_id, receipt.state
        self.by_job[receipt.job_id] = result

    def update(self, job: trio_jobs.Job) -> FileResult | None:
        """Apply the state of a job and return its file; None for a job without one."""
        item = self.by_job.get(job.id)
        if item is None:
            return None
        item.state, item.attempts = job.state, job.attempt_count
        reason = escape(str(job.error), 90) if job.error is not None else ""
        if job.state is trio_jobs.State.COMPLETED:
            item.status = FileStatus.BOOKED
            number = (job.result or b"?").decode()
            found = job.reason == "verified" and (job.attempts or ())[-1].outcome is trio_jobs.Outcome.ALREADY_DONE
            how = " (was there already)" if found and job.attempt_count == 1 else ""
            how = " (found by verify, not booked again)" if job.reason == "verified" and not how else how
            item.note = f"voucher {number}{how}"
        elif job.state is trio_jobs.State.FAILED:
            outcome = job.attempts[-1].outcome if job.attempts else None
            item.status = FileStatus.REFUSED if outcome is trio_jobs.Outcome.FAIL else FileStatus.FAILED
            item.note = escape(job.error.message, 90) if job.error is not None else job.reason
        elif job.state is trio_jobs.State.RETRYING:
            item.note = reason
        return item

    @property
    def complete(self) -> bool:
        """Every file is booked or has a reason why not."""
        return all(item.status not in (FileStatus.OPEN, FileStatus.FAILED) for item in self.files)

    def summary(self, bookkeeping: Bookkeeping, totals: Totals | None, seconds: float) -> Iterator[str]:
        """The lines of the summary."""
        counts = Counter(item.status for item in self.files)
        parts = ", ".join(f"{counts[status]} {status}" for status in FileStatus if counts[status])
        yield f"{len(self.files)} files: {parts or 'none'}"
        tries = sum(item.attempts for item in self.files)
        retries = sum(max(item.attempts - 1, 0) for item in self.files)
        yield f"{tries} attempts, {retries} of them retries, in {seconds:.1f} s"
        for status in (
            FileStatus.REFUSED,
            FileStatus.FAILED,
            FileStatus.NOTHING,
            FileStatus.DUPLICATE,
            FileStatus.OPEN,
        ):
            for item in self.files:
                if item.status is status:
                    state = f" ({item.state})" if status is FileStatus.OPEN and item.state is not None else ""
                    yield f"  {status}{state}: {escape(item.file.name, 60)}: {item.note or 'not done'}"
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
