"""Who may do what: tokens with a name and a scope."""

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
from trio_jobs._wire.codes import BEARER, Scope

__all__ = ["NOBODY", "Token", "Tokens"]

#: What a header can carry (RFC 6750, section 2.1); long enough that guessing is hopeless, at any rate of tries.
_SECRET: Final = re.compile(r"[A-Za-z0-9\-._~+/]{16,512}=*")


@final
@attrs.frozen
class Token:
    """secret: 16 to 512 characters of letters, digits and -._~+/. name: is written down as `by` of what it does.
    scope: "watch" looks, "control" does everything."""

    secret: str = attrs.field(repr=False)
    name: str = "owner"
    scope: Scope = "control"

    def __attrs_post_init__(self) -> None:
        if not isinstance(self.secret, str) or not _SECRET.fullmatch(self.secret):
            raise UsageError("a token's secret has 16 to 512 characters of letters, digits and -._~+/")
        if self.scope not in ("watch", "control"):
            raise UsageError(f"a token's scope is 'watch' or 'control', not {self.scope!r}")
        if not isinstance(self.name, str) or not 0 < len(self.name) <= 100 or not self.name.isprintable():
            raise UsageError(f"a token's name is a text of 1 to 100 printable characters, not {self.name!r:.100}")

    @classmethod
    def random(cls, name: str = "owner", scope: Scope = "control") -> Token:
        """A new one, of 256 bits."""
        return cls(secrets.token_urlsafe(32), name, scope)


#: Who is served where no token is asked for.
NOBODY: Final = Token("no-token-asked-for", "anyone", "control")


class Tokens:
    """The tokens of one server."""

    def __init__(self, tokens: Iterable[Token]) -> None:
        self._tokens = tuple(tokens)

    def __len__(self) -> int:
        return len(self._tokens)

    def find(self, secret: str) -> Token | None:
        """The token with that secret. Takes the same time whichever it is, and whether or not there is one."""
        given = secret.encode()
        found = None
        for token in self._tokens:
            if hmac.compare_digest(token.secret.encode(), given):
                found = token
        return found

    def authorise(self, authorization: str | None, subprotocols: Iterable[str] = ()) -> Token | None:
        """Whose request it is: by `Authorization: Bearer`, or for browsers by a subprotocol `bearer.<base64url>`.

        With two answers that differ it is nobody's.
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
