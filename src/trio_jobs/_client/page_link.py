"""The link with which a person logs in to the page of a server."""

from __future__ import annotations

from urllib.parse import urlsplit

__all__ = ["page_link"]


def page_link(url: str, code: str, page: str | None) -> str:
    """The link to the page of a server. A browser keeps its fragment, the code, to itself.

    Args:
        url: The URL of the server's WebSocket.
        code: The login code.
        page: The URL of the page, if the server has a public URL: a login from another address is refused.
    """
    if page is None:
        where = urlsplit(url)
        scheme = "https" if where.scheme == "wss" else "http"
        page = f"{scheme}://{where.netloc}{where.path.removesuffix('/ws').rstrip('/')}"
    return f"{page}/#login={code}"
