"""Page sessions: what a page has instead of the token of the person who has logged in.

A page session is `s1.kid.payload.signature` (see `signatures`). The server keeps none of them: its key is derived from
the token and from a random key of the queue, so it outlives a restart, and ends when the token is changed or removed.
Only a logout is kept, until the session would have expired.
"""

from __future__ import annotations

from typing import Final

import attrs
import msgspec
from msgspec import Struct

from trio_jobs._server.identity import Identity, InvalidCredential, Problem
from trio_jobs._server.signatures import Signed, decode64, derive, is_signed_by, sign
from trio_jobs._wire.codes import Scope

__all__ = ["LIFETIME", "PREFIX", "EndedSessions", "PageSession", "create_session", "read_session", "session_key"]

PREFIX: Final = "s1"
LIFETIME: Final = 12 * 3600  #: seconds for which a page session is valid: a day at work
MAX_ENDED: Final = 10_000  #: logouts that are kept; see `EndedSessions`


@attrs.frozen
class PageSession:
    """A page session as it is given to the page."""

    secret: str = attrs.field(repr=False)
    """What the page presents instead of a token."""
    name: str
    """The name of the token."""
    scope: Scope
    """The scope of the token."""
    expires_at: float
    """When it expires, in seconds since 1970."""


class _Payload(Struct, frozen=True, array_like=True):
    name: str
    scope: Scope
    exp: int
    id: str


_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(_Payload).decode


def session_key(digest: bytes, queue_key: bytes) -> bytes:
    """The key of the page sessions of a token.

    Args:
        digest: The SHA-256 of the token's secret. A file of tokens has no more than that.
        queue_key: The random key of the queue: who can read the file of tokens cannot make sessions without it.
    """
    return derive(digest, "trio-jobs session", queue_key)


def create_session(identity: Identity, key: bytes, now: float, session_id: str) -> PageSession:
    """Make a page session.

    Args:
        identity: The client, identified by its token.
        key: The result of `session_key` for that token.
        now: The time, in seconds since 1970.
        session_id: 128 random bits as text.
    """
    expires_at = int(now) + LIFETIME
    payload = _encode(_Payload(identity.name, identity.scope, expires_at, session_id))
    return PageSession(sign(PREFIX, key, payload), identity.name, identity.scope, float(expires_at))


def read_session(signed: Signed, identity: Identity, key: bytes, now: float) -> Identity:
    """Return the client that has this page session.

    Args:
        signed: The session.
        identity: The client of the token with this key.
        key: The result of `session_key` for that token.
        now: The time, in seconds since 1970.

    Raises:
        InvalidCredential: It was changed, has expired, or the token has another name or scope now.
    """
    if not is_signed_by(key, signed):
        raise InvalidCredential(Problem.CHANGED)
    try:
        payload = _decode(decode64(signed.payload))
    except (ValueError, msgspec.MsgspecError):  # it is signed, so it was made by another version
        raise InvalidCredential(Problem.CHANGED) from None
    if payload.exp <= now:
        raise InvalidCredential(Problem.SESSION_EXPIRED)
    if (payload.name, payload.scope) != (identity.name, identity.scope):
        raise InvalidCredential(Problem.SESSION_ENDED)
    return attrs.evolve(identity, session=payload.id, until=float(payload.exp))


class EndedSessions:
    """The logouts whose sessions have not expired yet.

    Their number is limited. Where more are kept, all sessions that expire no later than the first of them count as
    ended: a person may have to log in again, but no session that was ended is accepted.
    """

    def __init__(self, most: int = MAX_ENDED) -> None:
        self._most = most
        self._ended: dict[str, float] = {}
        self._all_until = 0.0

    def __len__(self) -> int:
        return len(self._ended)

    def add(self, session: str, until: float, now: float) -> None:
        """End a session.

        Args:
            session: Its id.
            until: When it expires.
            now: The time.
        """
        self._ended = {name: at for name, at in self._ended.items() if at > now}
        self._ended[session] = until
        while len(self._ended) > self._most:
            first = min(self._ended, key=self._ended.__getitem__)
            self._all_until = max(self._all_until, self._ended.pop(first))

    def check(self, identity: Identity) -> None:
        """Raises `InvalidCredential` if the session of a client has ended."""
        if identity.session is None or identity.until is None:
            return
        if identity.session in self._ended or identity.until <= self._all_until:
            raise InvalidCredential(Problem.SESSION_ENDED)
