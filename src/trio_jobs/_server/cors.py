"""Which web pages may use the HTTP API, and under which URL the server is reached.

A browser names the origin of a page in each POST and in each preflight, but not in a GET of the server's own page. A
GET changes nothing, so it is answered, and without the headers of CORS a page of another origin cannot read the answer.
Credentials are never allowed: a page sends its token itself.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final, final

from trio_jobs._server.http import Page
from trio_jobs._server.identity import Identity
from trio_jobs._server.origins import is_allowed_origin
from trio_jobs._server.public_url import PublicUrl
from trio_jobs._server.refusals import Reason
from trio_jobs._server.request import BadRequest, RequestHead

__all__ = ["OriginRules"]

#: Headers of requests that are not simple (https://fetch.spec.whatwg.org/#cors-safelisted-request-header)
REQUEST_HEADERS: Final = "Authorization, Content-Type, Idempotency-Key, If-Match, If-None-Match, Last-Event-ID, Prefer"
EXPOSED: Final = "Location, Retry-After, ETag, Trio-Jobs-Created, Preference-Applied"
#: A link with a ticket must not reach other servers
TICKET: Final = (("Access-Control-Allow-Origin", "*"), ("Referrer-Policy", "no-referrer"))
MAX_AGE: Final = "600"  #: seconds for which a browser may remember the answer to a preflight
SAME: Final = frozenset({"same-origin", "none"})


@final
class OriginRules:
    """The origins of one server.

    Args:
        origins: The allowed origins, beside that of the server itself.
        public: Where clients reach the server; None without `--public-url`.
    """

    def __init__(self, origins: Collection[str], public: PublicUrl | None = None) -> None:
        self._origins = frozenset(origins)
        self._public = public

    @property
    def prefix(self) -> str:
        """What the paths of links begin with; empty without a prefix."""
        return "" if self._public is None else self._public.prefix

    def allows(self, origin: str | None, host: str | None) -> bool:
        """Whether a page of this origin may use the server. Arguments: as of `is_allowed_origin`."""
        if self._public is None:
            return is_allowed_origin(origin, host, self._origins)
        return origin is None or origin == self._public.origin or origin in self._origins

    def check(self, head: RequestHead) -> None:
        """Check a request of the API.

        Raises:
            BadRequest: It changes something, and comes from a page that may not use the server.
        """
        if head.method in ("GET", "HEAD"):
            return
        origin, site = head.get("origin"), head.get("sec-fetch-site")
        if not self.allows(origin, head.get("host")):
            raise _foreign(origin or "")
        if origin is None and site is not None and site not in SAME:
            raise _foreign(site)

    def headers(self, head: RequestHead, identity: Identity) -> tuple[tuple[str, str], ...]:
        """The headers with which a page of a listed origin can read the response; any page, with a ticket."""
        if identity.ticket is not None:
            return TICKET
        origin = head.get("origin")
        if origin is None or origin not in self._origins:
            return ()
        return (
            ("Access-Control-Allow-Origin", origin),
            ("Access-Control-Expose-Headers", EXPOSED),
            ("Vary", "Origin"),
        )

    def preflight(self, head: RequestHead, allow: str) -> Page:
        """The response to OPTIONS.

        Args:
            head: The request.
            allow: The methods of its path, as in header Allow.

        Raises:
            BadRequest: The page may not use the server.
        """
        origin = head.get("origin")
        if origin is None:
            return Page(204, "", b"", (("Allow", allow),))
        if not self.allows(origin, head.get("host")):
            raise _foreign(origin)
        return Page(
            204,
            "",
            b"",
            (
                ("Allow", allow),
                ("Access-Control-Allow-Origin", origin),
                ("Access-Control-Allow-Methods", allow),
                ("Access-Control-Allow-Headers", REQUEST_HEADERS),
                ("Access-Control-Max-Age", MAX_AGE),
                ("Vary", "Origin"),
            ),
        )


def _foreign(origin: str) -> BadRequest:
    return BadRequest(
        403,
        f"the origin of the page is not allowed; to allow {origin:.100}, start the server with --origin, or "
        "serve(origins=[...])",
        reason=Reason.ORIGIN,
    )
