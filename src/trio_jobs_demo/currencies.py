"""The number of decimals of each currency (ISO 4217), and amounts in the currency's smallest unit."""

from __future__ import annotations

from decimal import ROUND_HALF_UP, Decimal
from typing import Final

__all__ = ["exponent", "half_unit", "to_minor"]

# ISO 4217 list one, and currencies recently replaced by the euro, since old invoices still use them.
TWO: Final = """
    AED AFN ALL AMD ANG AOA ARS AUD AWG AZN BAM BBD BDT BGN BMD BND BOB BRL BSD BTN BWP BYN BZD CAD CDF CHF CNY COP CRC
    CUP CVE CZK DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD GTQ GYD HKD HNL HTG HUF IDR ILS INR IRR JMD KES
    KGS KHR KPW KYD KZT LAK LBP LKR LRD LSL MAD MDL MGA MKD MMK MNT MOP MRU MUR MVR MWK MXN MYR MZN NAD NGN NIO NOK NPR
    NZD PAB PEN PGK PHP PKR PLN QAR RON RSD RUB SAR SBD SCR SDG SEK SGD SHP SLE SOS SRD SSP STN SVC SYP SZL THB TJS TMT
    TOP TRY TTD TWD TZS UAH USD UYU UZS VES WST XCD YER ZAR ZMW
    EEK HRK LTL LVL
"""
NONE: Final = "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX VND VUV XAF XOF XPF"
THREE: Final = "BHD IQD JOD KWD LYD OMR TND"

EXPONENTS: Final = {
    code: digits for codes, digits in ((NONE, 0), (TWO, 2), (THREE, 3), ("CLF UYW", 4)) for code in codes.split()
}


def exponent(currency: str) -> int:
    """The decimals of a currency: 2 for EUR, 0 for JPY, 3 for KWD. Raises KeyError for an unknown code."""
    return EXPONENTS[currency]


def half_unit(currency: str) -> Decimal:
    """Half of the smallest unit, the largest rounding difference of one amount: 0.005 for EUR, 0.5 for JPY."""
    return Decimal(5).scaleb(-exponent(currency) - 1)


def to_minor(amount: Decimal, currency: str) -> int:
    """The amount in smallest units, rounded half away from zero: 1.005 EUR is 101, -1.005 EUR is -101."""
    return int(amount.scaleb(exponent(currency)).quantize(Decimal(1), ROUND_HALF_UP))
