"""The hostile campaign: whatever a stranger, a broken client or a slow one does, the server serves the others.

`bench` checks at the end of each test that no task, no connection and no descriptor is left.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import struct
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio
from trio.testing import MockClock
from wsproto.frame_protocol import CloseReason, Opcode

from support.server import OWNER, WATCHER, Bench, Raw, bench, handshake, make_service, patient
from support.waiting import deadline
from trio_jobs._server import listener
from trio_jobs._server.tokens import Token


async def is_alive(b: Bench) -> None:
    """A client like any other is served."""
    client = await b.raw()
    job = await client.ask("jobs.submit", kind="double", payload=3)
    assert (await client.ask("jobs.result", job=job["job"], wait=30))["result"] == 6
    await client.say_goodbye()


@pytest.fixture(autouse=True)
def nothing_is_logged_as_an_error(caplog: pytest.LogCaptureFixture) -> Any:
    yield
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []


HANDSHAKES = {
    "nothing at all": b"",
    "half a line": b"GET /w",
    "half a head": handshake()[:-2],
    "TLS": bytes.fromhex("160301020001000001fc0303") + os.urandom(500),
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "plain GET": b"GET /ws HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "bad version": handshake(Sec_WebSocket_Version="7"),
    "no key": handshake(Sec_WebSocket_Key=None),
    "protocol not ASCII": handshake(Sec_WebSocket_Protocol="trio-jobs.v1, \xff"),
    "host twice": handshake(X_A="1\r\nHost: localhost"),
    "bare line ends": handshake().replace(b"\r\n", b"\n"),
    "two lengths": handshake(Content_Length="0", Transfer_Encoding="chunked"),
    "foreign host": handshake(Host="evil.example"),
    "frames too early": handshake() + b"\x81\x80abcd",
    "head too long": b"GET /ws HTTP/1.1\r\nX: " + b"a" * 33_000,
    "no protocol": handshake(Sec_WebSocket_Protocol=None),
    "NUL": b"\0" * 100 + b"\r\n\r\n",
}


@pytest.mark.parametrize("name", HANDSHAKES)
async def test_an_invalid_handshake_is_answered_or_dropped_within_head_timeout(
    name: str, network_clock: MockClock
) -> None:
    async with bench(limits=patient(head_timeout=1.0)) as b:
        client = await b.socket()
        await client.send(HANDSHAKES[name])
        answer = await client.read_all()
        assert answer == b"" or answer.startswith((b"HTTP/1.1 4",)), answer
        await client.stream.aclose()
        await is_alive(b)


@pytest.mark.parametrize("name", HANDSHAKES)
async def test_a_reset_in_the_middle_of_a_handshake_leaves_nothing(name: str) -> None:
    async with bench(limits=patient()) as b:
        for _ in range(3):
            client = await b.socket()
            await client.send(HANDSHAKES[name])
            client.reset()
        await is_alive(b)


async def test_a_slow_head_ends_at_head_timeout(network_clock: MockClock) -> None:
    async with bench(limits=patient(head_timeout=1.0)) as b:
        client = await b.socket()
        with pytest.raises((trio.BrokenResourceError, EOFError)), deadline("the end of a slow head"):
            for byte in handshake():
                await client.send(bytes([byte]))
                with trio.move_on_after(0.1):
                    await client.read_some()
        await client.stream.aclose()
        await is_alive(b)


async def test_many_slow_heads_do_not_keep_an_honest_client_out() -> None:
    async with bench(limits=patient(pending=20)) as b:
        slow = [await b.socket() for _ in range(40)]
        for client in slow:
            await client.send(b"GET /ws HT")
        await is_alive(b)
        assert len(b.server._places.pending) <= 20
        for client in slow:
            await client.stream.aclose()


@pytest.mark.parametrize("known", [0, 3])
async def test_slow_heads_that_take_all_slots_do_not_keep_an_honest_client_out(
    known: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trio_jobs._server.places.CONTENDED_HANDSHAKE_TIMEOUT", 0.05)
    async with bench(limits=patient(connections=6)) as b:
        clients = [await b.raw() for _ in range(known)]
        slow = [await b.socket() for _ in range(12)]
        for client in slow:
            await client.send(b"GET /ws HT")
        await is_alive(b)
        for client in clients:
            assert (await client.ask("server.hello"))["name"] == "ann"
            await client.say_goodbye()
        for client in slow:
            await client.stream.aclose()


async def test_clients_with_a_wrong_token_do_not_keep_an_honest_client_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trio_jobs._server.places.CONTENDED_HANDSHAKE_TIMEOUT", 0.05)
    async with bench(limits=patient(connections=4)) as b:
        wrong = [await b.socket() for _ in range(8)]
        for client in wrong:  # they never answer the close frame
            await client.send(handshake(None))
        await is_alive(b)
        for client in wrong:
            await client.stream.aclose()


async def test_connections_beyond_the_limit_are_closed_and_the_others_stay() -> None:
    async with bench(limits=patient(connections=5)) as b:
        clients = [await b.raw() for _ in range(5)]
        client = await b.socket()
        with pytest.raises((EOFError, trio.BrokenResourceError)):
            await client.send(handshake())
            await client.read_some()
        await client.stream.aclose()
        assert (await clients[0].ask("server.hello"))["name"] == "ann"
        for client in clients:
            await client.say_goodbye()


@pytest.mark.parametrize(
    ("token", "headers", "code"),
    [
        (None, {}, 4401),
        (Token("wrong-" + "0" * 20), {}, 4401),
        (OWNER, {"Origin": "https://evil.example"}, 4403),
        (OWNER, {"Origin": "null"}, 4403),
        (OWNER, {"Origin": "http://localhost:3000"}, 4403),
        (OWNER, {"Origin": "https://ok.example.evil.example"}, 4403),
        (OWNER, {"Origin": "https://ok.example:8443"}, 4403),
        (OWNER, {"Origin": "http://ok.example"}, 4403),
        (None, {"Origin": "https://ok.example"}, 4401),
    ],
)
async def test_connections_without_a_token_or_from_a_foreign_origin_are_closed_at_once(
    token: Token | None, headers: dict[str, str], code: int
) -> None:
    async with bench(limits=patient(), origins=["https://ok.example"]) as b:
        client = await b.raw(token, **headers)
        _, request = client.request("jobs.submit", kind="double", payload=1)
        await client.send(request)
        assert await client.close_code() == code
        await client.stream.aclose()
        assert not any(b.queue.statistics().jobs.values())


def masked(first: int, payload: bytes = b"", length: int | None = None) -> bytes:
    """A client's frame, as it should be or not."""
    size = len(payload) if length is None else length
    if size < 126:
        head = bytes((first, 0x80 | size))
    elif size < 65536:
        head = bytes((first, 0x80 | 126)) + struct.pack("!H", size)
    else:
        head = bytes((first, 0x80 | 127)) + struct.pack("!Q", size)
    return head + b"\0\0\0\0" + payload


