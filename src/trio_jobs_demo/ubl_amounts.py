"""Amounts of a UBL document."""

from __future__ import annotations

from decimal import Decimal
from xml.etree.ElementTree import Element

from trio_jobs_demo import fields
from trio_jobs_demo.invoices import BadField, quoted
from trio_jobs_demo.xml_tree import one

__all__ = ["money"]


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
