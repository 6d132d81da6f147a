"""A server that speaks the protocol and behaves as a test says: it refuses, is slow, closes, or answers nothing."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import trio
from trio_websocket import ConnectionClosed, WebSocketConnection, wrap_server_stream
from wsproto.utilities import ProtocolError

from trio_jobs._wire.codes import PROTOCOL

__all__ = ["LIMITS", "FakeConnection", "answering", "fake_server"]

LIMITS: dict[str, Any] = {
    "message": 2**20 + 2**16, "in_flight": 64, "messages": 200.0, "messages_per_second": 100.0,
    "bytes": 4.0 * 2**20, "bytes_per_second": 1.0 * 2**20, "subscriptions": 32,
}  # fmt: skip


class FakeStream(trio.abc.Stream):
    """A stream whose network can become slow or silent.

    Attributes:
        pause: Seconds before each part of `part` bytes that is received.
        silent: Nothing is received any more.
    """

    def __init__(self, stream: trio.SocketStream) -> None:
        self.pause = 0.0
        self.part = 65536
        self.silent = False
        self._stream = stream

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        await trio.sleep(self.pause)
        while True:
            data = bytes(await self._stream.receive_some(self.part))
            if not self.silent or not data:
                return data

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self._stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def aclose(self) -> None:
        await self._stream.aclose()


class FakeConnection:
    """A connection of a client. `number` counts connections from 1."""

    def __init__(self, websocket: WebSocketConnection, stream: FakeStream, number: int) -> None:
        self.websocket = websocket
        self.stream = stream
        self.number = number

    async def receive(self) -> dict[str, Any]:
        """The next request. Raises `ConnectionClosed`."""
        request: dict[str, Any] = json.loads(await self.websocket.get_message())
        return request

    async def send(self, **message: Any) -> None:
        await self.websocket.send_message(json.dumps({"jsonrpc": "2.0", **message}))

    async def answer(self, request: dict[str, Any], result: Any) -> None:
        await self.send(id=request["id"], result=result)

    async def refuse(self, request_id: int | None, **data: Any) -> None:
        """Refuse a request because of a limit."""
        await self.send(id=request_id, error={"code": -32016, "message": "too many", "data": data})

    async def hello(self, *, limits: dict[str, Any] | None = LIMITS) -> None:
        """Answer the server.hello with which a client begins. limits: None as of an early server."""
        request = await self.receive()
        assert request["method"] == "server.hello", request
        result = {"protocol": PROTOCOL, "epoch": "e", "seq": 1, "oldest": 1, "scope": "control", "name": "ann"}
        await self.answer(request, result if limits is None else {**result, "limits": limits})

    async def close(self, code: int, reason: str = "") -> None:
        await self.websocket.aclose(code, reason)


def answering(request: dict[str, Any]) -> Any:
    """What a server answers: each submit has made the job of its key or payload, each job is completed."""
    params = request.get("params", {})
    if request["method"] == "jobs.submit":
        job = params.get("key") or f"job-{params['payload']}"
        return {"job": job, "created": True, "position": 1, "state": "pending"}
    if request["method"] == "jobs.result":
        return {"job": params["job"], "state": "completed", "final": True, "result": 42}
    return {"seq": 1, "subscription": params.get("subscription", ""), "epoch": "e"}


@asynccontextmanager
async def fake_server(talk: Callable[[FakeConnection], Awaitable[None]]) -> AsyncIterator[str]:
    """Serve on loopback; yields the URL. A connection ends when `talk` returns, or when the client has closed it."""
    count = 0

    async def serve(transport: trio.SocketStream) -> None:
        nonlocal count
        count += 1
        stream = FakeStream(transport)
        try:
            async with trio.open_nursery() as nursery:
                request = await wrap_server_stream(nursery, stream, max_message_size=2**21)
                websocket = await request.accept(subprotocol=PROTOCOL)
                await talk(FakeConnection(websocket, stream, count))
                nursery.cancel_scope.cancel()
        except* (ConnectionClosed, ProtocolError, trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        finally:
            await trio.aclose_forcefully(transport)

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(trio.serve_tcp, serve, 0)
        port = listeners[0].socket.getsockname()[1]
        yield f"ws://127.0.0.1:{port}/ws"
        nursery.cancel_scope.cancel()
