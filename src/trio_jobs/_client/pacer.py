"""When the next request may be sent, so that the rate limits of the server never refuse it.

The server has a token bucket for the cost of requests and one for their bytes. The client keeps a copy of each. What
makes a copy differ is the time of travel: requests that were sent over seconds can arrive at once, after a stall of the
network or of the server. Therefore a request counts as in transit until the server has proved that it has received it,
by the answer to this request or a later one, or by the pong to a later ping; the server reads in order. A request is
sent when the bucket would hold it even if all that is in transit arrived just now. The refill for a request begins when
its receipt is proved, which is after the server has taken it from its own bucket. So the copy is never fuller than the
bucket of the server, however long anything travels.

All methods are synchronous and get the time, so that a model of the server can check them.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from trio_jobs._wire.codes import MAX_IN_FLIGHT, Scope
from trio_jobs._wire.methods import ConnectionLimits

__all__ = ["Pacer", "assumed_limits"]

MARGIN: Final = 0.98  #: of the server's buckets: for clocks that differ, and for a pong that overtakes two requests


def assumed_limits(scope: Scope) -> ConnectionLimits:
    """The limits of servers that do not announce them, which had these defaults."""
    fewer, lighter = (5, 16) if scope == "watch" else (1, 1)
    mib = 1024 * 1024
    return ConnectionLimits(mib, MAX_IN_FLIGHT, 200 / fewer, 100.0 / fewer, 4 * mib / lighter, 1.0 * mib / lighter, 32)


class _Bucket:
    """A lower bound of what the bucket of the server holds."""

    __slots__ = ("_at", "_level", "_rate", "_size", "in_transit")

    def __init__(self, size: float, rate: float, now: float) -> None:
        self._size = self._level = size * MARGIN
        self._rate = rate * MARGIN
        self._at = now
        self.in_transit = 0.0

    def wait_for(self, amount: float, now: float) -> float:
        """Seconds until `amount` is certain to be there; infinity if that requires a proof of receipt first."""
        self._refill(now)
        if amount > self._size:  # the server requires a full bucket for it
            if self.in_transit:
                return float("inf")
            return (self._size - self._level) / self._rate
        needed = self.in_transit + amount
        if needed > self._size:
            return float("inf")
        return max(0.0, (needed - self._level) / self._rate)

    def received(self, amount: float, now: float) -> None:
        self._refill(now)
        self._level -= amount
        self.in_transit -= amount

    def _refill(self, now: float) -> None:
        self._level = min(self._size, self._level + (now - self._at) * self._rate)
        self._at = now


class Pacer:
    """The pace of the requests on one connection.

    Args:
        limits: The limits of the connection.
        now: The time on a monotonic clock, as in all methods.
    """

    def __init__(self, limits: ConnectionLimits, now: float) -> None:
        self._cost = _Bucket(limits.messages, limits.messages_per_second, now)
        self._bytes = _Bucket(limits.bytes, limits.bytes_per_second, now)
        self._in_transit: deque[tuple[int, float, int, int]] = deque()
        """Number, time of sending, cost and size of each request whose receipt is not proved."""
        self._held_until = now

    @property
    def oldest_in_transit(self) -> float:
        """When the first request was sent whose receipt is not proved; infinity without one."""
        return self._in_transit[0][1] if self._in_transit else float("inf")

    def wait_for(self, cost: int, size: int, now: float) -> float:
        """Return in how many seconds a request can be sent; 0 for now, infinity for after a proof of receipt."""
        return max(self._held_until - now, self._cost.wait_for(cost, now), self._bytes.wait_for(size, now), 0.0)

    def sent(self, number: int, cost: int, size: int, now: float) -> None:
        """A request is about to be sent. Numbers increase."""
        self._cost.in_transit += cost
        self._bytes.in_transit += size
        self._in_transit.append((number, now, cost, size))

    def received(self, number: int, now: float) -> None:
        """The server has received the request with this number, and all before it."""
        while self._in_transit and self._in_transit[0][0] <= number:
            _, _, cost, size = self._in_transit.popleft()
            self._cost.received(cost, now)
            self._bytes.received(size, now)

    def hold(self, seconds: float, now: float) -> None:
        """Send nothing for so long, since the server has refused a request."""
        self._held_until = max(self._held_until, now + seconds)
