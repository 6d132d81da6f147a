"""The HTTP API: from a request to a method of the protocol, and from its result to a response.

The table of routes says which method a path stands for; the methods are those of the WebSocket. What is particular to
HTTP is here: who may ask, where the parameters are, and how a job is answered.
"""

from __future__ import annotations

import contextlib
from functools import partial
from typing import Any, Final, final

import msgspec

from trio_jobs._backend import Backend
from trio_jobs._engine.jobs import FINAL
from trio_jobs._lookup_errors import JobNotFound
from trio_jobs._operator_errors import JobChanged
from trio_jobs._server.accounts import Accounts
from trio_jobs._server.cors import OriginRules
from trio_jobs._server.handshake import ticket_in
from trio_jobs._server.http import JSON, Page
from trio_jobs._server.http_connection import HttpRequest, Stream
from trio_jobs._server.http_context import HttpContext
from trio_jobs._server.http_jobs import JobPages, ShownJob, entity_tags, matches, preferred_wait
from trio_jobs._server.identity import Identity, Problem
from trio_jobs._server.methods import Deferred, Methods
from trio_jobs._server.problem_pages import problem_page, problem_response
from trio_jobs._server.refusals import Reason
from trio_jobs._server.request import BadRequest
from trio_jobs._server.sse import SseContext, SseParts, SseStream, later, start_of_stream
from trio_jobs._wire.codes import ErrorCode
from trio_jobs._wire.commands import SubmitResult
from trio_jobs._wire.costs import cost
from trio_jobs._wire.http_params import build_params, idempotency_key, is_json, read_query
from trio_jobs._wire.job_lists import ListResult
from trio_jobs._wire.jsonrpc import RpcError
from trio_jobs._wire.methods import WAITING, Lagged, Subscribe
from trio_jobs._wire.params import Wait
from trio_jobs._wire.problems import problem_of
from trio_jobs._wire.routes import FIND, Route, find_routes
from trio_jobs._wire.sse import MEDIA_TYPE

__all__ = ["Api"]

_encode: Final = msgspec.json.Encoder().encode


def _page(result: Any) -> Page:
    """The response with the result of a method."""
    made = result.make() if isinstance(result, Deferred) else result
    return Page(200, JSON, _encode(made) + b"\n")


def _changed(view: ShownJob) -> Page:
    """The response to a request that is meant for the job as it was."""
    job = view.job
    problem = problem_of("precondition-failed", 412, f"job {job.id} has changed since; it is {job.state}")
    return problem_page(msgspec.structs.replace(problem, job=job.id, state=str(job.state)), ("ETag", view.etag))


