"""How many subscriptions a connection has, and how many jobs their filters name: memory grows with both."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from trio_jobs._engine.event_cursor import Filter
from trio_jobs._server.accounts import Account
from trio_jobs._server.limits import ServerLimits
from trio_jobs._server.rpc_errors import too_many
from trio_jobs._server.subscriber import Subscriber
from trio_jobs._wire.codes import ErrorCode
from trio_jobs._wire.jsonrpc import RpcError

__all__ = ["FollowedJobs"]


class FollowedJobs:
    """Counts the job ids in the filters of all subscriptions of a server.

    Args:
        limits: Of the server.
    """

    def __init__(self, limits: ServerLimits) -> None:
        self._limits: Final = limits
        self.count = 0

    def add(
        self, subscription: str, wanted: Filter, others: Mapping[str, Subscriber], account: Account | None = None
    ) -> None:
        """Count a subscription that is about to begin.

        Args:
            subscription: Its id.
            wanted: Its filter.
            others: The other subscriptions of its connection, by id.
            account: That of its token; None if the stream has its place already.

        Raises:
            RpcError: There is one with this id, or it would exceed a limit. Nothing was counted.
        """
        limits, ids = self._limits, len(wanted.jobs or ())
        if subscription in others:
            raise RpcError(ErrorCode.INVALID_PARAMS, f"subscription {subscription!r} already exists")
        if len(others) >= limits.subscriptions:
            raise too_many("subscriptions", f"a connection has at most {limits.subscriptions} subscriptions")
        if ids and ids + sum(other.followed_jobs for other in others.values()) > limits.followed_jobs:
            most = f"the subscriptions of a connection name at most {limits.followed_jobs} jobs"
            raise too_many("followed_jobs", f"{most}; follow kinds or all jobs instead")
        if ids and ids + self.count > limits.all_followed_jobs:
            most = f"the subscriptions of all clients name at most {limits.all_followed_jobs} jobs"
            raise too_many("followed_jobs", f"{most}; follow kinds or all jobs instead, or try again later")
        if account is not None:
            account.begin_stream()
        self.count += ids

    def remove(self, subscriber: Subscriber, account: Account | None = None) -> None:
        """A subscription has ended."""
        if account is not None:
            account.end_stream()
        self.count -= subscriber.followed_jobs
