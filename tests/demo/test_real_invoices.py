"""Each real invoice of the test data is booked, or needs no voucher; the table has the expected result.

The files are not part of this project; `README.md` in their folder names their sources.
"""

from __future__ import annotations

import os
from decimal import Decimal
from pathlib import Path

import pytest

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
