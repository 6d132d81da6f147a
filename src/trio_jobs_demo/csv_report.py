"""The report of `--csv`: one row for each file.

It is written at the end and replaces an older report at once, so that a reader never finds half of one. A run that is
killed leaves none; the next run has all files again, with the vouchers that are in the book.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from trio_jobs_demo.display import escape
from trio_jobs_demo.file_results import FileResult, FileResults, FileStatus

__all__ = ["COLUMNS", "CsvReport", "safe_cell"]

COLUMNS: Final = ("file", "issuer", "number", "date", "amount", "currency", "status", "voucher", "reason")

#: With these a spreadsheet begins a formula; the last four are the full-width forms, which some of them take as well.
FORMULA: Final = ("=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20")


def safe_cell(text: str) -> str:
    """Untrusted text as a cell that no spreadsheet takes for a formula, on one line and without control characters."""
    shown = escape(text, 1000)
    return f"'{shown}" if shown.lstrip().startswith(FORMULA) else shown


class CsvReport:
    """A report that is being made.

    Args:
        path: The file to write or replace.

    Raises:
        OSError: The file cannot be written there.
    """

    def __init__(self, path: Path) -> None:
        if path.exists() and not path.is_file():  # a folder, or a device, which must not be replaced
            raise FileExistsError(f"{escape(str(path))} is not a regular file, so --csv cannot replace it")
        self._path = path.resolve()  # a link stays one
        # the pid, so that two runs do not share it
        self._new = self._path.with_name(f"{self._path.name}.{os.getpid()}.new")
        self._new.touch()
        self._discard()

    def write(self, results: FileResults) -> None:
        """Write all rows and replace the file. Raises OSError; then the older report is unchanged."""
        try:
            with self._new.open("w", encoding="utf-8", newline="") as file:
                writer = csv.writer(file)
                writer.writerow(COLUMNS)
                writer.writerows(_row(item) for item in results.files)
                file.flush()
                os.fsync(file.fileno())
            self._new.replace(self._path)
        finally:
            self._discard()

    def _discard(self) -> None:
        self._new.unlink(missing_ok=True)


def _row(item: FileResult) -> Iterator[str]:
    invoice = item.invoice
    yield safe_cell(str(item.file))
    yield safe_cell(invoice.issuer) if invoice else ""
    yield safe_cell(invoice.number) if invoice else ""
    yield invoice.issued.isoformat() if invoice else ""
    yield f"{invoice.signed_payable:f}" if invoice else ""  # a number, which may begin with a minus
    yield invoice.currency if invoice else ""
    yield item.status
    yield "" if item.voucher is None else str(item.voucher)
    yield safe_cell("; ".join(item.remarks) if item.status is FileStatus.BOOKED else item.note)
