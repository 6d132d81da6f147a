"""Thousands of WebSocket clients in one process, on bare sockets: `many_clients.py PORT COUNT SECRET`.

It prints "ready" when all have subscribed, and at the end, as JSON: how many got a close frame, by its code; and when
the last of them got it, on the monotonic clock of the system. A client answers its close frame, and counts as 0 where
the connection ended without one.
"""

from __future__ import annotations

import json
import resource
import selectors
import socket
import sys
import time
from collections import Counter

CLOSE = 0x88
ASK = b'{"jsonrpc":"2.0","id":1,"method":"jobs.subscribe","params":{"subscription":"s"}}'
SUBSCRIBE = bytes((0x81, 0x80 | len(ASK))) + bytes(4) + ASK


def handshake(port: int, secret: str) -> bytes:
    return (
        f"GET /ws HTTP/1.1\r\nHost: localhost:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\nSec-WebSocket-Version: 13\r\n"
        f"Sec-WebSocket-Protocol: trio-jobs.v1\r\nAuthorization: Bearer {secret}\r\n\r\n"
    ).encode()


def connected(port: int, secret: str) -> socket.socket:
    client = socket.create_connection(("127.0.0.1", port))
    client.sendall(handshake(port, secret))
    return client


def read_to(client: socket.socket, what: bytes) -> None:
    data = b""
    while what not in data:
        more = client.recv(4096)
        assert more, "the server has closed the connection"
        data += more


def close_code(data: bytes) -> int | None:
    """The code of the close frame among whole frames; None without one."""
    at = 0
    while at + 2 <= len(data):
        length = data[at + 1]
        begin = at + 2
        if length == 126:
            length = int.from_bytes(data[at + 2 : at + 4], "big")
            begin = at + 4
        if data[at] == CLOSE:
            return int.from_bytes(data[begin : begin + 2], "big")
        at = begin + length
    return None


def main(port: int, count: int, secret: str) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, count + 100)), hard))
    clients = []
    for first in range(0, count, 100):  # no more than the server accepts before their tokens are known
        batch = [connected(port, secret) for _ in range(min(100, count - first))]
        for client in batch:
            read_to(client, b"\r\n\r\n")
            client.sendall(SUBSCRIBE)
        for client in batch:
            read_to(client, b'"id":1')
        clients += batch
    by_descriptor = {client.fileno(): client for client in clients}
    codes: Counter[int] = Counter()
    last = 0.0
    with selectors.DefaultSelector() as waiting:
        for client in clients:
            client.setblocking(False)
            waiting.register(client, selectors.EVENT_READ)
        print("ready", flush=True)
        while waiting.get_map():
            for key, _ in waiting.select():
                client = by_descriptor[key.fd]
                try:
                    data = client.recv(65536)
                except OSError:
                    data = b""
                code = close_code(data) if data else 0
                if code is None:
                    continue
                codes[code] += 1
                if code:
                    last = time.monotonic()
                    client.sendall(bytes((CLOSE, 0x82)) + bytes(4) + code.to_bytes(2, "big"))
                waiting.unregister(client)
    print(json.dumps({"codes": codes, "last": last}), flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
