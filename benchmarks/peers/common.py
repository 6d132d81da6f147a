"""The parts shared by contestants: arguments, answers, arrival times."""

from __future__ import annotations

import json
import random
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
    told = actions[action](**arguments)
    print("\n" + json.dumps(told), flush=True)


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
told = json.loads(sys.argv[1])
head, ask = bytes.fromhex(told["head"]), bytes.fromhex(told["ask"])
last = b"01890000-0000-7000-8000-ffffffffffff"
poll = selectors.DefaultSelector()
asleep, left = [], told["count"] - told["frozen"]
for number in range(told["count"]):
    s = socket.socket()
    frozen = number * told["frozen"] // told["count"] != (number + 1) * told["frozen"] // told["count"]
    if frozen:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    s.connect(("127.0.0.1", told["port"]))
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


def handshake(port: int, token: str) -> bytes:
    return (
        f"GET /ws HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\nSec-WebSocket-Version: 13\r\n"
        f"Sec-WebSocket-Protocol: trio-jobs.v1\r\nAuthorization: Bearer {token}\r\n\r\n"
    ).encode()
