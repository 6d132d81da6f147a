"""The plain HTTP requests of one connection: one at a time, until either side closes.

While a response is written, nothing is read: what a client has sent meanwhile waits in the kernel, and what was
received with the request is the beginning of the next one. While a request waits for a job, the connection is read, so
that a client that disconnects does not keep its place until the end of the wait.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final, Protocol, TypeAlias, TypeVar, final

import attrs
import trio

from trio_jobs._server.handshake import FirstRequest, Peer, RequestReader, close_gently
from trio_jobs._server.http import Page, refusal, response
from trio_jobs._server.http_body import Body, BodyMemory
from trio_jobs._server.identity import Identity, Problem
from trio_jobs._server.limits import ServerLimits
from trio_jobs._server.places import Places
from trio_jobs._server.problem_pages import refused
from trio_jobs._server.refusals import Reason
from trio_jobs._server.request import BadRequest, HeadBuffer, RequestHead, wants_websocket
from trio_jobs._server.stream import GuardedStream
from trio_jobs._wire.routes import PREFIX

__all__ = ["HttpConnection", "HttpRequest", "Respond", "Stream", "UntilGone"]

T = TypeVar("T")

MAX_AHEAD: Final = 16 * 1024  #: bytes of further requests that are received while a request waits

#: Sends a response itself, and ends the connection with it: a stream of events.
Stream: TypeAlias = Callable[[GuardedStream], Awaitable[None]]


class UntilGone(Protocol):
    """Ends a wait when the client disconnects or the server stops."""

    async def __call__(self, wait: Callable[[], Awaitable[T]], /) -> T | None:
        """Call `wait`. Returns None if its wait was ended."""
        ...


@final
@attrs.frozen(eq=False)
class HttpRequest:
    """A request that is being answered."""

    head: RequestHead
    identity: Identity | Problem
    """The client; or why it cannot be identified."""
    body: Body
    peer: Peer
    refuse: Callable[[Reason, str], None]
    """Count a refusal."""
    until_gone: UntilGone
    """Call a function that waits. It is cancelled, and the result is None, if the client disconnects or the server
    stops."""

    @property
    def known(self) -> Identity | None:
        """The client; None unless it has a token or a page session."""
        return None if isinstance(self.identity, Problem) or self.identity.ticket is not None else self.identity


Respond: TypeAlias = Callable[[HttpRequest], Awaitable["Page | Stream"]]


@final
class HttpConnection:
    """A connection that has begun with a plain HTTP request.

    Args:
        stream: For output.
        transport: For input.
        first: The first request.
        peer: The client.
        scope: The scope of the connection, by which `places` knows it.
        requests: Checks each head.
        respond: Answers a request. Raises `BadRequest` to refuse it.
    """

    def __init__(
        self,
        stream: GuardedStream,
        transport: trio.abc.Stream,
        first: FirstRequest,
        peer: Peer,
        scope: trio.CancelScope,
        requests: RequestReader,
        respond: Respond,
        memory: BodyMemory,
        places: Places,
        limits: ServerLimits,
    ) -> None:
        self.is_busy = True
        """A request is being answered."""
        self.is_closing = False
        """No further request is read."""
        self._stopping = trio.Event()
        self._stream = stream
        self._transport = transport
        self._first = first
        self._rest = first.rest
        self._peer = peer
        self._scope = scope
        self._requests = requests
        self._respond = respond
        self._memory = memory
        self._places = places
        self._limits = limits

    def stop(self) -> None:
        """End waits, and close the connection behind the response that is being made. An idle one is closed at once."""
        self.is_closing = True
        self._stopping.set()
        if not self.is_busy:
            self._scope.cancel()

    def end(self) -> None:
        """End the connection, also within a response."""
        self._scope.cancel()

    async def run(self) -> None:
        """Answer requests until either side closes the connection.

        Raises:
            trio.BrokenResourceError: The connection is lost.

        Cancelled:
            A response may have been sent in part.
        """
        head: RequestHead | None = self._first.head
        self._scope.deadline = float("inf")
        try:
            while head is not None and await self._answer(head):
                head = await self._next_head()
        finally:
            self._stream.forget_owner()
            if self._stream.stalled:
                self._refuse(Reason.SLOW, f"the client read nothing for {self._limits.write_timeout:g} s")
        await close_gently(self._transport)

    async def _answer(self, head: RequestHead) -> bool:
        """Answer a request. Returns whether another one may follow."""
        body = Body(head, self._rest, self._receive, self._stream.send_frames, self._memory)
        self._rest = b""
        try:
            identity = self._requests.check(head)
            if wants_websocket(head) and head is not self._first.head:
                raise BadRequest(400, "a WebSocket handshake must be the first request of its connection")
            if not isinstance(identity, Problem):
                self._places.know(self._scope)
                self._peer.name = identity.name
            answer = await self._respond(HttpRequest(head, identity, body, self._peer, self._refuse, self._until_gone))
        except BadRequest as bad:
            may_follow = bad.reason is None
            if bad.reason is not None:
                self._refuse(bad.reason, bad.why)
            answer = refused(bad) if head.path.startswith(PREFIX) else refusal(bad)
        else:
            may_follow = True
        if callable(answer):
            await answer(self._stream)
            return False
        self._rest = body.rest + self._rest
        may_follow = may_follow and body.is_read and self._may_keep(head)
        await self._stream.send_frames(response(head, answer, keep=may_follow))
        self._peer.served = True
        return may_follow and not self.is_closing

    def _refuse(self, reason: Reason, detail: str) -> None:
        self._requests.refuse(reason, detail, self._peer)

    def _may_keep(self, head: RequestHead) -> bool:
        if head.minor == 0 or self.is_closing or "close" in (part.lower() for part in head.listed("connection")):
            return False
        return self._places.keep(self._scope)

    async def _next_head(self) -> RequestHead | None:
        """Wait for the next request. None if the client has closed the connection, sent none, or was refused."""
        buffer = HeadBuffer(self._limits.head)
        data = self._rest
        self._peer.began = bool(data)
        try:
            if not data:
                data = await self._idle(buffer.missing)
            self._peer.began = True
            with trio.move_on_after(self._limits.head_timeout):
                while data:
                    found = buffer.feed(data)
                    if found is not None:
                        self._rest = found[1]
                        return self._requests.parse(found[0], self._peer)
                    data = await self._receive(buffer.missing)
                return None
            if data is not None:
                raise BadRequest(408, "the request was not complete in time", reason=Reason.TIMEOUT)
        except BadRequest as bad:
            self._requests.refuse(bad.reason or Reason.REQUEST, bad.why, self._peer)
            await self._stream.send_frames(response(None, refusal(bad)))
        return None

    async def _idle(self, most: int) -> bytes:
        self.is_busy = False
        self._places.rest(self._scope)
        try:
            with trio.move_on_after(self._limits.keep_alive):
                return await self._receive(most)
            return b""
        finally:
            self._places.wake(self._scope)
            self.is_busy = True

    async def _receive(self, most: int) -> bytes:
        return bytes(await self._transport.receive_some(most))

    async def _until_gone(self, wait: Callable[[], Awaitable[T]], /) -> T | None:
        result: T | None = None
        failure: Exception | None = None

        @trio.lowlevel.enable_ki_protection
        async def call() -> None:
            nonlocal result, failure
            try:
                result = await wait()
            except Exception as error:  # raised below, without the group of the nursery
                failure = error
            nursery.cancel_scope.cancel()

        @trio.lowlevel.enable_ki_protection
        async def stop() -> None:
            await self._stopping.wait()
            nursery.cancel_scope.cancel()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(call)
            nursery.start_soon(stop)
            if await self._is_gone():
                nursery.cancel_scope.cancel()
        if failure is not None:
            try:
                raise failure
            finally:
                del failure  # no reference cycle through this frame
        return result

    async def _is_gone(self) -> bool:
        """Receive what the client sends, until it disconnects, or has sent so much that nothing more is received."""
        try:
            while len(self._rest) < MAX_AHEAD:
                data = await self._receive(MAX_AHEAD)
                if not data:
                    return True
                self._rest += data
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            return True
        return False
