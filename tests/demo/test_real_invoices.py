"""Each real invoice of the test data is booked, or needs no voucher; the table has the expected result.

The files are not part of this project; `README.md` in their folder names their sources.
"""

from __future__ import annotations

import csv
import os
import sqlite3
from collections import Counter
from contextlib import closing
from decimal import Decimal
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from trio_jobs_demo.__main__ import main
from trio_jobs_demo.currencies import to_minor
from trio_jobs_demo.invoices import NothingToBook
from trio_jobs_demo.ledger import Ledger
from trio_jobs_demo.reader import read_invoice_file
from trio_jobs_demo.vouchers import voucher_for

FOLDER = Path(os.environ.get("TRIO_JOBS_INVOICES") or Path(__file__).parents[2].parent / "shared" / "invoices")

pytestmark = pytest.mark.skipif(
    not FOLDER.is_dir(),
    reason="no real invoices: put UBL examples of ConnectingEurope/eInvoicing-EN16931 into ../shared/invoices/ubl and"
    " CFDI 4.0 of SAT-CFDI/python-satcfdi into ../shared/invoices/cfdi, or name another folder in TRIO_JOBS_INVOICES",
)

CFDI = "http://www.sat.gob.mx/cfd/4"

RECEIPT = "payment receipt"
PAYROLL = "payroll receipt"

# What the customer owes according to the file, or why the file needs no voucher.
EXPECTED = {
    "cfdi/h-e951128469_ingreso_exento.xml": "15390.30 MXN",
    "cfdi/h-e951128469_ingreso_exento_stamped.xml": "15390.30 MXN",
    "cfdi/h-e951128469_ingreso_ieps_exento_stamped.xml": "15390.30 MXN",
    "cfdi/h-e951128469_ingreso_iva16.xml": "17852.75 MXN",
    "cfdi/h-e951128469_ingreso_iva8.xml": "16621.52 MXN",
    "cfdi/h-e951128469_ingreso_iva8_stamped.xml": "16621.52 MXN",
    "cfdi/h-e951128469_ingreso_noobjeto_stamped.xml": "15390.30 MXN",
    "cfdi/invoice_nomina.xml": PAYROLL,
    "cfdi/iva_concepto_suma_100.04.xml": "696.28 MXN",
    "cfdi/iva_concepto_suma_100.05.xml": "696.35 MXN",
    "cfdi/manual.xml.xml": "14672.08 MXN",
    "cfdi/manual_no_signature.xml.xml": "14672.08 MXN",
    "cfdi/rentenciones_concepto_suma_100.03.xml": "572.16 MXN",
    "cfdi/rentenciones_concepto_suma_100.04.xml": "572.24 MXN",
    "cfdi/rentenciones_concepto_suma_100.06.xml": "572.34 MXN",
    "cfdi/rentenciones_concepto_suma_100.07.xml": "572.41 MXN",
    "cfdi/xiqb891116qe4_ingreso_exento_stamped.xml": "13851.27 MXN",
    "cfdi/xiqb891116qe4_ingreso_iva0.xml": "15390.30 MXN",
    "cfdi/xiqb891116qe4_ingreso_iva16.xml": "14672.08 MXN",
    "cfdi/xiqb891116qe4_ingreso_iva16_stamped.xml": "14672.08 MXN",
    "cfdi/xiqb891116qe4_ingreso_noobjeto_stamped.xml": "13851.27 MXN",
    "cfdi-payments/iva_concepto_suma_pago_100.03.xml": RECEIPT,
    "cfdi-payments/iva_concepto_suma_pago_100.04.xml": RECEIPT,
    "cfdi-payments/iva_concepto_suma_pago_100.05.xml": RECEIPT,
    "cfdi-payments/mpago2_h-e951128469_ingreso_exento.xml": RECEIPT,
    "cfdi-payments/mpago2_h-e951128469_ingreso_ieps_exento.xml": RECEIPT,
    "cfdi-payments/mpago2_h-e951128469_ingreso_iva16.xml": RECEIPT,
    "ubl/BIS3_Invoice_negativ.XML": "-782179.43 DKK",
    "ubl/BIS3_Invoice_positive.XML": "782179.43 DKK",
    "ubl/guide-example2.xml": "801.78 NOK",
    "ubl/guide-example3.xml": "1125.00 DKK",
    "ubl/sample-discount-price.xml": "15.15 EUR",
    "ubl/ubl-tc434-creditnote1.xml": "100.11 EUR",
    "ubl/ubl-tc434-example10.xml": "250.33 EUR",
    "ubl/ubl-tc434-example2.xml": "801.78 NOK",
    "ubl/ubl-tc434-example4.xml": "4675.00 DKK",
    "ubl/ubl-tc434-example5.xml": "2337.50 DKK",
    "ubl/ubl-tc434-example7.xml": "3200.00 SEK",
    "ubl/ubl-tc434-example8.xml": "1099.78 EUR",
}


