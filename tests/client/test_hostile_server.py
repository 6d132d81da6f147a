"""A client and a server that refuses, closes, is slow or answers nothing: each call ends, once done or not at all."""

from __future__ import annotations

import asyncio
import itertools
import json
import random
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock

import trio_jobs
from support.fake_server import LIMITS, FakeConnection, answering, fake_server
from support.waiting import deadline, pass_time_until
from trio_jobs._client import handshake, reconnect, session, stream


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """The waits of the client are short; their order of size is the same."""
    monkeypatch.setattr(reconnect, "FIRST_WAIT", 0.001)
    monkeypatch.setattr(reconnect, "KICKED_WAIT", 0.01)
    monkeypatch.setattr(session, "FIRST_PAUSE", 0.001)
    monkeypatch.setattr(session, "TICK", 0.02)


@asynccontextmanager
async def connected(url: str, **options: Any) -> AsyncIterator[trio_jobs.Client]:
    with deadline("all calls end"):
        async with trio_jobs.connect(url, **options) as client:
            yield client


class Chaos:
    """A server that does to each request what `chance` says, and remembers what it did."""

    def __init__(self, seed: int, limits: dict[str, Any] | None) -> None:
        self.chance = random.Random(seed)
        self.limits = limits
        self.done: Counter[str] = Counter()
        self.without_key: Counter[str] = Counter()

    async def talk(self, connection: FakeConnection) -> None:
        await connection.hello(limits=self.limits)
        async with trio.open_nursery() as nursery:
            while True:
                request = await connection.receive()
                match self.chance.randrange(40):
                    case 0:
                        await connection.refuse(request["id"], limit="rate", retry_after=0.001)
                    case 1:
                        await connection.refuse(request["id"], limit="in_flight")
                    case 2:
                        await connection.refuse(None)
                    case 3 | 4:
                        self.do(request)  # done, and the answer is lost
                        await connection.close(self.chance.choice([1001, 1006, 1011, 4429]))
                        return
                    case 5:
                        nursery.start_soon(self.answer_late, connection, request)
                    case _:
                        await connection.answer(request, self.do(request))

    def do(self, request: dict[str, Any]) -> Any:
        result = answering(request)
        if request["method"] == "jobs.submit":
            (self.done if "key" in request["params"] else self.without_key)[result["job"]] += 1
        return result

    async def answer_late(self, connection: FakeConnection, request: dict[str, Any]) -> None:
        await trio.sleep(0.01)
        await connection.answer(request, self.do(request))


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 2**32), st.booleans())
def test_all_calls_end_whatever_the_server_does(seed: int, early: bool) -> None:
    chaos = Chaos(seed, None if early else {**LIMITS, "messages": 1e6, "messages_per_second": 1e6})
    outcomes: dict[str, str] = {}

    async def call(client: trio_jobs.Client, name: int, key: str | None) -> None:
        try:
            receipt = await client.submit("double", name, key=key)
        except trio_jobs.OutcomeUnknown:
            outcomes[f"job-{name}" if key is None else key] = "unknown"
        else:
            outcomes[receipt.job_id] = "done"

    async def main() -> None:
        with deadline("all calls end"):
            async with fake_server(chaos.talk) as url, trio_jobs.connect(url) as client, trio.open_nursery() as nursery:
                for i in range(150):
                    nursery.start_soon(call, client, i, f"key-{i}" if i % 2 else None)

    trio.run(main)
    assert len(outcomes) == 150
    for i in range(150):
        name = f"key-{i}" if i % 2 else f"job-{i}"
        times = (chaos.done if i % 2 else chaos.without_key)[name]
        assert times >= 1 or outcomes[name] == "unknown"
        assert i % 2 or times <= 1, "a submit without a key was repeated although it may have been done"


