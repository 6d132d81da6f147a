"""Creates the voucher of an invoice, from the side of its issuer or of its customer. Debits always equal credits.

| what | account of the issuer (a sale) | of the customer (a purchase) |
|---|---|---|
| payable | Assets:Customers, debit | Liabilities:Suppliers, credit |
| withheld by the customer, per tax | Assets:Withheld:ISR, debit | Liabilities:Withheld:ISR, credit |
| prepaid | Liabilities:Prepayments, debit | Assets:Prepayments, credit |
| allowances, discounts | Income:Allowances, debit | Expenses:Allowances, credit |
| lines, one sum per rate | Income:Sales:VAT 25 %, credit | Expenses:Purchases:VAT 25 %, debit |
| charges | Income:Charges, credit | Expenses:Charges, debit |
| taxes, per tax and rate | Liabilities:Taxes:VAT 25 %, credit | Assets:Taxes:VAT 25 %, debit |
| rounding, of the invoice or computed here | Expenses:Rounding, credit | Expenses:Rounding, debit |

A credit note has the sides of the other column, and so has a negative amount. A reverse charge is booked as the invoice
has it, without tax.

A prepayment invoice (type 386) is no sale yet: what it asks for is booked to Prepayments, taxes included. The final
invoice has the whole sale and deducts the prepaid amount, which clears that account; each amount is booked once.

Amounts are summed exactly for each account and then rounded to the currency's smallest unit, half away from zero. The
difference is booked to Expenses:Rounding if it is at most one unit for each account that was rounded. Otherwise the
invoice does not add up and is refused.
"""

from __future__ import annotations

import datetime as dt
import enum
from collections import defaultdict
from decimal import Decimal
from typing import Final

import attrs

from trio_jobs_demo.currencies import EXPONENTS, exponent, to_minor
from trio_jobs_demo.invoices import DoesNotAddUp, Invoice, Kind, NothingToBook, Refused, Unsupported, quoted

__all__ = ["MAX_MINOR", "Entry", "Side", "Voucher", "voucher_for"]

# The largest entry, in smallest units. The ledger's sums have 64 bits, enough for 9,000 such entries.
MAX_MINOR: Final = 10**15

ROUNDING: Final = "Expenses:Rounding"


class Side(enum.StrEnum):
    """Whose book the voucher is for."""

    SALE = "sale"
    """The issuer's."""
    PURCHASE = "purchase"
    """The customer's."""


@attrs.frozen
class Accounts:
    """The accounts of one side. Those with taxes have the name of the tax as their last part."""

    partner: str
    withheld: str
    prepayments: str
    allowances: str
    lines: str
    charges: str
    taxes: str


ACCOUNTS: Final = {
    Side.SALE: Accounts(
        partner="Assets:Customers",
        withheld="Assets:Withheld",
        prepayments="Liabilities:Prepayments",
        allowances="Income:Allowances",
        lines="Income:Sales",
        charges="Income:Charges",
        taxes="Liabilities:Taxes",
    ),
    Side.PURCHASE: Accounts(
        partner="Liabilities:Suppliers",
        withheld="Liabilities:Withheld",
        prepayments="Assets:Prepayments",
        allowances="Expenses:Allowances",
        lines="Expenses:Purchases",
        charges="Expenses:Charges",
        taxes="Assets:Taxes",
    ),
}


@attrs.frozen
class Entry:
    """One side of a voucher: `debit` or `credit` is positive, the other is 0, in the currency's smallest unit."""

    account: str
    debit: int
    credit: int


@attrs.frozen
class Voucher:
    """What the ledger books in one transaction."""

    reference: str
    """The invoice's key, by which the ledger finds the voucher."""
    dated: dt.date
    """The day of the invoice."""
    currency: str
    """The currency of all entries, a code of ISO 4217."""
    text: str
    """A description with untrusted names; escape it before it is shown."""
    entries: tuple[Entry, ...]
    """One for each account."""
    origin: str = ""
    """Text of the caller that the ledger keeps with the voucher: what the voucher was made from."""


def voucher_for(invoice: Invoice, side: Side = Side.SALE) -> Voucher:
    """Create the voucher of an invoice.

    Args:
        invoice: The invoice.
        side: Whose book the voucher is for.

    Raises:
        DoesNotAddUp: The parts do not make the payable amount.
        Refused: A sum is larger than the ledger supports.
        Unsupported: The currency is unknown.
        NothingToBook: Every amount is zero.
    """
    if invoice.currency not in EXPONENTS:
        raise Unsupported(f"currency: {quoted(invoice.currency)} is not a known currency", "currency")
    minor: dict[str, int] = {}
    rounded = 0
    for account, amount in amounts(invoice, side).items():
        if (
            not amount.is_finite() or amount.adjusted() > 18
        ):  # checked before the conversion: 1E+900000 is a Decimal too
            raise Refused(f"{account}: more than the ledger supports", account)
        minor[account] = to_minor(amount, invoice.currency)
        rounded += minor[account] != amount.scaleb(exponent(invoice.currency))
    difference = sum(minor.values())
    if abs(difference) > rounded:
        payable = invoice.payable
        sign = -1 if (invoice.kind is Kind.CREDIT_NOTE) != (side is Side.PURCHASE) else 1
        raise DoesNotAddUp("payable", payable, payable - sign * Decimal(difference).scaleb(-exponent(invoice.currency)))
    minor[ROUNDING] = minor.get(ROUNDING, 0) - difference

    entries = tuple(Entry(account, max(value, 0), max(-value, 0)) for account, value in minor.items() if value)
    if not entries:
        raise NothingToBook("every amount is zero")
    for entry in entries:
        if max(entry.debit, entry.credit) > MAX_MINOR:
            raise Refused(f"{entry.account}: more than the ledger supports", entry.account)
    kind = f"prepayment {invoice.kind.value}" if invoice.prepayment else invoice.kind.value
    to = f" to {invoice.customer}" if invoice.customer else ""
    text = f"{kind.capitalize()} {invoice.number} of {invoice.issuer}{to}"
    return Voucher(invoice.key, invoice.issued, invoice.currency, text, entries)


def amounts(invoice: Invoice, side: Side) -> dict[str, Decimal]:
    """The exact sum of each account, debit positive, in the usual order of a voucher."""
    names = ACCOUNTS[side]
    sale = [(names.allowances, invoice.allowances)]
    sale += [(f"{names.lines}:{part(line.tax)}", -line.net) for line in invoice.lines]
    sale += [(names.charges, -invoice.charges)]
    sale += [(f"{names.taxes}:{part(f'{tax.name} {tax.rate}')}", -tax.amount) for tax in invoice.taxes]
    if invoice.prepayment:
        sale = [(names.prepayments, amount) for _, amount in sale]
    sums: defaultdict[str, Decimal] = defaultdict(Decimal)
    sums[names.partner] += invoice.payable
    for withholding in invoice.withholdings:
        sums[f"{names.withheld}:{part(withholding.name)}"] += withholding.amount
    sums[names.prepayments] += invoice.prepaid
    for account, amount in sale:
        sums[account] += amount
    sums[ROUNDING] -= invoice.rounding
    if (invoice.kind is Kind.CREDIT_NOTE) != (side is Side.PURCHASE):
        return {account: -amount for account, amount in sums.items()}
    return dict(sums)


def part(name: str) -> str:
    """The last part of an account's name, without colons, which separate levels."""
    return name.replace(":", " ")