FRAMES: dict[str, tuple[bytes, set[int]]] = {
    "binary": (masked(0x82, b"x"), {4400}),
    "too large": (masked(0x81, b"x" * 1000, 2**21), {1009}),
    "far too large": (masked(0x81, b"", 2**62), {1009}),
    "length with the highest bit": (masked(0x81, b"", 2**63 + 5), {1009, 1002}),
    "invalid UTF-8": (masked(0x81, b"\xff\xfe"), {1007}),
    "half a character": (masked(0x81, b"\xc3"), {1007}),
    "unmasked": (b"\x81\x01x", {1002}),
    "reserved bit": (masked(0xC1, b"x"), {1002}),
    "unknown opcode": (masked(0x83, b"x"), {1002}),
    "continuation of nothing": (masked(0x80, b"x"), {1002}),
    "text within a fragmented text": (masked(0x01, b"x") + masked(0x81, b"y"), {1002}),
    "fragmented ping": (masked(0x09, b"x"), {1002}),
    "long ping": (masked(0x89, b"x" * 126), {1002}),
    "length that could be shorter": (b"\x81" + bytes((0x80 | 126,)) + b"\0\5" + b"\0" * 4 + b"abcde", {1002}),
    "close of one byte": (masked(0x88, b"x"), {1002}),
    "close with a code that is not sent": (masked(0x88, struct.pack("!H", 1006)), {1002}),
    "close with a reason that is no text": (masked(0x88, struct.pack("!H", 1000) + b"\xff"), {1002, 1007}),
    "fragments of one byte": (masked(0x01, b"x") + masked(0x00, b"x") * 100, {4429}),
    "empty fragments": (masked(0x01) + masked(0x00) * 100, {4429}),
    "a flood of pings": (masked(0x89, b"x") * 3000, {4429}),
    "a flood of pongs": (masked(0x8A, b"x") * 3000, {4429}),
    "no JSON, again and again": (masked(0x81, b"{") * 30, {4400}),
    "batches, again and again": (masked(0x81, b"[{}]") * 30, {4400}),
    "a flood of requests": (masked(0x81, b'{"jsonrpc":"2.0","id":1,"method":"server.hello"}') * 900, {4429}),
}


