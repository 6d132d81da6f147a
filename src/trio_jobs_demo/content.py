"""What a voucher was made from: kept with it in the book, and compared when the same number arrives again.

The reference of a voucher says which invoice it claims to be. Only the content says whether it is that invoice: the
same number can come again in a corrected invoice, in a credit note, in the next year, or with another UUID.
"""

from __future__ import annotations

import hashlib
from decimal import Decimal
from typing import Any, Final

import attrs
import msgspec

from trio_jobs_demo.fields import plain
from trio_jobs_demo.invoices import Invoice, quoted
from trio_jobs_demo.vouchers import Side

__all__ = ["Content", "content_of", "difference", "is_same"]

#: The first three are in the reference. The others may differ between two copies of the same invoice: one may have no
#: stamp, or name fewer identifiers
NOT_COMPARED: Final = ("issuer_id", "number", "series", "uuid", "issuer_ids", "customer_ids")


@attrs.frozen
class Content:
    """The content of an invoice as far as it decides what is booked, small enough to be kept with each voucher."""

    digest: str
    """A hash of all fields, except for `NOT_COMPARED`: 128 bits in hexadecimal."""
    uuid: str
    """The UUID of a stamped CFDI, else empty."""
    facts: dict[str, str]
    """What a person compares first, by name."""

    @property
    def identity(self) -> str:
        """Digest and UUID in one word without spaces."""
        return f"{self.digest}/{self.uuid}" if self.uuid else self.digest

    def encode(self) -> str:
        """As JSON, for the book."""
        return msgspec.json.encode(self).decode()


def content_of(invoice: Invoice, side: Side) -> Content:
    """The content of an invoice that is booked on that side."""
    kept = [attribute.name for attribute in attrs.fields(Invoice) if attribute.name not in NOT_COMPARED]
    fields = {name: _normal(getattr(invoice, name)) for name in kept}
    digest = hashlib.sha256(msgspec.json.encode([side, fields], order="deterministic")).hexdigest()[:32]
    facts = {
        "type": "prepayment " * invoice.prepayment + invoice.kind.value,
        "date": invoice.issued.isoformat(),
        "amount": f"{invoice.payable:,f} {invoice.currency}",
        "issuer": invoice.issuer,
        "customer": invoice.customer,
        "side": side.value,
    }
    return Content(digest, "".join(invoice.uuid.split()), facts)


def is_same(kept: str, identity: str) -> bool:
    """Whether the content in the book is the one with this identity.

    The copies of a CFDI before and after its stamp are the same invoice; two stamps with different UUIDs are not.

    Args:
        kept: What `Content.encode` returned when the voucher was booked.
        identity: `Content.identity` of the other one.
    """
    old = _decoded(kept)
    digest, _, uuid = identity.partition("/")
    return old is not None and old.digest == digest and (not old.uuid or not uuid or old.uuid == uuid)


def difference(kept: str, new: Content) -> str:
    """How the content in the book differs from a new one; empty if it is the same invoice.

    Args:
        kept: What `Content.encode` returned when the voucher was booked.
        new: The content of the invoice that has the same reference.
    """
    if is_same(kept, new.identity):
        return ""
    old = _decoded(kept)
    if old is None:
        return "nothing is recorded about its invoice"
    names = [name for name in new.facts if old.facts.get(name) != new.facts[name]]
    pairs = [_pair(name, old.facts.get(name, ""), new.facts[name]) for name in names]
    if old.uuid and new.uuid and old.uuid != new.uuid:
        pairs.append(_pair("UUID", old.uuid, new.uuid))
    return ", ".join(pairs) or "lines or taxes"


def _decoded(kept: str) -> Content | None:
    try:
        return msgspec.json.decode(kept, type=Content)
    except msgspec.DecodeError:
        return None


def _pair(name: str, old: str, new: str) -> str:
    if name in ("issuer", "customer", "UUID"):
        old, new = quoted(old), quoted(new)
    return f"{name} ({old} there, {new} here)"


def _normal(value: Any) -> Any:
    """The value without what does not change its meaning: 25, 25.0 and 25.00 are the same amount."""
    if isinstance(value, Decimal):
        return plain(value + 0)  # -0 is 0
    if isinstance(value, tuple):
        return [_normal(item) for item in value]
    if attrs.has(type(value)):
        return [_normal(item) for item in attrs.astuple(value, recurse=False)]
    return value
