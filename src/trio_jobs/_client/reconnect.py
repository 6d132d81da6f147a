"""Keeps a session with the server, and replaces it when it is lost, for as long as the client exists."""

from __future__ import annotations

import random
import re
import ssl
from collections.abc import Callable
from typing import Final
from urllib.parse import SplitResult, urlsplit

import msgspec
import trio
from trio_websocket import HandshakeError, wrap_client_stream
from wsproto.utilities import ProtocolError

from trio_jobs._client.errors import as_exception
from trio_jobs._client.session import ConnectionLost, Session
from trio_jobs._concurrency import single_cause
from trio_jobs._errors import ConnectionFailed, PermissionDenied, TrioJobsError, UsageError
from trio_jobs._wire.codes import PROTOCOL, CloseCode
from trio_jobs._wire.jsonrpc import Answer, Notification
from trio_jobs._wire.methods import Hello, HelloResult, Params

__all__ = ["ReconnectingSession", "parse_url"]

MAX_MESSAGE: Final = 16 * 1024 * 1024  #: bytes of a message from the server: a page of 500 jobs with long errors
DIAL_TIMEOUT: Final = 10.0  #: seconds to connect, and again for the handshake
FIRST_WAIT = 0.05  #: seconds before the first new attempt to connect; doubled for each further one
LONGEST_WAIT: Final = 5.0
_TOKEN: Final = re.compile(r"[\x21-\x7e]+")
_REFUSALS: Final = frozenset({CloseCode.UNAUTHORISED, CloseCode.FOREIGN_ORIGIN})


def parse_url(url: str) -> SplitResult:
    """The parts of the URL, with a valid port. Raises `UsageError`."""
    try:
        where = urlsplit(url)
        _ = where.port
        url.encode("ascii")
    except ValueError:
        where = SplitResult("", "", "", "", "")
    if where.scheme not in ("ws", "wss") or not where.hostname or where.query:
        raise UsageError(f"a URL is ws://host:port/ws or wss://host:port/ws, not {url!r:.200}")
    return where


class _Untrusted(ConnectionFailed):
    """The certificate of the server is not trusted. Another attempt to connect would not help."""


