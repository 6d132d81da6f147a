"""Rules of the reader: what is read from UBL and CFDI files, and why a file is refused."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from pathlib import Path

import msgspec
import pytest
from demo_documents import CFDI, UBL, changed

from trio_jobs_demo.invoices import (
    BadField,
    DoesNotAddUp,
    Invoice,
    Kind,
    Line,
    NothingToBook,
    Refused,
    Tax,
    Unreadable,
    Unsupported,
    Withholding,
)
from trio_jobs_demo.reader import read_invoice, read_invoice_file

CREDIT_ROOT = (
    ("xsd:Invoice-2", "xsd:CreditNote-2"),
    ("<Invoice ", "<CreditNote "),
    ("</Invoice>", "</CreditNote>"),
    ("InvoiceTypeCode>380<", "CreditNoteTypeCode>381<"),
    ("InvoiceTypeCode>", "CreditNoteTypeCode>"),
    ("cac:InvoiceLine>", "cac:CreditNoteLine>"),
)


def test_every_field_of_a_ubl_invoice_is_read() -> None:
    assert read_invoice(UBL.encode()) == Invoice(
        number="T-1",
        issuer_id="XX 123",
        issuer="Seller",
        customer="Buyer",
        issued=dt.date(2024, 5, 6),
        currency="EUR",
        kind=Kind.INVOICE,
        lines=(Line("Thing", Decimal("100.00"), "VAT 20 %"),),
        payable=Decimal("102.00"),
        taxes=(Tax("VAT", "20 %", Decimal("110.00"), Decimal("22.00")),),
        charges=Decimal("10.00"),
        prepaid=Decimal("30.00"),
    )


def test_every_field_of_a_cfdi_is_read() -> None:
    assert read_invoice(CFDI.encode()) == Invoice(
        number="A-1",
        issuer_id="AAA010101AAA",
        issuer="EMISOR",
        customer="RECEPTOR",
        issued=dt.date(2024, 5, 6),
        currency="MXN",
        kind=Kind.INVOICE,
        lines=(Line("Cosa", Decimal("200.00"), "IVA 16 %"),),
        payable=Decimal("190.80"),
        taxes=(Tax("IVA", "16 %", Decimal("180.00"), Decimal("28.80")),),
        withholdings=(Withholding("ISR", Decimal("18.00")),),
        allowances=Decimal("20.00"),
    )


@pytest.mark.parametrize("document", [UBL, CFDI])
def test_an_invoice_is_equal_after_a_round_trip_through_json(document: str) -> None:
    invoice = read_invoice(document.encode())
    assert msgspec.json.decode(msgspec.json.encode(invoice), type=Invoice) == invoice


def test_a_key_consists_of_issuer_and_number() -> None:
    assert read_invoice(UBL.encode()).key == "XX123 T-1"


@pytest.mark.parametrize("code", ["380", "384", "386", "389"])
def test_each_invoice_type_is_an_invoice(code: str) -> None:
    assert read_invoice(changed(UBL, ("Code>380<", f"Code>{code}<"))).kind is Kind.INVOICE


@pytest.mark.parametrize("changes", [CREDIT_ROOT, (("Code>380<", "Code>381<"),)])
def test_a_credit_note_is_recognized_by_its_type_in_either_root(changes: tuple[tuple[str, str], ...]) -> None:
    assert read_invoice(changed(UBL, *changes)).kind is Kind.CREDIT_NOTE


def test_an_egreso_is_a_credit_note() -> None:
    document = changed(CFDI, ('TipoDeComprobante="I"', 'TipoDeComprobante="E"'))
    assert read_invoice(document).kind is Kind.CREDIT_NOTE


@pytest.mark.parametrize(
    "document",
    [
        changed(UBL, ("cac:", "a:"), (":cac=", ":a="), ("cbc:", "b:"), (":cbc=", ":b=")),
        changed(UBL, ("<cbc:ID>T-1", "<!-- no --><cbc:ID>\n  T-1\n")),
        b"\xef\xbb\xbf" + UBL.encode(),
        UBL.replace("UTF-8", "UTF-16").encode("utf-16"),
        UBL.replace("UTF-8", "windows-1252").encode("cp1252"),
        changed(UBL, ("2024-05-06", "2024-05-06+02:00")),
        changed(UBL, ("true</cbc:Charge", "1</cbc:Charge")),
    ],
    ids=["prefixes", "comment", "bom", "utf-16", "windows-1252", "zone", "indicator"],
)
def test_the_way_of_writing_does_not_matter(document: bytes) -> None:
    assert read_invoice(document) == read_invoice(UBL.encode())


def test_a_tax_total_in_the_tax_office_s_currency_is_not_booked() -> None:
    second = '<cac:TaxTotal><cbc:TaxAmount currencyID="SEK">251.02</cbc:TaxAmount></cac:TaxTotal>'
    end = "</cbc:DocumentCurrencyCode>"
    said = (end, f"{end}<cbc:TaxCurrencyCode>SEK</cbc:TaxCurrencyCode>")
    for first, then in ((second, ""), ("", second)):
        document = UBL.replace("  <cac:TaxTotal>", f"{first}<cac:TaxTotal>")
        document = document.replace("</cac:TaxTotal>\n", f"</cac:TaxTotal>{then}")
        assert read_invoice(changed(document, said)) == read_invoice(UBL.encode())
        with pytest.raises(BadField, match="TaxCurrencyCode"):
            read_invoice(document.encode())


def test_an_unstamped_cfdi_and_its_stamped_copy_are_the_same_invoice() -> None:
    stamp = (
        '<cfdi:Complemento><t:TimbreFiscalDigital xmlns:t="http://www.sat.gob.mx/TimbreFiscalDigital" UUID="AB-CD"/>'
        "</cfdi:Complemento></cfdi:Comprobante>"
    )
    stamped = changed(CFDI, ("</cfdi:Comprobante>", stamp))
    assert read_invoice(stamped) == read_invoice(CFDI.encode())
    no_folio = changed(stamped.decode(), ('Folio="1"', ""))
    assert read_invoice(no_folio).number == "ab-cd"


def test_local_taxes_are_part_of_the_total() -> None:
    local = (
        '<cfdi:Complemento><l:ImpuestosLocales xmlns:l="http://www.sat.gob.mx/implocal" version="1.0"'
        ' TotaldeTraslados="5.40" TotaldeRetenciones="1.80">'
        '<l:TrasladosLocales ImpLocTrasladado="ISH" TasadeTraslado="3.00" Importe="5.40"/>'
        '<l:RetencionesLocales ImpLocRetenido="5 al millar" TasadeRetencion="1.00" Importe="1.80"/>'
        "</l:ImpuestosLocales></cfdi:Complemento></cfdi:Comprobante>"
    )
    invoice = read_invoice(changed(CFDI, ("</cfdi:Comprobante>", local), ('Total="190.80"', 'Total="194.40"')))
    assert invoice.taxes[1:] == (Tax("ISH", "3 %", Decimal(0), Decimal("5.40")),)
    assert invoice.withholdings[1:] == (Withholding("5 al millar", Decimal("1.80")),)


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        (changed(CFDI, ('Comprobante="I"', 'Comprobante="P"')), "payment receipt"),
        (changed(CFDI, ('Comprobante="I"', 'Comprobante="N"')), "payroll"),
        (changed(CFDI, ('Comprobante="I"', 'Comprobante="T"')), "transfer"),
        (changed(UBL, ("Code>380<", "Code>325<")), "pro-forma"),
    ],
)
def test_a_document_that_sells_nothing_asks_for_no_voucher(document: bytes, reason: str) -> None:
    with pytest.raises(NothingToBook, match=reason):
        read_invoice(document)


DAMAGE = [
    (UBL, "<cbc:ID>T-1</cbc:ID>", "", "ID (BT-1)", BadField),
    (UBL, "<cbc:ID>T-1</cbc:ID>", "<cbc:ID>T-1</cbc:ID><cbc:ID>T-2</cbc:ID>", "ID", BadField),
    (UBL, "T-1", "T" * 101, "ID (BT-1)", BadField),
    (UBL, "2024-05-06", "2024-02-30", "IssueDate (BT-2)", BadField),
    (UBL, "2024-05-06", "20240506", "IssueDate (BT-2)", BadField),
    (UBL, "Code>380<", "Code>351<", "InvoiceTypeCode (BT-3)", Unsupported),
    (UBL, "<cbc:InvoiceTypeCode>380</cbc:InvoiceTypeCode>", "", "InvoiceTypeCode (BT-3)", BadField),
    (UBL, "Code>EUR<", "Code>EURO<", "DocumentCurrencyCode (BT-5)", Unsupported),
    (UBL, "Code>EUR<", "Code>SEK<", "InvoiceLine 1: LineExtensionAmount (BT-131)", BadField),
    (UBL, "Seller", "", "AccountingSupplierParty/RegistrationName (BT-27)", BadField),
    (UBL, "true</cbc:Charge", "maybe</cbc:Charge", "AllowanceCharge/ChargeIndicator", BadField),
    (UBL, "<cbc:ID>S</cbc:ID>", "<cbc:ID>S: [red]</cbc:ID>", "InvoiceLine 1: ID", BadField),
    (UBL, '"EUR">100.00', '"EUR">101.00', "InvoiceLine 1: LineExtensionAmount (BT-131)", None),
    (UBL, '"EUR">30.00', '"EUR">1E+900000', "PrepaidAmount (BT-113)", BadField),
    (UBL, '"EUR">30.00', '"EUR">NaN', "PrepaidAmount (BT-113)", BadField),
    (UBL, '"EUR">30.00', '"EUR">30,00', "PrepaidAmount (BT-113)", BadField),
    (UBL, '"EUR">30.00', '"EUR">٣٠', "PrepaidAmount (BT-113)", BadField),
    (UBL, '"EUR">30.00', '"EUR">30.00000000000000000', "PrepaidAmount (BT-113)", BadField),
    (UBL, '"EUR">30.00', '"EUR">30.01', "PayableAmount (BT-115)", DoesNotAddUp),
    (UBL, '"EUR">22.00', '"EUR">23.50', "TaxSubtotal/TaxAmount (BT-117)", DoesNotAddUp),
    (CFDI, 'Version="4.0"', 'Version="3.3"', "Version", Unsupported),
    (CFDI, "cfd/4", "cfd/3", "Version", Unsupported),
    (CFDI, 'Comprobante="I"', 'Comprobante="X"', "TipoDeComprobante", BadField),
    (CFDI, 'Moneda="MXN"', 'Moneda="XXX"', "Moneda", Unsupported),
    (CFDI, 'Folio="1"', "", "Folio", BadField),
    (CFDI, 'Rfc="AAA010101AAA"', "", "Emisor/Rfc", BadField),
    (CFDI, 'Total="190.80"', 'Total="-190.80"', "Total", BadField),
    (CFDI, 'Total="190.80"', 'Total="190.82"', "Total", DoesNotAddUp),
    (CFDI, 'Total="190.80"', "", "Total", BadField),
    (CFDI, 'SubTotal="200.00"', 'SubTotal="201.00"', "SubTotal", DoesNotAddUp),
    (CFDI, 'SubTotal="200.00" Descuento="20.00"', 'SubTotal="200.00"', "Descuento", DoesNotAddUp),
    (CFDI, 'Trasladados="28.80"', 'Trasladados="28.90"', "TotalImpuestosTrasladados", DoesNotAddUp),
    (CFDI, 'Base="180.00" Impuesto="001"', 'Base="180.00" Impuesto="003"', "Impuestos/Retencion IEPS", DoesNotAddUp),
    (
        CFDI,
        'TipoFactor="Tasa" TasaOCuota="0.16',
        'TipoFactor="Tase" TasaOCuota="0.16',
        "Concepto 1: TipoFactor",
        BadField,
    ),
]


@pytest.mark.parametrize(("document", "old", "new", "field", "error"), DAMAGE)
def test_a_damaged_file_is_refused_with_the_name_of_the_field(
    document: str, old: str, new: str, field: str, error: type[Refused] | None
) -> None:
    if error is None:  # the sum of the lines is wrong, not the line
        error, field = DoesNotAddUp, "LineExtensionAmount (BT-106)"
        damaged = changed(
            document,
            (f"{old}</cbc:LineExtensionAmount>\n    <cac:Item", f"{new}</cbc:LineExtensionAmount>\n    <cac:Item"),
        )
    else:
        damaged = changed(document, (old, new))
    with pytest.raises(error) as caught:
        read_invoice(damaged)
    assert caught.value.field == field
    assert field in caught.value.reason
    assert caught.value.reason.isprintable()


def test_a_wrong_sum_is_refused_with_both_figures() -> None:
    with pytest.raises(DoesNotAddUp, match=r"states 190\.82, its parts make 190\.80") as caught:
        read_invoice(changed(CFDI, ('Total="190.80"', 'Total="190.82"')))
    assert (caught.value.stated, caught.value.computed) == (Decimal("190.82"), Decimal("190.80"))


@pytest.mark.parametrize(
    "data", [b"", b"no xml", b"<a/>", b"<a><b></a>", b'<?xml version="1.0" encoding="martian"?><a/>']
)
def test_a_file_that_is_not_an_invoice_is_refused(data: bytes) -> None:
    with pytest.raises(Refused):
        read_invoice(data)


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "missing.xml", tmp_path):
        with pytest.raises(Unreadable):
            read_invoice_file(path)