def files() -> dict[str, Path]:
    found = (path for path in FOLDER.rglob("*") if path.suffix.lower() == ".xml")
    return {path.relative_to(FOLDER).as_posix(): path for path in found}


def test_every_file_of_the_table_exists() -> None:
    assert set(EXPECTED) <= set(files())


@pytest.mark.parametrize("name", EXPECTED)
def test_a_real_invoice_has_the_expected_result(name: str, tmp_path: Path) -> None:
    expected = EXPECTED[name]
    if expected in (RECEIPT, PAYROLL):
        with pytest.raises(NothingToBook, match=expected):
            read_invoice_file(files()[name])
        return
    figure, currency = expected.split()
    voucher = voucher_for(read_invoice_file(files()[name]))
    assert voucher.currency == currency
    owed = sum(entry.debit - entry.credit for entry in voucher.entries if entry.account == "Assets:Customers")
    assert owed == (-1 if "creditnote" in name else 1) * to_minor(Decimal(figure), currency)
    ledger = Ledger.open(tmp_path / "book.db")
    try:
        number = ledger.create_voucher(voucher)
        assert ledger.find(voucher.reference) == (number,)
    finally:
        ledger.close()


def figures_of(path: Path) -> tuple[str, Counter[str]]:
    """The currency of a file and what it says of each group of accounts, read without the demo. Debit is positive."""
    root = ET.parse(path).getroot()
    if root.tag == f"{{{CFDI}}}Comprobante":
        currency, sign = root.get("Moneda", ""), -1 if root.get("TipoDeComprobante") == "E" else 1
        summary = root.find(f"{{{CFDI}}}Impuestos")
        taxes = {} if summary is None else summary.attrib
        amounts = {
            "Assets:Customers": root.get("Total", "0"),
            "Assets:Withheld": taxes.get("TotalImpuestosRetenidos", "0"),
            "Income:Allowances": root.get("Descuento", "0"),
            "Income:Sales": f"-{root.get('SubTotal')}",
            "Liabilities:Taxes": f"-{taxes.get('TotalImpuestosTrasladados', '0')}",
        }
    else:
        currency = text(root, "DocumentCurrencyCode")
        sign = -1 if text(root, "InvoiceTypeCode|CreditNoteTypeCode") == "381" else 1
        totals = next(child for child in root if child.tag.endswith("}LegalMonetaryTotal"))
        taxes_stated = [
            text(child, "TaxAmount")
            for child in root
            if child.tag.endswith("}TaxTotal") and f'currencyID="{currency}"' in ET.tostring(child, "unicode")
        ]
        amounts = {
            "Assets:Customers": text(totals, "PayableAmount"),
            "Liabilities:Prepayments": text(totals, "PrepaidAmount"),
            "Income:Allowances": text(totals, "AllowanceTotalAmount"),
            "Income:Sales": str(-Decimal(text(totals, "LineExtensionAmount"))),
            "Income:Charges": str(-Decimal(text(totals, "ChargeTotalAmount"))),
            "Liabilities:Taxes": str(-sum(map(Decimal, taxes_stated))),
            "Expenses:Rounding": str(-Decimal(text(totals, "PayableRoundingAmount"))),
        }
    return currency, Counter({name: sign * to_minor(Decimal(amount), currency) for name, amount in amounts.items()})


def text(element: ET.Element, names: str) -> str:
    """The text of the first child with one of these names; "0" without one."""
    found = (child.text for child in element if child.tag.rpartition("}")[2] in names.split("|"))
    return next(found, None) or "0"


def test_the_trial_balance_is_the_sum_of_the_documents(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    book, report = tmp_path / "book.db", tmp_path / "report.csv"
    assert main([str(FOLDER), "--book", str(book), "--csv", str(report)]) == 3  # numbers that are used several times
    said = capsys.readouterr().out
    with report.open(encoding="utf-8", newline="") as file:
        booked = [Path(row["file"]) for row in csv.DictReader(file) if row["status"] == "booked"]
    assert f" {len(booked)} booked" in said
    expected: dict[str, Counter[str]] = {}
    for path in booked:
        currency, figures = figures_of(path)
        expected.setdefault(currency, Counter()).update(figures)
    with closing(sqlite3.connect(book)) as connection:
        rows = connection.execute(
            "SELECT currency, account, sum(debit) - sum(credit) FROM entries JOIN vouchers ON voucher = number"
            " GROUP BY currency, account"
        ).fetchall()
    kept: dict[str, Counter[str]] = {}
    for currency, account, amount in rows:
        kept.setdefault(currency, Counter())[":".join(account.split(":")[:2])] += amount
    assert set(kept) == set(expected) == {"DKK", "EUR", "MXN", "NOK", "SEK"}
    for currency, figures in expected.items():
        assert {name: kept[currency][name] for name in figures} == dict(figures)
        assert sum(kept[currency].values()) == 0
        assert set(kept[currency]) <= set(figures) | {"Expenses:Rounding"}
