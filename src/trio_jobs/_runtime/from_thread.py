"""`Queue.from_thread`: the methods of the queue for threads that do not run Trio."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any, Literal, final

import trio

from trio_jobs._engine.jobs import CancelAnswer, Job, Receipt
from trio_jobs._errors import QueueClosed
from trio_jobs._runtime.runtime import Runtime
from trio_jobs._runtime.submission import NewJob

__all__ = ["FromThread"]


@final
class FromThread:
    """The methods of the queue for other threads. Each blocks the calling thread until it has returned or raised.

    Raises:
        QueueClosed: The event loop has ended. Each method raises this in addition to the errors of the queue's method.
        RuntimeError: It was called in Trio's own thread, which it would block forever.
    """

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    def submit(
        self,
        handler: str | Callable[..., Any],
        payload: Any,
        *,
        key: str | None = None,
        due_at: datetime | None = None,
        delay: float | None = None,
        deadline_at: datetime | None = None,
        deadline_after: float | None = None,
        wait: float | None = None,
        by: str | None = None,
    ) -> Receipt:
        """See `Queue.submit`."""
        job = NewJob(handler, payload, key, due_at, delay, deadline_at, deadline_after)
        return self._run(lambda: self._runtime.admission.submit(job, wait=wait, by=by))  # type: ignore[no-any-return]

    def result(self, job_id: str, *, in_doubt: Literal["wait", "raise"] = "wait") -> Any:
        """See `Queue.result`."""
        return self._run(lambda: self._runtime.queries.result(job_id, in_doubt=in_doubt))

    def cancel(self, job_id: str, *, by: str | None = None) -> CancelAnswer:
        """See `Queue.cancel`."""
        return self._run(lambda: self._runtime.operations.cancel(job_id, by=by))  # type: ignore[no-any-return]

    def get(self, job_id: str) -> Job:
        """See `Queue.get`."""

        async def get() -> Job:
            return self._runtime.queries.get(job_id)

        return self._run(get)  # type: ignore[no-any-return]

    def _run(self, call: Callable[[], Any]) -> Any:
        try:
            return trio.from_thread.run(call, trio_token=self._runtime.token)
        except trio.RunFinishedError:
            raise QueueClosed("the event loop of the queue has ended") from None
