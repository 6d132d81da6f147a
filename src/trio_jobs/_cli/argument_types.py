"""The values of arguments of `trio-jobs`: functions for the `type` of an argument of argparse, and a check of texts."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, TypeVar

from trio_jobs._errors import UsageError
from trio_jobs._validation import MAX_WAIT, check_number, check_seconds, check_wait

__all__ = ["count", "date", "is_unicode", "label", "path", "port", "seconds", "span", "ticket_days", "wait"]

T = TypeVar("T")

_AGO: Final = re.compile(r"(\d{1,9}(?:\.\d{1,9})?)([smhd])")
_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


def path(text: str) -> Path:
    """The path of a file. Raises `argparse.ArgumentTypeError`."""
    if "\0" in text:
        raise argparse.ArgumentTypeError("a path cannot contain NUL")
    return Path(text)


def seconds(text: str) -> float:
    """A number of seconds. Raises `argparse.ArgumentTypeError`."""
    return _checked(lambda: check_seconds("it", float(text)), f"a number of seconds, 0 or more, not {text!r:.100}")


def wait(text: str) -> float:
    """A number of seconds that a server may wait. Raises `argparse.ArgumentTypeError`."""
    must = f"a number of seconds from 0 to {MAX_WAIT} (100 years), not {text!r:.100}"
    return _checked(lambda: check_wait("it", float(text)), must)


def ticket_days(text: str) -> float:
    """A number of days for which a ticket can be valid. Raises `argparse.ArgumentTypeError`."""

    def check() -> float:
        if not 0 < (days := float(text)) <= 30:
            raise ValueError
        return days

    return _checked(check, f"a number of days, more than 0 and at most 30, not {text!r:.100}")


def span(text: str) -> float:
    """A number of seconds, or of another unit, such as 90m, 2h or 7d. Raises `argparse.ArgumentTypeError`."""
    match = _AGO.fullmatch(text)
    if match is None:
        return wait(text)
    return wait(str(float(match[1]) * _UNITS[match[2]]))


def count(text: str) -> int:
    """A number of things. Raises `argparse.ArgumentTypeError`."""
    return _checked(lambda: check_number("it", int(text), 0), f"a whole number, 0 or more, not {text!r:.100}")


def port(text: str) -> int:
    """A port. Raises `argparse.ArgumentTypeError`."""
    return _checked(lambda: range(65536).index(int(text)), f"a whole number from 0 to 65535, not {text!r:.100}")


def _checked(check: Callable[[], T], must: str) -> T:
    try:
        return check()
    except (ValueError, UsageError):
        raise argparse.ArgumentTypeError(f"it must be {must}") from None


def date(text: str) -> datetime:
    """A date in ISO 8601, in local time unless it says otherwise; or a time before now, such as 90m, 2h or 7d."""
    try:
        if match := _AGO.fullmatch(text):
            from trio_jobs._runtime.clock import SystemClock  # not before it is needed: help must be quick

            return datetime.fromtimestamp(SystemClock().now() - float(match[1]) * _UNITS[match[2]], UTC)
        return datetime.fromisoformat(text).astimezone()
    except (ValueError, OverflowError, OSError):
        raise argparse.ArgumentTypeError(
            f"it must be a date such as 2026-11-29 or 2026-11-29T08:30, or a time ago such as 7d, not {text!r:.100}"
        ) from None


def label(text: str) -> tuple[str, str]:
    """A label: its name and its value. Raises `argparse.ArgumentTypeError`."""
    name, equals, value = text.partition("=")
    if not (name and equals and value):
        raise argparse.ArgumentTypeError(f"it must be NAME=VALUE, not {text!r:.100}")
    return name, value


def is_unicode(value: object) -> bool:
    """Whether a text, or each text of a list, can be sent. Python marks bytes that are not valid by lone surrogates."""
    if isinstance(value, list | tuple):
        return all(map(is_unicode, value))
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError:
            return False
    return True
