"""What blocks an operation of a `FakeSdk` until the test releases it, on a thread and in Trio."""

from __future__ import annotations

import threading
from typing import Any, Final

import trio

from trio_jobs.testing._virtual_time import ThreadActivity, current_activity

__all__ = ["Blocker"]

TIMEOUT: Final = 30.0  #: seconds of real time


class Blocker:
    """Blocks the operation that takes it until the test releases it.

    Args:
        then: The item that takes effect after the release, as if it had been scripted in place of the blocker.
        timeout: Seconds of real time after which a blocked thread fails, so that a test that never releases it ends.
    """

    def __init__(self, then: Any = None, *, timeout: float = TIMEOUT) -> None:
        self.then = then
        """The item that takes effect after the release."""
        self._timeout = timeout
        self._blocked: list[ThreadActivity] = []
        self._reached = threading.Event()
        self._released = threading.Event()
        self._reached_in_trio = trio.Event()
        self._released_in_trio = trio.Event()

    def __repr__(self) -> str:
        state = "released" if self._released.is_set() else "reached" if self._reached.is_set() else "not reached"
        return f"<Blocker {state}>"

    def release(self) -> None:
        """Let the blocked operations continue; later ones do not block. Call it in Trio's thread."""
        self._released.set()
        self._released_in_trio.set()
        blocked, self._blocked = self._blocked, []
        for activity in blocked:
            activity.begin()

    async def reached(self) -> None:
        """Wait until an operation on a thread is blocked. It takes no virtual time.

        Raises:
            AssertionError: No operation reached the blocker within `timeout` seconds of real time.

        Cancelled:
            Takes effect when the wait is over.
        """
        await trio.to_thread.run_sync(self._reached.wait, self._timeout)
        assert self._reached.is_set(), f"no call reached this blocker within {self._timeout:g} s"

    async def reached_in_trio(self) -> None:
        """Wait until an operation in Trio is blocked.

        Cancelled:
            Nothing has changed.
        """
        await self._reached_in_trio.wait()

    def block(self) -> None:
        """Block the calling thread until the release.

        Raises:
            AssertionError: The blocker was not released within `timeout` seconds of real time.
        """
        activity = current_activity()
        if activity is not None:  # virtual time may pass while this thread is blocked
            activity.token.run_sync_soon(self._set_blocked, activity)
        self._reached.set()
        assert self._released.wait(self._timeout), f"this blocker was not released within {self._timeout:g} s"

    async def ablock(self) -> None:
        """Block the calling task until the release.

        Cancelled:
            The blocker counts as reached.
        """
        self._reached.set()
        self._reached_in_trio.set()
        await self._released_in_trio.wait()

    def _set_blocked(self, activity: ThreadActivity) -> None:
        if not self._released.is_set():  # otherwise the thread is running again
            self._blocked.append(activity)
            activity.end()
