"""A call of an async handler in the process of the SDK: the function by its name, arguments and result as data."""

from __future__ import annotations

import sys
from collections.abc import Callable
from datetime import datetime
from functools import reduce
from typing import Any, Final, final

import msgspec
import outcome

from trio_jobs._engine.directives import Cancel, Fail, RetryAfter, SessionLost, Snooze
from trio_jobs._engine.jobs import ErrorInfo, Outcome
from trio_jobs._engine.sdk_call_error import SdkCallError
from trio_jobs._errors import UsageError
from trio_jobs._executors import process_messages as pm
from trio_jobs._executors.handle import HandleCall
from trio_jobs._sdk_call import SaveCall

__all__ = ["RemoteCall", "decode_data", "encode_data", "find_function"]

MAX_DATA: Final = 16 * 1024 * 1024  #: bytes of arguments, or of a result

_PLAIN: Final = (type(None), bool, int, float, str, bytes)


@final
class RemoteCall(HandleCall):
    """A call of a function in the process of the SDK.

    Args:
        fn: The function.
        args: Its arguments behind the SDK.
        main: The name that the main program of the queue has in the process.

    Raises:
        UsageError: The process cannot find the function, or an argument is no plain data.
    """

    __slots__ = ("_args", "_function")

    def __init__(self, fn: Callable[..., Any], args: tuple[Any, ...], main: str) -> None:
        super().__init__()
        self._function = pm.SAVE if isinstance(getattr(fn, "__self__", None), SaveCall) else _name_of(fn, main)
        self._args = encode_data("an argument of sdk.call", list(args))

    def message(self, number: int) -> pm.CallFunction:
        """The message by which the process makes this call."""
        return pm.CallFunction(number, self._function, self._args)

    def answered(self, answer: pm.CallReported) -> None:
        """Set the outcome, as the process reports it."""
        if answer.value is not None:
            self.outcome = outcome.Value(decode_data(answer.value))
        elif answer.raised is not None:
            self.outcome = outcome.Error(_exception(answer, answer.raised))

    def end(self, info: ErrorInfo, *, killed: bool) -> None:
        """Set the outcome of a call whose process has ended."""
        self.ended = True
        error = SdkCallError(info.type, (), info.message, ended="killed" if killed else "died", stack=info.traceback)
        self.outcome = outcome.Error(error)


def _exception(answer: pm.CallReported, raised: pm.WasRaised) -> Exception:
    """What the function raised. What a handler can raise to the queue are data, and arrive as they are."""
    info, error = raised.info, answer.error
    if error is not None and error.directive is not None:
        match error.directive:
            case Outcome.FAIL:
                return Fail(info.message)
            case Outcome.CANCEL:
                return Cancel(info.message)
            case Outcome.SNOOZE:
                return Snooze(error.wait)
            case _:
                return RetryAfter(error.wait, info.message)
    if error is not None and error.lost:
        return SessionLost(info.message)
    if raised.is_usage_error:
        return UsageError(info.message)
    return SdkCallError(info.type, tuple(raised.mro), info.message, info.code)


def _name_of(fn: Callable[..., Any], main: str) -> str:
    module, qualname = getattr(fn, "__module__", None), getattr(fn, "__qualname__", None)
    if isinstance(module, str) and isinstance(qualname, str):
        try:
            found = find_function(f"{module}:{qualname}")
        except (KeyError, AttributeError):
            found = None
        if found is fn:
            return f"{main if module == '__main__' else module}:{qualname}"
    raise UsageError(
        f"the process of the SDK cannot find {fn!r:.100}: with executor='process', sdk.call takes a function of a "
        "module, or of a class of a module, not a lambda, a partial, a bound method or a function within a function"
    )


def find_function(name: str) -> Any:
    """Return the function of this name, in a module that is imported.

    Raises:
        KeyError: The module is not imported.
        AttributeError: It has no such function.
    """
    module, _, qualname = name.partition(":")
    return reduce(getattr, qualname.split("."), sys.modules[module])


def encode_data(what: str, value: Any) -> bytes:
    """Return plain data as msgpack.

    Raises:
        UsageError: They are not plain, or too large.
    """
    try:
        _check_plain(value)
        data = msgspec.msgpack.encode(value)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise UsageError(
            f"{what} cannot cross to another process: {error}; give None, bools, numbers of 64 bits, texts, bytes, "
            "dates with a time zone, and lists and dicts of these"
        ) from None
    if len(data) > MAX_DATA:
        raise UsageError(f"{what} has {len(data)} bytes, at most {MAX_DATA} can cross to another process")
    return data


def decode_data(data: bytes) -> Any:
    """Return what `encode_data` encoded."""
    return msgspec.msgpack.decode(data)


def _check_plain(value: Any) -> None:
    """Raise TypeError for what would arrive as something else."""
    class_ = type(value)
    if class_ is list or class_ is tuple:
        for item in value:
            _check_plain(item)
    elif class_ is dict:
        for key, item in value.items():
            _check_plain(key)
            _check_plain(item)
    elif class_ is datetime:
        if value.tzinfo is None:
            raise TypeError("a datetime without a time zone would arrive as a text")
    elif class_ not in _PLAIN:
        raise TypeError(f"it is or contains {class_.__name__}")
