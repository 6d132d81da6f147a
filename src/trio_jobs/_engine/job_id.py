"""Ids of jobs. Pure."""

from __future__ import annotations

from operator import itemgetter
from typing import Final

__all__ = ["uuid7"]

_groups: Final = itemgetter(slice(0, 8), slice(8, 12), slice(12, 16), slice(16, 20), slice(20, 32))


def uuid7(at: float, chance: int) -> str:
    """A UUID of version 7 (RFC 9562, section 5.7): 48 bits of `at` in milliseconds, then `chance`, 74 bits of it."""
    ms = int(at * 1000) & 0xFFFF_FFFF_FFFF
    number = ms << 80 | 0x7 << 76 | (chance >> 62 & 0xFFF) << 64 | 0x2 << 62 | chance & 0x3FFF_FFFF_FFFF_FFFF
    return "-".join(_groups(number.to_bytes(16, "big").hex()))
