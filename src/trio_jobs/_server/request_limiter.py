"""The rate limits of one connection's requests, and the refusals after which it is closed."""

from __future__ import annotations

import trio

from trio_jobs._server.accounts import Account
from trio_jobs._server.limits import STRIKES_KEPT, RateLimiter, ServerLimits
from trio_jobs._server.rpc_errors import too_many
from trio_jobs._wire.codes import CloseCode, ErrorCode
from trio_jobs._wire.jsonrpc import RpcError
from trio_jobs._wire.methods import ConnectionLimits
from trio_jobs._wire.schemas import RequestId

__all__ = ["RequestLimiter"]


class RequestLimiter:
    """Measures requests.

    Args:
        limits: The limits of the server.
        own: The limits of the connection.
        account: What all connections of its token have taken.
    """

    def __init__(self, limits: ServerLimits, own: ConnectionLimits, account: Account) -> None:
        now = trio.current_time()
        self.account = account
        """What all connections of its token have taken."""
        self._of_others: RpcError | None = None
        self._requests = RateLimiter(own.messages, own.messages_per_second, now)
        self._bytes = RateLimiter(own.bytes, own.bytes_per_second, now)
        self._strikes = None if not limits.strikes else RateLimiter(limits.strikes, limits.strikes / STRIKES_KEPT, now)

    def measure(self, message: str, units: int, request_id: RequestId | None) -> RpcError | None:
        """Take a request from the rate limits.

        Args:
            message: The request as it was received.
            units: Its cost.
            request_id: Its id; None if it could not be decoded.

        Returns:
            The refusal, if it exceeds a limit.
        """
        now = trio.current_time()
        size = len(message) if message.isascii() else len(message.encode())
        wait = max(self._requests.wait_for(units, now), self._bytes.wait_for(size, now))
        if wait == 0:
            self._requests.take(units, now)
            self._bytes.take(size, now)
            wait = self.account.take_together(units, size)
            if wait == 0:
                return None
            why = "the connections of this token together exceed its rate limit; send fewer requests per second"
            refusal = self._of_others = too_many("rate", why, wait)
            refusal.id = request_id
            return refusal
        refusal = too_many("rate", "the rate limit of requests is exceeded; send fewer per second", wait)
        refusal.id = request_id
        return refusal

    def close_code(self, refusal: RpcError) -> CloseCode | None:
        """Count a refusal. Returns the code with which the connection is closed because of too many of them, if so."""
        if refusal is self._of_others:
            return None  # the client may have kept to its own limits
        if refusal.code not in (ErrorCode.TOO_MANY, ErrorCode.PARSE, ErrorCode.INVALID_REQUEST):
            return None
        if self._strikes is not None and self._strikes.take(1, trio.current_time()):
            return None
        return CloseCode.TOO_MANY if refusal.code == ErrorCode.TOO_MANY else CloseCode.BAD_MESSAGE
