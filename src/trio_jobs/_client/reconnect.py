"""Keeps a session with the server, and replaces it when it is lost, for as long as the client exists.

A lost connection is replaced after a wait, which is doubled until a session has been useful: a server that accepts
connections and then closes them is not useful, nor is a session that the server closed because of what was sent.

A request is sent again on the next session only if that is harmless, or if it was not sent; and at most twice if the
sessions end because of what was sent.
"""

from __future__ import annotations

import random
import ssl
from collections.abc import Callable
from typing import Final

import msgspec
import trio
from trio_websocket import HandshakeError, wrap_client_stream
from wsproto.utilities import ProtocolError

from trio_jobs._client.backoff import Backoff
from trio_jobs._client.connection_errors import ConnectionLost, TooLarge
from trio_jobs._client.errors import as_exception
from trio_jobs._client.handshake import Rejected, Untrusted, dial, parse_url, rejection
from trio_jobs._client.outbox import Request
from trio_jobs._client.session import Session
from trio_jobs._client.stream import ClientStream
from trio_jobs._concurrency import ProtectedNursery, single_cause
from trio_jobs._errors import ConnectionFailed, InvalidPayload, OutcomeUnknown, PermissionDenied, UsageError
from trio_jobs._log import Log
from trio_jobs._wire.codes import PROTOCOL, CloseCode, ErrorCode
from trio_jobs._wire.jsonrpc import Answer, Notification
from trio_jobs._wire.methods import METHODS, Hello, HelloResult

__all__ = ["MOST_BLAMED", "ReconnectingSession"]

log: Final = Log("trio_jobs.client")

DIAL_TIMEOUT: Final = 10.0  #: seconds to connect, and again for the handshake
FIRST_WAIT = 0.05  #: seconds before the first new attempt to connect; doubled for each further one
LONGEST_WAIT: Final = 5.0
KICKED_WAIT: Final = 1.0  #: seconds at least after the server has closed the connection because of too many requests
STEADY: Final = 30.0  #: seconds after which a session was useful though nothing happened: a ping was answered
MOST_BLAMED: Final = 3  #: sessions that may end because of what was sent, while a request is outstanding
_REFUSALS: Final = frozenset({CloseCode.UNAUTHORISED, CloseCode.FOREIGN_ORIGIN})


