"""Exceptions as data."""

from __future__ import annotations

import traceback
from types import TracebackType
from typing import Final

import trio

from trio_jobs._engine.jobs import MAX_MESSAGE, MAX_TRACEBACK, ErrorInfo

__all__ = ["as_error", "describe"]

#: The top-level packages between the consumer and a handler
_OURS: Final = frozenset({"trio_jobs", "trio", "outcome"})


def describe(error: BaseException) -> ErrorInfo:
    """Return the error as data, with its traceback, which begins with the first frame of the handler."""
    lines = "".join(traceback.format_exception(type(error), error, _from_handler(error.__traceback__)))
    info = as_error(error)
    return ErrorInfo(info.type, info.message, info.code, _clean(lines)[-MAX_TRACEBACK:])


def as_error(error: BaseException) -> ErrorInfo:
    """Return the error as data, without a traceback: for an error that a handler raised as a directive."""
    if isinstance(error, trio.Cancelled):
        return ErrorInfo("Cancelled", "the handler raised a Cancelled that belongs to none of its scopes")
    try:
        message = str(error)
    except Exception as worse:
        message = f"(its __str__ raised {type(worse).__name__})"
    for name in ("code", "hresult", "errno"):
        code = getattr(error, name, None)
        if isinstance(code, int | str) and not isinstance(code, bool):
            return ErrorInfo(type(error).__name__, _clean(message)[:MAX_MESSAGE], _fitting(code))
    return ErrorInfo(type(error).__name__, _clean(message)[:MAX_MESSAGE])


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


def _fitting(code: int | str) -> int | str:
    if isinstance(code, str):
        return _clean(code)[:100]
    return code if -(2**63) <= code < 2**63 else _clean(str(code)[:100])


def _clean(text: str) -> str:
    """Escape lone surrogates, which UTF-8 cannot encode."""
    return text.encode("utf-8", "backslashreplace").decode()
