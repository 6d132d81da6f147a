"""Who may use one server: its tokens, and the page sessions and tickets that are derived from them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection
from math import inf
from pathlib import Path
from typing import Final, final

import trio

from trio_jobs._backend import Backend
from trio_jobs._concurrency import WakeUp
from trio_jobs._server.credentials import Credentials
from trio_jobs._server.identity import Identity, InvalidCredential, Problem
from trio_jobs._server.logins import Logins
from trio_jobs._server.named_tokens import NamedTokens
from trio_jobs._server.queue_keys import QueueKeys
from trio_jobs._server.tokens import Token, known

__all__ = ["Access"]

LOOK_INTERVAL: Final = 1.0  #: seconds between two looks at the file of tokens


@final
class Access:
    """The parts of a server that know who a client is.

    Args:
        tokens: The tokens that are accepted; None to accept every client.
        file: The file with further tokens; None without one.
        backend: Keeps the keys; its clock decides what has expired.
        page: The URL of the page without its last slash; None if the server has no public URL.

    Attributes:
        credentials: Identifies clients; None to accept every client.
        keys: The keys of page sessions and tickets.
        logins: The logins to the page; None if no client need log in.
    """

    def __init__(
        self, tokens: Collection[Token] | None, file: Path | None, backend: Backend, page: str | None = None
    ) -> None:
        self._changed = WakeUp()
        self._has_file = file is not None
        self.keys = QueueKeys(backend)
        self.keys.on_revocation = self._changed.set
        self.credentials: Credentials | None = None
        self.logins: Logins | None = None
        if tokens is not None:
            named = None if file is None else NamedTokens(file, [token.name for token in tokens])
            self.credentials = Credentials([known(token) for token in tokens], self.keys, backend.now, named)
            self.credentials.on_change = self._changed.set
            self.logins = Logins(self.credentials, self.keys, backend.now, page=page)

    @classmethod
    async def load(
        cls, tokens: Collection[Token] | None, file: Path | None, backend: Backend, page: str | None = None
    ) -> Access:
        """Make it, with the keys that the queue has kept.

        Raises:
            UsageError: The file of tokens cannot be used.
            StoreError: The keys cannot be read.

        Cancelled:
            Nothing has changed.
        """
        access = cls(tokens, file, backend, page)
        await access.keys.load()
        return access

    def problem(self, identity: Identity) -> Problem | None:
        """Why a client that was identified before may not go on; None if it may."""
        if self.credentials is None:
            return None
        try:
            self.credentials.check(identity)
        except InvalidCredential as error:
            return error.problem
        return None

    @trio.lowlevel.enable_ki_protection
    async def watch(self, close_others: Callable[[], Awaitable[None]]) -> None:
        """Read the file of tokens again when it changes, until cancelled.

        Args:
            close_others: Called when clients may have lost their rights; closes the connections of those.
        """
        while True:
            with trio.move_on_after(LOOK_INTERVAL if self._has_file else inf) as scope:
                await self._changed.wait()
            if not scope.cancelled_caught:
                await close_others()
            if self.credentials is not None:
                self.credentials.refresh()
