"""A service, its server on loopback, and a client that can send anything.

`Raw` speaks the protocol over a bare socket. It can send any bytes at any time; wsproto only encodes its valid frames.
"""

from __future__ import annotations

import base64
import contextlib
import gc
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import attrs
import trio
from wsproto.frame_protocol import CloseReason, FrameDecoder, FrameProtocol, Opcode

from support.waiting import deadline
from trio_jobs import Queue, Retry, Service
from trio_jobs._runtime.queue import runtime_of
from trio_jobs._server.credentials import Credentials
from trio_jobs._server.limits import ServerLimits
from trio_jobs._server.queue_keys import QueueKeys
from trio_jobs._server.server import Server, serve
from trio_jobs._server.tokens import Token, known
from trio_jobs._wire.codes import PROTOCOL

OWNER = Token("owner-" + "0" * 20, "ann", "control")
OPERATOR = Token("operator-" + "0" * 20, "ida", "operate")
WATCHER = Token("watcher-" + "0" * 20, "wes", "watch")
KEY = base64.b64encode(b"0123456789abcdef").decode()


def credentials(*tokens: Token) -> Credentials:
    """The credentials of a server with these tokens and without a queue."""
    return Credentials([known(token) for token in tokens], QueueKeys(cast("Any", None)), lambda: 0.0)


def make_service(**settings: Any) -> Service:
    service = Service(**settings)

    @service.handler
    async def double(number: int) -> int:
        return number * 2

    @service.handler
    async def wait(seconds: float) -> str:
        await trio.sleep(seconds)
        return "waited"

    @service.handler(retry=Retry(0))
    async def fail(why: str) -> None:
        raise ValueError(why)

    return service


@attrs.frozen
class Bench:
    queue: Queue
    server: Server
    _clients: list[Raw] = attrs.field(factory=list)

    @property
    def port(self) -> int:
        port: int = self.server.port
        return port

    async def raw(self, token: Token | None = OWNER, **headers: str | None) -> Raw:
        """A client after its handshake."""
        client = await self.socket()
        await client.send(handshake(token, **headers))
        head = await client.read_head()
        assert head.startswith(b"HTTP/1.1 101 "), head
        return client

    async def socket(self) -> Raw:
        client = Raw(await trio.open_tcp_stream("127.0.0.1", self.port))
        self._clients.append(client)
        return client

    @property
    def open_clients(self) -> int:
        """How many clients have not closed their sockets."""
        return sum(client.stream.socket.fileno() >= 0 for client in self._clients)

    def reset_clients(self) -> None:
        """Reset the connections of all clients that are open."""
        for client in self._clients:
            if client.stream.socket.fileno() >= 0:
                client.reset()


def handshake(token: Token | None = OWNER, **headers: str | None) -> bytes:
    """A request for the handshake.

    Args:
        headers: To change or, with None, to leave out; an underscore in a name is a hyphen.
    """
    wanted: dict[str, str | None] = {
        "Host": "localhost",
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Key": KEY,
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Protocol": PROTOCOL,
    }
    if token is not None:
        wanted["Authorization"] = f"Bearer {token.secret}"
    wanted.update({name.replace("_", "-"): value for name, value in headers.items()})
    lines = "".join(f"{name}: {value}\r\n" for name, value in wanted.items() if value is not None)
    return f"GET /ws HTTP/1.1\r\n{lines}\r\n".encode("latin-1")


