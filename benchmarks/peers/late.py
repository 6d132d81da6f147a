"""How late events are for many subscribers, of whom some do not read; how fast all can go.

Each subscriber watches a job of its own; 2,000 events a second go out in all, two every millisecond. "own": those that
are frozen read nothing, through the smallest of buffers. "all": they asked for every event, so they stall at once and
are reset a second later. The clients live in a process of their own, which notes for each event how long ago it was
made. At the end all clients get close code 1001: the time from the first to the last.
"""

from __future__ import annotations

import base64
import subprocess
import sys
import time

import trio

import trio_jobs
from benchmarks.peers.common import answer
from trio_jobs._engine import events as ev
from trio_jobs._runtime.queue import runtime_of

TOKEN = trio_jobs.Token("bench-" + "0" * 20)
PER_MS = 2

CLIENTS = """
import selectors, socket, sys, time
port, count, frozen, everything, head = int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4] == "all", bytes.fromhex(sys.argv[5])
poll = selectors.DefaultSelector()
clients = []
for i in range(count):
    s = socket.socket()
    if i < frozen:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
    s.connect(("127.0.0.1", port))
    s.sendall(head)
    data = b""
    while b"\\r\\n\\r\\n" not in data:
        data += s.recv(4096)
    wanted = b"" if everything and i < frozen else b',"jobs":["%d"]' % i
    text = b'{"jsonrpc":"2.0","id":1,"method":"jobs.subscribe","params":{"subscription":"s"%s}}' % wanted
    s.sendall(bytes((0x81, 0x80 | len(text))) + bytes(4) + text)
    s.setblocking(False)
    clients.append(s)
    if i >= frozen:
        poll.register(s, selectors.EVENT_READ)
print("ready", flush=True)
late, left = [], count - frozen
while left:
    for key, _ in poll.select():
        s = key.fileobj
        data = s.recv(1 << 20)
        now = time.time()
        for piece in data.split(b'"at":')[1:]:
            late.append(now - float(piece[: piece.index(b",")]))
        if b"the server is stopping" in data or not data:
            if data:
                s.send(bytes((0x88, 0x82, 0, 0, 0, 0, 0x03, 0xE9)))
            poll.unregister(s)
            s.close()
            left -= 1
late.sort()
print(len(late), late[len(late) // 2], late[len(late) * 99 // 100], late[-1], flush=True)
"""


def handshake(port: int) -> bytes:
    key = base64.b64encode(b"0123456789abcdef").decode()
    return (
        f"GET /ws HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: trio-jobs.v1\r\n"
        f"Authorization: Bearer {TOKEN.secret}\r\n\r\n"
    ).encode()


async def late(subscribers: int, seconds: float, frozen: int, what: str) -> dict[str, float]:
    """Latencies of those that read in seconds; how many were reset; seconds from the first to the last close."""
    async with trio_jobs.Service().open() as queue:
        async with trio_jobs.serve(queue, port=0, tokens=[TOKEN], metrics=False) as server:
            arguments = [str(n) for n in (server.port, subscribers, frozen)]
            process = subprocess.Popen(
                [sys.executable, "-c", CLIENTS, *arguments, what, handshake(server.port).hex()], stdout=subprocess.PIPE
            )
            assert process.stdout is not None
            await trio.to_thread.run_sync(process.stdout.readline)
            while server.subscriptions < subscribers:
                await trio.sleep(0.01)
            feed = runtime_of(queue).feed
            number, due = 0, trio.current_time()
            for _ in range(int(seconds * 1000)):
                now, seq = time.time(), feed.seq
                jobs = [str((number + i) * 7919 % subscribers) for i in range(PER_MS)]
                feed.publish([ev.Due(seq=seq + 1 + i, at=now, job=job) for i, job in enumerate(jobs)])
                number += PER_MS
                due += 0.001
                await trio.sleep_until(due)
            await trio.sleep(0.1)
            kicked = subscribers - server.connections
            began = trio.current_time()
        closed = trio.current_time() - began
        output, _ = await trio.to_thread.run_sync(process.communicate)
    count, p50, p99, worst = map(float, output.split())
    return {"count": count, "p50": p50, "p99": p99, "worst": worst, "kicked": kicked, "closed": closed}


if __name__ == "__main__":
    answer(late=lambda jobs, seconds, frozen, what: trio.run(late, jobs, seconds, frozen, what))
