"""The summary at the end: every file, and the trial balance of the book."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

import attrs

from trio_jobs_demo.bookkeeping import Bookkeeping, Totals
from trio_jobs_demo.display import escape, fit, money
from trio_jobs_demo.file_results import FileResults, FileStatus

__all__ = ["Summary", "is_balanced"]

#: Lines for the files of one status. `--csv` has all of them.
MAX_LINES: Final = 50
#: Columns of the name of an account and of an amount: 80 in all
ACCOUNT: Final = 38
AMOUNT: Final = 19


@attrs.frozen
class Summary:
    """What is printed at the end of a run."""

    results: FileResults
    bookkeeping: Bookkeeping
    totals: Totals | None
    """The totals of the book; None if it cannot be read."""
    seconds: float
    """How long the run took."""
    passed_over: Sequence[Path] = ()
    """Files in the folders that are not XML."""
    verbose: bool = False
    """List those files, and print all lines."""
    others: Mapping[str, int] = attrs.field(factory=dict)
    """Jobs that the journal kept from an earlier run for other files, by state."""

    def lines(self) -> Iterator[str]:
        """The lines, each at most 80 columns wide, except for names and reasons."""
        files, counts = self.results.files, self.results.counts
        parts = ", ".join(f"{counts[status]} {status}" for status in FileStatus if counts[status])
        yield f"{len(files)} files: {parts or 'none'}"
        if self.others:
            parts = ", ".join(f"{count} {state}" for state, count in sorted(self.others.items()))
            yield f"jobs of an earlier run for other files: {parts}"
        yield from self._passed_over()
        tries = sum(item.attempts for item in files)
        retries = sum(max(item.attempts - 1, 0) for item in files)
        yield f"{tries} attempts, {retries} of them retries, in {self.seconds:.1f} s"
        yield from self._files()
        if self.totals is not None:
            yield f"the book holds {self.totals.vouchers} vouchers"
            for currency in sorted({balance.currency for balance in self.totals.balances}):
                yield from _trial_balance(self.totals, currency)
        opened, closed = self.bookkeeping.opened, self.bookkeeping.closed
        sessions = f"opened {opened}, closed {closed}, threads {len(self.bookkeeping.threads)}"
        yield f"ledger closed ({sessions})" if opened == closed else f"LEDGER NOT CLOSED ({sessions})"

    def _passed_over(self) -> Iterator[str]:
        if not self.passed_over:
            return
        kinds = Counter(escape(path.suffix.lower(), 12) or "no suffix" for path in self.passed_over)
        named = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common(5))
        more = ", ..." if len(kinds) > 5 else ""
        yield f"{len(self.passed_over)} other files passed over: {named}{more}"
        if self.verbose:
            for path in self.passed_over:
                yield f"  passed over: {escape(str(path), 300)}"

    def _files(self) -> Iterator[str]:
        for status in FileStatus:
            if status in (FileStatus.BOOKED, FileStatus.THERE, FileStatus.NOT_LOOKED_AT):
                continue
            items = [item for item in self.results.files if item.status is status]
            shown = items if self.verbose else items[:MAX_LINES]
            for item in shown:
                state = f" ({item.state})" if status is FileStatus.OPEN and item.state is not None else ""
                yield f"  {status}{state}: {item.name}: {item.note or 'not done'}"
            if len(shown) < len(items):
                yield f"  {status}: {len(items) - len(shown)} more, which --verbose lists, and --csv"
        for item in self.results.files:
            if item.status is FileStatus.BOOKED:
                for remark in item.remarks:
                    yield f"  look at: {item.name}: {remark}"


def is_balanced(totals: Totals) -> bool:
    """Whether debits equal credits in each currency."""
    sums: Counter[str] = Counter()
    for balance in totals.balances:
        sums[balance.currency] += balance.debit - balance.credit
    return not any(sums.values())


def _trial_balance(totals: Totals, currency: str) -> Iterator[str]:
    balances = [balance for balance in totals.balances if balance.currency == currency]
    yield f"{fit(f'trial balance in {currency}', ACCOUNT + 2)} {'debit':>{AMOUNT}} {'credit':>{AMOUNT}}"
    for balance in balances:
        yield _row(escape(balance.account, 200), balance.debit, balance.credit, currency)
    debit, credit = sum(b.debit for b in balances), sum(b.credit for b in balances)
    yield _row("total, balanced" if debit == credit else "total, NOT BALANCED", debit, credit, currency)


def _row(name: str, debit: int, credit: int, currency: str) -> str:
    shown = (money(amount, currency).removesuffix(f" {currency}") if amount else "" for amount in (debit, credit))
    return f"  {fit(name, ACCOUNT)} {' '.join(f'{amount:>{AMOUNT}}' for amount in shown)}".rstrip()
