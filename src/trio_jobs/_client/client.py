"""`async with trio_jobs.connect(url, token=...) as client`: the methods of the queue, from another process."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any, Literal, TypeVar, final

import msgspec
import trio

from trio_jobs import _errors as e
from trio_jobs._client.outbox import Lane, Request
from trio_jobs._client.receiver import Receiver, Routes
from trio_jobs._client.reconnect import ReconnectingSession
from trio_jobs._client.router import Router
from trio_jobs._client.submit_request import SubmitRequest
from trio_jobs._client.subscription import Subscription
from trio_jobs._engine.handlers import encode_result
from trio_jobs._engine.jobs import Job, Receipt
from trio_jobs._engine.states import CancelAnswer, State
from trio_jobs._engine.status import Health, ServerInfo, Statistics
from trio_jobs._ports import Backup
from trio_jobs._wire import conversion
from trio_jobs._wire import methods as w
from trio_jobs._wire.methods import METHODS
from trio_jobs._wire.schemas import WireJob

__all__ = ["Client"]

T = TypeVar("T")


@final
class Client:
    """A connection to a server, made by `connect`. It gives the same values and raises the same errors as the queue.

    While there is no connection, every method waits for one, for at most the `reconnect_timeout` of `connect`; a
    shorter limit is set with `trio.fail_after`.

    A request that is harmless to repeat is sent again after a lost connection. A submit without a key, a retry, a
    resolve and a backup are not: once they were sent, they raise `OutcomeUnknown`.

    Requests are sent at the pace that the server allows, 100 a second by default, and the first 200 at once. Of the
    requests that wait at the server, 28 submits and 28 results have places at a time; results take turns.

    Raises:
        ConnectionFailed: There is no connection. The request was not done.
        OutcomeUnknown: The connection was lost during a request that cannot be repeated, or the server has not answered
            within two minutes. The request may have been done.
        TooManyRequests: The server still refuses the request after 30 seconds. It was not done.
        PermissionDenied: The token does not have the scope for the method.

    Cancelled:
        The request may have been done, unless the method says otherwise.
    """

    def __init__(self, session: ReconnectingSession, nursery: trio.Nursery) -> None:
        self._session = session
        self._router = Router(session, nursery)

    def __repr__(self) -> str:
        session = self._session
        return f"<Client of {session.url}, {session.reconnects} reconnects, {len(self._router)} subscriptions>"

    @property
    def epoch(self) -> str:
        """The identity of the server's history of events, as of the last connection."""
        return "" if self._session.hello is None else self._session.hello.epoch

    @property
    def reconnects(self) -> int:
        """The number of lost connections that were replaced."""
        return self._session.reconnects

    async def _request(self, make: Callable[[], Request], type_: type[T], *, repeatable: bool, kind: str = "") -> T:
        answer = await self._session.ask(make, repeatable=repeatable, kind=kind)
        try:
            return msgspec.json.decode(answer.result, type=type_)
        except msgspec.MsgspecError as error:
            raise e.TrioJobsError(
                f"the answer of the server is not understood; is it of another version? {error}"
            ) from error

    async def _call(
        self, method: str, params: w.Params, type_: type[T], *, lane: Lane = "brief", bounded: bool = True
    ) -> T:
        return await self._request(
            lambda: Request(method, lambda longest: params, lane, bounded=bounded),
            type_,
            repeatable=METHODS[method].repeatable,
        )

    async def hello(self) -> ServerInfo:
        """The server's history of events, and the name and scope of the token.

        Cancelled:
            Nothing has changed.
        """
        return conversion.server_info_from_wire(await self._call("server.hello", w.Hello(), w.HelloResult))

    async def submit(
        self,
        kind: str,
        payload: Any = None,
        *,
        key: str | None = None,
        due_at: datetime | None = None,
        delay: float | None = None,
        deadline_at: datetime | None = None,
        deadline_after: float | None = None,
        wait: float | None = None,
    ) -> Receipt:
        """Submit a job.

        With a key, the request is repeated after a lost connection until the server has answered; without one,
        `OutcomeUnknown` is raised if the connection is lost after the request was sent.

        Args:
            kind: The name of the handler.
            payload: A value of the handler's payload type, or what that is in JSON, at most 1 MiB encoded; or its JSON
                as `msgspec.Raw`, of which every digit is kept.
            key: At most 500 characters. The same key and payload return the same job.
            due_at: The job does not start before this aware datetime.
            delay: The same in seconds from now, whatever the clocks of client and server show. Not together with
                `due_at`.
            deadline_at: The job expires at this aware datetime.
            deadline_after: The same in seconds from now, as with `delay`. Not together with `deadline_at`.
            wait: Seconds to wait for a free slot; 0 for not at all, None for as long as it takes.

        Returns:
            The receipt with the id of the job.

        Raises:
            QueueFull: No slot was free within `wait` seconds.
            KeyConflict: A job with the same key has another payload.
            InvalidPayload: The payload is larger than 1 MiB, or than a proxy before the server accepts.
            UsageError: The arguments or the payload are invalid, or no handler has that name.
            QueueClosed: The queue is draining or has stopped.
            OutcomeUnknown: The connection was lost, and it is not known whether the job was accepted.

        Cancelled:
            The job may have been accepted. With a key, the same submit returns that job. If the submit waits for a
            slot, the server stops waiting.
        """
        submit = SubmitRequest(kind, payload, key, due_at, delay, deadline_at, deadline_after, wait)
        while True:
            try:
                got = await self._request(submit.make, w.SubmitResult, repeatable=key is not None, kind=kind)
            except e.QueueFull:
                if not submit.waits_again:
                    raise
            else:
                return Receipt(got.job, got.created, got.position, got.state)

    async def get(self, job_id: str) -> Job:
        """The job with its attempts; with a token of scope `control` also with its payload and its tracebacks.

        Raises:
            JobNotFound: There is no job with that id, or it has been pruned.

        Cancelled:
            Nothing has changed.
        """
        return conversion.job_from_wire(await self._call("jobs.get", w.OneJob(job_id), WireJob))

    async def list(
        self, *, state: State | None = None, kind: str | None = None, after: str | None = None, limit: int = 100
    ) -> list[Job]:
        """A page of jobs, without payloads and attempts. If its jobs would exceed 256 KiB, it has fewer than `limit`.

        Args:
            state: Only jobs in this state, in the order in which they came into it. Without it, in the order of their
                submits.
            kind: Only jobs of this kind.
            after: The id of the last job of the previous page. The page after the last one is empty.
            limit: The size of the page, 1 to 500.

        Raises:
            JobNotFound: The job `after` is not known.

        Cancelled:
            Nothing has changed.
        """
        page = await self._call("jobs.list", w.List(state, kind, after, limit), w.ListResult)
        return [conversion.job_from_wire(sent) for sent in page.jobs]

    async def result(self, job_id: str, *, in_doubt: Literal["wait", "raise"] = "wait") -> Any:
        """Wait until the job is final, and return what its handler returned.

        Args:
            job_id: The id of the job.
            in_doubt: Whether to wait until a doubt is resolved, or to raise.

        Returns:
            The result as JSON types.

        Raises:
            JobFailed: The job has failed.
            JobCancelled: The job is cancelled.
            JobInDoubt: The job is in doubt, and `in_doubt` is "raise".
            ResultUnavailable: The job is completed without a result.
            JobNotFound: There is no job with that id, or it has been pruned.

        Cancelled:
            The job goes on.
        """
        answer_doubt: Literal["wait", "answer"] = "answer" if in_doubt == "raise" else "wait"

        def make() -> Request:
            return Request("jobs.result", lambda longest: w.Result(job_id, longest, answer_doubt), "wait")

        while True:
            got = await self._request(make, w.ResultResult, repeatable=True)
            error = "" if got.error is None else f"{got.error.type}: {got.error.message}"
            if got.state is State.FAILED:
                raise e.JobFailed(job_id, got.reason, error, got.may_have_acted)
            if got.state is State.CANCELLED:
                raise e.JobCancelled(job_id, got.reason)
            if got.state is State.IN_DOUBT and in_doubt == "raise":
                raise e.JobInDoubt(job_id, got.reason)
            if got.state is State.COMPLETED:
                if got.result is msgspec.UNSET:
                    raise e.ResultUnavailable(job_id, got.problem or "it was resolved without one")
                return got.result

    async def cancel(self, job_id: str) -> CancelAnswer:
        """Cancel a job; see `Queue.cancel`.

        Returns:
            "cancelled"; "requested" if an attempt is running, which ends as soon as it can, without a retry;
            "too_late" if the job is final.

        Raises:
            JobNotFound: There is no job with that id.
            InvalidState: The job is in doubt.

        Cancelled:
            The job may have been cancelled.
        """
        return (await self._call("jobs.cancel", w.OneJob(job_id), w.CancelResult)).answer

    async def retry(self, job_id: str, *, even_if_acted: bool = False) -> None:
        """Begin a new run of a failed or cancelled job; see `Queue.retry`.

        Args:
            job_id: The id of the job.
            even_if_acted: See `Queue.retry`.

        Raises:
            JobNotFound: There is no job with that id.
            InvalidState: The job is in another state, or see `JobMayHaveActed`.

        Cancelled:
            The new run may have begun.
        """
        await self._call("jobs.retry", w.Retry(job_id, even_if_acted), w.StateResult)

    async def resolve(
        self, job_id: str, resolution: Literal["done", "not_done", "failed"], *, result: Any = None
    ) -> None:
        """Resolve a job in doubt; see `Queue.resolve`.

        Args:
            job_id: The id of the job.
            resolution: "done" completes the job, "not_done" makes it pending again, "failed" fails it.
            result: With "done": the result of the job, anything that msgspec encodes as JSON.

        Raises:
            JobNotFound: There is no job with that id.
            InvalidState: The job is in another state.
            UsageError: The result has no JSON, or is too large.

        Cancelled:
            The doubt may have been resolved.
        """
        body, problem, _ = encode_result(result)
        if problem is not None:
            raise e.UsageError(f"the result cannot be kept: {problem}")
        params = w.Resolve(job_id, resolution, msgspec.UNSET if body is None else body)
        await self._call("jobs.resolve", params, w.StateResult)

    async def pause(self, reason: str = "") -> None:
        """Let no further attempt start; see `Queue.pause`. A running attempt continues.

        Cancelled:
            The queue may have been paused.
        """
        await self._call("queue.pause", w.Pause(reason), w.Done)

    async def resume(self) -> None:
        """Let attempts start again; see `Queue.resume`.

        Raises:
            UsageError: The queue is not paused but draining: use `undrain`.

        Cancelled:
            The queue may have been resumed.
        """
        await self._call("queue.resume", w.Nothing(), w.Done)

    async def drain(self) -> None:
        """Accept no new jobs, and wait until no job is pending, processing, saving or retrying; see `Queue.drain`.

        Cancelled:
            The queue may accept no new jobs from then on.
        """
        await self._call("queue.drain", w.Nothing(), w.Done, lane="wait", bounded=False)

    async def undrain(self) -> None:
        """End a drain: accept jobs again; see `Queue.undrain`.

        Raises:
            QueueClosed: The queue stops.

        Cancelled:
            The queue may accept jobs again.
        """
        await self._call("queue.undrain", w.Nothing(), w.Done)

    async def backup(self, name: str) -> Backup:
        """Copy the journal to a new file beside it, on the server's machine; see `Queue.backup`.

        Args:
            name: 1 to 100 letters, digits and `._-`. The file has the name of the journal, `.backup-` and this name.

        Raises:
            StoreError: The file exists, or cannot be written.
            UsageError: The queue has no journal.

        Cancelled:
            The copy may have been made.
        """
        return conversion.backup_from_wire(
            await self._call("queue.backup", w.Backup(name), w.BackupResult, bounded=False)
        )

    async def statistics(self) -> Statistics:
        """Counts and sizes of the queue, and the numbers of connections and subscriptions of the server.

        Cancelled:
            Nothing has changed.
        """
        return conversion.statistics_from_wire(await self._statistics())

    async def health(self) -> Health:
        """Whether the queue works: `ok`, `problems` and `in_doubt`. The other fields are not sent, and are None.

        Cancelled:
            Nothing has changed.
        """
        return conversion.health_from_wire(await self._statistics())

    async def _statistics(self) -> w.StatisticsResult:
        return await self._call("queue.statistics", w.Nothing(), w.StatisticsResult)

    @asynccontextmanager
    async def subscribe(
        self,
        *,
        jobs: Iterable[str] | None = None,
        kinds: Iterable[str] | None = None,
        states: Iterable[State] | None = None,
        after: int | None = None,
        epoch: str | None = None,
        snapshot: bool = False,
    ) -> AsyncIterator[Subscription]:
        """Subscribe to events: `async with client.subscribe() as subscription: async for update in subscription`.

        The subscription has started when the block begins, so no later event is missed. It survives lost connections
        and restarts of the server without a gap or a duplicate. Where that is impossible, it yields a `Gap`, and a
        `Snapshot` follows. The filters are combined: an event must fit all that are given.

        Args:
            jobs: Only events of the jobs with these ids, 1 to 1,000.
            kinds: Only events of jobs of these kinds, 1 to 100.
            states: Only events that lead to these states.
            after: Start behind the event with this `seq`. None: from now on.
            epoch: The history that `after` belongs to. If the server has another one, a `Gap` comes first.
            snapshot: Start with the jobs as they are now.

        Raises:
            UsageError: A filter is invalid.

        Cancelled:
            The subscription ends.
        """
        filters: dict[str, Any] = {
            "jobs": None if jobs is None else [*jobs],
            "kinds": None if kinds is None else [*kinds],
            "states": None if states is None else [State(state) for state in states],
        }
        receiver = Receiver(Routes(self._router.start, self._router.route), filters, after, epoch, snapshot)
        self._router.add(receiver)
        try:
            await receiver.started()
            yield Subscription(receiver)
        finally:
            self._router.remove(receiver)
