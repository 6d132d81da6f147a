"""The watchdog: a thread that detects when Trio's event loop is blocked, and logs the stack of the loop.

The thread looks at the loop's stack. A loop that waits for I/O is well, and is left alone, so that an idle process
sleeps. Otherwise the thread schedules a callback in the loop, and checks half a limit later whether it was called. From
then on, as long as the loop is busy, a task of the loop moves on the time of the next look, so that the thread wakes
only if the loop is blocked: beside a busy loop, looks take up to a tenth of the time, see `_thread_timer`. In the loop
this is a few assignments and system calls a second. A Trio instrument would detect more, but costs 4 to 20 %.
"""

from __future__ import annotations

import contextlib
import sys
import threading
import time
import traceback
from types import FrameType
from typing import Final

import trio

from trio_jobs._log import Log
from trio_jobs._thread_timer import ThreadTimer, open_timer

__all__ = ["Watchdog"]

log: Final = Log("trio_jobs.watchdog")

RETRY: Final = 60.0  #: seconds after which a thread that could not be started is tried again
BUSY: Final = 0.02  #: of the time on a processor; below it the loop does not move on the time of the next look
LOOKS: Final = 30  #: after so many looks at a loop that waits, a callback is scheduled: the loop may be another one


class Watchdog:
    """Logs a warning, with the stack of the event loop, once for each time that the loop is blocked.

    It must be created in the thread that runs Trio.

    Args:
        limit: The seconds after which the loop counts as blocked. A warning may be late by as much.

    Attributes:
        blocked: The number of warnings.
        looks: How often the thread has looked at the loop.
        callbacks: How many callbacks it has scheduled.
    """

    def __init__(self, limit: float) -> None:
        self.limit = limit
        self.blocked = self.looks = self.callbacks = 0
        self._loop_thread = threading.get_ident()
        self._token = trio.lowlevel.current_trio_token()
        self._is_over = False
        self._timer: ThreadTimer | None = None
        self._asked_at: float | None = None
        """When the callback was scheduled, if it was not called yet; otherwise None."""
        self._answered = trio.Event()
        self._warned = False
        self._waiting = 0
        """How many looks at a loop that waits have followed each other."""
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start the thread. Raises `RuntimeError` if the system has no more threads; `run` tries again then."""
        thread = threading.Thread(target=self._run_thread, name="trio-jobs watchdog", daemon=True)
        thread.start()
        self._thread = thread

    async def run(self) -> None:
        """Move on the time of the next look while the loop is busy. If the thread could not start, try it again first.

        Cancelled:
            The thread looks at fixed intervals, until `stop`.
        """
        while self._thread is None:
            await trio.sleep(RETRY)
            with contextlib.suppress(RuntimeError):
                self.start()
        while True:
            await self._move_on()  # at first in any case: a queue is opened for work
            await self._answered.wait()
            self._answered = trio.Event()

    async def _move_on(self) -> None:
        used, pause = time.thread_time(), self.limit / 2
        while True:
            if self._timer is not None:
                self._timer.set(self.limit)
            await trio.sleep(pause)
            before, used = used, time.thread_time()
            if used - before < BUSY * pause:
                return

    def stop(self) -> None:
        """End the thread. Returns at once, without waiting for it."""
        self._is_over = True
        if self._timer is not None:
            self._timer.expire()

    def _run_thread(self) -> None:
        self._timer = timer = open_timer()
        with contextlib.closing(timer):
            timer.set(self.limit)
            while not self._is_over:
                timer.wait()
                if not self._is_over:
                    try:
                        timer.set(self._look(time.monotonic()))
                    except (trio.RunFinishedError, OSError):  # OSError: after an error of Trio itself, it is closed
                        return

    def _look(self, now: float) -> float:
        """Returns the seconds until the next look."""
        asked_at = self._asked_at  # read once, since the callback may reset it at any time
        self.looks += 1
        if asked_at is None and self._waiting < LOOKS and self._loop_waits():
            self._waiting += 1
            return self.limit
        if asked_at is None:
            self._waiting = 0
            self.callbacks += 1
            self._asked_at = now
            self._token.run_sync_soon(self._answer)
        elif now - asked_at >= self.limit and not self._warned:
            self._warned = True
            self._warn(now - asked_at)
        return self.limit / 2

    def _loop_waits(self) -> bool:
        """Whether the loop is seen where Trio waits for I/O. In guest mode it never is, since another loop waits."""
        frame = self._loop_frame()
        if frame is None or frame.f_code.co_name != "get_events":
            return False
        return str(frame.f_globals.get("__name__")).startswith("trio._core.")

    def _loop_frame(self) -> FrameType | None:
        """What the thread of the loop executes; None if it has ended."""
        return sys._current_frames().get(self._loop_thread)

    def _answer(self) -> None:
        """The callback. Runs in the thread of the event loop."""
        asked_at, self._asked_at = self._asked_at, None
        self._answered.set()
        if self._warned and asked_at is not None:
            self._warned = False
            log.warning("the event loop continues after %.2f s", time.monotonic() - asked_at)

    def _warn(self, stood: float) -> None:
        frame = self._loop_frame()
        stack = "".join(traceback.format_stack(frame)) if frame is not None else "(its thread has ended)"
        self.blocked += 1
        log.warning("the event loop has been blocked for %.2f s, here:\n%s", stood, stack)
