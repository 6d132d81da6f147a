"""Runs of the demo in this process, and what they leave in a book."""

from __future__ import annotations

import sqlite3
from collections import Counter
from contextlib import closing
from pathlib import Path

import attrs
import pytest

from trio_jobs_demo.__main__ import main

__all__ = ["Desk", "Run", "balances", "vouchers"]


@attrs.frozen
class Run:
    """What a run printed, and its exit code."""

    code: int
    out: str
    err: str

    @property
    def counts(self) -> dict[str, int]:
        """The files by status, from the line that begins the summary. They add up to the number of files."""
        line = next(line for line in self.out.splitlines() if " files: " in line)
        number, _, parts = line.partition(" files: ")
        counts = {name: int(count) for count, _, name in (part.partition(" ") for part in parts.split(", "))}
        assert sum(counts.values()) == int(number)
        return counts

    def line(self, start: str) -> str:
        """The only line that begins so."""
        (line,) = (line for line in self.out.splitlines() if line.startswith(start))
        return line


@attrs.frozen
class Desk:
    """A folder with documents, a book and a journal."""

    folder: Path
    capsys: pytest.CaptureFixture[str]

    @property
    def book(self) -> Path:
        return self.folder / "book.db"

    @property
    def journal(self) -> Path:
        return self.folder / "jobs.db"

    def put(self, name: str, document: str) -> Path:
        """Write a document."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(document, encoding="utf-8")
        return path

    def run(self, *arguments: object, book: Path | None = None) -> Run:
        """Run the demo with these arguments on the book."""
        self.capsys.readouterr()
        code = main(["--book", str(book or self.book), *map(str, arguments)])
        said = self.capsys.readouterr()
        return Run(code, said.out, said.err)


def vouchers(book: Path) -> Counter[str]:
    """How many vouchers each reference has."""
    with closing(sqlite3.connect(book)) as connection:
        return Counter(reference for (reference,) in connection.execute("SELECT reference FROM vouchers WHERE posted"))


def balances(book: Path) -> dict[str, int]:
    """Debits minus credits of each account that is not balanced, read without the demo."""
    with closing(sqlite3.connect(book)) as connection:
        rows = connection.execute("SELECT account, sum(debit) - sum(credit) FROM entries GROUP BY account")
        return {account: amount for account, amount in rows if amount}