async def send_what_is_read(client: Raw, data: bytes) -> None:
    """The server stops reading before all is sent."""
    with contextlib.suppress(trio.BrokenResourceError):
        await client.send(data)


@pytest.mark.parametrize("name", FRAMES)
async def test_invalid_frames_are_answered_by_a_close_with_the_reason(name: str) -> None:
    data, codes = FRAMES[name]
    # a slow machine sends a flood slowly: no message or frame is granted anew
    async with bench(limits=patient(frames_per_second=1e-6, messages_per_second=1e-6), service=make_service()) as b:
        client = await b.raw()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(send_what_is_read, client, data)
            assert await client.close_code() in codes
            nursery.cancel_scope.cancel()
        await client.stream.aclose()
        await is_alive(b)


@pytest.mark.parametrize("name", FRAMES)
async def test_a_client_that_sends_invalid_frames_and_resets_leaves_nothing(name: str) -> None:
    async with bench(limits=patient()) as b:
        client = await b.raw()
        with trio.move_on_after(0.2):
            await client.send(FRAMES[name][0])
        client.reset()
        await is_alive(b)


async def test_requests_beyond_the_rate_are_refused_and_the_others_answered() -> None:
    async with bench(limits=patient(messages=5, messages_per_second=1e-6)) as b:
        client = await b.raw()
        requests = [client.request("server.hello")[1] for _ in range(8)]
        await client.send(b"".join(requests))
        methods = [await client.message() for _ in range(8)]
        codes = [answer["error"]["code"] for answer in methods if "error" in answer]
        assert codes == [-32016] * 3
        assert [answer["result"]["name"] for answer in methods if "result" in answer] == ["ann"] * 5
        await client.say_goodbye()


async def statuses(client: Raw, count: int, **extra: Any) -> list[bool]:
    """Whether each of so many requests, sent at once, is answered."""
    await client.send(b"".join(client.request("jobs.list", limit=1, **extra)[1] for _ in range(count)))
    return sorted(["result" in await client.message() for _ in range(count)], reverse=True)


async def test_a_refusal_names_its_request_and_the_time_after_which_it_would_pass(mock_clock: MockClock) -> None:
    async with bench(limits=patient(messages=1, messages_per_second=0.01)) as b:
        client = await b.raw()
        assert "jobs" in await client.ask("jobs.list", limit=1)
        error = (await client.ask("jobs.list", limit=1))["error"]
        assert error["code"] == -32016
        assert error["data"]["retry_after"] == pytest.approx(100)
        await client.say_goodbye()


async def test_a_page_of_jobs_takes_more_of_the_rate_limit_than_one_job() -> None:
    async with bench(limits=patient(messages=20, messages_per_second=1e-6)) as b:
        client = await b.raw()
        for _ in range(2):
            assert "jobs" in await client.ask("jobs.list", limit=450)  # costs 10
        assert "error" in await client.ask("jobs.list", limit=1)
        await client.say_goodbye()


async def test_a_token_that_only_watches_has_a_fifth_of_the_messages() -> None:
    async with bench(limits=patient(messages=10, messages_per_second=1e-6)) as b:
        client, watcher = await b.raw(), await b.raw(WATCHER)
        assert await statuses(client, 12) == [True] * 10 + [False] * 2
        assert await statuses(watcher, 4) == [True] * 2 + [False] * 2
        await client.say_goodbye()
        await watcher.say_goodbye()


