"""The URL under which clients reach a server, where that is not its own address: behind a proxy."""

from __future__ import annotations

import re
from typing import Final, final

import attrs

from trio_jobs._errors import UsageError
from trio_jobs._server.origins import check_origins

__all__ = ["PublicUrl"]

_URL: Final = re.compile(r"(https?://[^/?#@]+)((?:/[A-Za-z0-9._~-]+)*)/?")
_DOTS: Final = re.compile(r"/\.{1,2}(/|$)")


@final
@attrs.frozen
class PublicUrl:
    """A URL such as `https://jobs.example/queue`. What a proxy says in X-Forwarded headers is never believed instead,
    since a client can send these headers too."""

    origin: str
    """The scheme, the host name and the port, as a browser sends them."""
    host: str
    """The host name."""
    prefix: str
    """The path without a slash at its end; empty for the root."""

    @classmethod
    def parse(cls, url: str) -> PublicUrl:
        """Read a URL.

        Raises:
            UsageError: It is not the URL of a server.
        """
        found = _URL.fullmatch(url) if isinstance(url, str) else None
        if found is None or _DOTS.search(found[2]):
            raise UsageError(
                f"{url!r:.300} is not the public URL of a server: give its scheme, host and path, without a query, "
                "such as https://jobs.example.org or https://example.org/queue"
            )
        [origin] = check_origins([found[1]])
        host = origin.partition("://")[2]
        name = host.rpartition(":")[0] if re.search(r":[0-9]+$", host) else host
        return cls(origin, name, found[2])

    @property
    def url(self) -> str:
        """The URL without a slash at its end."""
        return self.origin + self.prefix

    def local_path(self, path: str) -> str:
        """The path of a request without the prefix, which a proxy may have left in it."""
        if self.prefix and path.startswith(self.prefix + "/"):
            return path[len(self.prefix) :]
        return path
