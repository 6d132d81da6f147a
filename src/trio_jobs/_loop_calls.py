"""Calls that another thread has made in Trio's thread: what the thread of a journal or of an SDK reports.

A call through `run_sync_soon` comes one turn of the loop late, since Trio has a task that makes such calls, and that
task must be resumed first. In each turn the disk or the SDK does nothing if a single job is under way. So the calls are
made by an instrument, at the start of the turn in which the loop was woken; the tasks that they wake run in that turn.

`run_sync_soon` also wakes the loop, but where the processor was asleep, the task that then empties a socket and a queue
takes 23 us; a task that empties an eventfd takes 8. Where the system has none or cannot watch it, before `start` and
after `stop`, `run_sync_soon` wakes the loop and makes the calls.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections import deque
from collections.abc import Callable
from typing import Any

import trio

from trio_jobs._eventfd import open_eventfd, read_eventfd, write_eventfd

__all__ = ["LoopCalls"]


class LoopCalls(trio.abc.Instrument):
    """The calls that were posted and not made yet. Each is made once, in order.

    Args:
        token: Of the run in which the calls are made.
        on_run_end: Called if the run of Trio ends before `stop`, as after an error of Trio itself.
    """

    def __init__(self, token: trio.lowlevel.TrioToken, on_run_end: Callable[[], None] = lambda: None) -> None:
        self._token = token
        self._on_run_end = on_run_end
        self._has_run_ended = False
        self._calls: deque[tuple[Callable[..., None], tuple[Any, ...]]] = deque()
        self._is_started = False
        self._is_watched = True  #: False: the system cannot watch another file
        self._lock = threading.Lock()  #: held while `_eventfd` is written to or closed
        self._eventfd: int | None = None  #: what `post` wakes the loop with, from the first call to the end of `_wait`

    def start(self) -> None:
        """Make calls at the start of a turn from now on, in this run of Trio, until `stop`."""
        trio.lowlevel.add_instrument(self)
        self._is_started = True

    def stop(self) -> None:
        """Make calls through `run_sync_soon` alone. Stopping twice is harmless."""
        self._is_started = False
        with contextlib.suppress(trio.RunFinishedError):
            self._wake()  # the task, which then ends
        with contextlib.suppress(KeyError):
            trio.lowlevel.remove_instrument(self)

    def post(self, fn: Callable[..., None], *args: Any) -> None:
        """Have `fn` called in Trio's thread. Can be called in any thread.

        Raises:
            trio.RunFinishedError: The run has ended; `fn` is not called.
        """
        self._calls.append((fn, args))
        if not self._wake():
            self._token.run_sync_soon(self._make_soon, idempotent=True)

    def after_run(self) -> None:
        """Called by Trio at the end of its run."""
        with self._lock:
            self._has_run_ended = True
        self._on_run_end()

    def _wake(self) -> bool:
        """Wake the loop with the eventfd. False: there is none."""
        with self._lock:
            if self._has_run_ended:
                raise trio.RunFinishedError("the run of Trio has ended")
            if self._eventfd is not None:
                write_eventfd(self._eventfd, 1)
                return True
        return False

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

    def _make_soon(self) -> None:
        """Called through `run_sync_soon`. It opens the eventfd, rather than `start`: some threads never post."""
        if self._is_started and self._is_watched and self._eventfd is None:
            eventfd = open_eventfd()
            if eventfd is not None:
                self._start_waiting(eventfd)
        self._make_calls()

    def _start_waiting(self, eventfd: int) -> None:
        try:
            trio.lowlevel.spawn_system_task(self._wait, eventfd)
        except RuntimeError:  # the run is about to end
            os.close(eventfd)
        else:
            self._eventfd = eventfd

    async def _wait(self, eventfd: int) -> None:
        """Wait for the eventfd, so that it wakes the loop, until `stop` or the end of the run."""
        try:
            while self._is_started:
                try:
                    await trio.lowlevel.wait_readable(eventfd)
                except OSError:  # the user has reached the limit of what epoll watches, or there is no memory for it
                    self._is_watched = False
                    return
                try:
                    read_eventfd(eventfd)
                except BlockingIOError:  # not written to
                    continue
                self._make_calls()  # those posted after the instrument was called and before the eventfd was read
        finally:
            with self._lock:
                self._eventfd = None
                os.close(eventfd)
            with contextlib.suppress(trio.RunFinishedError):
                self._token.run_sync_soon(self._make_calls)  # those that were posted before the eventfd was closed


def _raise(error: BaseException) -> None:
    raise error
