"""The exit codes of the demo."""

from __future__ import annotations

from typing import Final

import trio_jobs
from trio_jobs_demo.bookkeeping import Totals
from trio_jobs_demo.file_results import FileResults, FileStatus
from trio_jobs_demo.ledger import LedgerError
from trio_jobs_demo.stop_signals import LEDGER_NOT_CLOSED
from trio_jobs_demo.summary import is_balanced

__all__ = ["BROKEN", "CANNOT_START", "EXIT_CODES", "exit_code", "expected_cause"]

BROKEN: Final = 1
CANNOT_START: Final = 2
REFUSED: Final = 3
FAILED: Final = 4
IN_DOUBT: Final = 5

EXIT_CODES: Final = f"""exit codes:
  0    each file is in the book, or is a duplicate, or needs no voucher
  {BROKEN}    the demo, journal or ledger broke down, or the book does not balance
  {CANNOT_START}    it could not start: arguments, files, book or journal
  {REFUSED}    a file was refused; not so for the samples, where one is on purpose
  {FAILED}    a file could not be booked now: run it again
  {IN_DOUBT}    a file may have been booked: run it again, which asks the book
  {LEDGER_NOT_CLOSED}   the ledger was not closed, such as after a second signal
  129, 130, 143    SIGHUP, Ctrl-C or SIGTERM stopped it; the ledger is closed
Of several codes it is the one further down, but {BROKEN} comes before {REFUSED} to {IN_DOUBT}."""


def exit_code(
    results: FileResults,
    report: trio_jobs.ShutdownReport | None,
    totals: Totals | None,
    *,
    refusals_expected: bool,
) -> int:
    """The exit code of a run that was not stopped by a signal."""
    counts = results.counts
    if report is None or not report.sdk_closed:
        return LEDGER_NOT_CLOSED
    if totals is None or not is_balanced(totals):
        return BROKEN
    if counts[FileStatus.IN_DOUBT]:
        return IN_DOUBT
    if counts[FileStatus.FAILED] or counts[FileStatus.OPEN] or counts[FileStatus.NOT_LOOKED_AT]:
        return FAILED
    return REFUSED if counts[FileStatus.REFUSED] and not refusals_expected else 0


def expected_cause(error: BaseException) -> BaseException | None:
    """The error that a person can do something about, without its groups; None for a bug of the demo."""
    if isinstance(error, BaseExceptionGroup):
        causes = [expected_cause(one) for one in error.exceptions]
        return causes[0] if None not in causes else None
    return error if isinstance(error, trio_jobs.TrioJobsError | LedgerError | OSError) else None
