"""Whose book it is: the owner's invoices are sales, those to the owner are purchases, all others are refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from demo_books import Desk, balances, vouchers
from demo_documents import CFDI, ubl
from hypothesis import given
from hypothesis import strategies as st

from trio_jobs_demo.invoices import Unsupported
from trio_jobs_demo.owner import normal_id, side_of
from trio_jobs_demo.reader import read_invoice
from trio_jobs_demo.vouchers import Side

SALE = {"Assets:Customers": 12500, "Income:Sales:VAT 25 %": -10000, "Liabilities:Taxes:VAT 25 %": -2500}
PURCHASE = {"Liabilities:Suppliers": -12500, "Expenses:Purchases:VAT 25 %": 10000, "Assets:Taxes:VAT 25 %": 2500}


@pytest.fixture
def desk(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Desk:
    return Desk(tmp_path, capsys)


@pytest.mark.parametrize(("owner", "booked"), [("XX123", SALE), ("YY456", PURCHASE), ("yy-4 56", PURCHASE)])
def test_an_invoice_is_a_sale_of_its_issuer_and_a_purchase_of_its_customer(
    desk: Desk, owner: str, booked: dict[str, int]
) -> None:
    run = desk.run(desk.put("1.xml", ubl()), "--we", owner)
    assert run.counts == {"booked": 1}
    assert f"owner: {normal_id(owner)}; what it issued is a sale, what it received a purchase" in run.out
    assert balances(desk.book) == booked


def test_an_invoice_between_others_is_refused_with_their_names(desk: Desk) -> None:
    run = desk.run(desk.put("1.xml", ubl()), "--we", "ZZ789")
    assert (run.code, run.counts) == (3, {"refused": 1})
    assert 'neither issued by nor to ZZ789: "Seller" to "Buyer"' in run.line("refused")
    assert vouchers(desk.book) == {}


def test_a_cfdi_has_its_sides_by_rfc() -> None:
    invoice = read_invoice(CFDI.encode())
    assert side_of(invoice, ["AAA010101AAA"]) is Side.SALE
    assert side_of(invoice, ["BBB010101BBB"]) is Side.PURCHASE
    with pytest.raises(Unsupported):
        side_of(invoice, ["CCC010101CCC"])


def test_without_an_owner_each_invoice_is_a_sale_of_its_issuer_and_that_is_said(desk: Desk) -> None:
    one, other = desk.put("1.xml", ubl()), desk.put("2.xml", ubl(issuer="Other", issuer_id="ZZ789"))
    run = desk.run(one, other)
    assert run.counts == {"booked": 2}
    assert "owner: none (--we ID sets it); each invoice is booked as a sale of its issuer" in run.out
    assert set(balances(desk.book)) == set(SALE)


def test_a_book_keeps_its_owner(desk: Desk) -> None:
    document = desk.put("1.xml", ubl())
    desk.run(document, "--we", "YY456")
    again = desk.run(document)
    assert again.counts == {"there already": 1}
    assert "owner: YY456;" in again.out
    other = desk.run(document, "--we", "XX123")
    assert other.code == 2
    assert "this is the book of YY456" in other.err
    assert balances(desk.book) == PURCHASE
    both = desk.run(document, "--we", "YY456", "--we", "99/8877")
    assert "owner: 998877, YY456;" in both.out
    assert desk.run(desk.put("2.xml", ubl("T-2", customer_id="998877"))).counts == {"booked": 1}


def test_a_book_that_was_begun_without_an_owner_is_given_none_later(desk: Desk) -> None:
    document = desk.put("1.xml", ubl())
    desk.run(document)
    run = desk.run(document, "--we", "XX123")
    assert run.code == 2
    assert "this book was begun without --we" in run.err


def test_an_owner_needs_a_letter_or_digit(desk: Desk) -> None:
    with pytest.raises(SystemExit) as caught:
        desk.run("--we", " - ")
    assert caught.value.code == 2


@given(st.text(min_size=1, max_size=20))
def test_an_identifier_is_the_same_however_it_is_grouped(text: str) -> None:
    once = normal_id(text)
    assert normal_id(f" {'-'.join(text)} ") == once
    assert normal_id(once) == once
