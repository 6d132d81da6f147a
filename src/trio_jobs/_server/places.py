"""Which connections a server has, and which of them are closed so that others can connect.

A connection is *pending* until its client has shown a valid token, and *kept* if it stays open between two HTTP
requests. Kept connections are at most half of all. When all places are in use, first the connection is closed that has
been idle between two requests for the longest time, then the oldest pending one, once it has had two seconds.
"""

from __future__ import annotations

from typing import Final, final

import trio

from trio_jobs._server.limits import ServerLimits

__all__ = ["Places"]

CONTENDED_HANDSHAKE_TIMEOUT: Final = 2.0  #: seconds for a handshake while other connections wait for its place


@final
class Places:
    """The connections of one server, each named by its cancel scope.

    Args:
        limits: Of the server.

    Attributes:
        pending: When each pending connection was accepted, on Trio's clock, oldest first.
    """

    def __init__(self, limits: ServerLimits) -> None:
        self.pending: dict[trio.CancelScope, float] = {}
        self._limits = limits
        self._open: set[trio.CancelScope] = set()
        self._answered: set[trio.CancelScope] = set()
        self._kept: set[trio.CancelScope] = set()
        self._idle: dict[trio.CancelScope, None] = {}
        self._changed = trio.lowlevel.ParkingLot()  # unparked when a connection is authenticated, idle, or has ended

    def __len__(self) -> int:
        return len(self._open)

    @property
    def is_full(self) -> bool:
        return len(self._open) >= self._limits.connections

    def admit(self) -> trio.CancelScope:
        """Add a connection. Returns its scope, whose deadline is that of its first request."""
        now = trio.current_time()
        scope = trio.CancelScope(deadline=now + self._limits.head_timeout)
        self._open.add(scope)
        self.pending[scope] = now
        return scope

    def know(self, scope: trio.CancelScope) -> None:
        """The client of a connection has shown a valid token."""
        if self.pending.pop(scope, None) is not None:
            self._changed.unpark_all()

    def answer(self, scope: trio.CancelScope) -> None:
        """The first request of a connection is being answered."""
        self._answered.add(scope)

    def close_unanswered(self) -> None:
        """Close the pending connections whose first request is not complete yet."""
        for scope in [*self.pending]:
            if scope not in self._answered:
                scope.cancel()

    def leave(self, scope: trio.CancelScope) -> None:
        """A connection has ended."""
        self._open.discard(scope)
        self._answered.discard(scope)
        self._kept.discard(scope)
        self._idle.pop(scope, None)
        self.pending.pop(scope, None)
        self._changed.unpark_all()

    def keep(self, scope: trio.CancelScope) -> bool:
        """Whether a connection may stay open for further requests. It then counts as kept until it ends."""
        if scope not in self._kept:
            if len(self._kept) >= max(1, self._limits.connections // 2):
                return False
            self._kept.add(scope)
        return True

    def rest(self, scope: trio.CancelScope) -> None:
        """A connection is idle: its scope may be cancelled."""
        self._idle[scope] = None
        self._changed.unpark_all()

    def wake(self, scope: trio.CancelScope) -> None:
        """A connection is not idle any more."""
        self._idle.pop(scope, None)

    def close_idle(self) -> None:
        """Close all idle connections."""
        for scope in [*self._idle]:
            scope.cancel()

    async def make_room(self) -> None:
        """Wait until another pending connection is allowed.

        If clients that are not idle use all connections, this returns at once, and the caller closes the new one.

        Cancelled:
            A connection may have been closed.
        """
        await trio.lowlevel.checkpoint()
        while True:
            if self.is_full and self._idle:
                await self._close(next(iter(self._idle)))
            elif self._is_crowded():
                oldest = next(iter(self.pending))
                with trio.move_on_at(self.pending[oldest] + CONTENDED_HANDSHAKE_TIMEOUT):
                    await self._changed.park()
                    continue
                if oldest in self.pending:  # it may have been authenticated in the step in which its time had passed
                    await self._close(oldest)
            else:
                return

    def _is_crowded(self) -> bool:
        """Whether unauthenticated clients use all connections that they may use, or that the others leave."""
        strangers = len(self.pending)
        return strangers >= self._limits.most_pending or (strangers > 0 and self.is_full)

    async def _close(self, scope: trio.CancelScope) -> None:
        self._idle.pop(scope, None)
        scope.cancel()
        while scope in self._open:  # it counts until its task has ended
            await self._changed.park()

    async def wait_until_empty(self) -> None:
        while self._open:
            await self._changed.park()
