"""Checks of arguments. Each check returns the value, or raises `UsageError` that states what the argument must be."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Final

from trio_jobs._errors import UsageError

__all__ = [
    "check_by",
    "check_number",
    "check_seconds",
    "check_wait",
    "is_text",
    "plain_int",
    "plain_text",
    "unknown_keyword",
]

MAX_WAIT: Final = 36_525 * 86_400
"""The longest wait, in seconds: 100 years."""

MAX_BY: Final = 200
"""The longest name of an operator, in characters."""


def check_seconds(name: str, value: float, *, zero: bool = True) -> float:
    """Return `value` as a float if it is a number of seconds.

    Args:
        name: The argument's name, for the message.
        value: Seconds. Infinity is accepted, NaN is not.
        zero: Whether 0 is accepted.

    Raises:
        UsageError: `value` is not a number, is negative, or is 0 and `zero` is False.
    """
    ok = isinstance(value, int | float) and not isinstance(value, bool) and value == value
    if not ok or value < 0 or (value == 0 and not zero):
        least = "0 or more" if zero else "more than 0"
        raise UsageError(f"{name} must be a number of seconds, {least}, not {value!r:.100}")
    try:
        return float(value)
    except OverflowError:  # an int above the range of float
        return float("inf")


def plain_text(text: str) -> str:
    """Return `text` as an exact str: a subclass, such as a StrEnum or markup, may encode and behave otherwise."""
    return text if type(text) is str else str.__str__(text)


def plain_int(number: int) -> int:
    """Return `number` as an exact int."""
    return number if type(number) is int else int.__int__(number)


def is_text(value: object, most: int) -> bool:
    """Whether `value` is a str of 1 to `most` characters that UTF-8 can encode.

    A lone surrogate, as in some file names, has no UTF-8 encoding. Such a text could be kept in memory, but could
    neither be written to a journal nor be sent on the wire.
    """
    if not isinstance(value, str) or not 0 < len(value) <= most:
        return False
    try:
        value.isascii() or value.encode()
    except UnicodeEncodeError:
        return False
    return True


def check_by(by: str | None) -> None:
    """Raise `UsageError` unless `by` is None or a name of 1 to 200 characters."""
    if by is not None and not is_text(by, MAX_BY):
        raise UsageError(f"by is a name of 1 to {MAX_BY} characters, not {by!r:.100}")


def check_wait(name: str, value: float) -> float:
    """Return `value` as a float if a job can be due after that many seconds.

    The limit is 100 years, so that the due time can be a datetime and a JSON number.

    Raises:
        UsageError: `value` is not a number of seconds, is negative, or is more than 100 years.
    """
    if check_seconds(name, value) > MAX_WAIT:
        raise UsageError(f"{name} must be at most {MAX_WAIT} (100 years), not {value!r:.100}")
    return float(value)


def check_number(name: str, value: int, least: int = 1) -> int:
    """Return `value` if it is an int of `least` or more.

    Raises:
        UsageError: `value` is not an int, is a bool, or is less than `least`.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise UsageError(f"{name} must be a whole number, {least} or more, not {value!r}")
    return value


def unknown_keyword(
    function: str,
    given: Iterable[str],
    known: Iterable[str],
    related: Mapping[str, str],
    others: Mapping[str, Iterable[str]],
) -> UsageError | None:
    """Return the error for the first keyword in `given`; None if `given` is empty.

    The message names another function that has this keyword; otherwise the keyword with the most similar spelling;
    otherwise the keyword to which a word of this one is related.

    Args:
        function: The function that was called, for the message.
        given: The unknown keywords.
        known: The keywords of `function`.
        related: Words that other libraries use, with the keyword of this package; the first match is used.
        others: The keywords of other functions, by function.
    """
    for name in given:
        start = f"{function} has no keyword {name!r:.100}; "
        for other, keywords in others.items():
            if name in keywords:
                return UsageError(f"{start}{other} has it")
        names = sorted(known)
        words = name.split("_")
        nearest = difflib.get_close_matches(name, names, n=1, cutoff=0.75)
        nearest += [keyword for word, keyword in related.items() if word in words]
        if nearest:
            return UsageError(f"{start}did you mean {nearest[0]!r}?")
        return UsageError(f"{start}its keywords are {', '.join(names)}")
    return None
