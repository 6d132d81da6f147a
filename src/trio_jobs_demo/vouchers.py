"""Creates the voucher of an invoice from the issuer's point of view. In every voucher debits equal credits.

| what | account | invoice | credit note |
|---|---|---|---|
| payable | Assets:Customers | debit | credit |
| withheld by the customer, per tax | Assets:Withheld:ISR | debit | credit |
| prepaid | Liabilities:Prepayments | debit | credit |
| allowances, discounts | Income:Allowances | debit | credit |
| lines, one sum per rate | Income:Sales:VAT 25 % | credit | debit |
| charges | Income:Charges | credit | debit |
| taxes, per tax and rate | Liabilities:Taxes:VAT 25 % | credit | debit |
| rounding, of the invoice or computed here | Expenses:Rounding | credit | debit |

A negative amount changes sides, so a negative invoice is booked like a credit note.

Amounts are summed exactly for each account and then rounded to the currency's smallest unit, half away from zero. The
difference is booked to Expenses:Rounding if it is at most one unit for each account that was rounded. Otherwise the
invoice does not add up and is refused.
"""

from __future__ import annotations

import datetime as dt
from collections import defaultdict
from decimal import Decimal
from typing import Final

import attrs

from trio_jobs_demo.currencies import EXPONENTS, exponent, to_minor
from trio_jobs_demo.invoices import DoesNotAddUp, Invoice, Kind, NothingToBook, Refused, Unsupported, quoted

__all__ = ["MAX_MINOR", "Entry", "Voucher", "voucher_for"]

# The largest entry, in smallest units. The ledger's sums have 64 bits, enough for 9,000 such entries.
MAX_MINOR: Final = 10**15

CUSTOMERS: Final = "Assets:Customers"
ROUNDING: Final = "Expenses:Rounding"


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


def voucher_for(invoice: Invoice) -> Voucher:
    """Create the voucher of an invoice.

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
    for account, amount in amounts(invoice).items():
        if (
            not amount.is_finite() or amount.adjusted() > 18
        ):  # checked before the conversion: 1E+900000 is a Decimal too
            raise Refused(f"{account}: more than the ledger supports", account)
        minor[account] = to_minor(amount, invoice.currency)
        rounded += minor[account] != amount.scaleb(exponent(invoice.currency))
    difference = sum(minor.values())
    if abs(difference) > rounded:
        payable = invoice.payable
        sign = -1 if invoice.kind is Kind.CREDIT_NOTE else 1
        raise DoesNotAddUp("payable", payable, payable - sign * Decimal(difference).scaleb(-exponent(invoice.currency)))
    minor[ROUNDING] = minor.get(ROUNDING, 0) - difference

    entries = tuple(Entry(account, max(value, 0), max(-value, 0)) for account, value in minor.items() if value)
    if not entries:
        raise NothingToBook("every amount is zero")
    for entry in entries:
        if max(entry.debit, entry.credit) > MAX_MINOR:
            raise Refused(f"{entry.account}: more than the ledger supports", entry.account)
    text = f"{invoice.kind.value.capitalize()} {invoice.number} of {invoice.issuer} to {invoice.customer}"
    return Voucher(invoice.key, invoice.issued, invoice.currency, text, entries)


def amounts(invoice: Invoice) -> dict[str, Decimal]:
    """The exact sum of each account, debit positive, in the usual order of a voucher."""
    sums: defaultdict[str, Decimal] = defaultdict(Decimal)
    sums[CUSTOMERS] += invoice.payable
    for withholding in invoice.withholdings:
        sums[f"Assets:Withheld:{part(withholding.name)}"] += withholding.amount
    sums["Liabilities:Prepayments"] += invoice.prepaid
    sums["Income:Allowances"] += invoice.allowances
    for line in invoice.lines:
        sums[f"Income:Sales:{part(line.tax)}"] -= line.net
    sums["Income:Charges"] -= invoice.charges
    for tax in invoice.taxes:
        sums[f"Liabilities:Taxes:{part(f'{tax.name} {tax.rate}')}"] -= tax.amount
    sums[ROUNDING] -= invoice.rounding
    if invoice.kind is Kind.CREDIT_NOTE:
        return {account: -amount for account, amount in sums.items()}
    return dict(sums)


def part(name: str) -> str:
    """The last part of an account's name, without colons, which separate levels."""
    return name.replace(":", " ")
