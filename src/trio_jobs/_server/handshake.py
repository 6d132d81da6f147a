"""The first request of a connection: a plain HTTP request is answered, a WebSocket handshake is returned."""

from __future__ import annotations

import ssl
from collections.abc import Collection
from typing import Final, final

import attrs
import trio

from trio_jobs._server.http import Pages, refusal, response
from trio_jobs._server.refusals import Reason, Refusals
from trio_jobs._server.request import BadRequest, HeadBuffer, RequestHead, check_hosts, parse, replay, wants_websocket
from trio_jobs._server.stream import CountedStream
from trio_jobs._server.tokens import NO_TOKEN_REQUIRED, Token, Tokens

__all__ = ["Handshake", "Peer", "RequestReader"]

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
    token: Token | None
    """The token of the client; None without a valid one."""


@attrs.define(eq=False)
class Peer:
    """What is known about the client of a connection, for messages about a refusal."""

    address: str
    """Its address, with the one that a proxy has named."""
    began: bool = False
    """It has sent a part of its request. Browsers and health checks open connections on which they send nothing."""
    refused: bool = False
    """It was refused, and this was counted."""


@final
class RequestReader:
    """Reads the first request of each connection.

    Args:
        hosts: The host names under which the server may be reached.
        tokens: The tokens of the server; None to accept every client.
        pages: The answers to plain HTTP.
        head_limit: The size of a request head in bytes.
        refusals: Where refused requests are counted.
    """

    def __init__(
        self, hosts: Collection[str], tokens: Tokens | None, pages: Pages, head_limit: int, refusals: Refusals
    ) -> None:
        self._hosts = hosts
        self._tokens = tokens
        self._pages = pages
        self._head_limit = head_limit
        self._refusals = refusals

    async def read(self, transport: trio.abc.Stream, peer: Peer) -> Handshake | None:
        """Read the request. Return the handshake of a WebSocket client; answer any other request and return None.

        A method of its own, so that its buffers are freed when it returns.

        Raises:
            trio.BrokenResourceError: The connection is lost.

        Cancelled:
            The request may have been answered in part.
        """
        if isinstance(transport, trio.SSLStream) and not await self._begin_tls(transport, peer):
            return None
        head: RequestHead | None = None
        try:
            data, more = await self._read_head(transport, peer)
            head = parse(data)
            if head.forwarded_for is not None:
                peer.address += f" (X-Forwarded-For {head.forwarded_for})"
            check_hosts(head, self._hosts)
            if head.path == "/ws" or wants_websocket(head):
                handshake = replay(head)
                if more or head.body != 0:
                    raise BadRequest(400, "data was sent before the handshake was answered")
                return Handshake(handshake, head.get("origin"), head.get("host"), self._token(head))
            answer = response(head, self._pages.answer(head, self._token(head)))
        except BadRequest as bad:
            if bad.reason is not None:
                self._refuse(bad.reason, bad.why, peer)
            answer = refusal(head, bad)
        await transport.send_all(answer)
        await _close_gently(transport)
        return None

    def _token(self, head: RequestHead) -> Token | None:
        if self._tokens is None:
            return NO_TOKEN_REQUIRED
        return self._tokens.authorise(head.get("authorization"), head.listed("sec-websocket-protocol"))

    async def _begin_tls(self, transport: trio.SSLStream[trio.abc.Stream], peer: Peer) -> bool:
        """Return whether the TLS handshake has succeeded."""
        peer.began = True
        try:
            await transport.do_handshake()
        except trio.BrokenResourceError as error:
            cause = error.__cause__
            if not isinstance(cause, ssl.SSLError) or isinstance(cause, ssl.SSLEOFError):
                raise  # the client has disconnected, as a health check of TCP does
            self._refuse(Reason.TLS, f"the TLS handshake failed: {cause.reason or cause}", peer)
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

    def _refuse(self, reason: Reason, detail: str, peer: Peer) -> None:
        peer.refused = True
        self._refusals.add(reason, detail, peer.address)


async def _close_gently(transport: trio.abc.Stream) -> None:
    """Let the client read the response first: a close with unread bytes would reset the connection."""
    if isinstance(transport, trio.SSLStream):  # the response has its length, so the client needs no end of TLS
        transport = transport.transport_stream
    if isinstance(transport, CountedStream):
        transport = transport.stream
    if isinstance(transport, trio.SocketStream):
        await transport.send_eof()
        with trio.move_on_after(LINGER):
            while await transport.receive_some(4096):
                pass
