"""Checks of arguments: each gives the value back, or raises `UsageError` that says what it should have been."""

from __future__ import annotations

from typing import Final

from trio_jobs._errors import UsageError

__all__ = ["check_by", "check_number", "check_seconds", "check_wait", "is_text"]

MAX_WAIT: Final = 36_525 * 86_400  #: seconds: 100 years
MAX_BY: Final = 200  #: characters of a person's name


def check_seconds(name: str, value: float, *, zero: bool = True) -> float:
    """Give `value` back when it is a number of seconds that can be waited for; otherwise raise `UsageError`."""
    ok = isinstance(value, int | float) and not isinstance(value, bool) and value == value
    if not ok or value < 0 or (value == 0 and not zero):
        least = "0 or more" if zero else "more than 0"
        raise UsageError(f"{name} must be a number of seconds, {least}, not {value!r:.100}")
    try:
        return float(value)
    except OverflowError:  # an int beyond all floats
        return float("inf")


def is_text(value: object, most: int) -> bool:
    """Is that a text of 1 to `most` characters that can be written anywhere? One with half a character in it (as file
    names may have) is none: no UTF-8 says it, so it could be kept in memory and nowhere else."""
    if not isinstance(value, str) or not 0 < len(value) <= most:
        return False
    try:
        value.isascii() or value.encode()
    except UnicodeEncodeError:
        return False
    return True


def check_by(by: str | None) -> None:
    """Raise `UsageError` unless it names somebody, or is None."""
    if by is not None and not is_text(by, MAX_BY):
        raise UsageError(f"by is a name of 1 to {MAX_BY} characters, not {by!r:.100}")


def check_wait(name: str, value: float) -> float:
    """Give `value` back when it is a number of seconds after which a job can be due: at most 100 years, so that the
    time of it is a date and a JSON number. Otherwise raise `UsageError`."""
    if check_seconds(name, value) > MAX_WAIT:
        raise UsageError(f"{name} must be at most {MAX_WAIT} (100 years), not {value!r:.100}")
    return float(value)


def check_number(name: str, value: int, least: int = 1) -> int:
    """Give `value` back when it is a whole number, `least` or more; otherwise raise `UsageError`."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise UsageError(f"{name} must be a whole number, {least} or more, not {value!r}")
    return value
