"""Exceptions as data."""

from __future__ import annotations

import traceback

import trio

from trio_jobs._engine.jobs import MAX_MESSAGE, MAX_TRACEBACK, ErrorInfo

__all__ = ["as_error", "describe"]


def describe(error: BaseException) -> ErrorInfo:
    """Return the error as data, with its traceback."""
    lines = "".join(traceback.format_exception(error))
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


def _fitting(code: int | str) -> int | str:
    if isinstance(code, str):
        return _clean(code)[:100]
    return code if -(2**63) <= code < 2**63 else _clean(str(code)[:100])


def _clean(text: str) -> str:
    """Escape lone surrogates, which UTF-8 cannot encode."""
    return text.encode("utf-8", "backslashreplace").decode()
