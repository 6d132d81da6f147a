"""One WebSocket client, from its handshake to its close.

Four kinds of task: trio-websocket's reader; `_listen`, which takes each message at once, whatever else goes on (a
server that stops reading answers no ping and sees no close); one for each request under way; and the pump, which writes
what subscriptions have missed. The connection ends when `_listen` does, or when `leave` says with which code.

How a connection is closed by us: everything stops, one close frame goes out, and what still comes in is passed over
until the client has answered or a second is over. trio-websocket's own close is not used for that: a ping that arrives
after it is an error that would take the server along.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, Final

import trio
from trio_websocket import ConnectionClosed, WebSocketConnection, wrap_server_stream

from trio_jobs._backend import Backend
from trio_jobs._concurrency import WakeUp
from trio_jobs._engine.event_cursor import Filter
from trio_jobs._engine.jobs import escape
from trio_jobs._engine.status import Progress
from trio_jobs._errors import TrioJobsError
from trio_jobs._server.event_bodies import EventBodies
from trio_jobs._server.limits import RateLimiter, ServerLimits
from trio_jobs._server.methods import Methods, as_rpc_error
from trio_jobs._server.multicast import Multicasts
from trio_jobs._server.stream import GuardedStream
from trio_jobs._server.subscriber import Subscriber
from trio_jobs._server.tokens import Token
from trio_jobs._wire import methods as w
from trio_jobs._wire.codes import MAX_IN_FLIGHT, MAX_MESSAGE, PROTOCOL, CloseCode, ErrorCode
from trio_jobs._wire.frames import close_frame, ping_frame, text_frame
from trio_jobs._wire.jsonrpc import RequestId, RpcError, decode_request, encode_error, encode_result

__all__ = ["Connection"]

log: Final = logging.getLogger("trio_jobs.server")

WATCHER_MESSAGES: Final = 5  #: a token that only watches has this part of the messages: by default 20 a second
WATCHER_BYTES: Final = 16  #: and this part of the bytes, since it has no payloads to send: 64 KiB a second
MAX_PROGRESS: Final = 100  #: jobs of which a word waits to be passed on; one job at a time is under way
CLOSE_1006: Final = 1006  #: never on the wire: the connection was lost


class Connection:
    """stream: with the handshake to replay in it. token: whose it is. refusal: why it is closed at once, a close code
    and a reason, None if it is welcome."""

    def __init__(
        self,
        stream: GuardedStream,
        token: Token,
        backend: Backend,
        methods: Methods,
        limits: ServerLimits,
        multicasts: Multicasts,
        bodies: EventBodies,
        refusal: tuple[int, str] | None = None,
    ) -> None:
        self.token = token
        self.subscribers: dict[str, Subscriber] = {}
        self._stream = stream
        self._backend = backend
        self._bodies = bodies
        self._methods = methods
        self._limits = limits
        self._multicasts = multicasts
        self._leaving = refusal
        self._in_flight = 0
        self._strikes = 0
        watches = token.scope == "watch"
        fewer, lighter = (WATCHER_MESSAGES, WATCHER_BYTES) if watches else (1, 1)
        now = trio.current_time()
        self._messages = RateLimiter(limits.messages / fewer, limits.messages_per_second / fewer, now)
        self._bytes = RateLimiter(limits.bytes / lighter, limits.bytes_per_second / lighter, now)
        self._ready: dict[Subscriber, None] = {}
        self._progress: dict[str, Progress] = {}
        self._news = WakeUp()
        self._scope = trio.CancelScope()
        stream.on_rest = self._wake_pump

    @property
    def has_more_to_say(self) -> bool:
        """A request is being answered, or a subscription has not been sent all there is."""
        events = self._backend.events
        return self._in_flight > 0 or bool(self._ready) or (bool(self.subscribers) and events.notified_seq < events.seq)

    def leave(self, code: int, reason: str) -> None:
        """Close the connection with this code. Returns at once; the first reason stays."""
        if self._leaving is None:
            self._leaving = (code, reason)
        self._scope.cancel()

    async def run(self, accepted: Callable[[], None]) -> None:
        """Serve the client until it goes or is sent away; `accepted` is called when the handshake is over.

        Does not raise what a client can cause. Cancelled: no close frame is sent; use `leave`.
        """
        try:
            with self._scope:
                async with trio.open_nursery() as nursery:
                    await self._serve(nursery, accepted)
                    nursery.cancel_scope.cancel()
        except Exception as error:  # what a stranger can provoke in a library must not reach the accept loop
            log.debug("a connection of %s ended by %r", escape(self.token.name), error)
        finally:
            for subscriber in self.subscribers.values():
                subscriber.end()
            self.subscribers.clear()
        if self._stream.refused is not None:
            self._leaving = (self._stream.refused.code, self._stream.refused.reason)
        if self._leaving is not None:
            await self._say_goodbye(*self._leaving)

    async def _serve(self, nursery: trio.Nursery, accepted: Callable[[], None]) -> None:
        request = await wrap_server_stream(nursery, self._stream, message_queue_size=1, max_message_size=MAX_MESSAGE)
        websocket = await request.accept(subprotocol=PROTOCOL)
        accepted()
        if self._leaving is not None:
            return
        nursery.start_soon(self._pump)
        nursery.start_soon(self._keep_alive)
        try:
            await self._listen(websocket, nursery)
        except ConnectionClosed as closed:
            # by the client's own close frame, which trio-websocket has answered; or it found the bytes malformed, and
            # then has told the client nothing
            if closed.reason is not None and closed.reason.code != CLOSE_1006:
                self._leaving = self._leaving or (closed.reason.code, "malformed")

    async def _say_goodbye(self, code: int, reason: str) -> None:
        if self._stream.dead or self._stream.silent:
            return
        try:
            with trio.move_on_after(self._limits.close_timeout):
                await self._stream.send_last(close_frame(code, reason))
                await self._stream.wait_until_closed()
        except (trio.BrokenResourceError, trio.ClosedResourceError, OSError):
            pass

    # what comes in

    async def _listen(self, websocket: WebSocketConnection, nursery: trio.Nursery) -> None:
        while True:
            message = await websocket.get_message()
            if isinstance(message, bytes):
                self.leave(CloseCode.BAD_MESSAGE, "requests are text")
                await trio.sleep_forever()
            refusal = self._measure(message)
            if refusal is None:
                try:
                    request_id, method, params = decode_request(message)
                except RpcError as error:
                    refusal = error
            if refusal is not None:
                await self._refuse(refusal)
                continue
            if self._in_flight >= MAX_IN_FLIGHT:
                await self._refuse(RpcError(ErrorCode.TOO_MANY, "too many requests at once", request_id=request_id))
                continue
            self._in_flight += 1
            nursery.start_soon(self._answer, request_id, method, params)

    def _measure(self, message: str) -> RpcError | None:
        now = trio.current_time()
        size = len(message) if message.isascii() else len(message.encode())
        if self._messages.take(1, now) and self._bytes.take(size, now):
            return None
        return RpcError(ErrorCode.TOO_MANY, "too many requests a second; wait, and send fewer")

    async def _refuse(self, error: RpcError) -> None:
        if error.code in (ErrorCode.TOO_MANY, ErrorCode.PARSE, ErrorCode.INVALID_REQUEST):
            self._strikes += 1
            if self._strikes > self._limits.strikes:
                too_many = error.code == ErrorCode.TOO_MANY
                self.leave(CloseCode.TOO_MANY if too_many else CloseCode.BAD_MESSAGE, error.message)
                await trio.sleep_forever()
        await self._send(lambda: encode_error(error))

    async def _answer(self, request_id: RequestId, method: w.Method, params: Any) -> None:
        try:
            result = await self._methods.answer(self, method, params)
        except RpcError as error:
            answer = _error(error, request_id)
        except TrioJobsError as error:
            answer = _error(as_rpc_error(error), request_id)
        except Exception:
            log.exception("%s failed", method.name)
            answer = _error(RpcError(ErrorCode.INTERNAL, "an error of the server; see its log"), request_id)
        else:
            if isinstance(result, Subscriber):
                await self._begin(request_id, result)
                return
            answer = lambda: encode_result(request_id, result)  # noqa: E731 - so it stands beside the errors'
        await self._send(answer)
        self._in_flight -= 1

    async def _send(self, make: Callable[[], bytes]) -> None:
        await self._send_made(lambda: text_frame(make()))

    async def _send_made(self, make: Callable[[], bytes]) -> None:
        try:
            await self._stream.send_made(make)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            self._scope.cancel()

    # subscriptions

    def subscribe(self, params: w.Subscribe, wanted: Filter, after: int) -> Subscriber:
        if params.subscription in self.subscribers:
            raise RpcError(ErrorCode.INVALID_PARAMS, f"subscription {params.subscription!r} is there already")
        if len(self.subscribers) >= self._limits.subscriptions:
            raise RpcError(ErrorCode.TOO_MANY, f"a connection has at most {self._limits.subscriptions} subscriptions")
        subscriber = Subscriber(params.subscription, self._backend, self._bodies, wanted, after, self._on_news)
        self.subscribers[params.subscription] = subscriber
        return subscriber

    def unsubscribe(self, subscription: str) -> int | None:
        subscriber = self.subscribers.pop(subscription, None)
        if subscriber is None:
            return None
        self._ready.pop(subscriber, None)
        subscriber.end()
        return subscriber.cursor.position

    async def _begin(self, request_id: RequestId, subscriber: Subscriber) -> None:
        """Answer, then let the stream flow: its first event comes behind the answer."""
        result = w.SubscribeResult(subscriber.id, self._backend.epoch, subscriber.cursor.seq)
        await self._send(lambda: encode_result(request_id, result))
        self._in_flight -= 1
        if self.subscribers.get(subscriber.id) is subscriber:
            subscriber.begin()
            self._ready[subscriber] = None
            self._wake_pump()

    def _on_news(self, subscriber: Subscriber, at_once: bool) -> None:
        """There is something for a subscription: write it from here if the socket is free, else let the pump do it."""
        if at_once and self._stream.free and subscriber not in self._ready:
            parts = subscriber.collect_nowait()
            if parts:
                self._stream.send_nowait(b"".join(parts))
            if parts is not None and subscriber.caught_up:
                subscriber.join(self._multicasts, self._stream)
                return
        self._ready[subscriber] = None
        self._wake_pump()

    def _wake_pump(self) -> None:
        self._news.set()

    async def _pump(self) -> None:
        while True:
            await self._news.wait()
            try:
                await self._stream.flush()
                while self._ready:
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
            return  # it was ended while its page was read
        if parts:
            await self._stream.send_frames(b"".join(parts))
        if subscriber.caught_up:
            self._ready.pop(subscriber, None)
            subscriber.join(self._multicasts, self._stream)

    def on_progress(self, news: Progress) -> None:
        """Pass a job's progress on; where that has to wait, the newest of each job wins."""
        if not self.subscribers:
            return
        self._progress.pop(news.job_id, None)
        if len(self._progress) >= MAX_PROGRESS:
            del self._progress[next(iter(self._progress))]
        self._progress[news.job_id] = news
        if not self._stream.free:
            self._wake_pump()
        elif frames := self._take_progress():
            self._stream.send_nowait(frames)

    def _take_progress(self) -> bytes:
        news, self._progress = self._progress, {}
        told = [s.progress(progress) for progress in news.values() for s in self.subscribers.values()]
        return b"".join(frame for frame in told if frame is not None)

    # is it still there?

    async def _keep_alive(self) -> None:
        await trio.sleep(self._limits.ping)
        while True:
            asked_at = trio.current_time()
            await self._send_made(self._ping)
            await trio.sleep(self._limits.ping)
            if self._stream.heard_at < asked_at:
                self._stream.reset_when_closed()
                self._scope.cancel()

    def _ping(self) -> bytes:
        """With how far each stream has come, so that a client whose filter lets little through can go on from there."""
        sleeping = [s for s in self.subscribers.values() if s.caught_up and s not in self._ready]
        return b"".join((ping_frame(b"?"), *(s.position() for s in sleeping)))


def _error(error: RpcError, request_id: RequestId) -> Callable[[], bytes]:
    return lambda: encode_error(error, request_id)
