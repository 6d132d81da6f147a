"""`Queue.from_thread`: the methods of the queue for threads that do not run Trio."""

from __future__ import annotations

import builtins
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, Unpack, final

from trio_jobs._backup import Backup
from trio_jobs._engine.decide import Resolution
from trio_jobs._engine.events import Event
from trio_jobs._engine.job_conditions import JobConditions, RetriedJobs
from trio_jobs._engine.job_filter import ListConditions
from trio_jobs._engine.job_history import JobHistory
from trio_jobs._engine.job_list import JobCounts, JobList
from trio_jobs._engine.jobs import CancelAnswer, Job, Receipt, State
from trio_jobs._engine.new_job import NewJob
from trio_jobs._engine.operator_actions import OperatorAction
from trio_jobs._engine.progress import Progress
from trio_jobs._engine.status import Health, Statistics
from trio_jobs._event_stream import EventStream
from trio_jobs._runtime.report import ShutdownReport
from trio_jobs._runtime.thread_commands import ThreadCommands

__all__ = ["EventIterator", "FromThread"]


@final
class FromThread(ThreadCommands):
    """The methods of the queue for other threads. Each blocks the calling thread until it has returned or raised.

    Arguments, results and errors are those of the queue's methods.

    Raises:
        QueueClosed: The event loop has ended. Each method raises this in addition to the errors of the queue's method.
        UsageError: It was called in a thread that runs Trio, which it would block.
        Cancelled: In a thread of `trio.to_thread.run_sync`, each method is cancelled with the task that waits for that
            thread.
    """

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

    @property
    def paused_until(self) -> datetime | None:
        """See `Queue.paused_until`."""
        return self._runtime.operations.paused_until

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
        correct: bool = False,
        by: str | None = None,
    ) -> Receipt:
        """See `Queue.submit`."""
        job = NewJob(handler, payload, key, due_at, delay, deadline_at, deadline_after, labels)
        return self._wait(self._runtime.admission.submit_job, job, wait=wait, by=by, correct=correct)

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
        queries = self._runtime.queries
        return self._run(lambda: queries.live(queries.get(job_id)))

    def find(self, kind: str | Callable[..., Any] | None, key: str) -> Job:
        """See `Queue.find`."""
        return self._run(self._runtime.lookups.find, kind, key)

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
        stream = self._run(self._runtime.lookups.events, after, jobs, kinds, states)
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

    def cancel(
        self, job_id: str, *, by: str | None = None, note: str | None = None, if_seq: int | None = None
    ) -> CancelAnswer:
        """See `Queue.cancel`."""
        return self._wait(self._runtime.operations.cancel, job_id, by=by, note=note, if_seq=if_seq)

    def retry(
        self,
        job_id: str,
        *,
        even_if_acted: bool = False,
        by: str | None = None,
        note: str | None = None,
        if_seq: int | None = None,
    ) -> State:
        """See `Queue.retry`."""
        retry = self._runtime.operations.retry
        return self._wait(retry, job_id, even_if_acted=even_if_acted, by=by, note=note, if_seq=if_seq)

    def resolve(
        self,
        job_id: str,
        resolution: Resolution,
        *,
        result: Any = None,
        by: str | None = None,
        note: str | None = None,
        if_seq: int | None = None,
    ) -> None:
        """See `Queue.resolve`."""
        resolve = self._runtime.operations.resolve
        self._wait(resolve, job_id, resolution, result=result, by=by, note=note, if_seq=if_seq)

    def cancel_many(
        self,
        *,
        dry_run: bool = False,
        by: str | None = None,
        note: str | None = None,
        **conditions: Unpack[JobConditions],
    ) -> tuple[str, ...]:
        """See `Queue.cancel_many`."""
        return self._wait(self._runtime.operations.cancel_many, conditions, by=by, note=note, dry_run=dry_run)

    def retry_many(
        self,
        *,
        even_if_acted: bool = False,
        dry_run: bool = False,
        by: str | None = None,
        note: str | None = None,
        **conditions: Unpack[JobConditions],
    ) -> RetriedJobs:
        """See `Queue.retry_many`."""
        many = self._runtime.operations.retry_many
        return self._wait(many, conditions, even_if_acted=even_if_acted, by=by, note=note, dry_run=dry_run)

    def pause(self, reason: str = "", *, until: datetime | None = None, by: str | None = None) -> None:
        """See `Queue.pause`."""
        self._wait(self._runtime.operations.pause, reason, until=until, by=by)

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

    def forget(self, job_id: str, *, by: str | None = None, note: str | None = None) -> None:
        """See `Queue.forget`."""
        self._wait(self._runtime.erasure.forget, job_id, by=by, note=note)

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
