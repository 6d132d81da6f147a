"""`trio_jobs.connect`: the lifetime of a client."""

from __future__ import annotations

import random
import ssl
from collections.abc import AsyncIterator

import trio

from trio_jobs._client.client import Client
from trio_jobs._client.reconnect import ReconnectingSession
from trio_jobs._concurrency import bare_nursery, protected_manager
from trio_jobs._errors import UsageError
from trio_jobs._validation import check_seconds

__all__ = ["connect"]


@protected_manager
async def connect(
    url: str,
    *,
    token: str | None = None,
    tls: ssl.SSLContext | None = None,
    connect_timeout: float = 10.0,
    reconnect_timeout: float = float("inf"),
) -> AsyncIterator[Client]:
    """Connect to a server: `async with trio_jobs.connect(url, token=...) as client`.

    A lost connection is replaced for as long as the block runs, after 0.05 s at first and at most 5 s later. The
    block's own exception is raised bare, not in an exception group.

    Args:
        url: `ws://host:port/ws` or `wss://host:port/ws`.
        token: The secret of the token.
        tls: For wss, where the certificates that the system trusts do not suffice.
        connect_timeout: Seconds for the first connection.
        reconnect_timeout: Seconds that a request, or the start of a subscription, waits for a new connection before it
            raises `ConnectionFailed`. A subscription that has started waits for as long as it takes.

    Raises:
        ConnectionFailed: There was no connection within `connect_timeout`, or no trio-jobs server answers at the URL.
        PermissionDenied: The server does not accept the token.
        UsageError: The URL or a number of seconds is invalid, the token has characters that cannot be sent, or Trio
            does not run.

    Cancelled:
        The connection is closed, within a second.
    """
    if not trio.lowlevel.in_trio_run():
        raise UsageError(
            "trio_jobs.connect needs Trio, which does not run here: call it in a function that trio.run runs. "
            "A program on asyncio runs Trio in a thread, or uses a WebSocket client of its own"
        )
    connect_timeout = check_seconds("connect_timeout", connect_timeout)
    reconnect_timeout = check_seconds("reconnect_timeout", reconnect_timeout)
    async with bare_nursery() as nursery:
        session = ReconnectingSession(url, token, tls, reconnect_timeout, random.Random())
        try:
            client = Client(session, nursery)
            nursery.start_soon(session.run)
            await session.first_session(connect_timeout)
            yield client
        finally:
            try:
                with trio.CancelScope(shield=True):
                    await session.aclose()
            finally:  # also after Ctrl-C: the session waits for that
                nursery.cancel_scope.cancel()
