"""Values of an untrusted file, each checked against its schema before it is converted.

`int(Decimal("1E+900000"))` takes 21 s. Therefore an amount has no exponent (xs:decimal has none) and at most 18 digits.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterable
from decimal import Decimal
from typing import Final

from trio_jobs_demo.currencies import EXPONENTS, half_unit
from trio_jobs_demo.invoices import ZERO, BadField, DoesNotAddUp, Unsupported, quoted

__all__ = ["amount", "currency", "cut", "date", "expect", "number", "percent", "plain", "total"]

MAX_DIGITS: Final = 18
MAX_NUMBER: Final = 100  # characters of an invoice's number, which becomes part of keys and indexes
MAX_TEXT: Final = 1000  # characters of a name; Anexo 20 allows 1,000 for a Descripcion and 300 for a Nombre

# re.ASCII: otherwise \d matches the digits of other scripts too, which Decimal accepts
DECIMAL: Final = re.compile(r"[+-]?(?:\d+(?:\.\d*)?|\.\d+)", re.ASCII)
DATE: Final = re.compile(r"(\d{4}-\d{2}-\d{2})(?:T\d{2}:\d{2}:\d{2}(?:\.\d{1,9})?)?(?:Z|[+-]\d{2}:\d{2})?", re.ASCII)


def amount(text: str | None, field: str, *, signed: bool = True) -> Decimal:
    """An amount of money or a rate. Raises `BadField`, with `signed=False` also for a negative one (CFDI has none)."""
    if not text:
        raise BadField(field, "missing")
    # the length is checked first, so that no pattern runs over megabytes
    if len(text) > 2 * MAX_DIGITS or not DECIMAL.fullmatch(text):
        raise BadField(field, f"{quoted(text)} is not an amount")
    if sum(character.isdigit() for character in text) > MAX_DIGITS:
        raise BadField(field, f"{quoted(text)} has more than {MAX_DIGITS} digits")
    value = Decimal(text)
    if not signed and value < 0:
        raise BadField(field, f"{quoted(text)} is negative")
    return value


def date(text: str | None, field: str) -> dt.date:
    """The day of an xs:date or xs:dateTime, in its own time zone. Raises `BadField`."""
    if not text:
        raise BadField(field, "missing")
    match = DATE.fullmatch(text[:60])
    try:
        if match:
            return dt.date.fromisoformat(match[1])
    except ValueError:
        pass  # the format is right, but there is no such day: 2023-02-30
    raise BadField(field, f"{quoted(text)} is not a date")


def currency(text: str | None, field: str) -> str:
    """A currency of ISO 4217. Raises `BadField` if it is missing, and `Unsupported` if it is unknown."""
    if not text:
        raise BadField(field, "missing")
    if text not in EXPONENTS:
        raise Unsupported(f"{field}: {quoted(text)} is not a known currency", field)
    return text


def number(text: str | None, field: str) -> str:
    """An invoice's number. Raises `BadField`."""
    if not text:
        raise BadField(field, "missing")
    if len(text) > MAX_NUMBER:
        raise BadField(field, f"{quoted(text)} is longer than {MAX_NUMBER} characters")
    return text


def cut(text: str | None, field: str) -> str:
    """A name or description, cut after 1,000 characters. Raises `BadField` if it is missing."""
    if not text:
        raise BadField(field, "missing")
    return text if len(text) <= MAX_TEXT else text[: MAX_TEXT - 1] + "…"


def plain(value: Decimal) -> str:
    """Format without trailing zeros: 25, 25.0 and 25.00 are all `25`."""
    shown = f"{value:f}"
    return shown.rstrip("0").rstrip(".") if "." in shown else shown


def percent(rate: Decimal) -> str:
    """Format a rate, such as `25 %`."""
    return f"{plain(rate)} %"


def total(amounts: Iterable[Decimal]) -> Decimal:
    """The sum of the amounts."""
    return sum(amounts, ZERO)


def expect(field: str, stated: Decimal, computed: Decimal, currency: str, rounded: int = 1) -> None:
    """Raise `DoesNotAddUp` if the figures differ by more than the rounding of `rounded` amounts can explain."""
    if abs(stated - computed) > rounded * half_unit(currency):
        raise DoesNotAddUp(field, stated, computed)
