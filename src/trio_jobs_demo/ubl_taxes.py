"""The taxes of a UBL document, and the labels of taxes that become parts of account names."""

from __future__ import annotations

import re
from collections.abc import Sequence
from decimal import Decimal
from typing import Final
from xml.etree.ElementTree import Element

import attrs

from trio_jobs_demo import fields
from trio_jobs_demo.fields import expect, total
from trio_jobs_demo.invoices import ZERO, BadField, DoesNotAddUp, Line, Tax, quoted
from trio_jobs_demo.ubl_amounts import money
from trio_jobs_demo.xml_tree import children, one, text_at

__all__ = ["Taxes", "line_label", "scheme_of", "taxes_of"]

CODE: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_.-]{0,28}[A-Za-z0-9])?")
# OIOUBL spells out some categories of UNCL 5305, and 63 is its VAT (taxschemeid-1.1)
CATEGORIES: Final = {"StandardRated": "S", "ZeroRated": "Z", "ReverseCharge": "AE"}
SCHEMES: Final = {"63": "VAT"}
VAT: Final = "VAT"

#: Taxes of one line that are part of its label, and of the name of an account
MAX_LABELS: Final = 4

AMOUNT: Final = "TaxTotal/TaxAmount (BT-110)"


@attrs.frozen
class Taxes:
    """The taxes of a document in its currency."""

    parts: tuple[Tax, ...]
    stated: Decimal
    """The total that the document states, which may differ from its parts by their rounding."""


def scheme_of(root: Element) -> str:
    """The scheme of all taxes of the document, for lines that name none; VAT if there is none or more than one."""
    found = {
        text_at(category, "cac:TaxScheme/cbc:ID")
        for tax_total in children(root, "cac:TaxTotal")
        for subtotal in children(tax_total, "cac:TaxSubtotal")
        for category in children(subtotal, "cac:TaxCategory")
    }
    scheme = found.pop() if len(found) == 1 else None
    return scheme if scheme and CODE.fullmatch(scheme) else VAT


def line_label(line: Element, item: Element, where: str, scheme: str) -> str:
    """The tax label of a line. No sum depends on it, so a line may leave out all or a part of it (BR-CO-04).

    Args:
        line: The line, which has the taxes themselves in some profiles.
        item: The item of the line.
        where: The place in the document, for errors.
        scheme: The scheme, where the line names none.
    """
    categories = children(item, "cac:ClassifiedTaxCategory")[:1] or [
        category
        for tax_total in children(line, "cac:TaxTotal")
        for subtotal in children(tax_total, "cac:TaxSubtotal")
        for category in children(subtotal, "cac:TaxCategory")
    ]
    labels = {" ".join(filter(None, label_of(category, where, scheme=scheme))) for category in categories[:MAX_LABELS]}
    return " + ".join(sorted(labels)) or "untaxed"


def label_of(
    category: Element, where: str, *, scheme: str | None = None, percent: str | None = None
) -> tuple[str, str]:
    """Scheme and rate, e.g. (`VAT`, `25 %`), (`VAT`, `E 0 %`), (`VAT`, `O`). The standard category S is omitted.

    Args:
        category: The element with the codes.
        where: The place in the document, for errors.
        scheme: The scheme, where the category has none. None: it must have one.
        percent: The rate, where the category has none.
    """
    name = code_at(category, "cac:TaxScheme/cbc:ID", where, scheme)
    given = text_at(category, "cbc:Percent") or percent
    rate = fields.percent(fields.amount(given, f"{where}: Percent")) if given else ""
    # a line needs no code, and a rate alone says as much as the standard category
    code = code_at(category, "cbc:ID", where, "" if scheme else "S" if rate else None)
    code = CATEGORIES.get(code, code)
    return SCHEMES.get(name, name), rate if rate and code in ("S", "") else f"{code} {rate}".strip()


