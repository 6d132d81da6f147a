"""Tokens: the secret, the name and the scope of a client."""

from __future__ import annotations

import base64
import binascii
import hmac
import re
import secrets
from collections.abc import Iterable
from typing import Final, final

import attrs

from trio_jobs._errors import UsageError
from trio_jobs._validation import plain_text
from trio_jobs._wire.codes import BEARER, Scope
from trio_jobs._wire.scopes import SCOPES

__all__ = ["NO_TOKEN_REQUIRED", "Token", "Tokens"]

#: The syntax of a bearer token (RFC 6750, section 2.1), with a length that makes guessing impractical.
_SECRET: Final = re.compile(r"[A-Za-z0-9\-._~+/]{16,512}=*")


def _plain(text: str) -> str:
    """An exact str for any str, since the name is recorded in events."""
    return plain_text(text) if isinstance(text, str) else text


@final
@attrs.frozen
class Token:
    """A token of a server. A client that presents the secret has the name and the scope."""

    secret: str = attrs.field(repr=False, converter=_plain)
    """16 to 512 characters: letters, digits and -._~+/, then any number of =."""
    name: str = attrs.field(default="owner", converter=_plain)
    """1 to 100 printable characters. Recorded as `by` of the client's operations."""
    scope: Scope = "control"
    """Scope "watch" allows queries and subscriptions; "operate" also what changes jobs, and a pause; "control" allows
    every method."""

    def __attrs_post_init__(self) -> None:
        if not isinstance(self.secret, str) or not _SECRET.fullmatch(self.secret):
            raise UsageError("a token's secret has 16 to 512 characters of letters, digits and -._~+/")
        if self.scope not in SCOPES:
            raise UsageError(f"a token's scope is 'watch', 'operate' or 'control', not {self.scope!r}")
        if not isinstance(self.name, str) or not 0 < len(self.name) <= 100 or not self.name.isprintable():
            raise UsageError(f"a token's name is a text of 1 to 100 printable characters, not {self.name!r:.100}")

    @classmethod
    def random(cls, name: str = "owner", scope: Scope = "control") -> Token:
        """Make a token with a random secret of 256 bits."""
        return cls(secrets.token_urlsafe(32), name, scope)


#: The token of every client of a server without tokens.
NO_TOKEN_REQUIRED: Final = Token("no-token-required", "anyone", "control")


class Tokens:
    """The tokens of one server."""

    def __init__(self, tokens: Iterable[Token]) -> None:
        self._tokens = tuple(tokens)

    def __len__(self) -> int:
        return len(self._tokens)

    def find(self, secret: str) -> Token | None:
        """Return the token with that secret; None if there is none. Takes the same time in each case."""
        given = secret.encode()
        found = None
        for token in self._tokens:
            if hmac.compare_digest(token.secret.encode(), given):
                found = token
        return found

    def authorise(self, authorization: str | None, subprotocols: Iterable[str] = ()) -> Token | None:
        """Return the token of a request; None without a valid one, or if the request contains different secrets.

        Args:
            authorization: The `Authorization` header, with the scheme `Bearer`; None without one.
            subprotocols: The offered subprotocols. A browser, which cannot set that header, sends the token as a
                subprotocol `bearer.<base64url>`.
        """
        given = []
        if authorization is not None:
            kind, _, secret = authorization.partition(" ")
            given.append(secret.strip() if kind.lower() == "bearer" else "")
        given += [_decoded(name[len(BEARER) :]) for name in subprotocols if name.startswith(BEARER)]
        return self.find(given[0]) if given and len(set(given)) == 1 else None


def _decoded(text: str) -> str:
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True).decode("ascii")
    except (binascii.Error, UnicodeDecodeError):
        return ""
