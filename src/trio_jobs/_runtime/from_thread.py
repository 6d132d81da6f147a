"""`Queue.from_thread`: methods of the queue for threads in which Trio does not run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, final

import trio

from trio_jobs._engine.jobs import CancelAnswer, Job, Receipt
from trio_jobs._errors import QueueClosed
from trio_jobs._runtime.runtime import Runtime

__all__ = ["FromThread"]


@final
class FromThread:
    """The queue's methods for other threads. Each blocks the calling thread until the queue has answered.

    Raises also `QueueClosed` where the event loop has ended. In Trio's own thread, which it would block for ever, it
    raises `RuntimeError`.
    """

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    def submit(self, handler: str | Callable[..., Any], payload: Any, **options: Any) -> Receipt:
        """See `Queue.submit`."""
        return self._run(lambda: self._runtime.admission.submit(handler, payload, **options))  # type: ignore[no-any-return]

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
