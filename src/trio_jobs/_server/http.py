"""Plain HTTP on the port of the WebSocket: responses, and the paths that are not of the API."""

from __future__ import annotations

import re
from functools import cache
from http import HTTPStatus
from importlib.resources import files
from typing import Final, NamedTuple

import msgspec

from trio_jobs._backend import Backend
from trio_jobs._server.identity import Identity
from trio_jobs._server.methods import ConnectionStats
from trio_jobs._server.metrics import Metrics
from trio_jobs._server.page import page_response
from trio_jobs._server.refusals import Reason
from trio_jobs._server.request import BadRequest, RequestHead
from trio_jobs._wire.field_scopes import limit_to
from trio_jobs._wire.health import health_to_wire

__all__ = ["JSON", "Page", "Pages", "refusal", "response"]

JSON: Final = "application/json"
WITHOUT_BODY: Final = frozenset({204, 304})
#: Headers of a response that does not have its own
DEFAULTS: Final = (("Cache-Control", "no-store"), ("X-Content-Type-Options", "nosniff"))

_PHRASES: Final = {status.value: status.phrase for status in HTTPStatus}
_LINE_END: Final = re.compile("\r\n")


class Page(NamedTuple):
    """An HTTP response."""

    status: int
    content_type: str
    body: bytes
    headers: tuple[tuple[str, str], ...] = ()


class Pages:
    """The paths of the server other than /ws.

    Args:
        metrics: The source of /metrics; None if the server does not offer that path.
        page: Offer the web page.
        prefix: The path of the public URL; empty for the root.
    """

    def __init__(
        self,
        backend: Backend,
        connection_stats: ConnectionStats,
        metrics: Metrics | None = None,
        *,
        page: bool = False,
        prefix: str = "",
    ) -> None:
        self._backend = backend
        self._connection_stats = connection_stats
        self._metrics = metrics
        self._page = page
        self._prefix = prefix

    def answer(self, head: RequestHead, token: Identity | None) -> Page:
        """Return the response to a request.

        Args:
            head: The request.
            token: The client; None without a valid token.

        Raises:
            BadRequest: The method, the path or the missing token does not allow the request.
        """
        if head.method not in ("GET", "HEAD"):
            raise BadRequest(405, "the method must be GET or HEAD", (("Allow", "GET, HEAD"),), reason=None)
        if head.body != 0:
            raise BadRequest(400, "a request body is not supported")
        if head.path == "/healthz":
            return self._health(token)
        if head.path == "/asyncapi.json":
            return Page(200, JSON, _document("asyncapi.json"))
        if head.path == "/openapi.json":
            return Page(200, JSON, _document("openapi.json"))
        if head.path == "/metrics" and self._metrics is not None:
            if token is None:
                challenge = (("WWW-Authenticate", "Bearer"),)
                raise BadRequest(401, "the token is missing or invalid", challenge, reason=Reason.TOKEN)
            if token.bounds:
                why = f"the metrics are of all jobs, and this token is bound to {token.bounds}"
                raise BadRequest(403, why, reason=None)
            return Page(200, self._metrics.content_type, self._metrics.text())
        if self._page and self._prefix and head.path == self._prefix:
            # without the slash, the links of the page would lead outside of the prefix
            return Page(308, "text/plain; charset=utf-8", b"", (("Location", f"{self._prefix}/"),))
        if self._page:
            found = page_response(
                head.path, if_none_match=head.get("if-none-match"), accept_encoding=head.get("accept-encoding")
            )
            if found is not None:
                return Page(*found)
        raise BadRequest(
            404,
            "not found; the paths are /v1/..., /ws, /healthz, /metrics, /openapi.json and /asyncapi.json",
            reason=None,
        )

    def _health(self, token: Identity | None) -> Page:
        """Without a token, the response contains only whether the queue is healthy and whether it is paused."""
        health = self._backend.health()
        body: dict[str, object] = {"ok": health.ok, "paused": health.paused is not None}
        if token is not None and not token.bounds:
            not_after = self._connection_stats.certificate_not_after
            now = self._backend.statistics()
            body |= {
                "health": limit_to(health_to_wire(health), token.scope),
                "queue": {"jobs": now.jobs, "capacity": now.capacity, "free": now.free, "mean_run": now.mean_run},
                "host": {"session": now.session, "inside": now.sdk_busy},
                "store": {"epoch": self._backend.epoch, "seq": now.seq},
                "server": {
                    "connections": self._connection_stats.connections,
                    "subscriptions": self._connection_stats.subscriptions,
                    "refusals": self._connection_stats.refusals,
                    "certificate_not_after": None if not_after is None else not_after.isoformat(),
                },
            }
        # a pause is intended, and a proxy that takes the server out of service would keep out who could end it
        works = health.problems in ((), ("paused",))
        return Page(200 if works else 503, JSON, msgspec.json.encode(body) + b"\n")


@cache
def _document(name: str) -> bytes:
    """A description of the protocol, which `tools` generates into the package."""
    return files("trio_jobs").joinpath(name).read_bytes()


def response(head: RequestHead | None, page: Page, *, keep: bool = False) -> bytes:
    """Encode a complete response.

    Args:
        head: The request; None if it could not be parsed.
        page: The response. Its headers are made by the server; a line end in one of them is our bug, and raises.
        keep: Whether another request may follow on the connection.
    """
    lines = [f"HTTP/1.1 {page.status} {_PHRASES.get(page.status, '')}"]
    if page.status not in WITHOUT_BODY:
        lines += (f"Content-Type: {page.content_type}", f"Content-Length: {len(page.body)}")
    lines += [f"{name}: {value}" for name, value in page.headers]
    given = {name for name, _ in page.headers}
    lines += [f"{name}: {value}" for name, value in DEFAULTS if name not in given]
    if not (keep or "Connection" in given):
        lines.append("Connection: close")
    text = "\r\n".join(lines)
    assert _LINE_END.sub("", text, len(lines) - 1).isprintable(), "a header has a control character"
    encoded = text.encode("latin-1") + b"\r\n\r\n"
    return encoded if head is not None and head.method == "HEAD" else encoded + page.body


def refusal(bad: BadRequest) -> Page:
    """The response to a request that is refused."""
    return Page(bad.status, JSON, msgspec.json.encode({"error": bad.why}) + b"\n", bad.headers)
