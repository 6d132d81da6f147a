"""One update to many websocket subscribers, by servers on asyncio.

`broadcast`: the function of websockets, as its documentation recommends, which never waits for a client. `uvicorn`: an
ASGI app that sends to one client after another, as in its documentation and Starlette's. Both without compression, like
trio-jobs; on asyncio's own loop, or on uvloop, which is their best.
"""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import sys
import time
from typing import Any

from benchmarks.peers.common import READER, answer, handshake, rate


async def started(port: int, subscribers: int, frozen: int) -> subprocess.Popen[bytes]:
    given = json.dumps({
        "port": port, "count": subscribers, "frozen": frozen, "head": handshake(port, "x").hex(), "ask": "",
    })  # fmt: skip
    process = subprocess.Popen([sys.executable, "-c", READER, given], stdout=subprocess.PIPE)
    await line(process)
    return process


async def line(process: subprocess.Popen[bytes]) -> None:
    assert process.stdout is not None
    await asyncio.to_thread(process.stdout.readline)


async def broadcast(subscribers: int, frozen: int, updates: int, messages: list[str]) -> float:
    import websockets

    there: set[Any] = set()

    async def serve(connection: Any) -> None:
        there.add(connection)
        await connection.wait_closed()

    async with websockets.serve(
        serve,
        "127.0.0.1",
        0,
        compression=None,
        subprotocols=[websockets.Subprotocol("trio-jobs.v1")],
        close_timeout=0.1,
    ) as server:
        process = await started(next(iter(server.sockets)).getsockname()[1], subscribers, frozen)
        while len(there) < subscribers:
            await asyncio.sleep(0.01)
        began = time.perf_counter()
        for _ in range(updates):
            websockets.broadcast(there, messages[0])
            await asyncio.sleep(0)
        websockets.broadcast(there, messages[1])
        await line(process)
        rated = rate((subscribers - frozen) * updates, began)
        process.kill()
    return rated


async def uvicorn_loop(subscribers: int, frozen: int, updates: int, messages: list[str], give_up: float) -> float:
    import uvicorn

    there: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "websocket":
            return
        await receive()
        await send({"type": "websocket.accept", "subprotocol": "trio-jobs.v1"})
        there.append(send)
        while (await receive())["type"] != "websocket.disconnect":
            pass

    config = uvicorn.Config(
        app,
        log_level="critical",
        ws="websockets-sansio",
        ws_per_message_deflate=False,
        lifespan="off",
        timeout_graceful_shutdown=1,
    )
    with socket.create_server(("127.0.0.1", 0), backlog=1024) as listener:
        server = uvicorn.Server(config)
        running = asyncio.create_task(server.serve(sockets=[listener]))
        process = await started(listener.getsockname()[1], subscribers, frozen)
        while len(there) < subscribers:
            await asyncio.sleep(0.01)
        began, done = time.perf_counter(), 0
        try:
            async with asyncio.timeout(give_up) as limit:
                for number in range(updates + 1):
                    text = {"type": "websocket.send", "text": messages[number == updates]}
                    for send in there:
                        await send(text)
                    done = number
                    limit.reschedule(asyncio.get_running_loop().time() + give_up)
                await line(process)
        except TimeoutError:
            process.kill()
            raise SystemExit(f"stands still after {done} updates: it waits for the frozen ones") from None
        rated = rate((subscribers - frozen) * updates, began)
        process.kill()
        server.should_exit = True
        await running
    return rated


def run(loop: str, work: Any) -> Any:
    if loop == "asyncio":
        return asyncio.run(work)
    import uvloop

    return uvloop.run(work)


if __name__ == "__main__":
    answer(
        broadcast=lambda jobs, subscribers, frozen, messages, loop: run(
            loop, broadcast(subscribers, frozen, jobs, messages)
        ),
        uvicorn=lambda jobs, subscribers, frozen, messages, loop, give_up: run(
            loop, uvicorn_loop(subscribers, frozen, jobs, messages, give_up)
        ),
    )
