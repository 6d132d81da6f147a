"""The stream between a socket and trio-websocket.

What comes in: first the head that we made, then the client's bytes, counted by their frame headers before wsproto keeps
any of them. What goes out: frames of trio-websocket (pongs, the answer to a close) and our own joined writes, under one
lock, each written whole. A write that is cancelled half-way has cut a frame in two. Through plain TCP it is known
where, and the next writer begins with the other half; through TLS it is not: the stream is then dead, and says so to
all who come later, instead of pretending that their sends succeed.

The fastest way to a hundred idle subscribers is not to wake their tasks at all: where the stream is `free`, the bytes
are given to the kernel from within the feed's own step. Only plain TCP can do that; through TLS all waits its turn.
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

from trio_jobs._server.limits import RateLimiter, ServerLimits
from trio_jobs._wire.codes import MAX_MESSAGE, CloseCode
from trio_jobs._wire.frames import FrameLimiter, LimitExceeded

__all__ = ["CountedStream", "GuardedStream"]

RECEIVE: Final = 16 * 1024
TLS_CHUNK: Final = 16 * 1024  #: a TLS record; what is given to OpenSSL at once is there a second time, as ciphertext
_LINGER: Final = struct.Struct("hh" if sys.platform == "win32" else "ii")


def _refuse(data: bytes) -> NoReturn:
    raise AssertionError("through TLS nothing is sent at once")


class CountedStream(trio.abc.Stream):
    """A socket for `trio.SSLStream` to write to, which tells of each part of a write that the kernel has taken.

    on_taken: called then; it must return at once and not raise.
    """

    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream = stream
        self.on_taken: Callable[[], None] = lambda: None

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Cancelled: some of it may be sent, and nobody knows how much, as with trio's own."""
        with memoryview(data) as left:
            at = 0
            try:
                while at < len(left):
                    at += await self.stream.socket.send(left[at:])
                    self.on_taken()
            except OSError as error:
                if self.stream.socket.fileno() < 0:
                    raise trio.ClosedResourceError("this socket was closed here") from None
                raise trio.BrokenResourceError(f"write failed: {error}") from error

    async def wait_send_all_might_not_block(self) -> None:
        await self.stream.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        return await self.stream.receive_some(max_bytes)

    async def aclose(self) -> None:
        await self.stream.aclose()


