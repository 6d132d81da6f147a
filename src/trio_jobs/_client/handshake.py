"""The way to a WebSocket: TCP, TLS, and the answer to the handshake in words that help.

What answers may be no trio-jobs server, but a proxy, another program or a wrong path. The start of the answer is kept
until the handshake has succeeded, since trio-websocket raises what a user cannot read, or waits for ever.
"""

from __future__ import annotations

import http
import re
import ssl
from typing import Final
from urllib.parse import SplitResult, urlsplit

import msgspec
import trio

from trio_jobs._engine.jobs import escape
from trio_jobs._errors import ConnectionFailed, UsageError

__all__ = ["MAX_HEAD", "Rejected", "Untrusted", "dial", "end_of_head", "parse_url", "rejection"]

MAX_HEAD: Final = 64 * 1024  #: bytes of the answer to the handshake
_STATUS: Final = re.compile(rb"HTTP/1\.[01] ([1-5][0-9]{2})(?: ([ -~]*))?\r?\n")
_INTERIM: Final = re.compile(rb"HTTP/[0-9]\.[0-9] 1[0-9]{2}")
_HEAD_END: Final = re.compile(rb"\n\r?\n")
_LATER: Final = frozenset({408, 425, 429})  #: beside those from 500 on: another attempt may succeed
_ADVICE: Final = {
    401: "check the token",
    403: "check the token",
    404: "check the path of the URL, which is /ws unless a proxy changes it",
    407: "the proxy asks for a login, which trio-jobs cannot give",
    421: "start the server with this host name: --allow-host NAME, or serve(..., hosts=[NAME])",
    426: "a proxy may have removed the header Upgrade",
}


def parse_url(url: str) -> SplitResult:
    """The parts of the URL, with a valid port. Raises `UsageError`."""
    try:
        where = urlsplit(url)
        _ = where.port
        url.encode("ascii")
    except ValueError:
        where = SplitResult("", "", "", "", "")
    if where.scheme not in ("ws", "wss") or not where.hostname or where.query:
        raise UsageError(f"a URL is ws://host:port/ws or wss://host:port/ws, not {url!r:.200}")
    return where


class Untrusted(ConnectionFailed):
    """The certificate of the server is not trusted. Another attempt to connect would not help."""


class Rejected(ConnectionFailed):
    """The handshake was answered with something else than a WebSocket.

    Args:
        why: The reason, with what to do.
        status: The HTTP status; None if the answer is not HTTP.
        retry_after: What the answer asks for in seconds; 0 if it asks for nothing.
    """

    def __init__(self, why: str, status: int | None, retry_after: float = 0.0) -> None:
        self.status = status
        self.retry_after = retry_after
        super().__init__(why)

    @property
    def is_final(self) -> bool:
        """Another attempt to connect would have the same answer."""
        return self.status is None or (self.status < 500 and self.status not in _LATER)

    @property
    def is_refusal(self) -> bool:
        """The token is not accepted."""
        return self.status in (401, 403)


def rejection(url: str, answer: bytes) -> Rejected | None:
    """What the start of an answer to a handshake says, unless it accepts the handshake or says nothing.

    Args:
        url: The URL that was tried.
        answer: The first bytes of the answer, possibly cut off.
    """
    if not answer:
        return None
    head, _, body = answer.replace(b"\r\n", b"\n").partition(b"\n\n")
    found = _STATUS.match(answer)
    if found is None:
        if b"\n" not in answer and b"HTTP/"[: len(answer)] == answer[:5]:
            return None  # cut off
        return Rejected(f"what answers at {url} is no WebSocket server: it sent {answer[:40]!r}", None)
    status = int(found[1])
    if status == 101:
        return None
    headers = dict(_header(line) for line in head.split(b"\n")[1:])
    try:
        name = http.HTTPStatus(status).phrase
    except ValueError:
        name = escape((found[2] or b"").decode("ascii", "replace"))[:100]
    detail = _detail(body)
    if 300 <= status < 400 and "location" in headers:
        detail = f"it redirects to {escape(headers['location'])[:200]}; use that as the URL, with ws or wss"
    said = ": ".join(part for part in (f"HTTP {status} {name}".strip(), detail) if part)
    advice = f"; {_ADVICE[status]}" if status in _ADVICE else ""
    wait = headers.get("retry-after", "")
    retry_after = min(float(wait), 60.0) if wait.isascii() and wait.isdigit() and len(wait) < 9 else 0.0
    return Rejected(f"{url} answered the handshake with {said}{advice}", status, retry_after)


def end_of_head(answer: bytes) -> int | None:
    """Where the head of an answer that accepts the handshake ends, and frames begin. None if there is no such head.

    Interim answers (RFC 9110, section 15.2) may come before it.
    """
    at = 0
    while (end := _HEAD_END.search(answer, at)) is not None and _INTERIM.match(answer, at):
        if answer[at + 9 : at + 12] == b"101":
            return end.end()
        at = end.end()
    return None


def _header(line: bytes) -> tuple[str, str]:
    name, _, value = line.decode("latin-1").partition(":")
    return name.strip().lower(), value.strip()


def _detail(body: bytes) -> str:
    """The reason in the body of an answer of this server; empty for any other body."""
    try:
        found = msgspec.json.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return ""
    reason = next((found[key] for key in ("error", "detail") if key in found), "") if isinstance(found, dict) else ""
    return escape(reason)[:200] if isinstance(reason, str) else ""


async def dial(
    url: str, where: SplitResult, tls: ssl.SSLContext | None
) -> trio.SocketStream | trio.SSLStream[trio.SocketStream]:
    """Connect to the server, with TLS for wss.

    Raises:
        Untrusted: The certificate of the server is not trusted.
        ConnectionFailed: TLS failed for another reason.
        OSError: There is no connection.

    Cancelled:
        There is no connection.
    """
    host, port = where.hostname or "", where.port
    if where.scheme == "ws":
        return await trio.open_tcp_stream(host, port or 80)
    context = tls or ssl.create_default_context()
    stream = await trio.open_ssl_over_tcp_stream(host, port or 443, ssl_context=context, https_compatible=True)
    try:  # not within the first send, where trio-websocket would hide the error
        await stream.do_handshake()
    except BaseException as error:
        await trio.aclose_forcefully(stream)
        if not isinstance(error, trio.BrokenResourceError):
            raise
        why = error.__cause__
        if isinstance(why, ssl.SSLCertVerificationError):
            raise Untrusted(f"the certificate of {url} is not trusted: {why.verify_message}") from why
        raise ConnectionFailed(f"no TLS connection: {why or 'it was closed'}") from why
    return stream
