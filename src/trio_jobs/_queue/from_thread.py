"""The queue for threads that Trio does not run in."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import trio

from trio_jobs._errors import QueueClosed
from trio_jobs._jobs import CancelAnswer, Job, Receipt

if TYPE_CHECKING:
    from trio_jobs._queue.queue import Queue

__all__ = ["FromThread"]


class FromThread:
    """Each method blocks the calling thread until the queue has answered, and does what the queue's own does.

    Raises `QueueClosed` too where the event loop has ended. Not for Trio's own thread, which it would block for ever:
    `RuntimeError`.
    """

    def __init__(self, queue: Queue, token: trio.lowlevel.TrioToken) -> None:
        self._queue = queue
        self._token = token

    def submit(self, handler: str | Callable[..., Any], payload: Any, **options: Any) -> Receipt:
        """See `Queue.submit`."""
        return self._run(lambda: self._queue.submit(handler, payload, **options))  # type: ignore[no-any-return]

    def result(self, job_id: str, **options: Any) -> Any:
        """See `Queue.result`."""
        return self._run(lambda: self._queue.result(job_id, **options))

    def cancel(self, job_id: str, *, by: str | None = None) -> CancelAnswer:
        """See `Queue.cancel`."""
        return self._run(lambda: self._queue.cancel(job_id, by=by))  # type: ignore[no-any-return]

    def get(self, job_id: str) -> Job:
        """See `Queue.get`."""

        async def get() -> Job:
            return self._queue.get(job_id)

        return self._run(get)  # type: ignore[no-any-return]

    def _run(self, ask: Callable[[], Any]) -> Any:
        try:
            return trio.from_thread.run(ask, trio_token=self._token)
        except trio.RunFinishedError:
            raise QueueClosed("the event loop that the queue ran in has ended") from None
