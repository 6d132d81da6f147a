"""One update to many websocket subscribers: ours, also by server-sent events, and the limit. Others' are in `fan_asyncio`.

A process of its own holds all subscribers; those that are not frozen read all they get, and the clock stops when each
of them has got the last update. Frozen ones never read; whoever waits for them stands still, and says so.
"""

from __future__ import annotations

import json
import selectors
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from functools import partial
from typing import Any

import trio
import trio_websocket

import trio_jobs
from benchmarks.peers.common import LAST, READER, answer, handshake, rate
from trio_jobs._engine import events as ev
from trio_jobs._runtime.feed import Feed
from trio_jobs._runtime.queue import runtime_of
from trio_jobs._wire.event_encoding import encode_body, prefix
from trio_jobs._wire.frames import text_frame

TOKEN = trio_jobs.Token("bench-" + "0" * 20)


def event(seq: int, job: str = "01890000-0000-7000-8000-000000000000") -> ev.Due:
    return ev.Due(seq=seq, at=1.5, job=job)


MESSAGE = (prefix("s") + encode_body(event(1000), None)).decode()
LAST_MESSAGE = (prefix("s") + encode_body(event(1000, LAST), None)).decode()


def reader(port: int, count: int, frozen: int, head: bytes = b"", ask: bytes = b"") -> subprocess.Popen[bytes]:
    given = json.dumps({"port": port, "count": count, "frozen": frozen, "head": head.hex(), "ask": ask.hex()})
    return subprocess.Popen([sys.executable, "-c", READER, given], stdout=subprocess.PIPE)


def line(process: subprocess.Popen[bytes]) -> None:
    assert process.stdout is not None
    process.stdout.readline()


def end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.communicate()


async def readers(
    stack: AsyncExitStack, port: int, count: int, *, frozen: int = 0, subscribe: bool
) -> subprocess.Popen[bytes]:
    """Connected subscribers; all has been asked for."""
    text = b'{"jsonrpc":"2.0","id":1,"method":"jobs.subscribe","params":{"subscription":"s"}}'
    ask = bytes((0x81, 0x80 | len(text))) + bytes(4) + text if subscribe else b""
    process = reader(port, count, frozen, handshake(port, TOKEN.secret), ask)
    stack.callback(end, process)
    await trio.to_thread.run_sync(line, process, abandon_on_cancel=True)
    return process


async def subscribed(queue: trio_jobs.Queue, count: int) -> None:
    while sum(cursor.weight for cursor in runtime_of(queue).feed._broad) < count:  # a cursor may read for many
        await trio.sleep(0.01)


WITHIN = 1000  # events


def too_far_behind(feed: Feed, readers: int) -> bool:
    """Of those that read, does one lag so far that it may soon find its next update gone from the ring?

    A real queue's store would still have it; these updates are made up.
    """
    near = [cursor for cursor in feed._broad if feed.seq - cursor.position < 2 * WITHIN]
    return sum(cursor.weight for cursor in near) < readers


STREAMS = 50  # of one token, which can have 64


async def listeners(stack: AsyncExitStack, port: int, count: int) -> subprocess.Popen[bytes]:
    """Connected readers of server-sent events."""
    heads = [
        f"GET /v1/events HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAuthorization: Bearer {token.secret}\r\n\r\n".encode()
        for token in sse_tokens(count)
    ]
    given = json.dumps({"port": port, "count": count, "frozen": 0, "head": ",".join(map(bytes.hex, heads)), "ask": ""})
    process = subprocess.Popen([sys.executable, "-c", READER, given], stdout=subprocess.PIPE)
    stack.callback(end, process)
    await trio.to_thread.run_sync(line, process, abandon_on_cancel=True)
    return process