async def test_a_refused_request_is_sent_again_after_the_pause_that_the_server_asks_for() -> None:
    at: list[float] = []

    async def talk(connection: FakeConnection) -> None:
        await connection.hello()
        for _ in range(2):
            request = await connection.receive()
            at.append(trio.current_time())
            await connection.refuse(request["id"], limit="rate", retry_after=0.05)
        while True:
            request = await connection.receive()
            at.append(trio.current_time())
            await connection.answer(request, answering(request))

    async with fake_server(talk) as url, connected(url) as client:
        assert (await client.submit("double", 1)).job_id == "job-1"
        assert (await client.submit("double", 2)).job_id == "job-2"
    assert len(at) == 4
    assert at[1] - at[0] >= 0.05
    assert at[2] - at[1] >= 0.05
    assert client.reconnects == 0


async def test_a_request_that_is_refused_again_and_again_raises_with_the_time_to_wait(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(session, "REFUSED_FOR", 0.1)

    async def talk(connection: FakeConnection) -> None:
        await connection.hello()
        while True:
            request = await connection.receive()
            await connection.refuse(request["id"], limit="rate", retry_after=0.02)

    async with fake_server(talk) as url, connected(url) as client:
        with pytest.raises(trio_jobs.TooManyRequests) as caught:
            await client.submit("double", 1)
    assert (caught.value.limit, caught.value.retry_after) == ("rate", 0.02)


async def test_a_refusal_without_an_id_ends_the_session_and_nothing_waits_for_ever() -> None:
    received: list[str] = []

    async def talk(connection: FakeConnection) -> None:
        await connection.hello(limits=None)
        while True:
            request = await connection.receive()
            received.append(request["method"])
            if connection.number == 1:
                await connection.refuse(None)
            else:
                await connection.answer(request, answering(request))

    async with fake_server(talk) as url, connected(url) as client:
        assert (await client.submit("double", 1, key="k")).job_id == "k"
        assert client.reconnects == 1


@pytest.mark.parametrize("method", ["submit", "resolve", "statistics"])
@pytest.mark.parametrize("code", [1009, 1011, 4400, 1002])
async def test_what_makes_the_server_close_the_connection_is_not_sent_again_and_again(
    method: str, code: int, network_clock: trio.testing.MockClock
) -> None:
    sent: Counter[str] = Counter()

    async def talk(connection: FakeConnection) -> None:
        await connection.hello()
        request = await connection.receive()
        sent[request["method"]] += 1
        await connection.close(code, "no")

    async with fake_server(talk) as url, connected(url) as client:
        raised = {"submit": trio_jobs.InvalidPayload} if code == 1009 else {}
        expected = raised.get(method, trio_jobs.UsageError if code == 1009 else trio_jobs.OutcomeUnknown)
        with pytest.raises(expected):
            if method == "submit":
                await client.submit("double", "x" * 1000, key="k")
            elif method == "resolve":
                await client.resolve("a", "done", result=1)
            else:
                await client.statistics()
    most = 1 if code == 1009 or method == "resolve" else reconnect.MOST_BLAMED
    assert sum(sent.values()) == most


async def test_a_message_that_a_proxy_refuses_because_of_its_size_fails_alone() -> None:
    async def talk(connection: FakeConnection) -> None:
        await connection.hello()
        while True:
            text = await connection.websocket.get_message()
            if len(text) > 1000:
                await connection.close(1009)
                return
            request = json.loads(text)
            await connection.answer(request, {"job": "a", "created": True, "position": 1, "state": "pending"})

    errors: list[Exception] = []

    async with fake_server(talk) as url, connected(url) as client:

        async def submit(size: int) -> None:
            try:
                await client.submit("double", "x" * size, key=f"k{size}")
            except trio_jobs.InvalidPayload as error:
                errors.append(error)

        async with trio.open_nursery() as nursery:
            for size in (10, 20, 2000, 30):
                nursery.start_soon(submit, size)
        with pytest.raises(trio_jobs.InvalidPayload, match="store the data elsewhere"):
            await client.submit("double", "x" * 3000, key="again")  # not even sent
        assert client.reconnects == 1
    assert len(errors) == 1


async def test_a_payload_above_one_mib_is_refused_before_it_is_sent_and_one_below_passes() -> None:
    async def talk(connection: FakeConnection) -> None:
        await connection.hello()
        while True:
            request = await connection.receive()
            assert len(request["params"]["payload"]) <= 2**20 - 2
            await connection.answer(request, {"job": "a", "created": True, "position": 1, "state": "pending"})

    async with fake_server(talk) as url, connected(url) as client:
        with pytest.raises(trio_jobs.InvalidPayload, match="the limit is 1048576"):
            await client.submit("double", "x" * 2**20, key="k")
        await client.submit("double", "x" * (2**20 - 2), key="\x01" * 500)
        assert client.reconnects == 0


async def test_a_server_that_answers_pings_but_no_requests_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    async def talk(connection: FakeConnection) -> None:
        await connection.hello()
        while True:
            request = await connection.receive()
            if connection.number > 1:
                await connection.answer(request, answering(request))

    async with fake_server(talk) as url, connected(url) as client:
        with monkeypatch.context() as patch, pytest.raises(trio_jobs.OutcomeUnknown, match="not answered"):
            patch.setattr(session, "ANSWER_TIMEOUT", 0.1)
            await client.pause()
        await client.pause()
        assert client.reconnects == 1


async def test_a_half_open_connection_is_noticed_by_a_ping(
    network_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A request that is not answered soon asks for a pong, long before the next ping of an idle connection."""
    monkeypatch.setattr(session, "PONG", 0.05)

    async def talk(connection: FakeConnection) -> None:
        await connection.hello()
        if connection.number == 1:
            connection.stream.silent = True  # the network loses everything
        while True:
            request = await connection.receive()
            if connection.number > 1:
                await connection.answer(request, answering(request))

    async with fake_server(talk) as url, connected(url) as client:
        await trio.testing.wait_all_tasks_blocked()
        assert await client.result("a") == 42
        assert client.reconnects == 1


async def test_a_large_message_may_take_its_time_if_the_server_reads_on(autojump_clock: trio.testing.MockClock) -> None:
    ours, theirs = trio.testing.lockstep_stream_pair()
    sender = stream.ClientStream(ours, lambda: None)
    received = 0

    async def read() -> None:
        nonlocal received
        while received < 2**20:
            await trio.sleep(stream.SEND_TIMEOUT * 0.9)
            received += len(await theirs.receive_some(stream.CHUNK))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        await sender.send_all(bytes(2**20))
    assert (received, sender.problem) == (2**20, "")
    with pytest.raises(trio.BrokenResourceError, match="read nothing for 5 s"):
        await sender.send_all(b"x")
    assert sender.problem


async def test_a_cancelled_result_gives_back_its_place_at_once() -> None:
    cancelled: list[int] = []
    all_cancelled = trio.Event()

    async def talk(connection: FakeConnection) -> None:
        await connection.hello()
        waiting: set[int] = set()
        while True:
            request = await connection.receive()
            if request["method"] == "jobs.result":
                waiting.add(request["id"])
                assert len(waiting) <= 28
            elif request["method"] == "requests.cancel":
                number = request["params"]["request"]
                waiting.remove(number)
                cancelled.append(number)
                await connection.answer(request, {"request": number, "cancelled": True})
                await connection.send(id=number, error={"code": -32018, "message": "cancelled"})
                if len(cancelled) >= 20:
                    all_cancelled.set()
            else:
                await connection.answer(request, answering(request))

    async with fake_server(talk) as url, connected(url) as client:
        async with trio.open_nursery() as nursery:
            for i in range(20):
                nursery.start_soon(client.result, f"job-{i}")
            await trio.testing.wait_all_tasks_blocked(0.01)
            nursery.cancel_scope.cancel()
        await all_cancelled.wait()
        await client.submit("double", 1)


async def test_results_take_turns_when_more_are_awaited_than_the_server_lets_wait() -> None:
    """Nobody waits for 30 s behind results of jobs that do not end."""

    async def talk(connection: FakeConnection) -> None:
        await connection.hello()
        while True:
            request = await connection.receive()
            params = request["params"]
            if request["method"] == "requests.cancel":
                await connection.answer(request, {"request": params["request"], "cancelled": True})
                await connection.send(id=params["request"], error={"code": -32018, "message": "cancelled"})
            elif not params.get("job", "").startswith("endless"):
                await connection.answer(request, answering(request))

    async with fake_server(talk) as url, connected(url) as client, trio.open_nursery() as nursery:
        for i in range(60):
            nursery.start_soon(client.result, f"endless-{i}")
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert await client.result("short") == 42
        nursery.cancel_scope.cancel()


async def test_a_stream_whose_next_page_is_too_large_ends_with_an_error_and_the_client_goes_on() -> None:
    subscribed = 0

    async def talk(connection: FakeConnection) -> None:
        nonlocal subscribed
        await connection.hello()
        while True:
            request = await connection.receive()
            await connection.answer(request, answering(request))
            if request["method"] == "jobs.subscribe":
                subscribed += 1
                await connection.websocket.send_message("x" * (stream.MAX_RECEIVED + 1))

    async with fake_server(talk) as url, connected(url) as client:
        with pytest.raises(trio_jobs.ConnectionFailed, match="more than 16777216 bytes"):
            async with client.subscribe(snapshot=True) as subscription:
                await anext(subscription)
        assert subscribed == 3
        assert (await client.submit("double", 1, key="k")).job_id == "k"


async def test_a_stream_that_is_refused_because_of_the_rate_starts_after_a_pause() -> None:
    async def talk(connection: FakeConnection) -> None:
        await connection.hello()
        request = await connection.receive()
        await connection.refuse(request["id"], limit="rate", retry_after=0.01)
        while True:
            request = await connection.receive()
            await connection.answer(request, answering(request))

    async with fake_server(talk) as url, connected(url) as client, client.subscribe():
        assert client.reconnects == 0


async def test_a_full_queue_of_jobs_for_later_raises_though_the_caller_would_wait() -> None:
    async def talk(connection: FakeConnection) -> None:
        await connection.hello()
        while True:
            request = await connection.receive()
            await connection.send(id=request["id"], error={"code": -32011, "message": "full", "data": {"capacity": 1}})

    async with fake_server(talk) as url, connected(url) as client:
        with pytest.raises(trio_jobs.QueueFull):
            await client.submit("double", 1, delay=3600)


async def test_a_call_after_the_block_has_ended_raises() -> None:
    async def talk(connection: FakeConnection) -> None:
        await connection.hello()
        await connection.receive()
        await trio.sleep_forever()

    errors: list[Exception] = []

    async def call(client: trio_jobs.Client) -> None:
        try:
            await client.statistics()
        except trio_jobs.ConnectionFailed as error:
            errors.append(error)

    with deadline("the call ends"):
        async with fake_server(talk) as url, trio.open_nursery() as nursery:
            async with trio_jobs.connect(url) as client:
                nursery.start_soon(call, client)
                await trio.testing.wait_all_tasks_blocked(0.01)
            with pytest.raises(trio_jobs.ConnectionFailed, match="block has ended"):
                await client.get("a")
    assert "block has ended" in str(errors[0])


async def test_a_server_that_only_says_hello_is_asked_less_and_less_often() -> None:
    at: list[float] = []

    async def talk(connection: FakeConnection) -> None:
        await connection.hello()
        at.append(trio.current_time())

    async with fake_server(talk) as url, connected(url):
        while len(at) < 9:
            await trio.sleep(0.01)
    gaps = [b - a for a, b in itertools.pairwise(at)]
    assert gaps[-1] > 0.06  # 0.001 s doubled seven times, and at least half of that


HTTP = {
    404: trio_jobs.ConnectionFailed,
    400: trio_jobs.ConnectionFailed,
    421: trio_jobs.ConnectionFailed,
    301: trio_jobs.ConnectionFailed,
    200: trio_jobs.ConnectionFailed,
    401: trio_jobs.PermissionDenied,
    403: trio_jobs.PermissionDenied,
}


@asynccontextmanager
async def answers_with(*answers: bytes) -> AsyncIterator[tuple[str, list[float]]]:
    """A server that answers each handshake with the next of these bytes, then closes the connection."""
    at: list[float] = []

    async def serve(stream: trio.SocketStream) -> None:
        async with stream:
            await stream.receive_some()
            answer = answers[min(len(at), len(answers) - 1)]
            at.append(trio.current_time())
            await stream.send_all(answer)

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(trio.serve_tcp, serve, 0)
        yield f"ws://127.0.0.1:{listeners[0].socket.getsockname()[1]}/ws", at
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("with_length", [True, False])
@pytest.mark.parametrize("status", HTTP)
async def test_an_http_answer_to_the_handshake_is_final_and_in_plain_words(status: int, with_length: bool) -> None:
    body = b'{"error":"not found; the path is /ws"}'
    length = f"Content-Length: {len(body)}\r\n" if with_length else ""
    head = f"HTTP/1.1 {status} Whatever\r\nLocation: https://other.example/ws\r\n{length}Connection: close\r\n\r\n"
    async with answers_with(head.encode() + body) as (url, at):
        with deadline("the refusal"), pytest.raises(HTTP[status]) as caught:
            async with trio_jobs.connect(url):
                pass
    assert len(at) == 1
    assert f"HTTP {status}" in str(caught.value)
    assert ("other.example" if status == 301 else "the path is /ws") in str(caught.value)
    assert "b'" not in str(caught.value)


@pytest.mark.parametrize(
    "answer", [b"SSH-2.0-OpenSSH_9.2p1\r\n", b"\x15\x03\x01\x00\x02\x02\x46", b"220 mail ready\r\n"]
)
async def test_what_is_no_http_server_is_named_and_not_tried_again(answer: bytes) -> None:
    async with answers_with(answer) as (url, at):
        with deadline("the refusal"), pytest.raises(trio_jobs.ConnectionFailed, match="no WebSocket server"):
            async with trio_jobs.connect(url):
                pass
    assert len(at) == 1


@pytest.mark.parametrize("status", [500, 502, 503, 504, 429, 408])
async def test_a_temporary_answer_to_the_handshake_is_tried_again_after_a_wait(
    status: int, mock_clock: MockClock
) -> None:
    answer = f"HTTP/1.1 {status} Later\r\nContent-Length: 0\r\nRetry-After: 0\r\n\r\n".encode()
    async with answers_with(answer) as (url, at), trio.open_nursery() as nursery:

        async def fail_to_connect() -> None:
            with pytest.raises(trio_jobs.ConnectionFailed, match=f"HTTP {status}"):
                async with trio_jobs.connect(url, connect_timeout=1000):
                    pass

        def has_attempts(number: int) -> bool:
            return len(at) >= number

        nursery.start_soon(fail_to_connect)
        for attempts in (1, 2, 3):
            await pass_time_until(mock_clock, partial(has_attempts, attempts), "the next attempt")
            await trio.testing.wait_all_tasks_blocked(0.02)
            assert len(at) == attempts, "no time has passed"
        mock_clock.jump(1000)


async def test_retry_after_is_waited_for() -> None:
    answer = b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\nRetry-After: 1\r\n\r\n"
    async with answers_with(answer, b"HTTP/1.1 404 Gone\r\nContent-Length: 0\r\n\r\n") as (url, at):
        with deadline("the second answer"), pytest.raises(trio_jobs.ConnectionFailed, match="HTTP 404"):
            async with trio_jobs.connect(url):
                pass
    assert at[1] - at[0] >= 1.0


@given(st.binary(max_size=300))
def test_any_answer_to_a_handshake_is_classified(answer: bytes) -> None:
    for start in (b"", b"HTTP/1.1 ", b"HTTP/1.1 404 x\r\n", b"HTTP/1.1 503 \r\nretry-after: "):
        found = handshake.rejection("ws://x/ws", start + answer)
        if found is not None:
            assert str(found).isprintable()
            assert 0 <= found.retry_after <= 60


def test_connect_under_asyncio_says_what_to_do() -> None:
    async def main() -> None:
        async with trio_jobs.connect("ws://127.0.0.1:1/ws"):
            pass

    with pytest.raises(trio_jobs.UsageError, match=r"trio\.run"):
        asyncio.run(main())
