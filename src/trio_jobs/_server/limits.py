"""Every limit of the server, with its reason."""

from __future__ import annotations

import sys
from typing import Final, final

import attrs

from trio_jobs._validation import check_number, check_rate, check_seconds
from trio_jobs._wire.codes import MAX_IN_FLIGHT, MAX_MESSAGE, Scope
from trio_jobs._wire.methods import ConnectionLimits

__all__ = ["STRIKES_KEPT", "RateLimiter", "ServerLimits", "connection_limits"]

KEPT_BACK: Final = 64  #: file descriptors kept for the journal, logs, the SDK and a debugging shell
WATCHER_MESSAGES: Final = 5  #: divides the message rate of a token of scope watch: by default 20 a second
WATCHER_BYTES: Final = 16  #: divides its byte rate, since it sends no payloads: by default 64 KiB a second
OF_FRAMES: Final = 0.9  #: of the frames of a client may be requests; the others are pings, pongs and the close
STRIKES_KEPT: Final = 60.0  #: seconds after which the allowance of `strikes` is whole again
MAX_CONNECTIONS: Final = 10_000  #: the default where the system allows more; a connection takes about 60 KiB


def _most_connections() -> int:
    if sys.platform == "win32":
        return 500
    import resource

    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MAX_CONNECTIONS if soft == resource.RLIM_INFINITY else max(1, min(MAX_CONNECTIONS, soft - KEPT_BACK))


@final
@attrs.frozen(kw_only=True)
class ServerLimits:
    """The limits of a server, for `trio_jobs.serve`. Times are in seconds.

    The requests, their bytes and the frames of each connection are limited by token buckets: a rate, and a burst that
    is allowed after a pause.
    """

    connections: int = attrs.field(factory=_most_connections)
    """Open connections. By default the system's limit of file descriptors minus 64, at most 10,000 (Windows: 500)."""
    pending: int = 1024
    """Connections without a valid token yet; at most half of `connections`. If there are as many, the next connection
    waits, and the oldest of them is closed for it once it has had two seconds."""
    head_timeout: float = 5.0
    """Time from accept to the end of the handshake."""
    head: int = 32 * 1024
    """Size of an HTTP head in bytes. h11's default is 16 KiB, nginx's 32 KiB. On localhost, a browser sends the cookies
    of all applications on that host, whatever their ports."""
    keep_alive: float = 75.0
    """Time between two HTTP requests of a connection; longer than the 60 seconds for which nginx keeps one."""
    ping: float = 20.0
    """Time between two pings. A client that sends nothing between two pings is disconnected. Proxies commonly close a
    silent connection after 60 seconds."""
    write_timeout: float = 1.0
    """A client that reads no byte for so long, while data waits to be sent, is disconnected."""
    close_timeout: float = 1.0
    """Time for a client to answer a close frame of the server."""
    subscriptions: int = 32
    """Subscriptions per connection."""
    followed_jobs: int = 4000
    """Job ids that the filters of a connection's subscriptions may name together; each takes some 450 bytes."""
    all_followed_jobs: int = 200_000
    """Job ids that the filters of all subscriptions may name together."""
    messages: int = 200
    """Burst of requests, in units of their cost: most cost 1, pages of jobs more. A token of scope watch has a fifth of
    this."""
    messages_per_second: float = 100.0
    """Rate of requests, in units of their cost. A token of scope watch has a fifth of this."""
    bytes: int = 4 * 1024 * 1024
    """Burst of the bytes of requests. A token of scope watch has a sixteenth of this."""
    bytes_per_second: float = 1024.0 * 1024.0
    """Rate of the bytes of requests. A token of scope watch has a sixteenth of this."""
    token_connections: int = 20
    """All connections of one token together may send requests and bytes as so many connections; those of a ticket as
    one. Further requests are refused without a strike, since another connection may have sent the others."""
    frames: int = 1000
    """Burst of frames of any kind, including pings and fragments."""
    frames_per_second: float = 500.0
    """Rate of frames."""
    strikes: int = 20
    """Messages that exceed the rate limit, or are not valid requests, that are answered with an error. The next one
    closes the connection. They are forgiven within a minute, at an even rate."""

    def __attrs_post_init__(self) -> None:
        for name in ("connections", "pending", "head", "subscriptions", "messages", "bytes", "frames"):
            check_number(name, getattr(self, name))
        for name in ("followed_jobs", "all_followed_jobs", "token_connections"):
            check_number(name, getattr(self, name))
        for name in ("head_timeout", "keep_alive", "ping", "write_timeout", "close_timeout"):
            check_seconds(name, getattr(self, name), zero=False)
        for name in ("messages_per_second", "bytes_per_second", "frames_per_second"):
            check_rate(name, getattr(self, name))
        check_number("strikes", self.strikes, 0)

    @property
    def most_pending(self) -> int:
        """`pending`, but at most half of `connections`, so that unauthenticated clients alone cannot use them all."""
        return min(self.pending, max(1, self.connections // 2))


def connection_limits(limits: ServerLimits, scope: Scope) -> ConnectionLimits:
    """The limits of a connection whose token has this scope, as they are announced to its client."""
    fewer, lighter = (WATCHER_MESSAGES, WATCHER_BYTES) if scope == "watch" else (1, 1)
    return ConnectionLimits(
        message=MAX_MESSAGE,
        in_flight=MAX_IN_FLIGHT,
        messages=min(limits.messages / fewer, limits.frames * OF_FRAMES),
        messages_per_second=min(limits.messages_per_second / fewer, limits.frames_per_second * OF_FRAMES),
        bytes=limits.bytes / lighter,
        bytes_per_second=limits.bytes_per_second / lighter,
        subscriptions=limits.subscriptions,
        followed_jobs=limits.followed_jobs,
    )


class RateLimiter:
    """A token bucket.

    Args:
        size: The amount that is allowed at once after a pause.
        rate: The amount that is allowed per second.
        now: The time, on any monotonic clock.
    """

    __slots__ = ("_at", "_full", "_level", "_rate")

    def __init__(self, size: float, rate: float, now: float) -> None:
        self._full = self._level = float(size)
        self._rate = rate
        self._at = now

    def take(self, amount: float, now: float) -> bool:
        """Take `amount` if it is available. An amount above `size` requires a full bucket and empties it.

        Returns:
            False if it is not available; nothing was taken.
        """
        if self.wait_for(amount, now) > 0:
            return False
        self._level -= amount
        return True

    def wait_for(self, amount: float, now: float) -> float:
        """Return in how many seconds `take(amount)` will succeed; 0 if it would succeed now."""
        self._level = min(self._full, self._level + (now - self._at) * self._rate)
        self._at = now
        missing = min(amount, self._full) - self._level
        return missing / self._rate if missing > 0 else 0.0
