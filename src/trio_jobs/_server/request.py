"""The HTTP head of a connection, parsed strictly. Pure functions.

A header with a byte outside ASCII raises an unexpected error in wsproto, which ends the server, and libraries differ in
how they read repeated headers, folded lines and bare line ends. So this module parses the head itself, by a grammar
narrower than that of RFC 9112, which the requests of all common clients match. For a WebSocket, a new head made from
checked values is replayed to trio-websocket, which gets none of the client's bytes before the first frame.
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
    """A request is refused.

    Args:
        status: The HTTP status of the response.
        why: The reason, which is sent to the client.
        headers: Further headers of the response.
    """

    def __init__(self, status: int, why: str, headers: tuple[tuple[str, str], ...] = ()) -> None:
        self.status: Final = status
        self.why: Final = why
        self.headers: Final = headers
        super().__init__(why)


@attrs.frozen
class RequestHead:
    """A parsed request head."""

    method: str
    """The method, in upper case."""
    path: str
    """The path without the query."""
    query: str
    """What follows "?" in the target; empty without one."""
    headers: dict[str, str]
    """The headers by lower-case name."""
    raw: bytes = attrs.field(repr=False)
    """The bytes of the head."""

    def get(self, name: str) -> str | None:
        return self.headers.get(name)

    def listed(self, name: str) -> list[str]:
        """Return the elements of a header whose value is a comma-separated list."""
        return [part.strip() for part in self.headers.get(name, "").split(",") if part.strip()]


def parse(raw: bytes, hosts: Collection[str]) -> RequestHead:
    """Parse a request head.

    Args:
        raw: The bytes up to and including the empty line.
        hosts: The host names under which the server may be reached.

    Raises:
        BadRequest: The head is malformed, has a body, or names another host.
    """
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
            raise BadRequest(400, "a header line is malformed, folded or not ASCII")
        name = header[1].decode("ascii").lower()
        if name in headers:
            raise BadRequest(400, f"header {name} is repeated")
        headers[name] = (header[2] or b"").decode("ascii")
    if "transfer-encoding" in headers or headers.get("content-length", "0") != "0":
        raise BadRequest(400, "a request body is not supported")
    _check_host(headers.get("host"), hosts)
    path, _, query = line[2].decode("ascii").partition("?")
    return RequestHead(line[1].decode("ascii"), path, query, headers, raw)


def _check_host(host: str | None, hosts: Collection[str]) -> None:
    """Refuse host names that the server does not have, against DNS rebinding.

    A web site can let its own host name resolve to the address of this server, and its pages then reach the server
    under that name. Addresses are accepted, since they cannot be rebound.
    """
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
        raise BadRequest(421, "this server does not have that host name; its option for host names allows it") from None


def wants_websocket(head: RequestHead) -> bool:
    return "upgrade" in head.headers or "sec-websocket-key" in head.headers


def replay(head: RequestHead) -> bytes:
    """Check that `head` is a WebSocket handshake for the protocol of this server.

    Returns:
        The handshake to be replayed to trio-websocket.

    Raises:
        BadRequest: It is not such a handshake.
    """
    if head.method != "GET":
        raise BadRequest(405, "the method of a WebSocket handshake must be GET", (("Allow", "GET"),))
    if head.path != "/ws":
        raise BadRequest(404, "not found; the path of the WebSocket is /ws")
    if head.query:
        raise BadRequest(400, "a query is not supported; send the token in a header or as a subprotocol")
    if head.headers.get("upgrade", "").lower() != "websocket":
        raise BadRequest(400, "header upgrade must be websocket")
    if "upgrade" not in (part.lower() for part in head.listed("connection")):
        raise BadRequest(400, "header connection must contain upgrade")
    if head.get("sec-websocket-version") != "13":
        raise BadRequest(426, "the WebSocket version must be 13", (("Sec-WebSocket-Version", "13"),))
    key = head.headers.get("sec-websocket-key", "")
    try:
        if len(base64.b64decode(key, validate=True)) != 16 or len(key) != 24:
            raise ValueError
    except (binascii.Error, ValueError):
        raise BadRequest(400, "header sec-websocket-key must be 16 bytes in base64") from None
    if PROTOCOL not in head.listed("sec-websocket-protocol"):
        raise BadRequest(400, f"header sec-websocket-protocol must contain {PROTOCOL}")
    return (
        "GET /ws HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\nSec-WebSocket-Protocol: {PROTOCOL}\r\n\r\n"
    ).encode("ascii")
