"""The parts shared by contestants: arguments, answers, arrival times."""

from __future__ import annotations

import json
import random
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

PAUSE = 0.006  # seconds between two jobs of an idle queue, which is longer than each of them takes


def answer(**actions: Callable[..., Any]) -> None:
    """Run the action of the command line, and print the answer as the last line of the output."""
    action, arguments = sys.argv[1], json.loads(sys.argv[2])
    given = actions[action](**arguments)
    print("\n" + json.dumps(given), flush=True)


def warm(jobs: int) -> int:
    """How many jobs to run before the clock starts."""
    return max(jobs // 10, 10)


def rate(jobs: int, began: float) -> float:
    """Jobs per second since `began`."""
    return jobs / (time.perf_counter() - began)


def arrivals(count: int, per_second: float) -> list[float]:
    """Arrival times in seconds from the start: random and independent, with the given rate per second.

    They are the same in every process, so that all contestants have the same bursts.
    """
    chance = random.Random(7)
    at, times = 0.0, []
    for _ in range(count):
        at += chance.expovariate(per_second)
        times.append(at)
    return times


#: Writes the time of each arrival to its output when it comes. It runs in a process of its own, since a generator that
#: spins in an event loop leaves that loop no idle turn, and timers of an event loop are a millisecond apart. It never
#: waits for the queue: a full pipe, 8,192 arrivals, is an error
GENERATOR = """
import json, os, struct, sys, time
times = json.loads(sys.stdin.readline())
os.set_blocking(1, False)
began = time.perf_counter()
for at in times:
    while (left := began + at - time.perf_counter()) > 0:
        time.sleep(left)
    os.write(1, struct.pack("d", time.perf_counter()))
"""
ARRIVAL = struct.Struct("d")  # of what the generator writes


@contextmanager
def generator(count: int, per_second: float) -> Iterator[subprocess.Popen[bytes]]:
    """The process that generates arrivals."""
    process = subprocess.Popen([sys.executable, "-c", GENERATOR], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin is not None
    try:
        process.stdin.write(json.dumps(arrivals(count, per_second)).encode() + b"\n")
        process.stdin.flush()
        yield process
    finally:
        process.kill()
        process.communicate()


@contextmanager
def worker_apart(module: str, **arguments: Any) -> Iterator[None]:
    """The contestant's worker in another process, as documented for queues with a server."""
    process = subprocess.Popen([sys.executable, "-m", module, "worker", json.dumps(arguments)])
    try:
        yield
    finally:
        process.kill()
        process.wait()


# fan-out

LAST = "01890000-0000-7000-8000-ffffffffffff"  # the job that the last update is about

READER = """
import json, selectors, socket, sys
given = json.loads(sys.argv[1])
heads, ask = [bytes.fromhex(head) for head in given["head"].split(",")], bytes.fromhex(given["ask"])
last = b"01890000-0000-7000-8000-ffffffffffff"
ping, pong = b"\\x89\\x01?", b"\\x8a\\x81\\0\\0\\0\\0?"
poll = selectors.DefaultSelector()
asleep, left = [], given["count"] - given["frozen"]
for number in range(given["count"]):
    s, head = socket.socket(), heads[number % len(heads)]
    frozen = number * given["frozen"] // given["count"] != (number + 1) * given["frozen"] // given["count"]
    if frozen:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    s.connect(("127.0.0.1", given["port"]))
    s.sendall(head)
    data = b""
    while head and b"\\r\\n\\r\\n" not in data:
        data += s.recv(4096)
    s.sendall(ask)
    s.setblocking(False)
    if frozen:
        asleep.append(s)
    else:
        poll.register(s, selectors.EVENT_READ, [b""])
print("ready", flush=True)
while left:
    for key, _ in poll.select():
        data = key.fileobj.recv(1 << 20)
        if last in key.data[0][-len(last):] + data:
            left -= 1
        elif data.startswith(ping):
            key.fileobj.sendall(pong)
        elif not data:
            sys.exit("a subscriber that reads was dropped")
        key.data[0] = data[-len(last):]
print("done", flush=True)
while True:
    for key, _ in poll.select():
        if not key.fileobj.recv(1 << 20):
            poll.unregister(key.fileobj)
    if not poll.get_map():
        break
"""


# requests over HTTP

POSTER = """
import json, selectors, socket, sys, time
given = json.loads(sys.argv[1])
request = bytes.fromhex(given["request"])
poll = selectors.DefaultSelector()

def measure(count):
    left, begun = count, time.perf_counter()
    waiting = 0
    for key in poll.get_map().values():
        if left:
            key.fileobj.sendall(request)
            left, waiting = left - 1, waiting + 1
    while waiting:
        for key, _ in poll.select():
            data = key.data[0] + key.fileobj.recv(1 << 16)
            head, end, body = data.partition(b"\\r\\n\\r\\n")
            if not data:
                sys.exit("a connection was closed")
            if not end or len(body) < int(head.lower().partition(b"content-length:")[2].split(None, 1)[0]):
                key.data[0] = data
                continue
            if not head.startswith((b"HTTP/1.1 200", b"HTTP/1.1 202")):
                sys.exit(f"answered {data[:300]!r}")
            key.data[0] = b""
            if left:
                key.fileobj.sendall(request)
                left -= 1
            else:
                waiting -= 1
    return time.perf_counter() - begun

for _ in range(given["clients"]):
    s = socket.create_connection(("127.0.0.1", given["port"]))
    s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    poll.register(s, selectors.EVENT_READ, [b""])
measure(given["warm"])
print(given["count"] / measure(given["count"]), flush=True)
"""


def submit_request(port: int, token: str) -> bytes:
    """A submit of the HTTP API, on a connection that is kept."""
    body = b'{"number":21}'
    return (
        f"POST /v1/kinds/double/jobs HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAuthorization: Bearer {token}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    ).encode() + body


def poster(port: int, token: str, clients: int, count: int) -> list[str]:
    """The command of a process with so many clients, each of which sends its next request after the response to the
    last. It prints the requests per second."""
    request = submit_request(port, token).hex()
    given = {"port": port, "request": request, "clients": clients, "count": count, "warm": warm(count)}
    return [sys.executable, "-c", POSTER, json.dumps(given)]


def handshake(port: int, token: str) -> bytes:
    return (
        f"GET /ws HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\nSec-WebSocket-Version: 13\r\n"
        f"Sec-WebSocket-Protocol: trio-jobs.v1\r\nAuthorization: Bearer {token}\r\n\r\n"
    ).encode()
