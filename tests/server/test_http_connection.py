"""Plain HTTP connections: how long they stay open, what may follow, and the bodies of requests."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
from heads import crlf
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock, wait_all_tasks_blocked

from support.server import OWNER, Bench, Raw, bench, handshake, make_service, patient
from support.waiting import deadline
from trio_jobs._server.http_body import MAX_BODY, Body, BodyMemory
from trio_jobs._server.request import BadRequest, parse
from trio_jobs._server.server import serve

HOST = "Host: localhost"
TOKEN = f"Authorization: Bearer {OWNER.secret}"
HEALTH = crlf("GET /healthz HTTP/1.1", HOST, TOKEN)


@asynccontextmanager
async def site(**limits: Any) -> AsyncIterator[Bench]:
    """A server, whose clients are disconnected at the end."""
    async with bench(limits=patient(**limits)) as b:
        yield b
        b.reset_clients()


async def response(client: Raw, data: bytes) -> tuple[int, dict[str, str], bytes]:
    """Send a request; the status, the headers and the body of the response."""
    await client.send(data)
    received = b""
    while b"\r\n\r\n" not in received:
        received += await client.read_some()
    head, _, body = received.partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines[1:])}
    while not data.startswith(b"HEAD") and len(body) < int(headers.get("content-length", 0)):
        body += await client.read_some()
    return int(lines[0].split()[1]), headers, body


async def is_closed(client: Raw) -> bool:
    return await client.read_all() == b""


async def test_a_connection_answers_one_request_after_another() -> None:
    async with site() as b:
        client = await b.socket()
        for _ in range(3):
            status, headers, body = await response(client, HEALTH)
            assert (status, json.loads(body)["ok"]) == (200, True)
            assert "connection" not in headers
        status, headers, body = await response(client, HEALTH.replace(b"GET", b"HEAD"))
        assert (status, body) == (200, b"")
        assert int(headers["content-length"]) > 100
        status, headers, _ = await response(client, crlf("GET /healthz HTTP/1.1", HOST, "Connection: x, Close"))
        assert headers["connection"] == "close"
        assert await is_closed(client)


@pytest.mark.parametrize("head", [crlf("GET /healthz HTTP/1.0", TOKEN, "Connection: keep-alive"),
                                  crlf("HEAD /healthz HTTP/1.0")])  # fmt: skip
async def test_a_request_in_http_1_0_is_the_last_of_its_connection(head: bytes) -> None:
    async with site() as b:
        client = await b.socket()
        status, headers, _ = await response(client, head)
        assert (status, headers["connection"]) == (200, "close")
        assert await is_closed(client)


async def test_a_post_in_http_1_0_is_refused() -> None:
    async with site() as b:
        client = await b.socket()
        status, headers, _ = await response(client, crlf("POST /healthz HTTP/1.0", HOST, "Content-Length: 0"))
        assert (status, headers["allow"], headers["connection"]) == (405, "GET, HEAD", "close")


async def test_an_idle_connection_is_closed_after_75_seconds(network_clock: MockClock) -> None:
    async with site(keep_alive=75.0) as b:
        client = await b.socket()
        await response(client, HEALTH)
        at = trio.current_time()
        with trio.move_on_after(1000):
            assert await is_closed(client)
        assert 74.9 < trio.current_time() - at < 75.1
        assert b.server.refusals["timeout"] == 0


async def test_a_later_head_that_is_not_complete_in_time_is_refused(network_clock: MockClock) -> None:
    async with site(head_timeout=5.0) as b:
        client = await b.socket()
        await response(client, HEALTH)
        status, headers, _ = await response(client, b"GET /hea")
        assert (status, headers["connection"]) == (408, "close")
        assert b.server.refusals["timeout"] == 1


async def test_an_upgrade_is_accepted_as_the_first_request_only() -> None:
    async with site() as b:
        client = await b.socket()
        await response(client, HEALTH)
        status, headers, body = await response(client, handshake())
        assert (status, headers["connection"]) == (400, "close")
        assert b"must be the first request" in body
        assert await is_closed(client)


async def test_what_follows_a_malformed_later_request_is_not_executed() -> None:
    async with site() as b:
        client = await b.socket()
        bad = crlf("GET /healthz HTTP/1.1", HOST, "Content-Length: 5", "Transfer-Encoding: chunked")
        await client.send(HEALTH + bad + HEALTH)
        answers = await client.read_all()
        assert re.findall(rb"HTTP/1.1 (\d+)", answers) == [b"200", b"400"]


async def test_at_most_half_of_all_connections_are_kept_open() -> None:
    async with site(connections=4) as b:
        clients = [await b.socket() for _ in range(3)]
        kept = []
        for client in clients:
            _, headers, _ = await response(client, HEALTH)
            kept.append("connection" not in headers)
        assert kept == [True, True, False]
        for client in clients:
            client.reset()


async def test_the_connection_that_is_idle_for_the_longest_time_is_closed_first() -> None:
    async with site(connections=4) as b:
        first, second = await b.socket(), await b.socket()
        await response(first, HEALTH)
        await response(second, HEALTH)
        await response(first, HEALTH)
        others = [await b.raw() for _ in range(3)]  # the third one takes a place of an idle connection
        assert await is_closed(second)
        assert (await response(first, HEALTH))[0] == 200
        assert b.server.refusals["full"] == b.server.refusals["timeout"] == 0
        first.reset()
        for other in others:
            await other.say_goodbye()


async def test_an_idle_connection_does_not_delay_the_stop() -> None:
    async with make_service().open() as queue:
        with deadline("the server stops"):
            async with serve(queue, port=0, tokens=[OWNER], limits=patient()) as server:
                client = await Bench(queue, server).socket()
                await response(client, HEALTH)
        assert await is_closed(client)
        await client.stream.aclose()


async def test_a_connection_without_a_token_gives_its_place_to_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trio_jobs._server.places.CONTENDED_HANDSHAKE_TIMEOUT", 0.01)
    async with site(connections=2) as b:
        stranger = await b.socket()
        await response(stranger, crlf("GET /healthz HTTP/1.1", HOST))
        client = await b.raw()
        assert await is_closed(stranger)
        await client.say_goodbye()


# bodies


class Sender:
    """A client that sends a body in pieces, and then closes."""

    def __init__(self, *pieces: bytes) -> None:
        self.pieces = [*pieces]
        self.sent: list[bytes] = []

    async def receive(self, most: int) -> bytes:
        await trio.lowlevel.checkpoint()
        if not self.pieces:
            return b""
        piece = self.pieces.pop(0)
        if len(piece) > most:
            self.pieces.insert(0, piece[most:])
        return piece[:most]

    async def send(self, data: bytes) -> None:
        self.sent.append(data)


def head_of(*lines: str) -> Any:
    return parse(crlf("POST /v1 HTTP/1.1", HOST, *lines))


CHUNKED = "Transfer-Encoding: chunked"


async def read(head: Any, *pieces: bytes, memory: BodyMemory | None = None) -> tuple[bytes, bytes]:
    """The body, and what follows it."""
    sender = Sender(*pieces[1:])
    body = Body(head, pieces[0] if pieces else b"", sender.receive, sender.send, memory or BodyMemory())
    async with body.read() as data:
        assert body.is_read
        return data, body.rest + b"".join(sender.pieces)


def chunks(data: bytes, size: int) -> bytes:
    parts = [data[at : at + size] for at in range(0, len(data), size)]
    return b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"


@given(st.binary(max_size=300), st.binary(max_size=20), st.integers(1, 40), st.integers(1, 50))
def test_a_body_is_the_same_however_it_arrives(data: bytes, behind: bytes, size: int, step: int) -> None:
    async def check() -> None:
        for head, sent in ((head_of(f"Content-Length: {len(data)}"), data), (head_of(CHUNKED), chunks(data, size))):
            sent += behind
            pieces = [sent[at : at + step] for at in range(0, len(sent), step)]
            found, rest = await read(head, *pieces)
            assert found == data
            assert rest == behind

    trio.run(check)


@pytest.mark.parametrize(
    "sent",
    [
        b"5\r\nabcd\r\n0\r\n\r\n",  # a chunk shorter than its size
        b"5\r\nabcdefg\r\n0\r\n\r\n",
        b"-5\r\nabcde\r\n0\r\n\r\n",
        b"0x5\r\nabcde\r\n0\r\n\r\n",
        b"5 5\r\nabcde\r\n0\r\n\r\n",
        b"5\nabcde\r\n0\r\n\r\n",
        b"5\r\nabcde\n0\r\n\r\n",
        b"5\r\nabcde\r\n0\r\n\n",
        b"5\r\nabcde\r\n0\n\r\n",
        b"5\r\nabcde\r\n0\r\nX: y\r\n\r\n",
        b"5\r\nabcde\r\n0\r\nContent-Length: 3\n\n",
        b"\r\n5\r\nabcde\r\n0\r\n\r\n",
        b"fffffffffffffffffffffff\r\n",
    ],
)
async def test_a_chunked_body_whose_end_readers_could_see_elsewhere_is_refused(sent: bytes) -> None:
    for step in (1, 2, 1000):
        with pytest.raises((BadRequest, trio.BrokenResourceError)) as caught:
            await read(head_of(CHUNKED), *(sent[at : at + step] for at in range(0, len(sent), step)), b"GET / HTTP")
        assert not isinstance(caught.value, BadRequest) or caught.value.status == 400


async def test_a_body_of_1_mib_is_accepted_and_one_byte_more_is_refused() -> None:
    for head in (head_of(f"Content-Length: {MAX_BODY}"), head_of(CHUNKED)):
        data = b"x" * MAX_BODY
        sent = data if head.body else chunks(data, 65536)
        assert (await read(head, sent))[0] == data
    with pytest.raises(BadRequest, match="more than") as caught:
        await read(head_of(f"Content-Length: {MAX_BODY + 1}"))
    assert caught.value.status == 413
    with pytest.raises(BadRequest, match="more than") as caught:
        await read(head_of(CHUNKED), chunks(b"x" * (MAX_BODY + 1), 65536))
    assert caught.value.status == 413


async def test_a_body_of_tiny_chunks_is_refused() -> None:
    with pytest.raises(BadRequest, match="too small"):
        await read(head_of(CHUNKED), b"", chunks(b"x" * 50_000, 1))


async def test_a_client_that_disconnects_within_a_body_is_not_answered() -> None:
    sent = chunks(b"abcde", 2)
    for at in range(len(sent)):
        with pytest.raises(trio.BrokenResourceError):
            await read(head_of(CHUNKED), sent[:at])
    with pytest.raises(trio.BrokenResourceError):
        await read(head_of("Content-Length: 5"), b"abcd")


@pytest.mark.parametrize(("size", "most"), [(10, 10.0), (64 * 1024, 12.0)])
async def test_a_body_has_10_seconds_and_one_more_for_each_32_kib(
    autojump_clock: MockClock, size: int, most: float
) -> None:
    async def receive(_: int) -> bytes:
        await trio.sleep_forever()
        raise AssertionError

    body = Body(head_of(f"Content-Length: {size + 1}"), b"x" * size, receive, Sender().send, BodyMemory())
    begun = trio.current_time()
    with pytest.raises(BadRequest, match="in time") as caught:
        async with body.read():
            pass
    assert caught.value.status == 408
    assert trio.current_time() - begun == pytest.approx(most, abs=0.01)


async def test_a_client_is_asked_to_continue_only_if_it_waits_for_that() -> None:
    for rest, asked in ((b"", [b"HTTP/1.1 100 Continue\r\n\r\n"]), (b"a", [])):
        sender = Sender(b"abc"[len(rest) :])
        head = head_of("Content-Length: 3", "Expect: 100-Continue")
        async with Body(head, rest, sender.receive, sender.send, BodyMemory()).read() as data:
            assert data == b"abc"
        assert sender.sent == asked
    with pytest.raises(BadRequest) as caught:
        await read(head_of("Content-Length: 3", "Expect: 200-ok"), b"abc")
    assert caught.value.status == 417


async def test_bodies_wait_for_memory_in_their_order_and_not_forever(autojump_clock: MockClock) -> None:
    memory = BodyMemory(10)
    order: list[int] = []

    async def take(size: int, seconds: float) -> None:
        async with memory.reserve(size):
            order.append(size)
            await trio.sleep(seconds)

    async with trio.open_nursery() as nursery:
        for size, seconds in ((8, 4.0), (9, 1.0), (2, 1.0)):  # the third one fits beside the first, and waits
            nursery.start_soon(take, size, seconds)
            await wait_all_tasks_blocked()
    assert order == [8, 9, 2]
    assert memory.free == 10
    async with trio.open_nursery() as nursery:
        nursery.start_soon(take, 10, 11.0)
        await wait_all_tasks_blocked()
        with pytest.raises(BadRequest) as caught:
            await take(1, 0)
        assert (caught.value.status, dict(caught.value.headers)) == (503, {"Retry-After": "5"})
    assert memory.free == 10


async def test_a_body_that_stops_waiting_lets_the_next_ones_pass(autojump_clock: MockClock) -> None:
    memory = BodyMemory(10)
    async with memory.reserve(8), trio.open_nursery() as nursery:
        passed = trio.Event()

        async def small() -> None:
            async with memory.reserve(2):
                passed.set()

        with trio.move_on_after(1):
            nursery.start_soon(wait_all_tasks_blocked)
            async with trio.open_nursery() as inner:

                async def large() -> None:
                    async with memory.reserve(9):
                        raise AssertionError("there is no memory for it")

                inner.start_soon(large)
                await wait_all_tasks_blocked()
                nursery.start_soon(small)
        with deadline("the small body"):
            await passed.wait()
    assert memory.free == 10


async def test_a_get_with_a_body_is_refused() -> None:
    async with site() as b:
        client = await b.socket()
        status, headers, _ = await response(client, crlf("GET /healthz HTTP/1.1", HOST, "Content-Length: 3") + b"abc")
        assert (status, headers["connection"]) == (400, "close")


async def test_the_name_of_the_token_and_the_address_of_a_proxy_are_those_of_the_last_request(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with site() as b:
        client = await b.socket()
        for _ in range(3):
            await response(client, crlf("GET /healthz HTTP/1.1", HOST, TOKEN, "X-Forwarded-For: 203.0.113.9"))
        await response(client, crlf("GET /healthz HTTP/1.1", HOST, "X-Forwarded-For: 203.0.113.7", "broken"))
    assert caplog.text.count("X-Forwarded-For") == caplog.text.count("(ann)") == 1
