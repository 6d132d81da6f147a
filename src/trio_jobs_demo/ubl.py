"""Reads UBL 2.1 Invoice and CreditNote according to EN 16931: `BT-n`, `BG-n`, `BR-n` are its terms, groups, rules."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Final
from xml.etree.ElementTree import Element

from trio_jobs_demo import fields
from trio_jobs_demo.fields import expect, total
from trio_jobs_demo.invoices import (
    ZERO,
    BadField,
    DoesNotAddUp,
    Invoice,
    Kind,
    Line,
    NothingToBook,
    Tax,
    Unreadable,
    Unsupported,
    quoted,
)
from trio_jobs_demo.xml_tree import children, one, text_at

__all__ = ["CREDIT_NOTE", "INVOICE", "MAX_LINES", "read_ubl"]

INVOICE: Final = "{urn:oasis:names:specification:ubl:schema:xsd:Invoice-2}Invoice"
CREDIT_NOTE: Final = "{urn:oasis:names:specification:ubl:schema:xsd:CreditNote-2}CreditNote"

MAX_LINES: Final = 10_000

# UNTDID 1001 as restricted by EN 16931 for BT-3. Among the invoices: 380 commercial, 384 corrected, 386 prepayment,
# 389 self-billed; among the credit notes 381 and 261, self-billed. Both kinds can occur in either root element.
CREDIT_CODES: Final = "81 83 261 262 296 308 381 396 420 458 502 503 532"
INVOICE_CODES: Final = """
    71 80 82 84 102 130 202 203 204 211 218 219 295 326 331 380 382 383 384 385 386 387 388 389 390 393 394 395 456 457
    471 472 473 500 501 527 553 575 623 633 751 780 817 870 875 876 877 935
