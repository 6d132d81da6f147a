"""Exceptions as data. Nothing here raises, whatever the class of the exception does.

The class of an exception is user code: its `__str__` can raise or return a str of another class, `code` can be a
property that raises, `__class__` can name another class, and a group can override how it is split. So a class is read
with `type(error)`, never with `isinstance`, each fact is read on its own with a fallback, and what is kept is an exact
str or int of limited length that UTF-8 can encode.
"""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from typing import Any, Final

from trio_jobs._engine.jobs import MAX_MESSAGE, MAX_TRACEBACK, ErrorInfo
from trio_jobs._validation import plain_int, plain_text

__all__ = ["class_name", "describe", "holding", "holds", "is_a", "leaves", "members"]

MAX_NAME: Final = 200
MAX_CODE: Final = 100

_MEMBERS: Final = BaseExceptionGroup.exceptions.__get__
_GROUPS: Final = (BaseExceptionGroup, ExceptionGroup)
_TRACEBACK: Final = BaseException.__dict__["__traceback__"].__get__
_CANCELLED: Final = ("trio", "Cancelled")


def describe(error: BaseException, *, with_traceback: bool = False) -> ErrorInfo:
    """Return the type, message and code of an exception as data, on request with its traceback."""
    trace = _clean(_traceback(error), MAX_TRACEBACK, tail=True) if with_traceback else None
    return ErrorInfo(class_name(error), _message(error), _code(error), trace)


def class_name(error: BaseException) -> str:
    """Return the name of the exception's class."""
    try:
        return _clean(plain_text(type(error).__name__), MAX_NAME)
    except BaseException:  # a metaclass can define `__name__` as a property
        return "an error whose class has no readable name"


def is_a(error: BaseException, class_: type[BaseException] | tuple[type[BaseException], ...]) -> bool:
    """Whether the class of the exception is `class_`, one of these classes, or a subclass of one."""
    try:
        return issubclass(type(error), class_)
    except BaseException:  # a metaclass can define `__subclasscheck__`
        return False


def leaves(error: BaseException) -> Iterator[BaseException]:
    """Yield the exceptions within nested groups, in order; the exception itself if it is no group."""
    stack = [error]
    while stack:
        top = stack.pop()
        inside = members(top)
        stack.extend(reversed(inside))
        if not inside:
            yield top


def members(error: BaseException) -> tuple[BaseException, ...]:
    """Return the exceptions directly within a group; none if the exception is no group."""
    return _MEMBERS(error) if is_a(error, BaseExceptionGroup) else ()


def holds(error: BaseException, class_: type[BaseException]) -> bool:
    """Whether the exception, or one within its groups, is of that class."""
    return any(is_a(leaf, class_) for leaf in leaves(error))


def holding(error: BaseException, class_: type[BaseException]) -> BaseException | None:
    """Return what must propagate if exceptions of `class_` must, and others must not.

    Returns:
        None if neither the exception nor one within its groups is of that class. A group of a class of the user's own
        is replaced with a plain one, which every caller can split.
    """
    found = [*leaves(error)]
    if not any(is_a(leaf, class_) for leaf in found):
        return None
    return error if _is_plain(error) else BaseExceptionGroup("errors of the user's code", found)


def _is_plain(error: BaseException) -> bool:
    """Whether all groups in it are of Python's own classes."""
    inside = members(error)
    return not inside or (type(error) in _GROUPS and all(_is_plain(member) for member in inside))


def _message(error: BaseException) -> str:
    class_ = type(error)
    try:
        if (class_.__module__, class_.__name__) == _CANCELLED:
            return "the handler raised a Cancelled that belongs to none of its scopes"
        return _clean(plain_text(str(error)), MAX_MESSAGE)
    except BaseException as worse:
        return f"(its __str__ raised {class_name(worse)})"


def _code(error: BaseException) -> str | int | None:
    return next((code for name in ("code", "hresult", "errno") if (code := _attribute(error, name)) is not None), None)


def _attribute(error: BaseException, name: str) -> str | int | None:
    """The attribute if it is a str or an int. None also if it cannot be read."""
    try:
        value: Any = getattr(error, name, None)
        if issubclass(type(value), str):
            return _clean(plain_text(value), MAX_CODE)
        if issubclass(type(value), int) and type(value) is not bool:
            return _fitting(plain_int(value))
    except BaseException:  # a property can raise anything
        return None
    return None


def _fitting(code: int) -> int | str:
    """A number that every reader of JSON can hold, else its digits."""
    if -(2**63) <= code < 2**63:
        return code
    return (str(code) if code.bit_length() < 1000 else hex(code))[:MAX_CODE]  # str of a huge int raises ValueError


def _traceback(error: BaseException) -> str:
    try:
        return "".join(traceback.format_exception(error))
    except BaseException as worse:  # the notes, the cause or the class of the exception can raise
        lost = f"(the traceback cannot be formatted: {class_name(worse)})\n"
    try:
        return "".join(traceback.format_tb(_TRACEBACK(error))) + lost
    except BaseException:
        return lost


def _clean(text: str, most: int, *, tail: bool = False) -> str:
    """At most that many characters of the text, its lone surrogates escaped, which UTF-8 cannot encode."""
    text = text[-most:] if tail else text[:most]
    if text.isascii():
        return text
    text = text.encode("utf-8", "backslashreplace").decode()
    return text[-most:] if tail else text[:most]
