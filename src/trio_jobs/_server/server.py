"""`async with trio_jobs.serve(queue)`: the server as a whole, and how it stops.

The connections live behind a shield, as the queue's loops do: whatever happens to the block, its end runs whole, and
tells every client that we are going (1001) while all of them are still read from. Cancelling them would tell nobody,
and closing them one after another would take a timeout each.
"""

from __future__ import annotations

import ipaddress
import logging
import socket
import ssl
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from typing import Final, final

import attrs
import trio

from trio_jobs._backend import Backend, BackendHolder
from trio_jobs._concurrency import bare_nursery
from trio_jobs._engine.status import Progress
from trio_jobs._errors import UsageError
from trio_jobs._server.connection import Connection
from trio_jobs._server.event_bodies import EventBodies
from trio_jobs._server.http import Pages, refusal, response
from trio_jobs._server.limits import ServerLimits
from trio_jobs._server.listener import accept_forever, listen
from trio_jobs._server.methods import Methods
from trio_jobs._server.metrics import Metrics, is_available
from trio_jobs._server.multicast import Multicasts
from trio_jobs._server.request import BadRequest, RequestHead, parse, replay, wants_websocket
from trio_jobs._server.stream import CountedStream, GuardedStream
from trio_jobs._server.tokens import NOBODY, Token, Tokens
from trio_jobs._wire.codes import CloseCode

__all__ = ["DEFAULT_PORT", "Server", "serve"]

log: Final = logging.getLogger("trio_jobs.server")

DEFAULT_PORT: Final = 7373
LAST_WORDS: Final = 0.25  #: seconds at the end for answers under way; those that wait for something do not get it
PATIENCE: Final = 2.0  #: seconds for a handshake when there are many
GOODBYE: Final = 3.0  #: seconds in which all connections are closed at the end; each is bounded by less
LOCAL: Final = frozenset({"localhost"})


@attrs.frozen
class Handshake:
    """handshake: to replay to trio-websocket. origin: of the page, if it is one. token: None if it has no right one."""

    handshake: bytes
    origin: str | None
    token: Token | None