class ReconnectingSession:
    """The current session, if there is one.

    Args:
        url: The URL of the server.
        token: The secret of the token; None without one.
        tls: For wss; None for the certificates that the system trusts.
        reconnect_timeout: Seconds that a request waits for a session.
        chance: The source of the random part of waits.

    Raises:
        UsageError: The URL is invalid, or the token has characters that a header cannot contain.
    """

    def __init__(
        self, url: str, token: str | None, tls: ssl.SSLContext | None, reconnect_timeout: float, chance: random.Random
    ) -> None:
        self.on_notification: Callable[[Notification], None] = lambda notification: None
        self.on_session: Callable[[Session], None] = lambda session: None
        """Called with each new session."""
        self.on_blamed: Callable[[ConnectionLost], None] = lambda lost: None
        """Called when a session has ended because of what was sent."""
        self.on_refused: Callable[[PermissionDenied | ConnectionFailed], None] = lambda error: None
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
        if token is not None and not (token and all("!" <= character <= "~" for character in token)):
            raise UsageError("a token consists of visible ASCII characters without spaces; this one does not")
        self._headers = [] if token is None else [(b"Authorization", f"Bearer {token}".encode("ascii"))]
        self._tls = tls
        self._chance = chance
        self._backoff = Backoff(FIRST_WAIT, LONGEST_WAIT, chance)
        self._largest: int | None = None
        """Bytes of the largest request that may be accepted, once one was refused by a limit that is not announced."""
        self._session: Session | None = None
        self._last_session: Session | None = None
        self._changed = trio.Event()

    @trio.lowlevel.enable_ki_protection
    async def run(self) -> None:
        """Connect again and again, until the server refuses the token, is not trusted or is no trio-jobs server."""
        while self.refused is None and not self._closing:
            started = trio.current_time()
            self._last_session = None
            try:
                await self._one_session()
            except* (
                OSError,
                HandshakeError,
                ConnectionFailed,
                trio.TooSlowError,
                trio.BrokenResourceError,
                trio.ClosedResourceError,
                ProtocolError,
            ) as group:
                self._fail(single_cause(group))
            except* Exception as group:  # an error that a server causes in a library must not end the user's block
                log.exception("a connection to %s failed", self.url)
                self._fail(single_cause(group))
            if self.refused is None and not self._closing:
                await trio.sleep(self._wait(trio.current_time() - started))

    def _wait(self, lasted: float) -> float:
        """How many seconds to wait before the next attempt, after one that has lasted so many seconds."""
        error, session = self.last_error, self._last_session
        blamed = isinstance(error, ConnectionLost) and error.blames
        if session is not None and not blamed and (session.useful or lasted >= STEADY):
            self._backoff.reset()
        if isinstance(error, Rejected):
            return self._backoff.next(error.retry_after)
        kicked = isinstance(error, ConnectionLost) and error.code == CloseCode.TOO_MANY
        return self._backoff.next(KICKED_WAIT if kicked else 0.0)

    def _fail(self, error: BaseException) -> None:
        assert isinstance(error, Exception)
        self.last_error = error
        if isinstance(error, ConnectionLost) and error.code in _REFUSALS:
            self.refused = PermissionDenied(f"the server refuses the connection: {error.reason}")
        elif isinstance(error, Rejected) and error.is_refusal:
            self.refused = PermissionDenied(str(error))
        elif isinstance(error, Untrusted) or (isinstance(error, Rejected) and error.is_final):
            self.refused = error
        elif isinstance(error, ConnectionLost) and error.blames:
            self.on_blamed(error)
        if self.refused is not None:
            self.on_refused(self.refused)
        self._wake_waiters()

    def _wake_waiters(self) -> None:
        self._changed.set()
        self._changed = trio.Event()

    async def _one_session(self) -> None:
        with trio.fail_after(DIAL_TIMEOUT):
            transport = await dial(self.url, self._where, self._tls)
        handshake = trio.CancelScope()
        stream = ClientStream(transport, handshake.cancel)
        try:
            async with trio.open_nursery() as nursery:
                with trio.fail_after(DIAL_TIMEOUT), handshake:
                    websocket = await wrap_client_stream(
                        ProtectedNursery(nursery),  # type: ignore[arg-type] # it only calls start_soon
                        stream,  # type: ignore[arg-type] # any Stream will do
                        self._where.netloc.rpartition("@")[2],
                        self._where.path or "/ws",
                        subprotocols=[PROTOCOL],
                        extra_headers=self._headers,
                    )
                if handshake.cancelled_caught:
                    raise ConnectionLost("the server closed the connection during the handshake")
                if websocket.subprotocol != PROTOCOL:
                    raise Rejected(f"what answers at {self.url} does not speak {PROTOCOL}", None)
                stream.opened()
                session = self._last_session = Session(
                    websocket, stream, lambda notification: self.on_notification(notification), self._chance
                )
                nursery.start_soon(self._greet, session)
                nursery.start_soon(session.send)
                nursery.start_soon(session.tend)
                nursery.start_soon(session.keep_alive)
                await session.read()
        except* Exception as group:  # wsproto and h11 raise many for what is no HTTP
            rejected = rejection(self.url, stream.answer)
            if rejected is None:
                raise
            raise rejected from single_cause(group)
        finally:
            self._session = None
            # trio-websocket leaves the stream open when the server closed first
            await trio.aclose_forcefully(transport)

    async def aclose(self) -> None:
        """Close the session, within a second. `run` must still be running, since it reads the answer."""
        self._closing = True
        self.refused = self.refused or ConnectionFailed("the client is closed: its `async with` block has ended")
        if self._session is not None:
            await self._session.aclose()
        self.on_refused(self.refused)
        self._wake_waiters()

    @trio.lowlevel.enable_ki_protection
    async def _greet(self, session: Session) -> None:
        with trio.fail_after(DIAL_TIMEOUT):
            answer = await session.ask("server.hello", Hello())
        if answer.error is not None:
            raise ConnectionLost(f"the server answered server.hello with an error: {answer.error.message}")
        try:
            hello = msgspec.json.decode(answer.result, type=HelloResult)
        except msgspec.MsgspecError as error:
            raise ConnectionLost(f"the answer to server.hello is invalid: {error}", blames=True) from error
        if self.hello is not None:
            self.reconnects += 1
        self.hello = hello
        self.last_error = None
        session.welcome(hello, self._largest)
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
            while self._session is None or self._session.lost is not None or self._closing:
                if self.refused is not None:
                    raise self.refused
                await self._changed.wait()
            return self._session
        why = self.last_error
        raise ConnectionFailed(f"no server answers at {self.url}: {why or 'not in time'}") from why

    async def ask(self, make: Callable[[], Request], *, repeatable: bool, kind: str = "") -> Answer:
        """Send a request; if it is repeatable or was not sent, again on the next session after a lost one.

        Args:
            make: Makes the request; called for each session.
            repeatable: It is harmless to repeat.
            kind: The kind of the submitted job, for errors.

        Raises:
            ConnectionFailed: There is no connection. The request was not done.
            OutcomeUnknown: The connection was lost after the request was sent, or the answer did not come in time.
            TrioJobsError: The error of the server.
        """
        blamed, may_be_done, method = 0, False, ""
        while True:
            try:
                session = await self.session()
            except (ConnectionFailed, PermissionDenied) as error:
                if may_be_done:
                    raise OutcomeUnknown(f"{error}; {method} may or may not have been done") from error
                raise
            request = make()
            method = request.method
            try:
                answer = await session.request(request)
            except TooLarge as error:
                if error.most is None:
                    self._largest = min(session.limits.message, error.size - 1)
                if method == "jobs.submit":
                    why = f"{error}; store the data elsewhere, and submit where it is"
                    raise InvalidPayload(kind, why) from None
                raise UsageError(f"{method}: {error}") from None
            except ConnectionLost as lost:
                blamed += lost.sent and lost.blames
                if lost.sent and (not repeatable or blamed >= MOST_BLAMED):
                    raise OutcomeUnknown(f"{lost}; {method} may or may not have been done") from None
                may_be_done = may_be_done or (lost.sent and METHODS[method].scope != "watch")
                await trio.lowlevel.checkpoint()
                continue
            if answer.error is not None:
                if may_be_done and answer.error.code == ErrorCode.TOO_MANY:
                    raise OutcomeUnknown(f"{answer.error.message}; {method} may or may not have been done")
                raise as_exception(answer.error, kind)
            return answer
