"""What a queue reports about itself and about a running attempt. A client gets the same values over the wire."""

from __future__ import annotations

from datetime import datetime
from typing import final

import attrs

from trio_jobs._engine.states import State

__all__ = ["Health", "Progress", "ServerInfo", "Statistics"]


@final
@attrs.frozen
class Progress:
    """The progress that a handler reports. It is published, not recorded: it has no `seq`, and the newest one wins."""

    job_id: str
    """The id of the job."""
    done: float
    """The amount done, in the handler's own unit."""
    total: float | None
    """The amount to do, in the same unit; None if the handler does not know it."""
    message: str
    """At most 200 characters; empty without a message."""


@final
@attrs.frozen
class Statistics:
    """Counts and sizes of a queue at event `seq`."""

    jobs: dict[State, int]
    """The number of known jobs in each state."""
    capacity: int
    """The number of slots of the channel (`buffer`)."""
    free: int
    """The number of free slots."""
    waiting_callers: int
    """Submits that wait for a slot."""
    waiting_jobs: int
    """Jobs that are due again and wait for a slot."""
    session: int
    """The number of SDK sessions opened since the queue started."""
    sdk_busy: bool
    """A call into the SDK is running."""
    seq: int
    """The last committed event."""
    mean_run: float | None
    """The mean duration of recent attempts in seconds; None before the first attempt has ended."""
    connections: int | None = None
    """The number of connections to the server. From `Client.statistics` alone, else None."""
    subscriptions: int | None = None
    """The number of subscriptions of these connections. From `Client.statistics` alone, else None."""
    refusals: dict[str, int] | None = None
    """How many clients and requests the server has refused since its start, by reason. From `Client.statistics` alone,
    else None."""


@final
@attrs.frozen
class Health:
    """Whether a queue works, and what keeps it from working.

    `Client.health` gets `ok`, `problems` and `in_doubt`; the other fields are None there.
    """

    ok: bool
    """There is no problem."""
    problems: tuple[str, ...]
    """The names of the problems: stuck, overdue, opening_sdk, sessions_failing, close_failed, store, draining,
    stopping."""
    in_doubt: int
    """The number of jobs that wait for a person."""
    held_by: str | None = None
    """With `strict_order`: the id of the first job, if it blocks the others while it is retrying, snoozed or in
    doubt."""
    held_since: datetime | None = None
    """Since when `held_by` blocks the others."""
    without_handler: int | None = 0
    """The number of open jobs whose kind has no handler in this process."""
    store: str | None = None
    """Why the store cannot commit; None if it can."""


@final
@attrs.frozen
class ServerInfo:
    """What a server reports about its events and about the token of the connection."""

    protocol: str
    """The protocol of the connection, `trio-jobs.v1`."""
    epoch: str
    """The identity of the history of events. `seq` numbers of different epochs are not comparable."""
    seq: int
    """The last committed event."""
    oldest: int
    """The first event from which a subscription can start."""
    scope: str
    """The scope of the token: `watch`, `operate` or `control`."""
    name: str
    """The name of the token."""
