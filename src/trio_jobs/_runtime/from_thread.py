"""`Queue.from_thread`: the methods of the queue for threads that do not run Trio."""

from __future__ import annotations

import builtins
import threading
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, ParamSpec, TypeVar, Unpack, final

import trio

from trio_jobs._engine.decide import Resolution
from trio_jobs._engine.events import Event
from trio_jobs._engine.job_filter import ListConditions
from trio_jobs._engine.job_history import JobHistory
from trio_jobs._engine.job_list import JobCounts, JobList
from trio_jobs._engine.jobs import CancelAnswer, Job, Receipt, State
from trio_jobs._engine.operator_actions import OperatorAction
from trio_jobs._engine.status import Health, Progress, Statistics
from trio_jobs._errors import QueueClosed, UsageError
from trio_jobs._event_stream import EventStream
from trio_jobs._ports import Backup
from trio_jobs._runtime.job_conditions import JobConditions, RetriedJobs
from trio_jobs._runtime.report import ShutdownReport
from trio_jobs._runtime.runtime import Runtime
from trio_jobs._runtime.submission import NewJob

__all__ = ["EventIterator", "FromThread"]

P = ParamSpec("P")
T = TypeVar("T")


@final
class FromThread:
    """The methods of the queue for other threads. Each blocks the calling thread until it has returned or raised.

    Arguments, results and errors are those of the queue's methods.

    Raises:
        QueueClosed: The event loop has ended. Each method raises this in addition to the errors of the queue's method.
        UsageError: It was called in a thread that runs Trio, which it would block.
        Cancelled: In a thread of `trio.to_thread.run_sync`, each method is cancelled with the task that waits for that
            thread.
    """

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    @property
    def report(self) -> ShutdownReport | None:
        """See `Queue.report`."""
        return self._runtime.status.report

    @property
    def epoch(self) -> str:
        """See `Queue.epoch`."""
        return self._runtime.event_log.store.epoch

    @property
    def paused(self) -> str | None:
        """See `Queue.paused`."""
        return self._runtime.operations.paused

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
        labels: Mapping[str, str] | None = None,
        by: str | None = None,
    ) -> Receipt:
        """See `Queue.submit`."""
        job = NewJob(handler, payload, key, due_at, delay, deadline_at, deadline_after, labels)
        return self._wait(self._runtime.admission.submit, job, wait=wait, by=by)

    def submit_nowait(
        self,
        handler: str | Callable[..., Any],
        payload: Any,
        *,
        key: str | None = None,
        labels: Mapping[str, str] | None = None,
        by: str | None = None,
    ) -> Receipt:
        """See `Queue.submit_nowait`."""
        return self._run(self._runtime.admission.submit_nowait, NewJob(handler, payload, key, labels=labels), by=by)

    def submit_many(self, jobs: Sequence[NewJob], *, by: str | None = None) -> list[Receipt]:
        """See `Queue.submit_many`."""
        return self._wait(self._runtime.admission.submit_many, jobs, by=by)

    def get(self, job_id: str) -> Job:
        """See `Queue.get`."""
        return self._run(self._runtime.queries.get, job_id)

    def find(self, kind: str | Callable[..., Any] | None, key: str) -> Job:
        """See `Queue.find`."""
        return self._run(self._runtime.find, kind, key)

    def list(
        self,
        *,
        after: str | None = None,
        limit: int = 100,
        order: Literal["oldest", "newest"] = "oldest",
        **conditions: Unpack[ListConditions],
    ) -> JobList:
        """See `Queue.list`."""
        return self._run(self._runtime.queries.list_jobs, after, limit, order, conditions)

    def count(self, group: str | None = None, **conditions: Unpack[ListConditions]) -> JobCounts:
        """See `Queue.count`."""
        return self._wait(self._runtime.queries.count, group, conditions)

    def job_ids(self) -> builtins.list[str]:
        """See `Queue.job_ids`."""
        return self._run(self._runtime.queries.job_ids)

    def result(self, job_id: str, *, in_doubt: Literal["wait", "raise"] = "wait") -> Any:
        """See `Queue.result`."""
        return self._wait(self._runtime.queries.result, job_id, in_doubt=in_doubt)

    def events(
        self,
        *,
        after: int | None = None,
        jobs: Iterable[str] | None = None,
        kinds: Iterable[str] | None = None,
        states: Iterable[State | str] | None = None,
    ) -> EventIterator:
        """Return an iterator over the committed events: `for event in queue.from_thread.events()`.

        Arguments and errors are those of `Queue.events`.
        """
        stream = self._run(self._runtime.events, after, jobs, kinds, states)
        return EventIterator(stream, lambda: self._wait(stream.__anext__))

    def progress(self, job_id: str) -> Progress | None:
        """See `Queue.progress`."""
        return self._run(lambda: self._runtime.recorder.latest(self._runtime.queries.id_of(job_id)))

    def statistics(self) -> Statistics:
        """See `Queue.statistics`."""
        return self._run(self._runtime.queries.statistics)

    def health(self) -> Health:
        """See `Queue.health`."""
        return self._run(self._runtime.queries.health)

    def cancel(self, job_id: str, *, by: str | None = None, note: str | None = None) -> CancelAnswer:
        """See `Queue.cancel`."""
        return self._wait(self._runtime.operations.cancel, job_id, by=by, note=note)

    def retry(
        self, job_id: str, *, even_if_acted: bool = False, by: str | None = None, note: str | None = None
    ) -> None:
        """See `Queue.retry`."""
        self._wait(self._runtime.operations.retry, job_id, even_if_acted=even_if_acted, by=by, note=note)

    def resolve(
        self,
        job_id: str,
        resolution: Resolution,
        *,
        result: Any = None,
        by: str | None = None,
        note: str | None = None,
    ) -> None:
        """See `Queue.resolve`."""
        self._wait(self._runtime.operations.resolve, job_id, resolution, result=result, by=by, note=note)

    def cancel_many(
        self, *, by: str | None = None, note: str | None = None, **conditions: Unpack[JobConditions]
    ) -> tuple[str, ...]:
        """See `Queue.cancel_many`."""
        return self._wait(self._runtime.operations.cancel_many, conditions, by=by, note=note)

    def retry_many(
        self,
        *,
        even_if_acted: bool = False,
        by: str | None = None,
        note: str | None = None,
        **conditions: Unpack[JobConditions],
    ) -> RetriedJobs:
        """See `Queue.retry_many`."""
        many = self._runtime.operations.retry_many
        return self._wait(many, conditions, even_if_acted=even_if_acted, by=by, note=note)

    def pause(self, reason: str = "", *, by: str | None = None) -> None:
        """See `Queue.pause`."""
        self._wait(self._runtime.operations.pause, reason, by=by)

    def resume(self, *, by: str | None = None, note: str | None = None) -> None:
        """See `Queue.resume`."""
        self._wait(self._runtime.operations.resume, by=by, note=note)

    def close_to_submits(self) -> None:
        """See `Queue.close_to_submits`."""
        self._run(self._runtime.admission.close)

    def drain(self, *, by: str | None = None, note: str | None = None) -> None:
        """See `Queue.drain`."""
        self._wait(self._runtime.operations.start_drain, by=by, note=note)

    def undrain(self, *, by: str | None = None, note: str | None = None) -> None:
        """See `Queue.undrain`."""
        self._wait(self._runtime.operations.undrain, by=by, note=note)

    def history(self, job_id: str) -> JobHistory:
        """See `Queue.history`."""
        return self._wait(self._runtime.histories.of_job, job_id)

    def activity(
        self, *, before: int | None = None, limit: int = 100, by: str | None = None
    ) -> tuple[OperatorAction, ...]:
        """See `Queue.activity`."""
        return self._run(self._runtime.histories.activity, before, limit, by)

    def backup(self, path: str | Path) -> Backup:
        """See `Queue.backup`."""
        return self._wait(self._runtime.operations.backup, str(path))

    def _run(self, fn: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call a plain function in the thread of the event loop."""
        self._refuse_trio_thread()
        try:
            return trio.from_thread.run_sync(lambda: fn(*args, **kwargs), trio_token=self._runtime.token)
        except trio.RunFinishedError:
            raise _ended() from None

    def _wait(self, fn: Callable[P, Awaitable[T]], *args: P.args, **kwargs: P.kwargs) -> T:
        """Await an async function in the thread of the event loop.

        In a thread of `trio.to_thread.run_sync` it runs in the task that waits for the thread, so that it is cancelled
        with that task, and recognized as a part of a handler if that task is one.
        """
        self._refuse_trio_thread()
        caller, this_thread = self._runtime.caller, threading.get_ident()
        is_in_loop = True

        async def run() -> T | None:
            nonlocal is_in_loop
            is_in_loop = threading.get_ident() == caller.loop_thread.id
            if not is_in_loop:
                return None
            with caller.on_behalf_of(this_thread):
                return await fn(*args, **kwargs)

        if _is_worker():
            result = trio.from_thread.run(run)
            if is_in_loop:
                return result  # type: ignore[return-value] # it is that of fn
            is_in_loop = True
        try:
            return trio.from_thread.run(run, trio_token=self._runtime.token)  # type: ignore[return-value] # as above
        except (trio.RunFinishedError, trio.Cancelled):
            raise _ended() from None

    def _refuse_trio_thread(self) -> None:
        if threading.get_ident() == self._runtime.caller.loop_thread.id:
            try:
                self._runtime.token.run_sync_soon(_do_nothing)
            except trio.RunFinishedError:
                raise _ended() from None
            raise UsageError(
                "a method of queue.from_thread was called in the thread of the event loop, which it would block; "
                "use the method of the queue itself"
            )
        if trio.lowlevel.in_trio_task():
            raise UsageError(
                "a method of queue.from_thread was called in a Trio task, whose event loop it would block; call it "
                "with trio.to_thread.run_sync"
            )


@final
class EventIterator:
    """An iterator over committed events, in order and without gaps, for a thread that does not run Trio.

    Each step blocks the thread until there is another event. The iteration ends when the queue has stopped and all
    events are read. One thread uses it.

    Raises:
        Lagged: Events are pruned. Iterate again to continue behind the gap.
        QueueClosed: The event loop has ended.
    """

    def __init__(self, stream: EventStream, step: Callable[[], Event]) -> None:
        self._stream = stream
        self._step = step

    def __repr__(self) -> str:
        return f"<EventIterator after event {self.seq}>"

    @property
    def seq(self) -> int:
        """The last event that the iterator has passed."""
        return self._stream.seq

    def __iter__(self) -> EventIterator:
        return self

    def __next__(self) -> Event:
        try:
            return self._step()
        except StopAsyncIteration:
            raise StopIteration from None


def _is_worker() -> bool:
    """Whether this is a thread of `trio.to_thread.run_sync`."""
    try:
        trio.from_thread.check_cancelled()
    except RuntimeError:
        return False
    except trio.Cancelled:
        return True  # the call raises it too
    return True


def _do_nothing() -> None: ...


def _ended() -> QueueClosed:
    return QueueClosed("the event loop of the queue has ended")
