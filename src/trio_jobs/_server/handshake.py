"""The first request of a connection, and the checks of every later one."""

from __future__ import annotations

import math
import re
import ssl
from collections.abc import Collection
from typing import Final, final

import attrs
import trio

from trio_jobs._server.address_limiter import AddressLimiter
from trio_jobs._server.credentials import Credentials
from trio_jobs._server.http import refusal, response
from trio_jobs._server.identity import Identity, InvalidCredential, Problem
from trio_jobs._server.known_token import ANYONE
from trio_jobs._server.public_url import PublicUrl
from trio_jobs._server.refusals import Reason, Refusals
from trio_jobs._server.request import BadRequest, HeadBuffer, RequestHead, check_hosts, parse, replay, wants_websocket
from trio_jobs._server.stream import SocketTransport

__all__ = ["FirstRequest", "Handshake", "Peer", "RequestReader", "close_gently", "ticket_in"]

STRANGERS: Final = 200  #: requests without a token of one address at once: some loads of the web page
STRANGERS_PER_SECOND: Final = 50.0  #: their rate
LINGER: Final = 0.5  #: seconds for a client to read the response before the connection is closed


@attrs.frozen
class Handshake:
    """The checked handshake of a WebSocket client."""

    handshake: bytes
    """The request head to be replayed to trio-websocket."""
    origin: str | None
    """The origin of the web page; None if the client is not a browser."""
    host: str | None
    """Header host."""
    identity: Identity | Problem
    """The client; or why it cannot be identified."""


@attrs.frozen
class FirstRequest:
    """A plain HTTP request with which a connection has begun."""

    head: RequestHead
    rest: bytes
    """What was received after the head."""


@attrs.define(eq=False)
class Peer:
    """What is known about the client of a connection, for messages about a refusal."""

    host: str
    """Its address."""
    forwarded_for: str | None = None
    """The address that a proxy has named."""
    name: str | None = None
    """The name of its token."""
    served: bool = False
    """A request of it was answered."""
    began: bool = False
    """It has sent a part of its request. Browsers and health checks open connections on which they send nothing."""
    refused: bool = False
    """It was refused, and this was counted."""

    @property
    def address(self) -> str:
        """Its address, with the one that a proxy has named, and the name of its token."""
        proxied = "" if self.forwarded_for is None else f" (X-Forwarded-For {self.forwarded_for})"
        return f"{self.host}{proxied}" + ("" if self.name is None else f" ({self.name})")


#: Paths that take a ticket in their query, so that a link or an EventSource can have one
_FOR_TICKETS: Final = re.compile(r"/v1/(events|jobs/[^/]+)")
#: A ticket; a token is never taken from a query, which ends up in logs and histories
_TICKET: Final = re.compile(r"(?:^|&)ticket=(t1\.[A-Za-z0-9._~-]{1,4000})(?=&|$)")


def ticket_in(head: RequestHead) -> str | None:
    """The ticket in the query of a request for one job or its events; None without one."""
    if head.method not in ("GET", "HEAD") or _FOR_TICKETS.fullmatch(head.path) is None:
        return None
    found = _TICKET.findall(head.query)
    return found[0] if len(found) == 1 else None