class GuardedStream(trio.abc.Stream):
    """transport: what is written to; through TLS, an `SSLStream` over a `CountedStream`. raw: its socket, None where
    that would go past TLS.

    heard_at: Trio's time when the client last sent anything. refused: why no more is read. dead: nothing more can be
    sent. silent: a close frame has been sent, so nothing more may be. free: nothing is being written and nothing waits
    to be, so that `send_nowait` may be called, or `send`: the socket's own, for those who tell `keep` and `not_sent`
    what became of it. Closing it leaves the transport open, since trio-websocket closes it before we have told the
    client why.
    """

    def __init__(self, transport: trio.abc.Stream, raw: socket.socket | None, limits: ServerLimits) -> None:
        now = trio.current_time()
        self.heard_at = now
        self.refused: LimitExceeded | None = None
        self.dead = False
        self.stalled = False
        self.ended = False
        self.replay = b""
        self.on_rest: Callable[[], None] = lambda: None
        self._transport = transport
        self._raw = raw
        self._limits = limits
        self._meter = FrameLimiter(MAX_MESSAGE)
        self._frames = RateLimiter(limits.frames, limits.frames_per_second, now)
        self._lock = trio.StrictFIFOLock()
        self._writers = 0
        self._rest = b""
        self.silent = False
        self.free = raw is not None
        self.send: Callable[[bytes], int] = _refuse
        if raw is not None:
            self.send = raw.send

    # in

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """Raises `BrokenResourceError` also where the client sends too much; `refused` then says so."""
        if self.ended:
            raise trio.ClosedResourceError
        if self.replay:
            data, self.replay = self.replay, b""
            return data
        data = bytes(await self._transport.receive_some(RECEIVE))
        now = self.heard_at = trio.current_time()
        before = self._meter.frames
        try:
            self._meter.feed(data)
            if not self._frames.take(self._meter.frames - before, now):
                raise LimitExceeded(CloseCode.TOO_MANY, "too many frames a second")
        except LimitExceeded as error:
            self.refused = error
            raise trio.BrokenResourceError(error.reason) from None
        return data

    async def wait_until_closed(self) -> None:
        """Pass over all that comes until the client has closed its side or answered our close frame."""
        while not self._meter.closed:
            data = bytes(await self._transport.receive_some(RECEIVE))
            if not data:
                return
            try:
                self._meter.feed(data)
            except LimitExceeded:
                self._meter = FrameLimiter(sys.maxsize, sys.maxsize)

    # out

    def send_nowait(self, data: bytes) -> None:
        """Write what the socket takes at once. The rest is kept, and `on_rest` asks somebody to `flush` it."""
        try:
            sent = self.send(data)
        except OSError as error:
            self.not_sent(data, error)
        else:
            if sent < len(data):
                self.keep(data[sent:])

    def keep(self, rest: bytes) -> None:
        """This much of what was sent has not been taken."""
        self._rest = rest
        self.free = False
        self.on_rest()

    def not_sent(self, data: bytes, error: OSError) -> None:
        """Nothing was taken; for now, or never again."""
        if isinstance(error, BlockingIOError | InterruptedError):
            self.keep(data)
        else:
            self.dead = True
            self.free = False
            self.on_rest()

    async def flush(self) -> None:
        """Write what `send_nowait` has left."""
        if self._rest or self.dead:
            await self.send_frames(b"")

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """For trio-websocket. Raises `BrokenResourceError`; also after `write_timeout` without a byte being taken."""
        async with self._turn():
            self.silent = self.silent or bytes(data[:1]) == b"\x88"
            await self._write(bytes(data))

    async def send_frames(self, data: bytes) -> None:
        """Our frames, joined; nothing is sent after a close frame. Raises as `send_all`."""
        async with self._turn():
            if not self.silent:
                await self._write(data)

    async def send_made(self, make: Callable[[], bytes]) -> None:
        """Write what `make` gives once it is its turn, so that an answer takes memory only when it can go."""
        async with self._turn():
            if not self.silent:
                await self._write(make())

    async def send_last(self, data: bytes) -> None:
        """Write this, a close frame, and nothing after it."""
        async with self._turn():
            self.silent = True
            await self._write(data)

    @asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        """Nobody else writes meanwhile; from before the lock is asked for, since having it takes a step of the loop."""
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
            raise trio.BrokenResourceError("an earlier write was cut off")
        self.dead = True  # until it is written whole, or what is left is known
        if self._raw is None:
            await self._write_tls(data)
        else:
            begun = bool(self._rest)
            data, self._rest = self._rest + data, b""
            await self._write_plain(self._raw, memoryview(data), begun)
        self.dead = False

    async def _write_plain(self, raw: socket.socket, data: memoryview, begun: bool) -> None:
        """begun: `data` begins in the middle of a frame."""
        whole = len(data)
        while data:
            try:
                data = data[raw.send(data) :]
                continue
            except (BlockingIOError, InterruptedError):
                pass
            except OSError as error:
                raise trio.BrokenResourceError(f"write failed: {error}") from error
            try:
                with trio.move_on_after(self._limits.write_timeout) as scope:
                    await trio.lowlevel.wait_writable(raw)
            except trio.Cancelled:
                if begun or len(data) < whole:  # whoever writes next goes on from here
                    self._rest = bytes(data)
                self.dead = False
                raise
            if scope.cancelled_caught:
                self._stall()
        await trio.lowlevel.cancel_shielded_checkpoint()

    async def _write_tls(self, data: bytes) -> None:
        assert isinstance(self._transport, trio.SSLStream)
        counted: CountedStream = self._transport.transport_stream
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
        raise trio.BrokenResourceError(f"the client took nothing for {self._limits.write_timeout:g} s")

    # the end

    def reset_when_closed(self) -> None:
        """Closing sends a reset, and the kernel keeps nothing for a client that does not read."""
        transport = self._transport
        if isinstance(transport, trio.SSLStream):
            transport = transport.transport_stream.stream
        if isinstance(transport, trio.SocketStream):
            with contextlib.suppress(OSError):  # it is closed already
                transport.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER.pack(1, 0))

    async def aclose(self) -> None:
        self.ended = True
        await trio.lowlevel.checkpoint()
