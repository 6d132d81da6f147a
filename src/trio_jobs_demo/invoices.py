"""The invoice, independent of its standard, and the reasons for not booking one.

Two standards are read: UBL 2.1 as profiled by EN 16931 (`BT-n` and `BR-CO-n` below are its business terms and rules)
and the Mexican CFDI 4.0 (Anexo 20 of the Resolucion Miscelanea Fiscal). Both have the same sum:

    net of all lines - allowances + charges + taxes - withholdings - prepaid + rounding = payable

An `Invoice` is part of the payload of a job, and equal after a round trip through JSON. It has no field that depends on
where it was read, such as the name of the file, so two equal files are one job.
"""

from __future__ import annotations

import datetime as dt
import enum
import hashlib
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
#: Characters of each part of a key. A name may stand in place of an identifier
MAX_KEY_PART: Final = 120


class Kind(enum.StrEnum):
    """The direction of the payment. The amounts of a credit note are positive; its kind reverses them."""

    INVOICE = "invoice"
    CREDIT_NOTE = "credit note"


@attrs.frozen
class Line:
    """One invoice line (BG-25) or `Concepto`."""

    text: str
    """What was sold, as the issuer wrote it."""
    net: Decimal
    """The amount without taxes: after the line's allowances in UBL (BT-131), before them in CFDI (`Importe`)."""
    tax: str
    """The tax label, used in the name of the income account: `VAT 25 %`, `IVA exempt`, `untaxed`."""


@attrs.frozen
class Tax:
    """A tax that is added to the net amount: one VAT breakdown (BG-23) or `Traslado`.

    The amounts of a credit note have no other sign.
    """

    name: str
    """`VAT` or another scheme of the file, `IVA`, `IEPS`, or the name of a local tax."""
    rate: str
    """The rate, used in the name of the account: `25 %`, `E 0 %`, `exempt`, `quota 0.5911`."""
    base: Decimal
    """The amount that is taxed."""
    amount: Decimal
    """The tax."""


@attrs.frozen
class Withholding:
    """A tax that the customer withholds and pays to the state on the issuer's behalf: one `Retencion`."""

    name: str
    """`ISR`, `IVA`, `IEPS`, or the name of a local tax."""
    amount: Decimal
    """What is withheld."""


@attrs.frozen(kw_only=True)
class Invoice:
    """One invoice or credit note whose sums have been checked.

    All texts are untrusted; `escape` them before they are shown.
    """

    number: str
    """BT-1; in CFDI `Serie-Folio`, or the UUID of the stamp if there is no `Folio`."""
    issuer_id: str
    """The issuer's tax or company number, or the name if the file has no number."""
    issuer: str
    """The name of the issuer."""
    customer: str
    """The name of the customer; empty if the file names none, as simplified invoices do."""
    issued: dt.date
    """BT-2; in CFDI the day of `Fecha`."""
    currency: str
    """BT-5; in CFDI `Moneda`. A code of ISO 4217."""
    kind: Kind
    lines: tuple[Line, ...]
    payable: Decimal
    """BT-115; in CFDI `Total`."""
    taxes: tuple[Tax, ...] = ()
    withholdings: tuple[Withholding, ...] = ()
    allowances: Decimal = ZERO
    """BT-107; in CFDI `Descuento`. Without sign."""
    charges: Decimal = ZERO
    """BT-108. Without sign."""
    prepaid: Decimal = ZERO
    """BT-113."""
    rounding: Decimal = ZERO
    """BT-114, with sign, and what the lines, taxes and totals of the file were rounded by."""
    prepayment: bool = False
    """It asks for an advance (type 386): a later invoice has the sale and deducts the advance."""
    series: str = attrs.field(default="", eq=False)
    """`Serie` of a CFDI, with which `number` begins."""
    uuid: str = attrs.field(default="", eq=False)
    """The UUID of the stamp of a CFDI, in lower case; empty without a stamp. The copies of an invoice before and after
    its stamp are equal."""
    issuer_ids: tuple[str, ...] = attrs.field(default=(), eq=False)
    """All identifiers of the issuer, without white space; none if the file has only a name."""
    customer_ids: tuple[str, ...] = attrs.field(default=(), eq=False)
    """All identifiers of the customer, without white space."""

    @property
    def key(self) -> str:
        """The key of the invoice, which is the reference of its voucher: a number is unique only for its issuer (BT-1).

        It has two parts, or three with a series, separated by spaces; a space inside a part is written as `%20`.
        Therefore different series and numbers have different keys: `A-1` with `2`, and `A` with `1-2`.
        """
        # white space in an identifier means nothing, in a name it does
        issuer = "".join(self.issuer_id.split()) if self.issuer_ids else self.issuer_id
        parts = [issuer, self.number]
        if self.series:
            parts = [issuer, self.series, self.number.removeprefix(self.series).removeprefix("-")]
        return " ".join(map(_key_part, parts))

    @property
    def signed_payable(self) -> Decimal:
        """The payable amount as the issuer claims it: of a credit note with the other sign."""
        return -self.payable if self.kind is Kind.CREDIT_NOTE else self.payable

    @property
    def remarks(self) -> tuple[str, ...]:
        """What a bookkeeper should look at, in sentences that are safe to show."""
        found = []
        if self.kind is Kind.CREDIT_NOTE and self.payable < 0:
            found.append("a credit note with a negative total: booked as an invoice; ask if a credit was meant")
        return tuple(found)


def _key_part(text: str) -> str:
    """The text in one word of at most 120 characters; a longer one ends in a hash of the whole."""
    word = "".join(f"%{ord(one):02X}" if one.isspace() or one == "%" else one for one in text)
    if len(word) <= MAX_KEY_PART:
        return word
    return f"{word[: MAX_KEY_PART - 33]}~{hashlib.sha256(word.encode(errors='surrogatepass')).hexdigest()[:32]}"


class InvoiceError(Exception):
    """The file leads to no voucher."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
        """Why not, in one line that is safe to show."""


class NothingToBook(InvoiceError):
    """A valid document that needs no voucher."""


class Refused(InvoiceError):
    """A document that cannot be booked."""

    def __init__(self, reason: str, field: str | None = None) -> None:
        super().__init__(reason)
        self.field = field
        """The name of the field that is wrong; None if the reason concerns no field."""


class Unreadable(Refused):
    """Not XML, or larger than the limits for untrusted files."""


class Unsupported(Refused):
    """An unknown document, version, type, tax or currency."""


class BadField(Refused):
    """A required field is missing, occurs twice, or has a wrong format."""

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"{field}: {problem}", field)


class DoesNotAddUp(Refused):
    """A figure of the invoice differs from the sum of its parts."""

    def __init__(self, field: str, stated: Decimal, computed: Decimal) -> None:
        super().__init__(f"{field}: the invoice states {stated:f}, its parts make {computed:f}", field)
        self.stated = stated
        """The figure in the invoice."""
        self.computed = computed
        """The sum of its parts."""


def quoted(text: str) -> str:
    """Quote untrusted text for a reason: escaped, and cut after 60 characters."""
    return f'"{escape(text, limit=60)}"'
