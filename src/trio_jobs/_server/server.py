"""`async with trio_jobs.serve(queue)`: the server as a whole, and how it stops.

The connections run behind a shield, as the loops of the queue do. However the block ends, the stop runs to its end: it
sends close code 1001 to all clients, and only then ends the tasks of their connections. A cancellation would send no
close frame, and closing the connections one after another could take a timeout for each.
"""

from __future__ import annotations

import random
import socket
import ssl
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Final, final

import trio

from trio_jobs._backend import Backend, BackendHolder
from trio_jobs._concurrency import bare_nursery, is_cancellation, protected_manager
from trio_jobs._engine.progress import Progress
from trio_jobs._exception_tree import contains
from trio_jobs._log import Log
from trio_jobs._server.access import Access
from trio_jobs._server.accounts import Accounts
from trio_jobs._server.api import Api
from trio_jobs._server.certificates import Certificate, CertificateFiles
from trio_jobs._server.connection import Connection
from trio_jobs._server.cors import OriginRules
from trio_jobs._server.followed_jobs import FollowedJobs
from trio_jobs._server.handshake import Handshake, Peer, RequestReader
from trio_jobs._server.http import Pages
from trio_jobs._server.http_server import HttpServer
from trio_jobs._server.identity import Problem
from trio_jobs._server.keep_alive import KeepAlive
from trio_jobs._server.known_token import ANYONE
from trio_jobs._server.limits import ServerLimits
from trio_jobs._server.listener import accept_forever, listen
from trio_jobs._server.methods import Methods
from trio_jobs._server.metrics import Metrics, is_available
from trio_jobs._server.origins import check_origins
from trio_jobs._server.pacing import Pacer
from trio_jobs._server.page_logins import PageLogins
from trio_jobs._server.places import Places
from trio_jobs._server.public_url import PublicUrl
from trio_jobs._server.refusals import Reason, Refusals
from trio_jobs._server.request import check_host_names
from trio_jobs._server.serve_arguments import check_arguments
from trio_jobs._server.shared_events import EventsByScope
from trio_jobs._server.sse import SseParts
from trio_jobs._server.stream import GuardedStream, SocketTransport
from trio_jobs._server.tokens import Token
from trio_jobs._wire.codes import DEFAULT_PORT, CloseCode

__all__ = ["Server", "serve"]

log: Final = Log("trio_jobs.server")

LAST_ANSWERS_TIMEOUT: Final = 0.25  #: seconds for requests in progress at the stop; longer ones are not answered
STOP_TIMEOUT: Final = 3.0  #: seconds in which all connections are closed at the stop; the limit of each one is shorter
BATCH: Final = 100  #: connections that are closed in one step of the event loop: about 1 ms
LOCAL: Final = frozenset({"localhost"})