class Raw:
    """A client on a bare socket."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream = stream
        self.proto = FrameProtocol(client=True, extensions=[])
        self._decoder = FrameDecoder(client=True)
        self._text = b""
        self._next_id = 0
        self.notifications: list[dict[str, Any]] = []

    async def send(self, data: bytes | bytearray) -> None:
        await self.stream.send_all(data)

    async def read_head(self) -> bytes:
        data = b""
        while b"\r\n\r\n" not in data:
            data += await self.read_some()
        head, _, rest = data.partition(b"\r\n\r\n")
        self._decoder.receive_bytes(rest)
        return head

    async def read_some(self) -> bytes:
        with deadline("the next bytes from the server"):
            data = bytes(await self.stream.receive_some(65536))
        if not data:
            raise EOFError
        return data

    async def read_all(self) -> bytes:
        """All bytes until the server closes."""
        data = b""
        with deadline("the server closes the connection"):
            while more := bytes(await self.stream.receive_some(65536)):
                data += more
        return data

    async def frame(self) -> tuple[Opcode, bytes]:
        """The next frame. Raises EOFError."""
        payload = b""
        while True:
            frame = self._decoder.process_buffer()
            if frame is None:
                self._decoder.receive_bytes(await self.read_some())
                continue
            assert isinstance(frame.payload, bytes | bytearray)
            payload += frame.payload
            if frame.opcode is not Opcode.CONTINUATION:
                opcode = frame.opcode
            if frame.frame_finished:
                return opcode, payload

    async def message(self) -> dict[str, Any]:
        """The next message; pings are skipped."""
        while True:
            opcode, payload = await self.frame()
            if opcode is Opcode.TEXT:
                loaded: dict[str, Any] = json.loads(payload)
                return loaded
            assert opcode is not Opcode.CLOSE, payload

    async def close_code(self) -> int:
        """The code of the close frame; frames before it are skipped."""
        while True:
            opcode, payload = await self.frame()
            if opcode is Opcode.CLOSE:
                return int.from_bytes(payload[:2], "big")

    def request(self, method: str, **params: Any) -> tuple[int, bytes]:
        self._next_id += 1
        text = json.dumps({"jsonrpc": "2.0", "id": self._next_id, "method": method, "params": params})
        return self._next_id, bytes(self.proto.send_data(text))

    async def ask(self, method: str, **params: Any) -> Any:
        """The result, or the error as {"error": ...}; notifications that come before it are kept in `notifications`."""
        request_id, data = self.request(method, **params)
        await self.send(data)
        while True:
            message = await self.message()
            if message.get("id") == request_id:
                return message["result"] if "result" in message else {"error": message["error"]}
            assert "error" not in message or message["id"] is not None, f"a refusal that names no request: {message}"
            self.notifications.append(message)

    async def next_notification(self) -> dict[str, Any]:
        return self.notifications.pop(0) if self.notifications else await self.message()

    async def say_goodbye(self) -> None:
        await self.send(self.proto.close(CloseReason.NORMAL_CLOSURE))
        assert await self.close_code() == 1000
        await self.stream.aclose()

    def reset(self) -> None:
        """Close the socket with a reset."""
        self.stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self.stream.socket.close()


def free_port() -> int:
    """A port of 127.0.0.1 on which nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def descriptors() -> int:
    """How many file descriptors are open, without the timers of watchdogs: their threads close them when they end, for
    which no queue waits."""
    count = 0
    for path in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # that of the folder itself, or one that another thread has closed
            count += str(path.readlink()) != "anon_inode:[timerfd]"
    return count


@asynccontextmanager
async def bench(service: Service | None = None, **arguments: Any) -> AsyncIterator[Bench]:
    """A queue and its server. At the end: no task of the server is left, and no descriptor."""
    arguments.setdefault("tokens", [OWNER, OPERATOR, WATCHER])
    gc.collect()
    before = descriptors()
    async with (
        (service or make_service()).open() as queue,
        serve(queue, port=0, **arguments) as server,
    ):
        clients = Bench(queue, server)
        try:
            yield clients
        except BaseException:
            clients.reset_clients()  # else the server waits for their answers to its close frames
            raise
    assert server.connections == len(server._places) == len(server._places.pending) == 0
    assert runtime_of(queue).feed.readers == 0
    gc.collect()
    assert descriptors() - clients.open_clients <= before


def patient(**changes: Any) -> ServerLimits:
    """Limits with timeouts that no client exceeds on a busy machine; a test of a timeout changes it."""
    return ServerLimits(
        **{"head_timeout": 60.0, "write_timeout": 60.0, "close_timeout": 60.0, "ping": 300.0, **changes}
    )
