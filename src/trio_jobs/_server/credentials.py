"""What a client presents, and who that makes it: the secret of a token, a page session or a ticket."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Callable, Iterable
from typing import Final

import attrs

from trio_jobs._server import page_sessions, tickets
from trio_jobs._server.identity import Identity, InvalidCredential, Problem
from trio_jobs._server.known_token import ANYONE, KnownToken
from trio_jobs._server.named_tokens import NamedTokens
from trio_jobs._server.page_sessions import EndedSessions, read_session, session_key
from trio_jobs._server.queue_keys import QueueKeys
from trio_jobs._server.signatures import Signed, key_id, split
from trio_jobs._server.tickets import read_ticket
from trio_jobs._wire.codes import BEARER

__all__ = ["Credentials"]

MAX_CREDENTIAL: Final = 4096  #: characters; longer ones are not looked at


class Credentials:
    """The tokens of one server, and all that is derived from them.

    Args:
        tokens: The tokens that the server was started with.
        keys: The keys of tickets and page sessions.
        now: The wall clock, in seconds since 1970.
        file: The file with further tokens; None without one.

    Attributes:
        ended: The page sessions that were ended by a logout.
        on_change: Called when clients may have lost their rights, so that they have to be checked again.
    """

    def __init__(
        self,
        tokens: Iterable[KnownToken],
        keys: QueueKeys,
        now: Callable[[], float],
        file: NamedTokens | None = None,
    ) -> None:
        self._own = tuple(tokens)
        self._keys = keys
        self._now = now
        self._file = file
        self._by_kid: dict[str, tuple[KnownToken, bytes]] | None = None
        self.ended = EndedSessions()
        self.on_change: Callable[[], None] = _do_nothing
        self._use([] if file is None else file.tokens)

    def __len__(self) -> int:
        return len(self._tokens)

    def refresh(self) -> None:
        """Read the file of tokens again, if it has changed."""
        if self._file is not None and self._file.refresh():
            self._use(self._file.tokens)

    def _use(self, tokens: Iterable[KnownToken]) -> None:
        self._tokens = (*self._own, *tokens)
        self._by_credential = {token.credential: token for token in self._tokens}
        self._by_kid = None
        self.on_change()

    def authorise(self, authorization: str | None, subprotocols: Iterable[str] = ()) -> Identity:
        """Return the client of a request.

        Args:
            authorization: The `Authorization` header, with the scheme `Bearer`; None without one.
            subprotocols: The offered subprotocols. A browser, which cannot set that header, sends the credential as a
                subprotocol `bearer.<base64url>`.

        Raises:
            InvalidCredential: There is no valid credential, or the request has different ones.
        """
        given = []
        if authorization is not None:
            kind, _, secret = authorization.partition(" ")
            given.append(secret.strip() if kind.lower() == "bearer" else "")
        given += [_decoded(name[len(BEARER) :]) for name in subprotocols if name.startswith(BEARER)]
        if not given or len(set(given)) != 1:
            raise InvalidCredential
        return self.identify(given[0])

    def identify(self, secret: str) -> Identity:
        """Return the client that has presented this secret: that of a token, a page session or a ticket.

        Raises:
            InvalidCredential: It is none of them.
        """
        if len(secret) > MAX_CREDENTIAL:
            raise InvalidCredential
        self.refresh()
        token = self._find(hashlib.sha256(secret.encode("utf-8", "surrogateescape")).digest())
        if token is not None:
            return token.identity
        signed = split(page_sessions.PREFIX, secret)
        if signed is not None:
            return self._session(signed)
        if secret.startswith(f"{tickets.PREFIX}."):
            return read_ticket(secret, self._keys.tickets, self._now())
        raise InvalidCredential

    def _find(self, digest: bytes) -> KnownToken | None:
        """The token with this digest. Takes the same time whichever it is."""
        found = None
        for token in self._tokens:
            if hmac.compare_digest(token.digest, digest):
                found = token
        return found

    def _session(self, signed: Signed) -> Identity:
        found = self._session_keys().get(signed.kid)
        if found is None:
            raise InvalidCredential(Problem.SESSION_ENDED)
        token, key = found
        identity = read_session(signed, token.identity, key, self._now())
        self.ended.check(identity)
        return identity

    def _session_keys(self) -> dict[str, tuple[KnownToken, bytes]]:
        """The key of the page sessions of each token, by its name in a session. Made once, since that takes time."""
        queue_key = self._keys.sessions
        if self._by_kid is None and queue_key is not None:
            keys = [(token, session_key(token.digest, queue_key)) for token in self._tokens]
            self._by_kid = {key_id(key): (token, key) for token, key in keys}
        return self._by_kid or {}

    def key_of_sessions(self, identity: Identity, queue_key: bytes) -> bytes:
        """The key of the page sessions of a client that has presented a token.

        Raises:
            InvalidCredential: The token was removed.
        """
        token = self._by_credential.get(identity.credential)
        if token is None:
            raise InvalidCredential(Problem.REMOVED)
        return session_key(token.digest, queue_key)

    def check(self, identity: Identity) -> None:
        """Check a client that was identified before.

        Raises:
            InvalidCredential: Its token was removed or changed, its page session has ended, or its ticket is not valid
                any more.
        """
        if identity == ANYONE:
            return
        if identity.until is not None and identity.until <= self._now():
            raise InvalidCredential(Problem.EXPIRED if identity.ticket is not None else Problem.SESSION_EXPIRED)
        if identity.ticket is not None:
            kid = identity.credential.split(".")[1]
            if kid not in map(key_id, self._keys.tickets):
                raise InvalidCredential(Problem.FOREIGN)
            return
        self.ended.check(identity)
        token = self._by_credential.get(identity.credential)
        if token is None or token.identity != attrs.evolve(identity, session=None, until=None):
            raise InvalidCredential(Problem.REMOVED)


def _do_nothing() -> None:
    pass


def _decoded(text: str) -> str:
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True).decode("ascii")
    except (binascii.Error, UnicodeDecodeError):
        return ""
