"""A token as a server keeps it: without its secret."""

from __future__ import annotations

from typing import Final, final

import attrs

from trio_jobs._engine.bounds import UNBOUND, Bounds
from trio_jobs._server.identity import Identity
from trio_jobs._server.signatures import key_id
from trio_jobs._wire.codes import Scope

__all__ = ["ANYONE", "KnownToken"]


@final
@attrs.frozen
class KnownToken:
    """A token as the server keeps it: without its secret."""

    digest: bytes = attrs.field(repr=False)
    """The SHA-256 of the secret."""
    name: str
    """See `Token.name`."""
    scope: Scope
    """See `Token.scope`."""
    bounds: Bounds = UNBOUND
    """The jobs that its clients may know about."""
    credential: str = attrs.field(init=False, repr=False)

    @credential.default
    def _credential(self) -> str:
        return key_id(self.digest)

    @property
    def identity(self) -> Identity:
        """The client that has presented this token."""
        return Identity(self.name, self.scope, self.bounds, self.credential)


#: Every client of a server that requires no token.
ANYONE: Final = Identity("anyone", "control")