class _EndDetector(trio.abc.Stream):
    """Calls `on_end` at the end of the stream. The handshake of trio-websocket waits for ever when the server closes
    the connection during it, as a server does that stops or that has reached its connection limit."""

    def __init__(self, stream: trio.abc.Stream, on_end: Callable[[], None]) -> None:
        self._stream = stream
        self._on_end = on_end

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        try:
            data = await self._stream.receive_some(max_bytes)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            self._on_end()
            raise
        if not data:
            self._on_end()
        return data

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        try:
            await self._stream.send_all(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            self._on_end()
            raise

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def aclose(self) -> None:
        await self._stream.aclose()


class ReconnectingSession:
    """The current session, if there is one.

    reconnect_timeout: seconds that a request waits for a session. Raises `UsageError` if the URL is invalid, or if the
    token has characters that a header cannot contain.
    """

    def __init__(self, url: str, token: str | None, tls: ssl.SSLContext | None, reconnect_timeout: float) -> None:
        self.on_notification: Callable[[Notification], None] = lambda notification: None
        self.on_session: Callable[[Session], None] = lambda session: None
        """Called with each new session."""
        self.on_refused: Callable[[TrioJobsError], None] = lambda error: None
        """Called when no further attempt to connect is made."""
        self.hello: HelloResult | None = None
        """The last answer to server.hello."""
        self.last_error: Exception | None = None
        """Why there is no session; None while there is one."""
        self.refused: PermissionDenied | ConnectionFailed | None = None
        """Why no further attempt to connect is made."""
        self.reconnects = 0
        """The number of lost sessions that were replaced."""
        self._closing = False
        self._reconnect_timeout = reconnect_timeout
        self.url = url
        self._where = parse_url(url)
        if token is not None and not _TOKEN.fullmatch(token):
            raise UsageError("a token consists of visible ASCII characters without spaces; this one does not")
        self._headers = [] if token is None else [(b"Authorization", f"Bearer {token}".encode("ascii"))]
        self._tls = tls
        self._session: Session | None = None
        self._changed = trio.Event()

    async def run(self) -> None:
        """Connect again and again, until the server refuses the token or is not trusted."""
        failures = 0
        while self.refused is None and not self._closing:
            before = self.hello
            try:
                await self._one_session()
            except* (
                OSError,
                HandshakeError,
                ConnectionFailed,
                trio.TooSlowError,
                trio.ClosedResourceError,
                ProtocolError,
            ) as group:
                self._fail(group)
            failures = 0 if self.hello is not before else failures + 1
            if self.refused is None and not self._closing:
                wait = min(FIRST_WAIT * 2**failures, LONGEST_WAIT)
                await trio.sleep(wait * random.uniform(0.5, 1.0))

    def _fail(self, group: BaseExceptionGroup[BaseException]) -> None:
        error = single_cause(group)
        assert isinstance(error, Exception)
        self.last_error = error
        if isinstance(error, ConnectionLost) and error.code in _REFUSALS:
            self.refused = PermissionDenied(f"the server refuses the connection: {error.reason}")
        elif isinstance(error, _Untrusted):
            self.refused = error
        if self.refused is not None:
            self.on_refused(self.refused)
        self._wake_waiters()

    def _wake_waiters(self) -> None:
        self._changed.set()
        self._changed = trio.Event()

    async def _one_session(self) -> None:
        with trio.fail_after(DIAL_TIMEOUT):
            stream = await self._dial()
        try:
            async with trio.open_nursery() as nursery:
                with trio.fail_after(DIAL_TIMEOUT), trio.CancelScope() as handshake:
                    websocket = await wrap_client_stream(
                        nursery,
                        _EndDetector(stream, handshake.cancel),  # type: ignore[arg-type] # any Stream will do
                        self._where.netloc.rpartition("@")[2],
                        self._where.path or "/ws",
                        subprotocols=[PROTOCOL],
                        extra_headers=self._headers,
                        max_message_size=MAX_MESSAGE,
                    )
                if handshake.cancelled_caught:
                    raise ConnectionLost("the server closed the connection during the handshake")
                session = Session(websocket, lambda notification: self.on_notification(notification))
                nursery.start_soon(self._greet, session)
                nursery.start_soon(session.keep_alive)
                await session.read()
        finally:
            self._session = None
            # trio-websocket leaves the stream open when the server closed first
            await trio.aclose_forcefully(stream)

    async def _dial(self) -> trio.SocketStream | trio.SSLStream[trio.SocketStream]:
        host, port = self._where.hostname or "", self._where.port
        if self._where.scheme == "ws":
            return await trio.open_tcp_stream(host, port or 80)
        tls = self._tls or ssl.create_default_context()
        stream = await trio.open_ssl_over_tcp_stream(host, port or 443, ssl_context=tls, https_compatible=True)
        try:  # not within the first send, where trio-websocket would hide the error
            await stream.do_handshake()
        except BaseException as error:
            await trio.aclose_forcefully(stream)
            if not isinstance(error, trio.BrokenResourceError):
                raise
            why = error.__cause__
            if isinstance(why, ssl.SSLCertVerificationError):
                raise _Untrusted(f"the certificate of {self.url} is not trusted: {why.verify_message}") from why
            raise ConnectionLost(f"no TLS connection: {why or 'it was closed'}") from why
        return stream

    async def aclose(self) -> None:
        """Close the session, within a second. `run` must still be running, since it reads the answer."""
        self._closing = True
        if self._session is not None:
            await self._session.aclose()

    async def _greet(self, session: Session) -> None:
        with trio.fail_after(DIAL_TIMEOUT):
            answer = await session.ask("server.hello", Hello())
        if answer.error is not None:
            raise ConnectionLost(f"the server answered server.hello with an error: {answer.error.message}")
        if self.hello is not None:
            self.reconnects += 1
        self.hello = msgspec.json.decode(answer.result, type=HelloResult)
        self.last_error = None
        session.epoch = self.hello.epoch
        self._session = session
        self._wake_waiters()
        self.on_session(session)

    @property
    def current(self) -> Session | None:
        return self._session

    async def session(self, reconnect_timeout: float | None = None) -> Session:
        """Wait for a session. reconnect_timeout: seconds, where they differ from those of the constructor.

        Raises `ConnectionFailed`, `PermissionDenied`.
        """
        return await self._session_within(self._reconnect_timeout if reconnect_timeout is None else reconnect_timeout)

    async def first_session(self, timeout: float) -> None:
        """Wait for the first session, `timeout` seconds. Raises `ConnectionFailed`, `PermissionDenied`."""
        await self._session_within(timeout)

    async def _session_within(self, timeout: float) -> Session:
        with trio.move_on_after(timeout):
            while self._session is None or self._session.lost is not None:
                if self.refused is not None:
                    raise self.refused
                await self._changed.wait()
            return self._session
        why = self.last_error
        raise ConnectionFailed(f"no server answers at {self.url}: {why or 'not in time'}") from why

    async def ask(self, method: str, params: Params, *, repeatable: bool, kind: str = "") -> Answer:
        """Send a request; if it is repeatable, again on the next session after a lost one.

        Raises the errors of the queue, and `ConnectionFailed`.
        """
        while True:
            session = await self.session()
            try:
                answer = await session.ask(method, params)
            except ConnectionLost as lost:
                if repeatable:
                    await trio.lowlevel.checkpoint()
                    continue
                raise ConnectionFailed(f"{lost}; {method} may or may not have been done") from None
            if answer.error is not None:
                error: TrioJobsError = as_exception(answer.error, kind)
                raise error
            return answer
