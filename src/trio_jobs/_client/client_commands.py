"""The methods of `Client` with which operators correct, verify, move and claim jobs, and change many at once."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Literal, Unpack

from trio_jobs import _errors as e
from trio_jobs._client.client_histories import ClientHistories
from trio_jobs._client.outbox import Request
from trio_jobs._engine.handlers import encode_payload
from trio_jobs._engine.job_conditions import JobConditions, RetriedJobs, check_ids
from trio_jobs._engine.job_filter import JobFilter, ListConditions
from trio_jobs._engine.jobs import Receipt
from trio_jobs._engine.new_job import NewJob
from trio_jobs._validation import (
    MAX_KEY,
    check_date,
    check_each,
    check_labels,
    check_note,
    check_number,
    check_seconds,
    check_text,
    check_wait,
    unknown_keyword,
)
from trio_jobs._wire import commands as c

__all__ = ["ClientCommands"]


class ClientCommands(ClientHistories):
    """A base class of `Client`, which is too long for one module."""

    async def submit_many(self, jobs: Sequence[NewJob], *, wait: float = 0.0) -> list[Receipt]:
        """Submit all of these jobs or none, as one change; see `Queue.submit_many`.

        Args:
            jobs: At most 1,000 jobs, 1 MiB encoded. `NewJob.handler` is the kind.
            wait: For how many seconds at most to wait until there is a slot for each, 0 to 30; 0 for hardly at all.

        Raises:
            QueueFull: There was not.
            KeyConflict: A key belongs to a job with another payload.
            InvalidPayload: A payload does not fit its handler's type, is too large or nested too deep.
            UnknownKind: No handler has that name.
            UsageError: An argument is not valid. If one of the jobs is refused, `index` of this and of the three above
                says which; None from a server that does not send it.
            QueueClosed: The queue is draining or has stopped.
            OutcomeUnknown: The connection was lost, and it is not known whether they were accepted.

        Cancelled:
            The jobs may have been accepted.
        """
        params = c.SubmitMany(check_each(_new_job, jobs), check_seconds("wait", wait))
        got = await self._request(
            lambda: Request("jobs.submit_many", lambda longest: params, "submit"),
            c.SubmitManyResult,
            repeatable=all(job.key is not None for job in jobs),
        )
        return [Receipt(one.job, one.created, one.position, one.state, one.expected_wait) for one in got.jobs]

    async def cancel_many(
        self, *, dry_run: bool = False, note: str | None = None, **conditions: Unpack[JobConditions]
    ) -> tuple[str, ...]:
        """Cancel the jobs that match all conditions, the oldest first; see `Queue.cancel_many`.

        Args:
            dry_run: Change nothing, and return what the call would do.
            note: Why, at most 1,000 characters; recorded.
            conditions: The keywords of `JobConditions`, but for `older_than`.

        Raises:
            JobNotFound: `ids` has one that is not known.
            UsageError: An argument is not valid.

        Cancelled:
            They may have been cancelled.
        """
        params = c.CancelMany(dry_run=dry_run, note=check_note(note), **_selection(conditions))
        return tuple((await self._call("jobs.cancel_many", params, c.CancelManyResult)).jobs)

    async def retry_many(
        self,
        *,
        even_if_acted: bool = False,
        dry_run: bool = False,
        note: str | None = None,
        **conditions: Unpack[JobConditions],
    ) -> RetriedJobs:
        """Begin a new run of the failed and cancelled jobs that match all conditions; see `Queue.retry_many`.

        Args:
            even_if_acted: See `Queue.retry_many`; needs a token of scope `control`.
            dry_run: Change nothing, and return what the call would do.
            note: Why, at most 1,000 characters; recorded.
            conditions: The keywords of `JobConditions`, but for `older_than`.

        Raises:
            JobNotFound: `ids` has one that is not known.
            UsageError: An argument is not valid.

        Cancelled:
            The new runs may have begun.
        """
        params = c.RetryMany(
            even_if_acted=even_if_acted, dry_run=dry_run, note=check_note(note), **_selection(conditions)
        )
        got = await self._call("jobs.retry_many", params, c.RetryManyResult)
        return RetriedJobs(tuple(got.jobs), tuple(got.refused), tuple(got.may_have_acted), tuple(got.verified_first))

    async def correct(
        self, job_id: str, payload: Any = None, *, note: str | None = None, if_seq: int | None = None
    ) -> None:
        """Begin a new run of a failed or cancelled job with another payload; see `Queue.correct`.

        Args:
            job_id: The id of the job.
            payload: As of `submit`.
            note: Why, at most 1,000 characters; recorded.
            if_seq: Only if this is the last event of the job (`Job.seq`).

        Raises:
            JobNotFound: There is no job with that id.
            JobChanged: The job has changed since event `if_seq`.
            JobMayHaveActed: It may have done its work, or a step of it.
            InvalidState: It is open or completed.
            InvalidPayload: The payload does not fit the handler's type, is larger than 1 MiB, or is nested deeper than
                100 levels.
            UsageError: The payload is the present one.

        Cancelled:
            The job may have been corrected.
        """
        params = c.Correct(job_id, encode_payload("", payload), check_note(note), if_seq)
        await self._call("jobs.correct", params, c.StateResult)

    async def verify(self, job_id: str, *, note: str | None = None) -> Literal["done", "not_done", "unknown"]:
        """Let `verify` be called now for a failed, cancelled or in_doubt job; see `Queue.verify`.

        Args:
            job_id: The id of the job.
            note: Why, at most 1,000 characters; recorded.

        Raises:
            JobNotFound: There is no job with that id.
            InvalidState: The job is in another state, or was changed before verify was called.
            UsageError: Its handler has no verify, or the queue is paused.
            QueueClosed: The queue stops.

        Cancelled:
            Verify may be called nevertheless.
        """
        params = c.Verify(job_id, check_note(note))
        return (await self._call("jobs.verify", params, c.VerifyResult, lane="wait", bounded=False)).answer

    async def reschedule(
        self,
        job_id: str,
        *,
        due_at: datetime | None = None,
        delay: float | None = None,
        note: str | None = None,
        if_seq: int | None = None,
    ) -> None:
        """Change when a scheduled, pending or retrying job is due; see `Queue.reschedule`.

        Args:
            job_id: The id of the job.
            due_at: An aware datetime in the future.
            delay: The same in seconds from the arrival of the request.
            note: Why, at most 1,000 characters; recorded.
            if_seq: Only if this is the last event of the job (`Job.seq`).

        Raises:
            JobNotFound: There is no job with that id.
            JobChanged: The job has changed since event `if_seq`.
            InvalidState: The job does not wait.
            UsageError: The time has passed, or is behind the deadline.

        Cancelled:
            The job may have been rescheduled.
        """
        at = None if due_at is None else check_date("due_at", due_at)
        seconds = None if delay is None else check_wait("delay", delay)
        params = c.Reschedule(job_id, at, seconds, False, check_note(note), if_seq)
        await self._call("jobs.reschedule", params, c.StateResult)

    async def run_now(self, job_id: str, *, note: str | None = None, if_seq: int | None = None) -> None:
        """Let a scheduled or retrying job become due at once; see `Queue.run_now`.

        Args:
            job_id: The id of the job.
            note: Why, at most 1,000 characters; recorded.
            if_seq: Only if this is the last event of the job (`Job.seq`).

        Raises:
            JobNotFound: There is no job with that id.
            JobChanged: The job has changed since event `if_seq`.
            InvalidState: The job does not wait.

        Cancelled:
            The job may be due.
        """
        params = c.Reschedule(job_id, now=True, note=check_note(note), if_seq=if_seq)
        await self._call("jobs.reschedule", params, c.StateResult)

    async def claim(
        self, job_id: str, *, seconds: float = 900.0, take_over: bool = False, note: str | None = None
    ) -> None:
        """Show that the person of the token works on a job; see `Queue.claim`.

        Args:
            job_id: The id of the job.
            seconds: How long the claim lasts, at most a day.
            take_over: Replace a claim of somebody else.
            note: Why, at most 1,000 characters; recorded.

        Raises:
            JobNotFound: There is no job with that id.
            JobClaimed: Somebody else has claimed it.
            InvalidState: The job is completed.

        Cancelled:
            The job may be claimed.
        """
        params = c.Claim(job_id, check_seconds("seconds", seconds, zero=False), take_over, note=check_note(note))
        await self._call("jobs.claim", params, c.StateResult)

    async def release_claim(self, job_id: str, *, take_over: bool = False, note: str | None = None) -> None:
        """End a claim of the person of the token; see `Queue.release_claim`.

        Args:
            job_id: The id of the job.
            take_over: End a claim of somebody else.
            note: Why, at most 1,000 characters; recorded.

        Raises:
            JobNotFound: There is no job with that id.
            JobClaimed: Somebody else has claimed it.

        Cancelled:
            The claim may be ended.
        """
        params = c.Claim(job_id, take_over=take_over, release=True, note=check_note(note))
        await self._call("jobs.claim", params, c.StateResult)


def _new_job(job: NewJob) -> c.NewJob:
    if not isinstance(job.handler, str):
        raise e.UsageError("a client submits jobs by their kind, which is a text")
    return c.NewJob(
        job.handler,
        encode_payload(job.handler, job.payload),
        None if job.key is None else check_text("a key", job.key, MAX_KEY),
        None if job.due_at is None else check_date("due_at", job.due_at),
        None if job.deadline_at is None else check_date("deadline_at", job.deadline_at),
        None if job.delay is None else check_wait("delay", job.delay),
        None if job.deadline_after is None else check_wait("deadline_after", job.deadline_after),
        None if job.labels is None else check_labels(job.labels),
    )


def _selection(conditions: JobConditions) -> dict[str, Any]:
    """The conditions of a bulk operation as parameters of the wire."""
    known = JobConditions.__annotations__.keys() - {"older_than"}
    error = unknown_keyword("cancel_many and retry_many", conditions.keys() - known, known, {}, {})
    if error is not None:
        raise error
    given: dict[str, Any] = {**conditions}
    ids, limit, by = given.pop("ids", None), given.pop("limit", c.MAX_JOBS), given.pop("submitter", None)
    found: ListConditions = {**given, "by": by}  # type: ignore[typeddict-item] # the same keywords, checked above
    wanted = JobFilter.of(found)
    return {
        "state": None if wanted.states is None else next(iter(wanted.states)),
        "kind": None if wanted.kinds is None else next(iter(wanted.kinds)),
        "key_prefix": wanted.key_prefix,
        "error_type": wanted.error_type,
        "may_have_acted": wanted.may_have_acted,
        "labels": dict(wanted.labels) or None,
        "by": wanted.by,
        "since": wanted.since,
        "until": wanted.until,
        "ids": None if ids is None else [*check_ids(ids)],
        "limit": check_number("limit", limit),
    }
