"""Deliveries a second to 100 subscribers, beside raw sockets and websockets.broadcast, in one run.

    python benchmarks/fan_out.py [subscribers] [updates]

One update at a time goes to all; then bursts of ten, where joined writes tell. A process of its own reads everything
and throws it away; what is timed is the sender, until all is handed to the kernel. Best of five each.
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


def raw(subscribers: int, updates: int) -> float:
    with socket.create_server(("127.0.0.1", 0), backlog=1024) as server:
        process = reader(server.getsockname()[1], subscribers)
        clients = [server.accept()[0] for _ in range(subscribers)]
    for client in clients:
        client.setblocking(False)
    wait_for(process)
    message = text_frame(MESSAGE)
    began = time.perf_counter()
    for _ in range(updates):
        for client in clients:
            try:
                client.send(message)
            except BlockingIOError:
                with selectors.DefaultSelector() as wait:
                    wait.register(client, selectors.EVENT_WRITE)
                    wait.select()
                client.send(message)
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


def best(run: Callable[[], float]) -> float:
    return max(run() for _ in range(ROUNDS))


def main() -> None:
    subscribers, updates = (int(argument) for argument in [*sys.argv[1:], "100", "2000"][:2])
    sockets = best(lambda: raw(subscribers, updates))
    theirs = best(lambda: asyncio.run(broadcast(subscribers, updates)))
    one = best(lambda: trio.run(ours, subscribers, updates, 1))
    ten = best(lambda: trio.run(ours, subscribers, updates * 5, 10))
    print(f"{len(MESSAGE)} bytes to {subscribers} subscribers")
    for name, rate in (
        ("raw sockets, one at a time", sockets),
        ("websockets.broadcast, one at a time", theirs),
        ("trio-jobs, one at a time", one),
        ("trio-jobs, ten at a time", ten),
    ):
        print(f"{name:<38}{rate / 1000:8.0f} k/s  {rate / sockets:5.2f} of raw  {rate / theirs:5.2f} of broadcast")


if __name__ == "__main__":
    main()
