"""What tests of the server share: a service, a server on loopback, and a client that can misbehave.

`Raw` speaks the protocol over a bare socket, with wsproto only where it behaves: it can send any bytes at any time.
"""

from __future__ import annotations

import base64
import gc
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import attrs
import trio
from wsproto.frame_protocol import CloseReason, FrameDecoder, FrameProtocol, Opcode

from support.waiting import deadline
from trio_jobs import Queue, Service
from trio_jobs._runtime.queue import runtime_of
from trio_jobs._server.limits import ServerLimits
from trio_jobs._server.server import Server, serve
from trio_jobs._server.tokens import Token
from trio_jobs._wire.codes import PROTOCOL

OWNER = Token("owner-" + "0" * 20, "ann", "control")
WATCHER = Token("watcher-" + "0" * 20, "wes", "watch")
KEY = base64.b64encode(b"0123456789abcdef").decode()


def make_service(**settings: Any) -> Service:
    service = Service(**settings)

    @service.handler
    async def double(number: int) -> int:
        return number * 2

    @service.handler
    async def wait(seconds: float) -> str:
        await trio.sleep(seconds)
        return "waited"

    @service.handler
    async def fail(why: str) -> None:
        raise ValueError(why)

    return service


@attrs.frozen
class Bench:
    queue: Queue
    server: Server

    @property
    def port(self) -> int:
        port: int = self.server.port
        return port

    async def raw(self, token: Token | None = OWNER, **headers: str | None) -> Raw:
        """A client that has been welcomed."""
        client = await self.socket()
        await client.send(handshake(token, **headers))
        head = await client.read_head()
        assert head.startswith(b"HTTP/1.1 101 "), head
        return client

    async def socket(self) -> Raw:
        return Raw(await trio.open_tcp_stream("127.0.0.1", self.port))


def handshake(token: Token | None = OWNER, **headers: str | None) -> bytes:
    """headers: to change or, with None, to leave out; underscores stand for hyphens."""
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
        self.told: list[dict[str, Any]] = []

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
        """What comes until the server closes."""
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
        """The next message that is no ping."""
        while True:
            opcode, payload = await self.frame()
            if opcode is Opcode.TEXT:
                loaded: dict[str, Any] = json.loads(payload)
                return loaded
            assert opcode is not Opcode.CLOSE, payload

    async def close_code(self) -> int:
        """The code of the close frame; whatever comes before it is passed over."""
        while True:
            opcode, payload = await self.frame()
            if opcode is Opcode.CLOSE:
                return int.from_bytes(payload[:2], "big")

    def request(self, method: str, **params: Any) -> tuple[int, bytes]:
        self._next_id += 1
        text = json.dumps({"jsonrpc": "2.0", "id": self._next_id, "method": method, "params": params})
        return self._next_id, bytes(self.proto.send_data(text))

    async def ask(self, method: str, **params: Any) -> Any:
        """The result, or the error as {"error": ...}; what is told meanwhile is kept in `told`."""
        request_id, data = self.request(method, **params)
        await self.send(data)
        while True:
            message = await self.message()
            if message.get("id") == request_id:
                return message["result"] if "result" in message else {"error": message["error"]}
            self.told.append(message)

    async def next_told(self) -> dict[str, Any]:
        return self.told.pop(0) if self.told else await self.message()

    async def say_goodbye(self) -> None:
        await self.send(self.proto.close(CloseReason.NORMAL_CLOSURE))
        assert await self.close_code() == 1000
        await self.stream.aclose()

    def reset(self) -> None:
        """Gone, and the server's kernel is told so at once."""
        self.stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self.stream.socket.close()


def descriptors() -> int:
    return len([*Path("/proc/self/fd").iterdir()])


@asynccontextmanager
async def bench(service: Service | None = None, **arguments: Any) -> AsyncIterator[Bench]:
    """A queue and its server. At the end: no task of the server is left, and no descriptor."""
    arguments.setdefault("tokens", [OWNER, WATCHER])
    gc.collect()
    before = descriptors()
    async with (
        (service or make_service()).open() as queue,
        serve(queue, port=0, **arguments) as server,
    ):
        yield Bench(queue, server)
    assert server.connections == server._accepted == len(server._pending) == 0
    assert runtime_of(queue).feed.readers == 0
    gc.collect()
    assert descriptors() <= before


def quick(**changes: Any) -> ServerLimits:
    """Limits that a test need not wait long for."""
    return ServerLimits(**{"head_timeout": 0.3, "write_timeout": 0.3, "close_timeout": 0.3, **changes})
