"""Every bound of the server, with its reason."""

from __future__ import annotations

import sys
from typing import Final, final

import attrs

from trio_jobs._errors import UsageError
from trio_jobs._validation import check_number, check_seconds

__all__ = ["RateLimiter", "ServerLimits"]

KEPT_BACK: Final = 64  #: descriptors for the journal, logs, the SDK and a shell to look at it all
MAX_CONNECTIONS: Final = 10_000  #: where the system would allow more: a connection costs some 60 KiB


def _most_connections() -> int:
    if sys.platform == "win32":
        return 500
    import resource

    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MAX_CONNECTIONS if soft == resource.RLIM_INFINITY else max(1, min(MAX_CONNECTIONS, soft - KEPT_BACK))


@final
@attrs.frozen(kw_only=True)
class ServerLimits:
    """Seconds, unless said otherwise.

    connections: at once, by default what the system's limit of descriptors leaves. pending: connections that have not
    said who they are, or not truly, at most half of all; beyond these the next waits, and the oldest, once it has had
    two seconds, is dropped for it. head_timeout: from accept to the end of the handshake. head: bytes; h11's own limit
    is 16 KiB, nginx's 8. ping: from one ping to the next; a client that is not heard from between two is dropped.
    Proxies drop a silent connection after 60. write_timeout: without one byte taken; then the connection is reset.
    close_timeout: for a client to answer our close frame. subscriptions: of one connection. messages,
    messages_per_second: a client's requests, the first is how many it may save up; a token that only watches has a
    fifth. bytes, bytes_per_second: the same for what they weigh; one that only watches has a sixteenth. frames,
    frames_per_second: of any kind, pings and fragments too. strikes: messages beyond these bounds, or that are no
    requests, that are answered with an error before the connection is closed.
    """

    connections: int = attrs.field(factory=_most_connections)
    pending: int = 1024
    head_timeout: float = 5.0
    head: int = 8 * 1024
    ping: float = 20.0
    write_timeout: float = 1.0
    close_timeout: float = 1.0
    subscriptions: int = 32
    messages: int = 200
    messages_per_second: float = 100.0
    bytes: int = 4 * 1024 * 1024
    bytes_per_second: float = 1024.0 * 1024.0
    frames: int = 1000
    frames_per_second: float = 500.0
    strikes: int = 20

    def __attrs_post_init__(self) -> None:
        for name in ("connections", "pending", "head", "subscriptions", "messages", "bytes", "frames"):
            check_number(name, getattr(self, name))
        for name in ("head_timeout", "ping", "write_timeout", "close_timeout"):
            check_seconds(name, getattr(self, name), zero=False)
        for name in ("messages_per_second", "bytes_per_second", "frames_per_second"):
            if not getattr(self, name) > 0:
                raise UsageError(f"{name} must be more than 0")
        check_number("strikes", self.strikes, 0)

    @property
    def most_pending(self) -> int:
        """`pending`, but never so many that strangers alone could take all places."""
        return min(self.pending, max(1, self.connections // 2))


class RateLimiter:
    """Lets `rate` a second through, and up to `size` at once after a pause. Times are given, on any monotonic clock."""

    __slots__ = ("_at", "_full", "_level", "_rate")

    def __init__(self, size: float, rate: float, now: float) -> None:
        self._full = self._level = float(size)
        self._rate = rate
        self._at = now

    def take(self, amount: float, now: float) -> bool:
        """Take so much if it is there; what weighs more than the whole bucket takes a full one."""
        self._level = min(self._full, self._level + (now - self._at) * self._rate)
        self._at = now
        if self._level < min(amount, self._full):
            return False
        self._level -= amount
        return True
