"""Exceptions as data. Nothing here raises, whatever the class of the exception does.

The class of an exception is user code: its `__str__` can raise or return a str of another class, and `code` can be a
property that raises. So each fact is read on its own, with a fallback, and what is kept is an exact str or int of
limited length that UTF-8 can encode.
"""

from __future__ import annotations

import traceback
from types import TracebackType
from typing import Any, Final

from trio_jobs._engine.jobs import MAX_MESSAGE, MAX_TRACEBACK, ErrorInfo
from trio_jobs._exception_tree import traceback_of
from trio_jobs._validation import plain_int, plain_text

__all__ = ["class_name", "describe"]

MAX_NAME: Final = 200
MAX_CODE: Final = 100

_CANCELLED: Final = ("trio", "Cancelled")

#: The top-level packages between the consumer and a handler
_OURS: Final = frozenset({"trio_jobs", "trio", "outcome"})


def describe(error: BaseException, *, with_traceback: bool = False) -> ErrorInfo:
    """Return the type, message and code of an exception as data.

    Args:
        error: The exception.
        with_traceback: Whether to add its traceback, which begins with the first frame of the handler.
    """
    trace = _clean(_traceback(error), MAX_TRACEBACK, tail=True) if with_traceback else None
    return ErrorInfo(class_name(error), _message(error), _code(error), trace)


def class_name(error: BaseException) -> str:
    """Return the name of the exception's class."""
    try:
        return _clean(plain_text(type(error).__name__), MAX_NAME)
    except BaseException:  # a metaclass can define `__name__` as a property
        return "an error whose class has no readable name"


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
    first = _from_handler(traceback_of(error))
    try:
        return "".join(traceback.format_exception(type(error), error, first))
    except BaseException as worse:  # the notes, the cause or the class of the exception can raise
        lost = f"(the traceback cannot be formatted: {class_name(worse)})\n"
    try:
        return "".join(traceback.format_tb(first)) + lost
    except BaseException:
        return lost


def _from_handler(tb: TracebackType | None) -> TracebackType | None:
    """The traceback without the frames of this package and of Trio through which the handler was called.

    Where all frames are of that kind, as for a payload that cannot be decoded, nothing is left out.
    """
    first = tb
    while first is not None and _is_ours(first.tb_frame.f_globals.get("__name__")):
        first = first.tb_next
    return tb if first is None else first


def _is_ours(module: object) -> bool:
    return isinstance(module, str) and module.partition(".")[0] in _OURS


def _clean(text: str, most: int, *, tail: bool = False) -> str:
    """At most that many characters of the text, its lone surrogates escaped, which UTF-8 cannot encode."""
    text = text[-most:] if tail else text[:most]
    if text.isascii():
        return text
    text = text.encode("utf-8", "backslashreplace").decode()
    return text[-most:] if tail else text[:most]
