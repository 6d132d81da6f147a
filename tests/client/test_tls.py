"""The same through TLS, where nothing can be written past the record layer."""

from __future__ import annotations

import contextlib
import ssl
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

import trio_jobs
from support.waiting import deadline, pass_time_until

TOKEN = trio_jobs.Token.random()


async def test_jobs_are_followed_through_tls(certificate: tuple[Path, Path]) -> None:
    service = trio_jobs.Service()

    @service.handler
    async def double(number: int) -> int:
        return number * 2

    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*certificate)
    trust = ssl.create_default_context(cafile=str(certificate[0]))
    async with (
        service.open() as queue,
        trio_jobs.serve(queue, port=0, tokens=[TOKEN], tls=context) as server,
        trio_jobs.connect(server.url, token=TOKEN.secret, tls=trust) as client,
        client.subscribe(states=[trio_jobs.State.COMPLETED]) as subscription,
    ):
        assert server.url.startswith("wss://")
        ids = [(await client.submit("double", i)).job_id for i in range(20)]
        assert await client.result(ids[-1]) == 38
        got = [await anext(subscription) for _ in ids]
        assert [update.job for update in got if isinstance(update, trio_jobs.events.Completed)] == ids
        with deadline("a client without TLS is dropped"):
            async with await trio.open_tcp_stream("127.0.0.1", server.port) as plain:
                await plain.send_all(b"GET /ws HTTP/1.1\r\nHost: localhost\r\n\r\n")
                assert b"HTTP" not in await plain.receive_some(1000)


async def test_a_certificate_that_is_not_trusted_is_said_at_once_and_for_good(certificate: tuple[Path, Path]) -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*certificate)
    dialled = 0

    async with trio.open_nursery() as nursery:
        listener = (await trio.open_tcp_listeners(0, host="127.0.0.1"))[0]

        async def shake_hands(stream: trio.SocketStream) -> None:
            nonlocal dialled
            dialled += 1
            async with trio.SSLStream(stream, context, server_side=True) as secure:
                with contextlib.suppress(trio.BrokenResourceError):
                    await secure.receive_some(1)
                await trio.aclose_forcefully(stream)

        nursery.start_soon(trio.serve_listeners, shake_hands, [listener])
        url = f"wss://127.0.0.1:{listener.socket.getsockname()[1]}/ws"
        with deadline("the refusal"), pytest.raises(trio_jobs.ConnectionFailed, match=r"is not trusted: self.signed"):
            async with trio_jobs.connect(url, token=TOKEN.secret, connect_timeout=float("inf")):
                pass
        nursery.cancel_scope.cancel()
    assert dialled == 1


async def test_a_server_without_tls_is_reported_as_such(mock_clock: MockClock) -> None:
    talks: list[object] = []

    async def let_the_time_pass() -> None:
        await pass_time_until(mock_clock, lambda: len(talks) == 2, "a second attempt")
        mock_clock.jump(1000)

    async with trio.open_nursery() as nursery:
        listener = (await trio.open_tcp_listeners(0, host="127.0.0.1"))[0]

        async def talk_plainly(stream: trio.SocketStream) -> None:
            talks.append(stream)
            async with stream:
                await stream.receive_some()
                await stream.send_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        nursery.start_soon(trio.serve_listeners, talk_plainly, [listener])
        url = f"wss://127.0.0.1:{listener.socket.getsockname()[1]}/ws"
        nursery.start_soon(let_the_time_pass)
        with pytest.raises(trio_jobs.ConnectionFailed, match="no TLS connection"):
            async with trio_jobs.connect(url, token=TOKEN.secret, connect_timeout=500):
                pass
        nursery.cancel_scope.cancel()
