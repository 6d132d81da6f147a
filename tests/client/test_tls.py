"""The same through TLS, where nothing can be written past the record layer."""

from __future__ import annotations

import ssl
from pathlib import Path

import trio

import trio_jobs

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
        client.updates(states=[trio_jobs.State.COMPLETED]) as updates,
    ):
        assert server.url.startswith("wss://")
        ids = [(await client.submit("double", i)).job_id for i in range(20)]
        assert await client.result(ids[-1]) == 38
        got = [await anext(updates) for _ in ids]
        assert [update.job for update in got if isinstance(update, trio_jobs.EventView)] == ids
        with trio.fail_after(5):  # who is no TLS client is dropped
            async with await trio.open_tcp_stream("127.0.0.1", server.port) as plain:
                await plain.send_all(b"GET /ws HTTP/1.1\r\nHost: localhost\r\n\r\n")
                assert b"HTTP" not in await plain.receive_some(1000)
