"""One WebSocket connection to a server: requests out, answers and notifications in.

Sending is shielded from cancellation and bounded in time: cancelling a send of trio-websocket would truncate a frame.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import msgspec
import trio
from trio_websocket import ConnectionClosed, WebSocketConnection

from trio_jobs._errors import ConnectionFailed
from trio_jobs._wire.jsonrpc import Answer, Notification, encode_request, read_from_server
from trio_jobs._wire.methods import Params

__all__ = ["ConnectionLost", "Session"]

SEND_TIMEOUT: Final = 5.0
PING: Final = 20.0  #: seconds between two pings, as on the server
PONG: Final = 10.0  #: seconds for the answer to a ping


class ConnectionLost(ConnectionFailed):
    """The connection is lost. `code`: the close code, None without a close frame."""

    def __init__(self, why: str, code: int | None = None, reason: str = "") -> None:
        self.code = code
        self.reason = reason
        super().__init__(why)


class _Waiting:
    """A request whose answer has not come."""

    __slots__ = ("answer", "event", "on_answer")

    def __init__(self, on_answer: Callable[[Answer], None] | None) -> None:
        self.event = trio.Event()
        self.on_answer = on_answer
        self.answer: Answer | None = None


class Session:
    """on_notification: called with each notification; synchronous."""

    def __init__(self, websocket: WebSocketConnection, on_notification: Callable[[Notification], None]) -> None:
        self.lost: ConnectionLost | None = None
        self.epoch = ""
        """The epoch of the server; empty before the answer to server.hello."""
        self._closing = False
        self._websocket = websocket
        self._on_notification = on_notification
        self._waiting: dict[int, _Waiting] = {}
        self._last_id = 0

    async def ask(self, method: str, params: Params, on_answer: Callable[[Answer], None] | None = None) -> Answer:
        """Send a request and wait for its answer. on_answer: called with the answer before later messages are handled.

        Raises `ConnectionLost`. Cancelled: the request may have been sent; its answer is ignored.
        """
        if self.lost is not None:
            raise self.lost
        self._last_id += 1
        request_id = self._last_id
        waiting = self._waiting[request_id] = _Waiting(on_answer)
        try:
            await self.send(encode_request(request_id, method, params))
            await waiting.event.wait()
        finally:
            del self._waiting[request_id]
        if waiting.answer is None:
            raise self.lost or ConnectionLost("the connection was lost")
        return waiting.answer

    async def send(self, text: bytes) -> None:
        """Send a text message. Raises `ConnectionLost`. Shielded."""
        with trio.move_on_after(SEND_TIMEOUT, shield=True) as scope:
            try:
                await self._websocket.send_message(text.decode())
            except ConnectionClosed as closed:
                raise self._lose(closed) from None
        if scope.cancelled_caught:
            self.lost = ConnectionLost(f"the server read nothing for {SEND_TIMEOUT:g} s")
            raise self.lost

    async def read(self) -> None:
        """Handle messages until the connection is lost, then raise `ConnectionLost`. Cancelled: the session ends."""
        try:
            while True:
                message = read_from_server(await self._websocket.get_message())
                if isinstance(message, Notification):
                    self._on_notification(message)
                elif message is not None and isinstance(message.id, int) and message.id in self._waiting:
                    waiting = self._waiting[message.id]
                    waiting.answer = message
                    waiting.event.set()
                    if waiting.on_answer is not None:
                        waiting.on_answer(message)
        except ConnectionClosed as closed:
            if self._closing:
                await (
                    trio.sleep_forever()
                )  # until aclose is done: the reader of trio-websocket still needs the close frame
            raise self._lose(closed) from None
        except msgspec.MsgspecError as error:
            raise ConnectionLost(f"a message of the server is invalid: {error}") from error
        finally:
            self.lost = self.lost or ConnectionLost("the connection was closed")
            for waiting in self._waiting.values():
                waiting.event.set()

    async def keep_alive(self) -> None:
        """Send pings. Raises `ConnectionLost` when one is not answered."""
        while True:
            await trio.sleep(PING)
            with trio.move_on_after(PONG) as scope:
                await self._websocket.ping()
            if scope.cancelled_caught:
                raise ConnectionLost(f"the server did not answer a ping within {PONG:g} s")

    async def aclose(self) -> None:
        """Close the WebSocket, within a second. `read` then waits to be cancelled."""
        self._closing = True
        with trio.move_on_after(1):
            await self._websocket.aclose()

    def _lose(self, closed: ConnectionClosed) -> ConnectionLost:
        if self.lost is None:
            code, reason = (None, "") if closed.reason is None else (closed.reason.code, closed.reason.reason or "")
            detail = f" ({code}{', ' + reason if reason else ''})" if code is not None else ""
            self.lost = ConnectionLost(f"the connection was closed{detail}", code, reason)
        return self.lost
