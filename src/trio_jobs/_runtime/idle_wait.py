"""A wait for a turn of Trio's loop in which nothing is left to do.

Trio says only before it waits for the operating system that no task is ready to run, and only to an instrument. At that
moment it has decided how long to wait, so a task that is made ready then must also wake the loop.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import trio

__all__ = ["IdleWait"]


class IdleWait(trio.abc.Instrument):
    """Waits, one caller at a time. After the first wait Trio calls it in each turn of the loop, until `stop`.

    Args:
        is_idle: Whether the queue waits for nothing outside of Trio, such as a call on another thread or a commit.
    """

    def __init__(self, is_idle: Callable[[], bool]) -> None:
        self._is_idle = is_idle
        self._token: trio.lowlevel.TrioToken | None = None
        self._idle: trio.Event | None = None
        """What the caller waits for; None if there is no caller, or it is being woken."""

    async def within(self, seconds: float) -> bool:
        """Return True as soon as there is nothing to do, or False after so many seconds.

        Cancelled:
            Nothing has changed.
        """
        if self._token is None:  # once, since it takes 10 us
            self._token = trio.lowlevel.current_trio_token()
            trio.lowlevel.add_instrument(self)
        idle = self._idle = trio.Event()
        try:
            with trio.move_on_after(seconds):
                await idle.wait()
        finally:
            self._idle = None
        return idle.is_set()

    def stop(self) -> None:
        """Have Trio call it no more. Stopping twice is harmless."""
        if self._token is not None:
            self._token = None
            with contextlib.suppress(KeyError):  # Trio has removed it, since it raised
                trio.lowlevel.remove_instrument(self)

    def before_io_wait(self, timeout: float) -> None:
        """Called by Trio once in each turn; `timeout` is 0 if a task is ready to run (or a test clock will jump)."""
        if timeout > 0 and self._idle is not None and self._is_idle():
            assert self._token is not None
            self._token.run_sync_soon(self._idle.set)
            self._idle = None
