"""From an invoice to the voucher that books it, seen by the issuer. Pure; debits equal credits in every voucher.

| what | account | invoice | credit note |
|---|---|---|---|
| payable | Assets:Customers | debit | credit |
| withheld by the customer, per tax | Assets:Withheld:ISR | debit | credit |
| prepaid | Liabilities:Prepayments | debit | credit |
| allowances, discounts | Income:Allowances | debit | credit |
| lines, one sum per rate | Income:Sales:VAT 25 % | credit | debit |
| charges | Income:Charges | credit | debit |
| taxes, per tax and rate | Liabilities:Taxes:VAT 25 % | credit | debit |
| rounding, stated or made here | Expenses:Rounding | credit | debit |

A negative amount changes sides, so a negative invoice books like a credit note.

Rounding: amounts are summed per account exactly and only then brought to the currency's smallest unit, half away from
zero. What this leaves over goes to Expenses:Rounding, at most one unit for each account that had to be rounded; none
had to be, or more is left over: then the invoice does not add up and is refused.
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

# The largest entry, in smallest units: the ledger's sums are 64-bit and have room for 9,000 of them.
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
    """What the ledger books in one go.

    reference: the invoice's key; the ledger finds the voucher by it. dated: the invoice's day. currency: ISO 4217, that
    of all entries. text: for people, with foreign names in it (escape before showing). entries: one per account.
    """

    reference: str
    dated: dt.date
    currency: str
    text: str
    entries: tuple[Entry, ...]


def voucher_for(invoice: Invoice) -> Voucher:
    """The voucher of `invoice`.

    Raises `DoesNotAddUp` when its parts do not make its payable amount, `Refused` for sums larger than the ledger
    holds, `Unsupported` for an unknown currency, `NothingToBook` when every amount is zero.
    """
    if invoice.currency not in EXPONENTS:
        raise Unsupported(f"currency: {quoted(invoice.currency)} is not a currency known here", "currency")
    minor: dict[str, int] = {}
    rounded = 0
    for account, amount in amounts(invoice).items():
        if not amount.is_finite() or amount.adjusted() > 18:  # before it becomes an int: 1E+900000 is a Decimal too
            raise Refused(f"{account}: more than the ledger holds", account)
        minor[account] = to_minor(amount, invoice.currency)
        rounded += minor[account] != amount.scaleb(exponent(invoice.currency))
    left_over = sum(minor.values())
    if abs(left_over) > rounded:
        payable = invoice.payable
        turn = -1 if invoice.kind is Kind.CREDIT_NOTE else 1
        raise DoesNotAddUp("payable", payable, payable - turn * Decimal(left_over).scaleb(-exponent(invoice.currency)))
    minor[ROUNDING] = minor.get(ROUNDING, 0) - left_over

    entries = tuple(Entry(account, max(value, 0), max(-value, 0)) for account, value in minor.items() if value)
    if not entries:
        raise NothingToBook("every amount is zero")
    for entry in entries:
        if max(entry.debit, entry.credit) > MAX_MINOR:
            raise Refused(f"{entry.account}: more than the ledger holds", entry.account)
    text = f"{invoice.kind.value.capitalize()} {invoice.number} of {invoice.issuer} to {invoice.customer}"
    return Voucher(invoice.key, invoice.issued, invoice.currency, text, entries)


def amounts(invoice: Invoice) -> dict[str, Decimal]:
    """Exact sum per account, debit positive, in the order in which people read a voucher."""
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
    """The last part of an account's name: a colon in it would open a further level."""
    return name.replace(":", " ")
