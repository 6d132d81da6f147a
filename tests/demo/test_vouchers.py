"""Rules of vouchers: each one balances, and an invoice without a balanced voucher is refused."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from decimal import Decimal

import attrs
import msgspec
import pytest
from demo_documents import CFDI, UBL, ubl
from hypothesis import given
from hypothesis import strategies as st

from trio_jobs_demo.currencies import EXPONENTS, exponent, to_minor
from trio_jobs_demo.invoices import (
    DoesNotAddUp,
    Invoice,
    InvoiceError,
    Kind,
    Line,
    NothingToBook,
    Refused,
    Tax,
    Withholding,
)
from trio_jobs_demo.reader import read_invoice
from trio_jobs_demo.vouchers import Entry, Side, Voucher, voucher_for

SIMPLE = Invoice(
    number="1",
    issuer_id="ID",
    issuer="Issuer",
    customer="Customer",
    issued=dt.date(2024, 1, 31),
    currency="EUR",
    kind=Kind.INVOICE,
    lines=(Line("Thing", Decimal("10.00"), "untaxed"),),
    payable=Decimal("10.00"),
)


def figures(voucher: Voucher) -> dict[str, int]:
    return {entry.account: entry.debit - entry.credit for entry in voucher.entries}


def test_a_ubl_invoice_books_customer_prepayment_charge_sales_and_tax() -> None:
    voucher = voucher_for(read_invoice(UBL.encode()))
    assert voucher == Voucher(
        reference="XX123 T-1",
        dated=dt.date(2024, 5, 6),
        currency="EUR",
        text="Invoice T-1 of Seller to Buyer",
        entries=(
            Entry("Assets:Customers", 10200, 0),
            Entry("Liabilities:Prepayments", 3000, 0),
            Entry("Income:Sales:VAT 20 %", 0, 10000),
            Entry("Income:Charges", 0, 1000),
            Entry("Liabilities:Taxes:VAT 20 %", 0, 2200),
        ),
    )


def test_a_cfdi_books_discount_and_withholding_too() -> None:
    assert figures(voucher_for(read_invoice(CFDI.encode()))) == {
        "Assets:Customers": 19080,
        "Assets:Withheld:ISR": 1800,
        "Income:Allowances": 2000,
        "Income:Sales:IVA 16 %": -20000,
        "Liabilities:Taxes:IVA 16 %": -2880,
    }


amounts = st.decimals(-(10**9), 10**9, allow_nan=False, allow_infinity=False, places=6)
labels = st.sampled_from(["VAT 25 %", "IVA exempt", "untaxed", "a: b"])


@st.composite
def invoices(draw: st.DrawFn) -> Invoice:
    """Invoices that add up, in any currency and with any signs."""
    lines = draw(st.lists(st.builds(Line, st.just("x"), amounts, labels), min_size=1, max_size=8))
    taxes = draw(
        st.lists(st.builds(Tax, st.just("VAT"), st.sampled_from(["25 %", "6 %"]), amounts, amounts), max_size=3)
    )
    withheld = draw(st.lists(st.builds(Withholding, st.sampled_from(["ISR", "IVA"]), amounts), max_size=2))
    allowances, charges, prepaid, rounding = (draw(amounts) for _ in range(4))
    currency = draw(st.sampled_from(sorted(EXPONENTS)))
    payable = sum((line.net for line in lines), Decimal(0)) + sum((tax.amount for tax in taxes), Decimal(0))
    payable += charges + rounding - allowances - prepaid - sum((one.amount for one in withheld), Decimal(0))
    return attrs.evolve(
        SIMPLE,
        currency=currency,
        kind=draw(st.sampled_from(Kind)),
        lines=tuple(lines),
        taxes=tuple(taxes),
        withholdings=tuple(withheld),
        allowances=allowances,
        charges=charges,
        prepaid=prepaid,
        rounding=rounding,
        payable=payable,
    )


@given(invoices())
def test_debits_equal_credits_in_every_voucher(invoice: Invoice) -> None:
    try:
        voucher = voucher_for(invoice)
    except NothingToBook:
        return
    assert sum(entry.debit for entry in voucher.entries) == sum(entry.credit for entry in voucher.entries)
    assert len({entry.account for entry in voucher.entries}) == len(voucher.entries) >= 2
    assert all(
        (entry.debit > 0) != (entry.credit > 0) and min(entry.debit, entry.credit) == 0 for entry in voucher.entries
    )
    sign = -1 if invoice.kind is Kind.CREDIT_NOTE else 1
    assert figures(voucher).get("Assets:Customers", 0) == sign * to_minor(invoice.payable, invoice.currency)


@given(invoices())
def test_a_credit_note_is_the_reverse_of_the_invoice(invoice: Invoice) -> None:
    try:
        one, other = (figures(voucher_for(attrs.evolve(invoice, kind=kind))) for kind in Kind)
    except NothingToBook:
        return
    assert one == {account: -amount for account, amount in other.items()}


@given(invoices())
def test_any_invoice_is_equal_after_a_round_trip_through_json(invoice: Invoice) -> None:
    assert msgspec.json.decode(msgspec.json.encode(invoice), type=Invoice) == invoice


@given(invoices(), st.decimals("0.0001", 1000, places=4))
def test_a_payable_amount_that_is_off_by_more_than_rounding_is_refused(invoice: Invoice, error: Decimal) -> None:
    units = 20 + error  # at most 12 accounts are rounded, which makes a difference of at most 6
    wrong = attrs.evolve(invoice, payable=invoice.payable + units.scaleb(-exponent(invoice.currency)))
    with pytest.raises(DoesNotAddUp):
        voucher_for(wrong)


def test_a_difference_of_one_cent_without_rounding_is_refused() -> None:
    with pytest.raises(DoesNotAddUp, match=r"states 10\.01, its parts make 10\.00"):
        voucher_for(attrs.evolve(SIMPLE, payable=Decimal("10.01")))
    with pytest.raises(DoesNotAddUp, match=r"states 10\.01, its parts make 10\.00"):
        voucher_for(attrs.evolve(SIMPLE, payable=Decimal("10.01"), kind=Kind.CREDIT_NOTE))


def test_a_rounding_difference_is_booked_to_the_rounding_account() -> None:
    lines = tuple(Line("x", Decimal("0.333333"), label) for label in ("a", "b", "c"))
    assert figures(voucher_for(attrs.evolve(SIMPLE, lines=lines, payable=Decimal("1.00")))) == {
        "Assets:Customers": 100,
        "Income:Sales:a": -33,
        "Income:Sales:b": -33,
        "Income:Sales:c": -33,
        "Expenses:Rounding": -1,
    }


def test_lines_with_the_same_rate_are_summed_before_rounding() -> None:
    lines = (Line("x", Decimal("0.333333"), "a"),) * 3
    invoice = attrs.evolve(SIMPLE, lines=lines, payable=Decimal("1.00"))
    assert figures(voucher_for(invoice)) == {"Assets:Customers": 100, "Income:Sales:a": -100}


def test_a_negative_invoice_changes_sides() -> None:
    invoice = attrs.evolve(SIMPLE, lines=(Line("x", Decimal(-10), "a"),), payable=Decimal(-10))
    assert figures(voucher_for(invoice)) == {"Assets:Customers": -1000, "Income:Sales:a": 1000}


@pytest.mark.parametrize("kind", Kind)
def test_an_invoice_of_zero_needs_no_voucher(kind: Kind) -> None:
    with pytest.raises(NothingToBook):
        voucher_for(attrs.evolve(SIMPLE, lines=(Line("x", Decimal(0), "a"),), payable=Decimal(0), kind=kind))


@pytest.mark.parametrize("amount", ["1E+900000", "NaN", "Infinity", "99999999999999.99"])
def test_an_amount_larger_than_the_ledger_supports_is_refused(amount: str) -> None:
    invoice = attrs.evolve(SIMPLE, lines=(Line("x", Decimal(amount), "a"),), payable=Decimal(amount))
    with pytest.raises(Refused, match="more than the ledger supports"):
        voucher_for(invoice)


def test_an_unknown_currency_is_refused() -> None:
    with pytest.raises(InvoiceError, match="ZZZ"):
        voucher_for(attrs.evolve(SIMPLE, currency="ZZZ"))


def test_a_purchase_is_the_mirror_of_the_sale() -> None:
    assert figures(voucher_for(read_invoice(CFDI.encode()), Side.PURCHASE)) == {
        "Liabilities:Suppliers": -19080,
        "Liabilities:Withheld:ISR": -1800,
        "Expenses:Allowances": -2000,
        "Expenses:Purchases:IVA 16 %": 20000,
        "Assets:Taxes:IVA 16 %": 2880,
    }


@given(invoices(), st.sampled_from(Kind), st.booleans())
def test_a_purchase_has_the_amounts_of_the_sale_on_the_other_side(
    invoice: Invoice, kind: Kind, prepayment: bool
) -> None:
    invoice = attrs.evolve(invoice, kind=kind, prepayment=prepayment)
    try:
        sale, purchase = (voucher_for(invoice, side) for side in Side)
    except NothingToBook:
        return
    assert [(entry.debit, entry.credit) for entry in sale.entries] == [
        (entry.credit, entry.debit) for entry in purchase.entries
    ]
    assert sum(entry.debit - entry.credit for entry in purchase.entries) == 0


@pytest.mark.parametrize("side", Side)
def test_a_prepayment_and_its_final_invoice_are_counted_once(side: Side) -> None:
    advance = ubl("T-1", code="386")
    final = ubl("T-2", net="300.00", tax="75.00", total="375.00", prepaid="125.00", payable="250.00")
    sums: Counter[str] = Counter()
    for document in (advance, final):
        sums.update(figures(voucher_for(read_invoice(document.encode()), side)))
    expected = {"Assets:Customers": 37500, "Income:Sales:VAT 25 %": -30000, "Liabilities:Taxes:VAT 25 %": -7500}
    if side is Side.PURCHASE:
        expected = {
            "Liabilities:Suppliers": -37500,
            "Expenses:Purchases:VAT 25 %": 30000,
            "Assets:Taxes:VAT 25 %": 7500,
        }
    assert {account: amount for account, amount in sums.items() if amount} == expected


@given(invoices(), st.sampled_from(Kind))
def test_a_prepayment_books_nothing_but_the_advance(invoice: Invoice, kind: Kind) -> None:
    try:
        voucher = voucher_for(attrs.evolve(invoice, kind=kind, prepayment=True))
    except NothingToBook:
        return
    assert {entry.account.rpartition(":")[0] for entry in voucher.entries} <= {
        "Assets",
        "Assets:Withheld",
        "Liabilities",
        "Expenses",
    }


def test_lines_that_cancel_out_need_no_voucher() -> None:
    lines = (Line("x", Decimal("0.30"), "a"), Line("x", Decimal("-0.30"), "a"))
    with pytest.raises(NothingToBook):
        voucher_for(attrs.evolve(SIMPLE, lines=lines, payable=Decimal(0)))
