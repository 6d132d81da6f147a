"""The stream of a client: data frames are decoded, and trio-websocket gets the handshake and the control frames."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock
from trio_websocket import ConnectionClosed

import trio_jobs
from support.fake_server import FakeConnection, answering, fake_server
from support.waiting import DEADLINE, deadline
from trio_jobs._client import session, stream
from trio_jobs._client.handshake import end_of_head
from trio_jobs._wire.frame_decoder import InvalidFrame
from trio_jobs._wire.frames import close_frame, ping_frame, text_frame

HEAD = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"
EARLY_HINTS = b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"


async def upgraded() -> tuple[stream.ClientStream, trio.abc.Stream]:
    """A stream after its handshake, and the other end."""
    ours, theirs = trio.testing.memory_stream_pair()
    client = stream.ClientStream(ours, lambda: None)
    await theirs.send_all(HEAD)
    assert await client.receive_some() == HEAD
    client.opened()
    return client, theirs


async def test_frames_that_come_with_the_head_of_the_handshake_are_decoded(autojump_clock: MockClock) -> None:
    ours, theirs = trio.testing.memory_stream_pair()
    client = stream.ClientStream(ours, lambda: None)
    await theirs.send_all(EARLY_HINTS + HEAD + text_frame(b"a") + ping_frame(b"p") + text_frame(b"bc")[:3])
    assert await client.receive_some() == EARLY_HINTS + HEAD
    with trio.fail_after(1):
        assert await client.receive() == ["a"]
    assert await client.receive_some() == ping_frame(b"p")
    await theirs.send_all(text_frame(b"bc")[3:])
    assert await client.receive() == ["bc"]


@given(st.binary(max_size=40), st.sampled_from([b"\r\n\r\n", b"\n\n", b"\n\r\n"]), st.integers(0, 2))
def test_the_head_ends_at_the_first_empty_line_behind_the_answers_that_come_before_it(
    frames: bytes, end: bytes, interim: int
) -> None:
    head = EARLY_HINTS * interim + HEAD[:-4] + end
    assert end_of_head(head + frames) == len(head)
    for cut in range(len(head)):
        assert end_of_head(head[:cut]) is None


@pytest.mark.parametrize(
    "answer", [b"HTTP/1.1 404 No\r\n\r\n", b"SSH-2.0\n\n", b"HTTP/1.1 200 Ok\r\n\r\nHTTP/1.1 101 \r\n\r\n"]
)
def test_what_does_not_accept_the_handshake_has_no_such_head(answer: bytes) -> None:
    assert end_of_head(answer) is None


async def test_the_messages_of_one_read_come_together() -> None:
    client, theirs = await upgraded()
    await theirs.send_all(b"".join(text_frame(b"%d" % i) for i in range(100)))
    assert await client.receive() == [str(i) for i in range(100)]


async def test_messages_before_what_is_invalid_and_before_the_end_are_received() -> None:
    client, theirs = await upgraded()
    await theirs.send_all(text_frame(b"a") + b"\xff\xff")
    assert await client.receive() == ["a"]
    with pytest.raises(InvalidFrame):
        await client.receive()
    client, theirs = await upgraded()
    await theirs.send_all(text_frame(b"a") + close_frame(1001) + b"\xff\xff")
    assert await client.receive() == ["a"]
    assert await client.receive() is None
    assert await client.receive_some() == close_frame(1001)
    client, theirs = await upgraded()
    await theirs.send_all(text_frame(b"a") + text_frame(b"b")[:2])
    await theirs.aclose()
    assert await client.receive() == ["a"]
    assert await client.receive() is None
    assert await client.receive_some() == b""


async def test_control_frames_that_nobody_takes_use_bounded_memory() -> None:
    """As of a server that sends pings and reads no pongs."""
    client, theirs = await upgraded()
    frames = ping_frame(b"x" * 125) * 100
    async with trio.open_nursery() as nursery:
        nursery.start_soon(client.receive)
        await trio.testing.wait_all_tasks_blocked()
        for _ in range(20):
            await theirs.send_all(frames)
            await trio.testing.wait_all_tasks_blocked()
        taken = await client.receive_some()
        assert stream.MAX_CONTROL < len(taken) <= stream.MAX_CONTROL + stream.RECEIVE
        for _ in range(10):
            await trio.testing.wait_all_tasks_blocked()
            taken += await client.receive_some()
            if len(taken) == 20 * len(frames):
                break
        assert taken == frames * 20
        nursery.cancel_scope.cancel()


async def test_a_failed_send_ends_the_wait_for_messages(autojump_clock: trio.testing.MockClock) -> None:
    """As of a server that reads nothing, and whose connection stands."""
    ours, theirs = trio.testing.lockstep_stream_pair()
    client = stream.ClientStream(ours, lambda: None)
    received: list[object] = []

    async def receive() -> None:
        received.append(await client.receive())

    with trio.fail_after(100):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(theirs.send_all, HEAD)
            assert await client.receive_some() == HEAD
            nursery.start_soon(receive)
            await trio.testing.wait_all_tasks_blocked()
            with pytest.raises(trio.BrokenResourceError):
                await client.send_all(b"x")
    assert received == [None]


async def test_while_a_client_closes_a_ping_is_not_passed_on_and_the_answer_to_the_close_is() -> None:
    client, theirs = await upgraded()
    await theirs.send_all(ping_frame(b"p") + text_frame(b"a"))
    assert await client.receive() == ["a"]
    client.closing = True
    await theirs.send_all(ping_frame(b"q") + text_frame(b"b") + close_frame(1000))
    assert await client.receive() == ["b"]
    assert await client.receive_some() == close_frame(1000)


# with trio-websocket and a server


async def talk_to(talk: Callable[[FakeConnection], Awaitable[None]]) -> int:
    """Run a client that pauses a queue, with a server that does `talk` to its first connection. Returns reconnects."""

    async def serve(connection: FakeConnection) -> None:
        await connection.hello()
        if connection.number == 1:
            await talk(connection)
        while True:
            request = await connection.receive()
            await connection.answer(request, answering(request))

    with deadline("the request is answered"):
        async with fake_server(serve) as url, trio_jobs.connect(url) as client:
            assert await client.result("a") == 42
            return client.reconnects


def answer_of(request: dict[str, Any]) -> bytes:
    return (
        b'{"jsonrpc":"2.0","id":%d,"result":{"job":"a","state":"completed","final":true,"result":42}}' % request["id"]
    )


async def test_a_message_in_fragments_with_pings_between_them_is_an_answer_and_each_ping_has_its_pong() -> None:
    pongs: list[bytes] = []

    async def talk(connection: FakeConnection) -> None:
        text = answer_of(await connection.receive())
        for number, byte in enumerate(text):
            first = (0x80 if number == len(text) - 1 else 0) | (0x1 if number == 0 else 0)
            await connection.stream.send_all(bytes((first, 1, byte)))
            if number == 0:
                with deadline("the pong"):
                    await connection.websocket.ping(b"p")
                pongs.append(b"p")

    assert await talk_to(talk) == 0
    assert pongs == [b"p"]


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"\x81\x82\x00\x00\x00\x00{}", 1002),
        (b"\xc1\x02{}", 1002),
        (b"\x80\x02{}", 1002),
        (b"\x81\x02\xc3\x28", 1007),
        (b"\x01\x01\xc3\x80\x00", 1007),
        (b"\x81\x7f" + (stream.MAX_RECEIVED + 1).to_bytes(8), 1009),
    ],
)
async def test_a_server_that_breaks_the_protocol_gets_the_close_code_and_the_request_is_sent_again(
    data: bytes, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "CLOSE_TIMEOUT", DEADLINE)
    codes: list[int] = []

    async def talk(connection: FakeConnection) -> None:
        await connection.receive()
        await connection.stream.send_all(data)
        try:
            await connection.receive()
        except ConnectionClosed as closed:
            assert closed.reason is not None
            codes.append(closed.reason.code)
            raise

    assert await talk_to(talk) == 1
    assert codes == [code]


async def test_a_close_frame_that_is_invalid_ends_the_connection() -> None:
    async def talk(connection: FakeConnection) -> None:
        await connection.receive()
        await connection.stream.send_all(b"\x88\x01x")

    assert await talk_to(talk) == 1


async def test_the_answer_that_comes_with_the_close_frame_is_not_lost() -> None:
    async def talk(connection: FakeConnection) -> None:
        text = answer_of(await connection.receive())
        await connection.stream.send_all(text_frame(text) + close_frame(1001))
        await connection.receive()

    assert await talk_to(talk) == 0
