"""Small tools over Trio that several parts need."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import trio

__all__ = ["NEVER", "Alarm", "WakeUp", "bare_nursery", "single_cause"]

NEVER: Final = float("inf")  #: a time on Trio's clock that does not come


@asynccontextmanager
async def bare_nursery() -> AsyncIterator[trio.Nursery]:
    """A nursery that does not wrap what its body raises.

    `trio.open_nursery` puts the body's exception into a group, also where no task of the nursery has failed. The tasks
    started in this nursery must not raise; then the body's own exception comes out as it was raised.
    """
    raised: BaseException | None = None
    async with trio.open_nursery() as nursery:
        try:
            yield nursery
        except BaseException as error:
            raised = error
    if raised is not None:
        try:
            raise raised
        finally:
            del raised  # no reference cycle through this frame


def single_cause(error: BaseException) -> BaseException:
    """The first error that is not a group, inside of `error`."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


class Alarm:
    """Sleeps until the earliest of the times that were set. One task waits, any task sets."""

    def __init__(self) -> None:
        self._at = NEVER
        self._scope = trio.CancelScope()

    def set(self, at: float) -> None:
        """Wake the waiting task at this time (seconds on Trio's clock) or earlier."""
        if at < self._at:
            self._at = self._scope.deadline = at

    async def wait(self) -> None:
        """Return at the earliest time that was set since the last call; that time is then forgotten.

        Cancelled:
            The times that were set stay set.
        """
        self._scope = trio.CancelScope(deadline=self._at)
        with self._scope:
            await trio.sleep_forever()
        self._at = NEVER


class WakeUp:
    """An event that can be set again and again. One task waits, any task sets."""

    def __init__(self) -> None:
        self._event = trio.Event()

    @property
    def is_set(self) -> bool:
        return self._event.is_set()

    def set(self) -> None:
        self._event.set()

    def clear(self) -> None:
        if self._event.is_set():
            self._event = trio.Event()

    async def wait(self) -> None:
        """Return when `set` has been called since the last return or `clear`.

        Cancelled:
            It stays set, if it was.
        """
        await self._event.wait()
        self._event = trio.Event()
