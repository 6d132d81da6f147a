"""A job as a response in HTTP: its status, its headers and its body, which is the same wherever a job is answered."""

from __future__ import annotations

import math
import re
from collections.abc import Awaitable, Callable
from typing import Any, Final, final

import attrs
import msgspec
import trio

from trio_jobs._backend import Backend
from trio_jobs._engine.event_cursor import Cursor, Filter
from trio_jobs._engine.jobs import FINAL, State
from trio_jobs._server.http import JSON, Page
from trio_jobs._server.http_context import HttpContext
from trio_jobs._server.identity import Identity
from trio_jobs._server.methods import Deferred, Methods
from trio_jobs._wire import methods as w
from trio_jobs._wire.codes import ErrorCode
from trio_jobs._wire.jsonrpc import RpcError
from trio_jobs._wire.schemas import WireJob

__all__ = ["JobPages", "ShownJob", "entity_tags", "matches", "preferred_wait"]

MAX_WAIT: Final = 30.0  #: seconds
MAX_RETRY_AFTER: Final = 60  #: seconds
MAX_LOOKED_UP: Final = 200  #: pending jobs; to look the position of one up reads them all
FORMAT: Final = 1  #: of the body of a job; a part of its entity tag
CACHE: Final = (("Cache-Control", "private, no-cache"), ("Vary", "Authorization"))

_encode: Final = msgspec.json.Encoder().encode
_WAIT: Final = re.compile(r"wait\s*=\s*\"?([0-9]{1,6})\"?")
#: Elements of a list (https://www.rfc-editor.org/rfc/rfc9110#section-8.8.3): a tag can contain commas
_TAGS: Final = re.compile(r'(?:[ \t]*+(?:(?:\*|(?:W/)?"[!#-~]*+")[ \t]*+)?+(?:,|\Z))*+')
_TAG: Final = re.compile(r'\*|(?:W/)?"[!#-~]*"')


@attrs.frozen
class ShownJob:
    """A job as a token is shown it."""

    job: WireJob
    body: bytes
    etag: str

    @property
    def is_final(self) -> bool:
        return self.job.state in FINAL


def rights_of(identity: Identity) -> str:
    """What a client is sent of a job, for its entity tag."""
    return identity.scope if identity.ticket is None else "-".join(("ticket", *sorted(identity.ticket.show)))


def matches(tags: list[str], etag: str) -> bool:
    """Whether a list of entity tags contains one, by the weak comparison, or is "*"."""
    own = etag.removeprefix("W/")
    return any(tag == "*" or tag.removeprefix("W/") == own for tag in tags)


def entity_tags(name: str, value: str | None) -> list[str]:
    """The elements of header If-Match or If-None-Match, each an entity tag or "*"; empty without the header.

    Raises:
        RpcError: It is not a list of entity tags.
    """
    if not value:
        return []
    if _TAGS.fullmatch(value) is None:
        raise RpcError(ErrorCode.INVALID_PARAMS, f"header {name} is not a list of entity tags")
    return _TAG.findall(value)


def preferred_wait(preferences: list[str]) -> float | None:
    """The seconds of `wait=n` in header Prefer, at most 30; None without one. Other preferences are ignored."""
    for preference in preferences:
        found = _WAIT.fullmatch(preference.partition(";")[0].strip().lower())
        if found is not None:
            return min(float(found[1]), MAX_WAIT)
    return None


