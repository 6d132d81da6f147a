"""The methods of the protocol. Each corresponds to a method of `Queue`."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime
from typing import Any, Final, Protocol

import attrs
import msgspec

from trio_jobs._backend import Backend
from trio_jobs._engine.bounds import Bounds
from trio_jobs._engine.event_cursor import Filter
from trio_jobs._engine.job_filter import EVERY_JOB, JobFilter, parse_group
from trio_jobs._engine.job_list import JobCounts, encode_cursor
from trio_jobs._engine.jobs import FINAL, Job, State
from trio_jobs._engine.json_values import moment
from trio_jobs._log import Log
from trio_jobs._lookup_errors import JobNotFound
from trio_jobs._server import commands, histories, ticket_methods
from trio_jobs._server.access import Access
from trio_jobs._server.bound_backend import bound, restricted
from trio_jobs._server.identity import Identity
from trio_jobs._server.logins import LIFETIME, LoginRefused
from trio_jobs._server.pacing import STEP, Pacer
from trio_jobs._server.requirements import list_conditions, require
from trio_jobs._server.subscriber import Subscriber
from trio_jobs._server.ticket_methods import limited
from trio_jobs._wire import methods as w
from trio_jobs._wire.access import LoginResult
from trio_jobs._wire.codes import PROTOCOL, ErrorCode
from trio_jobs._wire.conversion import backup_to_wire, error_to_wire, job_to_wire, statistics_to_wire
from trio_jobs._wire.field_scopes import hidden
from trio_jobs._wire.histories import Forget, ForgetResult
from trio_jobs._wire.job_lists import Conditions, Count, CountResult, Find, List
from trio_jobs._wire.jsonrpc import RpcError
from trio_jobs._wire.kinds import KindInfo, KindsResult
from trio_jobs._wire.pages import JobPage, ListOut
from trio_jobs._wire.schemas import ErrorData, RequestId

__all__ = ["ConnectionStats", "Deferred", "Methods", "RequestContext"]


log: Final = Log("trio_jobs.server")

MAX_STEPS: Final = 500  #: steps of a list: a quarter of a second of the event loop, spread over more than one
MAX_BOUNDS: Final = 1000  #: bounds of tokens for which there are methods; a file of tokens has no more
MAX_KEPT: Final = 4096  #: bytes of a result that may wait until it can be sent; a larger one is read again then


class RequestContext(Protocol):
    """The connection that received a request."""

    identity: Identity
    limits: w.ConnectionLimits

    def cancel_request(self, request_id: RequestId) -> bool:
        """Cancel a request that waits. Returns False if none with this id does."""
        ...

    def subscribe(self, params: w.Subscribe, wanted: Filter, after: int) -> Subscriber:
        """Add a subscription to the connection.

        Raises:
            RpcError: The connection has too many subscriptions, or one with this id.
        """
        ...

    def unsubscribe(self, subscription: str) -> int | None:
        """End a subscription. Returns its position; None if there is no such subscription."""
        ...


class ConnectionStats(Protocol):
    """The numbers of open connections, of subscriptions and of refusals; and the end of the certificate."""

    @property
    def connections(self) -> int: ...

    @property
    def subscriptions(self) -> int: ...

    @property
    def refusals(self) -> Mapping[str, int]: ...

    @property
    def certificate_not_after(self) -> datetime | None: ...


class Deferred:
    """A result that is made when it can be sent, so that it takes no memory while the client does not read.

    Args:
        make: Returns the result. May raise what `Methods.answer` raises.
    """

    def __init__(self, make: Callable[[], Any]) -> None:
        self.make: Final = make


class Methods:
    """The methods of one server."""

    def __init__(self, backend: Backend, connection_stats: ConnectionStats, pacer: Pacer, access: Access) -> None:
        self._backend = backend
        self._access = access
        self._pacer = pacer
        self._events = backend.events
        self._connection_stats = connection_stats
        self._within: dict[Bounds, Methods] = {}

    async def answer(self, context: RequestContext, method: w.Method, params: Any) -> Any:
        """Execute a method.

        Args:
            context: The connection that received the request.
            method: The method.
            params: Its decoded parameters.

        Returns:
            The result of the method, or a `Deferred` that makes it; for `jobs.subscribe` the subscriber, whose answer
            the connection sends.

        Raises:
            RpcError: The token or the parameters do not allow the request.
            TrioJobsError: As the corresponding method of the queue.

        Cancelled:
            As the corresponding method of the queue.
        """
        require(context.identity, method.scope, method.name)
        if method.scope == "watch" and (getattr(params, "by", None) or getattr(params, "labels", None)):
            require(context.identity, "operate", "to select by labels, or by who did something,")
        if context.identity.ticket is not None and method.name not in ticket_methods.ALLOWED:
            raise RpcError(ErrorCode.PERMISSION_DENIED, f"a ticket does not allow {method.name}")
        if context.identity.bounds:
            return await self._bound_to(context.identity.bounds).execute(context, method, params)
        return await self.execute(context, method, params)

    def _bound_to(self, bounds: Bounds) -> Methods:
        """The methods for tokens with these bounds."""
        found = self._within.get(bounds)
        if found is None:
            if len(self._within) >= MAX_BOUNDS:
                self._within.clear()
            backend = bound(self._backend, bounds)
            found = self._within[bounds] = Methods(backend, self._connection_stats, self._pacer, self._access)
        return found

    async def execute(self, context: RequestContext, method: w.Method, params: Any) -> Any:
        """Execute a method that the token allows. Arguments, Raises and Cancelled: as of `answer`."""
        identity = context.identity
        if method.name in histories.METHODS:
            result = await histories.METHODS[method.name](self._backend, params, identity.scope)
        elif method.name in ticket_methods.METHODS:
            result = await ticket_methods.METHODS[method.name](self._access.keys, self._backend, params)
        elif method.name in commands.METHODS:
            result = await commands.METHODS[method.name](self._backend, identity, params)
        else:
            result = await _DO[method.name](self, context, params)
        if isinstance(result, Deferred):
            make = result.make
            return Deferred(lambda: limited(make(), identity))
        return limited(result, identity)

    async def hello(self, context: RequestContext, params: w.Hello) -> w.HelloResult:
        identity = context.identity
        seq, oldest = self._events.seq, self._events.oldest
        if identity.ticket is not None:  # how many events other jobs have had is not told
            seq = oldest = self._backend.get(identity.ticket.job, brief=True).seq
        return w.HelloResult(
            PROTOCOL,
            self._backend.epoch,
            seq,
            oldest,
            identity.scope,
            identity.name,
            context.limits,
        )

    async def login(self, context: RequestContext, params: w.Nothing) -> LoginResult:
        logins = self._access.logins
        if logins is None:
            raise RpcError(ErrorCode.INVALID_STATE, "this server requires no token, so its page requires no login")
        try:
            return LoginResult(logins.new_code(context.identity), LIFETIME, logins.page or msgspec.UNSET)
        except LoginRefused as error:
            raise RpcError(ErrorCode.PERMISSION_DENIED, str(error)) from None

    async def cancel_request(self, context: RequestContext, params: w.CancelRequest) -> w.CancelRequestResult:
        return w.CancelRequestResult(params.request, context.cancel_request(params.request))

    async def get(self, context: RequestContext, params: w.Get) -> Deferred:
        return self._whole(params.live, lambda: self._backend.get(params.job))

    async def find(self, context: RequestContext, params: Find) -> Deferred:
        return self._whole(params.live, lambda: self._backend.find(params.kind, params.key))

    async def list(self, context: RequestContext, params: List) -> ListOut:
        backend, wanted, order = self._backend, _filter(context, params), params.order
        page, seq = JobPage(params.limit, context.identity.scope), self._events.seq
        after: str | int | None = params.after
        more = True
        for _ in range(MAX_STEPS):
            if not more or not page.room:
                break

            def step() -> tuple[int | None, bool]:
                return backend.page(wanted, order, after, min(STEP, page.room), page.take)  # noqa: B023 - called in this round

            after, more = await self._pacer.run(step)
        cursor = encode_cursor(after, wanted, order, backend.epoch) if more and isinstance(after, int) else None
        return ListOut(seq, page.jobs, more, cursor)

    async def count(self, context: RequestContext, params: Count) -> CountResult:
        wanted, group = _filter(context, params), None if params.group is None else parse_group(params.group)
        if group is not None and group[0] == "label":
            require(context.identity, "operate", "to group by labels")
        values: Counter[str] = Counter()
        seq, total = self._events.seq, 0
        steps = self._backend.count_steps(wanted, group, values)
        while (found := await self._pacer.run(lambda: next(steps, None))) is not None:
            total += found
        counts = JobCounts.of(total, None if group is None else values)
        return CountResult(seq, counts.total, counts.groups, counts.others)

    async def result(self, context: RequestContext, params: w.Result) -> w.ResultResult | Deferred:
        in_doubt: Any = "raise" if params.in_doubt == "answer" else "wait"
        job = await self._backend.wait_final(params.job, params.wait, in_doubt=in_doubt)
        if job.result is not None and len(job.result) > MAX_KEPT:
            return Deferred(lambda: _result(context, self._backend.get(params.job)))
        return _result(context, job)

    async def forget(self, context: RequestContext, params: Forget) -> ForgetResult:
        job_id = self._whole_id(params.job)
        await self._backend.forget(job_id, by=context.identity.name, note=params.note)
        return ForgetResult(job_id, self._events.seq)

    async def subscribe(self, context: RequestContext, params: w.Subscribe) -> Subscriber:
        """The connection sends the answer, since the first event must follow it."""
        events = self._events
        after = events.seq
        if params.after is not None:
            if params.epoch is None:  # a number of another history would be taken for one of this history
                raise RpcError(ErrorCode.INVALID_PARAMS, "jobs.subscribe: after requires epoch")
            known = params.epoch == self._backend.epoch
            if not known or not events.oldest - 1 <= params.after <= events.seq:
                why = "is not a retained event" if known else "belongs to another epoch"
                data = ErrorData(epoch=self._backend.epoch, seq=events.seq, oldest=events.oldest)
                message = f"cannot resume after event {params.after}, which {why}; request a snapshot"
                raise RpcError(ErrorCode.CANNOT_RESUME, message, data)
            after = params.after
        jobs = params.jobs
        if jobs is not None and len(jobs) == 1:  # one job can be named by the end of its id
            with contextlib.suppress(JobNotFound):
                jobs = [self._whole_id(jobs[0])]
        if context.identity.ticket is not None:
            jobs = [context.identity.ticket.job] if jobs is None else [self._whole_id(job) for job in jobs]
        states = None if params.states is None else frozenset(params.states)
        wanted = Filter(jobs, params.kinds, states, context.identity.bounds)
        subscriber = context.subscribe(params, wanted, after)
        if params.snapshot:
            subscriber.begin_snapshot()
        return subscriber

    async def unsubscribe(self, context: RequestContext, params: w.Unsubscribe) -> w.UnsubscribeResult:
        seq = context.unsubscribe(params.subscription)
        if seq is None:
            raise RpcError(ErrorCode.INVALID_PARAMS, f"the connection has no subscription {params.subscription!r}")
        return w.UnsubscribeResult(params.subscription, seq)

    async def kinds(self, context: RequestContext, params: w.Nothing) -> KindsResult:
        found = sorted(self._backend.kinds().items())
        return KindsResult([KindInfo(kind, schema, self._backend.has_verify(kind)) for kind, schema in found])

    async def resume(self, context: RequestContext, params: w.Noted) -> w.Done:
        await self._backend.resume(by=context.identity.name, note=params.note)
        return w.Done(self._events.seq)

    async def drain(self, context: RequestContext, params: w.Noted) -> w.Done:
        await self._backend.drain(by=context.identity.name, note=params.note)
        return w.Done(self._events.seq)

    async def undrain(self, context: RequestContext, params: w.Noted) -> w.Done:
        await self._backend.undrain(by=context.identity.name, note=params.note)
        return w.Done(self._events.seq)

    async def backup(self, context: RequestContext, params: w.Backup) -> w.BackupResult:
        return backup_to_wire(await self._backend.backup(params.name))

    async def statistics(self, context: RequestContext, params: w.Nothing) -> w.StatisticsResult:
        statistics = self._backend.statistics()
        if context.identity.bounds:
            jobs: Counter[str] = Counter()
            steps = self._backend.count_steps(EVERY_JOB, ("state", ""), jobs)
            while await self._pacer.run(lambda: next(steps, None)) is not None:
                pass
            statistics = attrs.evolve(statistics, jobs={state: jobs[state] for state in State})
        return statistics_to_wire(
            statistics,
            self._backend.health(),
            connections=self._connection_stats.connections,
            subscriptions=self._connection_stats.subscriptions,
            refusals=dict(self._connection_stats.refusals),
        )

    def _whole(self, live: bool, find: Callable[[], Job]) -> Deferred:
        more = self._backend.live if live else lambda job: job
        return Deferred(lambda: job_to_wire(more(find()), history=True))

    def _whole_id(self, job_id: str) -> str:
        return self._backend.get(job_id, brief=True).id

    def _state(self, job_id: str) -> State:
        return self._backend.get(job_id, brief=True).state


_DO: Final[dict[str, Callable[[Methods, RequestContext, Any], Awaitable[Any]]]] = {
    "server.hello": Methods.hello,
    "server.login": Methods.login,
    "requests.cancel": Methods.cancel_request,
    "jobs.get": Methods.get,
    "jobs.find": Methods.find,
    "jobs.list": Methods.list,
    "jobs.count": Methods.count,
    "jobs.result": Methods.result,
    "jobs.forget": Methods.forget,
    "jobs.subscribe": Methods.subscribe,
    "jobs.unsubscribe": Methods.unsubscribe,
    "kinds.list": Methods.kinds,
    "queue.resume": Methods.resume,
    "queue.drain": Methods.drain,
    "queue.undrain": Methods.undrain,
    "queue.backup": Methods.backup,
    "queue.statistics": Methods.statistics,
}
_NAMES: Final = histories.METHODS.keys() | ticket_methods.METHODS.keys() | commands.METHODS.keys()
assert _DO.keys() | _NAMES == w.METHODS.keys()


def _filter(context: RequestContext, params: Conditions) -> JobFilter:
    wanted = JobFilter.of(list_conditions(params))
    return restricted(wanted, context.identity.bounds) or wanted


def _result(context: RequestContext, job: Job) -> w.ResultResult:
    return w.ResultResult(
        job=job.id,
        state=job.state,
        final=job.state in FINAL,
        result=msgspec.UNSET if job.result is None else msgspec.Raw(job.result),
        problem=job.result_problem,
        reason=job.reason,
        error=error_to_wire(job.error),
        may_have_acted=job.may_have_acted,
        withheld=job.state is State.COMPLETED and "result" in hidden(w.ResultResult, context.identity.scope),
    )


def _moment(at: float | None) -> datetime | None:
    return None if at is None else moment(at)
