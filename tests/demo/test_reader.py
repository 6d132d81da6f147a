"""Rules of the reader: what is read from UBL and CFDI files, and why a file is refused."""

from __future__ import annotations

import datetime as dt
import re
from decimal import Decimal
from pathlib import Path

import msgspec
import pytest
from demo_documents import CFDI, UBL, as_credit_note, changed, ubl
from hypothesis import given
from hypothesis import strategies as st

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


def _with(document: str, *changes: tuple[str, str]) -> Invoice:
    return read_invoice(changed(document, *changes))


SAR = ubl().replace("EUR", "SAR").replace("</cbc:DocumentCurrencyCode>", "</cbc:DocumentCurrencyCode>{}")
SAME_CURRENCY = SAR.format("<cbc:TaxCurrencyCode>SAR</cbc:TaxCurrencyCode>")
AGAIN = '<cac:TaxTotal><cbc:TaxAmount currencyID="SAR">{}</cbc:TaxAmount></cac:TaxTotal>'


@pytest.mark.parametrize("after", [False, True])
def test_a_tax_total_that_repeats_the_other_in_the_same_currency_is_counted_once(after: bool) -> None:
    place = "<cac:LegalMonetaryTotal>" if after else "<cac:TaxTotal>"
    again = _with(SAME_CURRENCY, (place, AGAIN.format("25.00") + place))
    assert again == read_invoice(SAME_CURRENCY.encode())
    with pytest.raises(DoesNotAddUp, match="given again"):
        _with(SAME_CURRENCY, (place, AGAIN.format("26.00") + place))


def test_a_tax_total_that_is_written_twice_is_counted_once() -> None:
    start, end = SAME_CURRENCY.index("<cac:TaxTotal>"), SAME_CURRENCY.index("<cac:LegalMonetaryTotal>")
    twice = SAME_CURRENCY[:end] + SAME_CURRENCY[start:end] + SAME_CURRENCY[end:]
    assert read_invoice(twice.encode()) == read_invoice(SAME_CURRENCY.encode())


def test_several_taxes_may_have_a_total_each() -> None:
    second = (
        '<cac:TaxTotal><cbc:TaxAmount currencyID="EUR">3.00</cbc:TaxAmount><cac:TaxSubtotal>'
        '<cbc:TaxAmount currencyID="EUR">3.00</cbc:TaxAmount><cac:TaxCategory><cbc:ID>S</cbc:ID><cbc:Percent>3'
        "</cbc:Percent><cac:TaxScheme><cbc:ID>ECO</cbc:ID></cac:TaxScheme></cac:TaxCategory></cac:TaxSubtotal>"
        "</cac:TaxTotal>"
    )
    totals = "<cac:LegalMonetaryTotal>"
    invoice = _with(ubl(total="128.00", payable="128.00"), (totals, second + totals))
    assert [(tax.name, tax.rate, tax.amount) for tax in invoice.taxes] == [
        ("VAT", "25 %", Decimal("25.00")),
        ("ECO", "3 %", Decimal("3.00")),
    ]


def test_a_tax_without_a_breakdown_has_the_rate_of_its_lines() -> None:
    start, end = ubl().index("<cac:TaxSubtotal>"), ubl().index("</cac:TaxSubtotal>") + len("</cac:TaxSubtotal>")
    document = ubl()[:start] + ubl()[end:]
    assert read_invoice(document.encode()).taxes == read_invoice(ubl().encode()).taxes
    with pytest.raises(BadField, match="the lines do not have one tax"):
        _with(document, ("<cbc:ID>S</cbc:ID><cbc:Percent>25</cbc:Percent>", "<cbc:ID>O</cbc:ID>"))


def test_a_credit_note_needs_no_type_code_and_an_invoice_does() -> None:
    note = read_invoice(as_credit_note(ubl()).encode())
    assert (note.kind, note.signed_payable) == (Kind.CREDIT_NOTE, Decimal("-125.00"))
    with pytest.raises(BadField, match="InvoiceTypeCode"):
        _with(ubl(), ("<cbc:InvoiceTypeCode>380</cbc:InvoiceTypeCode>", ""))


@pytest.mark.parametrize("name", ["StandardRated", "S"])
@pytest.mark.parametrize("scheme", ["63", "VAT"])
def test_categories_and_schemes_that_are_spelt_out_have_the_usual_label(name: str, scheme: str) -> None:
    invoice = _with(ubl(), ("<cbc:ID>S<", f"<cbc:ID>{name}<"), ("<cbc:ID>VAT<", f"<cbc:ID>{scheme}<"))
    assert invoice.taxes[0].rate == "25 %"
    assert invoice.lines[0].tax == "VAT 25 %"


