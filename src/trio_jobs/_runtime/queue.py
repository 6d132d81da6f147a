"""`Queue`: the face of a running queue. Signatures and documentation; the work is done by the parts of the runtime."""

from __future__ import annotations

import builtins
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, final

from trio_jobs._backend import Backend
from trio_jobs._engine import decide
from trio_jobs._engine.event_cursor import Filter
from trio_jobs._engine.jobs import CancelAnswer, Job, Receipt, State
from trio_jobs._event_stream import EventStream
from trio_jobs._ports import Backup
from trio_jobs._runtime.backend import QueueBackend
from trio_jobs._runtime.from_thread import FromThread
from trio_jobs._runtime.job_context import Progress
from trio_jobs._runtime.queries import MAX_PAGE, parse_state
from trio_jobs._runtime.report import Health, ShutdownReport, Statistics
from trio_jobs._runtime.runtime import Runtime
from trio_jobs._runtime.submission import NewJob

__all__ = ["Queue", "runtime_of"]


@final
class Queue:
    """A running queue, made by `Service.open`. Its methods belong to the event loop in which it was opened. A method
    that changes something changes all of it, or raises and changes nothing.
    """

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    def __repr__(self) -> str:
        count, channel = self._runtime.event_log.projection.count, self._runtime.channel
        jobs = f"{count(State.PENDING)} pending, {count(State.PROCESSING)} processing"
        return f"<Queue {jobs}, {channel.statistics().free} slots free{', closed' * self._runtime.status.closing}>"

    @property
    def from_thread(self) -> FromThread:
        """The same methods for threads in which Trio does not run."""
        return FromThread(self._runtime)

    @property
    def report(self) -> ShutdownReport | None:
        """How the queue stopped; None while it runs."""
        return self._runtime.status.report

    @property
    def epoch(self) -> str:
        """The identity of this history of events. Numbers of events of different epochs are not comparable."""
        return self._runtime.event_log.store.epoch

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
        by: str | None = None,
    ) -> Receipt:
        """Accept a job. Waits for a slot of the channel if all are reserved.

        Args:
            handler: The handler function, or its kind.
            payload: A value of the handler's payload type.
            key: 1 to 500 characters. The same key and payload return the same job.
            due_at: An aware datetime before which the job does not start.
            delay: The same in seconds from now, at most 100 years.
            deadline_at: An aware datetime at which the job expires.
            deadline_after: The same in seconds from now.
            wait: Seconds to wait for a slot, 0 or more; None for as long as it takes. Jobs for later need no slot.
            by: Who submits, 1 to 200 characters; kept with the job.

        Returns:
            The receipt of the new job, or of the job that the key belongs to. With a journal, the job is on disk.

        Raises:
            UnknownKind: No handler is registered under that name.
            InvalidPayload: The payload does not fit the handler's type.
            KeyConflict: The key belongs to a job with another payload.
            UsageError: Another argument is not valid.
            QueueFull: No slot was free within `wait` seconds; for later: too many jobs wait already.
            QueueClosed: The queue drains or has stopped.
            StoreError: The store did not accept the job.
            OutcomeUnknown: The store did not acknowledge it within `commit_timeout`; submit it again with the same key.

        Cancelled:
            The job was not accepted. The call is shielded once the job is handed to the store.
        """
        return await self._runtime.admission.submit(
            handler,
            payload,
            key=key,
            due_at=due_at,
            delay=delay,
            deadline_at=deadline_at,
            deadline_after=deadline_after,
            wait=wait,
            by=by,
        )

    def submit_nowait(
        self, handler: str | Callable[..., Any], payload: Any, *, key: str | None = None, by: str | None = None
    ) -> Receipt:
        """Accept a job without waiting. Only in memory: with a journal use `await submit(..., wait=0)`. Args and
        Raises: as `submit`; `QueueFull` if no slot is free.
        """
        return self._runtime.admission.submit_nowait(handler, payload, key=key, by=by)

    async def submit_many(self, jobs: Sequence[NewJob], *, by: str | None = None) -> list[Receipt]:
        """Accept all of these jobs or none, in this order, as one change. Waits until there is a slot for each.

        Args:
            jobs: At most as many jobs to be started now as the channel has slots; jobs for later need none. Of jobs
                with the same key the first is accepted, and the others get its receipt.
            by: Who submits.

        Raises:
            TrioJobsError: As `submit`; no job was accepted.

        Cancelled:
            No job was accepted.
        """
        return await self._runtime.admission.submit_many(jobs, by=by)

    def get(self, job_id: str) -> Job:
        """The job as it is now.

        Raises:
            JobNotFound: It was never submitted here, or is pruned.
        """
        return self._runtime.queries.get(job_id)

    def list(
        self, *, state: State | str | None = None, kind: str | None = None, after: str | None = None, limit: int = 100
    ) -> list[Job]:
        """A page of jobs in the order of their submit; with `state`, in the order in which they entered it.

        Args:
            state: Only jobs in this state.
            kind: Only jobs of this kind.
            after: Only jobs behind the job with this id. The last job of a page is known for 1,000 pages, also after it
                has left the state or is pruned. Any other job that is not in the state counts by its submit.
            limit: 1 to 1,000.

        Raises:
            JobNotFound: `after` is not known.
            UsageError: An argument is not valid.
        """
        return self._runtime.queries.page(state, kind, after, limit)[0]

    def job_ids(self) -> builtins.list[str]:
        """The ids of all known jobs, in the order of their submit."""
        return self._runtime.queries.job_ids()

    async def result(self, job_id: str, *, in_doubt: Literal["wait", "raise"] = "wait") -> Any:
        """Wait for the job's end, through retries, and return what its handler returned.

        Args:
            job_id: Id of the job.
            in_doubt: "wait" until a doubt is resolved, or "raise" `JobInDoubt`.

        Raises:
            JobFailed: It failed.
            JobCancelled: It was cancelled.
            JobInDoubt: It is in doubt, and `in_doubt` is "raise".
            ResultUnavailable: It completed, and its result was not kept.
            JobNotFound: It is not known, or was pruned meanwhile.
            QueueClosed: The queue stopped before.

        Cancelled:
            The job continues.
        """
        return await self._runtime.queries.result(job_id, in_doubt=in_doubt)

    def events(
        self,
        *,
        after: int | None = None,
        jobs: Iterable[str] | None = None,
        kinds: Iterable[str] | None = None,
        states: Iterable[State | str] | None = None,
    ) -> EventStream:
        """The stream of committed events, in order and without gaps: `async for event in queue.events()`.

        Args:
            after: Begin behind this event; None to begin now.
            jobs: Only events of these jobs.
            kinds: Only events of jobs of these kinds.
            states: Only events that lead to these states.

        Raises:
            UsageError: There is no such state.
        """
        wanted = Filter(jobs, kinds, None if states is None else frozenset(map(parse_state, states)))
        after = self._runtime.event_log.committed_seq if after is None else after
        return EventStream(self._runtime.feed, after, wanted)

    def progress(self, job_id: str) -> Progress | None:
        """The newest progress of the job's running attempt; None if there is none, or the attempt has ended."""
        return self._runtime.recorder.latest(job_id)

    def statistics(self) -> Statistics:
        """Numbers of the queue."""
        return self._runtime.queries.statistics()

    def health(self) -> Health:
        """What restricts the queue now, if anything."""
        return self._runtime.queries.health()

    async def cancel(self, job_id: str, *, by: str | None = None) -> CancelAnswer:
        """Cancel a job.

        Args:
            job_id: The job.
            by: Who cancels, 1 to 200 characters; kept with the job.

        Returns:
            "cancelled": now, or before; "requested" of a running attempt; "too_late": the job ended otherwise.

        Raises:
            JobNotFound: It is not known.
            InvalidState: It is in doubt: use `resolve`.
            OutcomeUnknown: The store did not acknowledge the change within `commit_timeout`.

        Cancelled:
            The job is cancelled all the same.
        """
        return await self._runtime.operations.cancel(job_id, by=by)

    async def retry(self, job_id: str, *, by: str | None = None) -> None:
        """Begin a new run of a failed or cancelled job, with a new retry budget.

        Raises:
            JobNotFound: It is not known.
            InvalidState: It is neither failed nor cancelled, or its call is still inside the SDK.
            UnknownKind: Its handler is not registered any more.
            QueueClosed: The queue drains or has stopped.
            OutcomeUnknown: The store did not acknowledge the change within `commit_timeout`.

        Cancelled:
            The new run begins all the same.
        """
        await self._runtime.operations.retry(job_id, by=by)

    async def resolve(
        self, job_id: str, resolution: decide.Resolution, *, result: Any = None, by: str | None = None
    ) -> None:
        """Resolve a job in doubt, as a person who has looked.

        Args:
            job_id: Id of the job.
            resolution: "done": its work is done; "not_done": nothing is done, run it again; "failed".
            result: With "done": the job's result, as JSON.
            by: Who resolves.

        Raises:
            JobNotFound: It is not known.
            InvalidState: It is not in doubt; or it is "not_done" and its call is still inside the SDK.
            UsageError: An argument is not valid.
            OutcomeUnknown: The store did not acknowledge the change within `commit_timeout`.

        Cancelled:
            The job is resolved all the same.
        """
        await self._runtime.operations.resolve(job_id, resolution, result=result, by=by)

    async def cancel_many(
        self,
        *,
        state: State | str | None = None,
        kind: str | None = None,
        error_type: str | None = None,
        older_than: float | None = None,
        limit: int = MAX_PAGE,
        by: str | None = None,
    ) -> tuple[str, ...]:
        """Cancel the jobs that match all conditions, the oldest first.

        Args:
            state: Only jobs in this state; None for every state that can be cancelled.
            kind: Only jobs of this kind.
            error_type: Only jobs whose last error is of a class with this name.
            older_than: Only jobs that were submitted at least so many seconds ago.
            limit: 1 to 1,000; call again for more.
            by: Who cancels.

        Returns:
            The ids of the jobs that are cancelled, or were requested to end now.

        Cancelled:
            They are cancelled all the same.
        """
        return await self._runtime.operations.cancel_many(
            state=state, kind=kind, error_type=error_type, older_than=older_than, limit=limit, by=by
        )

    async def retry_many(
        self,
        *,
        state: State | str | None = None,
        kind: str | None = None,
        error_type: str | None = None,
        older_than: float | None = None,
        limit: int = MAX_PAGE,
        by: str | None = None,
    ) -> tuple[str, ...]:
        """Begin a new run of the failed and cancelled jobs that match all conditions, the oldest first.

        Args: as `cancel_many`. Returns: their ids.

        Raises:
            QueueClosed: The queue drains or has stopped.

        Cancelled:
            The new runs begin all the same.
        """
        return await self._runtime.operations.retry_many(
            state=state, kind=kind, error_type=error_type, older_than=older_than, limit=limit, by=by
        )

    async def pause(self, reason: str = "", *, by: str | None = None) -> None:
        """Start no further attempt. The running one ends; submits and deadlines continue.

        Args:
            reason: Shown to those who ask why nothing moves; the first 500 characters are kept.
            by: Who pauses.

        Cancelled:
            The queue is paused all the same.
        """
        await self._runtime.operations.pause(reason, by=by)

    async def resume(self, *, by: str | None = None) -> None:
        """Start attempts again.

        Cancelled:
            The queue is resumed all the same.
        """
        await self._runtime.operations.resume(by=by)

    @property
    def paused(self) -> str | None:
        """Why the queue is paused; None if it is not."""
        return self._runtime.operations.paused

    def close_to_submits(self) -> None:
        """From now on `submit` raises `QueueClosed`, for callers that wait for a slot too."""
        self._runtime.admission.close()

    async def drain(self) -> None:
        """Accept no new jobs, and wait until no job is pending, processing or retrying.

        Raises:
            QueueClosed: The queue stopped before.

        Cancelled:
            No new jobs are accepted all the same.
        """
        await self._runtime.operations.drain()

    async def backup(self, path: str | Path) -> Backup:
        """Copy the journal, as of its last commit, to a new file (mode 0600) while the queue works.

        Opened as a journal, a copy continues from there under a new epoch. What was done after the copy was made is not
        in it, and would be done again where no `verify` reports it as done. To put a copy in a journal's place, move
        the journal's `-wal` and `-mark` files away.

        Args:
            path: Of the new file.

        Raises:
            UsageError: The jobs are in memory.
            StoreError: The copy could not be made, or there is a file of that name.

        Cancelled:
            There is no such file.
        """
        return await self._runtime.operations.backup(str(path))


def runtime_of(queue: Queue) -> Runtime:
    """The parts behind a queue: for the test kit and the simulator, which observe and drive them."""
    return queue._runtime
