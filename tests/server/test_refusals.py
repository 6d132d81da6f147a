"""Refused clients and requests: each is counted, and each reason is logged at most once a minute."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator

import pytest
import trio
from heads import crlf
from test_http import get
from trio.testing import MockClock, wait_all_tasks_blocked

from support.server import OWNER, WATCHER, Bench, bench, handshake, make_service, patient
from support.waiting import deadline
from trio_jobs._server.refusals import Reason, Refusals
from trio_jobs._server.server import serve
from trio_jobs._server.tokens import Token

HOST = "Host: localhost"


@pytest.fixture
def logged(caplog: pytest.LogCaptureFixture) -> Iterator[list[str]]:
    """What is logged as a warning, at the time of reading the list."""

    class Messages(list[str]):
        def __iter__(self) -> Iterator[str]:
            return iter([r.getMessage() for r in caplog.records if r.levelno == logging.WARNING])

    caplog.set_level(logging.WARNING, "trio_jobs.server")
    yield Messages()


async def run_for(seconds: float, clock: MockClock) -> None:
    await wait_all_tasks_blocked()
    clock.jump(seconds)
    await wait_all_tasks_blocked()


async def test_each_reason_is_logged_at_once_and_then_once_a_minute(mock_clock: MockClock, logged: list[str]) -> None:
    refusals = Refusals()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(refusals.run)
        await wait_all_tasks_blocked()
        for _ in range(3):
            refusals.add(Reason.TOKEN, "the token is missing", "192.0.2.1")
        refusals.add(Reason.HOST, "no such name", "192.0.2.2")
        refusals.add(Reason.TOKEN, "the token is invalid", "192.0.2.3")
        first = [
            "refused (token): the token is missing; from 192.0.2.1",
            "refused (host): no such name; from 192.0.2.2",
        ]
        assert [*logged] == first
        await run_for(59, mock_clock)
        assert [*logged] == first
        await run_for(2, mock_clock)
        second = [*first, "refused (token) 3 more: the token is invalid; from 192.0.2.1 (2), 192.0.2.3 (1)"]
        assert [*logged] == second
        refusals.add(Reason.HOST, "no such name", "192.0.2.4")  # its minute is over
        refusals.add(Reason.TOKEN, "again", "192.0.2.5")  # the minute since the second message is not
        third = [*second, "refused (host): no such name; from 192.0.2.4"]
        assert [*logged] == third
        await run_for(1000, mock_clock)
        assert [*logged] == [*third, "refused (token) 1 more: again; from 192.0.2.5 (1)"]
        nursery.cancel_scope.cancel()
    counts = {reason: count for reason, count in refusals.counts.items() if count}
    assert counts == {"token": 5, "host": 2}


async def test_the_end_of_a_server_logs_what_was_counted(mock_clock: MockClock, logged: list[str]) -> None:
    refusals = Refusals()
    refusals.add(Reason.FULL, "no place", "192.0.2.1")
    refusals.flush()
    refusals.add(Reason.FULL, "no place", "192.0.2.1")
    refusals.add(Reason.FULL, "no place", "192.0.2.1")
    refusals.flush()
    assert [*logged][-1] == "refused (full) 1 more: no place; from 192.0.2.1 (1)"


async def test_a_message_has_fields_for_a_structured_log(caplog: pytest.LogCaptureFixture) -> None:
    Refusals().add(Reason.ORIGIN, "\x1b[2Jevil", "192.0.2.1")
    [record] = caplog.records
    assert (record.__dict__["reason"], record.__dict__["count"], record.__dict__["address"]) == (
        "origin", 1, "192.0.2.1",
    )  # fmt: skip
    assert "\x1b" not in record.getMessage()


async def test_many_addresses_take_bounded_memory_and_a_bounded_message(
    mock_clock: MockClock, logged: list[str]
) -> None:
    refusals = Refusals()
    refusals.add(Reason.TLS, "bad", "first")
    for n in range(1000):
        refusals.add(Reason.TLS, "bad", f"10.0.{n // 250}.{n % 250}")
    for _ in range(5):
        refusals.add(Reason.TLS, "bad", "10.0.0.7")
        refusals.add(Reason.TLS, "bad", "10.0.3.7")  # one of those that are not kept
    refusals.flush()
    message = [*logged][-1]
    assert re.search(r"from 10\.0\.0\.7 \(6\), \S+ \(1\), \S+ \(1\), other addresses \(1002\)$", message), message


# each reason, through the server


async def end(b: Bench, data: bytes) -> bytes:
    """What the server answers before it closes."""
    client = await b.socket()
    await client.send(data)
    answer = await client.read_all()
    await client.stream.aclose()
    return answer


async def test_refused_requests_are_counted_by_their_reason(logged: list[str]) -> None:
    limits = patient()
    async with bench(limits=limits, origins=["https://ok.example"]) as b:
        await end(b, crlf("GET /healthz HTTP/1.1", "Host: evil.example", "X-Forwarded-For: 203.0.113.9"))
        await end(b, crlf("GET /healthz HTTP/1.1", HOST, "broken"))
        await end(b, crlf("GET /metrics HTTP/1.1", HOST, "Authorization: Bearer wrong-secret-0123"))
        for token, origin in ((None, None), (OWNER, "https://evil.example")):
            client = await b.raw(token, Origin=origin)
            await client.close_code()
            await client.stream.aclose()
        await end(b, crlf("GET /favicon.ico HTTP/1.1", HOST, "Connection: close"))  # an answer, not a refusal
        await end(b, crlf("GET /healthz HTTP/1.0"))
        counts = {reason: count for reason, count in b.server.refusals.items() if count}
        assert counts == {"host": 1, "request": 1, "token": 2, "origin": 1}
        _, _, body = await get(b.port, "/healthz", WATCHER)
        assert json.loads(body)["server"]["refusals"] == b.server.refusals
    text = "\n".join(logged)
    assert "wrong-secret" not in text
    assert OWNER.secret not in text
    assert "--allow-host evil.example, or serve(hosts=['evil.example']); from 127.0.0.1 (X-Forwarded-For 203" in text
    assert "to allow https://evil.example, start the server with --origin" in text
    assert "refused (token) 1 more: the token is missing or invalid; from 127.0.0.1 (1)" in text


async def test_a_message_names_the_client_behind_a_proxy(logged: list[str]) -> None:
    async with bench(limits=patient()) as b:
        client = await b.raw(Token("wrong-" + "0" * 20), X_Forwarded_For="secret, 203.0.113.9")
        await client.close_code()
        await client.stream.aclose()
    assert [*logged] == [
        "refused (token): the token is missing or invalid; from 127.0.0.1 (X-Forwarded-For 203.0.113.9)"
    ]


async def test_metrics_count_refusals_by_reason() -> None:
    pytest.importorskip("prometheus_client")
    async with bench(limits=patient()) as b:
        await end(b, crlf("GET /metrics HTTP/1.1", HOST))
        _, _, body = await get(b.port, "/metrics", WATCHER)
    text = body.decode()
    assert 'trio_jobs_refused_total{reason="token"} 1.0' in text
    for reason in set(Reason) - {Reason.TOKEN}:
        assert f'trio_jobs_refused_total{{reason="{reason}"}} 0.0' in text


async def test_a_slow_request_is_counted_and_a_connection_without_a_byte_is_not(network_clock: MockClock) -> None:
    async with bench(limits=patient(head_timeout=1.0)) as b:
        assert await end(b, b"") == b""
        assert b.server.refusals["timeout"] == 0
        assert await end(b, b"GET /hea") == b""
        assert b.server.refusals["timeout"] == 1


async def test_a_connection_that_is_closed_to_make_room_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trio_jobs._server.places.CONTENDED_HANDSHAKE_TIMEOUT", 0.01)
    async with bench(limits=patient(connections=2)) as b:
        silent = await b.socket()
        client = await b.raw()
        assert b.server.refusals["timeout"] == 1
        await client.say_goodbye()
        await silent.stream.aclose()


async def test_a_client_that_the_stop_disconnects_is_not_counted() -> None:
    limits = patient(close_timeout=0.1)
    async with make_service().open() as queue:
        async with serve(queue, port=0, tokens=[OWNER], limits=limits) as server:
            slow, client = await Bench(queue, server).socket(), await Bench(queue, server).raw()
            await slow.send(b"GET /hea")
            await wait_all_tasks_blocked(0.01)
        assert set(server.refusals.values()) == {0}
        await slow.stream.aclose()
        await client.stream.aclose()


async def test_a_connection_over_the_limit_is_counted() -> None:
    async with bench(limits=patient(connections=2)) as b:
        clients = [await b.raw() for _ in range(2)]
        with pytest.raises((EOFError, trio.BrokenResourceError)):
            third = await b.socket()
            await third.send(handshake())
            await third.read_some()
        await third.stream.aclose()
        assert b.server.refusals["full"] == 1
        for client in clients:
            await client.say_goodbye()


async def test_a_request_over_the_rate_and_the_disconnection_for_it_are_counted(logged: list[str]) -> None:
    async with bench(limits=patient(messages=5, messages_per_second=1e-6, strikes=2)) as b:
        client = await b.raw()
        await client.send(b"".join(client.request("server.hello")[1] for _ in range(8)))
        assert await client.close_code() == 4429
        await client.stream.aclose()
        with deadline("the connection is counted"):
            while b.server.connections:
                await trio.lowlevel.checkpoint()
        assert (b.server.refusals["rate"], b.server.refusals["kicked"]) == (3, 1)
    assert any("the connection was closed with code 4429" in message and "(ann)" in message for message in logged)


async def test_a_client_that_closes_by_itself_is_not_counted() -> None:
    async with bench(limits=patient()) as b:
        client = await b.raw()
        await client.say_goodbye()
        client = await b.raw()
        client.reset()
        await wait_all_tasks_blocked(0.01)
    assert set(b.server.refusals.values()) == {0}


async def test_a_client_that_reads_nothing_is_counted_as_slow() -> None:
    async with bench(limits=patient(messages=10**6, frames=10**6, write_timeout=0.2)) as b:
        client = await b.raw()
        job = await b.queue.submit("fail", "x" * 500_000)
        await client.send(b"".join(client.request("jobs.get", job=job.job_id)[1] for _ in range(40)))
        with deadline("the client is disconnected"):
            while b.server.connections:
                await trio.lowlevel.checkpoint()
        await client.stream.aclose()
        assert b.server.refusals["slow"] == 1
        await b.queue.cancel(job.job_id)
