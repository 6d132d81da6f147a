"""`async with trio_jobs.connect(url, token=...) as client`: the methods of the queue, from another process."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping
from datetime import datetime
from typing import Any, Literal, Unpack, final

import msgspec
import trio

from trio_jobs import _errors as e
from trio_jobs._client.client_commands import ClientCommands
from trio_jobs._client.outbox import Request
from trio_jobs._client.receiver import Receiver, Routes
from trio_jobs._client.reconnect import ReconnectingSession
from trio_jobs._client.router import Router
from trio_jobs._client.submit_request import SubmitRequest
from trio_jobs._client.subscription import Subscription
from trio_jobs._concurrency import protected_manager
from trio_jobs._engine.job_filter import JobFilter, ListConditions
from trio_jobs._engine.job_list import JobCounts, JobList
from trio_jobs._engine.jobs import Job, Receipt
from trio_jobs._engine.states import State
from trio_jobs._engine.status import Health, ServerInfo, Statistics
from trio_jobs._wire import conversion
from trio_jobs._wire import methods as w
from trio_jobs._wire.commands import SubmitResult
from trio_jobs._wire.health import HealthResult, health_from_wire
from trio_jobs._wire.job_lists import Count, CountResult, Find, List, ListResult
from trio_jobs._wire.kinds import KindsResult
from trio_jobs._wire.schemas import WireJob

__all__ = ["Client"]


@final
class Client(ClientCommands):
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
        super().__init__(session)
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
        labels: Mapping[str, str] | None = None,
        correct: bool = False,
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
            labels: At most 8 names and values of 1 to 64 characters each; see `Queue.submit`.
            correct: If the key belongs to a failed or cancelled job with another payload, start that job again with
                this one; see `Queue.correct`.

        Returns:
            The receipt with the id of the job.

        Raises:
            QueueFull: No slot was free within `wait` seconds.
            KeyConflict: A job with the same key has another payload.
            InvalidPayload: The payload does not fit the handler's type, is larger than 1 MiB or than a proxy before the
                server accepts, or is nested deeper than 100 levels.
            UnknownKind: No handler has that name.
            UsageError: Another argument is not valid.
            QueueClosed: The queue is draining or has stopped.
            OutcomeUnknown: The connection was lost, and it is not known whether the job was accepted.

        Cancelled:
            The job may have been accepted. With a key, the same submit returns that job. If the submit waits for a
            slot, the server stops waiting.
        """
        submit = SubmitRequest(kind, payload, key, due_at, delay, deadline_at, deadline_after, wait, labels, correct)
        while True:
            try:
                got = await self._request(submit.make, SubmitResult, repeatable=key is not None, kind=kind)
            except e.QueueFull:
                if not submit.waits_again:
                    raise
            else:
                return Receipt(got.job, got.created, got.position, got.state, got.expected_wait)

    async def get(self, job_id: str) -> Job:
        """The job with its attempts; with a token of scope `operate` also with what other tokens are not sent.

        Args:
            job_id: The id of the job, or at least its last 6 characters, here and wherever a method takes one job.

        Raises:
            JobNotFound: There is no job with that id, or it has been pruned.
            AmbiguousJob: The ids of several jobs end with these characters.

        Cancelled:
            Nothing has changed.
        """
        return conversion.job_from_wire(await self._call("jobs.get", w.Get(job_id, live=True), WireJob))

    async def find(self, kind: str | None, key: str) -> Job:
        """The job that has a key, as `get` returns it.

        Args:
            kind: The kind of the job; None for any.
            key: The key of its submit.

        Raises:
            JobNotFound: There is no such job, or it has been pruned.
            AmbiguousJob: `kind` is None, and jobs of several kinds have this key.

        Cancelled:
            Nothing has changed.
        """
        return conversion.job_from_wire(await self._call("jobs.find", Find(key, kind, live=True), WireJob))

    async def list(
        self,
        *,
        after: str | None = None,
        limit: int = 100,
        order: Literal["oldest", "newest"] = "oldest",
        **conditions: Unpack[ListConditions],
    ) -> JobList:
        """A page of jobs, without payloads and attempts, in the order of their submits; see `Queue.list`.

        If its jobs would exceed 256 KiB, it has fewer than `limit`.

        Args:
            after: `next` of the previous page; or the id of a job, for those behind it.
            limit: The size of the page, 1 to 500.
            order: Whether the oldest or the newest submits come first.
            conditions: The keywords of `ListConditions`. `labels` and `by` need a token of scope `operate`.

        Raises:
            InvalidCursor: `after` is not a cursor of this list, with these conditions and this order.
            JobNotFound: The job `after` is not known.

        Cancelled:
            Nothing has changed.
        """
        params = List(after=after, limit=limit, order=order, **_conditions(conditions))
        page = await self._call("jobs.list", params, ListResult)
        return JobList(map(conversion.job_from_wire, page.jobs), page.next)

    async def count(self, group: str | None = None, **conditions: Unpack[ListConditions]) -> JobCounts:
        """How many jobs match; see `Queue.count`.

        Args:
            group: "state", "kind", "error_type" or, with a token of scope `operate`, "label:NAME".
            conditions: As for `list`.

        Cancelled:
            Nothing has changed.
        """
        got = await self._call("jobs.count", Count(group=group, **_conditions(conditions)), CountResult)
        return JobCounts(got.total, got.groups, got.others)

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
            PermissionDenied: The job is completed, and the token is not sent its result.
            JobNotFound: There is no job with that id, or it has been pruned.

        Cancelled:
            The job goes on.
        """
        answer_doubt: Literal["wait", "answer"] = "answer" if in_doubt == "raise" else "wait"

        def make() -> Request:
            return Request("jobs.result", lambda longest: w.Result(job_id, longest, answer_doubt), "wait")

        while True:
            got = await self._request(make, w.ResultResult, repeatable=True)
            error = "" if got.error is None else ": ".join(filter(None, (got.error.type, got.error.message)))
            if got.state is State.FAILED:
                raise e.JobFailed(job_id, got.reason, error, got.may_have_acted)
            if got.state is State.CANCELLED:
                raise e.JobCancelled(job_id, got.reason)
            if got.state is State.IN_DOUBT and in_doubt == "raise":
                raise e.JobInDoubt(job_id, got.reason)
            if got.state is State.COMPLETED:
                if got.withheld:
                    raise e.PermissionDenied("the job is completed; its result requires a token of scope operate")
                if got.result is msgspec.UNSET:
                    raise e.ResultUnavailable(job_id, got.problem or "it was resolved without one")
                return got.result

    async def kinds(self) -> dict[str, dict[str, Any]]:
        """The kinds of jobs, in the order of their names, each with the JSON Schema of its payloads.

        A schema is empty where any payload is accepted.

        Cancelled:
            Nothing has changed.
        """
        got = await self._call("kinds.list", w.Nothing(), KindsResult)
        return {one.kind: one.schema for one in got.kinds}

    async def statistics(self) -> Statistics:
        """Counts and sizes of the queue, and the numbers of connections and subscriptions of the server.

        Cancelled:
            Nothing has changed.
        """
        got = await self._call("queue.statistics", w.Nothing(), w.StatisticsResult)
        return conversion.statistics_from_wire(got)

    async def health(self) -> Health:
        """Whether the queue works, and what waits for a person. With a token of scope `watch` it lacks the names of
        people, what a close has raised and what is wrong with the store.

        Cancelled:
            Nothing has changed.
        """
        return health_from_wire(await self._call("queue.health", w.Nothing(), HealthResult))

    @protected_manager
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


def _conditions(conditions: ListConditions) -> dict[str, Any]:
    """The conditions as parameters of the wire."""
    wanted = JobFilter.of(conditions)  # checks them
    states = None if wanted.states is None else sorted(wanted.states)
    return {
        "states": states,
        "kind": None if wanted.kinds is None else next(iter(wanted.kinds)),
        "key_prefix": wanted.key_prefix,
        "error_type": wanted.error_type,
        "may_have_acted": wanted.may_have_acted,
        "labels": dict(wanted.labels) or None,
        "by": wanted.by,
        "since": wanted.since,
        "until": wanted.until,
    }