async def test_a_token_that_only_watches_has_a_sixteenth_of_the_bytes() -> None:
    async with bench(limits=patient(bytes=16_000, bytes_per_second=1e-6)) as b:
        client, watcher = await b.raw(), await b.raw(WATCHER)
        kind = "k" * 100  # with what is around it some 180 bytes
        assert await statuses(client, 10, kind=kind) == [True] * 10
        assert await statuses(watcher, 10, kind=kind) == [True] * 5 + [False] * 5
        await client.say_goodbye()
        await watcher.say_goodbye()


async def test_messages_are_weighed_in_bytes_and_not_in_characters() -> None:
    async with bench(limits=patient(bytes=1000, bytes_per_second=1e-6)) as b:
        client = await b.raw()
        text = '{"jsonrpc":"2.0","id":1,"method":"jobs.get","params":{"job":"%s"}}' % ("\U0001f980" * 60)
        assert 300 <= len(text.encode()) < 333
        await client.send(bytes(client.proto.send_data(text)) * 4)
        codes = [(await client.message())["error"]["code"] for _ in range(4)]
        assert sorted(codes) == [-32016, -32004, -32004, -32004]
        await client.say_goodbye()


async def test_requests_beyond_64_in_flight_are_refused_and_the_64_continue() -> None:
    async with bench(limits=patient()) as b:
        await b.queue.pause("")
        job = await b.queue.submit("double", 1)
        client = await b.raw()
        requests = [client.request("jobs.result", job=job.job_id, wait=10)[1] for _ in range(70)]
        await client.send(b"".join(requests))
        refused = [await client.message() for _ in range(6)]
        assert {answer["error"]["code"] for answer in refused} == {-32016}
        await b.queue.resume()
        methods = [await client.message() for _ in range(64)]
        assert {answer["result"]["result"] for answer in methods} == {2}
        await client.say_goodbye()


async def test_a_connection_has_a_bounded_number_of_subscriptions() -> None:
    async with bench(limits=patient(subscriptions=3)) as b:
        client = await b.raw()
        for i in range(3):
            await client.ask("jobs.subscribe", subscription=f"s{i}")
        assert (await client.ask("jobs.subscribe", subscription="s3"))["error"]["code"] == -32016
        await client.ask("jobs.unsubscribe", subscription="s0")
        assert "seq" in await client.ask("jobs.subscribe", subscription="s3")
        await client.say_goodbye()


# closing


async def close_then_ping(client: Raw) -> None:
    await client.send(client.proto.close(CloseReason.NORMAL_CLOSURE) + masked(0x89, b"late"))


async def close_twice(client: Raw) -> None:
    close = client.proto.close(CloseReason.NORMAL_CLOSURE)
    await client.send(close + close)


async def close_without_code(client: Raw) -> None:
    await client.send(masked(0x88))


async def half_close(client: Raw) -> None:
    await client.stream.send_eof()


async def ask_and_half_close(client: Raw) -> None:
    await client.send(client.request("jobs.list")[1])
    await client.stream.send_eof()


async def ask_and_reset(client: Raw) -> None:
    await client.send(client.request("jobs.list")[1])
    client.reset()


async def wait_and_reset(client: Raw) -> None:
    await client.send(client.request("jobs.submit", kind="wait", payload=0.2)[1])
    job = (await client.message())["result"]["job"]
    await client.send(client.request("jobs.result", job=job, wait=20)[1])
    client.reset()


async def half_a_frame_and_reset(client: Raw) -> None:
    await client.send(client.request("jobs.list")[1][:7])
    client.reset()


async def subscribe_and_reset(client: Raw) -> None:
    await client.send(client.request("jobs.subscribe", subscription="s", snapshot=True)[1])
    client.reset()


ENDS: list[Callable[[Raw], Awaitable[None]]] = [
    close_then_ping,
    close_twice,
    close_without_code,
    half_close,
    ask_and_half_close,
    ask_and_reset,
    wait_and_reset,
    half_a_frame_and_reset,
    subscribe_and_reset,
]