@final
class Server:
    """A running server. url: where clients connect. port: also where 0 was asked for."""

    def __init__(
        self,
        backend: Backend,
        listeners: Sequence[socket.socket],
        tokens: Tokens | None,
        tls: ssl.SSLContext | None,
        origins: Collection[str],
        hosts: Collection[str],
        limits: ServerLimits,
        metrics: bool,
    ) -> None:
        self.limits = limits
        self._backend = backend
        self._listeners = listeners
        self._tokens = tokens
        self._tls = tls
        self._origins = frozenset(origins)
        self._hosts = frozenset(host.lower() for host in hosts) | LOCAL
        self._methods = Methods(backend, self)
        self._metrics = Metrics(backend, self) if metrics and is_available() else None
        self._pages = Pages(backend, self, self._metrics)
        self._bodies = EventBodies(backend.events)
        self._multicasts = Multicasts(backend.events, self._bodies)
        self._open: dict[Connection, None] = {}
        self._pending: dict[trio.CancelScope, float] = {}
        self._moved = trio.lowlevel.ParkingLot()  # for who waits for room: somebody has said who it is, or is gone
        self._accepted = 0
        self._all_gone = trio.Event()
        self._closing = False
        host: str = listeners[0].getsockname()[0]
        self.port: int = listeners[0].getsockname()[1]
        shown = f"[{host}]" if ":" in host else host
        self.url = f"{'ws' if tls is None else 'wss'}://{shown}:{self.port}/ws"

    def __repr__(self) -> str:
        return f"<Server {self.url} {self.connections} connections, {self.subscriptions} subscriptions>"

    @property
    def connections(self) -> int:
        return len(self._open)

    @property
    def subscriptions(self) -> int:
        return sum(len(connection.subscribers) for connection in self._open)

    async def _run(self, scope: trio.CancelScope) -> None:
        with scope:
            async with trio.open_nursery() as nursery:

                async def begin(accepted: socket.socket) -> None:
                    await self._make_room()
                    self._admit(accepted, nursery)

                if self._metrics is not None:
                    nursery.start_soon(self._metrics.run)
                for listener in self._listeners:
                    nursery.start_soon(accept_forever, listener, begin)

    async def _make_room(self) -> None:
        """Wait until there is a place that a stranger may have; the oldest stranger has two seconds to become known.

        So a burst of honest clients waits its turn, and a thousand slow ones delay the next by two at worst. Where
        known clients have all the places nobody is waited for: the next is closed at once.
        """
        await trio.lowlevel.checkpoint()
        while self._is_crowded():
            oldest = next(iter(self._pending))
            with trio.move_on_at(self._pending[oldest] + PATIENCE):
                await self._moved.park()
                continue
            if oldest in self._pending:  # else it has said so in the very step in which its time was over
                oldest.cancel()
            while oldest in self._pending:  # its place is free only once it is gone
                await self._moved.park()

    def _is_crowded(self) -> bool:
        """Strangers have all the places that they may have, or all that known clients leave."""
        strangers = len(self._pending)
        return strangers >= self.limits.most_pending or (strangers > 0 and self._accepted >= self.limits.connections)

    def _is_known(self, scope: trio.CancelScope) -> None:
        if self._pending.pop(scope, None) is not None:
            self._moved.unpark_all()

    def _admit(self, accepted: socket.socket, nursery: trio.Nursery) -> None:
        limits = self.limits
        if self._closing or self._accepted >= limits.connections:
            accepted.close()
            return
        self._accepted += 1
        nursery.start_soon(self._serve, accepted)

    async def _serve(self, accepted: socket.socket) -> None:
        plain = trio.SocketStream(trio.socket.from_stdlib_socket(accepted))
        transport: trio.abc.Stream = plain
        raw: socket.socket | None = accepted
        if self._tls is not None:
            transport = trio.SSLStream(CountedStream(plain), self._tls, server_side=True, https_compatible=True)
            raw = None
        try:
            with trio.move_on_after(self.limits.head_timeout) as scope:
                self._pending[scope] = trio.current_time()
                guest = await self._greet(transport)
                if guest is not None:
                    await self._connect(transport, raw, guest, scope)
        except (trio.BrokenResourceError, trio.ClosedResourceError, OSError) as error:
            log.debug("a connection broke: %s", error)
        except Exception:
            log.exception("a connection failed")
        finally:
            await trio.aclose_forcefully(transport)
            self._accepted -= 1
            self._is_known(scope)
            self._moved.unpark_all()
            if self._closing and not self._accepted:
                self._all_gone.set()

    async def _greet(self, transport: trio.abc.Stream) -> Handshake | None:
        """Who wants a WebSocket, and may try; anyone else is answered here.

        What was read is let go of with this: a thousand heads kept would be two megabytes.
        """
        head: RequestHead | None = None
        try:
            data, more = await self._read_head(transport)
            head = parse(data, self._hosts)
            subprotocols = head.listed("sec-websocket-protocol")
            token = NOBODY if self._tokens is None else self._tokens.authorise(head.get("authorization"), subprotocols)
            if not wants_websocket(head):
                answer = response(head, self._pages.answer(head, token))
            else:
                handshake = replay(head)
                if more:
                    raise BadRequest(400, "frames before the handshake is answered")
                return Handshake(handshake, head.get("origin"), token)
        except BadRequest as bad:
            answer = refusal(head, bad)
        await transport.send_all(answer)
        await _close_gently(transport)
        return None

    async def _read_head(self, transport: trio.abc.Stream) -> tuple[bytes, bytes]:
        """The head, and what came with it. Raises `BadRequest`; BrokenResourceError where the client is gone before."""
        data = b""
        while (end := data.find(b"\r\n\r\n")) < 0:
            if len(data) >= self.limits.head:
                raise BadRequest(431, f"a head has at most {self.limits.head} bytes")
            more = await transport.receive_some(self.limits.head - len(data))
            if not more:
                raise trio.BrokenResourceError("gone before its head was whole")
            data += more
        return data[: end + 4], data[end + 4 :]

    async def _connect(
        self, transport: trio.abc.Stream, raw: socket.socket | None, guest: Handshake, scope: trio.CancelScope
    ) -> None:
        stream = GuardedStream(transport, raw, self.limits)
        stream.replay = guest.handshake
        refusal: tuple[int, str] | None = None
        origin, token = guest.origin, guest.token
        # a browser shows its page only close codes, so these are told after a handshake like any other
        if origin is not None and origin not in self._origins:
            refusal = (CloseCode.FOREIGN_ORIGIN, "pages of this origin are not served")
        elif token is None:
            refusal = (CloseCode.UNAUTHORISED, "no token, or a wrong one")
        connection = Connection(
            stream, token or NOBODY, self._backend, self._methods, self.limits, self._multicasts, self._bodies, refusal
        )

        def accepted() -> None:
            if refusal is None:  # else it stays a stranger, until it has read why
                scope.deadline = float("inf")
                self._is_known(scope)
            if self._closing:
                connection.leave(CloseCode.GOING_AWAY, "the server stops")

        self._open[connection] = None
        try:
            await connection.run(accepted)
        finally:
            del self._open[connection]

    def _on_progress(self, news: Progress) -> None:
        for connection in self._open:
            connection.on_progress(news)

    async def _stop(self) -> None:
        """Tell everyone, and wait until they are gone."""
        self._closing = True
        for listener in self._listeners:
            trio.lowlevel.notify_closing(listener)
            listener.close()
        for scope in [*self._pending]:
            scope.cancel()
        with trio.move_on_after(LAST_WORDS):
            # what has just come true is said before goodbye: the results and events of a drain that is over
            while any(connection.has_more_to_say for connection in self._open):  # noqa: ASYNC110 - the end, once
                await trio.sleep(0.005)
        for connection in [*self._open]:
            connection.leave(CloseCode.GOING_AWAY, "the server stops")
        if self._accepted:
            with trio.move_on_after(GOODBYE):
                await self._all_gone.wait()


