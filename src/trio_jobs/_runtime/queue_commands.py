"""The methods of `Queue` with which an operator corrects, verifies, moves or claims one job."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from trio_jobs._engine.jobs import Receipt
from trio_jobs._runtime.job_commands import CLAIM_SECONDS
from trio_jobs._runtime.runtime import Runtime

__all__ = ["QueueCommands"]


class QueueCommands:
    """The base class of `QueueOperations`."""

    def __init__(self, runtime: Runtime) -> None:
        self._parts = runtime

    @property
    def _runtime(self) -> Runtime:
        """The parts, for a method: it is called in the thread of the event loop."""
        self._parts.caller.check_thread()
        return self._parts

    @property
    def _awaited(self) -> Runtime:
        """The parts, for an async method: it is called in a Trio task of the event loop."""
        self._parts.caller.check_task()
        return self._parts

    async def correct(
        self,
        job_id: str,
        payload: Any,
        *,
        by: str | None = None,
        note: str | None = None,
        if_seq: int | None = None,
    ) -> Receipt:
        """Replace the payload of a failed or cancelled job, and begin a new run of it, with a new retry budget.

        A job that may have done its work, or has finished a step, is not corrected: a `verify` in the new run would
        find the work of the old payload. Call `verify` before; if it answers "not_done", the job can be corrected. The
        steps of earlier runs are dropped, the replaced payload is kept in `Job.earlier_payloads`.

        Args:
            job_id: The job's id.
            payload: A value of the handler's payload type.
            by: The name of the operator, 1 to 200 characters; recorded.
            note: Why, at most 1,000 characters; recorded.
            if_seq: Only if this is the last event of the job (`Job.seq`), so that of two people who correct it at the
                same time the second one sees what the first one did; None: in any case.

        Returns:
            The receipt of the job. A correction that is repeated while its run is under way, or completed, changes
            nothing.

        Raises:
            JobNotFound: There is no such job.
            JobChanged: The job has changed since event `if_seq`.
            JobMayHaveActed: It may have done its work, or a step of it.
            InvalidState: It is open or completed, or its call is still inside the SDK.
            InvalidPayload: The payload does not fit the handler's type.
            UsageError: The job has this payload already; or another argument is not valid.
            UnknownKind: Its handler is not registered any more.
            QueueClosed: The queue drains or has stopped.
            OutcomeUnknown: The store did not acknowledge the change within `commit_timeout`.

        Cancelled:
            The job is corrected nevertheless; the call is shielded.
        """
        return await self._awaited.commands.correct(job_id, payload, if_seq=if_seq, by=by, note=note)

    async def verify(
        self, job_id: str, *, by: str | None = None, note: str | None = None
    ) -> Literal["done", "not_done", "unknown"]:
        """Let the handler's `verify` be called now for a failed, cancelled or in_doubt job, and return its answer.

        "done" completes a failed job and one in doubt; a cancelled one stays cancelled. "not_done" resets
        `may_have_acted`, so that the job can be corrected; a job in doubt continues as its handler says.

        Args:
            job_id: The job's id.
            by: The name of the operator, 1 to 200 characters; recorded.
            note: Why, at most 1,000 characters; recorded.

        Raises:
            JobNotFound: There is no such job.
            InvalidState: The job is in another state, or its call is still inside the SDK; or it was changed by
                somebody before verify was called.
            UsageError: Its handler has no verify; or the queue is paused; or an argument is not valid; or a handler of
                the queue itself waits for the answer.
            UnknownKind: Its handler is not registered any more.
            QueueClosed: The queue stops.
            OutcomeUnknown: The store did not acknowledge the change within `commit_timeout`.

        Cancelled:
            Verify is called nevertheless.
        """
        return await self._awaited.commands.verify(job_id, by=by, note=note)

    async def reschedule(
        self,
        job_id: str,
        *,
        due_at: datetime | None = None,
        delay: float | None = None,
        by: str | None = None,
        note: str | None = None,
        if_seq: int | None = None,
    ) -> None:
        """Change when a scheduled, pending or retrying job becomes due: give a date or seconds.

        Args:
            job_id: The job's id.
            due_at: An aware datetime in the future, before the deadline of the job.
            delay: The same in seconds from now, at most 100 years.
            by: The name of the operator, 1 to 200 characters; recorded.
            note: Why, at most 1,000 characters; recorded.
            if_seq: Only if this is the last event of the job (`Job.seq`); None: in any case.

        Raises:
            JobNotFound: There is no such job.
            JobChanged: The job has changed since event `if_seq`.
            InvalidState: The job does not wait.
            UsageError: The time has passed, or is behind the deadline; or an argument is not valid.
            QueueFull: The job is pending, and `max_waiting` jobs wait already.
            UnknownKind: Its handler is not registered any more.
            OutcomeUnknown: The store did not acknowledge the change within `commit_timeout`.

        Cancelled:
            The job is rescheduled nevertheless; the call is shielded.
        """
        await self._awaited.commands.reschedule(job_id, due_at=due_at, delay=delay, if_seq=if_seq, by=by, note=note)

    async def run_now(
        self, job_id: str, *, by: str | None = None, note: str | None = None, if_seq: int | None = None
    ) -> None:
        """Let a scheduled or retrying job become due at once. A pending job stays as it is.

        Args:
            job_id: The job's id.
            by: The name of the operator, 1 to 200 characters; recorded.
            note: Why, at most 1,000 characters; recorded.
            if_seq: Only if this is the last event of the job (`Job.seq`); None: in any case.

        Raises:
            JobNotFound: There is no such job.
            JobChanged: The job has changed since event `if_seq`.
            InvalidState: The job does not wait.
            UnknownKind: Its handler is not registered any more.
            OutcomeUnknown: The store did not acknowledge the change within `commit_timeout`.

        Cancelled:
            The job is due nevertheless; the call is shielded.
        """
        await self._awaited.commands.run_now(job_id, if_seq=if_seq, by=by, note=note)

    async def claim(
        self,
        job_id: str,
        *,
        by: str,
        seconds: float = CLAIM_SECONDS,
        take_over: bool = False,
        note: str | None = None,
    ) -> None:
        """Let others see that somebody works on a job that is not completed. It keeps nobody from changing the job.

        Args:
            job_id: The job's id.
            by: The name of the person, 1 to 200 characters.
            seconds: How long the claim lasts, at most a day. A claim of the same person is renewed.
            take_over: Replace a claim of somebody else.
            note: Why, at most 1,000 characters; recorded.

        Raises:
            JobNotFound: There is no such job.
            JobClaimed: Somebody else has claimed it.
            InvalidState: The job is completed.
            UsageError: An argument is not valid.
            OutcomeUnknown: The store did not acknowledge the change within `commit_timeout`.

        Cancelled:
            The job is claimed nevertheless; the call is shielded.
        """
        await self._awaited.commands.claim(job_id, seconds=seconds, take_over=take_over, by=by, note=note)

    async def release_claim(
        self, job_id: str, *, by: str | None = None, take_over: bool = False, note: str | None = None
    ) -> None:
        """End a claim. Has no effect without one.

        Args:
            job_id: The job's id.
            by: The name of the person who has claimed the job, 1 to 200 characters.
            take_over: End a claim of somebody else.
            note: Why, at most 1,000 characters; recorded.

        Raises:
            JobNotFound: There is no such job.
            JobClaimed: Somebody else has claimed it.
            UsageError: An argument is not valid.
            OutcomeUnknown: The store did not acknowledge the change within `commit_timeout`.

        Cancelled:
            The claim is ended nevertheless; the call is shielded.
        """
        await self._awaited.commands.release_claim(job_id, take_over=take_over, by=by, note=note)
