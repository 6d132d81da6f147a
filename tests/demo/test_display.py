"""Rules of the display of untrusted text and money."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_jobs_demo.currencies import EXPONENTS, exponent, half_unit, to_minor
from trio_jobs_demo.display import escape, money


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Håvard & Søn [red]", "Håvard & Søn [red]"),
        ("\x1b[31m", r"\x1b[31m"),
        ("a\nb\tc\x00", r"a\x0ab\x09c\x00"),
        ("\x9b2J", r"\x9b2J"),
        ("\u202egnp.exe", r"\u202egnp.exe"),
        ("\u2066x\u2069\u200f\u2028", r"\u2066x\u2069\u200f\u2028"),
        ("\ud800", r"\ud800"),
        ("\U000e0041", r"\U000e0041"),
        ("क्\u200dष", "क्\u200dष"),
    ],
)
def test_control_and_invisible_characters_are_escaped(text: str, shown: str) -> None:
    assert escape(text) == shown


@given(st.text(st.characters()), st.integers(1, 50))
def test_escaped_text_keeps_its_limit_and_has_no_control_character(text: str, limit: int) -> None:
    shown = escape(text, limit)
    assert len(shown) <= limit
    shown.encode()
    hidden = [*map(chr, range(32)), *map(chr, range(127, 160)), *"\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2069"]
    assert not set(shown) & set(hidden)


def test_money_has_the_decimals_of_its_currency() -> None:
    assert [money(-110050, "EUR"), money(1234567, "JPY"), money(5, "KWD"), money(0, "SEK")] == [
        "-1,100.50 EUR",
        "1,234,567 JPY",
        "0.005 KWD",
        "0.00 SEK",
    ]


def test_halves_are_rounded_away_from_zero() -> None:
    assert [to_minor(Decimal(text), "EUR") for text in ("1.005", "-1.005", "1.0049")] == [101, -101, 100]
    assert to_minor(Decimal("0.5"), "JPY") == 1
    assert to_minor(Decimal("0.0005"), "KWD") == 1


def test_half_a_unit_matches_the_decimals_of_each_currency() -> None:
    for currency in EXPONENTS:
        assert half_unit(currency) * 2 == Decimal(1).scaleb(-exponent(currency))
