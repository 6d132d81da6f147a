"""Pings of all WebSocket connections by one task: a task of each connection would take 3 KiB, a tenth of its memory."""

from __future__ import annotations

from typing import Protocol

import trio

from trio_jobs._concurrency import WakeUp

__all__ = ["KeepAlive", "Pinged"]


class Pinged(Protocol):
    """A connection."""

    def keep_alive(self) -> None:
        """Send a ping, or disconnect a client that has not answered the last one. Returns at once."""


class KeepAlive:
    """Calls `keep_alive` of each connection in regular intervals.

    Args:
        seconds: Between two calls for a connection, and from `add` to the first one.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._due: dict[Pinged, float] = {}
        """When each call is due, on Trio's clock. The intervals are equal, so the first connection is the first one."""
        self._added = WakeUp()

    def __repr__(self) -> str:
        return f"<KeepAlive {len(self._due)} connections>"

    def add(self, connection: Pinged) -> None:
        """Begin with a connection."""
        self._due[connection] = trio.current_time() + self._seconds
        self._added.set()

    def remove(self, connection: Pinged) -> None:
        """End with a connection, if it was added."""
        self._due.pop(connection, None)

    @trio.lowlevel.enable_ki_protection
    async def run(self) -> None:
        """Call, until cancelled."""
        while True:
            if not self._due:
                await self._added.wait()
                continue
            await trio.sleep_until(next(iter(self._due.values())))
            now = trio.current_time()
            while self._due:
                connection, due = next(iter(self._due.items()))
                if due > now:
                    break
                del self._due[connection]
                self._due[connection] = now + self._seconds
                connection.keep_alive()
