"""A running queue, as its owner uses it: submit, look, steer. How it starts and stops is in `lifecycle`."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import trio

from trio_jobs._engine.jobs import CancelAnswer, Job, Receipt, State
from trio_jobs._errors import QueueClosed, UsageError
from trio_jobs._ports import BacksUp, Backup
from trio_jobs._runtime.admission import Submitting
from trio_jobs._runtime.operations import Steering
from trio_jobs._runtime.queries import Looking

__all__ = ["FromThread", "Queue"]

NAME: Final = re.compile(r"[A-Za-z0-9._-]{1,100}")


class Queue(Submitting, Looking, Steering):
    """Made by `Service.open`. Every method that changes something either does all of it or raises and does nothing."""

    def __repr__(self) -> str:
        count = self._projection.count
        return (
            f"<Queue {count(State.PENDING)} pending, {count(State.PROCESSING)} processing, "
            f"{self._channel.statistics().free} places free{', closed' if self._closing else ''}>"
        )

    @property
    def from_thread(self) -> FromThread:
        """The same for threads that Trio does not run in."""
        return FromThread(self, self._token)

    async def backup(self, path: str | Path) -> Backup:
        """Copy the journal, as far as it is committed now, to a new file (0600), while the queue works on.

        Opened as a journal, a copy goes on from there under a new epoch; what was done after it was made is not in it,
        and would be done again where no `verify` says that it was. To put it in a journal's place, move that one's
        `-wal` and `-mark` away.

        Raises `UsageError` where jobs live in memory, `StoreError`, also if there is a file of that name. Cancelled, or
        with an error: there is no such file.
        """
        store = self._event_log.store
        if not isinstance(store, BacksUp):
            raise UsageError("there is nothing to back up: these jobs live in memory; open the service with a journal")
        return await store.backup(str(path))

    async def backup_beside(self, name: str) -> Backup:
        """The same into the journal's own folder, under its name with `.backup-` and `name` behind it: for those who
        may have a backup made, but not write wherever this process may.

        name: 1 to 100 letters, digits, `-`, `_` and `.`; otherwise `UsageError`.
        """
        if not NAME.fullmatch(name):
            raise UsageError(f"a backup's name is 1 to 100 letters, digits, '-', '_' and '.', not {name!r:.150}")
        store = self._event_log.store
        return await self.backup(f"{store.path}.backup-{name}" if isinstance(store, BacksUp) else name)

    async def drain(self) -> None:
        """Take no new jobs, and wait until nothing is pending, processing or retrying.

        Cancelled: no new jobs are taken all the same.
        """
        self.close_to_submits()
        await trio.lowlevel.checkpoint()
        while self._projection.count(State.PENDING, State.PROCESSING, State.RETRYING):
            if self.report is not None:
                raise QueueClosed("the queue has stopped before it was drained")
            if self._idle is None or self._idle.is_set():
                self._idle = trio.Event()
            await self._idle.wait()


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
