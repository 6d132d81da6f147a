"""An invoice as the demo knows it, whatever standard it came in, and the reasons for not booking one.

Two standards are read: UBL 2.1 as profiled by EN 16931 (the `BT-n` and `BR-CO-n` below are its business terms and
rules) and the Mexican CFDI 4.0 (Anexo 20 of the Resolucion Miscelanea Fiscal). Both come down to one sum:

    net of all lines - allowances + charges + taxes - withholdings - prepaid + rounding = payable

An `Invoice` is the payload of a job: it goes through JSON and comes back equal. For that reason it holds nothing that
differs between two copies of the same invoice, such as the name of the file: a queue tells a harmless duplicate from a
reused number by comparing payloads.
"""

from __future__ import annotations

import datetime as dt
import enum
from decimal import Decimal
from typing import Final

import attrs

from trio_jobs_demo.display import escape

__all__ = [
    "BadField",
    "DoesNotAddUp",
    "Invoice",
    "InvoiceError",
    "Kind",
    "Line",
    "NothingToBook",
    "Refused",
    "Tax",
    "Unreadable",
    "Unsupported",
    "Withholding",
]

ZERO: Final = Decimal(0)


class Kind(enum.StrEnum):
    """Which way the money goes. The amounts of a credit note are positive; it is its kind that turns them round."""

    INVOICE = "invoice"
    CREDIT_NOTE = "credit note"


@attrs.frozen
class Line:
    """One invoice line (BG-25) or `Concepto`.

    text: what was sold, as its issuer wrote it.
    net: amount without taxes, after the line's own allowances in UBL (BT-131), before them in CFDI (`Importe`).
    tax: how it is taxed, for people and for the income account, e.g. `VAT 25 %`, `IVA exempt`, `untaxed`.
    """

    text: str
    net: Decimal
    tax: str


@attrs.frozen
class Tax:
    """A tax that the customer pays on top: one VAT breakdown (BG-23), one `Traslado`.

    name: `VAT` (or the scheme the file names), `IVA`, `IEPS`, or the name of a local tax.
    rate: for people and for the account, e.g. `25 %`, `E 0 %`, `exempt`, `quota 0.5911`.
    base: what it is computed on; amount: the tax. Both without sign change for credit notes.
    """

    name: str
    rate: str
    base: Decimal
    amount: Decimal


@attrs.frozen
class Withholding:
    """A tax that the customer keeps back and pays to the state on the issuer's behalf: one `Retencion`.

    name: `ISR`, `IVA`, `IEPS`, or the name of a local tax; amount: what is kept back.
    """

    name: str
    amount: Decimal


@attrs.frozen(kw_only=True)
class Invoice:
    """One invoice or credit note whose sums have been checked.

    number: BT-1; `Serie-Folio`, or the UUID of the stamp where there is no `Folio`.
    issuer_id: the issuer's tax or company number, or the name where the file gives no number.
    issuer, customer: names, as written: foreign text, so `escape` it before it is shown.
    issued: BT-2, `Fecha` (its day). currency: BT-5, `Moneda` (ISO 4217).
    allowances, charges: BT-107 (in CFDI `Descuento`) and BT-108, without sign.
    prepaid: BT-113. rounding: BT-114, signed. payable: BT-115, `Total`.
    """

    number: str
    issuer_id: str
    issuer: str
    customer: str
    issued: dt.date
    currency: str
    kind: Kind
    lines: tuple[Line, ...]
    payable: Decimal
    taxes: tuple[Tax, ...] = ()
    withholdings: tuple[Withholding, ...] = ()
    allowances: Decimal = ZERO
    charges: Decimal = ZERO
    prepaid: Decimal = ZERO
    rounding: Decimal = ZERO

    @property
    def key(self) -> str:
        """What makes this invoice itself and no other: a number is unique for its issuer only (BT-1).

        The issuer's part has no space in it, so the first space ends it and two keys cannot run into each other.
        """
        return f"{''.join(self.issuer_id.split())} {self.number}"


class InvoiceError(Exception):
    """This file leads to no voucher. `reason` says why, in one line that is safe to show."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class NothingToBook(InvoiceError):
    """A valid document from which no voucher comes; nobody has to do anything about it."""


class Refused(InvoiceError):
    """A document that cannot be booked as it stands. `field` names the place in it, where there is one."""

    def __init__(self, reason: str, field: str | None = None) -> None:
        super().__init__(reason)
        self.field = field


class Unreadable(Refused):
    """Not XML, or outside the limits for strangers' files."""


class Unsupported(Refused):
    """A document, version, type, tax or currency that this reader does not know."""


class BadField(Refused):
    """A required field is missing, is given twice, or does not have the form its schema gives it."""

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"{field}: {problem}", field)


class DoesNotAddUp(Refused):
    """The invoice states one figure and its parts make another. `stated` and `computed` are in its currency."""

    def __init__(self, field: str, stated: Decimal, computed: Decimal) -> None:
        super().__init__(f"{field}: the invoice states {stated:f}, its parts make {computed:f}", field)
        self.stated = stated
        self.computed = computed


def quoted(text: str) -> str:
    """`text` in quotes for a reason: escaped, and cut, because it comes from a stranger's file."""
    return f'"{escape(text, limit=60)}"'
