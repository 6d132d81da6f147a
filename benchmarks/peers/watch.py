"""How long a submit over a websocket takes while watchers request all that their rate limit allows.

Three processes: the server, the watchers, and one client that submits a job every 11 ms. The watchers read what they
get and decode none of it, so that on two cores they take little of the time of the client that is measured.
"""

from __future__ import annotations

import json
import random
import selectors
import socket
import statistics
import subprocess
import sys
import time
from contextlib import AsyncExitStack

import trio

import trio_jobs
from benchmarks.peers.common import answer, handshake
from trio_jobs._wire.costs import cost
from trio_jobs._wire.job_lists import List
from trio_jobs._wire.jsonrpc import encode_request
from trio_jobs._wire.methods import OneJob, Subscribe, Unsubscribe
from trio_jobs._wire.params import Params

CONTROL = trio_jobs.Token("control-" + "0" * 20)
WATCH = trio_jobs.Token("watch-" + "0" * 20, "watch", "watch")
EVERY = 0.011  #: seconds between two submits: a token of scope control has 100 a second
BATCH = 1000
BURST, RATE = 40.0, 20.0  #: the allowance of a watcher, in units of cost
SUBSCRIPTIONS = 32


def masked(text: bytes) -> bytes:
    """A text frame of a client, with a mask of zeros."""
    length = bytes((0x80 | len(text),)) if len(text) < 126 else bytes((0x80 | 126,)) + len(text).to_bytes(2, "big")
    return b"\x81" + length + bytes(4) + text


def connected(port: int, secret: str) -> socket.socket:
    client = socket.create_connection(("127.0.0.1", port))
    client.sendall(handshake(port, secret))
    head = b""
    while b"\r\n\r\n" not in head:
        head += client.recv(4096)
    return client


class Watcher:
    """Requests pages, jobs and snapshots, as many as it may."""

    def __init__(self, port: int, number: int, jobs: list[str]) -> None:
        self.socket = connected(port, WATCH.secret)
        self._chance = random.Random(number)
        self._jobs = jobs
        self._subscriptions: list[str] = []
        self._last = 0
        self._level, self._at = BURST, time.monotonic()

    def send_allowed(self) -> None:
        now = time.monotonic()
        self._level, self._at = min(BURST, self._level + (now - self._at) * RATE), now
        while True:
            method, params = self._next()
            if cost(params) > self._level:
                return
            self._level -= cost(params)
            self._last += 1
            self.socket.sendall(masked(encode_request(self._last, method, params)))

    def _next(self) -> tuple[str, Params]:
        if len(self._subscriptions) == SUBSCRIPTIONS:
            return "jobs.unsubscribe", Unsubscribe(self._subscriptions.pop(0))
        job = self._chance.choice(self._jobs)
        what = self._chance.choice(("get", "list", "list", "subscribe"))
        if what == "get":
            return "jobs.get", OneJob(job)
        if what == "list":
            return "jobs.list", List(after=job, limit=500)
        subscription = str(self._last)
        self._subscriptions.append(subscription)
        return "jobs.subscribe", Subscribe(subscription, snapshot=True)


def watch(port: int, watchers: int, jobs: list[str]) -> None:
    """Watch until the server closes. Prints a line when all are connected, and at the end the bytes that were read."""
    everyone = [Watcher(port, number, jobs) for number in range(watchers)]
    received = 0
    with selectors.DefaultSelector() as waiting:
        for one in everyone:
            one.socket.setblocking(False)
            waiting.register(one.socket, selectors.EVENT_READ, one)
        print("ready", flush=True)
        while waiting.get_map():
            for key, _ in waiting.select(0.05):
                data = key.data.socket.recv(1 << 20)
                received += len(data)
                if not data:
                    waiting.unregister(key.fileobj)
            for key in [*waiting.get_map().values()]:
                key.data.send_allowed()


def submit(port: int, jobs: int) -> list[float]:
    """The seconds of each submit, one at a time."""
    client = connected(port, CONTROL.secret)
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    took = []
    due = time.perf_counter()
    for number in range(jobs):
        time.sleep(max(due - time.perf_counter(), 0.0))
        due += EVERY
        text = b'{"jsonrpc":"2.0","id":%d,"method":"jobs.submit","params":{"kind":"nothing","payload":1}}' % number
        begun = time.perf_counter()
        client.sendall(masked(text))
        got = client.recv(4096)
        took.append(time.perf_counter() - begun)
        assert b'"result"' in got, got
    client.close()
    return took


async def submits(jobs: int, known: int, watchers: int) -> dict[str, float]:
    """The seconds of a submit, p50 and p99, with so many finished jobs and so many watchers."""
    service = trio_jobs.Service(buffer=2 * BATCH, max_finished_jobs=2 * known + 10 * BATCH)

    @service.handler
    async def nothing(number: int) -> None:
        pass

    async with AsyncExitStack() as stack:
        queue = await stack.enter_async_context(service.open())
        ids: list[str] = []
        while len(ids) < known:
            ids += [queue.submit_nowait("nothing", number).job_id for number in range(min(BATCH, known - len(ids)))]
            await queue.result(ids[-1])
        server = await stack.enter_async_context(trio_jobs.serve(queue, port=0, tokens=[CONTROL, WATCH], metrics=False))
        if watchers:
            given = json.dumps({"port": server.port, "watchers": watchers, "jobs": ids[:: max(known // 100, 1)]})
            process = subprocess.Popen([sys.executable, "-m", __spec__.name, "watch", given], stdout=subprocess.PIPE)
            stack.callback(process.wait)
            stack.callback(process.kill)
            assert process.stdout is not None
            await trio.to_thread.run_sync(process.stdout.readline)
            await trio.sleep(1.0)  # the burst of a pause is over
        given = json.dumps({"port": server.port, "jobs": jobs})
        done = await trio.run_process([sys.executable, "-m", __spec__.name, "submit", given], capture_stdout=True)
        took = sorted(json.loads(done.stdout.splitlines()[-1]))
        if watchers:
            assert process.poll() is None, "the watchers have ended"
            assert server.connections == watchers, "a watcher was disconnected"
    return {"p50": statistics.median(took), "p99": took[int(len(took) * 0.99)]}


if __name__ == "__main__":
    answer(
        submits=lambda jobs, known, watchers: trio.run(submits, jobs, known, watchers),
        watch=watch,
        submit=submit,
    )