@pytest.mark.parametrize("end", ENDS, ids=lambda end: end.__name__)
async def test_the_server_continues_however_a_client_ends(end: Callable[[Raw], Awaitable[None]]) -> None:
    async with bench(limits=patient()) as b:
        for _ in range(3):
            client = await b.raw()
            await end(client)
            if client.stream.socket.fileno() >= 0:
                await client.read_all()
                await client.stream.aclose()
        await is_alive(b)


@pytest.mark.parametrize(
    "after", [masked(0x89, b"p"), masked(0x81, b"x" * 70_000), masked(0x81, b"", 2**40), b"\xff" * 50, b""]
)
async def test_data_after_our_close_does_no_harm(after: bytes) -> None:
    async with bench(limits=patient(close_timeout=0.5)) as b:
        client = await b.raw()
        await client.send(masked(0x82, b"binary"))
        assert await client.close_code() == 4400
        with trio.move_on_after(1):
            await client.send(after)
        assert await client.read_all() == b""
        await client.stream.aclose()
        await is_alive(b)


async def test_a_client_that_is_silent_between_two_pings_is_dropped(mock_clock: MockClock) -> None:
    async with bench(limits=patient(ping=20.0)) as b:
        silent, honest = await b.raw(), await b.raw()
        for client in (silent, honest):
            await client.ask("server.hello")  # so its first ping is due in 20 s
        with deadline("four pings"):
            for _ in range(4):
                mock_clock.jump(20.0)
                opcode, payload = await honest.frame()
                assert opcode is Opcode.PING
                await honest.send(masked(0x8A, payload))
                await honest.ask("server.hello")  # so it has read what came before
        with pytest.raises((EOFError, trio.BrokenResourceError)):
            while True:
                await silent.frame()
        await silent.stream.aclose()
        await honest.say_goodbye()


async def test_each_ping_comes_with_the_position_of_an_idle_stream(mock_clock: MockClock) -> None:
    async with bench(limits=patient(ping=20.0)) as b:
        client = await b.raw(WATCHER)
        await client.ask("jobs.subscribe", subscription="s", jobs=["nobody's"])
        done = await b.queue.submit("double", 1)
        await b.queue.result(done.job_id)

        async def positions_with_a_ping() -> list[int]:
            mock_clock.jump(20.0)
            opcode, payload = await client.frame()
            assert opcode is Opcode.PING
            await client.send(masked(0x8A, payload))
            await client.ask("server.hello")  # so it has read what came before, and what came with the ping is here
            told, client.notifications = client.notifications, []
            assert {message["method"] for message in told} <= {"jobs.position"}
            return [message["params"]["seq"] for message in told]

        seqs: list[int] = []
        with deadline("the position behind the last event"):
            while not seqs or seqs[-1] < b.queue.statistics().seq:  # the events wake the stream while time passes
                seqs += await positions_with_a_ping()
        assert await positions_with_a_ping() == seqs[-1:]
        assert seqs == sorted(seqs)
        await client.say_goodbye()


async def test_without_descriptors_the_server_waits_and_logs_once(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    resource = pytest.importorskip("resource")
    pauses = 0

    class Clock:
        """Counts the pauses of the accept loop, and makes each a turn of the loop."""

        def __getattr__(self, name: str) -> Any:
            return getattr(trio, name)

        @staticmethod
        async def sleep(seconds: float) -> None:
            nonlocal pauses
            pauses += 1
            await trio.lowlevel.checkpoint()

    monkeypatch.setattr(listener, "trio", Clock())
    async with bench(limits=patient()) as b:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        sockets = [socket.socket(), socket.socket()]
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(s.fileno() for s in sockets) + 1, hard))
        try:
            sockets[0].setblocking(False)
            sockets[0].connect_ex(("127.0.0.1", b.port))
            sockets[1].setblocking(False)
            sockets[1].connect_ex(("127.0.0.1", b.port))
            with deadline("ten pauses of the accept loop"):
                while pauses < 10:
                    await trio.lowlevel.checkpoint()
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            for s in sockets:
                s.close()
        await is_alive(b)
    assert len([record for record in caplog.records if "no connection can be accepted" in record.message]) == 1
    caplog.clear()