@final
class Server:
    """A running server, yielded by `serve`.

    Attributes:
        url: The URL for clients.
        port: The port, also if `serve` was called with port 0.
        limits: The limits in force.
        access, shared_events: Who may use it; the events as its clients are sent them.
    """

    def __init__(
        self,
        backend: Backend,
        listeners: Sequence[socket.socket],
        access: Access,
        tls: ssl.SSLContext | Certificate | None,
        origins: Collection[str],
        hosts: Collection[str],
        limits: ServerLimits,
        metrics: bool,
        page: bool = True,
        public: PublicUrl | None = None,
    ) -> None:
        self.access = access
        self.limits = limits
        self._backend = backend
        self._listeners = listeners
        self._tls = tls
        self._rules = OriginRules(origins, public)
        self._pacer = Pacer()
        self._followed = FollowedJobs(limits)
        self._methods = Methods(backend, self, self._pacer, access)
        self._metrics = Metrics(backend, self) if metrics and is_available() else None
        self._refusals = Refusals()
        self._requests = RequestReader(
            frozenset(hosts) | LOCAL, access.credentials, limits.head, self._refusals, public
        )
        self.shared_events = EventsByScope(backend.events)
        self._open: dict[Connection, None] = {}
        self._keep_alive = KeepAlive(limits.ping)
        self._places = Places(limits)
        pages = Pages(backend, self, self._metrics, page=page, prefix=self._rules.prefix)
        self._sse = SseParts(backend, self.shared_events, self._pacer, self._followed, random.random)
        self._accounts = Accounts(limits)
        api = Api(backend, self._methods, self._accounts, self._rules, self._sse)
        self._http = HttpServer(pages, api, self._requests, self._places, limits)
        if page:
            self._http.logins = PageLogins(access.logins, self._rules)
        self._closing = False
        host: str = listeners[0].getsockname()[0]
        self.port: int = listeners[0].getsockname()[1]
        shown = f"[{host}]" if ":" in host else host
        self.url = f"{'ws' if tls is None else 'wss'}://{shown}:{self.port}/ws"

    def __repr__(self) -> str:
        return f"<Server {self.url} {self.connections} connections, {self.subscriptions} subscriptions>"

    @property
    def connections(self) -> int:
        """The number of open WebSocket connections."""
        return len(self._open)

    @property
    def subscriptions(self) -> int:
        """The number of their subscriptions, and of streams over HTTP."""
        return sum(len(connection.subscribers) for connection in self._open) + len(self._sse.open)

    @property
    def refusals(self) -> Mapping[str, int]:
        """How many clients and requests were refused since the start, by reason."""
        return self._refusals.counts

    @property
    def certificate_not_after(self) -> datetime | None:
        """When the TLS certificate expires; None without `CertificateFiles`."""
        return self._tls.not_after if isinstance(self._tls, Certificate) else None

    @trio.lowlevel.enable_ki_protection
    async def _run(self, scope: trio.CancelScope) -> None:
        with scope:
            async with trio.open_nursery() as nursery:

                async def begin(accepted: socket.socket, address: str) -> None:
                    await self._places.make_room()
                    self._admit(accepted, address, nursery)

                nursery.start_soon(self._refusals.run)
                nursery.start_soon(self.access.watch, self._close_strangers)
                nursery.start_soon(self._keep_alive.run)
                if self._metrics is not None:
                    nursery.start_soon(self._metrics.run)
                for listener in self._listeners:
                    nursery.start_soon(accept_forever, listener, begin)

    def _admit(self, accepted: socket.socket, address: str, nursery: trio.Nursery) -> None:
        if self._closing or self._places.is_full:
            if not self._closing:
                most = self.limits.connections
                self._refusals.add(Reason.FULL, f"the server has {most} connections, its limit", address)
            accepted.close()
            return
        nursery.start_soon(self._serve, accepted, Peer(address), self._places.admit())

    @trio.lowlevel.enable_ki_protection
    async def _serve(self, accepted: socket.socket, peer: Peer, scope: trio.CancelScope) -> None:
        plain = SocketTransport(accepted)
        transport: trio.abc.Stream = plain
        raw: socket.socket | None = accepted
        try:
            try:
                with scope:
                    if self._tls is not None:
                        tls = self._tls.context() if isinstance(self._tls, Certificate) else self._tls
                        transport = trio.SSLStream(plain, tls, server_side=True, https_compatible=True)
                        raw = None
                    first = await self._requests.read(transport, peer)
                    if isinstance(first, Handshake):
                        await self._connect(transport, raw, first, peer, scope)
                    elif first is not None:
                        self._places.answer(scope)
                        await self._http.serve(transport, raw, first, peer, scope)
                if scope.cancelled_caught and not (self._closing or peer.refused or peer.served):
                    is_evicted = trio.current_time() < scope.deadline
                    if peer.began or is_evicted:
                        self._refusals.add(Reason.TIMEOUT, "the request was not complete in time", peer.address)
            finally:
                await trio.aclose_forcefully(transport)
        except (trio.BrokenResourceError, trio.ClosedResourceError, OSError) as error:
            log.debug("a connection was lost: %s", error)
        except BaseException as error:
            # a library logs within the connection, and a log handler of the program can raise anything
            if is_cancellation(error) or contains(error, KeyboardInterrupt):
                raise
            log.exception("a connection failed")
        finally:
            self._places.leave(scope)  # also if the close was cancelled, or has raised

    async def _connect(
        self,
        transport: trio.abc.Stream,
        raw: socket.socket | None,
        handshake: Handshake,
        peer: Peer,
        scope: trio.CancelScope,
    ) -> None:
        def refuse(reason: Reason, detail: str) -> None:
            peer.refused = True
            self._refusals.add(reason, detail, peer.address)

        stream = GuardedStream(transport, raw, self.limits)
        stream.replay = handshake.handshake
        refusal: tuple[int, str] | None = None
        origin, identity = handshake.origin, handshake.identity
        # a page in a browser can read close codes, but no HTTP status, so these are refused after the handshake
        if not self._rules.allows(origin, handshake.host):
            refusal = (CloseCode.FOREIGN_ORIGIN, "the origin of the page is not allowed")
            allow = f"to allow {origin:.100}, start the server with --origin, or serve(origins=[...])"
            refuse(Reason.ORIGIN, f"{refusal[1]}; {allow}")
        elif isinstance(identity, Problem):
            refusal = (CloseCode.UNAUTHORISED, str(identity))
            refuse(Reason.TOKEN, identity)
        else:
            peer.name = identity.name
        known = ANYONE if isinstance(identity, Problem) else identity
        connection = Connection(
            stream,
            known,
            self._backend,
            self._methods,
            self.limits,
            self.shared_events.of(known.scope),
            self._accounts.of(known),
            self.access,
            self._pacer,
            self._followed,
            refusal,
            on_refused=refuse,
        )

        def accepted() -> None:
            if refusal is None:  # otherwise head_timeout stays in force until the client has answered the close frame
                scope.deadline = float("inf")
                self._places.know(scope)
                self._keep_alive.add(connection)
            if self._closing:
                connection.leave(CloseCode.GOING_AWAY, "the server is stopping")

        self._open[connection] = None
        self._places.answer(scope)
        try:
            await connection.run(accepted)
        finally:
            del self._open[connection]
            self._keep_alive.remove(connection)

    async def _close_strangers(self) -> None:
        """Close the connections of clients whose token was removed, and whose page session or ticket has ended."""
        for number, connection in enumerate([*self._open], 1):
            problem = self.access.problem(connection.identity) if connection.is_established else None
            if problem is not None:
                connection.leave(CloseCode.UNAUTHORISED, problem)
            if number % BATCH == 0:
                await trio.lowlevel.checkpoint()
        await self._sse.close_strangers(self.access.problem)

    def _on_progress(self, news: Progress) -> None:
        for connection in self._open:
            connection.on_progress(news)
        self._sse.on_progress(news)

    async def _stop(self) -> None:
        """Close all connections, and wait until they have ended."""
        self._closing = True
        for listener in self._listeners:
            trio.lowlevel.notify_closing(listener)
            listener.close()
        self._places.close_unanswered()  # the others get a close frame
        self._http.stop()
        with trio.move_on_after(LAST_ANSWERS_TIMEOUT):
            # answers and events that are already available are sent before the close, such as those of a drain
            while any(connection.has_more_to_say for connection in self._open):  # noqa: ASYNC110 - once, at the stop
                await trio.sleep(0.005)
            while self._http.is_busy:  # noqa: ASYNC110 - as above
                await trio.sleep(0.005)
        self._http.end()
        await self._close_all(CloseCode.GOING_AWAY, "the server is stopping")
        self._refusals.flush()

    async def _close_all(self, code: CloseCode, reason: str) -> None:
        """Send all close frames first, then end the connections, in batches: their tasks take far longer.

        While the frames are sent, no answer to one is handled. After that, each connection ends when its client has
        answered, and those whose clients have not answered within `close_timeout` are ended.
        """
        ends_at = trio.current_time() + STOP_TIMEOUT
        everyone = [*self._open]
        batches = [(everyone[at : at + BATCH], trio.Event()) for at in range(0, len(everyone), BATCH)]
        busy = []
        for batch, gate in batches:
            busy += [one for one in batch if one.is_established and not one.close_nowait(code, reason, gate)]
            await trio.lowlevel.checkpoint()
        with trio.move_on_after(self.limits.close_timeout):
            async with trio.open_nursery() as nursery:
                for connection in busy:
                    nursery.start_soon(connection.close, code, reason)
        for _, gate in batches:
            gate.set()
            await trio.lowlevel.checkpoint()
        with trio.move_on_after(self.limits.close_timeout):
            await self._places.wait_until_empty()
            return
        for batch, _ in batches:
            for connection in batch:
                connection.leave(code, reason)
            await trio.lowlevel.checkpoint()
        with trio.move_on_at(ends_at):
            await self._places.wait_until_empty()


