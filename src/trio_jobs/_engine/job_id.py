"""Ids of jobs. Pure."""

from __future__ import annotations

from typing import Final

__all__ = ["CHANCE_BITS", "uuid7"]

CHANCE_BITS: Final = 80  #: `uuid7` uses all of them but the 6 in whose place the version and the variant are
_CHANCE: Final = 0x0FFF_3FFF_FFFF_FFFF_FFFF
_VERSION_AND_VARIANT: Final = 0x7000_8000_0000_0000_0000


def uuid7(at: float, chance: int) -> str:
    """A UUID of version 7 (RFC 9562, section 5.7): 48 bits of `at` in milliseconds, then 74 bits of `chance`."""
    ms = int(at * 1000.0) & 0xFFFF_FFFF_FFFF
    number = ms << 80 | chance & _CHANCE | _VERSION_AND_VARIANT
    text = number.to_bytes(16, "big").hex("-", 6)  # with two of the four hyphens
    return f"{text[:13]}-{text[13:17]}-{text[17:]}"
