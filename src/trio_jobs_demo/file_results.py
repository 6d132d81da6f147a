"""The result of each file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from enum import StrEnum
from pathlib import Path

import attrs

import trio_jobs
from trio_jobs_demo.bookkeeping import FIND
from trio_jobs_demo.display import escape
from trio_jobs_demo.invoices import Invoice
from trio_jobs_demo.vouchers import Side

__all__ = ["FileResult", "FileResults", "FileStatus"]


class FileStatus(StrEnum):
    """The status of a file. Each file has exactly one, so their counts add up to the number of files."""

    BOOKED = "booked"
    """This run booked its voucher."""
    THERE = "there already"
    """The book had its voucher before this run."""
    DUPLICATE = "duplicate"
    """Another file of this run is the same invoice."""
    NOTHING = "nothing to book"
    """A valid document without a voucher."""
    REFUSED = "refused"
    """It cannot be booked as it is; a later run refuses it again."""
    FAILED = "failed"
    """It could not be booked now; a later run tries it again."""
    IN_DOUBT = "in doubt"
    """It is not known whether it was booked; a later run asks the book."""
    OPEN = "open"
    """Accepted and not done, since the run was interrupted."""
    NOT_LOOKED_AT = "not looked at"
    """Not read yet."""


@attrs.define(eq=False)
class FileResult:
    """A file and its job."""

    file: Path
    shown_as: str
    """The name of the file for the screen: untrusted, and with its path in the folder that was named."""
    invoice: Invoice | None = None
    """None until the file is read, or if it cannot be."""
    side: Side | None = None
    """None until it is known."""
    job_id: str | None = None
    """None without a job, and for a duplicate."""
    state: trio_jobs.State | None = None
    attempts: int = 0
    """The attempts of this run of the program."""
    attempts_before: int = 0
    """The attempts of earlier runs, from the journal."""
    status: FileStatus = FileStatus.NOT_LOOKED_AT
    voucher: int | None = None
    first: FileResult | None = None
    """For a duplicate by its content: the file whose job it shares."""
    note: str = ""
    """The reason or result for the screen, escaped."""

    def end(self, status: FileStatus, note: str) -> None:
        """Set a status that no job decides. The note is untrusted."""
        self.status, self.note = status, escape(note, 300)

    @property
    def remarks(self) -> tuple[str, ...]:
        """What a bookkeeper should look at in the voucher."""
        return () if self.invoice is None else self.invoice.remarks

    @property
    def name(self) -> str:
        """The name of the file, escaped; a long one without its beginning."""
        name = escape(self.shown_as, 1000)
        return name if len(name) <= 60 else f"…{name[-59:]}"

    @property
    def issuer(self) -> str:
        """The name of the issuer, escaped; empty without an invoice."""
        return "" if self.invoice is None else escape(self.invoice.issuer, 60)

    @property
    def number(self) -> str:
        """The number of the invoice, escaped; empty without an invoice."""
        return "" if self.invoice is None else escape(self.invoice.number, 40)

    @property
    def date(self) -> str:
        """The day of the invoice; empty without an invoice."""
        return "" if self.invoice is None else self.invoice.issued.isoformat()

    @property
    def amount(self) -> str:
        """The payable amount with its currency, negative for a credit note; empty without an invoice."""
        return "" if self.invoice is None else f"{self.invoice.signed_payable:,f} {self.invoice.currency}"


class FileResults:
    """The results of all files, in order.

    Args:
        files: All files of the run, known before the first is read, each with the name to show.
    """

    def __init__(self, files: Iterable[tuple[Path, str]] = ()) -> None:
        self.files = [FileResult(file, shown_as) for file, shown_as in files]
        self.by_job: dict[str, FileResult] = {}
        self.newest_before = 0  #: vouchers with higher numbers were booked by this run
        self._by_voucher: dict[int, FileResult] = {}

    def accept(self, result: FileResult, job: trio_jobs.Job, *, attempts_before: int = 0) -> bool:
        """Record the job of a file. Returns False for a second file with the same job: it is a duplicate."""
        first = self.by_job.get(job.id)
        if first is not None:
            result.first = first
            result.end(FileStatus.DUPLICATE, f"the same as {first.name}")
            return False
        result.job_id, result.attempts_before, result.status = job.id, attempts_before, FileStatus.OPEN
        self.by_job[job.id] = result
        return True

    def update(self, job: trio_jobs.Job) -> FileResult | None:
        """Apply the state of a job and return its file; None for a job without one."""
        item = self.by_job.get(job.id)
        if item is None:
            return None
        item.state, item.attempts = job.state, job.attempt_count - item.attempts_before
        if job.state is trio_jobs.State.COMPLETED:
            self._completed(item, job)
        elif job.state in (trio_jobs.State.FAILED, trio_jobs.State.CANCELLED):
            outcome = job.attempts[-1].outcome if job.attempts else None
            reason = job.error.message or job.error.type if job.error is not None else job.reason or str(job.state)
            item.end(FileStatus.REFUSED if outcome is trio_jobs.Outcome.FAIL else FileStatus.FAILED, reason)
        else:
            status = FileStatus.IN_DOUBT if job.state is trio_jobs.State.IN_DOUBT else FileStatus.OPEN
            item.end(status, str(job.error) if job.error is not None else job.reason)
        return item

    def _completed(self, item: FileResult, job: trio_jobs.Job) -> None:
        answer = (job.result or b"null").decode()
        if job.reason == "resolved" and not answer.isdecimal():
            item.end(FileStatus.BOOKED, "as a person has found")
            return
        if not answer.isdecimal():
            item.end(
                FileStatus.FAILED,
                "the journal has it as booked, the book does not: begin a new journal, which books what is missing",
            )
            return
        item.voucher = int(answer)
        first = self._by_voucher.setdefault(item.voucher, item)
        if first is not item:
            item.end(FileStatus.DUPLICATE, f"the same as {first.name}, voucher {answer}")
        elif item.voucher <= self.newest_before:
            item.end(FileStatus.THERE, f"voucher {answer} (was there already)")
        else:
            verified = job.reason == "verified" and job.kind != FIND
            notes = [f"voucher {answer}{' (found by verify, not booked again)' * verified}"]
            notes += item.remarks
            item.end(FileStatus.BOOKED, "; ".join(notes))

    def settle_duplicates(self) -> None:
        """Give the duplicates of files that are not in the book the status of those: they are not in it either."""
        for item in self.files:
            first = item.first
            if first is None:
                continue
            item.voucher = first.voucher
            if first.status not in (FileStatus.BOOKED, FileStatus.THERE, FileStatus.DUPLICATE):
                item.end(first.status, f"the same as {first.name}: {first.note or first.status}")

    @property
    def counts(self) -> Counter[FileStatus]:
        """How many files have each status."""
        return Counter(item.status for item in self.files)
