"""The stream between a socket and trio-websocket.

Input: first the request head in `replay`, then the bytes of the client. Their frame headers are counted before wsproto
buffers anything.

Output: the frames of trio-websocket (pongs, the answer to a close) and the joined frames of this server. One lock
serializes them, so that each write is complete before the next one begins. A write that is cancelled may have sent a
part of a frame. Over plain TCP it is known which part, and the next write begins with the rest. Over TLS it is not
known: the stream is then `dead`, and every later write raises.

While the stream is `free`, `send_nowait` sends from the step of the feed, without waking a task of the connection. This
is the fastest way to many idle subscribers. It is not available over TLS.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final, NoReturn

import trio
from trio_websocket import WebSocketConnection, wrap_server_stream

from trio_jobs._concurrency import ProtectedNursery
from trio_jobs._server.limits import RateLimiter, ServerLimits
from trio_jobs._wire.codes import MAX_MESSAGE, PROTOCOL, CloseCode
from trio_jobs._wire.frames import FrameLimiter, LimitExceeded

__all__ = ["GuardedStream", "SocketTransport", "accept_websocket"]

RECEIVE: Final = 16 * 1024
CHUNK: Final = 32 * 1024  #: bytes that are passed to the kernel in one step of the event loop
TLS_CHUNK: Final = 16 * 1024  #: one TLS record; OpenSSL keeps a second copy of each write, as ciphertext
_LINGER: Final = struct.Struct("hh" if sys.platform == "win32" else "ii")


def _do_nothing() -> None:
    pass


def _refuse(data: bytes) -> NoReturn:
    raise AssertionError("send is not available over TLS")


class SocketTransport(trio.abc.Stream):
    """The socket of a client as a stream, for plain TCP and for `trio.SSLStream`.

    It reports each part of a write that the kernel has accepted. It reads without `trio.SocketStream.receive_some`: in
    Python 3.13, an error that passes through the context manager of that method keeps the connection in memory until a
    collection, since the traceback of the error and a frame of contextlib refer to each other.

    Args:
        accepted: The socket, which the stream closes.

    Attributes:
        on_taken: Called for each part. It must return at once and not raise.
    """

    def __init__(self, accepted: socket.socket) -> None:
        self.stream = trio.SocketStream(trio.socket.from_stdlib_socket(accepted))
        self.on_taken: Callable[[], None] = lambda: None

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send all data.

        Cancelled:
            An unknown part of the data was sent, as with `trio.SocketStream`.
        """
        with memoryview(data) as left:
            at = 0
            try:
                while at < len(left):
                    at += await self.stream.socket.send(left[at:])
                    self.on_taken()
            except OSError as error:
                raise self._failure("write", error) from error

    async def wait_send_all_might_not_block(self) -> None:
        await self.stream.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """Receive bytes of the client; none at the end of its data. Raises and Cancelled: as `trio.SocketStream`."""
        try:
            return await self.stream.socket.recv(RECEIVE if max_bytes is None else max_bytes)
        except OSError as error:
            raise self._failure("read", error) from error

    def _failure(self, what: str, error: OSError) -> Exception:
        if self.stream.socket.fileno() < 0:
            return trio.ClosedResourceError("this socket was already closed")
        return trio.BrokenResourceError(f"{what} failed: {error}")

    async def aclose(self) -> None:
        await self.stream.aclose()