"""
PROFORMA: Final = "325"

CODE: Final = re.compile(r"[A-Za-z0-9]{1,10}")


def read_ubl(root: Element) -> Invoice:
    """Read the invoice in `root` and check its sums.

    Raises:
        Refused: The document cannot be booked; a subclass says why.
        NothingToBook: The document is a pro-forma invoice.
    """
    note = root.tag == CREDIT_NOTE
    kind = kind_of(root, "cbc:CreditNoteTypeCode" if note else "cbc:InvoiceTypeCode")
    currency = fields.currency(text_at(root, "cbc:DocumentCurrencyCode"), "DocumentCurrencyCode (BT-5)")
    issuer_id, issuer = seller(root)
    customer = one(root, "cac:AccountingCustomerParty/cac:Party")
    if customer is None:
        raise BadField("AccountingCustomerParty (BG-7)", "missing")

    lines = lines_of(root, "CreditNoteLine" if note else "InvoiceLine", currency)
    allowances, charges = allowances_and_charges(root, currency)
    taxes, tax = taxes_of(root, currency)

    totals = one(root, "cac:LegalMonetaryTotal")
    if totals is None:
        raise BadField("LegalMonetaryTotal (BG-22)", "missing")

    def stated(name: str, term: str, default: Decimal | None = None) -> tuple[str, Decimal]:
        return f"{name} ({term})", money(totals, f"cbc:{name}", f"{name} ({term})", currency, default)

    net_field, net = stated("LineExtensionAmount", "BT-106")
    allowance_field, allowance_total = stated("AllowanceTotalAmount", "BT-107", ZERO)
    charge_field, charge_total = stated("ChargeTotalAmount", "BT-108", ZERO)
    exclusive_field, exclusive = stated("TaxExclusiveAmount", "BT-109")
    inclusive_field, inclusive = stated("TaxInclusiveAmount", "BT-112")
    _, prepaid = stated("PrepaidAmount", "BT-113", ZERO)
    _, rounding = stated("PayableRoundingAmount", "BT-114", ZERO)
    payable_field, payable = stated("PayableAmount", "BT-115")

    expect(net_field, net, total(line.net for line in lines), currency)  # BR-CO-10
    expect(allowance_field, allowance_total, allowances, currency)  # BR-CO-11
    expect(charge_field, charge_total, charges, currency)  # BR-CO-12
    expect(exclusive_field, exclusive, net - allowance_total + charge_total, currency)  # BR-CO-13
    expect(inclusive_field, inclusive, exclusive + tax, currency)  # BR-CO-15
    expect(payable_field, payable, inclusive - prepaid + rounding, currency)  # BR-CO-16

    return Invoice(
        number=fields.number(text_at(root, "cbc:ID"), "ID (BT-1)"),
        issuer_id=issuer_id,
        issuer=issuer,
        customer=party_name(customer, "AccountingCustomerParty/RegistrationName (BT-44)"),
        issued=fields.date(text_at(root, "cbc:IssueDate"), "IssueDate (BT-2)"),
        currency=currency,
        kind=kind,
        lines=lines,
        payable=payable,
        taxes=taxes,
        allowances=allowances,
        charges=charges,
        prepaid=prepaid,
        rounding=rounding,
    )


def kind_of(root: Element, path: str) -> Kind:
    """The kind by BT-3, not by the root element: an Invoice of type 381 is a credit note."""
    code, field = text_at(root, path), f"{path[4:]} (BT-3)"
    if code is None:
        raise BadField(field, "missing")
    if code == PROFORMA:
        raise NothingToBook("a pro-forma invoice (type 325): it claims no payment")
    if code in CREDIT_CODES.split():
        return Kind.CREDIT_NOTE
    if code in INVOICE_CODES.split() and root.tag == INVOICE:
        return Kind.INVOICE
    root_name = root.tag.rpartition("}")[2]
    raise Unsupported(f"{field}: {quoted(code)} is not a type of {root_name} in EN 16931", field)


def seller(root: Element) -> tuple[str, str]:
    """The seller's identifier and name.

    The identifier is the first one present of VAT number (BT-31), legal registration (BT-30), identifier (BT-29) and
    electronic address (BT-34), otherwise the name. BR-CO-26 requires one of the first three, but some files have none.
    """
    party = one(root, "cac:AccountingSupplierParty/cac:Party")
    if party is None:
        raise BadField("AccountingSupplierParty (BG-4)", "missing")
    name = party_name(party, "AccountingSupplierParty/RegistrationName (BT-27)")
    schemes = children(party, "cac:PartyTaxScheme")
    schemes.sort(key=lambda scheme: text_at(scheme, "cac:TaxScheme/cbc:ID") != "VAT")
    places = [(scheme, "cbc:CompanyID") for scheme in schemes]
    places += [(legal, "cbc:CompanyID") for legal in children(party, "cac:PartyLegalEntity")]
    places += [(identification, "cbc:ID") for identification in children(party, "cac:PartyIdentification")]
    places += [(party, "cbc:EndpointID")]
    identifier = next((found for place, path in places if (found := text_at(place, path))), name)
    return fields.cut(identifier, "AccountingSupplierParty"), name


def party_name(party: Element, field: str) -> str:
    """The registered name (BT-27, BT-44), else the trading name (BT-28, BT-45)."""
    places = [(legal, "cbc:RegistrationName") for legal in children(party, "cac:PartyLegalEntity")]
    places += [(trade, "cbc:Name") for trade in children(party, "cac:PartyName")]
    return fields.cut(next((found for place, path in places if (found := text_at(place, path))), None), field)


def money(parent: Element, path: str, field: str, currency: str, default: Decimal | None = None) -> Decimal:
    """The amount at `path`, which must be in `currency`; `default` if it is missing. Raises `BadField`."""
    element = one(parent, path)
    if element is None:
        if default is not None:
            return default
        raise BadField(field, "missing")
    given = element.get("currencyID")
    if given != currency:
        problem = f"is in {quoted(given)}" if given else "has no currencyID"
        raise BadField(field, f"{problem}, the invoice is in {currency}")
    return fields.amount((element.text or "").strip(), field)


def lines_of(root: Element, name: str, currency: str) -> tuple[Line, ...]:
    """All lines (BG-25); at least one (BR-16)."""
    elements = children(root, f"cac:{name}")
    if not elements:
        raise BadField(f"{name} (BG-25)", "missing")
    if len(elements) > MAX_LINES:
        raise Unreadable(f"more than {MAX_LINES:,} lines", f"{name} (BG-25)")
    lines = []
    for position, element in enumerate(elements, 1):
        where = f"{name} {position}"
        item = one(element, "cac:Item")
        if item is None:
            raise BadField(f"{where}: Item (BG-31)", "missing")
        names = (text_at(item, "cbc:Name"), *(found.text for found in children(item, "cbc:Description")))
        category = children(item, "cac:ClassifiedTaxCategory")
        lines.append(
            Line(
                text=fields.cut(next(filter(None, names), None), f"{where}: Item/Name (BT-153)"),
                net=money(element, "cbc:LineExtensionAmount", f"{where}: LineExtensionAmount (BT-131)", currency),
                # BR-CO-04 requires a category, but no sum depends on it, so a line without one is booked
                tax=" ".join(tax_label(category[0], where)) if category else "untaxed",
            )
        )
    return tuple(lines)


def tax_label(category: Element, where: str) -> tuple[str, str]:
    """Scheme and rate, e.g. (`VAT`, `25 %`), (`VAT`, `E 0 %`), (`VAT`, `O`). The standard category S is omitted."""
    scheme = code_at(category, "cac:TaxScheme/cbc:ID", where)
    code = code_at(category, "cbc:ID", where)
    given = text_at(category, "cbc:Percent")
    rate = [fields.percent(fields.amount(given, f"{where}: Percent"))] if given else []
    return scheme, " ".join(rate if rate and code == "S" else [code, *rate])


def code_at(category: Element, path: str, where: str) -> str:
    """A short code. It becomes part of account names, so other text is refused."""
    text, field = text_at(category, path), f"{where}: {path.replace('cac:', '').replace('cbc:', '')}"
    if text is None:
        raise BadField(field, "missing")
    if not CODE.fullmatch(text):
        raise BadField(field, f"{quoted(text)} is not a code")
    return text


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


def taxes_of(root: Element, currency: str) -> tuple[tuple[Tax, ...], Decimal]:
    """The VAT breakdown (BG-23) and the total (BT-110), in the invoice's currency.

    A second TaxTotal in the currency of the tax office (BT-6, BT-111) is not booked.
    """
    field = "TaxTotal/TaxAmount (BT-110)"
    ours = []
    for element in children(root, "cac:TaxTotal"):
        stated = one(element, "cbc:TaxAmount")
        if stated is None:
            raise BadField(field, "missing")
        if stated.get("currencyID") == currency:
            ours.append(element)
        elif stated.get("currencyID") != text_at(root, "cbc:TaxCurrencyCode"):
            raise BadField(field, "neither in the invoice's currency nor in its TaxCurrencyCode (BT-6)")
    if not ours:
        return (), ZERO
    if len(ours) > 1:
        raise BadField(field, f"given {len(ours)} times in {currency}")
    amount = money(ours[0], "cbc:TaxAmount", field, currency)
    taxes = tuple(tax_of(element, currency) for element in children(ours[0], "cac:TaxSubtotal"))
    expect(field, amount, total(tax.amount for tax in taxes), currency)  # BR-CO-14
    return taxes, amount


def tax_of(element: Element, currency: str) -> Tax:
    """One TaxSubtotal (BG-23)."""
    category = one(element, "cac:TaxCategory")
    if category is None:
        raise BadField("TaxSubtotal/TaxCategory (BT-118)", "missing")
    name, rate = tax_label(category, "TaxSubtotal")
    base = money(element, "cbc:TaxableAmount", "TaxSubtotal/TaxableAmount (BT-116)", currency)
    field = "TaxSubtotal/TaxAmount (BT-117)"
    amount = money(element, "cbc:TaxAmount", field, currency)
    percent = text_at(category, "cbc:Percent")
    if percent:
        computed = base * fields.amount(percent, "TaxSubtotal/Percent (BT-119)") / 100
        # BR-CO-17; like the official check it tolerates a difference below one unit of the currency, since a tax
        # can be rounded line by line
        if abs(amount - computed) >= 1:
            raise DoesNotAddUp(field, amount, computed.quantize(Decimal("0.01")))
    return Tax(name=name, rate=rate, base=base, amount=amount)
