"""A running queue, as its owner uses it: submit, look, steer. How it starts and stops is in `lifecycle`."""

from __future__ import annotations

import trio

from trio_jobs._errors import QueueClosed
from trio_jobs._jobs import State
from trio_jobs._queue.from_thread import FromThread
from trio_jobs._queue.looking import Looking
from trio_jobs._queue.steering import Steering
from trio_jobs._queue.submitting import Submitting

__all__ = ["Queue"]


class Queue(Submitting, Looking, Steering):
    """Made by `Service.open`. Every method that changes something either does all of it or raises and does nothing."""

    def __repr__(self) -> str:
        count = self._head.count
        return (
            f"<Queue {count(State.PENDING)} pending, {count(State.PROCESSING)} processing, "
            f"{self._line.statistics().free} places free{', closed' if self._closing else ''}>"
        )

    @property
    def from_thread(self) -> FromThread:
        """The same for threads that Trio does not run in."""
        return FromThread(self, self._token)

    async def drain(self) -> None:
        """Take no new jobs, and wait until nothing is pending, processing or retrying.

        Cancelled: no new jobs are taken all the same.
        """
        self.close_to_submits()
        await trio.lowlevel.checkpoint()
        while self._head.count(State.PENDING, State.PROCESSING, State.RETRYING):
            if self.report is not None:
                raise QueueClosed("the queue has stopped before it was drained")
            if self._idle is None or self._idle.is_set():
                self._idle = trio.Event()
            await self._idle.wait()
