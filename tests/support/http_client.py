"""A client of the HTTP API on a bare socket, which can also send what no library sends."""

from __future__ import annotations

import json as json_
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import attrs

from support.server import OWNER, Bench, Raw, bench, patient
from trio_jobs import Service
from trio_jobs._server.tokens import Token

__all__ = ["Http", "Response", "http_site", "response"]


@attrs.frozen
class Response:
    """A response."""

    status: int
    headers: dict[str, str]
    """By lower-case name; of a repeated header, all values."""
    body: bytes

    @property
    def json(self) -> Any:
        return json_.loads(self.body)

    @property
    def problem(self) -> str:
        """The end of the type of a problem."""
        assert self.headers["content-type"] == "application/problem+json", self
        assert self.json["status"] == self.status
        prefix, _, slug = self.json["type"].rpartition(":")
        assert prefix == "urn:trio-jobs:problem"
        return str(slug)


def parse_head(head: bytes) -> tuple[int, dict[str, str]]:
    """The status and the headers."""
    lines = head.decode().split("\r\n")
    headers: dict[str, str] = {}
    for name, value in (line.split(": ", 1) for line in lines[1:]):
        headers[name.lower()] = f"{headers[name.lower()]}, {value}" if name.lower() in headers else value
    return int(lines[0].split()[1]), headers


async def response(client: Raw, data: bytes) -> Response:
    """Send a request, and read the response."""
    await client.send(data)
    received = b""
    while b"\r\n\r\n" not in received:
        received += await client.read_some()
    head, _, body = received.partition(b"\r\n\r\n")
    status, headers = parse_head(head)
    while not data.startswith(b"HEAD") and len(body) < int(headers.get("content-length", 0)):
        body += await client.read_some()
    return Response(status, headers, body)


class Http:
    """A client with one connection.

    Args:
        raw: The connection.
        token: Its token; None without one.
    """

    def __init__(self, raw: Raw, token: Token | None) -> None:
        self.raw = raw
        self.token = token

    def encode(
        self, method: str, path: str, json: Any = ..., *, body: bytes | None = None, **headers: str | None
    ) -> bytes:
        """A request. An underscore in the name of a header is a hyphen."""
        wanted: dict[str, str | None] = {"Host": "localhost"}
        if self.token is not None:
            wanted["Authorization"] = f"Bearer {self.token.secret}"
        if json is not ...:
            body = json_.dumps(json).encode()
        if body is not None:
            wanted |= {"Content-Type": "application/json", "Content-Length": str(len(body))}
        wanted.update({name.replace("_", "-"): value for name, value in headers.items()})
        lines = "".join(f"{name}: {value}\r\n" for name, value in wanted.items() if value is not None)
        return f"{method} {path} HTTP/1.1\r\n{lines}\r\n".encode("latin-1") + (body or b"")

    async def __call__(self, method: str, path: str, json: Any = ..., **rest: Any) -> Response:
        """Send a request, and read the response."""
        return await response(self.raw, self.encode(method, path, json, **rest))


@asynccontextmanager
async def http_site(service: Service | None = None, **arguments: Any) -> AsyncIterator[tuple[Bench, Http]]:
    """A server and a client; at the end all clients are disconnected."""
    arguments.setdefault("limits", patient())
    async with bench(service, **arguments) as b:
        yield b, Http(await b.socket(), OWNER)
        b.reset_clients()
