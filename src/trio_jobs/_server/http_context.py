"""The context in which a method is executed for an HTTP request."""

from __future__ import annotations

from typing import NoReturn, final

from trio_jobs._engine.event_cursor import Filter
from trio_jobs._server.accounts import Account
from trio_jobs._server.identity import Identity
from trio_jobs._wire import methods as w
from trio_jobs._wire.codes import ErrorCode
from trio_jobs._wire.jsonrpc import RpcError
from trio_jobs._wire.schemas import RequestId

__all__ = ["HttpContext"]


@final
class HttpContext:
    """Conforms to `RequestContext`. A request has no other requests and no subscriptions beside it.

    Args:
        identity: The client.
        account: Of its token.
    """

    def __init__(self, identity: Identity, account: Account) -> None:
        self.identity = identity
        self.account = account
        self.limits = account.limits

    def cancel_request(self, request_id: RequestId) -> bool:
        return False

    def subscribe(self, params: w.Subscribe, wanted: Filter, after: int) -> NoReturn:
        raise RpcError(ErrorCode.UNKNOWN_METHOD, "events are at /v1/events")

    def unsubscribe(self, subscription: str) -> int | None:
        return None
