"""The HTTP head of a connection, parsed strictly. Pure functions.

Libraries and proxies differ in how they read repeated headers, folded lines, bare line ends and contradictory lengths,
and a difference between a proxy and its server lets a client hide one request within another. So this module parses the
head itself. What decides how a request is read is refused unless all readers agree on it: the line ends, the names of
headers, the length of the body, and each header that the server reads. The other headers come from proxies, browsers
and applications on the same host, and can be repeated or contain any text. For a WebSocket, a new head made from
checked values is replayed to trio-websocket, which gets none of the client's bytes before the first frame.
"""

from __future__ import annotations

import base64
import binascii
import ipaddress
import re
from collections.abc import Collection, Iterable
from typing import Final

import attrs

from trio_jobs._errors import UsageError
from trio_jobs._server.refusals import Reason
from trio_jobs._wire.codes import PROTOCOL

__all__ = [
    "BadRequest",
    "HeadBuffer",
    "RequestHead",
    "check_host_names",
    "check_hosts",
    "parse",
    "replay",
    "wants_websocket",
]

MAX_HEADERS: Final = 128
UPGRADE: Final = (("Upgrade", "websocket"), ("Connection", "Upgrade"))

_LINE: Final = re.compile(rb"([A-Z]{1,16}) ([!-\"$-~]+) HTTP/1\.([01])")  # no "#": a fragment is not sent
_ABSOLUTE: Final = re.compile(rb"(?:http|https)://([^/?]*)(.*)", re.IGNORECASE)
_NAME: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_CONTROL: Final = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
_LINE_END: Final = re.compile(rb"\x00|\r[^\n]|(?<!\r)\n")
_HOST: Final = re.compile(r"(\[[0-9a-f:.]{2,45}\]|[a-z0-9._\-]{1,255})(?::[0-9]{0,5})?")
_HOST_NAME: Final = re.compile(r"[a-z0-9._\-]{1,255}")
_TLS: Final = b"\x16\x03"  #: how a TLS handshake begins (RFC 8446, section 5.1)
_LENGTH: Final = re.compile(r"[0-9]{1,15}")

#: Headers that the server reads and that have one value. A second one could be the one that a proxy has checked.
_SINGLE: Final = frozenset({
    "host", "authorization", "content-length", "transfer-encoding", "origin", "sec-websocket-key",
    "sec-websocket-version", "content-type", "expect", "idempotency-key", "last-event-id", "sec-fetch-site",
    "access-control-request-method",
})  # fmt: skip
#: Headers that the server reads and whose value is a list, which can be on several lines (RFC 9110, section 5.3).
_LISTS: Final = frozenset({
    "accept-encoding", "connection", "if-match", "if-none-match", "prefer", "sec-websocket-protocol", "upgrade",
})  # fmt: skip


class BadRequest(Exception):
    """A request is refused.

    Args:
        status: The HTTP status of the response.
        why: What is wrong, which is sent to the client. It contains no secret.
        headers: Further headers of the response.
        reason: As what the refusal is counted; None for an answer that is not counted, such as "not found".
    """

    def __init__(
        self,
        status: int,
        why: str,
        headers: tuple[tuple[str, str], ...] = (),
        *,
        reason: Reason | None = Reason.REQUEST,
    ) -> None:
        self.status: Final = status
        self.why: Final = why
        self.headers: Final = headers
        self.reason: Final = reason
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
    """The headers that the server reads, by lower-case name; lines of a list are joined."""
    hosts: tuple[str, ...] = ()
    """The host names of a target in absolute form and of header host, in lower case and without a port."""
    minor: int = 1
    """0 for HTTP/1.0, 1 for HTTP/1.1."""
    body: int | None = 0
    """The length of the body in bytes; None if it is chunked."""
    forwarded_for: str | None = None
    """The address that the nearest proxy has added to X-Forwarded-For. For messages only: anyone can send it."""

    def get(self, name: str) -> str | None:
        return self.headers.get(name)

    def listed(self, name: str) -> list[str]:
        """Return the elements of a header whose value is a comma-separated list."""
        return [part.strip() for part in self.headers.get(name, "").split(",") if part.strip()]


