"""Checks of arguments. Each check returns the value, or raises `UsageError` that states what the argument must be."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Final, TypeVar

from trio_jobs._errors import UsageError

__all__ = [
    "MAX_BY",
    "MAX_DATE",
    "MAX_KEY",
    "MAX_LABEL",
    "MAX_LABELS",
    "MAX_WAIT",
    "check_by",
    "check_date",
    "check_each",
    "check_factory",
    "check_labels",
    "check_manager",
    "check_note",
    "check_number",
    "check_rate",
    "check_sdk_function",
    "check_seconds",
    "check_text",
    "check_wait",
    "name_job",
    "plain",
    "plain_int",
    "plain_text",
    "unknown_keyword",
]

_T = TypeVar("_T")
_R = TypeVar("_R")

MAX_WAIT: Final = 36_525 * 86_400
"""The longest wait, in seconds: 100 years."""

MAX_DATE: Final = 253_402_300_799.0
"""The last second of the year 9999 in UTC, the last that a datetime can be, in seconds since the epoch."""

MAX_KEY: Final = 500
"""The longest key, in characters."""

MAX_BY: Final = 200
"""The longest name of an operator, in characters."""

MAX_NOTE: Final = 1000
"""The longest note of an operator, in characters."""

MAX_LABELS: Final = 8
"""The highest number of labels of a job."""

MAX_LABEL: Final = 64
"""The longest name and the longest value of a label, in characters."""


def check_each(check: Callable[[_T], _R], jobs: Iterable[_T]) -> list[_R]:
    """Check each job of a submit of many, and return what the checks return.

    Raises:
        UsageError: A check raised it; it names the job.
    """
    found = []
    for index, job in enumerate(jobs):
        try:
            found.append(check(job))
        except UsageError as error:
            name_job(error, index)
            raise
    return found


def name_job(error: UsageError, index: int) -> None:
    """Let an error name the job of a submit of many that is refused, in its attribute and in its message."""
    error.index = index
    error.args = (f"jobs[{index}]: {error}",)


def check_seconds(name: str, value: float, *, zero: bool = True) -> float:
    """Return `value` as an exact float if it is a number of seconds.

    Args:
        name: The argument's name, for the message.
        value: Seconds. Infinity is accepted, NaN is not.
        zero: Whether 0 is accepted.

    Raises:
        UsageError: `value` is not a number, is negative, or is 0 and `zero` is False.
    """
    seconds = _plain_float(value)
    if seconds is None or not seconds >= 0 or (seconds == 0 and not zero):
        least = "0 or more" if zero else "more than 0"
        raise UsageError(f"{name} must be a number of seconds, {least}, not {value!r:.100}")
    return seconds


def _plain_float(value: object) -> float | None:
    """An int or a float as an exact float, infinite if it is too large for one; None for other types and for bools."""
    class_ = type(value)
    if issubclass(class_, float):
        return float.__float__(value)  # type: ignore[arg-type] # checked by its class
    if issubclass(class_, int) and class_ is not bool:
        number = int.__int__(value)  # type: ignore[arg-type] # see above
        try:
            return float(number)
        except OverflowError:
            return math.inf if number > 0 else -math.inf
    return None


def plain_text(text: str) -> str:
    """Return `text` as an exact str: a subclass, such as a StrEnum or markup, may encode and behave otherwise."""
    return text if type(text) is str else str.__str__(text)


def plain_int(number: int) -> int:
    """Return `number` as an exact int."""
    return number if type(number) is int else int.__int__(number)


def plain(value: object) -> object:
    """Return a str, int or float of a subclass as an exact one: a hook for the encoders of msgspec.

    Raises:
        NotImplementedError: It is none of these.
    """
    class_ = type(value)
    if issubclass(class_, str):
        return plain_text(value)  # type: ignore[arg-type] # checked by its class
    if issubclass(class_, int):
        return plain_int(value)  # type: ignore[arg-type] # see above
    if issubclass(class_, float):
        return float.__float__(value)  # type: ignore[arg-type] # see above
    raise NotImplementedError(f"Encoding objects of type {class_.__name__} is unsupported")


def check_text(what: str, value: object, most: int, *, noun: str = "text") -> str:
    """Return `value` as an exact str of 1 to `most` characters that UTF-8 can encode.

    A lone surrogate, as in some file names, has no UTF-8 encoding. Such a text could be kept in memory, but could
    neither be written to a journal nor be sent on the wire.

    Args:
        what: What it is, for the message, such as "a key".
        value: The text.
        most: The highest number of characters.
        noun: What kind of text it is, for the message.

    Raises:
        UsageError: It is no such text.
    """
    if issubclass(type(value), str):
        text = plain_text(value)  # type: ignore[arg-type] # checked by its class
        if 0 < len(text) <= most and (text.isascii() or _has_utf8(text)):
            return text
    raise UsageError(f"{what} is a {noun} of 1 to {most} characters, not {value!r:.100}")


def _has_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def check_by(by: str | None) -> str | None:
    """Return `by` as an exact str of 1 to 200 characters; None for None. Raise `UsageError` for anything else."""
    return None if by is None else check_text("by", by, MAX_BY, noun="name")


def check_note(note: str | None) -> str | None:
    """Return a note as an exact str of at most 1,000 characters; None for None and "". Raise `UsageError` otherwise."""
    return None if note is None or note == "" else check_text("a note", note, MAX_NOTE)


def check_labels(labels: Mapping[str, str] | None) -> dict[str, str] | None:
    """Return the labels of a job as exact strs, sorted by name; None without any.

    Raises:
        UsageError: There are more than 8; a name or a value is not a text of 1 to 64 characters; or a name has a "=".
    """
    if labels is None:
        return None
    if not isinstance(labels, Mapping):
        raise UsageError(f"labels are a mapping of names to values, not {labels!r:.100}")
    if len(labels) > MAX_LABELS:
        raise UsageError(f"a job has at most {MAX_LABELS} labels, not {len(labels)}; put the others into its payload")
    checked = {}
    for name, value in labels.items():
        plain_name = check_text("the name of a label", name, MAX_LABEL)
        if "=" in plain_name:
            raise UsageError(f"the name of a label has no '=', unlike {name!r:.100}")
        checked[plain_name] = check_text(f"label {plain_name!r}", value, MAX_LABEL)
    return dict(sorted(checked.items())) or None


def check_wait(name: str, value: float) -> float:
    """Return `value` as an exact float if a job can be due after that many seconds.

    The limit is 100 years, so that the due time can be a datetime and a JSON number.

    Raises:
        UsageError: `value` is not a number of seconds, is negative, or is more than 100 years.
    """
    seconds = check_seconds(name, value)
    if seconds > MAX_WAIT:
        raise UsageError(f"{name} must be at most {MAX_WAIT} (100 years), not {value!r:.100}")
    return seconds


def check_date(name: str, at: datetime) -> float:
    """Return an aware datetime as seconds since the epoch, UTC.

    A later one than the last second of the year 9999 in UTC, such as `datetime.max`, counts as that second: otherwise
    it could not be shown as a date in UTC.

    Raises:
        UsageError: It is not a datetime, or has no time zone.
    """
    if not isinstance(at, datetime) or at.utcoffset() is None:
        raise UsageError(f"{name} must be an aware datetime, such as datetime.now(UTC), not {at!r:.100}")
    return min(float(datetime.timestamp(at)), MAX_DATE)


def check_rate(name: str, value: float) -> float:
    """Return `value` as an exact float if it is a number above 0. Infinity is accepted, NaN is not.

    Raises:
        UsageError: It is not.
    """
    rate = _plain_float(value)
    if rate is None or not rate > 0:
        raise UsageError(f"{name} must be a number, more than 0, not {value!r:.100}")
    return rate


def check_number(name: str, value: int, least: int = 1) -> int:
    """Return `value` as an exact int of `least` or more.

    Raises:
        UsageError: `value` is not an int, is a bool, or is less than `least`.
    """
    if issubclass(type(value), int) and type(value) is not bool:
        number = plain_int(value)
        if number >= least:
            return number
    raise UsageError(f"{name} must be a whole number, {least} or more, not {value!r:.100}")


def check_factory(name: str, factory: object) -> bool:
    """Check a factory before it is called.

    Args:
        name: "sdk" or "async_sdk".
        factory: What was given as that argument.

    Returns:
        Whether it takes an `Opening`: its one parameter has no default, or is called "opening".

    Raises:
        UsageError: It cannot be called to get a context manager.
    """
    must = f"{name} must be a function that returns a context manager, without parameters or with one for an Opening"
    if not isinstance(factory, type) and hasattr(type(factory), "__aenter__" if name == "async_sdk" else "__enter__"):
        raise UsageError(f"{must}, not a context manager; give the function itself, without calling it")
    if not callable(factory):
        raise UsageError(f"{must}, not {factory!r:.100}")
    if inspect.isgeneratorfunction(factory) or inspect.isasyncgenfunction(factory):
        raise UsageError(f"{must}, not a generator function; {_decorate(name)}")
    if inspect.iscoroutinefunction(factory):
        raise UsageError(f"{must}, not an async function; {_decorate(name)}")
    try:
        parameters = inspect.signature(factory).parameters.values()
    except (ValueError, TypeError):  # it has no signature that can be read
        return False
    required = [p for p in parameters if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    keywords = [p.name for p in required if p.kind is p.KEYWORD_ONLY]
    if keywords:
        raise UsageError(f"{must}: it has keyword-only parameters without a default ({', '.join(keywords)})")
    if len(required) > 1:
        raise UsageError(f"{must}: it has {len(required)} parameters ({', '.join(p.name for p in required)})")
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    if not required:
        return bool(positional) and positional[0].name == "opening"
    (only,) = required
    annotation = only.annotation if isinstance(only.annotation, str) else inspect.formatannotation(only.annotation)
    fits = only.annotation is only.empty or any(word in annotation for word in ("Opening", "Any", "object"))
    if not fits or (isinstance(factory, type) and only.annotation is only.empty and only.name != "opening"):
        raise UsageError(
            f"{must}: its parameter {only.name!r} is not for an Opening; bind it with a function of your own, or with "
            "functools.partial"
        )
    return True


def check_sdk_function(name: str, fn: object, *, may_be_async: bool = False) -> None:
    """Raise `UsageError` unless `fn` is a function with one parameter, the SDK.

    Args:
        name: The keyword of `Service`.
        fn: What was given as that argument.
        may_be_async: It is awaited in Trio's thread, so that it can be asynchronous.
    """
    must = f"{name} must be a {'' if may_be_async else 'plain '}function of the SDK"
    if not callable(fn):
        raise UsageError(f"{must}, not {fn!r:.100}")
    if (inspect.iscoroutinefunction(fn) and not may_be_async) or inspect.isasyncgenfunction(fn):
        raise UsageError(f"{must}, not an async function, which a thread cannot await")
    if inspect.isgeneratorfunction(fn):
        raise UsageError(f"{must}, not a generator function, which does nothing when it is called")
    try:
        inspect.signature(fn).bind(None)
    except ValueError:  # it has no signature that can be read
        return
    except TypeError as error:
        raise UsageError(f"{must}: {error}") from None


def check_manager(name: str, manager: object) -> None:
    """Raise `UsageError` unless what a factory returned is a context manager of its kind.

    Args:
        name: "sdk" or "async_sdk", the argument that the factory was given as.
        manager: What the factory returned.
    """
    wanted, other = ("__aenter__", "__enter__") if name == "async_sdk" else ("__enter__", "__aenter__")
    class_ = type(manager)
    if hasattr(class_, wanted) and hasattr(class_, wanted.replace("enter", "exit")):
        return
    is_async = "an async" if name == "async_sdk" else "a"
    found = f"it returned an object of type {class_.__name__}; {_decorate(name)}"
    if hasattr(class_, other):
        right = "sdk" if name == "async_sdk" else "async_sdk"
        found = f"it returned {'a plain' if name == 'async_sdk' else 'an async'} one; give it as {right}=..."
    raise UsageError(f"{name} must be a function that returns {is_async} context manager: {found}")


def _decorate(name: str) -> str:
    if name == "async_sdk":
        return "decorate an async generator function with @contextlib.asynccontextmanager"
    return "decorate a generator function with @contextlib.contextmanager"


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
        import difflib  # only for errors

        nearest = difflib.get_close_matches(name, names, n=1, cutoff=0.75)
        nearest += [keyword for word, keyword in related.items() if word in words]
        if nearest:
            return UsageError(f"{start}did you mean {nearest[0]!r}?")
        return UsageError(f"{start}its keywords are {', '.join(names)}")
    return None
