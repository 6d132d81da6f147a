"""One WebSocket connection to a server: requests out, answers and notifications in.

A session has four tasks. `send` alone sends requests: it takes them from the outbox when they have a place among those
in flight, and when the pacer lets them pass. A caller only waits, so that its cancellation truncates no frame. `read`
handles what is received. `tend` looks after what has waited for long, and `keep_alive` sends pings.

The client counts as the server does: an abandoned request keeps its place until it is answered. If the server refuses a
request because of a limit nevertheless, nothing was done, and the request is sent again after a pause.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Final

import msgspec
import trio
from trio_websocket import ConnectionClosed, WebSocketConnection

from trio_jobs._client.backoff import Backoff
from trio_jobs._client.connection_errors import ConnectionLost, TooLarge
from trio_jobs._client.outbox import Outbox, Request
from trio_jobs._client.pacer import Pacer, assumed_limits
from trio_jobs._client.stream import ClientStream
from trio_jobs._concurrency import WakeUp
from trio_jobs._errors import OutcomeUnknown, UsageError
from trio_jobs._wire.codes import CloseCode, ErrorCode
from trio_jobs._wire.costs import cost
from trio_jobs._wire.frame_decoder import InvalidFrame
from trio_jobs._wire.jsonrpc import Answer, ErrorBody, Notification, encode_request, read_from_server
from trio_jobs._wire.methods import WAITING, CancelRequest, HelloResult
from trio_jobs._wire.params import Params
from trio_jobs._wire.schemas import ErrorData

__all__ = ["Session"]

PING: Final = 20.0  #: seconds between two pings, as on the server
PONG: Final = 10.0  #: seconds for the answer to a ping
TICK: Final = 1.0  #: seconds between two looks at what waits; after it a wait for a result lets another one wait
ANSWER_TIMEOUT: Final = 120.0  #: seconds for an answer beyond its wait: four times the default of `commit_timeout`
REFUSED_FOR: Final = 30.0  #: seconds after which a request that is refused again and again raises
CLOSE_TIMEOUT: Final = 1.0  #: seconds for the close of a WebSocket
FIRST_PAUSE: Final = 0.05  #: seconds after a refusal without `retry_after`; doubled with each further one
LONGEST_PAUSE: Final = 5.0
HELLO: Final = 200  #: bytes of a server.hello at most
LONGEST_WAIT: Final = 30.0  #: seconds that the protocol lets one request wait
SHORT_WAIT: Final = 5.0  #: the same where the server cannot cancel a wait, so that others get their turn

#: The server has closed the connection because of what was sent, or has failed. To send the same again does not help.
_BLAMING: Final = frozenset({1002, 1003, 1007, 1008, 1009, 1011, CloseCode.BAD_MESSAGE, CloseCode.TOO_MANY})


class Session:
    """One connection.

    Args:
        websocket: The connection, after its handshake.
        stream: The stream of the connection.
        on_notification: Called with each notification; synchronous.
        chance: The source of the random part of pauses.
    """

    def __init__(
        self,
        websocket: WebSocketConnection,
        stream: ClientStream,
        on_notification: Callable[[Notification], None],
        chance: random.Random,
    ) -> None:
        self.lost: ConnectionLost | None = None
        self.epoch = ""
        """The epoch of the server; empty before the answer to server.hello."""
        self.limits = assumed_limits("control")
        self.useful = False
        """A request was done, or a notification has come."""
        self._cancels = False  # the server has requests.cancel
        self._closing = False
        self._websocket = websocket
        self._stream = stream
        self._on_notification = on_notification
        self._outbox = Outbox(self.limits.in_flight)
        self._pacer = Pacer(self.limits, trio.current_time())
        self._pause = Backoff(FIRST_PAUSE, LONGEST_PAUSE, chance)
        self._in_flight: dict[int, Request] = {}
        self._last_number = 0
        self._answered_at = 0.0
        self._can_send = WakeUp()
        self._wants_proof = WakeUp()
        self._busy = trio.Event()

    def welcome(self, hello: HelloResult, largest: int | None) -> None:
        """Take the limits from the answer to server.hello. largest: bytes of a request that is known to be accepted."""
        self.epoch = hello.epoch
        self.limits = limits = hello.limits or assumed_limits(hello.scope)
        self._cancels = hello.limits is not None
        if largest is not None and largest < limits.message:
            self.limits = msgspec.structs.replace(limits, message=largest)
        self._outbox.allow(limits.in_flight)
        now = trio.current_time()
        self._pacer = Pacer(limits, now)
        self._pacer.sent(self._last_number, 1, HELLO, now)  # the server has counted its greeting
        self._pacer.received(self._last_number, now)

    # requests

    async def ask(self, method: str, params: Params, on_answer: Callable[[Answer], None] | None = None) -> Answer:
        """Send a request that the server answers at once, and return the answer. As `request`."""
        return await self.request(Request(method, lambda longest: params, on_answer=on_answer))

    async def request(self, request: Request) -> Answer:
        """Send a request and return its answer.

        Raises:
            ConnectionLost: The connection was lost. Its `sent` says whether the request may have been done.
            TooLarge: The request is too large. It was not done.
            OutcomeUnknown: The server has not answered in time.

        Cancelled:
            The request may have been done. If it waits at the server, the wait is cancelled.
        """
        if self.lost is not None:
            raise self._loss(sent=False)
        self._add(request)
        try:
            await request.done.wait()
        finally:
            if request.outcome is None:
                self._abandon(request)
        if isinstance(request.outcome, ConnectionLost):
            raise self._loss(sent=request.in_flight)
        if isinstance(request.outcome, Exception):
            raise request.outcome
        assert request.outcome is not None
        return request.outcome

    def _add(self, request: Request, *, first: bool = False) -> None:
        self._outbox.add(request, first=first)
        self._can_send.set()
        if not self._busy.is_set():
            self._busy.set()

    def _abandon(self, request: Request) -> None:
        if self._outbox.remove(request):
            return
        request.abandoned = True
        self._cancel(request)

    def _cancel(self, request: Request) -> None:
        """Let the server cancel a request that waits, so that it gives back its place."""
        if not self._cancels or request.method not in WAITING or self.lost is not None:
            return
        number = next((number for number, sent in self._in_flight.items() if sent is request), None)
        if number is not None:
            cancel = CancelRequest(number)
            self._add(Request("requests.cancel", lambda longest: cancel))

    def _loss(self, *, sent: bool) -> ConnectionLost:
        lost = self.lost or ConnectionLost("the connection was closed")
        return ConnectionLost(str(lost), lost.code, lost.reason, blames=lost.blames, sent=sent)

    # the tasks

    @trio.lowlevel.enable_ki_protection
    async def send(self) -> None:
        """Send requests. Raises `ConnectionLost`. Cancelled: the session ends."""
        while True:
            request = self._outbox.next()
            if request is None:
                await self._can_send.wait()
                continue
            number = self._last_number + 1
            params = request.params(LONGEST_WAIT if self._cancels else SHORT_WAIT)
            try:
                text = encode_request(number, request.method, params)
            except (TypeError, ValueError, msgspec.MsgspecError, RecursionError) as error:
                self._outbox.remove(request)
                request.end(UsageError(f"{request.method} has a parameter that cannot be sent: {error}"))
                continue
            request.size = len(text)
            if request.size > self.limits.message:
                self._outbox.remove(request)
                request.end(TooLarge(request.size, self.limits.message))
                continue
            now = trio.current_time()
            units = cost(params)
            delay = self._pacer.wait_for(units, request.size, now)
            if delay > 0:
                if delay == float("inf"):
                    self._wants_proof.set()
                with trio.move_on_after(delay):
                    await self._can_send.wait()
                continue
            self._last_number = number
            self._outbox.take(request)
            self._in_flight[number] = request
            request.in_flight = True
            request.sent_at = now
            if request.bounded:
                request.expires_at = now + getattr(params, "wait", 0.0) + ANSWER_TIMEOUT
            self._pacer.sent(number, units, request.size, now)
            try:
                await self._websocket.send_message(text.decode())
            except ConnectionClosed as closed:
                if self._closing:
                    await trio.sleep_forever()
                raise self._lose(closed) from None

    async def read(self) -> None:
        """Handle messages until the connection is lost, then raise `ConnectionLost`. Cancelled: the session ends."""
        try:
            while True:
                messages = await self._stream.receive()
                if messages is None:
                    await self._websocket.get_message()  # raises why the connection was closed
                elif not self._closing:
                    self._handle(messages)
        except ConnectionClosed as closed:
            if self._closing:
                await (
                    trio.sleep_forever()
                )  # until aclose is done: the reader of trio-websocket still needs the close frame
            raise self._lose(closed) from None
        except msgspec.MsgspecError as error:
            self.lost = ConnectionLost(f"a message of the server is invalid: {error}", blames=True)
            raise self.lost from error
        except InvalidFrame as error:
            self.lost = ConnectionLost(f"the server sent {error.reason}", error.code, blames=True)
            await self._refuse(error)
            raise self.lost from None
        finally:
            self.lost = self.lost or ConnectionLost("the connection was closed")
            for request in [*self._in_flight.values(), *self._outbox]:
                request.end(self.lost)

    def _handle(self, messages: list[str | bytes]) -> None:
        for text in messages:
            message = read_from_server(text)
            if isinstance(message, Notification):
                self.useful = True
                self._on_notification(message)
            elif message is not None:
                self._on_message(message)

    async def _refuse(self, error: InvalidFrame) -> None:
        """Close the WebSocket because of what the server has sent, within a second."""
        with trio.move_on_after(CLOSE_TIMEOUT):
            async with trio.open_nursery() as nursery:
                self._stream.closing = True
                nursery.start_soon(self._stream.discard)
                await self._websocket.aclose(error.code, error.reason)
                nursery.cancel_scope.cancel()

    def _on_message(self, answer: Answer) -> None:
        number = answer.id
        if not isinstance(number, int):
            if answer.error is not None and self._in_flight:
                # an early server refuses a request before it has read its id, and then never answers it
                self.lost = ConnectionLost(
                    f"the server refused a request without naming it: {answer.error.message}", blames=True
                )
                raise self.lost
            return
        request = self._in_flight.pop(number, None)
        if request is None:
            return
        request.in_flight = False
        now = self._answered_at = trio.current_time()
        self._outbox.release(request)
        self._pacer.received(number, now)
        if self._outbox.waiting:  # otherwise `send` has nothing to do
            self._can_send.set()
        error = answer.error
        if error is not None and error.code == ErrorCode.TOO_MANY and self._is_repeated(request, error, now):
            return
        self._pause.reset()
        if error is not None and error.code == ErrorCode.CANCELLED and request.turn_over:
            request.turn_over = False
            if not request.abandoned:
                self._add(request)
            return
        self.useful = self.useful or request.method != "server.hello"
        request.end(answer)

    def _is_repeated(self, request: Request, error: ErrorBody, now: float) -> bool:
        """Send a request that was refused because of a limit again, after a pause. False if it is to end."""
        data = error.data or ErrorData()
        limit = data.limit or ("subscriptions" if request.method == "jobs.subscribe" else "rate")
        if limit not in ("rate", "in_flight"):
            return False
        self._pacer.hold(self._pause.next(data.retry_after or 0.0), now)
        if request.refused_at is None:
            request.refused_at = now
        if not request.abandoned:
            if now - request.refused_at > REFUSED_FOR:
                return False
            self._add(request, first=True)
        return True

    @trio.lowlevel.enable_ki_protection
    async def tend(self) -> None:
        """Look after requests that have waited for long. Raises `ConnectionLost`. Cancelled: the session ends."""
        while True:
            if not self._in_flight and not self._outbox.waiting:
                self._busy = trio.Event()
                await self._busy.wait()
            with trio.move_on_after(TICK) as tick:
                await self._wants_proof.wait()
            now = trio.current_time()
            self._outbox.stop_waiting(now)
            self._can_send.set()
            self._expire(now)
            self._take_turns(now)
            if not tick.cancelled_caught or self._pacer.oldest_in_transit <= now - TICK:
                await self._ping()

    def _expire(self, now: float) -> None:
        for request in [request for request in self._in_flight.values() if request.expires_at <= now]:
            request.expires_at = float("inf")
            request.end(OutcomeUnknown(f"the server has not answered {request.method} in time; it may have been done"))
            if self._answered_at < request.sent_at:
                self.lost = ConnectionLost("the server answers pings, but no requests")
                raise self.lost

    def _take_turns(self, now: float) -> None:
        """Let those that have waited at the server for a while give their places to those that wait for one."""
        most = max(1, int(self.limits.messages_per_second / 4))
        others = min(self._outbox.crowding(), most) if self._cancels else 0
        for request in [*self._in_flight.values()]:
            if others and request.lane == "wait" and not request.turn_over and request.sent_at <= now - TICK:
                others -= 1
                request.turn_over = True
                self._cancel(request)

    @trio.lowlevel.enable_ki_protection
    async def keep_alive(self) -> None:
        """Send pings. Raises `ConnectionLost` when one is not answered."""
        while True:
            await trio.sleep(PING)
            await self._ping()

    async def _ping(self) -> None:
        """Send a ping, and wait for the pong: the server has then received all that was sent before."""
        number = self._last_number
        try:
            with trio.move_on_after(PONG) as scope:
                await self._websocket.ping()
        except ConnectionClosed as closed:
            if self._closing:
                await trio.sleep_forever()
            raise self._lose(closed) from None
        if scope.cancelled_caught:
            self.lost = ConnectionLost(f"the server did not answer a ping within {PONG:g} s")
            raise self.lost
        self._pacer.received(number, trio.current_time())
        self._can_send.set()

    async def aclose(self) -> None:
        """Close the WebSocket, within a second. `read` then waits to be cancelled."""
        self._closing = self._stream.closing = True
        with trio.move_on_after(CLOSE_TIMEOUT):
            await self._websocket.aclose()

    def _lose(self, closed: ConnectionClosed) -> ConnectionLost:
        if self.lost is None:
            code, reason = (None, "") if closed.reason is None else (closed.reason.code, closed.reason.reason or "")
            if self._stream.problem:
                why = self._stream.problem
            else:
                detail = f" ({code}{', ' + reason if reason else ''})" if code is not None else ""
                why = f"the connection was closed{detail}"
                if code == CloseCode.TOO_BIG:
                    self._end_largest()
            self.lost = ConnectionLost(why, code, reason, blames=code in _BLAMING)
        return self.lost

    def _end_largest(self) -> None:
        """The server has refused a message because of its size. If one in flight was too large, the largest was."""
        number = max(self._in_flight, key=lambda number: self._in_flight[number].size, default=None)
        if number is not None:
            request = self._in_flight.pop(number)
            request.end(TooLarge(request.size, None))
