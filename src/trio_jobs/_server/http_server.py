"""The plain HTTP side of a server: its connections, and which part answers which path."""

from __future__ import annotations

import socket
from typing import final

import trio

from trio_jobs._server.api import Api
from trio_jobs._server.handshake import FirstRequest, Peer, RequestReader
from trio_jobs._server.http import Page, Pages
from trio_jobs._server.http_body import BodyMemory
from trio_jobs._server.http_connection import HttpConnection, HttpRequest, Stream
from trio_jobs._server.identity import Problem
from trio_jobs._server.limits import ServerLimits
from trio_jobs._server.page_logins import LOGIN, LOGOUT, PageLogins
from trio_jobs._server.places import Places
from trio_jobs._server.stream import GuardedStream
from trio_jobs._wire.routes import PREFIX

__all__ = ["HttpServer"]


@final
class HttpServer:
    """Answers plain HTTP.

    Args:
        pages: The paths outside of the API.
        api: The API.
        requests: Checks each head.
        places: The connections of the server.
        limits: Of the server.
    """

    def __init__(self, pages: Pages, api: Api, requests: RequestReader, places: Places, limits: ServerLimits) -> None:
        self._pages = pages
        self._api = api
        self._requests = requests
        self._places = places
        self._limits = limits
        self.logins: PageLogins | None = None
        """The logins of the page; None if the server has no page."""
        self._memory = BodyMemory()
        self._open: dict[HttpConnection, None] = {}

    @property
    def is_busy(self) -> bool:
        """Whether a request is being answered."""
        return any(connection.is_busy for connection in self._open)

    async def serve(
        self,
        transport: trio.abc.Stream,
        raw: socket.socket | None,
        first: FirstRequest,
        peer: Peer,
        scope: trio.CancelScope,
    ) -> None:
        """Answer the requests of a connection until it ends. Arguments: as of `HttpConnection`.

        Raises:
            trio.BrokenResourceError: The connection is lost.

        Cancelled:
            A response may have been sent in part.
        """
        stream = GuardedStream(transport, raw, self._limits)
        connection = HttpConnection(
            stream,
            transport,
            first,
            peer,
            scope,
            self._requests,
            self._respond,
            self._memory,
            self._places,
            self._limits,
        )
        self._open[connection] = None
        try:
            await connection.run()
        finally:
            del self._open[connection]

    def stop(self) -> None:
        """Close each connection behind the response that is being made."""
        for connection in [*self._open]:
            connection.stop()

    def end(self) -> None:
        """Close all connections."""
        for connection in [*self._open]:
            connection.end()

    async def _respond(self, request: HttpRequest) -> Page | Stream:
        if isinstance(request.identity, Problem):
            self._requests.limit_strangers(request.peer)
        if request.head.path.startswith(PREFIX):
            return await self._api.respond(request)
        if self.logins is not None and request.head.path in (LOGIN, LOGOUT):
            return await self.logins.respond(request)
        return self._pages.answer(request.head, request.known)
