"""Deliveries a second to 100 subscribers, beside raw sockets and websockets.broadcast, in one run.

    python benchmarks/fan_out.py [subscribers] [updates]

One update at a time goes to all; then bursts of ten, where joined writes tell. A process of its own reads everything
and throws it away; what is timed is the sender, until all is handed to the kernel.

Like with like: every socket has TCP_NODELAY, as asyncio and Trio set it. Without, the kernel only puts small messages
in a row, unsent, until the other side has acknowledged the last; that is two to three times as fast, and up to 40 ms
(Windows: 200) late. "raw" is a plain loop of `socket.send` over non-blocking sockets, "raw in Trio" the same with one
turn of the loop after each update, as the others have. Most of a delivery is the kernel's, and depends on whether the
reader sleeps; so the rounds take turns, and the ratio is the median of the rounds' own.
"""

from __future__ import annotations

import asyncio
import base64
import selectors
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from statistics import median

import trio
import websockets

import trio_jobs
from trio_jobs import _events as ev
from trio_jobs._wire.bodies import prefix
from trio_jobs._wire.frames import text_frame

TOKEN = trio_jobs.Token("bench-" + "0" * 20)
ROUNDS = 5

READER = """
import selectors, socket, sys
port, count, head, ask = int(sys.argv[1]), int(sys.argv[2]), bytes.fromhex(sys.argv[3]), bytes.fromhex(sys.argv[4])
poll = selectors.DefaultSelector()
for _ in range(count):
    s = socket.create_connection(("127.0.0.1", port))
    s.sendall(head)
    data = b""
    while head and b"\\r\\n\\r\\n" not in data:
        data += s.recv(4096)
    s.sendall(ask)
    s.setblocking(False)
    poll.register(s, selectors.EVENT_READ)
print("ready", flush=True)
while True:
    for key, _ in poll.select():
        if not key.fileobj.recv(1 << 20):
            sys.exit()
"""


def reader(port: int, count: int, head: bytes = b"", ask: bytes = b"") -> subprocess.Popen[bytes]:
    arguments = [sys.executable, "-c", READER, str(port), str(count), head.hex(), ask.hex()]
    return subprocess.Popen(arguments, stdout=subprocess.PIPE)


def wait_for(process: subprocess.Popen[bytes]) -> None:
    assert process.stdout is not None
    process.stdout.readline()


def end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.communicate()


def handshake(port: int) -> bytes:
    key = base64.b64encode(b"0123456789abcdef").decode()
    return (
        f"GET /ws HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: trio-jobs.v1\r\n"
        f"Authorization: Bearer {TOKEN.secret}\r\n\r\n"
    ).encode()


def event(seq: int) -> ev.Due:
    return ev.Due(seq=seq, at=1.5, job="01890000-0000-7000-8000-000000000000")


MESSAGE = b"x" * len(prefix("s") + trio_jobs._wire.bodies.encode_body(event(1000), None))


def pairs(subscribers: int) -> tuple[subprocess.Popen[bytes], list[socket.socket]]:
    with socket.create_server(("127.0.0.1", 0), backlog=1024) as server:
        process = reader(server.getsockname()[1], subscribers)
        clients = [server.accept()[0] for _ in range(subscribers)]
    for client in clients:
        client.setblocking(False)
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    wait_for(process)
    return process, clients


def send_to(clients: list[socket.socket], message: bytes) -> None:
    for client in clients:
        try:
            client.send(message)
        except BlockingIOError:
            with selectors.DefaultSelector() as wait:
                wait.register(client, selectors.EVENT_WRITE)
                wait.select()
            client.send(message)


def raw(subscribers: int, updates: int) -> float:
    process, clients = pairs(subscribers)
    message = text_frame(MESSAGE)
    began = time.perf_counter()
    for _ in range(updates):
        send_to(clients, message)
    took = time.perf_counter() - began
    end(process)
    for client in clients:
        client.close()
    return subscribers * updates / took


async def raw_in_trio(subscribers: int, updates: int) -> float:
    process, clients = pairs(subscribers)
    message = text_frame(MESSAGE)
    began = time.perf_counter()
    for _ in range(updates):
        send_to(clients, message)
        await trio.lowlevel.checkpoint()
    took = time.perf_counter() - began
    end(process)
    for client in clients:
        client.close()
    return subscribers * updates / took


async def broadcast(subscribers: int, updates: int) -> float:
    connected: set[websockets.ServerConnection] = set()
    all_here = asyncio.Event()

    async def serve(connection: websockets.ServerConnection) -> None:
        connected.add(connection)
        if len(connected) == subscribers:
            all_here.set()
        await connection.wait_closed()

    protocols = [websockets.Subprotocol("trio-jobs.v1")]
    async with websockets.serve(serve, "127.0.0.1", 0, compression=None, subprotocols=protocols) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        process = reader(port, subscribers, handshake(port))
        await all_here.wait()
        await asyncio.to_thread(wait_for, process)
        message = MESSAGE.decode()
        began = time.perf_counter()
        for _ in range(updates):
            websockets.broadcast(connected, message)
            await asyncio.sleep(0)
        took = time.perf_counter() - began
        await asyncio.to_thread(end, process)
    return subscribers * updates / took


async def ours(subscribers: int, updates: int, burst: int) -> float:
    text = b'{"jsonrpc":"2.0","id":1,"method":"jobs.subscribe","params":{"subscription":"s"}}'
    ask = bytes((0x81, 0x80 | len(text))) + bytes(4) + text
    async with (
        trio_jobs.Service().open() as queue,
        trio_jobs.serve(queue, port=0, tokens=[TOKEN], metrics=False) as server,
    ):
        process = reader(server.port, subscribers, handshake(server.port), ask)
        await trio.to_thread.run_sync(wait_for, process)
        feed = queue._feed
        while server.subscriptions < subscribers:
            await trio.sleep(0.01)
        await trio.sleep(0.1)
        seq = feed.seq
        began = time.perf_counter()
        for _ in range(updates // burst):
            feed.publish([event(seq + i) for i in range(1, burst + 1)])
            seq += burst
            await feed.run_once()
            await trio.lowlevel.checkpoint()
        took = time.perf_counter() - began
        assert server.connections == subscribers
        await trio.to_thread.run_sync(end, process)
    return subscribers * updates / took


def main() -> None:
    subscribers, updates = (int(argument) for argument in [*sys.argv[1:], "100", "2000"][:2])
    runs: dict[str, Callable[[], float]] = {
        "raw sockets": lambda: raw(subscribers, updates),
        "raw sockets in Trio": lambda: trio.run(raw_in_trio, subscribers, updates),
        "websockets.broadcast": lambda: asyncio.run(broadcast(subscribers, updates)),
        "trio-jobs": lambda: trio.run(ours, subscribers, updates, 1),
        "trio-jobs, ten at a time": lambda: trio.run(ours, subscribers, updates * 5, 10),
    }
    rates = [{name: run() for name, run in runs.items()} for _ in range(ROUNDS)]
    print(f"{len(MESSAGE)} bytes to {subscribers} subscribers; medians of {ROUNDS} rounds")
    for name in runs:
        rate = median(r[name] for r in rates)
        ratios = (
            f"{median(r[name] / r[to] for r in rates):5.2f} of {to}" for to in ("raw sockets", "websockets.broadcast")
        )
        print(f"{name:<26}{rate / 1000:7.0f} k/s  ", *ratios)


if __name__ == "__main__":
    main()