@final
class RequestReader:
    """Reads the first request of each connection, and checks the others.

    Args:
        hosts: The host names under which the server may be reached.
        tokens: The tokens of the server; None to accept every client.
        head_limit: The size of a request head in bytes.
        refusals: Where refused requests are counted.
        public: Where clients reach the server, if that is known.
    """

    def __init__(
        self,
        hosts: Collection[str],
        tokens: Credentials | None,
        head_limit: int,
        refusals: Refusals,
        public: PublicUrl | None = None,
    ) -> None:
        self._public = public
        self._strangers = AddressLimiter(STRANGERS, STRANGERS_PER_SECOND)
        self._hosts = hosts
        self._tokens = tokens
        self._head_limit = head_limit
        self._refusals = refusals

    async def read(self, transport: trio.abc.Stream, peer: Peer) -> Handshake | FirstRequest | None:
        """Read the first request. None if it was refused, which the client was sent.

        A method of its own, so that its buffers are freed when it returns.

        Raises:
            trio.BrokenResourceError: The connection is lost.

        Cancelled:
            The client may have been sent a part of the refusal.
        """
        if isinstance(transport, trio.SSLStream) and not await self._begin_tls(transport, peer):
            return None
        head: RequestHead | None = None
        try:
            data, more = await self._read_head(transport, peer)
            head = self.parse(data, peer)
            if head.path != "/ws" and not wants_websocket(head):
                return FirstRequest(head, more)
            identity = self.check(head)
            if isinstance(identity, Problem):
                self.limit_strangers(peer)
            handshake = replay(head)
            if more or head.body != 0:
                raise BadRequest(400, "data was sent before the handshake was answered")
            return Handshake(handshake, head.get("origin"), head.get("host"), identity)
        except BadRequest as bad:
            if bad.reason is not None:
                self.refuse(bad.reason, bad.why, peer)
            answer = response(head, refusal(bad))
        await transport.send_all(answer)
        await close_gently(transport)
        return None

    def parse(self, data: bytes, peer: Peer) -> RequestHead:
        """Parse a head, and note what it says about the client.

        Raises:
            BadRequest: The head is malformed or ambiguous.
        """
        head = parse(data)
        if head.forwarded_for is not None:
            peer.forwarded_for = head.forwarded_for
        return head if self._public is None else attrs.evolve(head, path=self._public.local_path(head.path))

    def check(self, head: RequestHead) -> Identity | Problem:
        """Return the client of a request, or why it cannot be identified.

        Raises:
            BadRequest: The request is for a host name that the server does not have.
        """
        check_hosts(head, self._hosts)
        if self._tokens is None:
            return ANYONE
        ticket = ticket_in(head)
        try:
            if ticket is not None and head.get("authorization") is None:
                return self._tokens.identify(ticket)
            return self._tokens.authorise(head.get("authorization"), head.listed("sec-websocket-protocol"))
        except InvalidCredential as error:
            return error.problem

    def limit_strangers(self, peer: Peer) -> None:
        """Count a request of a client that cannot be identified.

        Raises:
            BadRequest: Too many of them come from its address.
        """
        wait = self._strangers.take(peer.host, 1, trio.current_time())
        if wait > 0:
            after = (("Retry-After", str(math.ceil(wait))),)
            raise BadRequest(429, "too many requests without a token come from this address", after, reason=Reason.RATE)

    async def _begin_tls(self, transport: trio.SSLStream[trio.abc.Stream], peer: Peer) -> bool:
        """Return whether the TLS handshake has succeeded."""
        peer.began = True
        try:
            await transport.do_handshake()
        except trio.BrokenResourceError as error:
            cause = error.__cause__
            if not isinstance(cause, ssl.SSLError) or isinstance(cause, ssl.SSLEOFError):
                raise  # the client has disconnected, as a health check of TCP does
            self.refuse(Reason.TLS, f"the TLS handshake failed: {cause.reason or cause}", peer)
            return False
        peer.began = False
        return True

    async def _read_head(self, transport: trio.abc.Stream, peer: Peer) -> tuple[bytes, bytes]:
        """Return the bytes of the head, and the bytes that were received after it.

        Raises:
            BadRequest: The head is too large, or has a byte that no head has.
            trio.BrokenResourceError: The client has disconnected.
        """
        buffer = HeadBuffer(self._head_limit)
        while True:
            data = await transport.receive_some(buffer.missing)
            if not data:
                raise trio.BrokenResourceError("the client disconnected within its request head")
            peer.began = True
            found = buffer.feed(data)
            if found is not None:
                return found

    def refuse(self, reason: Reason, detail: str, peer: Peer) -> None:
        """Count a refusal."""
        peer.refused = True
        self._refusals.add(reason, detail, peer.address)


async def close_gently(transport: trio.abc.Stream) -> None:
    """Let the client read the response first: a close with unread bytes would reset the connection."""
    if isinstance(transport, trio.SSLStream):  # the response has its length, so the client needs no end of TLS
        transport = transport.transport_stream
    if isinstance(transport, SocketTransport):
        await transport.stream.send_eof()
        with trio.move_on_after(LINGER):
            while await transport.receive_some(4096):
                pass
