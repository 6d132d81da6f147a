"""Floor 6: a thread that notices when Trio's loop stands still, and says where.

It asks the loop for a sign of life, and looks half a limit later whether it has come; nothing of this runs in the loop
but one assignment, a few times a second. What costs is the thread's waking, since it takes the interpreter from the
loop for a moment: so it wakes once for each look, and not for each answer as well. A Trio instrument would see more and
cost 4 to 20 %.
"""

from __future__ import annotations

import logging
import sys
import threading
import time
import traceback
from typing import Final

import trio

__all__ = ["Watchdog"]

log: Final = logging.getLogger("trio_jobs.watchdog")


class Watchdog:
    """Warns, with the loop's stack, once for each time that the loop stands still for `limit` seconds or longer, by at
    most half of that later.

    It must be made in the thread that runs Trio. blocked: how often it has warned.
    """

    def __init__(self, limit: float) -> None:
        self.limit = limit
        self.blocked = 0
        self._loop_thread = threading.get_ident()
        self._token = trio.lowlevel.current_trio_token()
        self._over = threading.Event()
        self._asked_at: float | None = None
        """When the loop was asked for a sign of life that has not come; None: it has."""
        self._warned = False
        self._thread = threading.Thread(target=self._run, name="trio-jobs watchdog", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Does not wait for the thread, which ends at once."""
        self._over.set()

    def _run(self) -> None:
        while not self._over.wait(self.limit / 2):
            try:
                self._look(time.monotonic())
            except trio.RunFinishedError:
                return

    def _look(self, now: float) -> None:
        asked_at = self._asked_at  # the loop may answer at any moment
        if asked_at is None:
            self._asked_at = now
            self._token.run_sync_soon(self._answer)
        elif now - asked_at >= self.limit and not self._warned:
            self._warned = True
            self._warn(now - asked_at)

    def _answer(self) -> None:
        """In the loop's thread."""
        asked_at, self._asked_at = self._asked_at, None
        if self._warned and asked_at is not None:
            self._warned = False
            log.warning("the event loop goes on after %.2f s", time.monotonic() - asked_at)

    def _warn(self, stood: float) -> None:
        frame = sys._current_frames().get(self._loop_thread)
        stack = "".join(traceback.format_stack(frame)) if frame is not None else "(its thread is gone)"
        self.blocked += 1
        log.warning("the event loop stands still since %.2f s, here:\n%s", stood, stack)
