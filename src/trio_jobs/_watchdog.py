"""Floor 6: a thread that notices when Trio's loop stands still, and says where.

It asks the loop for a sign of life and waits; nothing of this runs in the loop but an empty function, a few times a
second, so its cost cannot be measured beside the loop's own. A Trio instrument would see more and cost 4 to 20 %.
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
    """Warns, with the loop's stack, once for each time that the loop stands still for `limit` seconds or longer.

    It must be made in the thread that runs Trio. blocked: how often it has warned.
    """

    def __init__(self, limit: float) -> None:
        self.limit = limit
        self.blocked = 0
        self._loop_thread = threading.get_ident()
        self._token = trio.lowlevel.current_trio_token()
        self._alive = threading.Event()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="trio-jobs watchdog", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Does not wait for the thread, which ends within one look."""
        self._over.set()
        self._alive.set()

    def _run(self) -> None:
        while not self._over.is_set():
            self._alive.clear()
            try:
                self._token.run_sync_soon(self._alive.set)
            except trio.RunFinishedError:
                return
            if not self._alive.wait(self.limit):
                self._warn()
            self._over.wait(self.limit / 2)

    def _warn(self) -> None:
        began = time.monotonic() - self.limit
        frame = sys._current_frames().get(self._loop_thread)
        stack = "".join(traceback.format_stack(frame)) if frame is not None else "(its thread is gone)"
        self.blocked += 1
        log.warning("the event loop stands still since %.2f s, here:\n%s", self.limit, stack)
        while not self._alive.wait(self.limit):
            if self._over.is_set():
                return
        log.warning("the event loop goes on after %.2f s", time.monotonic() - began)
