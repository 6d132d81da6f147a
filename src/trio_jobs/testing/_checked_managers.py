"""Context managers that report an exit without an entry: `__exit__` must not be called after `__enter__` has raised."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from typing import Any, Final, TypeVar

__all__ = ["CheckedAsyncManager", "CheckedManager"]

T = TypeVar("T")

_NOT_ENTERED: Final = "a session that could not be opened was closed: __exit__ was called after __enter__ had raised"


class CheckedManager(AbstractContextManager[T]):
    """Forwards to `inner`, and passes a sentence to `report` when it is exited without having been entered."""

    def __init__(self, inner: AbstractContextManager[T], report: Callable[[str], None]) -> None:
        self._inner = inner
        self._report = report
        self._entered = False

    def __enter__(self) -> T:
        value = self._inner.__enter__()
        self._entered = True
        return value

    def __exit__(self, *error: Any) -> bool | None:
        if self._entered:
            return self._inner.__exit__(*error)
        self._report(_NOT_ENTERED)
        return None


class CheckedAsyncManager(AbstractAsyncContextManager[T]):
    """As `CheckedManager`, for an asynchronous context manager."""

    def __init__(self, inner: AbstractAsyncContextManager[T], report: Callable[[str], None]) -> None:
        self._inner = inner
        self._report = report
        self._entered = False

    async def __aenter__(self) -> T:
        value = await self._inner.__aenter__()
        self._entered = True
        return value

    async def __aexit__(self, *error: Any) -> bool | None:
        if self._entered:
            return await self._inner.__aexit__(*error)
        self._report(_NOT_ENTERED)
        return None