@final
class JobPages:
    """Makes the responses."""

    def __init__(self, backend: Backend, methods: Methods, prefix: str) -> None:
        self._backend = backend
        self._methods = methods
        self._prefix = prefix

    async def view(self, context: HttpContext, job_id: str, *, live: bool = False) -> ShownJob:
        """The job now, with its result. live: as of jobs.get.

        Raises:
            RpcError: The token does not allow it.
            JobNotFound: There is no such job.
        """
        found = await self._answer(context, "jobs.get", w.Get(job_id, live))
        job: WireJob = found.make()
        body = _encode(job)
        if job.state == "completed":
            result = await self._answer(context, "jobs.result", w.Result(job.id))
            answer = result.make() if isinstance(result, Deferred) else result
            if answer.result is not msgspec.UNSET:
                body = body[:-1] + b',"result":' + _encode(answer.result) + b"}"
        tag = f'W/"{self._backend.epoch}.{job.seq}.{rights_of(context.identity)}.{FORMAT}"'
        return ShownJob(job, body + b"\n", tag)

    async def _answer(self, context: HttpContext, method: str, params: Any) -> Any:
        return await self._methods.answer(context, w.METHODS[method], params)

    def page(
        self, view: ShownJob, *headers: tuple[str, str], live: bool = False, starts_in: float | None = None
    ) -> Page:
        """200 if the job is final, otherwise 202 with the time after which to ask again.

        Args:
            view: The job.
            headers: Further headers.
            live: The body has what changes without an event of the job, so that there is no ETag.
            starts_in: The expected seconds until the job starts. None: they are looked up, or with many pending jobs
                those of the last one.
        """
        given = (*(() if live else (("ETag", view.etag),)), *CACHE, *headers)
        if view.is_final:
            return Page(200, JSON, view.body, given)
        return Page(202, JSON, view.body, (*given, ("Retry-After", str(self._estimate(view.job.id, starts_in)))))

    def _estimate(self, job_id: str, starts_in: float | None) -> int:
        """Seconds after which the job has commonly ended: at least 1, at most 60."""
        statistics = self._backend.statistics()
        mean, pending = statistics.mean_run or 0.0, statistics.jobs.get(State.PENDING, 0)
        if starts_in is None and pending > MAX_LOOKED_UP:
            starts_in = pending * mean
        elif starts_in is None:
            starts_in = self._backend.live(self._backend.get(job_id, brief=True)).expected_wait or 0.0
        return max(1, min(MAX_RETRY_AFTER, math.ceil(starts_in + mean)))

    def location(self, job_id: str) -> tuple[str, str]:
        """The header that names the path of a job."""
        return ("Location", f"{self._prefix}/v1/jobs/{job_id}")

    async def wait_until_final(self, context: HttpContext, job_id: str, seconds: float) -> None:
        """Wait until the job is final or in doubt, at most so many seconds."""
        await self._answer(context, "jobs.result", w.Result(job_id, seconds, "answer"))

    async def wait_until_changed(self, job: WireJob, seconds: float) -> None:
        """Wait until there is an event of the job behind those of `job`, at most so many seconds."""
        changed = trio.Event()
        cursor = Cursor(self._backend.events, self._backend.events.seq, Filter((job.id,)), changed.set)
        if self._backend.get(job.id, brief=True).seq != job.seq or cursor.source.closed:
            return
        cursor.attach()
        try:
            with trio.move_on_after(seconds):
                await changed.wait()
        finally:
            cursor.end()

    async def get(
        self,
        context: HttpContext,
        params: Any,
        seconds: float | None,
        tags: list[str],
        until_gone: Callable[[Callable[[], Awaitable[None]]], Awaitable[object]],
    ) -> Page:
        """The response to a request for a job.

        Args:
            context: The request.
            params: Of jobs.get.
            seconds: With `tags`: wait until the job is another. Without: until it is final. None: do not wait.
            tags: Of If-None-Match.
            until_gone: See `HttpRequest`.
        """
        view = await self.view(context, params.job, live=params.live)
        if params.live:
            return self.page(view, live=True)
        if seconds and (matches(tags, view.etag) if tags else not view.is_final):
            seen, most = view, seconds

            async def wait() -> None:
                with context.account.wait():
                    if tags:
                        await self.wait_until_changed(seen.job, most)
                    else:
                        await self.wait_until_final(context, seen.job.id, most)

            await until_gone(wait)
            view = await self.view(context, view.job.id)
        if matches(tags, view.etag):
            return Page(304, "", b"", (("ETag", view.etag), *CACHE))
        return self.page(view)
