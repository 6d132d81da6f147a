"""Errors as they were raised, out of the groups that nurseries put them in: what Hypothesis needs to know one again."""

from __future__ import annotations

from collections.abc import Iterator

import trio

__all__ = ["ThrownOut", "only_cancelled", "raise_bare", "unwrapped"]


class ThrownOut(BaseException):
    """Ends a task that does not end when it is cancelled."""


def only_cancelled(error: BaseException) -> bool:
    if isinstance(error, BaseExceptionGroup):
        return error.split(trio.Cancelled)[1] is None
    return isinstance(error, trio.Cancelled)


def unwrapped(error: BaseException) -> BaseException:
    """The one error in groups of one, Cancelled beside it left out. Of several the first that is no `Exception`, as
    those want to be let through; otherwise a flat group, with one of those that were raised at the same place: how many
    of them there are, and in which order, is no news, and would keep Hypothesis from seeing that it is one failure."""
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
    elif not isinstance(error, trio.Cancelled | ThrownOut):
        yield error


def _place(error: BaseException) -> tuple[str, str, int]:
    """What it is, and where it was raised."""
    traceback_ = error.__traceback__
    while traceback_ is not None and traceback_.tb_next is not None:
        traceback_ = traceback_.tb_next
    if traceback_ is None:
        return type(error).__name__, "", 0
    return type(error).__name__, traceback_.tb_frame.f_code.co_filename, traceback_.tb_lineno


def raise_bare(error: BaseException) -> None:
    """Raise it bare. In the midst of which Cancelled or group it was raised is chance, and would make one failure look
    like several."""
    bare = unwrapped(error)
    if isinstance(bare.__context__, trio.Cancelled | BaseExceptionGroup) and bare.__cause__ is None:
        bare.__context__ = None
    raise bare
