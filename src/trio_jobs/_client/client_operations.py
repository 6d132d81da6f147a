"""The half of `Client` for operators: its methods that change jobs and the queue, apart from submits."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any, Literal, TypeVar

import msgspec

from trio_jobs import _errors as e
from trio_jobs._backup import Backup
from trio_jobs._client.outbox import Lane, Request
from trio_jobs._client.page_link import page_link
from trio_jobs._client.reconnect import ReconnectingSession
from trio_jobs._engine.handlers import encode_result
from trio_jobs._engine.states import CancelAnswer, State
from trio_jobs._validation import check_date, check_note
from trio_jobs._wire import commands as c
from trio_jobs._wire import conversion
from trio_jobs._wire import methods as w
from trio_jobs._wire.access import CreateTicket, LoginResult, TicketResult, TicketsRevoked
from trio_jobs._wire.methods import METHODS
from trio_jobs._wire.params import Params

__all__ = ["ClientOperations"]

T = TypeVar("T")


class ClientOperations:
    """A base class of `Client`, which is too long for one module."""

    def __init__(self, session: ReconnectingSession) -> None:
        self._session = session

    async def _request(self, make: Callable[[], Request], type_: type[T], *, repeatable: bool, kind: str = "") -> T:
        answer = await self._session.ask(make, repeatable=repeatable, kind=kind)
        try:
            return msgspec.json.decode(answer.result, type=type_)
        except msgspec.MsgspecError as error:
            raise e.TrioJobsError(
                f"the answer of the server is not understood; is it of another version? {error}"
            ) from error

    async def _call(
        self, method: str, params: Params, type_: type[T], *, lane: Lane = "brief", bounded: bool = True
    ) -> T:
        return await self._request(
            lambda: Request(method, lambda longest: params, lane, bounded=bounded),
            type_,
            repeatable=METHODS[method].repeatable,
        )

    async def login_link(self) -> str:
        """A link with which a person logs in to the page of the server, with the name and the scope of this token.

        It is valid for five minutes and once. It leads to the public URL of the server, if there is one.

        Raises:
            PermissionDenied: The client has presented a page session or a ticket instead of a token.

        Cancelled:
            A code may have been made.
        """
        login = await self._call("server.login", w.Nothing(), LoginResult)
        return page_link(self._session.url, login.code, login.page or None)

    async def create_ticket(
        self, job_id: str, *, seconds: float = 86_400.0, show: Iterable[Literal["state", "result", "payload"]] = ()
    ) -> str:
        """Make a ticket, with which anybody can follow one job: a client presents it instead of a token.

        Args:
            job_id: The id of the job.
            seconds: For how long it is valid: 1 second to 30 days.
            show: What it shows beside the state, times and key of the job: "result", "payload" or both.

        Raises:
            JobNotFound: There is no job with that id.
            PermissionDenied: The token does not have the scope control.

        Cancelled:
            A ticket may have been made.
        """
        params = CreateTicket(job_id, float(seconds), sorted(set(show)))
        return (await self._call("tickets.create", params, TicketResult)).ticket

    async def revoke_tickets(self) -> None:
        """Revoke all tickets of the queue that were made so far, and disconnect their clients.

        Cancelled:
            They may be revoked.
        """
        await self._call("tickets.revoke", w.Nothing(), TicketsRevoked)

    async def cancel(self, job_id: str, *, note: str | None = None, if_seq: int | None = None) -> CancelAnswer:
        """Cancel a job; see `Queue.cancel`.

        Args:
            job_id: The id of the job.
            note: Why, at most 1,000 characters; recorded.
            if_seq: Only if this is the last event of the job (`Job.seq`).

        Returns:
            "cancelled"; "requested" if an attempt is running, which ends as soon as it can, without a retry;
            "too_late" if the job is final.

        Raises:
            JobNotFound: There is no job with that id.
            JobChanged: The job has changed since event `if_seq`.
            InvalidState: The job is in doubt.

        Cancelled:
            The job may have been cancelled.
        """
        return (await self._call("jobs.cancel", c.Cancel(job_id, check_note(note), if_seq), c.CancelResult)).answer

    async def retry(
        self, job_id: str, *, even_if_acted: bool = False, note: str | None = None, if_seq: int | None = None
    ) -> State:
        """Begin a new run of a failed or cancelled job; see `Queue.retry`.

        Args:
            job_id: The id of the job.
            even_if_acted: See `Queue.retry`.
            note: Why, at most 1,000 characters; recorded.
            if_seq: Only if this is the last event of the job (`Job.seq`).

        Returns:
            The state of the job: "pending", or "in_doubt" if `verify` is called first; or what has followed already.

        Raises:
            JobNotFound: There is no job with that id.
            JobChanged: The job has changed since event `if_seq`.
            InvalidState: The job is in another state, or see `JobMayHaveActed`.

        Cancelled:
            The new run may have begun.
        """
        params = c.Retry(job_id, even_if_acted, check_note(note), if_seq)
        return (await self._call("jobs.retry", params, c.StateResult)).state

    async def resolve(
        self,
        job_id: str,
        resolution: Literal["done", "not_done", "failed"],
        *,
        result: Any = None,
        note: str | None = None,
        if_seq: int | None = None,
    ) -> None:
        """Resolve a job in doubt; see `Queue.resolve`.

        Args:
            job_id: The id of the job.
            resolution: "done" completes the job, "not_done" makes it pending again, "failed" fails it.
            result: With "done": the result of the job, anything that msgspec encodes as JSON.
            note: Why, at most 1,000 characters; recorded.
            if_seq: Only if this is the last event of the job (`Job.seq`).

        Raises:
            JobNotFound: There is no job with that id.
            JobChanged: The job has changed since event `if_seq`.
            InvalidState: The job is in another state.
            UsageError: The result has no JSON, or is too large.

        Cancelled:
            The doubt may have been resolved.
        """
        body, problem, _ = encode_result(result)
        if problem is not None:
            raise e.UsageError(f"the result cannot be kept: {problem}")
        params = c.Resolve(job_id, resolution, msgspec.UNSET if body is None else body, check_note(note), if_seq)
        await self._call("jobs.resolve", params, c.StateResult)

    async def pause(self, reason: str = "", *, until: datetime | None = None) -> None:
        """Let no further attempt start; see `Queue.pause`. A running attempt continues.

        Args:
            reason: Why, for everybody who looks at the queue.
            until: The aware datetime at which the pause ends by itself, by the clock of the server.

        Raises:
            UsageError: `until` has passed.

        Cancelled:
            The queue may have been paused.
        """
        await self._call("queue.pause", c.Pause(reason, None if until is None else check_date("until", until)), w.Done)

    async def resume(self, *, note: str | None = None) -> None:
        """Let attempts start again; see `Queue.resume`.

        Args:
            note: Why, at most 1,000 characters; recorded.

        Raises:
            UsageError: The queue is not paused but draining: use `undrain`.

        Cancelled:
            The queue may have been resumed.
        """
        await self._call("queue.resume", w.Noted(check_note(note)), w.Done)

    async def drain(self, *, note: str | None = None) -> None:
        """Accept no new jobs, and wait until no job is pending, processing, saving or retrying; see `Queue.drain`.

        Args:
            note: Why, at most 1,000 characters; recorded.

        Cancelled:
            The queue may accept no new jobs from then on.
        """
        await self._call("queue.drain", w.Noted(check_note(note)), w.Done, lane="wait", bounded=False)

    async def undrain(self, *, note: str | None = None) -> None:
        """End a drain: accept jobs again; see `Queue.undrain`.

        Args:
            note: Why, at most 1,000 characters; recorded.

        Raises:
            QueueClosed: The queue stops.

        Cancelled:
            The queue may accept jobs again.
        """
        await self._call("queue.undrain", w.Noted(check_note(note)), w.Done)

    async def backup(self, name: str) -> Backup:
        """Copy the journal to a new file beside it, on the server's machine; see `Queue.backup`.

        Args:
            name: 1 to 100 letters, digits and `._-`. The file has the name of the journal, `.backup-` and this name.

        Raises:
            StoreError: The file cannot be written.
            UsageError: The file exists, or the queue has no journal.

        Cancelled:
            The copy may have been made.
        """
        return conversion.backup_from_wire(
            await self._call("queue.backup", w.Backup(name), w.BackupResult, bounded=False)
        )
