"""What the server does to clients through TLS, where a write is more than what its caller gave."""

from __future__ import annotations

import socket
import ssl
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from support.server import OWNER, Bench, Raw, bench, handshake, make_service, patient
from support.waiting import deadline
from trio_jobs._server.limits import ServerLimits
from trio_jobs._server.server import serve
from trio_jobs._server.stream import GuardedStream, SocketTransport


def contexts(certificate: tuple[Path, Path]) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """The server's and a client's."""
    served = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    served.load_cert_chain(*certificate)
    return served, ssl.create_default_context(cafile=str(certificate[0]))


async def tls_client(b: Bench, trust: ssl.SSLContext, *, window: int | None = None) -> Raw:
    """A client that has been welcomed. window: bytes that its kernel takes without its reading them."""
    plain = trio.socket.socket()
    if window is not None:
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, window)
    await plain.connect(("127.0.0.1", b.port))
    stream: Any = trio.SSLStream(trio.SocketStream(plain), trust, server_hostname="localhost", https_compatible=True)
    client = Raw(stream)
    await client.send(handshake())
    head = await client.read_head()
    assert head.startswith(b"HTTP/1.1 101 "), head
    return client


async def test_a_tls_client_that_reads_nothing_is_reset_while_the_others_are_served(
    certificate: tuple[Path, Path],
) -> None:
    served, trust = contexts(certificate)
    async with bench(limits=patient(messages=100_000, frames=100_000, write_timeout=0.5), tls=served) as b:
        frozen = await tls_client(b, trust, window=4096)
        healthy = await tls_client(b, trust)
        requests = [frozen.request("jobs.submit", kind="fail", payload="x" * 500_000, key=str(n))[1] for n in range(4)]
        await frozen.send(b"".join(requests))
        ids = [(await frozen.message())["result"]["job"] for _ in requests]
        await frozen.send(b"".join(frozen.request("jobs.get", job=job_id)[1] for job_id in ids * 4))
        with deadline("the client that takes nothing is reset"):
            while b.server.connections > 1:
                assert (await healthy.ask("server.hello"))["name"] == "ann"
        with pytest.raises((trio.BrokenResourceError, EOFError)):
            while True:
                await frozen.frame()
        await trio.aclose_forcefully(frozen.stream)
        for job_id in ids:  # they would be tried again before the end
            await b.queue.cancel(job_id)
        await healthy.say_goodbye()


async def test_tls_clients_get_1001_when_the_server_stops(certificate: tuple[Path, Path]) -> None:
    served, trust = contexts(certificate)
    codes: list[int] = []
    async with make_service().open() as queue, trio.open_nursery() as nursery:
        async with serve(queue, port=0, tokens=[OWNER], tls=served) as server:
            clients = [await tls_client(Bench(queue, server), trust) for _ in range(5)]

            async def read(client: Raw) -> None:
                await client.ask("jobs.subscribe", subscription="s", snapshot=True)
                codes.append(await client.close_code())
                await client.stream.aclose()

            for client in clients:
                nursery.start_soon(read, client)
            with deadline("all clients have subscribed"):
                while server.subscriptions < len(clients):
                    await trio.lowlevel.checkpoint()
    assert codes == [1001] * 5


async def test_a_tls_client_that_reads_slowly_stays_and_one_that_reads_nothing_is_dropped(
    certificate: tuple[Path, Path], mock_clock: MockClock
) -> None:
    served, trust = contexts(certificate)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)  # less than a TLS record
        for end in (ours, theirs):
            end.setblocking(False)
        server_end = trio.SSLStream(SocketTransport(ours), served, server_side=True)
        client_end = trio.SSLStream(
            trio.SocketStream(trio.socket.from_stdlib_socket(theirs)), trust, server_hostname="localhost"
        )
        async with trio.open_nursery() as nursery:
            nursery.start_soon(server_end.do_handshake)
            nursery.start_soon(client_end.do_handshake)
        stream = GuardedStream(server_end, None, ServerLimits(write_timeout=1.0))
        given_up = False

        async def write() -> None:
            nonlocal given_up
            with pytest.raises(trio.BrokenResourceError, match="read nothing for 1 s"):
                await stream.send_frames(b"x" * 1_000_000)
            given_up = True

        async with trio.open_nursery() as nursery:
            nursery.start_soon(write)
            for _ in range(20):
                await wait_all_tasks_blocked(0.01)
                mock_clock.jump(0.9)
                await wait_all_tasks_blocked(0.01)
                assert not given_up
                with pytest.raises(BlockingIOError):
                    while theirs.recv(1 << 20):
                        pass
            await wait_all_tasks_blocked(0.01)
            mock_clock.jump(1.1)
        assert given_up
        assert (stream.dead, stream.stalled) == (True, True)
