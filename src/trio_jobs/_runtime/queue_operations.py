"""The half of `Queue` for operators: its methods that change jobs and the queue, apart from submits, and that return
what operators did."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any, Unpack

from trio_jobs._backup import Backup
from trio_jobs._engine import decide
from trio_jobs._engine.job_conditions import JobConditions, RetriedJobs
from trio_jobs._engine.job_history import JobHistory
from trio_jobs._engine.jobs import CancelAnswer, State
from trio_jobs._engine.operator_actions import OperatorAction
from trio_jobs._runtime.queue_commands import QueueCommands

__all__ = ["QueueOperations"]


class QueueOperations(QueueCommands):
    """The base class of `Queue`, which is too long for one module. It has no other subclass."""

    async def cancel(
        self, job_id: str, *, by: str | None = None, note: str | None = None, if_seq: int | None = None
    ) -> CancelAnswer:
        """Cancel a job.

        Args:
            job_id: The job's id.
            by: The name of the operator, 1 to 200 characters; recorded.
            note: Why, at most 1,000 characters; recorded.
            if_seq: Only if this is the last event of the job (`Job.seq`); None: in any case.

        Returns:
            "cancelled": the job is cancelled, by this call or an earlier one. "requested": its running attempt was
            requested to end. "too_late": the job is already completed or failed.

        Raises:
            JobNotFound: There is no such job.
            JobChanged: The job has changed since event `if_seq`.
            InvalidState: The job is in doubt: use `resolve`.
            OutcomeUnknown: The store did not acknowledge the change within `commit_timeout`.

        Cancelled:
            The job is cancelled nevertheless; the call is shielded.
        """
        return await self._awaited.operations.cancel(job_id, by=by, note=note, if_seq=if_seq)

    async def retry(
        self,
        job_id: str,
        *,
        even_if_acted: bool = False,
        by: str | None = None,
        note: str | None = None,
        if_seq: int | None = None,
    ) -> State:
        """Begin a new run of a failed or cancelled job, with a new retry budget.

        If the job `may_have_acted`, its handler decides: with a `verify`, the run begins in doubt, and `verify` is
        called before anything is done again; `Done` completes the job. With `idempotent=True` or `on_doubt="retry"` it
        is repeated. Otherwise the retry is refused; a `retry` that the handler declared does not permit it.

        Args:
            job_id: The job's id.
            even_if_acted: Repeat the job although it may have done its work and there is no `verify`. A `verify` is
                called nevertheless.
            by: The name of the operator, 1 to 200 characters; recorded.
            note: Why, at most 1,000 characters; recorded.
            if_seq: Only if this is the last event of the job (`Job.seq`); None: in any case.

        Returns:
            The state in which the run begins: `State.PENDING`; `State.IN_DOUBT` if `verify` is called first.

        Raises:
            JobNotFound: There is no such job.
            JobChanged: The job has changed since event `if_seq`.
            JobMayHaveActed: It may have done its work, and nothing permits to repeat it.
            InvalidState: The job is neither failed nor cancelled, or its call is still inside the SDK.
            UnknownKind: Its handler is not registered any more.
            QueueClosed: The queue drains or has stopped.
            OutcomeUnknown: The store did not acknowledge the change within `commit_timeout`.

        Cancelled:
            The new run begins nevertheless; the call is shielded.
        """
        return await self._awaited.operations.retry(
            job_id, even_if_acted=even_if_acted, by=by, note=note, if_seq=if_seq
        )

    async def resolve(
        self,
        job_id: str,
        resolution: decide.Resolution,
        *,
        result: Any = None,
        by: str | None = None,
        note: str | None = None,
        if_seq: int | None = None,
    ) -> None:
        """Resolve a job in doubt, on the decision of an operator.

        Args:
            job_id: The job's id.
            resolution: "done": the work is done, and the job is completed. "not_done": nothing is done, and the job is
                attempted again. "failed": the job has failed.
            result: With "done": the job's result, a value that can be encoded as JSON.
            by: The name of the operator, 1 to 200 characters; recorded.
            note: Why, at most 1,000 characters; recorded.
            if_seq: Only if this is the last event of the job (`Job.seq`); None: in any case.

        Raises:
            JobNotFound: There is no such job.
            JobChanged: The job has changed since event `if_seq`.
            InvalidState: The job is not in doubt; or `resolution` is "not_done" and its call is still inside the SDK.
            UsageError: An argument is not valid.
            OutcomeUnknown: The store did not acknowledge the change within `commit_timeout`.

        Cancelled:
            The job is resolved nevertheless; the call is shielded.
        """
        await self._awaited.operations.resolve(job_id, resolution, result=result, by=by, note=note, if_seq=if_seq)

    async def cancel_many(
        self,
        *,
        dry_run: bool = False,
        by: str | None = None,
        note: str | None = None,
        **conditions: Unpack[JobConditions],
    ) -> tuple[str, ...]:
        """Cancel the jobs that match all conditions, the oldest first.

        Args:
            dry_run: Change nothing, and return what the call would do.
            by: The name of the operator, 1 to 200 characters; recorded.
            note: Why, at most 1,000 characters; recorded.
            conditions: The keywords of `JobConditions`. Without `state`, jobs in each state that can be cancelled.

        Returns:
            The ids of the jobs that were cancelled, or whose attempt was requested to end.

        Raises:
            JobNotFound: `ids` has one that is not known.
            UsageError: An argument is not valid.
            OutcomeUnknown: The store did not acknowledge the change within `commit_timeout`.

        Cancelled:
            They are cancelled nevertheless; the call is shielded.
        """
        return await self._awaited.operations.cancel_many(conditions, by=by, note=note, dry_run=dry_run)

    async def retry_many(
        self,
        *,
        even_if_acted: bool = False,
        dry_run: bool = False,
        by: str | None = None,
        note: str | None = None,
        **conditions: Unpack[JobConditions],
    ) -> RetriedJobs:
        """Begin a new run of the failed and cancelled jobs that match all conditions, the oldest first.

        Args:
            even_if_acted: See `retry`. Without it, the jobs that `retry` would refuse are left as they are.
            dry_run: Change nothing, and return what the call would do.
            by: The name of the operator, 1 to 200 characters; recorded.
            note: Why, at most 1,000 characters; recorded.
            conditions: The keywords of `JobConditions`. Without `state`, both failed and cancelled jobs.

        Returns:
            The ids of these jobs, of those that were refused, and of those whose `verify` is called first.

        Raises:
            JobNotFound: `ids` has one that is not known.
            UsageError: An argument is not valid.
            QueueClosed: The queue drains or has stopped.
            OutcomeUnknown: The store did not acknowledge the change within `commit_timeout`.

        Cancelled:
            The new runs begin nevertheless; the call is shielded.
        """
        return await self._awaited.operations.retry_many(
            conditions, even_if_acted=even_if_acted, by=by, note=note, dry_run=dry_run
        )

    async def pause(self, reason: str = "", *, until: datetime | None = None, by: str | None = None) -> None:
        """Start no further attempts until `resume`. The running attempt continues; submits and deadlines work as usual.

        If the queue is paused already, the pause that ends later holds.

        Args:
            reason: The value of `paused`; the first 500 characters are kept.
            until: The aware datetime at which the pause ends by itself; None: `resume` ends it.
            by: The name of the operator, 1 to 200 characters; recorded.

        Raises:
            UsageError: `until` has passed, or an argument is not valid.
            OutcomeUnknown: The store did not acknowledge the change within `commit_timeout`.

        Cancelled:
            The queue is paused nevertheless; the call is shielded.
        """
        await self._awaited.operations.pause(reason, until=until, by=by)

    async def resume(self, *, by: str | None = None, note: str | None = None) -> None:
        """End a pause.

        Args:
            by: The name of the operator, 1 to 200 characters; recorded.
            note: Why, at most 1,000 characters; recorded.

        Raises:
            UsageError: The queue is not paused but draining: use `undrain`.
            OutcomeUnknown: The store did not acknowledge the change within `commit_timeout`.

        Cancelled:
            The queue is resumed nevertheless; the call is shielded.
        """
        await self._awaited.operations.resume(by=by, note=note)

    @property
    def paused(self) -> str | None:
        """The reason of the pause; None if the queue is not paused."""
        return self._parts.operations.paused

    @property
    def paused_until(self) -> datetime | None:
        """When the pause ends by itself, UTC; None if the queue is not paused, or until somebody resumes it."""
        return self._parts.operations.paused_until

    def close_to_submits(self) -> None:
        """From now on `submit` raises `QueueClosed`, also for callers that wait for a slot. This cannot be undone."""
        self._runtime.admission.close()

    async def drain(self, *, by: str | None = None, note: str | None = None) -> None:
        """Accept no new jobs, and wait until no job is pending, processing, saving or retrying.

        Args:
            by: The name of the operator, 1 to 200 characters; recorded.
            note: Why, at most 1,000 characters; recorded.

        Raises:
            QueueClosed: The queue stopped before that.
            UsageError: `undrain` was called before that.
            OutcomeUnknown: The store did not acknowledge the end of the last job within `commit_timeout`.

        Cancelled:
            The queue stays closed to submits, until `undrain`.
        """
        await self._awaited.operations.start_drain(by=by, note=note)

    async def undrain(self, *, by: str | None = None, note: str | None = None) -> None:
        """End a drain: accept jobs again. Has no effect if the queue does not drain.

        Args:
            by: The name of the operator, 1 to 200 characters; recorded.
            note: Why, at most 1,000 characters; recorded.

        Raises:
            QueueClosed: The queue stops.
            OutcomeUnknown: The store did not acknowledge the change within `commit_timeout`.

        Cancelled:
            The queue accepts jobs again nevertheless.
        """
        await self._awaited.operations.undrain(by=by, note=note)

    async def forget(self, job_id: str, *, by: str | None = None, note: str | None = None) -> None:
        """Remove the data of a final job now: its payload, result, errors, labels and the notes about it.

        Its key stays known, as after its retention: a submit with this key and payload returns the same job and does
        nothing. Readers of events who have not passed the job's last event get a gap. `activity` keeps who did what to
        it and when, without notes.

        Args:
            job_id: The id of the job.
            by: The name of the operator, 1 to 200 characters; recorded.
            note: Why, at most 1,000 characters; recorded.

        Raises:
            JobNotFound: There is no such job.
            InvalidState: The job is not final, or its call is still inside the SDK.
            StoreError: The job is forgotten, and its data is not removed yet. That is tried again.
            OutcomeUnknown: The store did not acknowledge the change within `commit_timeout`.

        Cancelled:
            The job is forgotten nevertheless; the call is shielded.
        """
        await self._awaited.erasure.forget(job_id, by=by, note=note)

    async def history(self, job_id: str) -> JobHistory:
        """Return what has happened to a job: its committed events that are kept, by run.

        Args:
            job_id: The id of the job.

        Raises:
            JobNotFound: There is no such job, or it was pruned meanwhile.
            StoreError: The store cannot be read.

        Cancelled:
            Nothing has changed.
        """
        return await self._awaited.histories.of_job(job_id)

    def activity(
        self, *, before: int | None = None, limit: int = 100, by: str | None = None
    ) -> tuple[OperatorAction, ...]:
        """Return what operators did to jobs and to the queue, the newest first. The newest 10,000 are kept.

        Args:
            before: Only actions before the event with this number, such as `seq` of the last action of a page.
            limit: The highest number of actions, 1 to 1,000.
            by: Only what this operator did.

        Raises:
            UsageError: An argument is not valid.
        """
        return self._runtime.histories.activity(before, limit, by)

    async def backup(self, path: str | Path) -> Backup:
        """Copy the journal, as of its last commit, to a new file (mode 0600) while the queue works.

        A queue that opens the copy as its journal continues from there under a new epoch. Later attempts are not in the
        copy, so their work is repeated unless `verify` reports it as done. To replace a journal with a copy, first move
        the journal's `-wal` and `-mark` files away.

        Args:
            path: The path of the new file.

        Returns:
            The description of the copy.

        Raises:
            UsageError: The jobs are in memory, or the file exists already.
            StoreError: The copy could not be made.

        Cancelled:
            The new file does not exist.
        """
        return await self._awaited.operations.backup(str(path))