@protected_manager
async def serve(
    queue: BackendHolder,
    host: str = "127.0.0.1",
    port: int = DEFAULT_PORT,
    *,
    tokens: Collection[Token] | None,
    token_file: str | Path | None = None,
    tls: ssl.SSLContext | CertificateFiles | None = None,
    insecure: bool = False,
    origins: Collection[str] = (),
    hosts: Collection[str] = (),
    public_url: str | None = None,
    metrics: bool = True,
    page: bool = True,
    limits: ServerLimits | None = None,
) -> AsyncIterator[Server]:
    """Serve `queue` while the block runs: `async with trio_jobs.serve(queue, tokens=[token]) as server`.

    At the end of the block all connections are closed with code 1001, within about three seconds. The queue continues.

    Args:
        queue: The queue.
        host: The host name or address to listen on.
        port: The port; 0 for a free one.
        tokens: The tokens that are accepted; None to accept every client, which requires a loopback address.
        token_file: A file with further tokens, as `trio-jobs token` writes it. It is read again when it changes, and
            the connections of a removed token are closed. It need not exist.
        tls: The certificate of the server: `CertificateFiles`, which are read again when they change, or a TLS context
            with a certificate, which the caller renews.
        insecure: Allow an address that is not a loopback address without `tls`. Tokens and payloads are then readable
            on the network.
        origins: The origins of the web pages that may connect, such as "https://example.org". Pages whose origin has
            the host name and port of the request are allowed without it.
        hosts: The host names under which clients reach the server, in addition to localhost and addresses.
        public_url: The URL under which clients reach the server through a proxy, such as
            "https://example.org/queue". Its host name is allowed, its origin is the server's own, and paths may begin
            with its path. None: an origin with the host name and port of the request is the server's own.
        metrics: Offer /metrics, if prometheus-client is installed.
        page: Offer the web page at /. It shows nothing before it has a token.
        limits: The limits of the server; None for the defaults.

    Raises:
        UsageError: An argument is not valid. Raised before the block begins.
        OSError: The server cannot listen on that address. Raised before the block begins.

    Cancelled:
        The connections are closed in the same way, behind a shield.
    """
    check_arguments(host, tokens, token_file, tls, insecure=insecure)
    names, pages = check_host_names(hosts), check_origins(origins)
    public = None if public_url is None else PublicUrl.parse(public_url)
    names = names | {host.lower(), *([] if public is None else [public.host])}
    backend = queue.backend
    certificate = Certificate(tls, backend.now) if isinstance(tls, CertificateFiles) else tls
    file = None if token_file is None else Path(token_file)
    access = await Access.load(tokens, file, backend, None if public is None else public.url)
    listeners = await listen(host, port)
    limits = limits or ServerLimits()
    server = Server(backend, listeners, access, certificate, pages, names, limits, metrics, page, public)
    scope = trio.CancelScope(shield=True)
    async with bare_nursery() as nursery:
        nursery.start_soon(server._run, scope)
        backend.progress_listeners.add(server._on_progress)
        try:
            yield server
        finally:
            backend.progress_listeners.remove(server._on_progress)
            try:
                with trio.CancelScope(shield=True):
                    await server._stop()
            finally:  # also after Ctrl-C: the server is behind a shield
                scope.cancel()