def test_a_line_may_have_its_tax_in_a_total_of_its_own() -> None:
    category = ubl()[ubl().index("<cac:ClassifiedTaxCategory>") : ubl().index("</cac:ClassifiedTaxCategory>")]
    inner = category.removeprefix("<cac:ClassifiedTaxCategory>")
    document = ubl().replace(f"{category}</cac:ClassifiedTaxCategory>", "")
    own = f"<cac:TaxTotal><cac:TaxSubtotal><cac:TaxCategory>{inner}</cac:TaxCategory></cac:TaxSubtotal></cac:TaxTotal>"
    second = own.replace("25", "3").replace("VAT", "ECO")
    for taxes, label in ((own, "VAT 25 %"), (own + second, "ECO 3 % + VAT 25 %"), (second * 2, "ECO 3 %")):
        invoice = read_invoice(document.replace("<cac:Item>", f"{taxes}<cac:Item>").encode())
        assert invoice.lines[0].tax == label


def test_the_total_without_taxes_has_the_taxes_in_oioubl() -> None:
    exclusive = '<cbc:TaxExclusiveAmount currencyID="EUR">{}</cbc:TaxExclusiveAmount>'
    document = ubl().replace(exclusive.format("100.00"), exclusive.format("25.00"))
    assert read_invoice(document.encode()) == read_invoice(ubl().encode())
    with pytest.raises(DoesNotAddUp, match="TaxExclusiveAmount"):
        read_invoice(document.replace(exclusive.format("25.00"), exclusive.format("26.00")).encode())
    with pytest.raises(DoesNotAddUp, match="TaxInclusiveAmount"):  # what follows is still checked
        read_invoice(document.replace(">125.00</cbc:TaxInc", ">50.00</cbc:TaxInc").encode())


def test_a_document_without_a_currency_has_that_of_its_payable_amount() -> None:
    code = "<cbc:DocumentCurrencyCode>EUR</cbc:DocumentCurrencyCode>"
    assert read_invoice(changed(ubl(), (code, ""))) == read_invoice(ubl().encode())
    with pytest.raises(BadField, match='is in "SEK", the invoice is in EUR'):
        read_invoice(
            changed(ubl(), (code, ""), ('"EUR">25.00</cbc:TaxAmount>\n      <', '"SEK">25.00</cbc:TaxAmount>\n      <'))
        )


def test_a_line_may_leave_out_the_scheme_of_its_tax() -> None:
    line = ubl().index("<cac:InvoiceLine>")
    scheme = "<cac:TaxScheme><cbc:ID>VAT</cbc:ID></cac:TaxScheme>"
    document = ubl()[:line] + ubl()[line:].replace(scheme, "")
    assert read_invoice(document.encode()) == read_invoice(ubl().encode())
    gst = read_invoice(document.replace("<cbc:ID>VAT<", "<cbc:ID>GST<").encode())
    assert gst.lines[0].tax == "GST 25 %"


def test_an_invoice_that_is_out_of_scope_of_tax_is_an_invoice() -> None:
    assert read_invoice(ubl(code="480").encode()).kind is Kind.INVOICE


def test_a_customer_may_be_a_person_or_have_no_name() -> None:
    legal = "<cac:PartyLegalEntity><cbc:RegistrationName>Buyer</cbc:RegistrationName></cac:PartyLegalEntity>"
    person = (
        "<cac:Person><cbc:FirstName>Ana</cbc:FirstName><cbc:FamilyName>Ruiz</cbc:FamilyName>"
        "<cbc:MiddleName>M.</cbc:MiddleName></cac:Person>"
    )
    assert _with(ubl(), (legal, person)).customer == "Ana M. Ruiz"
    assert _with(ubl(), (legal, "")).customer == ""
    with pytest.raises(BadField, match="AccountingCustomerParty"):
        _with(ubl(), ("cac:AccountingCustomerParty>", "cac:OtherParty>"))


OPTIONAL = ("LineExtensionAmount", "TaxExclusiveAmount", "TaxInclusiveAmount", "PrepaidAmount")


@given(st.sets(st.sampled_from(OPTIONAL)))
def test_totals_that_ubl_leaves_optional_are_computed(missing: set[str]) -> None:
    start, end = ubl().index("<cac:LegalMonetaryTotal>"), ubl().index("</cac:LegalMonetaryTotal>")
    totals = ubl()[start:end]
    for name in missing:
        totals = re.sub(f"<cbc:{name} .*</cbc:{name}>", "", totals)
    assert read_invoice((ubl()[:start] + totals + ubl()[end:]).encode()) == read_invoice(ubl().encode())


