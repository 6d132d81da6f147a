"""One WebSocket client, from its handshake to its close.

A connection has four kinds of tasks: the reader of trio-websocket; `_listen`, which receives each message at once,
since a server that does not read neither answers a ping nor notices a close; one task for each request in progress; and
the pump, which sends pings and the events that subscriptions have not been sent yet. The connection ends when `_listen`
ends, or when `leave` is called with a close code.

When `leave` closes a connection, all tasks are cancelled, one close frame is sent, and everything received is discarded
until the client has answered or `close_timeout` has passed. At the stop of the server, `close_nowait` sends the frame
first. The close of trio-websocket is not used: a ping that arrives after it raises what would end the server.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any, Final

import trio
from trio_websocket import ConnectionClosed, WebSocketConnection

from trio_jobs._backend import Backend
from trio_jobs._concurrency import WakeUp
from trio_jobs._engine.event_cursor import Filter
from trio_jobs._engine.jobs import escape
from trio_jobs._engine.progress import Progress
from trio_jobs._log import Log
from trio_jobs._server.access import Access
from trio_jobs._server.accounts import Account
from trio_jobs._server.followed_jobs import FollowedJobs
from trio_jobs._server.identity import Identity
from trio_jobs._server.limits import ServerLimits, connection_limits
from trio_jobs._server.methods import Deferred, Methods
from trio_jobs._server.newest_progress import NewestProgress
from trio_jobs._server.pacing import Pacer
from trio_jobs._server.refusals import Reason
from trio_jobs._server.request_limiter import RequestLimiter
from trio_jobs._server.rpc_errors import as_rpc_error, too_many
from trio_jobs._server.shared_events import SharedEvents
from trio_jobs._server.stream import GuardedStream, accept_websocket
from trio_jobs._server.subscriber import Subscriber
from trio_jobs._wire import methods as w
from trio_jobs._wire.codes import CloseCode, ErrorCode
from trio_jobs._wire.costs import cost
from trio_jobs._wire.frames import close_frame, ping_frame, text_frame
from trio_jobs._wire.jsonrpc import RpcError, decode_request, encode_error, encode_result
from trio_jobs._wire.schemas import RequestId

__all__ = ["Connection"]

log: Final = Log("trio_jobs.server")

_NO_KICK: Final = frozenset({CloseCode.GOING_AWAY, CloseCode.UNAUTHORISED, CloseCode.FOREIGN_ORIGIN})
CLOSE_1006: Final = 1006  #: the connection was lost; never sent on the wire (RFC 6455, section 7.4.1)


class Connection:
    """A WebSocket connection.

    Args:
        stream: The stream, with the handshake in `replay`.
        identity: The client.
        access: Who may use the server.
        account: What its token has taken from its limits.
        shared: The events as it is sent them.
        refusal: The close code and the reason for a client that is not served; None to serve it.
        on_refused: Called when a request is refused, and when the client is disconnected, because of a limit.
    """

    def __init__(
        self,
        stream: GuardedStream,
        identity: Identity,
        backend: Backend,
        methods: Methods,
        limits: ServerLimits,
        shared: SharedEvents,
        account: Account,
        access: Access,
        pacer: Pacer,
        followed: FollowedJobs,
        refusal: tuple[int, str] | None = None,
        *,
        on_refused: Callable[[Reason, str], None] = lambda reason, detail: None,
    ) -> None:
        self.identity = identity
        self.limits = connection_limits(limits, identity.scope)
        self.subscribers: dict[str, Subscriber] = {}
        self._stream = stream
        self._backend = backend
        self._methods = methods
        self._limits = limits
        self._shared = shared
        self._access = access
        self._pacer = pacer
        self._followed = followed
        self._listing = trio.StrictFIFOLock()
        self._leaving = refusal
        self._on_refused = on_refused
        self.is_established = False  # the handshake has succeeded and the client is served
        self._in_flight = 0
        self._waiting: dict[RequestId, trio.CancelScope] = {}
        self._limiter = RequestLimiter(limits, self.limits, account)
        self._ready: dict[Subscriber, None] = {}
        self._progress = NewestProgress()
        self._news = WakeUp()
        self._asks = False  # a ping is to be sent
        self._asked_at: float | None = None  # when the last one was sent, on Trio's clock
        self._scope = trio.CancelScope()
        stream.on_rest = self._news.set

    @property
    def has_more_to_say(self) -> bool:
        """Whether a request is in progress, or a subscription has not been sent all committed events."""
        events = self._backend.events
        return self._in_flight > 0 or bool(self._ready) or (bool(self.subscribers) and events.notified_seq < events.seq)

    def leave(self, code: int, reason: str) -> None:
        """Close the connection with this code. Returns at once. Later calls do not change the code and the reason."""
        self._leaving = self._leaving or (code, reason)
        self._scope.cancel()

    def close_nowait(self, code: int, reason: str, gate: trio.Event) -> bool:
        """Send the close frame and leave everything else to a later step: the tasks of this connection continue.

        Nothing that the client sends from now on is executed. The connection ends when the client answers, or by
        `leave`; not before `gate`.

        Returns:
            False if the frame could not be sent at once: use `close`.
        """
        self._leaving = self._leaving or (code, reason)
        self._stream.gate = gate
        return self._stream.send_last_nowait(close_frame(code, reason))

    @trio.lowlevel.enable_ki_protection
    async def close(self, code: int, reason: str) -> None:
        """Send the close frame after the write that is in progress.

        Cancelled:
            A part of the frame may have been sent.
        """
        if not self._stream.silent:
            with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
                await self._stream.send_last(close_frame(code, reason))

    async def run(self, accepted: Callable[[], None]) -> None:
        """Serve the client until either side closes the connection. Errors that a client can cause are not raised.

        Args:
            accepted: Called when the handshake has succeeded.

        Cancelled:
            No close frame is sent; use `leave` to send one.
        """
        try:
            with self._scope:
                async with trio.open_nursery() as nursery:
                    await self._serve(nursery, accepted)
                    nursery.cancel_scope.cancel()
        except Exception as error:  # an error that a client causes in a library must not reach the accept loop
            log.debug("a connection of %s ended with %r", escape(self.identity.name), error)
        finally:
            for subscriber in self.subscribers.values():
                self._end(subscriber)
            self.subscribers.clear()
        if self._stream.refused is not None:
            self._leaving = (self._stream.refused.code, self._stream.refused.reason)
        if self._stream.stalled:
            self._on_refused(Reason.SLOW, f"the client read nothing for {self._limits.write_timeout:g} s")
        try:
            if self._leaving is not None:
                code, reason = self._leaving
                if code not in _NO_KICK and not self._stream.silent:
                    self._on_refused(Reason.KICKED, f"the connection was closed with code {code}: {reason}")
                await self._say_goodbye(code, reason)
        finally:
            self._stream.forget_owner()

    async def _serve(self, nursery: trio.Nursery, accepted: Callable[[], None]) -> None:
        websocket = await accept_websocket(nursery, self._stream)
        accepted()
        if self._leaving is not None:
            return
        self.is_established = True
        nursery.start_soon(self._pump)
        try:
            await self._listen(websocket, nursery)
        except ConnectionClosed as closed:
            # the client sent a close frame, which trio-websocket has answered; or the bytes were malformed, and
            # trio-websocket has sent no close frame
            if closed.reason is not None and closed.reason.code != CLOSE_1006:
                self._leaving = self._leaving or (closed.reason.code, "malformed frame")

    async def _say_goodbye(self, code: int, reason: str) -> None:
        if self._stream.dead or self._stream.silent:
            return
        try:
            with trio.move_on_after(self._limits.close_timeout):
                await self._stream.send_last(close_frame(code, reason))
                await self._stream.wait_until_closed()
        except (trio.BrokenResourceError, trio.ClosedResourceError, OSError):
            pass

    # requests

    async def _listen(self, websocket: WebSocketConnection, nursery: trio.Nursery) -> None:
        while True:
            message = await websocket.get_message()
            if self._leaving is not None:
                continue  # it cannot be answered any more
            if isinstance(message, bytes):
                self.leave(CloseCode.BAD_MESSAGE, "a request must be a text message, not a binary one")
                await trio.sleep_forever()
            try:
                request_id, method, params = decode_request(message)
            except RpcError as error:
                await self._refuse(self._limiter.measure(message, 1, error.id) or error)
                continue
            if (refusal := self._limiter.measure(message, cost(params), request_id)) is not None:
                await self._refuse(refusal)
                continue
            if self._in_flight >= self.limits.in_flight:  # no strike: a client may have counted an answer already
                refusal = too_many("in_flight", f"at most {self.limits.in_flight} requests may be in progress")
                body = self._encode_error(request_id, method, refusal)
                await self._send(lambda: body)  # noqa: B023 - it is called before the next message is read
                continue
            self._in_flight += 1
            nursery.start_soon(self._answer, request_id, method, params)

    async def _refuse(self, error: RpcError) -> None:
        if error.code == ErrorCode.TOO_MANY:
            self._on_refused(Reason.RATE, error.message)
        if (code := self._limiter.close_code(error)) is not None:
            self.leave(code, error.message)
            await trio.sleep_forever()
        await self._send(lambda: encode_error(error))

    @trio.lowlevel.enable_ki_protection
    async def _answer(self, request_id: RequestId, method: w.Method, params: Any) -> None:
        if method.name == "jobs.list":  # one at a time, so that one page at most waits to be sent
            async with self._listing:
                await self._execute(request_id, method, params)
        else:
            await self._execute(request_id, method, params)
        self._in_flight -= 1

    async def _execute(self, request_id: RequestId, method: w.Method, params: Any) -> None:
        scope = trio.CancelScope()
        if method.name in w.WAITING and getattr(params, "wait", 1) > 0:
            self._waiting[request_id] = scope
        result: Any = None
        refusal: bytes | None = None  # encoded at once, since an error in a local would be a reference cycle
        try:
            with scope:
                result = await self._methods.answer(self, method, params)
        except Exception as error:
            refusal = self._encode_error(request_id, method, error)
        finally:
            if self._waiting.get(request_id) is scope:
                del self._waiting[request_id]
        if scope.cancelled_caught:
            refusal = encode_error(RpcError(ErrorCode.CANCELLED, "cancelled by requests.cancel"), request_id)
        if refusal is not None:
            await self._send(lambda: refusal)
        elif isinstance(result, Subscriber):
            await self._begin(request_id, result)
        elif isinstance(result, Deferred):
            await self._send(lambda: self._encode(request_id, method, result))
        else:
            await self._send(lambda: encode_result(request_id, result))

    def _encode(self, request_id: RequestId, method: w.Method, deferred: Deferred) -> bytes:
        try:
            return encode_result(request_id, deferred.make())
        except Exception as error:
            return self._encode_error(request_id, method, error)

    def _encode_error(self, request_id: RequestId, method: w.Method, error: Exception) -> bytes:
        refusal = as_rpc_error(method.name, error)
        if refusal.code == ErrorCode.TOO_MANY:
            self._on_refused(Reason.RATE, refusal.message)
        return encode_error(refusal, request_id)

    def cancel_request(self, request_id: RequestId) -> bool:
        scope = self._waiting.pop(request_id, None)
        if scope is not None:
            scope.cancel()
        return scope is not None

    async def _send(self, make: Callable[[], bytes]) -> None:
        try:
            await self._stream.send_made(lambda: text_frame(make()))
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            self._scope.cancel()

    # subscriptions

    def subscribe(self, params: w.Subscribe, wanted: Filter, after: int) -> Subscriber:
        self._followed.add(params.subscription, wanted, self.subscribers, self._limiter.account)
        subscriber = Subscriber(
            params.subscription, self._backend, self._shared.bodies, self._pacer, wanted, after, self._on_news
        )
        self.subscribers[params.subscription] = subscriber
        return subscriber

    def unsubscribe(self, subscription: str) -> int | None:
        subscriber = self.subscribers.pop(subscription, None)
        if subscriber is None:
            return None
        self._ready.pop(subscriber, None)
        self._end(subscriber)
        return subscriber.cursor.position

    def _end(self, subscriber: Subscriber) -> None:
        subscriber.end()
        self._followed.remove(subscriber, self._limiter.account)

    async def _begin(self, request_id: RequestId, subscriber: Subscriber) -> None:
        """Send the answer, then start the stream, so that the first event follows the answer."""
        result = w.SubscribeResult(subscriber.id, self._backend.epoch, subscriber.cursor.seq)
        await self._send(lambda: encode_result(request_id, result))
        if self.subscribers.get(subscriber.id) is subscriber:
            subscriber.begin()
            self._ready[subscriber] = None
            self._news.set()

    def _on_news(self, subscriber: Subscriber, at_once: bool) -> None:
        """Send what is available for a subscription: at once if the stream is free, otherwise by the pump."""
        if at_once and self._stream.free and subscriber not in self._ready:
            parts = subscriber.collect_nowait()
            if parts:
                self._stream.send_nowait(b"".join(parts))
            if parts is not None and subscriber.caught_up:
                subscriber.join(self._shared.multicasts, self._stream)
                return
        self._ready[subscriber] = None
        self._news.set()

    @trio.lowlevel.enable_ki_protection
    async def _pump(self) -> None:
        while True:
            await self._news.wait()
            try:
                await self._stream.flush()
                while self._ready or self._asks:
                    if self._asks:
                        self._asks = False
                        await self._stream.send_made(self._ping)
                    for subscriber in [*self._ready]:
                        await self._write_for(subscriber)
                if self._progress:
                    await self._stream.send_frames(self._take_progress())
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                self._scope.cancel()
                await trio.sleep_forever()

    async def _write_for(self, subscriber: Subscriber) -> None:
        parts = await subscriber.collect()
        if subscriber not in self._ready:
            return  # the subscription ended while its events were read
        if parts:
            await self._stream.send_frames(b"".join(parts))
        if subscriber.caught_up:
            self._ready.pop(subscriber, None)
            subscriber.join(self._shared.multicasts, self._stream)

    def on_progress(self, news: Progress) -> None:
        """Send a job's progress to the subscriptions. While the stream is busy, only the newest of each job is kept."""
        if not self.subscribers:
            return
        self._progress.put(news)
        if not self._stream.free:
            self._news.set()
        elif frames := self._take_progress():
            self._stream.send_nowait(frames)

    def _take_progress(self) -> bytes:
        frames = [s.progress(progress) for progress in self._progress.take() for s in self.subscribers.values()]
        return b"".join(frame for frame in frames if frame is not None)

    # keep-alive

    def keep_alive(self) -> None:
        """See `Pinged.keep_alive`."""
        if (problem := self._access.problem(self.identity)) is not None:  # a session or a ticket has expired
            self.leave(CloseCode.UNAUTHORISED, problem)
        elif self._asked_at is not None and self._stream.heard_at < self._asked_at:
            self._stream.reset_when_closed()
            self._scope.cancel()
        else:
            self._asks = True
            self._news.set()

    def _ping(self) -> bytes:
        """A ping, and the position of each subscription that is up to date, from which the client can resume."""
        self._asked_at = trio.current_time()
        others = () if self.identity.ticket is not None else self.subscribers.values()
        sleeping = [s for s in others if s.caught_up and s not in self._ready]
        return b"".join((ping_frame(b"?"), *(s.position() for s in sleeping)))
