"""The HTTP head of a connection, read strictly. Pure.

One header with a byte outside ASCII kills a server that hands strangers' heads to wsproto, and libraries differ over
doubled headers, folded lines and lone line ends. So the head is read here by a grammar narrower than RFC 9112's: what
fits it, every honest client sends. For a WebSocket, a head of our own making, from checked values only, is replayed to
trio-websocket; nobody else's bytes reach it before the first frame.
"""

from __future__ import annotations

import base64
import binascii
import ipaddress
import re
from collections.abc import Collection
from typing import Final

import attrs

from trio_jobs._wire.codes import PROTOCOL

__all__ = ["BadRequest", "RequestHead", "parse", "replay", "wants_websocket"]

_LINE: Final = re.compile(rb"([A-Z]{1,16}) (/[!-~]*) HTTP/1\.1")
_HEADER: Final = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]{1,64}):[ \t]*([!-~](?:[ -~\t]*[!-~])?)?[ \t]*")
_HOST: Final = re.compile(r"(\[[0-9a-f:.]+\]|[a-z0-9.\-]+)(?::([0-9]{1,5}))?")
MAX_HEADERS: Final = 64


class BadRequest(Exception):
    """status: what to answer, an HTTP status. The message is for the client."""

    def __init__(self, status: int, why: str, headers: tuple[tuple[str, str], ...] = ()) -> None:
        self.status: Final = status
        self.why: Final = why
        self.headers: Final = headers
        super().__init__(why)


@attrs.frozen
class RequestHead:
    """method, path (without query), query: of the request. headers: by lower-case name. raw: the bytes."""

    method: str
    path: str
    query: str
    headers: dict[str, str]
    raw: bytes = attrs.field(repr=False)

    def get(self, name: str) -> str | None:
        return self.headers.get(name)

    def listed(self, name: str) -> list[str]:
        """The values of a header that is a list."""
        return [part.strip() for part in self.headers.get(name, "").split(",") if part.strip()]


def parse(raw: bytes, hosts: Collection[str]) -> RequestHead:
    """`raw` up to and with its empty line. hosts: names under which we may be called. Raises `BadRequest`."""
    lines = raw[:-4].split(b"\r\n")
    line = _LINE.fullmatch(lines[0])
    if line is None:
        raise BadRequest(400, "not an HTTP/1.1 request line")
    if len(lines) > MAX_HEADERS + 1:
        raise BadRequest(431, f"more than {MAX_HEADERS} headers")
    headers: dict[str, str] = {}
    for text in lines[1:]:
        header = _HEADER.fullmatch(text)
        if header is None:
            raise BadRequest(400, "a header is not plain ASCII, or folded, or none")
        name = header[1].decode("ascii").lower()
        if name in headers:
            raise BadRequest(400, f"header {name} comes twice")
        headers[name] = (header[2] or b"").decode("ascii")
    if "transfer-encoding" in headers or headers.get("content-length", "0") != "0":
        raise BadRequest(400, "a body is not expected")
    _check_host(headers.get("host"), hosts)
    path, _, query = line[2].decode("ascii").partition("?")
    return RequestHead(line[1].decode("ascii"), path, query, headers, raw)


def _check_host(host: str | None, hosts: Collection[str]) -> None:
    """A page of a foreign site can point its own name at our address (DNS rebinding); it cannot so use an address."""
    if host is None:
        raise BadRequest(400, "header host is missing")
    found = _HOST.fullmatch(host.lower())
    if found is None:
        raise BadRequest(400, "header host is malformed")
    name = found[1]
    if name in hosts:
        return
    try:
        ipaddress.ip_address(name.strip("[]"))
    except ValueError:
        raise BadRequest(421, "this server is not called so; see its option for host names") from None


def wants_websocket(head: RequestHead) -> bool:
    return "upgrade" in head.headers or "sec-websocket-key" in head.headers


def replay(head: RequestHead) -> bytes:
    """Check that `head` is a WebSocket handshake for our protocol, and give the one that trio-websocket shall see.

    Raises `BadRequest`.
    """
    if head.method != "GET":
        raise BadRequest(405, "a WebSocket begins with GET", (("Allow", "GET"),))
    if head.path != "/ws":
        raise BadRequest(404, "the WebSocket is at /ws")
    if head.query:
        raise BadRequest(400, "no query is expected; a token does not belong into an address")
    if head.headers.get("upgrade", "").lower() != "websocket":
        raise BadRequest(400, "header upgrade must be websocket")
    if "upgrade" not in (part.lower() for part in head.listed("connection")):
        raise BadRequest(400, "header connection must name upgrade")
    if head.get("sec-websocket-version") != "13":
        raise BadRequest(426, "WebSocket version 13 is spoken here", (("Sec-WebSocket-Version", "13"),))
    key = head.headers.get("sec-websocket-key", "")
    try:
        if len(base64.b64decode(key, validate=True)) != 16 or len(key) != 24:
            raise ValueError
    except (binascii.Error, ValueError):
        raise BadRequest(400, "header sec-websocket-key must be 16 bytes in base64") from None
    if PROTOCOL not in head.listed("sec-websocket-protocol"):
        raise BadRequest(400, f"the subprotocol spoken here is {PROTOCOL}")
    return (
        "GET /ws HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\nSec-WebSocket-Protocol: {PROTOCOL}\r\n\r\n"
    ).encode("ascii")
