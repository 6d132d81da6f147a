"""Rules of the faulty ledger: each create call follows the script, all else goes to the wrapped ledger."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from pathlib import Path

import pytest

from trio_jobs_demo.faulty_ledger import Fault, FaultyLedger
from trio_jobs_demo.ledger import Ledger, LedgerBusy, LedgerClosed, LedgerConnectionLost
from trio_jobs_demo.vouchers import Entry, Voucher

ENTRIES = (Entry("A", 1, 0), Entry("B", 0, 1))


def voucher(reference: str) -> Voucher:
    return Voucher(reference, dt.date(2024, 1, 1), "EUR", "", ENTRIES)


def test_each_create_call_of_a_reference_follows_the_script(tmp_path: Path) -> None:
    slept: list[float] = []
    ledger = FaultyLedger(
        Ledger.open(tmp_path / "book.db", one_voucher_per_reference=False),
        {"x": (Fault.BUSY, Fault.BOOKS_THEN_RAISES, None), "y": (Fault.SLOW,)},
        Counter(),
        slow_seconds=0.25,
        sleep=slept.append,
    )
    try:
        with pytest.raises(LedgerBusy):
            ledger.create_voucher(voucher("x"))
        assert ledger.find("x") == ()
        with pytest.raises(LedgerConnectionLost):
            ledger.create_voucher(voucher("x"))
        assert len(ledger.find("x")) == 1
        ledger.create_voucher(voucher("x"))
        ledger.create_voucher(voucher("x"))
        assert len(ledger.find("x")) == 3
        assert not slept
        ledger.create_voucher(voucher("y"))
        ledger.create_voucher(voucher("y"))
        assert slept == [0.25]
        assert ledger.voucher_count() == 5
        assert sum(balance.debit for balance in ledger.trial_balance()) == 5
    finally:
        ledger.close()
    with pytest.raises(LedgerClosed):
        ledger.find("x")
