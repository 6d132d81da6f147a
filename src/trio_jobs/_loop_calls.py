"""Calls that another thread has made in Trio's thread: what the thread of a journal or of an SDK reports.

A call through `run_sync_soon` comes one turn of the loop late, since Trio has a task that makes such calls, and that
task must be resumed first. In each turn the disk or the SDK does nothing if a single job is under way. So the calls are
made by an instrument, at the start of the turn in which the loop was woken; the tasks that they wake run in that turn.
`run_sync_soon` still wakes the loop, and makes the calls where no instrument does: before `start` and after `stop`.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable
from typing import Any

import trio

__all__ = ["LoopCalls"]


class LoopCalls(trio.abc.Instrument):
    """The calls that were posted and not made yet. Each is made once, in order.

    Args:
        token: Of the run in which the calls are made.
    """

    def __init__(self, token: trio.lowlevel.TrioToken) -> None:
        self._token = token
        self._calls: deque[tuple[Callable[..., None], tuple[Any, ...]]] = deque()

    def start(self) -> None:
        """Make calls at the start of a turn from now on, in this run of Trio, until `stop`."""
        trio.lowlevel.add_instrument(self)

    def stop(self) -> None:
        """Make calls through `run_sync_soon` alone. Stopping twice is harmless."""
        with contextlib.suppress(KeyError):
            trio.lowlevel.remove_instrument(self)

    def post(self, fn: Callable[..., None], *args: Any) -> None:
        """Have `fn` called in Trio's thread. Can be called in any thread.

        Raises:
            trio.RunFinishedError: The run has ended; `fn` is not called.
        """
        self._calls.append((fn, args))
        self._token.run_sync_soon(self._make_calls, idempotent=True)

    def after_io_wait(self, timeout: float) -> None:
        """Called by Trio once in each turn, before it resumes tasks."""
        if self._calls:
            try:
                self._make_calls()
            except BaseException as error:  # Trio would log it and remove the instrument; this way its run ends
                self._token.run_sync_soon(_raise, error)

    def _make_calls(self) -> None:
        calls = self._calls
        for _ in range(len(calls)):
            fn, args = calls.popleft()
            fn(*args)


def _raise(error: BaseException) -> None:
    raise error
