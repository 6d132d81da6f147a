"""What tests of the client share: something between it and the server that cuts connections."""

from __future__ import annotations

import socket

import trio


class Proxy:
    """Passes bytes between a client and a server that may change, and can cut all connections."""

    def __init__(self) -> None:
        self.target = 0
        self.budget: float = float("inf")  # bytes from the server until the next cut
        self.cuts = 0
        self._streams: set[trio.SocketStream] = set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.setblocking(False)
        self.url = f"ws://127.0.0.1:{self._listener.getsockname()[1]}/ws"

    async def run(self) -> None:
        async with trio.open_nursery() as nursery:
            listener = trio.SocketListener(trio.socket.from_stdlib_socket(self._listener))
            await trio.serve_listeners(self._pass, [listener], handler_nursery=nursery)

    async def _pass(self, client: trio.SocketStream) -> None:
        try:
            server = await trio.open_tcp_stream("127.0.0.1", self.target)
        except OSError:
            await trio.aclose_forcefully(client)
            return
        async with server, trio.open_nursery() as nursery:
            self._streams |= {client, server}
            nursery.start_soon(self._copy, client, server, False, nursery)
            nursery.start_soon(self._copy, server, client, True, nursery)
        self._streams -= {client, server}

    async def _copy(self, a: trio.SocketStream, b: trio.SocketStream, counted: bool, nursery: trio.Nursery) -> None:
        try:
            while data := await a.receive_some(4096):
                if counted and self.budget <= len(data):
                    await b.send_all(data[: int(self.budget)])
                    self.cut()
                    break
                if counted:
                    self.budget -= len(data)
                await b.send_all(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        nursery.cancel_scope.cancel()

    def cut(self) -> None:
        self.cuts += 1
        self.budget = float("inf")
        for stream in self._streams:
            stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            stream.socket.close()
