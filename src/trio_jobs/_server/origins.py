"""Whose web pages may connect. A browser names the origin of the page in each WebSocket handshake."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Final

__all__ = ["is_allowed_origin"]

_HOST_AND_PORT: Final = r"(\[[0-9a-f:.]{2,45}\]|[a-z0-9._\-]{1,255})(?::([0-9]{0,5}))?"
_ORIGIN: Final = re.compile(rf"(https?)://{_HOST_AND_PORT}")
_HOST: Final = re.compile(_HOST_AND_PORT)
_PORTS: Final = {"http": "80", "https": "443"}


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
