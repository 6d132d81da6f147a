"""Clients of which each sends one request with a body, all at once.

`many_bodies_child.py PORT COUNT SIZE HEAD`: connects and sends the heads (in hexadecimal), then, a step for each line
of its standard input: as much of the bodies as the server receives; the rest, and the responses. It prints a line after
each step; the last one has the number of responses of each status.
"""

from __future__ import annotations

import json
import selectors
import socket
import sys
from collections import Counter


def main(port: int, count: int, size: int, head: bytes) -> None:
    clients = [socket.create_connection(("127.0.0.1", port)) for _ in range(count)]
    for client in clients:
        client.sendall(head)
        client.setblocking(False)
    print("connected", flush=True)
    sys.stdin.readline()
    body = b'"' + b"x" * (size - 2) + b'"'
    sent = dict.fromkeys(clients, 0)
    for client in clients:
        while sent[client] < size - 1:
            try:
                sent[client] += client.send(body[sent[client] : size - 1])
            except BlockingIOError:
                break  # the server receives the bodies of others first
    print(sum(sent.values()), flush=True)
    sys.stdin.readline()
    statuses: Counter[str] = Counter()
    with selectors.DefaultSelector() as poll:
        for client in clients:
            poll.register(client, selectors.EVENT_READ | selectors.EVENT_WRITE, client)
        while poll.get_map():
            for key, ready in poll.select():
                peer: socket.socket = key.data
                if ready & selectors.EVENT_READ:
                    statuses[peer.recv(65536)[9:12].decode()] += 1
                    poll.unregister(peer)
                elif sent[peer] < size:
                    sent[peer] += peer.send(body[sent[peer] :])
                else:
                    poll.modify(peer, selectors.EVENT_READ, peer)
    print(json.dumps(statuses), flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), bytes.fromhex(sys.argv[4]))
