"""How late events are for a thousand subscribers when a fifth of them do not read; what one costs; how fast all go.

    python benchmarks/frozen.py [subscribers] [seconds]

Each subscriber watches a job of its own; 2,000 events a second go out in all, two every millisecond. "frozen, own job":
a fifth read nothing, through the smallest of buffers. "frozen, all jobs": that fifth asked for every event, so they
stall at once and are reset a second later. The clients live in a process of their own, which notes for each event how
long ago it was made. The runs take turns; told is the median of their p99, and what the server's memory (VmRSS, Linux)
grew by for each subscriber in the first run. At the end all clients are told 1001: from the first to the last goodbye.
"""

from __future__ import annotations

import base64
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

import trio

import trio_jobs
from trio_jobs import _events as ev

TOKEN = trio_jobs.Token("bench-" + "0" * 20)
ROUNDS = 3
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
        if b"the server stops" in data or not data:
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


def resident() -> float:
    """KiB, 0 where the system does not tell."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return 0.0
    return next(float(line.split()[1]) for line in lines if line.startswith("VmRSS:"))


async def run(subscribers: int, seconds: int, frozen: int, what: str) -> dict[str, float]:
    async with trio_jobs.Service().open() as queue:
        async with trio_jobs.serve(queue, port=0, tokens=[TOKEN], metrics=False) as server:
            before = resident()
            arguments = [str(n) for n in (server.port, subscribers, frozen)]
            process = subprocess.Popen(
                [sys.executable, "-c", CLIENTS, *arguments, what, handshake(server.port).hex()], stdout=subprocess.PIPE
            )
            assert process.stdout is not None
            await trio.to_thread.run_sync(process.stdout.readline)
            while server.subscriptions < subscribers:
                await trio.sleep(0.01)
            each = (resident() - before) / subscribers
            feed = queue._feed
            number, due = 0, trio.current_time()
            for _ in range(seconds * 1000):
                now, seq = time.time(), feed.seq
                jobs = [str((number + i) * 7919 % subscribers) for i in range(PER_MS)]
                feed.publish([ev.Due(seq=seq + 1 + i, at=now, job=job) for i, job in enumerate(jobs)])
                number += PER_MS
                due += 0.001
                await trio.sleep_until(due)
            await trio.sleep(0.1)
            kicked = subscribers - server.connections
            began = trio.current_time()
        goodbye = trio.current_time() - began
        told, _ = await trio.to_thread.run_sync(process.communicate)
    count, p50, p99, worst = map(float, told.split())
    return {"count": count, "p50": p50, "p99": p99, "worst": worst, "kicked": kicked, "kib": each, "goodbye": goodbye}


def main() -> None:
    subscribers, seconds = (int(argument) for argument in [*sys.argv[1:], "1000", "5"][:2])
    kinds = {
        "none frozen": (0, ""),
        "frozen, own job": (subscribers // 5, "own"),
        "frozen, all jobs": (subscribers // 5, "all"),
    }
    rounds = [{name: trio.run(run, subscribers, seconds, *kind) for name, kind in kinds.items()} for _ in range(ROUNDS)]
    print(
        f"{subscribers} subscribers, {PER_MS * 1000} events/s; medians of {ROUNDS} rounds; latencies of those that read"
    )
    for name in kinds:
        of = {what: median(r[name][what] for r in rounds) for what in rounds[0][name]}
        ratio = median(r[name]["p99"] / r["none frozen"]["p99"] for r in rounds)
        print(
            f"{name:<18}p50 {of['p50'] * 1000:6.2f} ms  p99 {of['p99'] * 1000:6.2f} ms  worst {of['worst'] * 1000:7.2f} ms"
            f"  p99 {ratio:4.2f} of none frozen  {of['kicked']:4.0f} reset  all told 1001 in {of['goodbye']:.2f} s"
        )
    print(f"a subscriber costs {rounds[0]['none frozen']['kib']:.1f} KiB")


if __name__ == "__main__":
    main()