@final
class Api:
    """Answers the paths below /v1/.

    Args:
        backend: The queue.
        methods: The methods of the protocol.
        accounts: What each token has taken from its limits.
        rules: Which web pages may use the API.
        sse: What the streams of events share.
    """

    def __init__(
        self, backend: Backend, methods: Methods, accounts: Accounts, rules: OriginRules, sse: SseParts
    ) -> None:
        self._sse = sse
        self._methods = methods
        self._backend = backend
        self._rules = rules
        self._accounts = accounts
        self._jobs = JobPages(backend, methods, rules.prefix)

    async def respond(self, request: HttpRequest) -> Page | Stream:
        """Answer a request.

        Raises:
            BadRequest: It is refused before a method is executed.
            trio.BrokenResourceError: The connection is lost within its body.

        Cancelled:
            As the corresponding method of the queue.
        """
        head = request.head
        routes, in_path = find_routes(head.path)
        if not routes:
            raise BadRequest(404, f"there is no path {head.path:.200}; /openapi.json has them all", reason=None)
        allow = ", ".join(sorted({*routes, *(["HEAD"] if "GET" in routes else []), "OPTIONS"}))
        if head.method == "OPTIONS":
            return self._rules.preflight(head, allow)
        route = routes.get("GET" if head.method == "HEAD" else head.method)
        if route is None:
            raise BadRequest(405, f"the method must be one of {allow}", (("Allow", allow),), reason=None)
        self._rules.check(head)
        identity = request.identity
        if isinstance(identity, Problem):
            raise BadRequest(401, str(identity), (("WWW-Authenticate", "Bearer"),), reason=Reason.TOKEN)
        if route.answer == "events":
            return await self._stream(request, route, identity)
        page = await self._answer(request, route, in_path, identity)
        if cors := self._rules.headers(head, identity):
            return Page(page.status, page.content_type, page.body, page.headers + cors)
        return page

    async def _answer(self, request: HttpRequest, route: Route, in_path: dict[str, str], identity: Identity) -> Page:
        head = request.head
        if route.verb == "GET":
            if head.body != 0:
                raise BadRequest(400, "a GET must not have a body")
        elif (head.body != 0 or head.get("content-type") is not None) and not is_json(head.get("content-type")):
            raise BadRequest(415, "header content-type must be application/json, in UTF-8", reason=None)
        context = HttpContext(identity, self._accounts.of(identity))
        key: str | None = None
        try:
            async with request.body.read() as body:
                query = read_query(head.query)
                if ticket_in(head) is not None:
                    del query["ticket"]
                if route.method == "jobs.list" and "key" in query:
                    route = FIND
                seconds = self._seconds(query) if route.answer == "job" and route.verb == "GET" else None
                if route.body == "payload":
                    key = idempotency_key(head.get("idempotency-key"))
                params = build_params(route, in_path, query, body, key)
                key = getattr(params, "key", None)
                context.account.take(cost(params), len(body))
                if route.answer == "job" and route.verb == "GET":
                    tags = entity_tags("if-none-match", head.get("if-none-match"))
                    return await self._jobs.get(context, params, seconds, tags, request.until_gone)
                if route.conditional and head.get("if-match") is not None:
                    return await self._conditional(request, route, context, params)
                if route is FIND:
                    return await self._found(context, params)
                result = await self._call(request, route, context, params)
            if route.answer == "job":
                return await self._submitted(request, context, result)
            return _page(result)
        except BadRequest:
            raise
        except Exception as error:
            if isinstance(error, RpcError) and error.code == ErrorCode.TOO_MANY:
                request.refuse(Reason.RATE, error.message)
            return problem_response(route.method, error, key=key, submits=route.method.startswith("jobs.submit"))

    async def _stream(self, request: HttpRequest, route: Route, identity: Identity) -> Page | Stream:
        head, cors = request.head, self._rules.headers(request.head, identity)
        if head.body != 0:
            raise BadRequest(400, "a GET must not have a body")
        if head.method == "HEAD":
            return Page(200, MEDIA_TYPE, b"", cors)
        account = self._accounts.of(identity)
        stream = SseStream(self._sse, self._sse.events.of(identity.scope), account, identity)
        context = SseContext(HttpContext(identity, account), self._sse, stream.on_news)
        try:
            asked = read_query(head.query)
            if ticket_in(head) is not None:
                del asked["ticket"]
            query = start_of_stream(asked, head.get("last-event-id"))
            params: Subscribe = build_params(route, {}, query, b"")
            account.take(cost(params), 0)
            account.check_wait()
            try:
                subscriber = await self._methods.answer(context, route.row, params)
                stream.begin(subscriber, None)
            except RpcError as error:
                if error.code != ErrorCode.CANNOT_RESUME:
                    raise
                now = self._sse.backend
                first = (params.after or 0) + 1 if params.epoch == now.epoch else 1
                again = msgspec.structs.replace(params, after=None, epoch=None, snapshot=True)
                subscriber = await self._methods.answer(context, route.row, again)
                stream.begin(subscriber, Lagged("", min(first, now.events.seq), now.events.seq))
        except RpcError as error:
            if error.code == ErrorCode.TOO_MANY:
                request.refuse(Reason.RATE, error.message)
                return partial(later, cors)
            return problem_response(route.method, error)
        return partial(stream.run, request.until_gone, cors)

    @staticmethod
    def _seconds(query: dict[str, list[str]]) -> float | None:
        """Take the parameter `wait` from the query of a request for a job."""
        given = query.pop("wait", None)
        if given is None:
            return None
        try:
            return msgspec.json.decode(given[-1], type=Wait)
        except msgspec.MsgspecError:
            raise RpcError(ErrorCode.INVALID_PARAMS, "parameter wait of the query is not 0 to 30 seconds") from None

    async def _found(self, context: HttpContext, params: Any) -> Page:
        """The list of the job that has a key; empty without one."""
        jobs: list[Any] = []
        with contextlib.suppress(JobNotFound):
            found = await self._methods.answer(context, FIND.row, params)
            jobs.append(found.make())
        return Page(200, JSON, _encode(ListResult(self._backend.events.seq, jobs, more=False)) + b"\n")

    async def _call(self, request: HttpRequest, route: Route, context: HttpContext, params: Any) -> Any:
        """The result of a method. A wait ends when the client disconnects or the server stops."""
        waits = route.method in WAITING and getattr(params, "wait", 1) > 0
        if not waits:
            return await self._methods.answer(context, route.row, params)

        async def wait() -> Any:
            with context.account.wait():
                return await self._methods.answer(context, route.row, params)

        result = await request.until_gone(wait)
        if result is None:
            raise RpcError(ErrorCode.CANCELLED, "the wait was ended, and nothing was done")
        return result

    async def _conditional(self, request: HttpRequest, route: Route, context: HttpContext, params: Any) -> Page:
        """The response to a request that is meant for the job as it was.

        The entity tag is compared with what is committed, and the request is executed later. Where the method can
        compare, it does so again when it decides, so that of two requests with the same tag only one is done.
        """
        tags = entity_tags("if-match", request.head.get("if-match"))
        view = await self._jobs.view(context, params.job)
        if not matches(tags, view.etag):
            return _changed(view)
        if "*" not in tags and getattr(params, "if_seq", 0) is None:
            params = msgspec.structs.replace(params, if_seq=view.job.seq)
        try:
            return _page(await self._call(request, route, context, params))
        except JobChanged:
            return _changed(await self._jobs.view(context, view.job.id))

    async def _submitted(self, request: HttpRequest, context: HttpContext, result: SubmitResult) -> Page:
        """The response to a submit: the job, after the wait that the client prefers."""
        wait = preferred_wait(request.head.listed("prefer"))
        applied: tuple[tuple[str, str], ...] = ()
        if wait is not None:
            applied = (("Preference-Applied", f"wait={wait:g}"),)
            if wait and result.state not in FINAL:

                async def until_final() -> None:
                    with context.account.wait():
                        await self._jobs.wait_until_final(context, result.job, wait)

                await request.until_gone(until_final)
        view = await self._jobs.view(context, result.job)
        created = ("Trio-Jobs-Created", "true" if result.created else "false")
        starts_in = (result.expected_wait or 0.0) if result.created and not wait else None
        return self._jobs.page(view, self._jobs.location(result.job), created, *applied, starts_in=starts_in)
