"""Tokens: the secret, the name and the scope of a client."""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Collection, Mapping
from typing import Final, final

import attrs

from trio_jobs._engine.bounds import Bounds
from trio_jobs._errors import UsageError
from trio_jobs._server.known_token import KnownToken
from trio_jobs._validation import check_labels, plain_text
from trio_jobs._wire.codes import Scope
from trio_jobs._wire.scopes import SCOPES

__all__ = ["Token", "check_name", "known"]

#: The syntax of a bearer token (RFC 6750, section 2.1), with a length that makes guessing impractical.
_SECRET: Final = re.compile(r"[A-Za-z0-9\-._~+/]{16,512}=*")


def _plain(text: str) -> str:
    """An exact str for any str, since the name is recorded in events."""
    return plain_text(text) if isinstance(text, str) else text


def _kinds(kinds: Collection[str] | None) -> Collection[str] | None:
    if kinds is None:
        return None
    if isinstance(kinds, str) or not kinds or not all(isinstance(kind, str) and 0 < len(kind) <= 200 for kind in kinds):
        raise UsageError(f"the kinds of a token are a list of names of handlers, not {kinds!r:.100}")
    return frozenset(map(plain_text, kinds))


def _labels(labels: Mapping[str, str] | None) -> Mapping[str, str] | None:
    return check_labels(labels)


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

    kinds: Collection[str] | None = attrs.field(default=None, converter=_kinds)
    """For a client, only jobs of these kinds exist; None for all."""
    labels: Mapping[str, str] | None = attrs.field(default=None, converter=_labels, hash=False)
    """For a client, only jobs with all of these labels exist, and the jobs that it submits have them; None for all."""

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
    digest = hashlib.sha256(token.secret.encode("ascii")).digest()
    return KnownToken(digest, token.name, token.scope, Bounds(token.kinds, token.labels or {}))
