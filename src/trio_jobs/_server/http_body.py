"""The body of an HTTP request: h11 decodes it, within limits of size, time and memory.

h11 gets a head that is made of the checked length, so that it and the head parser cannot differ about where the body
ends. Of a chunked body, h11 accepts more than proxies do at its end: trailers, and line ends without CR. Such a body is
refused, since a proxy may see its end elsewhere.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final, final

import h11
import trio

from trio_jobs._engine.json_limits import MAX_LENGTH
from trio_jobs._server.request import BadRequest, RequestHead

__all__ = ["MAX_BODY", "Body", "BodyMemory"]

MAX_BODY: Final = MAX_LENGTH  #: bytes of a body: a payload
ALL_BODIES: Final = 64 * 1024 * 1024  #: bytes of all bodies that are being received or decoded; further ones wait
WAIT: Final = 10.0  #: seconds in which the memory for a body must be available
BASE_TIME: Final = 10.0  #: seconds for a body of any size, and
RATE: Final = 32 * 1024.0  #: bytes for which a further second is added
OVERHEAD: Final = 16 * 1024  #: bytes that a chunked body may have more than twice its data, against tiny chunks
RECEIVE: Final = 16 * 1024


@final
class BodyMemory:
    """The memory of all bodies of a server, first come first served.

    Args:
        size: In bytes; at least that of the largest body.
    """

    def __init__(self, size: int = ALL_BODIES) -> None:
        self.free = size
        self._waiting: deque[tuple[int, trio.lowlevel.Task]] = deque()

    @asynccontextmanager
    async def reserve(self, size: int) -> AsyncIterator[None]:
        """Hold `size` bytes within the block; wait until they are free.

        Raises:
            BadRequest: They are not free in time.

        Cancelled:
            Nothing is held.
        """
        with trio.move_on_after(WAIT) as scope:
            await self._take(size)
        if scope.cancelled_caught:
            raise BadRequest(503, "too many request bodies are being received", (("Retry-After", "5"),), reason=None)
        try:
            yield
        finally:
            self.free += size
            self._pass_on()

    async def _take(self, size: int) -> None:
        await trio.lowlevel.checkpoint_if_cancelled()
        if not self._waiting and size <= self.free:
            self.free -= size
            await trio.lowlevel.cancel_shielded_checkpoint()
            return
        entry = (size, trio.lowlevel.current_task())
        self._waiting.append(entry)

        def abort(_: object) -> trio.lowlevel.Abort:
            self._waiting.remove(entry)
            self._pass_on()
            return trio.lowlevel.Abort.SUCCEEDED

        await trio.lowlevel.wait_task_rescheduled(abort)

    def _pass_on(self) -> None:
        while self._waiting and self._waiting[0][0] <= self.free:
            size, task = self._waiting.popleft()
            self.free -= size
            trio.lowlevel.reschedule(task)


@final
class Body:
    """The body of one request.

    Args:
        head: The request.
        received: The bytes that were received after the head.
        receive: Receives further bytes; empty at the end of the stream.
        send: Sends "100 Continue".
        memory: Of all bodies.

    Attributes:
        rest: What was received after the body, once it is read.
        is_read: Nothing of the body is left to receive.
    """

    def __init__(
        self,
        head: RequestHead,
        received: bytes,
        receive: Callable[[int], Awaitable[bytes]],
        send: Callable[[bytes], Awaitable[None]],
        memory: BodyMemory,
    ) -> None:
        self.rest = received
        self.is_read = head.body == 0
        self._head = head
        self._receive = receive
        self._send = send
        self._memory = memory

    @asynccontextmanager
    async def read(self) -> AsyncIterator[bytes]:
        """Receive the body, and hold its memory within the block.

        Raises:
            BadRequest: The body is malformed, too large, too slow or not expected to be sent.
            trio.BrokenResourceError: The connection is lost within the body.

        Cancelled:
            A part may have been received.
        """
        if self.is_read:
            yield b""
            return
        length = self._head.body
        if length is not None and length > MAX_BODY:
            raise _too_large()
        async with self._memory.reserve(MAX_BODY if length is None else length):
            yield await self._read(length)

    async def _read(self, length: int | None) -> bytes:
        connection = h11.Connection(h11.SERVER)
        framing = "Transfer-Encoding: chunked" if length is None else f"Content-Length: {length}"
        connection.receive_data(f"POST / HTTP/1.1\r\nHost: localhost\r\n{framing}\r\n\r\n".encode("ascii"))
        connection.next_event()
        expected = self._head.get("expect")
        if expected is not None:
            if expected.lower() != "100-continue":
                raise BadRequest(417, "header expect must be 100-continue", reason=None)
            if not self.rest and self._head.minor == 1:
                await self._send(b"HTTP/1.1 100 Continue\r\n\r\n")
        data = await self._decode(connection, length is None)
        self.is_read = True
        return data

    async def _decode(self, connection: h11.Connection, chunked: bool) -> bytes:
        body = bytearray()
        raw, tail, begun = 0, b"", trio.current_time()
        new = self.rest
        with trio.move_on_at(begun + BASE_TIME) as scope:
            while True:
                if new:
                    raw += len(new)
                    tail = (tail + new)[-len(new) - 4 :]
                    connection.receive_data(new)
                if self._take_events(connection, body):
                    break
                if chunked and raw > 2 * len(body) + OVERHEAD:
                    raise BadRequest(400, "the chunks of the body are too small")
                scope.deadline = begun + BASE_TIME + len(body) / RATE
                new = await self._receive(RECEIVE)
                if not new:
                    raise trio.BrokenResourceError("the client disconnected within its request body")
        if scope.cancelled_caught:
            raise BadRequest(408, "the body was not received in time")
        self.rest = bytes(connection.trailing_data[0])
        if chunked and not tail[: len(tail) - len(self.rest)].endswith(b"\r\n\r\n"):
            raise BadRequest(400, "the body does not end with CR LF")
        return bytes(body)

    @staticmethod
    def _take_events(connection: h11.Connection, body: bytearray) -> bool:
        """Whether the body is complete."""
        try:
            while True:
                event = connection.next_event()
                if isinstance(event, h11.Data):
                    body += event.data
                    if len(body) > MAX_BODY:
                        raise _too_large()
                elif isinstance(event, h11.EndOfMessage):
                    if event.headers:
                        raise BadRequest(400, "trailers are not supported")
                    return True
                else:
                    return False
        except h11.RemoteProtocolError as error:
            raise BadRequest(400, f"the body is malformed: {error}") from None


def _too_large() -> BadRequest:
    return BadRequest(413, f"the body has more than {MAX_BODY} bytes")
