"""Reads UBL 2.1 Invoice and CreditNote: `BT-n`, `BG-n`, `BR-n` are the terms, groups and rules of EN 16931.

Documents of other profiles of UBL are read as well, where their sums leave no doubt: what UBL leaves optional is
computed from the rest. `ubl_parties` reads seller and customer, `ubl_taxes` the taxes.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Final
from xml.etree.ElementTree import Element

from trio_jobs_demo import fields
from trio_jobs_demo.fields import expect, total
from trio_jobs_demo.invoices import (
    ZERO,
    BadField,
    Invoice,
    Kind,
    Line,
    NothingToBook,
    Unreadable,
    Unsupported,
    quoted,
)
from trio_jobs_demo.ubl_amounts import money
from trio_jobs_demo.ubl_parties import customer_of, seller_of
from trio_jobs_demo.ubl_taxes import Taxes, line_label, scheme_of, taxes_of
from trio_jobs_demo.xml_tree import children, one, text_at

__all__ = ["CREDIT_NOTE", "INVOICE", "MAX_LINES", "read_ubl"]

INVOICE: Final = "{urn:oasis:names:specification:ubl:schema:xsd:Invoice-2}Invoice"
CREDIT_NOTE: Final = "{urn:oasis:names:specification:ubl:schema:xsd:CreditNote-2}CreditNote"

MAX_LINES: Final = 10_000

# UNTDID 1001 as restricted by EN 16931 for BT-3, and 480 of Peppol PINT. Among the invoices: 380 commercial, 384
# corrected, 386 prepayment, 389 self-billed, 480 out of scope of tax; among the credit notes 381 and 261, self-billed.
# Both kinds can occur in either root element.
CREDIT_CODES: Final = "81 83 261 262 296 308 381 396 420 458 502 503 532"
INVOICE_CODES: Final = """
    71 80 82 84 102 130 202 203 204 211 218 219 295 326 331 380 382 383 384 385 386 387 388 389 390 393 394 395 456 457
    471 472 473 480 500 501 527 553 575 623 633 751 780 817 870 875 876 877 935
