"""How a person logs in to the page of a server: with a token, or with a login code."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Final

import trio

from trio_jobs._server.credentials import Credentials
from trio_jobs._server.identity import Identity, InvalidCredential
from trio_jobs._server.login_codes import CODE_SIZE, LIFETIME, LoginCodes, LoginRefused
from trio_jobs._server.page_sessions import PageSession, create_session
from trio_jobs._server.queue_keys import QueueKeys
from trio_jobs._server.signatures import encode64

__all__ = ["LIFETIME", "LoginRefused", "Logins"]

SESSION_ID: Final = 16  #: random bytes of the id of a page session


class Logins:
    """The logins of one server.

    Args:
        credentials: The tokens of the server.
        keys: The keys of the queue.
        now: The wall clock, in seconds since 1970.
        random: Makes so many random bytes.
        page: The URL of the page without its last slash; None if the server has no public URL.
    """

    def __init__(
        self,
        credentials: Credentials,
        keys: QueueKeys,
        now: Callable[[], float],
        random: Callable[[int], bytes] = secrets.token_bytes,
        page: str | None = None,
    ) -> None:
        self._credentials = credentials
        self._keys = keys
        self._now = now
        self._random = random
        self.page = page
        self._codes = LoginCodes()

    def new_code(self, identity: Identity) -> str:
        """Make a login code, valid for `LIFETIME` seconds and once.

        Args:
            identity: Who logs in with it.

        Raises:
            LoginRefused: The client has not presented a token itself, but a page session or a ticket.
        """
        _check(identity)
        return self._codes.create(identity, self._random(CODE_SIZE), trio.current_time())

    async def exchange(self, code: str, address: str) -> PageSession:
        """Exchange a login code for a page session.

        Args:
            code: The code.
            address: The address of the client, without a port.

        Raises:
            LoginRefused: It is no valid code, the address has tried too often, or the token of its maker was removed.
            StoreError: The key of page sessions cannot be kept.

        Cancelled:
            The code may be used up.
        """
        return await self.start(self._codes.redeem(code, address, trio.current_time()))

    async def start(self, identity: Identity) -> PageSession:
        """Start a page session for a client that has presented its token.

        Raises:
            LoginRefused: It has not presented a token itself, or the token was removed.
            StoreError: The key of page sessions cannot be kept.

        Cancelled:
            No session is started.
        """
        _check(identity)
        queue_key = await self._keys.for_sessions()
        try:
            self._credentials.check(identity)
            key = self._credentials.key_of_sessions(identity, queue_key)
        except InvalidCredential as error:
            raise LoginRefused(str(error)) from None
        return create_session(identity, key, self._now(), encode64(self._random(SESSION_ID)))

    def log_out(self, identity: Identity) -> bool:
        """End the page session of a client, also for its other connections, which the server closes.

        Returns:
            False if it has none.
        """
        if identity.session is None or identity.until is None:
            return False
        self._credentials.ended.add(identity.session, identity.until, self._now())
        self._credentials.on_change()
        return True


def _check(identity: Identity) -> None:
    if identity.session is not None or identity.ticket is not None or not identity.credential:
        raise LoginRefused("only a client that has presented a token can log in to the page")
