"""The task in which a queue is stopped.

Trio raises Ctrl-C in the main task, at whatever it waits for. If the stop ran in that task, a second Ctrl-C would end
the wait for the close of the SDK or for the last commits. So the stop has a task of its own, and the main task waits
for it. The first Ctrl-C in this time is raised when the stop has ended. The second one also ends the wait for a running
attempt, whose call may hang; it is then abandoned, and the SDK is not closed.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import trio

__all__ = ["StopTask"]


class StopTask:
    """Runs the stop, once.

    Args:
        stop: Stops the queue.
        attempt_limit: Limits its wait for the running attempt.
        fail: Called with each KeyboardInterrupt.
    """

    def __init__(
        self,
        stop: Callable[[], Awaitable[None]],
        attempt_limit: trio.CancelScope,
        fail: Callable[[KeyboardInterrupt], None],
    ) -> None:
        self._stop = stop
        self._attempt_limit = attempt_limit
        self._fail = fail
        self._ended = trio.Event()

    @trio.lowlevel.enable_ki_protection
    async def run(self) -> None:
        """Run the stop. Neither a cancellation nor Ctrl-C ends it."""
        try:
            with trio.CancelScope(shield=True):
                await self._stop()
        finally:
            self._ended.set()

    async def wait(self) -> None:
        """Return when `run` has ended, also after a cancellation or Ctrl-C."""
        interrupts = 0
        with trio.CancelScope(shield=True):
            while not self._ended.is_set():
                try:
                    await self._ended.wait()
                except KeyboardInterrupt as interrupt:
                    self._fail(interrupt)
                    interrupts += 1
                    if interrupts == 2:
                        self._attempt_limit.cancel()