class GuardedStream(trio.abc.Stream):
    """The stream that trio-websocket gets.

    Closing it leaves the transport open, since trio-websocket closes its stream before this server has sent the close
    frame.

    Args:
        transport: The stream to the client. A `SocketTransport`, or over TLS an `SSLStream` over one.
        raw: The socket of the transport; None over TLS.
        limits: The limits of the server.

    Attributes:
        heard_at: When the client last sent anything, on Trio's clock.
        refused: Why nothing more is read; None while the client is within its limits.
        dead: Nothing more can be sent, since a write has failed or was cut off.
        stalled: The client has read nothing for `write_timeout`.
        ended: The stream is closed.
        replay: The bytes that `receive_some` returns first.
        on_rest: Called when bytes wait to be sent, or the stream is dead. The callee arranges for a call of `flush`.
        silent: A close frame was sent, so nothing more may be sent.
        gate: While it is set to an event, what the client sends is kept until that event.
        free: No write is in progress or waits, so that `send_nowait` or `send` may be called.
        send: The socket's own `send`. The caller reports a partial write to `keep` and an error to `not_sent`.
    """

    def __init__(self, transport: trio.abc.Stream, raw: socket.socket | None, limits: ServerLimits) -> None:
        now = trio.current_time()
        self.heard_at = now
        self.refused: LimitExceeded | None = None
        self.dead = False
        self.stalled = False
        self.ended = False
        self.replay = b""
        self.on_rest: Callable[[], None] = _do_nothing
        self._transport = transport
        self._raw = raw
        self._limits = limits
        self._meter = FrameLimiter(MAX_MESSAGE)
        self._frames = RateLimiter(limits.frames, limits.frames_per_second, now)
        self._lock = trio.StrictFIFOLock()
        self._writers = 0
        self._rest = b""
        self.silent = False
        self.gate: trio.Event | None = None
        self.free = raw is not None
        self.send: Callable[[bytes], int] = _refuse
        if raw is not None:
            self.send = raw.send

    # input

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """Receive bytes of the client.

        Raises:
            trio.BrokenResourceError: The connection is lost, or the client has exceeded a limit (see `refused`).
            trio.ClosedResourceError: The stream is closed.

        Cancelled:
            Nothing was received.
        """
        if self.ended:
            raise trio.ClosedResourceError
        if self.replay:
            data, self.replay = self.replay, b""
            return data
        data = bytes(await self._transport.receive_some(RECEIVE))
        if self.gate is not None:
            await self.gate.wait()
        now = self.heard_at = trio.current_time()
        before = self._meter.frames
        try:
            self._meter.feed(data)
            if not self._frames.take(self._meter.frames - before, now):
                raise LimitExceeded(CloseCode.TOO_MANY, "the rate limit of frames is exceeded")
        except LimitExceeded as error:
            self.refused = error
            raise trio.BrokenResourceError(error.reason) from None
        return data

    async def wait_until_closed(self) -> None:
        """Discard everything received until the client has closed its side or answered the close frame.

        Cancelled:
            The client may not have answered.
        """
        while not self._meter.closed:
            data = bytes(await self._transport.receive_some(RECEIVE))
            if not data:
                return
            try:
                self._meter.feed(data)
            except LimitExceeded:
                self._meter = FrameLimiter(sys.maxsize, sys.maxsize)

    # output

    def send_nowait(self, data: bytes) -> None:
        """Send what the kernel accepts at once. The rest is kept for the next write, and `on_rest` is called."""
        try:
            sent = self.send(data)
        except OSError as error:
            self.not_sent(data, error)
        else:
            if sent < len(data):
                self.keep(data[sent:])

    def keep(self, rest: bytes) -> None:
        """Keep the rest of a partial write for the next write."""
        self._rest = rest
        self.free = False
        self.on_rest()

    def not_sent(self, data: bytes, error: OSError) -> None:
        """Handle an error of `send`: keep `data` for the next write, or mark the stream as dead."""
        if isinstance(error, BlockingIOError | InterruptedError):
            self.keep(data)
        else:
            self.dead = True
            self.free = False
            self.on_rest()

    async def flush(self) -> None:
        """Send what was kept for the next write. Raises and Cancelled: as `send_all`."""
        if self._rest or self.dead:
            async with self._turn():
                await self._write(b"")

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send frames of trio-websocket; none are sent after a close frame.

        Raises:
            trio.BrokenResourceError: The connection is lost, the stream is dead, or the client has read nothing for
                `write_timeout`.

        Cancelled:
            A part of the data may have been sent. Over plain TCP the next write sends the rest; over TLS the stream is
            dead.
        """
        async with self._turn():
            if not self.silent:
                self.silent = bytes(data[:1]) == b"\x88"
                await self._write(bytes(data))

    async def send_frames(self, data: bytes) -> None:
        """Send joined frames of this server; none are sent after a close frame. Raises and Cancelled: as `send_all`."""
        async with self._turn():
            if not self.silent:
                await self._write(data)

    async def send_all_of(self, data: bytes) -> None:
        """Send joined frames of this server, of which a cancel must lose none. Raises: as `send_all`.

        Cancelled:
            The next write begins with what was not sent. Over TLS the stream is dead if a part was sent.
        """
        self._rest += data
        self.free = False
        await self.flush()

    async def send_made(self, make: Callable[[], bytes]) -> None:
        """Send what `make` returns. It is called when the lock is acquired, so a waiting answer takes no memory.

        Raises and Cancelled: as `send_all`.
        """
        async with self._turn():
            if not self.silent:
                await self._write(make())

    def send_last_nowait(self, data: bytes) -> bool:
        """Send a close frame at once, if that is possible; nothing is sent after it.

        Returns:
            False if nothing was sent: use `send_last`.
        """
        if not self.free:
            return False
        try:
            sent = self.send(data)
        except (BlockingIOError, InterruptedError):
            return False
        except OSError as error:
            self.not_sent(data, error)
            return True
        self.silent = True
        self.free = False
        if sent < len(data):
            self.keep(data[sent:])
        return True

    async def send_last(self, data: bytes) -> None:
        """Send a close frame; nothing is sent after it. Raises and Cancelled: as `send_all`."""
        async with self._turn():
            self.silent = True
            await self._write(data)

    @asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        """Hold the lock. `free` is False from before the acquisition, which takes a step of the event loop."""
        self.free = False
        self._writers += 1
        try:
            async with self._lock:
                yield
        finally:
            self._writers -= 1
            self.free = not (self._writers or self._rest or self.dead or self.silent or self._raw is None)

    async def wait_send_all_might_not_block(self) -> None:
        await self._transport.wait_send_all_might_not_block()

    async def _write(self, data: bytes) -> None:
        if self.dead:
            raise trio.BrokenResourceError("an earlier write failed or was cut off")
        self.dead = True  # until the write is complete, or its rest is known
        begun = bool(self._rest)
        data, self._rest = self._rest + data, b""
        if isinstance(self._transport, trio.SSLStream):
            await self._write_tls(data)
        elif self._raw is None:
            await self._transport.send_all(data)
        else:
            await self._write_plain(self._raw, memoryview(data), begun)
        self.dead = False

    async def _write_plain(self, raw: socket.socket, data: memoryview, begun: bool) -> None:
        """Send `data` over plain TCP. `begun`: it begins in the middle of a frame."""
        whole = len(data)
        while data:
            try:
                data = data[raw.send(data[:CHUNK]) :]
                if data:  # a page takes the kernel about a millisecond
                    await trio.lowlevel.cancel_shielded_checkpoint()
                continue
            except (BlockingIOError, InterruptedError):
                pass
            except OSError as error:
                raise trio.BrokenResourceError(f"write failed: {error}") from error
            try:
                with trio.move_on_after(self._limits.write_timeout) as scope:
                    await trio.lowlevel.wait_writable(raw)
            except trio.Cancelled:
                if begun or len(data) < whole:  # the next write sends the rest
                    self._rest = bytes(data) + self._rest
                self.dead = False
                raise
            if scope.cancelled_caught:
                self._stall()
        await trio.lowlevel.cancel_shielded_checkpoint()

    async def _write_tls(self, data: bytes) -> None:
        assert isinstance(self._transport, trio.SSLStream)
        counted: SocketTransport = self._transport.transport_stream
        timeout = self._limits.write_timeout
        with trio.move_on_after(timeout) as scope:

            def on_taken() -> None:
                scope.deadline = trio.current_time() + timeout

            counted.on_taken = on_taken
            for at in range(0, len(data), TLS_CHUNK):
                await self._transport.send_all(data[at : at + TLS_CHUNK])
        if scope.cancelled_caught:
            self._stall()

    def _stall(self) -> None:
        self.stalled = True
        self.reset_when_closed()
        raise trio.BrokenResourceError(f"the client read nothing for {self._limits.write_timeout:g} s")

    # close

    def forget_owner(self) -> None:
        """Drop `on_rest`, so that the stream and its owner are freed without the garbage collector."""
        self.on_rest = _do_nothing

    def reset_when_closed(self) -> None:
        """Make the close of the transport reset the connection, so that the kernel does not keep unread data."""
        transport = self._transport
        if isinstance(transport, trio.SSLStream):
            transport = transport.transport_stream
        if isinstance(transport, SocketTransport):
            with contextlib.suppress(OSError):  # it is closed already
                transport.stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER.pack(1, 0))

    async def aclose(self) -> None:
        self.ended = True
        await trio.lowlevel.checkpoint()


async def accept_websocket(nursery: trio.Nursery, stream: GuardedStream) -> WebSocketConnection:
    """Answer the handshake of a client, and read what it sends, in a task of the nursery. Raises: as trio-websocket."""
    tasks = ProtectedNursery(nursery)
    request = await wrap_server_stream(
        tasks,  # type: ignore[arg-type] # it only calls start_soon
        stream,
        message_queue_size=1,
        max_message_size=MAX_MESSAGE,
    )
    return await request.accept(subprotocol=PROTOCOL)
