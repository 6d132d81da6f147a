"""The stream between a socket and trio-websocket.

The handshake, pings, pongs and the close are those of trio-websocket. Data frames do not pass through it: after the
handshake `receive` alone reads from the socket, decodes them, and passes the control frames on. So a message takes one
task and one wake-up for all that came with it, instead of a task and a channel for each.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import trio

from trio_jobs._client.handshake import MAX_HEAD, end_of_head
from trio_jobs._concurrency import WakeUp
from trio_jobs._wire.frame_decoder import FrameDecoder
from trio_jobs._wire.frames import CLOSE

__all__ = ["ClientStream"]

MAX_RECEIVED: Final = 16 * 1024 * 1024  #: bytes of a message from the server: a page of 500 jobs with long errors
RECEIVE: Final = 16 * 1024  #: bytes of one read: some 80 events, which are handled in one step of the event loop
MAX_CONTROL: Final = 64 * 1024  #: bytes of control frames that trio-websocket has not taken yet
SEND_TIMEOUT: Final = 5.0  #: seconds in which the server must accept a part of what is sent
CHUNK: Final = 64 * 1024  #: bytes of such a part


class ClientStream(trio.abc.Stream):
    """The stream that trio-websocket gets.

    trio-websocket waits for ever for a handshake if the server closes the connection during it, as a server does that
    stops or that has reached its connection limit. And a send is not bounded in time; here each part of it is, so that
    a large message may take its time over a slow connection.

    Args:
        stream: The stream to the server.
        on_end: Called when the stream ends during the handshake.

    Attributes:
        answer: The start of the answer to the handshake; empty after `opened`.
        problem: Why this stream has ended the connection; empty if it has not.
        closing: This client has sent a close frame, or is about to. Of the control frames, only the answer to it is
            passed on, since trio-websocket fails on a ping then.
    """

    def __init__(self, stream: trio.abc.Stream, on_end: Callable[[], None]) -> None:
        self.answer = b""
        self.problem = ""
        self.closing = False
        self._stream = stream
        self._on_end = on_end
        self._decoder = FrameDecoder(MAX_RECEIVED)
        self._is_upgraded = False
        self._early = b""
        """What came in one read with the head of the handshake."""
        self._control = bytearray()
        self._has_control = WakeUp()
        self._has_room = WakeUp()
        self._has_ended = False

    def opened(self) -> None:
        """The handshake has succeeded."""
        self.answer = b""

    # for the session

    async def receive(self) -> list[str | bytes] | None:
        """Receive the messages of one read.

        Returns:
            At least one message; None after the end of the stream or a close frame. trio-websocket knows which.

        Raises:
            InvalidFrame: The server breaks the protocol, or sends a message that is too large. All messages before it
                were returned.

        Cancelled:
            Nothing was received.
        """
        decoder = self._decoder
        while not decoder.closed and decoder.error is None and not self._has_ended:
            while len(self._control) > MAX_CONTROL and not self._has_ended:
                await self._has_room.wait()
            data, self._early = self._early or await self._receive(), b""
            if not data:
                break
            messages, control = decoder.feed(data)
            if control:
                self._pass_on(control)
            if messages:
                return messages
        if decoder.error is not None:
            raise decoder.error
        if not decoder.closed:
            self._end()
        return None

    @trio.lowlevel.enable_ki_protection
    async def discard(self) -> None:
        """Read until the server closes the connection, and discard what comes. Cancelled: it may not have closed."""
        while await self._receive():
            pass
        self._end()

    async def _receive(self) -> bytes:
        """Receive bytes; none at the end of the stream, whatever has ended it."""
        try:
            return bytes(await self._stream.receive_some(RECEIVE))
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            return b""

    def _pass_on(self, frames: list[bytes]) -> None:
        if self.closing:
            self._control.clear()
            frames = [frame for frame in frames if frame[0] & 0x0F == CLOSE]
        self._control += b"".join(frames)
        self._has_control.set()

    def _end(self) -> None:
        self._has_ended = True
        self._has_control.set()
        self._has_room.set()

    # for trio-websocket

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """Receive the answer to the handshake, and after it control frames. Cancelled: nothing was received."""
        if not self._is_upgraded:
            return await self._receive_head(max_bytes)
        while not self._control and not self._has_ended:
            await self._has_control.wait()
        data = bytes(self._control)
        self._control.clear()
        self._has_room.set()
        return data

    async def _receive_head(self, max_bytes: int | None) -> bytes:
        try:
            data = bytes(await self._stream.receive_some(max_bytes))
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            self._on_end()
            raise
        self.answer += data
        end = end_of_head(self.answer)
        if end is not None:
            self._is_upgraded = True
            self._early = self.answer[end:]
            return data[: len(data) - len(self._early)]
        if not data or len(self.answer) > MAX_HEAD:
            self._on_end()
        return data

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send frames of trio-websocket.

        Raises:
            trio.BrokenResourceError: The connection is lost, or the server has read nothing for `SEND_TIMEOUT`. The
                stream is closed.

        Cancelled:
            An unknown part of the data was sent.
        """
        try:
            for at in range(0, len(data), CHUNK):
                with trio.move_on_after(SEND_TIMEOUT) as scope:
                    await self._stream.send_all(data[at : at + CHUNK])
                if scope.cancelled_caught:
                    self.problem = f"the server read nothing for {SEND_TIMEOUT:g} s"
                    raise trio.BrokenResourceError(self.problem)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            self._on_end()
            self._end()
            await trio.aclose_forcefully(self._stream)  # so that `receive` ends, too
            raise

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def aclose(self) -> None:
        await self._stream.aclose()
