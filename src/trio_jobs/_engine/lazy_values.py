"""Values that stand for work which has not run: coroutines, other awaitables, generators, futures, lazy iterators.

A handler that returns one has not done its work: somewhere an `await` is missing, or a plain function wraps an async
one. Iterators in general are no sign of that, since the cursor of a database is one.
"""

from __future__ import annotations

import contextlib
import itertools
import types
from typing import Any, Final

__all__ = ["NotRunError", "close_lazy", "lazy_noun"]

MAX_CLOSED: Final = 10_000  #: parts of a value that are searched for coroutines to close

_NOUNS: Final = (
    (types.CoroutineType, "a coroutine"),
    (types.GeneratorType, "a generator"),
    (types.AsyncGeneratorType, "an async generator"),
    ((map, filter, itertools.starmap), "an iterator that has not been read"),
)


class NotRunError(TypeError):
    """A value contains something that has not run.

    Attributes:
        noun: What it is, such as "a coroutine".
    """

    def __init__(self, noun: str) -> None:
        super().__init__(f"{noun} is no result: it has not run")
        self.noun: Final = noun


def lazy_noun(value: Any) -> str | None:
    """What the value is, such as "a coroutine", if it stands for work that has not run; otherwise None."""
    class_ = type(value)
    for classes, noun in _NOUNS:
        if issubclass(class_, classes):
            return noun
    try:
        if hasattr(class_, "__await__"):
            return "an awaitable"
        if callable(getattr(class_, "add_done_callback", None)) and callable(getattr(class_, "result", None)):
            return "a future"  # of concurrent.futures, and of libraries that are modelled on it
    except BaseException:  # a metaclass can define `__getattr__`
        return None
    return None


def close_lazy(value: Any) -> None:
    """Close the coroutines in a value, so that Python does not warn that they were never awaited."""
    parts = [value]
    for _ in range(MAX_CLOSED):
        if not parts:
            return
        part = parts.pop()
        class_ = type(part)
        if issubclass(class_, types.CoroutineType):
            with contextlib.suppress(BaseException):  # if it had run to its first await, its cleanup can raise
                part.close()
        elif class_ in (list, tuple, set, frozenset):
            parts.extend(itertools.islice(part, MAX_CLOSED))
        elif class_ is dict:
            parts.extend(itertools.islice(part.values(), MAX_CLOSED))