class HeadBuffer:
    """Collects the bytes of a connection until its request head is complete.

    What is refused does not depend on how the bytes are divided into reads.

    Args:
        limit: The size of a head in bytes.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._data = bytearray()

    @property
    def missing(self) -> int:
        """How many more bytes a head may have."""
        return max(0, self._limit - len(self._data))

    def feed(self, data: bytes | bytearray) -> tuple[bytes, bytes] | None:
        """Add bytes.

        Returns:
            The head with its empty line, and the bytes after it; None if the head is not complete.

        Raises:
            BadRequest: The head is too large, or has a byte that no head has.
        """
        start = len(self._data)
        self._data += data
        end = self._data.find(b"\r\n\r\n", max(0, start - 3), self._limit)
        # at once, since a client that ends its lines in another way does not send what ends a head
        if _LINE_END.search(self._data, max(0, start - 1), self._limit if end < 0 else end + 4):
            if self._data.startswith(_TLS):
                raise BadRequest(400, "the client speaks TLS, and this server does not: use http:// or ws://")
            raise BadRequest(400, "the head has a NUL, or a line that does not end with CR LF")
        if end < 0:
            if len(self._data) >= self._limit:
                raise BadRequest(431, f"the request head has more than {self._limit} bytes")
            return None
        return bytes(self._data[: end + 4]), bytes(self._data[end + 4 :])


def parse(raw: bytes) -> RequestHead:
    """Parse a request head.

    Args:
        raw: The bytes up to and including the empty line.

    Raises:
        BadRequest: The head is malformed or ambiguous.
    """
    lines = raw[:-4].split(b"\r\n")
    line = _LINE.fullmatch(lines[0])
    if line is None:
        raise BadRequest(400, "not a request line of HTTP/1.1 or HTTP/1.0")
    if len(lines) > MAX_HEADERS + 1:
        raise BadRequest(431, f"more than {MAX_HEADERS} headers")
    method, minor = line[1].decode("ascii"), int(line[3])
    if minor == 0 and method not in ("GET", "HEAD"):
        raise BadRequest(
            405, "a request in HTTP/1.0 must be GET or HEAD; let a proxy use HTTP/1.1", (("Allow", "GET, HEAD"),)
        )
    authority, path, query = _split_target(line[2])
    headers, forwarded_for = _read_headers(lines[1:])
    hosts = [] if authority is None else [authority]
    if "host" in headers:
        hosts.append(headers["host"])
    elif minor == 1:  # health checks in HTTP/1.0 have none; no browser sends HTTP/1.0
        raise BadRequest(400, "header host is missing")
    names = tuple(_host_name(host) for host in hosts)
    return RequestHead(method, path, query, headers, names, minor, _body_length(headers, minor), forwarded_for)


def _split_target(target: bytes) -> tuple[str | None, str, str]:
    """The authority of a target in absolute form, the path and the query."""
    authority = None
    absolute = _ABSOLUTE.fullmatch(target)
    if absolute is not None:
        authority = absolute[1].decode("ascii")
        target = absolute[2] if absolute[2].startswith(b"/") else b"/" + absolute[2]
    if not target.startswith(b"/"):
        raise BadRequest(400, "the target of the request must be a path, or a URL with http or https")
    path, _, query = target.decode("ascii").partition("?")
    return authority, path, query


def _read_headers(lines: Iterable[bytes]) -> tuple[dict[str, str], str | None]:
    """The headers that the server reads, and the address in X-Forwarded-For."""
    headers: dict[str, str] = {}
    forwarded_for = b""
    for line in lines:
        field, colon, raw = line.partition(b":")
        if not colon or _NAME.fullmatch(field) is None:
            raise BadRequest(400, "a header line is folded, has a space before its colon, or has no valid name")
        name, value = field.decode("ascii").lower(), raw.strip(b" \t")
        if _CONTROL.search(value):
            raise BadRequest(400, f"header {name:.100} has a control character")
        if name == "x-forwarded-for":
            forwarded_for = value
        if name not in _SINGLE and name not in _LISTS:
            continue
        if not value.isascii():
            raise BadRequest(400, f"header {name} is not ASCII")
        text = value.decode("ascii")
        if name not in headers:
            headers[name] = text
        elif name in _LISTS:
            headers[name] += f", {text}"
        else:
            raise BadRequest(400, f"header {name} is repeated")
    return headers, _last_address(forwarded_for)


def _last_address(forwarded_for: bytes) -> str | None:
    text = forwarded_for.rpartition(b",")[2].strip().decode("latin-1")
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    return text if _is_address(text) else None


def _body_length(headers: dict[str, str], minor: int) -> int | None:
    length, coding = headers.get("content-length"), headers.get("transfer-encoding")
    if coding is not None:
        if length is not None:
            raise BadRequest(400, "a request must not have both content-length and transfer-encoding")
        if minor == 0:
            raise BadRequest(400, "a request in HTTP/1.0 must not have header transfer-encoding")
        if coding != "chunked":
            raise BadRequest(400, "header transfer-encoding must be chunked")
        return None
    if length is None:
        return 0
    if _LENGTH.fullmatch(length) is None:
        raise BadRequest(400, "header content-length must be a number of at most 15 digits")
    return int(length)


def _host_name(host: str) -> str:
    found = _HOST.fullmatch(host.lower())
    if found is None:
        raise BadRequest(400, "the host name of the request is malformed")
    return found[1]


def check_hosts(head: RequestHead, hosts: Collection[str]) -> None:
    """Refuse host names that the server does not have, against DNS rebinding.

    A web site can let its own host name resolve to the address of this server, and its pages then reach the server
    under that name. Addresses are accepted, since they cannot be rebound.

    Args:
        head: The request.
        hosts: The host names under which the server may be reached, in lower case.

    Raises:
        BadRequest: The request is for another host name.
    """
    for name in head.hosts:
        if name not in hosts and not _is_address(name.strip("[]")):
            raise BadRequest(
                421,
                f"this server does not have the host name {name}; to allow it, start the server with --allow-host "
                f"{name}, or serve(hosts=[{name!r}])",
                reason=Reason.HOST,
            )


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return "%" not in text  # what follows it is any text


def check_host_names(hosts: Iterable[str]) -> frozenset[str]:
    """Return host names in lower case.

    Raises:
        UsageError: One of them could not be the host name in a request.
    """
    if isinstance(hosts, str):
        raise UsageError(f"hosts must be a list of host names, not the text {hosts!r:.100}")
    names = set()
    for host in hosts:
        if isinstance(host, str) and _is_address(host.strip("[]")):
            continue  # addresses are always accepted
        if not isinstance(host, str) or _HOST_NAME.fullmatch(host.lower()) is None:
            raise UsageError(
                f"{host!r:.300} is not a host name: give the name alone, without scheme, port and path, such as "
                "jobs.example.org; a name with other letters than a to z in its ASCII form (xn--...)"
            )
        names.add(host.lower())
    return frozenset(names)


def wants_websocket(head: RequestHead) -> bool:
    """Whether a request asks for a WebSocket. Other protocols in `Upgrade` are ignored, and all of them in HTTP/1.0."""
    return head.minor == 1 and "websocket" in (part.lower() for part in head.listed("upgrade"))


def replay(head: RequestHead) -> bytes:
    """Check that `head` is a WebSocket handshake for the protocol of this server.

    Returns:
        The handshake to be replayed to trio-websocket.

    Raises:
        BadRequest: It is not such a handshake.
    """
    if head.method != "GET":
        raise BadRequest(405, "the method of a WebSocket handshake must be GET", (("Allow", "GET"),), reason=None)
    if head.path != "/ws":
        raise BadRequest(404, "not found; the path of the WebSocket is /ws", reason=None)
    if head.query:
        raise BadRequest(400, "a query is not supported; send the token in a header or as a subprotocol")
    if not wants_websocket(head) or "upgrade" not in (part.lower() for part in head.listed("connection")):
        raise BadRequest(
            426,
            "this path requires a WebSocket handshake: HTTP/1.1 with headers upgrade and connection, which a proxy has "
            "to forward",
            UPGRADE,
        )
    if head.get("sec-websocket-version") != "13":
        raise BadRequest(426, "the WebSocket version must be 13", (*UPGRADE, ("Sec-WebSocket-Version", "13")))
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
