"""Keeps a session with the server, and makes a new one when it is lost, for as long as the client lives."""

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
from trio_jobs._errors import ConnectionFailed, PermissionDenied, TrioJobsError, UsageError
from trio_jobs._wire.codes import PROTOCOL, CloseCode
from trio_jobs._wire.jsonrpc import Answer, Notification
from trio_jobs._wire.methods import Hello, HelloResult, Params

__all__ = ["ReconnectingSession", "parse_url"]

MAX_MESSAGE: Final = 16 * 1024 * 1024  #: bytes of a message from the server: a page of 500 jobs with long errors
DIAL_TIMEOUT: Final = 10.0
FIRST_WAIT = 0.05  #: seconds before the first new try; doubled for each further one
LONGEST_WAIT: Final = 5.0
_SENDABLE: Final = re.compile(r"[\x21-\x7e]+")
_REFUSALS: Final = frozenset({CloseCode.UNAUTHORISED, CloseCode.FOREIGN_ORIGIN})


def parse_url(url: str) -> SplitResult:
    """Raises `UsageError` for one that is none; its port can be asked for after that."""
    try:
        where = urlsplit(url)
        _ = where.port
        url.encode("ascii")
    except ValueError:
        where = SplitResult("", "", "", "", "")
    if where.scheme not in ("ws", "wss") or not where.hostname or where.query:
        raise UsageError(f"an address is ws://host:port/ws or wss://..., not {url!r:.200}")
    return where


class _Untrusted(ConnectionFailed):
    """The server is not known to be the one it says it is. No try will change that."""


class _Ending(trio.abc.Stream):
    """Tells when nothing more will come. trio-websocket's handshake waits for ever when that happens during it, as it
    does while a server stops, or at one that has no place left."""

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
    """on_told: called with each notification. on_session: called, with the session, when there is a new one.
    on_refused: called when there will never be one again. hello: what the server said of itself. last_error: why there
    is no session, None while there is one. reconnects: how often a lost session was replaced. patience: seconds that a
    question waits for a session.

    Raises `UsageError` for a url that is none, and for a token that no header can carry.
    """

    def __init__(self, url: str, token: str | None, tls: ssl.SSLContext | None, reconnect_timeout: float) -> None:
        self.on_notification: Callable[[Notification], None] = lambda notification: None
        self.on_session: Callable[[Session], None] = lambda session: None
        self.on_refused: Callable[[TrioJobsError], None] = lambda error: None
        self.hello: HelloResult | None = None
        self.last_error: Exception | None = None
        self.refused: PermissionDenied | ConnectionFailed | None = None
        self.reconnects = 0
        self._closing = False
        self._reconnect_timeout = reconnect_timeout
        self.url = url
        self._where = parse_url(url)
        if token is not None and not _SENDABLE.fullmatch(token):
            raise UsageError("a token is of ASCII letters, digits and signs, without spaces; this one cannot be sent")
        self._headers = [] if token is None else [(b"Authorization", f"Bearer {token}".encode("ascii"))]
        self._tls = tls
        self._session: Session | None = None
        self._changed = trio.Event()

    async def run(self) -> None:
        """Until the server refuses us for good or is not to be trusted, or cancelled."""
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
        error: BaseException = group
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        assert isinstance(error, Exception)
        self.last_error = error
        if isinstance(error, ConnectionLost) and error.code in _REFUSALS:
            self.refused = PermissionDenied(f"the server refuses us: {error.reason}")
        elif isinstance(error, _Untrusted):
            self.refused = error
        if self.refused is not None:
            self.on_refused(self.refused)
        self._tell()

    def _tell(self) -> None:
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
                        _Ending(stream, handshake.cancel),  # type: ignore[arg-type] # any Stream will do
                        self._where.netloc.rpartition("@")[2],
                        self._where.path or "/ws",
                        subprotocols=[PROTOCOL],
                        extra_headers=self._headers,
                        max_message_size=MAX_MESSAGE,
                    )
                if handshake.cancelled_caught:
                    raise ConnectionLost("the connection was closed before the server had answered")
                session = Session(websocket, lambda notification: self.on_notification(notification))
                nursery.start_soon(self._welcome, session)
                nursery.start_soon(session.keep_alive)
                await session.read()
        finally:
            self._session = None
            # trio-websocket leaves it open when the server closed first
            await trio.aclose_forcefully(stream)

    async def _dial(self) -> trio.SocketStream | trio.SSLStream[trio.SocketStream]:
        host, port = self._where.hostname or "", self._where.port
        if self._where.scheme == "ws":
            return await trio.open_tcp_stream(host, port or 80)
        tls = self._tls or ssl.create_default_context()
        stream = await trio.open_ssl_over_tcp_stream(host, port or 443, ssl_context=tls, https_compatible=True)
        try:  # here, not within the first send: there trio-websocket would keep to itself what is wrong
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
        """Say goodbye, while the session still reads the answer; at most a second."""
        self._closing = True
        if self._session is not None:
            await self._session.aclose()

    async def _welcome(self, session: Session) -> None:
        with trio.fail_after(DIAL_TIMEOUT):
            answer = await session.ask("server.hello", Hello())
        if answer.error is not None:
            raise ConnectionLost(f"the server does not greet us: {answer.error.message}")
        if self.hello is not None:
            self.reconnects += 1
        self.hello = msgspec.json.decode(answer.result, type=HelloResult)
        self.last_error = None
        session.epoch = self.hello.epoch
        self._session = session
        self._tell()
        self.on_session(session)

    @property
    def current(self) -> Session | None:
        return self._session

    async def session(self, reconnect_timeout: float | None = None) -> Session:
        """The session, once there is one. patience: seconds to wait for it, where it is not the link's own.

        Raises `ConnectionFailed`, `PermissionDenied`.
        """
        return await self._session_within(self._reconnect_timeout if reconnect_timeout is None else reconnect_timeout)

    async def first_session(self, timeout: float) -> None:
        """Raises `ConnectionFailed`, `PermissionDenied`."""
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
        """Ask, again on the next session where that does no harm. Raises what the queue raises, `ConnectionFailed`."""
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