async def _close_gently(transport: trio.abc.Stream) -> None:
    """Let the client read the answer before the connection is gone: closing with unread bytes would reset it."""
    if isinstance(transport, trio.SocketStream):
        await transport.send_eof()
        with trio.move_on_after(0.5):
            while await transport.receive_some(4096):
                pass


@asynccontextmanager
async def serve(
    queue: BackendHolder,
    host: str = "127.0.0.1",
    port: int = DEFAULT_PORT,
    *,
    tokens: Collection[Token] | None,
    tls: ssl.SSLContext | None = None,
    insecure: bool = False,
    origins: Collection[str] = (),
    hosts: Collection[str] = (),
    metrics: bool = True,
    limits: ServerLimits | None = None,
) -> AsyncIterator[Server]:
    """Serve `queue` while the block runs: `async with trio_jobs.serve(queue, tokens=[token]) as server`.

    host, port: where; port 0 for any free one. tokens: who may; None for anyone, on this machine only. tls: the
    certificate. insecure: allow another address than this machine's without tls; tokens and payloads then pass readable
    through the network. origins: of web pages that may connect, as "https://example.org". hosts: names under which the
    server is reached, besides localhost and addresses. metrics: offer /metrics, if prometheus-client is installed.

    Raises `UsageError`, OSError before the block begins. At its end every client is told 1001, within three seconds.
    The queue goes on. Cancelled: the same.
    """
    if isinstance(tokens, Token | str):
        raise UsageError("tokens must be a list of Token, or None for none")
    if not _is_loopback(host):
        if tls is None and not insecure:
            raise UsageError(f"{host!r} is not this machine alone: serve it with tls, or say insecure=True")
        if tokens is None:
            raise UsageError(f"{host!r} is not this machine alone: without tokens anyone could do anything")
    if tokens is not None and not tokens:
        raise UsageError("no token is given, so nobody could connect; say None where none shall be asked for")
    known = None if tokens is None else Tokens(tokens)
    listeners = await listen(host, port)

    backend = queue.backend
    server = Server(backend, listeners, known, tls, origins, {*hosts, host}, limits or ServerLimits(), metrics)
    scope = trio.CancelScope(shield=True)
    async with bare_nursery() as nursery:
        nursery.start_soon(server._run, scope)
        backend.progress_listeners.add(server._on_progress)
        try:
            yield server
        finally:
            backend.progress_listeners.remove(server._on_progress)
            with trio.CancelScope(shield=True):
                await server._stop()
            scope.cancel()


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
