"""Who may use one server: its tokens, and the page sessions and tickets that are derived from them."""

from __future__ import annotations

from collections.abc import Collection
from typing import final

from trio_jobs._backend import Backend
from trio_jobs._server.credentials import Credentials
from trio_jobs._server.logins import Logins
from trio_jobs._server.queue_keys import QueueKeys
from trio_jobs._server.tokens import Token, known

__all__ = ["Access"]


@final
class Access:
    """The parts of a server that know who a client is.

    Args:
        tokens: The tokens that are accepted; None to accept every client.
        backend: Keeps the keys; its clock decides what has expired.

    Attributes:
        credentials: Identifies clients; None to accept every client.
        keys: The keys of page sessions and tickets.
        logins: The logins to the page; None if no client need log in.
    """

    def __init__(self, tokens: Collection[Token] | None, backend: Backend) -> None:
        self.keys = QueueKeys(backend)
        self.credentials: Credentials | None = None
        self.logins: Logins | None = None
        if tokens is not None:
            self.credentials = Credentials([known(token) for token in tokens], self.keys, backend.now)
            self.logins = Logins(self.credentials, self.keys, backend.now)

    @classmethod
    async def load(cls, tokens: Collection[Token] | None, backend: Backend) -> Access:
        """Make it, with the keys that the queue has kept.

        Raises:
            StoreError: They cannot be read.

        Cancelled:
            Nothing has changed.
        """
        access = cls(tokens, backend)
        await access.keys.load()
        return access
