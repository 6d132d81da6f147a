"""What the HTTP requests of each token have taken from its limits, whatever the connections they came over."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import trio

from trio_jobs._server.identity import Identity
from trio_jobs._server.limits import RateLimiter, ServerLimits, connection_limits
from trio_jobs._server.rpc_errors import too_many
from trio_jobs._wire.codes import MAX_IN_FLIGHT

__all__ = ["Account", "Accounts"]

MAX_OF_TICKET: Final = 2  #: requests and streams of a ticket that wait
MAX_ACCOUNTS: Final = 10_000  #: tokens that are remembered; one that was not used for the longest time is forgotten


class Account:
    """The account of one token.

    Args:
        limits: Of the server.
        identity: A client with the token.
    """

    def __init__(self, limits: ServerLimits, identity: Identity) -> None:
        now = trio.current_time()
        own = self.limits = connection_limits(limits, identity.scope)
        self._requests = RateLimiter(own.messages, own.messages_per_second, now)
        self._bytes = RateLimiter(own.bytes, own.bytes_per_second, now)
        many = 1 if identity.ticket is not None else limits.token_connections
        self._all_requests = RateLimiter(own.messages * many, own.messages_per_second * many, now)
        self._all_bytes = RateLimiter(own.bytes * many, own.bytes_per_second * many, now)
        self._is_ticket = identity.ticket is not None
        self._most_waiting = MAX_IN_FLIGHT if identity.ticket is None else MAX_OF_TICKET
        self.waiting = 0
        """Requests that wait for a job, and streams."""

    def take(self, units: float, size: int) -> None:
        """Take a request from the rate limits.

        Args:
            units: Its cost.
            size: The bytes of its body.

        Raises:
            RpcError: It exceeds a limit; nothing was taken.
        """
        now = trio.current_time()
        wait = max(self._requests.wait_for(units, now), self._bytes.wait_for(size, now))
        if wait > 0:
            raise too_many("rate", "the rate limit of requests is exceeded; send fewer per second", wait)
        self._requests.take(units, now)
        self._bytes.take(size, now)

    def take_together(self, units: float, size: int) -> float:
        """Take a request from what all WebSocket connections of the token may send together.

        Args:
            units: Its cost.
            size: Its bytes.

        Returns:
            0 if it was taken; otherwise the seconds after which it can be.
        """
        now = trio.current_time()
        wait = max(self._all_requests.wait_for(units, now), self._all_bytes.wait_for(size, now))
        if wait == 0:
            self._all_requests.take(units, now)
            self._all_bytes.take(size, now)
        return wait

    def check_wait(self) -> None:
        """Raises `RpcError` if no further request may wait."""
        if self.waiting >= self._most_waiting:
            raise too_many("in_flight", f"at most {self._most_waiting} requests and streams of a token may wait", 1.0)

    def begin_stream(self) -> None:
        """A subscription begins. Those of a ticket are limited over all of its connections; others by connection.

        Raises:
            RpcError: There are too many.
        """
        if self._is_ticket:
            self.check_wait()
            self.waiting += 1

    def end_stream(self) -> None:
        """A subscription has ended."""
        self.waiting -= self._is_ticket

    @contextmanager
    def wait(self) -> Iterator[None]:
        """Hold a place of a request that waits within the block.

        Raises:
            RpcError: There is none left.
        """
        self.check_wait()
        self.waiting += 1
        try:
            yield
        finally:
            self.waiting -= 1


class Accounts:
    """The accounts of a server's tokens."""

    def __init__(self, limits: ServerLimits) -> None:
        self._limits = limits
        self._accounts: OrderedDict[str, Account] = OrderedDict()

    def of(self, identity: Identity) -> Account:
        """The account of a client's token."""
        token = identity.credential
        account = self._accounts.get(token)
        if account is None:
            while len(self._accounts) >= MAX_ACCOUNTS:
                self._accounts.popitem(last=False)
            account = self._accounts[token] = Account(self._limits, identity)
        self._accounts.move_to_end(token)
        return account
