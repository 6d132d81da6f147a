"""Whose web pages may connect. A browser names the origin of the page in each WebSocket handshake."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from typing import Final

from trio_jobs._errors import UsageError

__all__ = ["check_origins", "is_allowed_origin"]

_HOST_AND_PORT: Final = r"(\[[0-9a-f:.]{2,45}\]|[a-z0-9._\-]{1,255})(?::([0-9]{0,5}))?"
_ORIGIN: Final = re.compile(rf"(https?)://{_HOST_AND_PORT}")
_HOST: Final = re.compile(_HOST_AND_PORT)
_PORTS: Final = {"http": "80", "https": "443"}
#: What a browser sends, in lower case. Browser extensions and apps have schemes of their own.
_SENT: Final = re.compile(r"[a-z][a-z0-9+.\-]*://(\[[0-9a-f:.]{2,45}\]|[a-z0-9._\-]{1,255})(:[0-9]{1,5})?")


def check_origins(origins: Iterable[str]) -> frozenset[str]:
    """Return origins as browsers send them.

    Raises:
        UsageError: No browser sends one of them, so it would never match.
    """
    if isinstance(origins, str):
        raise UsageError(f"origins must be a list of origins, not the text {origins!r:.100}")
    checked = set()
    for origin in origins:
        if not isinstance(origin, str) or _SENT.fullmatch(origin.lower()) is None:
            raise UsageError(
                f"{origin!r:.300} is not the origin of a web page: give its scheme, host and port, without a path and "
                "a slash at the end, such as https://shop.example.org"
            )
        scheme, _, rest = origin.lower().partition("://")
        if scheme in _PORTS:
            rest = rest.removesuffix(f":{_PORTS[scheme]}")  # browsers leave the usual port out
        checked.add(f"{scheme}://{rest}")
    return frozenset(checked)


def is_allowed_origin(origin: str | None, host: str | None, origins: Collection[str]) -> bool:
    """Whether a client with this origin may connect.

    The origin of the server itself is allowed: that of the host name and the port in header host. A browser sends the
    host and port to which it connects, so a page of another port of the same machine is refused. Some libraries,
    such as websocket-client for Python, send it although they are no browser.

    Args:
        origin: The header; None if the client is not a browser.
        host: Header host, whose name the server has.
        origins: The allowed origins, which must match as a whole.
    """
    if origin is None or origin in origins:
        return True
    page, own = _ORIGIN.fullmatch(origin.lower()), _HOST.fullmatch((host or "").lower())
    if page is None or own is None:
        return False
    port = _PORTS[page[1]]
    return (page[2], page[3] or port) == (own[1], own[2] or port)
