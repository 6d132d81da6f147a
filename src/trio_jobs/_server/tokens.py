"""Tokens: the secret, the name and the scope of a client."""

from __future__ import annotations

import hashlib
import re
import secrets
from typing import Final, final

import attrs

from trio_jobs._errors import UsageError
from trio_jobs._server.known_token import KnownToken
from trio_jobs._validation import plain_text
from trio_jobs._wire.codes import Scope
from trio_jobs._wire.scopes import SCOPES

__all__ = ["Token", "check_name", "known"]

#: The syntax of a bearer token (RFC 6750, section 2.1), with a length that makes guessing impractical.
_SECRET: Final = re.compile(r"[A-Za-z0-9\-._~+/]{16,512}=*")


def _plain(text: str) -> str:
    """An exact str for any str, since the name is recorded in events."""
    return plain_text(text) if isinstance(text, str) else text


def check_name(name: object) -> None:
    """Raise `UsageError` unless a token can have this name."""
    if not isinstance(name, str) or not 0 < len(name) <= 100 or not name.isprintable():
        raise UsageError(f"a token's name is a text of 1 to 100 printable characters, not {name!r:.100}")


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
        check_name(self.name)

    @classmethod
    def random(cls, name: str = "owner", scope: Scope = "control") -> Token:
        """Make a token with a random secret of 256 bits."""
        return cls(secrets.token_urlsafe(32), name, scope)


def known(token: Token) -> KnownToken:
    """The token as a server keeps it."""
    return KnownToken(hashlib.sha256(token.secret.encode("ascii")).digest(), token.name, token.scope)