def code_at(category: Element, path: str, where: str, default: str | None = None) -> str:
    """A short code. It becomes part of account names, so other text is refused."""
    text, field = text_at(category, path), f"{where}: {path.replace('cac:', '').replace('cbc:', '')}"
    if text is None:
        if default is not None:
            return default
        raise BadField(field, "missing")
    if not CODE.fullmatch(text):
        raise BadField(field, f"{quoted(text)} is not a code")
    return text


def taxes_of(root: Element, currency: str, lines: Sequence[Line]) -> Taxes:
    """The tax breakdowns (BG-23) and their total (BT-110), in the invoice's currency.

    A document may have a TaxTotal for each tax; their sum is booked. One that has no breakdown repeats the sum of the
    others (Saudi invoices: BT-111 in the same currency). One in the currency of the tax office (BT-6) is not booked.
    """
    detailed: list[tuple[Decimal, tuple[Tax, ...]]] = []
    plain: list[Decimal] = []
    tax_currency = text_at(root, "cbc:TaxCurrencyCode")
    for element in children(root, "cac:TaxTotal"):
        stated = one(element, "cbc:TaxAmount")
        if stated is None:
            raise BadField(AMOUNT, "missing")
        if stated.get("currencyID") != currency:
            if stated.get("currencyID") != tax_currency:
                raise BadField(AMOUNT, "neither in the invoice's currency nor in its TaxCurrencyCode (BT-6)")
            continue
        amount = money(element, "cbc:TaxAmount", AMOUNT, currency)
        parts = tuple(tax_of(subtotal, currency) for subtotal in children(element, "cac:TaxSubtotal"))
        if not parts:
            plain.append(amount)
        elif tax_currency != currency or (amount, parts) not in detailed:
            expect(AMOUNT, amount, total(tax.amount for tax in parts), currency, len(parts))  # BR-CO-14
            detailed.append((amount, parts))
    if not detailed:
        if len(plain) > 1 and len({amount + 0 for amount in plain}) > 1:
            raise BadField(AMOUNT, f"given {len(plain)} times in {currency}, with different amounts")
        return _without_breakdown(plain[0] if plain else ZERO, lines)
    taxes = Taxes(tuple(tax for _, parts in detailed for tax in parts), total(amount for amount, _ in detailed))
    for amount in plain:
        expect(f"{AMOUNT}, given again", amount, taxes.stated, currency)
    return taxes


def _without_breakdown(amount: Decimal, lines: Sequence[Line]) -> Taxes:
    """A tax whose rate only the lines say. Raises `BadField` if they say several."""
    if not amount:
        return Taxes((), ZERO)
    labels = {line.tax for line in lines}
    if len(labels) > 1 or not max(labels).endswith("%"):
        raise BadField("TaxTotal/TaxSubtotal (BG-23)", "missing, and the lines do not have one tax")
    name, _, rate = labels.pop().partition(" ")
    return Taxes((Tax(name, rate, total(line.net for line in lines), amount),), amount)


def tax_of(element: Element, currency: str) -> Tax:
    """One TaxSubtotal (BG-23)."""
    category = one(element, "cac:TaxCategory")
    if category is None:
        raise BadField("TaxSubtotal/TaxCategory (BT-118)", "missing")
    percent = text_at(category, "cbc:Percent") or text_at(element, "cbc:Percent")
    name, rate = label_of(category, "TaxSubtotal", percent=percent)
    field = "TaxSubtotal/TaxAmount (BT-117)"
    amount = money(element, "cbc:TaxAmount", field, currency)
    base = None
    if one(element, "cbc:TaxableAmount") is not None:  # optional in UBL
        base = money(element, "cbc:TaxableAmount", "TaxSubtotal/TaxableAmount (BT-116)", currency)
    if percent and base is not None:
        computed = base * fields.amount(percent, "TaxSubtotal/Percent (BT-119)") / 100
        # BR-CO-17; like the official check it tolerates a difference below one unit of the currency, since a tax
        # can be rounded line by line
        if abs(amount - computed) >= 1:
            raise DoesNotAddUp(field, amount, computed.quantize(Decimal("0.01")))
    return Tax(name=name, rate=rate, base=ZERO if base is None else base, amount=amount)