def test_payments_without_their_total_are_deducted_if_that_makes_the_payable_amount() -> None:
    payment = '<cac:PrepaidPayment><cbc:PaidAmount currencyID="EUR">25.00</cbc:PaidAmount></cac:PrepaidPayment>'
    total = '    <cbc:PrepaidAmount currencyID="EUR">0.00</cbc:PrepaidAmount>\n'
    place = "<cac:TaxTotal>"
    paid = _with(ubl(payable="100.00"), (total, ""), (place, payment + place))
    assert (paid.prepaid, paid.payable) == (Decimal("25.00"), Decimal("100.00"))
    assert _with(ubl(), (total, ""), (place, payment + place)).prepaid == 0  # for information
    with pytest.raises(DoesNotAddUp):
        _with(ubl(payable="110.00"), (total, ""), (place, payment + place))


def test_the_total_with_taxes_may_hold_the_rounding() -> None:
    rounding = '<cbc:PayableRoundingAmount currencyID="EUR">0.40</cbc:PayableRoundingAmount><cbc:PayableAmount'
    for total in ("124.60", "125.00"):
        document = ubl(tax="24.60", total=total).replace("<cbc:PayableAmount", rounding)
        assert read_invoice(document.encode()).rounding == Decimal("0.40")
    with pytest.raises(DoesNotAddUp, match="TaxInclusiveAmount"):
        read_invoice(ubl(tax="24.60", total="124.80").replace("<cbc:PayableAmount", rounding).encode())


@given(st.integers(1, 12), st.integers(-10, 10))
def test_lines_may_be_half_a_unit_each_beside_their_total(lines: int, cents: int) -> None:
    start = ubl().index("<cac:InvoiceLine>")
    end = ubl().index("</cac:InvoiceLine>") + len("</cac:InvoiceLine>")
    line = ubl()[start:end]
    total = 100 * lines + Decimal(cents) / 100
    gross = total + 25
    document = ubl(net=f"{total}", total=f"{gross}", payable=f"{gross}", tax="25.00").replace(
        "<cbc:Percent>25<", f"<cbc:Percent>{Decimal(2500) / total:.9f}<"
    )
    start = document.index("<cac:InvoiceLine>")
    document = document[:start] + line * lines + "</Invoice>"
    if abs(cents) * 2 <= lines:
        assert read_invoice(document.encode()).rounding == Decimal(cents) / 100
    else:
        with pytest.raises(DoesNotAddUp, match="LineExtensionAmount"):
            read_invoice(document.encode())


def test_an_invoice_in_an_envelope_is_read() -> None:
    space = "http://www.unece.org/cefact/namespaces/StandardBusinessDocumentHeader"
    body = ubl()[ubl().index("<Invoice") :]
    head = f'<s:StandardBusinessDocument xmlns:s="{space}"><s:StandardBusinessDocumentHeader/>'
    end = "</s:StandardBusinessDocument>"
    assert read_invoice((head + body + end).encode()) == read_invoice(ubl().encode())
    for documents in ("", body * 2):
        with pytest.raises(Unsupported, match=r"an envelope .* take the invoice out of it"):
            read_invoice((head + documents + end).encode())


@pytest.mark.parametrize("declared", ["ISO-8859-1", "windows-1252", "UTF-8"])
@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_byte_order_mark_decides_about_the_encoding(declared: str, encoding: str) -> None:
    document = ubl(issuer="Håvard & Søn".replace("&", "&amp;")).replace("UTF-8", declared)
    assert read_invoice(document.encode(encoding)).issuer == "Håvard & Søn"


def test_bytes_that_are_not_utf_8_after_its_mark_are_refused() -> None:
    with pytest.raises(Unreadable):
        read_invoice(b"\xef\xbb\xbf" + ubl(issuer="Håvard").encode("latin-1"))


@pytest.mark.parametrize("code", ["386", "500", "503"])
def test_a_prepayment_is_recognized_by_its_type(code: str) -> None:
    invoice = read_invoice(ubl(code=code).encode())
    assert invoice.prepayment
    assert (invoice.kind is Kind.CREDIT_NOTE) == (code == "503")


def test_a_credit_note_with_a_negative_total_says_so() -> None:
    document = ubl(code="381", net="-100.00", tax="-25.00", total="-125.00", payable="-125.00")
    invoice = read_invoice(document.encode())
    assert invoice.signed_payable == Decimal("125.00")
    assert any("a credit note with a negative total: booked as an invoice" in remark for remark in invoice.remarks)
    assert not read_invoice(ubl(code="381").encode()).remarks
