"""Requests over HTTP to an application of Starlette that reads the JSON of the body and does nothing but answer.

`hypercorn`: on its Trio worker, or on asyncio. `uvicorn`: on asyncio with h11, or its best, httptools on uvloop.
"""

from __future__ import annotations

import asyncio
import socket
from functools import partial
from typing import Any

from benchmarks.peers.common import answer, poster

JOB = {"id": "01890000-0000-7000-8000-000000000000", "kind": "double", "state": "pending"}


def application() -> Any:
    from starlette.applications import Starlette
    from starlette.responses import JSONResponse
    from starlette.routing import Route

    async def submit(request: Any) -> JSONResponse:
        await request.json()
        return JSONResponse(JOB, 202)

    return Starlette(routes=[Route("/v1/kinds/{kind}/jobs", submit, methods=["POST"])])


def bound() -> socket.socket:
    return socket.create_server(("127.0.0.1", 0), backlog=1024)


async def hypercorn(jobs: int, clients: int) -> float:
    import trio
    from hypercorn.config import Config
    from hypercorn.trio import serve

    listener = bound()
    config = Config()
    config.bind = [f"fd://{listener.fileno()}"]
    config.keep_alive_max_requests = 1_000_000_000
    config.accesslog = config.errorlog = None
    rate = 0.0
    async with trio.open_nursery() as nursery:
        await nursery.start(partial(serve, application(), config))
        done = await trio.run_process(poster(listener.getsockname()[1], "x", clients, jobs), capture_stdout=True)
        rate = float(done.stdout)
        nursery.cancel_scope.cancel()
    return rate


async def uvicorn(jobs: int, clients: int, http: str) -> float:
    from uvicorn import Config, Server

    # of its own socket, asyncio sets TCP_NODELAY; of one that is given, it does not
    config = Config(
        application(), host="127.0.0.1", port=0, http=http, log_level="warning", access_log=False, lifespan="off"
    )
    server = Server(config)
    serving = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    process = await asyncio.create_subprocess_exec(*poster(port, "x", clients, jobs), stdout=asyncio.subprocess.PIPE)
    output, _ = await process.communicate()
    server.should_exit = True
    await serving
    return float(output)


def run_uvicorn(jobs: int, clients: int, loop: str) -> float:
    if loop == "uvloop":
        import uvloop

        return float(uvloop.run(uvicorn(jobs, clients, "httptools")))
    return asyncio.run(uvicorn(jobs, clients, "h11"))


def run_hypercorn(jobs: int, clients: int) -> float:
    import trio

    return float(trio.run(hypercorn, jobs, clients))


if __name__ == "__main__":
    answer(uvicorn=run_uvicorn, hypercorn=run_hypercorn)