"""
PROFORMA: Final = "325"
# 500 is a self-billed one, 503 the credit note of one
PREPAYMENT_CODES: Final = ("386", "500", "503")


def read_ubl(root: Element) -> Invoice:
    """Read the invoice in `root` and check its sums.

    Raises:
        Refused: The document cannot be booked; a subclass says why.
        NothingToBook: The document is a pro-forma invoice.
    """
    note = root.tag == CREDIT_NOTE
    code_path = "cbc:CreditNoteTypeCode" if note else "cbc:InvoiceTypeCode"
    kind = kind_of(root, code_path)
    currency = fields.currency(currency_of(root), "DocumentCurrencyCode (BT-5)")
    seller, customer = seller_of(root), customer_of(root)
    lines = lines_of(root, "CreditNoteLine" if note else "InvoiceLine", currency)
    allowances, charges = allowances_and_charges(root, currency)
    taxes = taxes_of(root, currency, lines)
    payable, prepaid = totals_of(root, currency, lines, allowances, charges, taxes)
    parts = total(line.net for line in lines) - allowances + charges + total(tax.amount for tax in taxes.parts)
    return Invoice(
        number=fields.number(text_at(root, "cbc:ID"), "ID (BT-1)"),
        issuer_id=seller.identifier,
        issuer=seller.name,
        customer=customer.name,
        issued=fields.date(text_at(root, "cbc:IssueDate"), "IssueDate (BT-2)"),
        currency=currency,
        kind=kind,
        lines=lines,
        payable=payable,
        taxes=taxes.parts,
        allowances=allowances,
        charges=charges,
        prepaid=prepaid,
        rounding=payable - (parts - prepaid),
        prepayment=text_at(root, code_path) in PREPAYMENT_CODES,
        issuer_ids=seller.identifiers,
        customer_ids=customer.identifiers,
    )


def kind_of(root: Element, path: str) -> Kind:
    """The kind by BT-3, not by the root element: an Invoice of type 381 is a credit note.

    UBL leaves the code of a CreditNote optional, since its name says what it is. An Invoice without a code is refused:
    reminders and requests for payment look like that.
    """
    code, field = text_at(root, path), f"{path[4:]} (BT-3)"
    if code is None:
        if root.tag == CREDIT_NOTE:
            return Kind.CREDIT_NOTE
        raise BadField(field, "missing")
    if code == PROFORMA:
        raise NothingToBook("a pro-forma invoice (type 325): it claims no payment")
    if code in CREDIT_CODES.split():
        return Kind.CREDIT_NOTE
    if code in INVOICE_CODES.split() and root.tag == INVOICE:
        return Kind.INVOICE
    root_name = root.tag.rpartition("}")[2]
    raise Unsupported(f"{field}: {quoted(code)} is not a type of {root_name} in EN 16931", field)


def currency_of(root: Element) -> str | None:
    """The currency by BT-5, which UBL leaves optional; else that of the payable amount."""
    payable = one(root, "cac:LegalMonetaryTotal/cbc:PayableAmount")
    stated = text_at(root, "cbc:DocumentCurrencyCode")
    return stated or (payable.get("currencyID") if payable is not None else None)


def totals_of(
    root: Element,
    currency: str,
    lines: tuple[Line, ...],
    allowances: Decimal,
    charges: Decimal,
    taxes: Taxes,
) -> tuple[Decimal, Decimal]:
    """The payable amount (BT-115) and what was paid before (BT-113), after all totals have been checked.

    UBL requires the payable amount only. A total that is missing is computed, and one that is stated must agree. Each
    line may have been rounded by itself, which explains half a unit of difference in their sum.
    """
    totals = one(root, "cac:LegalMonetaryTotal")
    if totals is None:
        raise BadField("LegalMonetaryTotal (BG-22)", "missing")

    def stated(name: str, term: str, computed: Decimal, rounded: int = 1) -> Decimal:
        field = f"{name} ({term})"
        amount = money(totals, f"cbc:{name}", field, currency, computed)
        expect(field, amount, computed, currency, rounded)
        return amount

    net = stated("LineExtensionAmount", "BT-106", total(line.net for line in lines), len(lines))  # BR-CO-10
    allowance_total = stated("AllowanceTotalAmount", "BT-107", allowances)  # BR-CO-11
    charge_total = stated("ChargeTotalAmount", "BT-108", charges)  # BR-CO-12
    exclusive = net - allowance_total + charge_total  # BR-CO-13
    if money(totals, "cbc:TaxExclusiveAmount", "TaxExclusiveAmount (BT-109)", currency, exclusive) != taxes.stated:
        exclusive = stated("TaxExclusiveAmount", "BT-109", exclusive)
    # else it is an OIOUBL document, where this element has the sum of the taxes
    rounding = money(totals, "cbc:PayableRoundingAmount", "PayableRoundingAmount (BT-114)", currency, ZERO)
    inclusive = exclusive + taxes.stated  # BR-CO-15
    field = "TaxInclusiveAmount (BT-112)"
    given = money(totals, "cbc:TaxInclusiveAmount", field, currency, inclusive)
    if given != inclusive + rounding:  # some programs include the rounding in this total
        expect(field, given, inclusive, currency)
        inclusive = given
    payable = money(totals, "cbc:PayableAmount", "PayableAmount (BT-115)", currency)
    prepaid = prepaid_of(root, totals, currency, inclusive + rounding - payable)
    expect("PayableAmount (BT-115)", payable, inclusive - prepaid + rounding, currency)  # BR-CO-16
    return payable, prepaid


def prepaid_of(root: Element, totals: Element, currency: str, missing: Decimal) -> Decimal:
    """What was paid before: the stated total, else the payments themselves if they explain what is `missing`.

    Without the total, payments that are listed for information only must not be deducted.
    """
    field = "PrepaidPayment/PaidAmount"
    payments = children(root, "cac:PrepaidPayment")
    paid = total(money(payment, "cbc:PaidAmount", field, currency, ZERO) for payment in payments)
    implied = paid if payments and paid == missing else ZERO
    return money(totals, "cbc:PrepaidAmount", "PrepaidAmount (BT-113)", currency, implied)


def lines_of(root: Element, name: str, currency: str) -> tuple[Line, ...]:
    """All lines (BG-25); at least one (BR-16)."""
    elements = children(root, f"cac:{name}")
    if not elements:
        raise BadField(f"{name} (BG-25)", "missing")
    if len(elements) > MAX_LINES:
        raise Unreadable(f"more than {MAX_LINES:,} lines", f"{name} (BG-25)")
    scheme = scheme_of(root)
    lines = []
    for position, element in enumerate(elements, 1):
        where = f"{name} {position}"
        item = one(element, "cac:Item")
        if item is None:
            raise BadField(f"{where}: Item (BG-31)", "missing")
        names = (text_at(item, "cbc:Name"), *(found.text for found in children(item, "cbc:Description")))
        lines.append(
            Line(
                text=fields.cut(next(filter(None, names), None), f"{where}: Item/Name (BT-153)"),
                net=money(element, "cbc:LineExtensionAmount", f"{where}: LineExtensionAmount (BT-131)", currency),
                tax=line_label(element, item, where, scheme),
            )
        )
    return tuple(lines)


def allowances_and_charges(root: Element, currency: str) -> tuple[Decimal, Decimal]:
    """The sums at document level (BG-20, BG-21); those of lines and prices are part of the lines' net amounts."""
    sums = {False: ZERO, True: ZERO}
    indicators = {"true": True, "1": True, "false": False, "0": False}
    for element in children(root, "cac:AllowanceCharge"):
        indicator = text_at(element, "cbc:ChargeIndicator") or ""
        if indicator not in indicators:
            raise BadField("AllowanceCharge/ChargeIndicator", "neither true nor false" if indicator else "missing")
        sums[indicators[indicator]] += money(element, "cbc:Amount", "AllowanceCharge/Amount (BT-92, BT-99)", currency)
    return sums[False], sums[True]
