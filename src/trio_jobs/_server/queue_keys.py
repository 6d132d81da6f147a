"""The random keys of a queue, with which its server signs tickets and page sessions.

They are kept with the jobs, since a ticket must outlive a restart of the server. With a store in memory they are lost
with the jobs. A key is made when it is first used.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Final, Literal, TypeAlias

import trio

from trio_jobs._backend import Backend
from trio_jobs._log import Log
from trio_jobs._server.signatures import KEY_SIZE
from trio_jobs._server.tickets import MAX_TICKET

__all__ = ["QueueKeys"]

log: Final = Log("trio_jobs.server")

Name: TypeAlias = Literal["tickets", "sessions"]


class QueueKeys:
    """The keys of the queue of one server.

    Tickets have two keys. A new one is made when the current one has been in use as long as a ticket can be valid; the
    one before remains valid, and no ticket of an older one can be left.

    Args:
        backend: Keeps them.
        random: Makes so many random bytes.
    """

    def __init__(self, backend: Backend, random: Callable[[int], bytes] = secrets.token_bytes) -> None:
        self._backend = backend
        self._random = random
        self._making = trio.Lock()
        self._tickets: tuple[bytes, ...] = ()
        self._made_at = 0.0
        self.on_revocation: Callable[[], None] = lambda: None
        """Called when tickets were revoked."""
        self.sessions: bytes | None = None
        """The key of page sessions; None before the first of them."""

    @property
    def tickets(self) -> tuple[bytes, ...]:
        """The keys of tickets that are valid, the current one first."""
        return self._tickets

    async def load(self) -> None:
        """Read the keys.

        Raises:
            StoreError: They cannot be read.

        Cancelled:
            They are not read.
        """
        kept = await self._backend.read_secrets()
        if "sessions" in kept:
            self.sessions = bytes.fromhex(kept["sessions"])
        if "tickets" in kept:
            made_at, *keys = kept["tickets"].split()
            self._made_at, self._tickets = float(made_at), tuple(map(bytes.fromhex, keys))

    async def for_sessions(self) -> bytes:
        """The key of page sessions, which is made if there is none.

        Raises:
            StoreError: It cannot be kept.

        Cancelled:
            It may have been made.
        """
        async with self._making:
            if self.sessions is None:
                key = self._random(KEY_SIZE)
                await self._backend.keep_secret("sessions", key.hex())
                self.sessions = key
            return self.sessions

    async def for_tickets(self) -> bytes:
        """The key for a new ticket. Raises and Cancelled: as `for_sessions`."""
        async with self._making:
            if not self._tickets or self._backend.now() - self._made_at >= MAX_TICKET:
                await self._replace(self._tickets[:1])
            return self._tickets[0]

    async def revoke_tickets(self) -> None:
        """Make a new key, so that no earlier ticket is valid any more. Raises and Cancelled: as `for_sessions`."""
        async with self._making:
            await self._replace(())
            self.on_revocation()
        log.info("all tickets were revoked")

    async def _replace(self, previous: tuple[bytes, ...]) -> None:
        keys, now = (self._random(KEY_SIZE), *previous), self._backend.now()
        await self._backend.keep_secret("tickets", " ".join([str(int(now)), *(key.hex() for key in keys)]))
        self._tickets, self._made_at = keys, float(int(now))