def sse_tokens(count: int) -> list[trio_jobs.Token]:
    return [trio_jobs.Token(f"stream-{number:020}", f"stream {number}") for number in range(-(-count // STREAMS))]


async def ours(subscribers: int, frozen: int, updates: int, burst: int, *, sse: bool = False) -> float:
    async with AsyncExitStack() as stack:
        queue = await stack.enter_async_context(trio_jobs.Service().open())
        tokens = [TOKEN, *sse_tokens(subscribers)]
        server = await stack.enter_async_context(trio_jobs.serve(queue, port=0, tokens=tokens, metrics=False))
        if sse:
            process = await listeners(stack, server.port, subscribers)
        else:
            process = await readers(stack, server.port, subscribers, frozen=frozen, subscribe=True)
        await subscribed(queue, subscribers)
        feed = runtime_of(queue).feed
        seq = feed.seq
        began = time.perf_counter()
        for number in range(updates // burst):
            while number * burst % WITHIN < burst and too_far_behind(feed, subscribers - frozen):
                await trio.sleep(0.001)
            feed.publish([event(seq + i) for i in range(1, burst + 1)])
            seq += burst
            await feed.run_once()
            await trio.lowlevel.checkpoint()
        feed.publish([event(seq + 1, LAST)])
        await trio.to_thread.run_sync(line, process, abandon_on_cancel=True)
        return rate((subscribers - frozen) * updates, began)


def sockets(subscribers: int, frozen: int, updates: int) -> float:
    """Plain non-blocking sockets in a loop, without any event loop: whoever takes nothing for 50 ms is dropped."""
    clients, process = accepted(subscribers, frozen)
    message, last = text_frame(MESSAGE.encode()), text_frame(LAST_MESSAGE.encode())
    began = time.perf_counter()
    for number in range(updates + 1):
        for client in [*clients]:
            data = message if number < updates else last
            try:
                sent = client.send(data)
            except BlockingIOError:
                sent = 0
            while sent < len(data):
                with selectors.DefaultSelector() as wait:
                    wait.register(client, selectors.EVENT_WRITE)
                    if not wait.select(0.05):
                        clients.remove(client)
                        break
                sent += client.send(data[sent:])
    line(process)
    rated = rate((subscribers - frozen) * updates, began)
    end(process)
    return rated


async def trio_sockets(subscribers: int, frozen: int, updates: int, give_up: float) -> float:
    """Trio's streams, `send_all` in a loop, no websocket, nobody dropped."""
    plain, process = accepted(subscribers, frozen)
    clients = [trio.SocketStream(trio.socket.from_stdlib_socket(client)) for client in plain]
    began = time.perf_counter()
    try:
        await send(
            clients,
            updates,
            text_frame(MESSAGE.encode()),
            text_frame(LAST_MESSAGE.encode()),
            lambda c: c.send_all,
            give_up,
        )
        await trio.to_thread.run_sync(line, process, abandon_on_cancel=True)
        return rate((subscribers - frozen) * updates, began)
    finally:
        end(process)


def accepted(subscribers: int, frozen: int) -> tuple[list[socket.socket], subprocess.Popen[bytes]]:
    with socket.create_server(("127.0.0.1", 0), backlog=1024) as server:
        process = reader(server.getsockname()[1], subscribers, frozen)
        clients = [server.accept()[0] for _ in range(subscribers)]
    for client in clients:
        client.setblocking(False)
        # as asyncio and Trio set it; without, the kernel keeps small messages back and looks twice as fast
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    line(process)
    return clients, process


async def websocket_loop(subscribers: int, frozen: int, updates: int, give_up: float) -> float:
    """trio-websocket's server, `send_message` in a loop."""
    there: list[trio_websocket.WebSocketConnection] = []

    async def serve(request: trio_websocket.WebSocketRequest) -> None:
        connection = await request.accept(subprotocol="trio-jobs.v1")
        there.append(connection)
        await trio.sleep_forever()

    async with trio.open_nursery() as nursery, AsyncExitStack() as stack:
        server = await nursery.start(partial(trio_websocket.serve_websocket, serve, "127.0.0.1", 0, None))
        process = await readers(stack, server.port, subscribers, frozen=frozen, subscribe=False)
        while len(there) < subscribers:
            await trio.sleep(0.01)
        began = time.perf_counter()
        try:
            await send(there, updates, MESSAGE, LAST_MESSAGE, lambda connection: connection.send_message, give_up)
            await trio.to_thread.run_sync(line, process, abandon_on_cancel=True)
            result: float | str = rate((subscribers - frozen) * updates, began)
        except SystemExit as stands_still:
            result = str(stands_still)
        nursery.cancel_scope.cancel()
    if isinstance(result, str):
        raise SystemExit(result)
    return result


async def send(
    there: list[Any],
    updates: int,
    message: Any,
    last: Any,
    how: Callable[[Any], Callable[[Any], Any]],
    give_up: float,
) -> None:
    sends = [how(one) for one in there]
    done = 0
    with trio.move_on_after(give_up) as scope:
        for number in range(updates + 1):
            for one in sends:
                await one(message if number < updates else last)
            done = number
            scope.deadline = trio.current_time() + give_up
    if scope.cancelled_caught:
        raise SystemExit(f"stands still after {done} updates: it waits for the frozen ones")


if __name__ == "__main__":
    answer(
        ours=lambda jobs, subscribers, frozen, burst: trio.run(ours, subscribers, frozen, jobs, burst),
        sse=lambda jobs, subscribers, burst: trio.run(partial(ours, sse=True), subscribers, 0, jobs, burst),
        sockets=lambda jobs, subscribers, frozen: sockets(subscribers, frozen, jobs),
        trio_sockets=lambda jobs, subscribers, frozen, give_up: trio.run(
            trio_sockets, subscribers, frozen, jobs, give_up
        ),
        websocket_loop=lambda jobs, subscribers, frozen, give_up: trio.run(
            websocket_loop, subscribers, frozen, jobs, give_up
        ),
        message=lambda: [MESSAGE, LAST_MESSAGE],
    )
