"""Requests over HTTP: submits to ours, and the limit. Others' are in `http_asgi`.

A process of its own has the clients. Ours accepts a job for each request and runs it, all in one process; the others
only answer. `limit`: Trio's streams, the end of a request is looked for, and the same bytes are sent each time.
"""

from __future__ import annotations

from functools import partial

import trio

import trio_jobs
from benchmarks.peers.common import answer, poster, submit_request

TOKEN = trio_jobs.Token("bench-" + "0" * 20)
MANY = 1_000_000_000
LIMITS = trio_jobs.ServerLimits(
    messages=MANY, messages_per_second=MANY, bytes=MANY, bytes_per_second=MANY, frames=MANY, frames_per_second=MANY
)
BODY = b'{"id":"01890000-0000-7000-8000-000000000000","kind":"double","state":"pending"}'
ANSWER = b"HTTP/1.1 202 Accepted\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(BODY) + BODY


async def posted(port: int, clients: int, jobs: int) -> float:
    done = await trio.run_process(poster(port, TOKEN.secret, clients, jobs), capture_stdout=True)
    return float(done.stdout)


async def ours(jobs: int, clients: int, runs: bool) -> float:
    service = trio_jobs.Service(buffer=2 * jobs, drain_timeout=0.01)  # requests can come faster than jobs run

    @service.handler(idempotent=True)
    async def double(number: dict[str, int]) -> int:
        return number["number"] * 2

    async with service.open() as queue, trio_jobs.serve(queue, port=0, tokens=[TOKEN], limits=LIMITS) as server:
        if not runs:
            await queue.pause()
        return await posted(server.port, clients, jobs)


async def limit(jobs: int, clients: int) -> float:
    length = len(submit_request(10_000, TOKEN.secret))

    async def serve(stream: trio.SocketStream) -> None:
        received = 0
        async with stream:
            async for data in stream:
                received += len(data)
                if received >= length:
                    received -= length
                    await stream.send_all(ANSWER)

    async with trio.open_nursery() as nursery:
        [listener] = await nursery.start(partial(trio.serve_tcp, serve, 0, host="127.0.0.1"))
        rate = await posted(listener.socket.getsockname()[1], clients, jobs)
        nursery.cancel_scope.cancel()
    return rate


if __name__ == "__main__":
    answer(
        ours=lambda jobs, clients, runs: trio.run(ours, jobs, clients, runs),
        limit=lambda jobs, clients: trio.run(limit, jobs, clients),
    )
