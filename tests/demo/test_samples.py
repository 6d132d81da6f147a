"""Rules of the samples: which are booked, which are not and why, and that they have every kind of document."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import msgspec
import pytest

from trio_jobs_demo.invoices import Invoice, InvoiceError, Kind, NothingToBook, Unreadable
from trio_jobs_demo.ledger import Ledger
from trio_jobs_demo.reader import read_invoice_file
from trio_jobs_demo.samples import SCRIPT, sample_files
from trio_jobs_demo.vouchers import voucher_for

NOT_BOOKED = {
    "havnens-55209-cut-off.xml": (Unreadable, "not well-formed"),
    "luna-P-31-payment-receipt.xml": (NothingToBook, "payment receipt"),
}
TWICE = ("moleneind-24-301.xml", "moleneind-24-301-sent-twice.xml")


def by_name() -> dict[str, Path]:
    return {path.name: path for path in sample_files()}


def booked() -> dict[str, Invoice]:
    return {name: read_invoice_file(path) for name, path in by_name().items() if name not in NOT_BOOKED}


@pytest.mark.parametrize("name", NOT_BOOKED)
def test_a_sample_that_is_not_booked_has_its_reason(name: str) -> None:
    error, reason = NOT_BOOKED[name]
    with pytest.raises(InvoiceError, match=reason) as caught:
        read_invoice_file(by_name()[name])
    assert type(caught.value) is error


def test_all_other_samples_are_booked_and_the_book_balances(tmp_path: Path) -> None:
    ledger = Ledger.open(tmp_path / "book.db")
    try:
        invoices = booked()
        keys = {invoice.key for invoice in invoices.values()}
        for key in keys:
            ledger.create_voucher(voucher_for(next(one for one in invoices.values() if one.key == key)))
        assert ledger.voucher_count() == len(keys) >= 24
        for currency in {"EUR", "NOK", "DKK", "SEK", "MXN", "JPY"}:
            balances = [balance for balance in ledger.trial_balance() if balance.currency == currency]
            assert sum(balance.debit for balance in balances) == sum(balance.credit for balance in balances) > 0
    finally:
        ledger.close()


def test_only_the_duplicate_has_a_key_twice_and_is_equal() -> None:
    invoices = booked()
    one, other = (invoices[name] for name in TWICE)
    assert msgspec.json.encode(one) == msgspec.json.encode(other)
    assert [key for key, count in Counter(invoice.key for invoice in invoices.values()).items() if count > 1] == [
        one.key
    ]


def test_the_samples_have_every_kind_of_document() -> None:
    invoices = list(booked().values())
    labels = {f"{tax.name} {tax.rate}" for invoice in invoices for tax in invoice.taxes}
    lines = {len(invoice.lines) for invoice in invoices}
    shapes = {
        "credit note": any(one.kind is Kind.CREDIT_NOTE and one.currency == "MXN" for one in invoices)
        and any(one.kind is Kind.CREDIT_NOTE and one.currency == "SEK" for one in invoices),
        "negative": any(one.payable < 0 for one in invoices),
        "withholdings": any(one.withholdings for one in invoices),
        "discount": any(one.allowances and one.currency == "MXN" for one in invoices),
        "allowance and charge": any(one.allowances and one.charges for one in invoices),
        "prepaid": any(one.prepaid for one in invoices),
        "rounding": any(one.rounding for one in invoices),
        "several rates": any(len(one.taxes) >= 3 for one in invoices),
        "1 and 20 lines": {1, 20} <= lines,
        "taxes": {"VAT E 0 %", "VAT AE 0 %", "VAT O", "IVA exempt", "IVA 0 %", "IEPS 26.5 %", "IEPS quota 1.6445"}
        <= labels,
    }
    assert [shape for shape, shown in shapes.items() if not shown] == []


def test_the_script_names_samples_that_are_booked() -> None:
    assert set(SCRIPT) <= {invoice.key for invoice in booked().values()}
