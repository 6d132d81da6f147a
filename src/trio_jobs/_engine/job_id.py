"""Ids of jobs. Pure."""

from __future__ import annotations

__all__ = ["uuid7"]


def uuid7(at: float, chance: int) -> str:
    """A UUID of version 7 (RFC 9562, section 5.7): 48 bits of `at` in milliseconds, then `chance`, 74 bits of it."""
    ms = int(at * 1000) & 0xFFFF_FFFF_FFFF
    number = ms << 80 | 0x7 << 76 | (chance >> 62 & 0xFFF) << 64 | 0x2 << 62 | chance & 0x3FFF_FFFF_FFFF_FFFF
    digits = number.to_bytes(16, "big").hex()  # each job needs an id: five formatted numbers take a seventh longer
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"
