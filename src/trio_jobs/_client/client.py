"""`async with trio_jobs.connect(url, token=...) as client`: the queue's methods, from another process."""

from __future__ import annotations

import contextlib
import ssl
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any, Final, Literal, TypeVar

import msgspec
import trio

from trio_jobs import _errors as e
from trio_jobs._client.reconnect import ReconnectingSession
from trio_jobs._client.session import ConnectionLost, Session
from trio_jobs._client.subscription import Subscription
from trio_jobs._engine.jobs import CancelAnswer, Receipt, State
from trio_jobs._validation import check_seconds
from trio_jobs._wire import methods as w
from trio_jobs._wire.jsonrpc import Notification
from trio_jobs._wire.methods import METHODS
from trio_jobs._wire.schemas import JobView

__all__ = ["Client", "connect"]

T = TypeVar("T")
LONGEST_WAIT: Final = 30.0  #: seconds that the protocol lets one request wait


class Client:
    """Made by `connect`. Every method waits while there is no connection; give it a deadline with `trio.fail_after`.

    What can be asked twice without harm is asked again after a lost connection. What cannot (a submit without a key,
    retry, resolve) raises `ConnectionFailed`: it may or may not have been done.

    All raise `ConnectionFailed`, `PermissionDenied`, and what the queue's own methods raise. Cancelled: it may have
    been done.
    """

    def __init__(self, link: ReconnectingSession, nursery: trio.Nursery) -> None:
        self._session = link
        self._nursery = nursery
        self._streams: dict[Subscription, str] = {}
        self._by_id: dict[str, Subscription] = {}
        self._last_id = 0
        link.on_notification = self._on_notification
        link.on_session = self._on_session
        link.on_refused = self._on_refused

    def __repr__(self) -> str:
        return f"<Client of {self._session._url}, {self._session.reconnects} reconnects, {len(self._streams)} streams>"

    @property
    def epoch(self) -> str:
        """The history that the server last said it has."""
        return "" if self._session.hello is None else self._session.hello.epoch

    @property
    def reconnects(self) -> int:
        return self._session.reconnects

    async def _request(self, method: str, params: w.Params, type_: type[T], *, repeatable: bool, kind: str = "") -> T:
        answer = await self._session.ask(method, params, repeatable=repeatable, kind=kind)
        return msgspec.json.decode(answer.result, type=type_)

    async def _call(self, method: str, params: w.Params, type_: type[T]) -> T:
        return await self._request(method, params, type_, repeatable=METHODS[method].repeatable)

    async def hello(self) -> w.HelloResult:
        """Which history this is, how far it reaches, and who we are there."""
        return await self._call("server.hello", w.Hello(), w.HelloResult)

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
        """Accept a job. payload: anything that msgspec makes JSON of. The rest: see `Queue.submit`.

        With a key it is asked again until it is known what became of it; without, a lost connection raises.
        """
        now = time.time()
        params = {
            "kind": kind,
            "payload": msgspec.Raw(msgspec.json.encode(payload)),
            "key": key,
            "due_at": _moment(due_at, delay, now),
            "deadline_at": _moment(deadline_at, deadline_after, now),
        }
        give_up_at = float("inf") if wait is None else trio.current_time() + wait
        while True:
            left = max(give_up_at - trio.current_time(), 0.0)
            request = w.Submit(**params, wait=min(left, LONGEST_WAIT))  # type: ignore[arg-type] # as built above
            try:
                got = await self._request("jobs.submit", request, w.SubmitResult, repeatable=key is not None, kind=kind)
            except e.QueueFull:
                if trio.current_time() >= give_up_at:
                    raise
            else:
                return Receipt(got.job, got.created, got.position, got.state)

    async def get(self, job_id: str) -> JobView:
        """The job with its history; its payload and tracebacks too, for a token of scope control."""
        return await self._call("jobs.get", w.OneJob(job_id), JobView)

    async def list(
        self, *, state: State | None = None, kind: str | None = None, after: str | None = None, limit: int = 100
    ) -> list[JobView]:
        """A page of jobs, in the order of their submit. limit: 1 to 500."""
        return (await self._call("jobs.list", w.List(state, kind, after, limit), w.ListResult)).jobs

    async def result(self, job_id: str, *, in_doubt: Literal["wait", "raise"] = "wait") -> Any:
        """What the job's handler returned, as plain JSON values, once it has. Raises as `Queue.result`."""
        answer_doubt: Literal["wait", "answer"] = "answer" if in_doubt == "raise" else "wait"
        while True:
            got = await self._call("jobs.result", w.Result(job_id, LONGEST_WAIT, answer_doubt), w.ResultResult)
            error = "" if got.error is None else f"{got.error.type}: {got.error.message}"
            if got.state is State.FAILED:
                raise e.JobFailed(job_id, got.reason, error, got.may_have_acted)
            if got.state is State.CANCELLED:
                raise e.JobCancelled(job_id, got.reason)
            if got.state is State.IN_DOUBT and in_doubt == "raise":
                raise e.JobInDoubt(job_id, got.reason)
            if got.state is State.COMPLETED:
                if got.result is msgspec.UNSET:
                    raise e.ResultUnavailable(job_id, got.problem or "it was settled without one")
                return got.result

    async def cancel(self, job_id: str) -> CancelAnswer:
        """See `Queue.cancel`."""
        return (await self._call("jobs.cancel", w.OneJob(job_id), w.CancelResult)).answer

    async def retry(self, job_id: str) -> None:
        """See `Queue.retry`."""
        await self._call("jobs.retry", w.OneJob(job_id), w.StateResult)

    async def resolve(
        self, job_id: str, resolution: Literal["done", "not_done", "failed"], *, result: Any = None
    ) -> None:
        """See `Queue.resolve`."""
        await self._call("jobs.resolve", w.Resolve(job_id, resolution, result), w.StateResult)

    async def pause(self, reason: str = "") -> None:
        """See `Queue.pause`."""
        await self._call("queue.pause", w.Pause(reason), w.Done)

    async def resume(self) -> None:
        """See `Queue.resume`."""
        await self._call("queue.resume", w.Nothing(), w.Done)

    async def drain(self) -> None:
        """See `Queue.drain`: no new jobs are taken from then on."""
        await self._call("queue.drain", w.Nothing(), w.Done)

    async def backup(self, name: str) -> w.BackupResult:
        """See `Queue.backup_beside`: copy the journal to a new file beside it, on the server's machine."""
        return await self._call("queue.backup", w.Backup(name), w.BackupResult)

    async def statistics(self) -> w.StatisticsResult:
        """How full, how busy, how well."""
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
        """A stream of what happens: `async with client.subscribe() as subscription: async for update in subscription`.

        jobs, kinds, states: only of these. after, epoch: go on behind that event; both are kept up to date in the
        stream. snapshot: the jobs as they are, first. It survives reconnects and restarts of the server without a gap
        or a duplicate; where that cannot be, `Gap` says so and a snapshot follows. When the block begins, the stream
        does: nothing that happens after is missed.
        """
        filters: dict[str, Any] = {
            "jobs": None if jobs is None else [*jobs],
            "kinds": None if kinds is None else [*kinds],
            "states": None if states is None else [State(state) for state in states],
        }
        subscription = Subscription(self._start, self._route, filters, after, epoch, snapshot)
        self._streams[subscription] = ""
        try:
            self._start(subscription)
            await subscription.begun()
            yield subscription
        finally:
            self._route(subscription, None)
            del self._streams[subscription]

    # streams and sessions

    def _route(self, subscription: Subscription, session: Session | None) -> str:
        """A new subscription id for the stream on this session; without one, end the subscription it has."""
        before = self._streams[subscription]
        if before in self._by_id:
            del self._by_id[before]
            if session is None:
                self._nursery.start_soon(self._unsubscribe, before)
        if session is None:
            return ""
        self._last_id += 1
        subscription_id = self._streams[subscription] = f"u{self._last_id}"
        self._by_id[subscription_id] = subscription
        return subscription_id

    async def _unsubscribe(self, subscription_id: str) -> None:
        session = self._session.current
        if session is not None:
            with contextlib.suppress(ConnectionLost):
                await session.ask("jobs.unsubscribe", w.Unsubscribe(subscription_id))

    def _start(self, subscription: Subscription) -> None:
        """Begin the stream on the session there is, or the next; in a task of its own, so that no reader's
        cancellation can leave it half begun."""
        self._nursery.start_soon(self._begin, subscription)

    async def _begin(self, subscription: Subscription) -> None:
        try:
            # patience is for a beginning: a stream that has begun outlives any outage
            session = await self._session.session(float("inf") if subscription.has_begun else None)
            if subscription in self._streams:
                await subscription.begin(session)
        except ConnectionLost:
            pass  # the next session begins it
        except (e.PermissionDenied, e.ConnectionFailed) as error:
            subscription.fail(error)

    def _on_notification(self, notification: Notification) -> None:
        subscription = self._by_id.get(notification.params.subscription)
        if subscription is not None:
            subscription.on_notification(notification)

    def _on_session(self, session: Session) -> None:
        streams, self._by_id = [*self._by_id.values()], {}
        for subscription in streams:
            self._start(subscription)

    def _on_refused(self, error: e.TrioJobsError) -> None:
        for subscription in self._streams:
            subscription.fail(error)


