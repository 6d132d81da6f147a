"""The stream under a connection: frames stay whole, and who takes nothing is given up."""

from __future__ import annotations

import contextlib
import socket

import pytest
import trio
from trio.testing import MockClock, memory_stream_pair, wait_all_tasks_blocked
from wsproto.frame_protocol import FrameDecoder, Opcode

from trio_jobs._server.limits import ServerLimits
from trio_jobs._server.stream import GuardedStream, SocketTransport
from trio_jobs._wire.frames import close_frame, text_frame


async def test_a_peer_that_reads_no_byte_for_write_timeout_is_dropped(mock_clock: MockClock) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        theirs.setblocking(False)
        stream = GuardedStream(SocketTransport(ours), ours, ServerLimits(write_timeout=1.0))
        given_up = False

        async def write() -> None:
            nonlocal given_up
            with pytest.raises(trio.BrokenResourceError):
                await stream.send_frames(b"x" * 10_000_000)
            given_up = True

        async with trio.open_nursery() as nursery:
            nursery.start_soon(write)
            await wait_all_tasks_blocked()
            mock_clock.jump(0.9)
            await wait_all_tasks_blocked()
            assert not given_up
            while len(theirs.recv(1 << 20)) == 1 << 20:  # it takes some: its time begins anew
                pass
            await wait_all_tasks_blocked(0.01)
            mock_clock.jump(0.9)
            await wait_all_tasks_blocked()
            assert not given_up
            mock_clock.jump(0.2)
        assert given_up
        assert (stream.dead, stream.stalled, stream.free) == (True, True, False)
        with pytest.raises(trio.BrokenResourceError):
            await stream.send_frames(b"more")


async def test_a_write_that_is_cancelled_half_way_is_continued_by_the_next() -> None:
    """So a client that is slow when the server stops still gets whole frames, and the close frame behind them."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        for s in (ours, theirs):
            s.setblocking(False)
        stream = GuardedStream(SocketTransport(ours), ours, ServerLimits())
        asked = 0

        def on_rest() -> None:
            nonlocal asked
            asked += 1

        stream.on_rest = on_rest
        big = text_frame(b"x" * 3_000_000)
        stream.send_nowait(big)
        assert (asked, stream.free) == (1, False)
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(stream.flush)
                await wait_all_tasks_blocked()
                scope.cancel()
        assert (stream.dead, stream.free) == (False, False)
        got = bytearray()

        async def read() -> None:
            while not got.endswith(close_frame(1001)):
                await trio.lowlevel.wait_readable(theirs)
                got.extend(theirs.recv(1 << 20))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(read)
            await stream.send_last(close_frame(1001))
        decoder = FrameDecoder(client=True)
        decoder.receive_bytes(bytes(got))
        opcodes, length = [], 0
        while (frame := decoder.process_buffer()) is not None:
            length += len(frame.payload) if frame.opcode is not Opcode.CLOSE else 0
            opcodes.append(frame.opcode)
        assert (length, opcodes[-1]) == (3_000_000, Opcode.CLOSE)
        assert not stream.free


@pytest.mark.parametrize("full", [False, True], ids=["before it begins", "while the kernel takes nothing"])
async def test_a_write_of_which_nothing_may_be_lost_is_made_by_the_next_if_it_was_cancelled(full: bool) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        for s in (ours, theirs):
            s.setblocking(False)
        stream = GuardedStream(SocketTransport(ours), ours, ServerLimits())
        if full:
            with pytest.raises(BlockingIOError):
                while ours.send(b"."):
                    pass
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(stream.send_all_of, b"first ")
                if full:
                    await wait_all_tasks_blocked()
                scope.cancel()
        assert (stream.dead, stream.free) == (False, False)
        got = b""
        with contextlib.suppress(BlockingIOError):
            while more := theirs.recv(1 << 20):
                got += more
        await stream.send_frames(b"second")
        assert got.strip(b".") + theirs.recv(100) == b"first second"
        assert stream.free


async def test_a_write_over_tls_is_made_by_the_next_if_it_was_cancelled_before_it_began() -> None:
    ours, theirs = memory_stream_pair()
    stream = GuardedStream(ours, None, ServerLimits())
    with trio.CancelScope() as scope:
        scope.cancel()
        await stream.send_all_of(b"first ")
    await stream.send_frames(b"second")
    assert await theirs.receive_some() == b"first second"
