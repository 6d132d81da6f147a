"""The first request of a connection, as it arrives over a stream."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any, cast

import pytest
import trio
from heads import crlf
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import memory_stream_pair

from support.server import KEY, OWNER, bench, credentials, handshake, make_service, patient
from support.waiting import deadline
from trio_jobs._server.handshake import Handshake, Peer, RequestReader
from trio_jobs._server.http import Page, Pages
from trio_jobs._server.http_server import HttpServer
from trio_jobs._server.limits import ServerLimits
from trio_jobs._server.places import Places
from trio_jobs._server.refusals import Refusals
from trio_jobs._server.request import RequestHead
from trio_jobs._server.tokens import Token

HOST = "Host: localhost"
FIRST_REQUESTS = {
    "a handshake": handshake(),
    "a handshake without a token": handshake(None),
    "health": crlf("GET /healthz HTTP/1.1", HOST),
    "health in HTTP/1.0": crlf("HEAD /healthz HTTP/1.0"),
    "a health check of haproxy": b"GET /healthz HTTP/1.0\r\n\r\n",
    "cookies of other applications": crlf("GET /healthz HTTP/1.1", HOST, "Cookie: a=\xff" + "x" * 12_000),
    "an upgrade to HTTP/2": crlf("GET /healthz HTTP/1.1", HOST, "Upgrade: h2c", "Connection: Upgrade"),
    "metrics without a token": crlf("GET /metrics HTTP/1.1", HOST),
    "no such path": crlf("GET / HTTP/1.1", HOST),
    "a foreign host": crlf("GET /healthz HTTP/1.1", "Host: evil.example"),
    "the path of the WebSocket": crlf("GET /ws HTTP/1.0", HOST),
    "bare line ends": b"GET /healthz HTTP/1.1\nHost: localhost\n\n",
    "a bare CR": b"GET /healthz HTTP/1.1\rHost: localhost\r\r",
    "a NUL after a bad line": b"GET\r\nHost: localhost\0\r\n\r\n",
    "TLS": bytes.fromhex("160301020001000001fc0303"),
    "a body": crlf("GET /healthz HTTP/1.1", HOST, "Content-Length: 3") + b"abc",
    "a chunked body": crlf("GET /healthz HTTP/1.1", HOST, "Transfer-Encoding: chunked") + b"0\r\n\r\n",
    "a second request": crlf("GET /healthz HTTP/1.1", HOST) + crlf("GET /metrics HTTP/1.1", HOST),
    "folded": crlf("GET /healthz HTTP/1.1", HOST, "X: a", " b"),
    "too long": b"GET /" + b"a" * 33_000,
    "nothing": b"",
    "a part": b"GET /healthz HTTP/1.1\r\nHost: loc",
}


@asynccontextmanager
async def reader() -> AsyncIterator[Requests]:
    class Stats:
        connections = subscriptions = 0
        refusals: dict[str, int] = {}
        certificate_not_after = None

    async with make_service().open() as queue:
        yield Requests(Pages(queue.backend, Stats()), patient())


class Requests:
    """What a server does with a connection, except WebSockets."""

    def __init__(self, pages: Pages, limits: ServerLimits) -> None:
        self.reader = RequestReader(frozenset({"localhost"}), credentials(OWNER), limits.head, Refusals())
        self.places = Places(limits)
        self.http = HttpServer(pages, cast("Any", None), self.reader, self.places, limits)

    async def serve(self, stream: trio.abc.Stream) -> Handshake | None:
        peer, scope = Peer("192.0.2.7"), self.places.admit()
        with scope:
            first = await self.reader.read(stream, peer)
            if isinstance(first, Handshake):
                return first
            if first is not None:
                await self.http.serve(stream, None, first, peer, scope)
        return None


async def answer(requests: Requests, data: bytes, step: int) -> bytes | Handshake:
    """The answer to a request that arrives in pieces of `step` bytes; a handshake that is accepted."""
    client, server = memory_stream_pair()
    result: Handshake | None = None

    async def serve() -> None:
        nonlocal result
        with suppress(trio.BrokenResourceError):
            result = await requests.serve(server)
        await server.aclose()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve)
        try:
            for at in range(0, len(data), step):
                await client.send_all(data[at : at + step])
            await client.send_eof()
        except trio.BrokenResourceError:  # it is answered already
            pass
        received = b"".join([bytes(chunk) async for chunk in client])
    return result or received


@pytest.mark.parametrize("name", FIRST_REQUESTS)
async def test_a_request_has_the_same_answer_byte_by_byte_and_at_once(name: str) -> None:
    data = FIRST_REQUESTS[name]
    async with reader() as requests:
        with deadline("both answers"):
            whole = await answer(requests, data, max(1, len(data)))
            bytewise = await answer(requests, data, 1)
    assert bytewise == whole
    assert isinstance(whole, Handshake) or whole[:10] in (b"HTTP/1.1 2", b"HTTP/1.1 4", b"")


def test_any_bytes_are_answered_or_closed_and_each_division_has_the_same_answer() -> None:
    """Pieces of requests and noise in any order, as the first bytes of a connection."""

    class Fixed:
        @staticmethod
        def answer(head: RequestHead, token: Token | None) -> Page:
            return Page(200, "text/plain", f"{head.method} {head.path}".encode())

    async def check(data: bytes, step: int) -> None:
        requests = Requests(cast("Any", Fixed()), ServerLimits(head=300))
        with deadline("three answers"):
            whole = await answer(requests, data, max(1, len(data)))
            assert await answer(requests, data, 1) == whole
            assert await answer(requests, data, step) == whole
        assert isinstance(whole, Handshake) or whole[:10] in (b"HTTP/1.1 2", b"HTTP/1.1 4", b"")

    # what follows a handshake in the same read is refused, and later it is read as frames: no request is complete here
    pieces = [handshake()[:-3], b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n", b"\r\n", b"\n", b"\0", b"Host: a\r\n",
              b"HEAD / HTTP/1.0\r\n", b"Content-Length: 3\r\n", b"X: \xff\r\n", b" ", b"x" * 150]  # fmt: skip

    @given(st.lists(st.sampled_from(pieces) | st.binary(max_size=10), max_size=8).map(b"".join), st.integers(2, 50))
    def run(data: bytes, step: int) -> None:
        trio.run(check, data, step)

    run()


async def test_data_behind_a_handshake_is_refused() -> None:
    async with reader() as requests:
        for behind in (b"x", b"\x81\x80abcd", handshake()):
            received = await answer(requests, handshake() + behind, 10_000)
            assert isinstance(received, bytes)
            assert received.startswith(b"HTTP/1.1 400 ")
        received = await answer(requests, handshake(Content_Length="3"), 10_000)
        assert isinstance(received, bytes)
        assert received.startswith(b"HTTP/1.1 400 ")


async def test_requests_that_are_sent_together_are_answered_in_turn_and_a_refusal_ends_the_connection() -> None:
    async with reader() as requests:
        together = [FIRST_REQUESTS[name] for name in ("health", "no such path", "a foreign host", "health")]
        received = await answer(requests, b"".join(together), 10_000)
    assert isinstance(received, bytes)
    assert re.findall(rb"HTTP/1.1 (\d+)", received) == [b"200", b"404", b"421"]
    assert received.lower().count(b"connection: close") == 1


async def test_a_refused_host_name_is_answered_with_the_option_that_allows_it() -> None:
    async with reader() as requests:
        received = await answer(requests, FIRST_REQUESTS["a foreign host"], 10_000)
    assert isinstance(received, bytes)
    head, _, body = received.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 421 ")
    assert "--allow-host evil.example" in json.loads(body)["error"]


async def test_a_client_that_speaks_tls_to_a_plain_server_is_answered_at_once() -> None:
    async with reader() as requests:
        for step in (1, 2, 1000):
            received = await answer(requests, FIRST_REQUESTS["TLS"], step)
            assert isinstance(received, bytes)
            assert b"use http:// or ws://" in received


async def test_a_browser_with_many_cookies_and_a_chain_of_proxies_gets_a_websocket() -> None:
    cookies = "; ".join(f"app{n}=größe{'x' * 300}".encode().decode("latin-1") for n in range(60))
    async with bench(limits=patient()) as b:
        client = await b.raw(
            Cookie=cookies,
            Connection="keep-alive, upgrade",
            X_Forwarded_For="203.0.113.9\r\nX-Forwarded-For: 10.0.0.1",
            Sec_WebSocket_Protocol="x\r\nSec-WebSocket-Protocol: trio-jobs.v1",
        )
        assert (await client.ask("server.hello"))["name"] == "ann"
        await client.say_goodbye()


async def test_a_handshake_that_does_not_come_through_a_proxy_says_what_the_proxy_must_do() -> None:
    stripped = crlf("GET /ws HTTP/1.0", HOST, "Connection: close", f"Sec-WebSocket-Key: {KEY}")
    async with reader() as requests:
        received = await answer(requests, stripped, 10_000)
    assert isinstance(received, bytes)
    assert received.startswith(b"HTTP/1.1 426 ")
    assert b"proxy has to forward" in received
