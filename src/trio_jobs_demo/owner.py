"""Whose book it is: decides whether an invoice is a sale, a purchase, or belongs to somebody else."""

from __future__ import annotations

from collections.abc import Iterable

from trio_jobs_demo.display import escape
from trio_jobs_demo.invoices import Invoice, Unsupported, quoted
from trio_jobs_demo.vouchers import Side

__all__ = ["normal_id", "side_of"]


def normal_id(text: str) -> str:
    """The identifier without spaces, dots and hyphens, in upper case: `SE 556677-8899` is `SE5566778899`."""
    return "".join(character for character in text if character.isalnum()).upper()


def side_of(invoice: Invoice, owner: Iterable[str]) -> Side:
    """The side on which the owner of a book has an invoice.

    Args:
        invoice: The invoice.
        owner: The owner's identifiers, as `normal_id` returns them. None at all: each invoice is a sale of its issuer.

    Raises:
        Unsupported: The owner is neither the issuer nor the customer.
    """
    ours = frozenset(owner)
    if not ours or ours.intersection(map(normal_id, (invoice.issuer_id, *invoice.issuer_ids))):
        return Side.SALE
    if ours.intersection(map(normal_id, invoice.customer_ids)):
        return Side.PURCHASE
    customer = quoted(invoice.customer) if invoice.customer else "a customer without a name"
    raise Unsupported(
        f"neither issued by nor to {escape(', '.join(sorted(ours)), 60)}: {quoted(invoice.issuer)} to {customer}"
    )