@asynccontextmanager
async def connect(
    url: str,
    *,
    token: str | None = None,
    tls: ssl.SSLContext | None = None,
    connect_timeout: float = 10.0,
    reconnect_timeout: float = float("inf"),
) -> AsyncIterator[Client]:
    """A client of the server at `url` (ws:// or wss://, ending in /ws) for as long as the block runs.

    token: its secret. tls: for wss, where the system's own trust is not enough. connect_timeout: seconds for the first
    connection; lost ones are replaced for as long as it takes, after 0.05 s at first and 5 s at most. patience: seconds
    without a connection after which a question is not held back any longer but raises `ConnectionFailed`; so does the
    beginning of `subscription`, while a stream that has begun waits for as long as it takes.

    Raises `ConnectionFailed`, `PermissionDenied` before the block begins. The block's own exception comes out as it
    was.
    """
    raised: BaseException | None = None
    async with trio.open_nursery() as nursery:
        link = ReconnectingSession(url, token, tls, reconnect_timeout)
        try:
            client = Client(link, nursery)
            nursery.start_soon(link.run)
            await link.first_session(connect_timeout)
            yield client
        except BaseException as error:
            raised = error
        finally:
            with trio.CancelScope(shield=True):
                await link.aclose()
            nursery.cancel_scope.cancel()
    if raised is not None:
        try:
            raise raised
        finally:
            del raised  # no cycle through this frame


def _moment(at: datetime | None, after: float | None, now: float) -> float | None:
    if at is not None and after is not None:
        raise e.UsageError("say a time or a number of seconds, not both")
    if after is not None:
        return now + check_seconds("a delay", after)
    if at is not None and at.tzinfo is None:
        raise e.UsageError(f"a time must be an aware datetime, such as datetime.now(UTC), not {at!r}")
    return None if at is None else at.timestamp()
