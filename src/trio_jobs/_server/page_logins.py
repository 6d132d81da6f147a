"""The two paths with which the page logs in and out. What the page does otherwise, it does over the WebSocket.

Both are POST, so a browser names the origin of the page that sends them, and a page of another origin is refused:
otherwise it could log a browser in as somebody else, and read later what its user submits.
"""

from __future__ import annotations

import math
from typing import Final, final

import msgspec

from trio_jobs._errors import StoreError
from trio_jobs._server.cors import OriginRules
from trio_jobs._server.http import JSON, Page
from trio_jobs._server.http_connection import HttpRequest
from trio_jobs._server.identity import Problem
from trio_jobs._server.logins import LoginRefused, Logins
from trio_jobs._server.page_sessions import PageSession
from trio_jobs._server.refusals import Reason
from trio_jobs._server.request import BadRequest
from trio_jobs._wire.http_params import is_json

__all__ = ["LOGIN", "LOGOUT", "PageLogins"]

LOGIN: Final = "/page/login"
LOGOUT: Final = "/page/logout"
MAX_BODY: Final = 1000  #: bytes of the body of a login


class _Login(msgspec.Struct, forbid_unknown_fields=True):
    code: str | None = None


@final
class PageLogins:
    """Answers these paths.

    Args:
        logins: The logins of the server; None if no client needs to log in.
        rules: Which web pages may use the server.
    """

    def __init__(self, logins: Logins | None, rules: OriginRules) -> None:
        self._logins = logins
        self._rules = rules

    async def respond(self, request: HttpRequest) -> Page:
        """Answer a POST.

        The body of a login is JSON: `{"code": "..."}`; or `{}` with a token in header Authorization. The answer has the
        secret of the session, which the page presents from then on; it is empty if the server needs none.

        Raises:
            BadRequest: The login is refused, or the page may not use the server.
            trio.BrokenResourceError: The connection is lost within the body.

        Cancelled:
            The code may be used up.
        """
        head = request.head
        if head.method != "POST":
            raise BadRequest(405, "the method must be POST", (("Allow", "POST"),), reason=None)
        self._rules.check(head)
        if not is_json(head.get("content-type")):
            raise BadRequest(415, "header content-type must be application/json, in UTF-8", reason=None)
        if head.body is None or head.body > MAX_BODY:
            raise BadRequest(413, f"the body must have at most {MAX_BODY} bytes, and header content-length")
        async with request.body.read() as body:
            try:
                login = msgspec.json.decode(body, type=_Login)
            except msgspec.MsgspecError:
                raise BadRequest(400, 'the body must be {"code": "..."}, or {} with a token', reason=None) from None
        if self._logins is None:
            return _answer({"secret": "", "name": "anyone", "scope": "control", "expires_at": None})
        if head.path == LOGOUT:
            ended = request.known is not None and self._logins.log_out(request.known)
            return _answer({"ended": ended})
        try:
            session = await self._start(self._logins, request, login.code)
        except LoginRefused as refused:
            if refused.retry_after is not None:
                wait = (("Retry-After", str(math.ceil(refused.retry_after))),)
                raise BadRequest(429, str(refused), wait, reason=Reason.RATE) from None
            raise BadRequest(401, str(refused), reason=Reason.TOKEN) from None
        except StoreError as error:
            raise BadRequest(503, str(error), reason=None) from None
        return _answer(msgspec.structs.asdict(_Session.of(session)))

    async def _start(self, logins: Logins, request: HttpRequest, code: str | None) -> PageSession:
        if code is not None:
            return await logins.exchange(code, request.peer.host)
        if request.known is None:
            why = request.identity if isinstance(request.identity, Problem) else Problem.MISSING
            raise BadRequest(401, str(why), (("WWW-Authenticate", "Bearer"),), reason=Reason.TOKEN)
        return await logins.start(request.known)


class _Session(msgspec.Struct):
    secret: str
    name: str
    scope: str
    expires_at: float

    @classmethod
    def of(cls, session: PageSession) -> _Session:
        return cls(session.secret, session.name, session.scope, session.expires_at)


def _answer(body: object) -> Page:
    return Page(200, JSON, msgspec.json.encode(body) + b"\n")
