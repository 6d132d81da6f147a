"""Untrusted text and money, in a form that is safe for a terminal or a log."""

from __future__ import annotations

import unicodedata
from typing import Final

from trio_jobs_demo.currencies import exponent

__all__ = ["cells", "escape", "fit", "money"]

# Cc: control characters, ESC and the C1 ones which some terminals obey, among them. Cf: invisible format characters,
# the bidirectional overrides among them, with which a name can be made to read backwards. Zl, Zp: line ends that are
# not control characters. Cs: lone surrogates, which cannot be encoded.
HIDDEN: Final = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
# The joiners are Cf too, but Persian, Hindi and emoji are misspelt without them, and they move nothing.
JOINERS: Final = frozenset("\u200c\u200d")


def escape(text: str, limit: int = 200) -> str:
    r"""Replace control characters and invisible characters by escapes such as `\x1b` or `\u202e`.

    Brackets are not escaped, so a library with markup must receive the result as plain text.

    Args:
        text: Untrusted text.
        limit: The maximum length of the result in characters; a longer one is cut and ends in an ellipsis.
    """
    shown: list[str] = []
    length = 0
    for character in text:
        piece = character
        if character not in JOINERS and unicodedata.category(character) in HIDDEN:
            code = ord(character)
            piece = f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
        shown.append(piece)
        length += len(piece)
        if length > limit:
            while length > limit - 1:
                length -= len(shown.pop())
            shown.append("…")
            break
    return "".join(shown)


def cells(text: str) -> int:
    """How many columns of a terminal the text takes: two for a wide character, none for a combining one."""
    return sum(_cells(character) for character in text)


def _cells(character: str) -> int:
    if unicodedata.combining(character) or character in JOINERS:
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def fit(text: str, width: int, *, right: bool = False) -> str:
    """The text in exactly `width` columns: padded, or cut with an ellipsis.

    Args:
        text: Text that is escaped already.
        width: Columns, at least 1.
        right: Pad on the left.
    """
    if cells(text) > width:
        kept, used = "", 0
        for character in text:
            used += _cells(character)
            if used > width - 1:
                break
            kept += character
        text = kept + "…"
    padding = " " * (width - cells(text))
    return padding + text if right else text + padding


def money(minor: int, currency: str) -> str:
    """Format an amount in minor units: `money(-110050, "EUR")` is `-1,100.50 EUR`."""
    digits = exponent(currency)
    whole, part = divmod(abs(minor), 10**digits)
    sign = "-" if minor < 0 else ""
    return f"{sign}{whole:,}.{part:0{digits}d} {currency}" if digits else f"{sign}{whole:,} {currency}"
