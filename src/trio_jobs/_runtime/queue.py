"""`Queue`, the public interface of a running queue. Each method calls a part of the runtime."""

from __future__ import annotations

import builtins
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Literal, Unpack, final

from trio_jobs._backend import Backend
from trio_jobs._engine.job_filter import ListConditions
from trio_jobs._engine.job_list import JobCounts, JobList
from trio_jobs._engine.jobs import Job, Receipt, State
from trio_jobs._engine.new_job import NewJob
from trio_jobs._engine.progress import Progress
from trio_jobs._engine.status import Health, Statistics
from trio_jobs._event_stream import EventStream
from trio_jobs._runtime.backend import QueueBackend
from trio_jobs._runtime.from_thread import FromThread
from trio_jobs._runtime.queue_operations import QueueOperations
from trio_jobs._runtime.report import ShutdownReport
from trio_jobs._runtime.runtime import Runtime

__all__ = ["Queue", "runtime_of"]


@final
class Queue(QueueOperations):
    """A running queue, returned by `Service.open`.

    The methods must be called in the event loop in which the queue was opened, otherwise they raise `UsageError`;
    `from_thread` has the same methods for other threads. A method that raises has changed nothing, unless it raises
    `OutcomeUnknown`.

    A handler, a verify or an SDK factory of the queue may submit jobs, but cannot wait for the consumer, which waits
    for it: `result` of a job that is not final, `drain`, and a submit that has to wait for a slot raise `UsageError`
    there.
    """

    def __repr__(self) -> str:
        count, channel = self._parts.event_log.projection.count, self._parts.channel
        jobs = f"{count(State.PENDING)} pending, {count(State.PROCESSING)} processing"
        return f"<Queue {jobs}, {channel.statistics().free} slots free{', closed' * self._parts.status.closing}>"

    @property
    def from_thread(self) -> FromThread:
        """Methods of the queue for threads that do not run Trio."""
        return FromThread(self._parts)

    @property
    def report(self) -> ShutdownReport | None:
        """The report of the stop; None while the queue runs."""
        return self._parts.status.report

    @property
    def epoch(self) -> str:
        """The identity of this history of events. Numbers of events of different epochs are not comparable."""
        return self._parts.event_log.store.epoch

    @property
    def backend(self) -> Backend:
        """The port through which a server uses the queue."""
        return QueueBackend(self._runtime)

    async def submit(
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
        """Accept a job. Waits for a slot of the channel if all are reserved.

        Args:
            handler: The handler function, or its kind.
            payload: A value of the handler's payload type.
            key: 1 to 500 characters. A submit with the same key and payload returns the same job.
            due_at: An aware datetime before which the job does not start.
            delay: The same in seconds from now, at most 100 years.
            deadline_at: An aware datetime at which the job expires.
            deadline_after: The same in seconds from now.
            wait: Seconds to wait for a slot, 0 or more; None for no limit. Jobs for later need no slot.
            labels: At most 8 names and values of 1 to 64 characters each, such as {"company": "acme"}, by which jobs
                are listed and counted. A submit with a known key does not change them.
            correct: If the key belongs to a failed or cancelled job with another payload, start that job again with
                this payload; see `correct`, which says when that is refused.
            by: The name of the submitter, 1 to 200 characters; recorded.

        Returns:
            The receipt of the new job, or of the job to which the key belongs. With a journal, the job is on disk.

        Raises:
            UnknownKind: No handler is registered under that name.
            InvalidPayload: The payload does not fit the handler's type, or its JSON is longer than 1 MiB or nested
                deeper than 100 levels.
            KeyConflict: The key belongs to a job with another payload; with `correct`: which is open or completed, or
                may have done its work or a step of it.
            UsageError: Another argument is not valid.
            QueueFull: No slot was free within `wait` seconds; or, for a job for later, `max_waiting` jobs wait already.
            QueueClosed: The queue drains or has stopped.
            StoreError: The store did not accept the job.
            OutcomeUnknown: The store did not acknowledge it within `commit_timeout`; submit it again with the same key.

        Cancelled:
            The job was not accepted. Once the job has been passed to the store, the call is shielded.
        """
        parts = self._parts  # without the property, which takes as long as the check
        parts.caller.check_task()
        new = parts.submissions.make(handler, payload, key, due_at, delay, deadline_at, deadline_after, labels)
        return await parts.admission.submit(new, wait, by, correct)

    def submit_nowait(
        self,
        handler: str | Callable[..., Any],
        payload: Any,
        *,
        key: str | None = None,
        labels: Mapping[str, str] | None = None,
        by: str | None = None,
    ) -> Receipt:
        """Accept a job without waiting. Not available with a journal: use `await submit(..., wait=0)`.

        Args:
            handler: The handler function, or its kind.
            payload: A value of the handler's payload type.
            key: As for `submit`.
            labels: As for `submit`.
            by: As for `submit`.

        Raises:
            QueueFull: No slot is free.
            UsageError: As `submit`; also with a journal.
            QueueClosed: The queue drains or has stopped.
        """
        return self._runtime.admission.submit_nowait(NewJob(handler, payload, key, labels=labels), by=by)

    async def submit_many(self, jobs: Sequence[NewJob], *, by: str | None = None) -> list[Receipt]:
        """Accept all of these jobs or none, in this order, as one change. Waits until there is a slot for each.

        Args:
            jobs: The jobs. Each needs a slot, except for jobs for later, so at most as many as the channel has slots.
                Of jobs with the same key the first is accepted, and the others get its receipt.
            by: The name of the submitter, 1 to 200 characters; recorded.

        Returns:
            The receipts, in the order of `jobs`.

        Raises:
            UsageError: As `submit`; no job was accepted. If one of the jobs is refused, `index` says which, and the
                message begins with it.
            TrioJobsError: As `submit`; no job was accepted.

        Cancelled:
            No job was accepted.
        """
        return await self._awaited.admission.submit_many(jobs, by=by)

    def get(self, job_id: str) -> Job:
        """Return the job as it is now.

        Args:
            job_id: The id of the job, or at least its last 6 characters, here and wherever a method takes one job.

        Raises:
            JobNotFound: The job was never submitted to this queue, or is pruned.
            AmbiguousJob: The ids of several jobs end with these characters.
        """
        queries = self._runtime.queries
        return queries.live(queries.get(job_id))

    def find(self, kind: str | Callable[..., Any] | None, key: str) -> Job:
        """Return the job that has a key, as it is now.

        Args:
            kind: The handler function, or its kind; None for any kind.
            key: The key of its submit.

        Raises:
            JobNotFound: There is no such job, or it is pruned.
            AmbiguousJob: `kind` is None, and jobs of several kinds have this key.
            UnknownKind: The function is not registered.
        """
        return self._runtime.lookups.find(kind, key)

    def list(
        self,
        *,
        after: str | None = None,
        limit: int = 100,
        order: Literal["oldest", "newest"] = "oldest",
        **conditions: Unpack[ListConditions],
    ) -> JobList:
        """Return a page of jobs in the order of their submits.

        Whatever happens between two pages, a job that matches all the time is listed exactly once. A page takes about a
        millisecond at most; one that has found fewer jobs than `limit` until then ends early, with a cursor.

        Args:
            after: `next` of the previous page; or the id of a job, to list those behind it.
            limit: The highest number of jobs of the page, 1 to 1,000.
            order: Whether the oldest or the newest submits come first.
            conditions: The keywords of `ListConditions`. Only jobs that match all of them are listed.

        Raises:
            InvalidCursor: `after` is not a cursor of this list, with these conditions and this order.
            JobNotFound: The job `after` is not known.
            UsageError: Another argument is not valid.
        """
        return self._runtime.queries.list_jobs(after, limit, order, conditions)

    async def count(self, group: str | None = None, **conditions: Unpack[ListConditions]) -> JobCounts:
        """Return how many jobs match.

        Args:
            group: "state", "kind", "error_type" or "label:NAME": also the number of jobs for each value of this.
            conditions: The keywords of `ListConditions`. Only jobs that match all of them are counted.

        Raises:
            UsageError: An argument is not valid.

        Cancelled:
            Nothing has changed.
        """
        return await self._awaited.queries.count(group, conditions)

    def job_ids(self) -> builtins.list[str]:
        """Return the ids of all jobs that are not pruned, in the order of their submit."""
        return self._runtime.queries.job_ids()

    async def result(self, job_id: str, *, in_doubt: Literal["wait", "raise"] = "wait") -> Any:
        """Wait until the job is final, and return the result of its handler.

        Args:
            job_id: The job's id.
            in_doubt: "wait" to wait until a doubt is resolved, "raise" to raise `JobInDoubt`.

        Raises:
            JobFailed: The job has failed.
            JobCancelled: The job was cancelled.
            JobInDoubt: The job is in doubt, and `in_doubt` is "raise".
            ResultUnavailable: The job is completed, but its result was not kept.
            JobNotFound: There is no such job, or it was pruned meanwhile.
            QueueClosed: The queue stopped before the job was final.

        Cancelled:
            The job continues.
        """
        return await self._awaited.queries.result(job_id, in_doubt=in_doubt)

    def events(
        self,
        *,
        after: int | None = None,
        jobs: Iterable[str] | None = None,
        kinds: Iterable[str] | None = None,
        states: Iterable[State | str] | None = None,
    ) -> EventStream:
        """Return a stream of the committed events, in order and without gaps: `async for event in queue.events()`.

        Args:
            after: The number of the event after which the stream begins; None for the newest.
            jobs: Only events of the jobs with these ids. One job alone can be named by the end of its id.
            kinds: Only events of jobs of these kinds.
            states: Only events that lead to these states.

        Raises:
            UsageError: There is no such state.
            AmbiguousJob: The ids of several jobs end with the one that is given.
        """
        return self._runtime.lookups.events(after, jobs, kinds, states)

    def progress(self, job_id: str) -> Progress | None:
        """Return the newest progress of the job's running attempt; None without one, or if the attempt has ended."""
        runtime = self._runtime
        return runtime.recorder.latest(runtime.queries.id_of(job_id))

    def statistics(self) -> Statistics:
        """Return the statistics of the queue."""
        return self._runtime.queries.statistics()

    def health(self) -> Health:
        """Return whether the queue is healthy, and what restricts it."""
        return self._runtime.queries.health()


def runtime_of(queue: Queue) -> Runtime:
    """Return the parts of a queue, for `trio_jobs.testing` and the simulator."""
    return queue._parts
