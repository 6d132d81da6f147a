"""Routes notifications to receivers, and starts each receiver on every new session."""

from __future__ import annotations

import contextlib

import trio

from trio_jobs._client.connection_errors import ConnectionLost, TooLarge
from trio_jobs._client.receiver import Receiver
from trio_jobs._client.reconnect import ReconnectingSession
from trio_jobs._client.session import Session
from trio_jobs._errors import (
    ConnectionFailed,
    OutcomeUnknown,
    PermissionDenied,
    TooManyRequests,
    TrioJobsError,
    UsageError,
)
from trio_jobs._wire import methods as w
from trio_jobs._wire.jsonrpc import Notification

__all__ = ["Router"]


class Router:
    """The open subscriptions of one client. Each has a new subscription id on each session."""

    def __init__(self, session: ReconnectingSession, nursery: trio.Nursery) -> None:
        self._session = session
        self._nursery = nursery
        self._ids: dict[Receiver, str] = {}
        """The subscription id of each receiver; empty where it has none."""
        self._by_id: dict[str, Receiver] = {}
        self._ending = 0  # subscriptions that the server may still count
        self._ended = trio.lowlevel.ParkingLot()
        self._last_id = 0
        session.on_notification = self._on_notification
        session.on_session = self._on_session
        session.on_blamed = self._on_blamed
        session.on_refused = self._on_refused

    def __len__(self) -> int:
        return len(self._ids)

    def add(self, receiver: Receiver) -> None:
        self._ids[receiver] = ""
        self.start(receiver)

    def remove(self, receiver: Receiver) -> None:
        self.route(receiver, None)
        del self._ids[receiver]

    def route(self, receiver: Receiver, session: Session | None) -> str:
        """See `Routes.route`."""
        before = self._ids[receiver]
        if before in self._by_id:
            del self._by_id[before]
            if session is None:
                self._ending += 1
                self._nursery.start_soon(self._unsubscribe, before)
        if session is None:
            return ""
        self._last_id += 1
        subscription_id = self._ids[receiver] = f"u{self._last_id}"
        self._by_id[subscription_id] = receiver
        return subscription_id

    @trio.lowlevel.enable_ki_protection
    async def _unsubscribe(self, subscription_id: str) -> None:
        session = self._session.current
        if session is not None:
            with contextlib.suppress(ConnectionLost, OutcomeUnknown):
                await session.ask("jobs.unsubscribe", w.Unsubscribe(subscription_id))
        self._ending -= 1
        self._ended.unpark_all()

    def start(self, receiver: Receiver) -> None:
        """See `Routes.start`. A task of its own, so that the cancellation of a reader cannot interrupt it."""
        self._nursery.start_soon(self._start, receiver)

    @trio.lowlevel.enable_ki_protection
    async def _start(self, receiver: Receiver) -> None:
        try:
            # the timeout is for a first start: a stream that has started outlives any outage
            session = await self._session.session(float("inf") if receiver.has_started else None)
            if receiver in self._ids and await self._has_place(receiver, session):
                await receiver.begin(session)
        except ConnectionLost:
            pass  # the next session starts it
        except TooLarge as error:
            receiver.fail(UsageError(f"the subscription has too many filters: {error}"))
        except (PermissionDenied, ConnectionFailed, UsageError, OutcomeUnknown) as error:
            receiver.fail(error)

    async def _has_place(self, receiver: Receiver, session: Session) -> bool:
        """Wait until the server has a subscription free. False if the receiver is gone, or is one too many."""
        most = session.limits.subscriptions
        if [*self._ids].index(receiver) >= most:
            why = f"a connection has at most {most} subscriptions; end one, or connect once more"
            receiver.fail(TooManyRequests(why, "subscriptions"))
            return False
        while receiver in self._ids and session.lost is None and len(self._by_id) + self._ending >= most:
            await self._ended.park()
        return receiver in self._ids

    def _on_notification(self, notification: Notification) -> None:
        receiver = self._by_id.get(notification.params.subscription)
        if receiver is not None:
            receiver.on_notification(notification)

    def _on_session(self, session: Session) -> None:
        receivers, self._by_id = [*self._by_id.values()], {}
        self._ended.unpark_all()
        for receiver in receivers:
            self.start(receiver)

    def _on_blamed(self, lost: ConnectionLost) -> None:
        for receiver in [*self._by_id.values()]:
            receiver.blame(lost)

    def _on_refused(self, error: TrioJobsError) -> None:
        for receiver in self._ids:
            receiver.fail(error)
