"""A wait for a turn of Trio's loop in which nothing is left to do.

Trio says only before it waits for the operating system that no task is ready to run, and only to an instrument. At that
moment it has decided how long to wait, so a task that is made ready then must also wake the loop.
"""

from __future__ import annotations

from collections.abc import Callable

import trio

__all__ = ["IdleWait"]


class IdleWait(trio.abc.Instrument):
    """Waits, one caller at a time.

    Args:
        is_idle: Whether there is nothing to wait for that Trio does not know: a call on another thread, a commit.
    """

    def __init__(self, is_idle: Callable[[], bool]) -> None:
        self._is_idle = is_idle
        self._woken = False
        self._idle = trio.Event()
        self._token: trio.lowlevel.TrioToken | None = None

    async def within(self, seconds: float) -> bool:
        """Return True as soon as there is nothing to do, or False after so many seconds.

        Cancelled:
            Nothing has changed.
        """
        self._idle, self._woken = trio.Event(), False
        self._token = trio.lowlevel.current_trio_token()
        trio.lowlevel.add_instrument(self)
        try:
            with trio.move_on_after(seconds):
                await self._idle.wait()
        finally:
            trio.lowlevel.remove_instrument(self)
        return self._idle.is_set()

    def before_io_wait(self, timeout: float) -> None:
        """Called by Trio once in each turn; `timeout` is 0 if a task is ready to run (or a test clock will jump)."""
        if timeout > 0 and not self._woken and self._is_idle():
            assert self._token is not None
            self._woken = True
            self._token.run_sync_soon(self._idle.set)
