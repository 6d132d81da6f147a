"""Unwrap exceptions from the groups of nurseries, so that Hypothesis recognizes the same failure in each replay."""

from __future__ import annotations

from collections.abc import Iterator

import trio

__all__ = ["TaskAborted", "is_only_cancelled", "raise_unwrapped", "unwrap"]


class TaskAborted(BaseException):
    """Raised in a task that does not end when it is cancelled, to end it."""


def is_only_cancelled(error: BaseException) -> bool:
    if isinstance(error, BaseExceptionGroup):
        return error.split(trio.Cancelled)[1] is None
    return isinstance(error, trio.Cancelled)


def unwrap(error: BaseException) -> BaseException:
    """Reduce nested groups to the exceptions that matter to Hypothesis.

    `Cancelled` is left out. If there is a `BaseException` that is not an `Exception`, it is returned, since it must
    propagate. Otherwise of several exceptions raised at the same line one is kept, and a single one is returned without
    a group: their number and order vary, and would make one failure look like several.
    """
    by_place: dict[tuple[str, str, int], BaseException] = {}
    for leaf in _leaves(error):
        by_place.setdefault(_place(leaf), leaf)
    different = [by_place[place] for place in sorted(by_place)]
    if not different:
        return error
    for leaf in different:
        if not isinstance(leaf, Exception):
            return leaf
    if len(different) == 1 or not isinstance(error, BaseExceptionGroup):
        return different[0]
    return error.derive(different)


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from _leaves(inner)
    elif not isinstance(error, trio.Cancelled | TaskAborted):
        yield error


def _place(error: BaseException) -> tuple[str, str, int]:
    """The type of the exception, and the file and line that raised it."""
    traceback_ = error.__traceback__
    while traceback_ is not None and traceback_.tb_next is not None:
        traceback_ = traceback_.tb_next
    if traceback_ is None:
        return type(error).__name__, "", 0
    return type(error).__name__, traceback_.tb_frame.f_code.co_filename, traceback_.tb_lineno


def raise_unwrapped(error: BaseException) -> None:
    """Raise the unwrapped exception.

    A `Cancelled` or group as its context is removed: which one it is varies, and would make one failure look like
    several.
    """
    inner = unwrap(error)
    if isinstance(inner.__context__, trio.Cancelled | BaseExceptionGroup) and inner.__cause__ is None:
        inner.__context__ = None
    raise inner
