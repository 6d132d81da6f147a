"""What a queue reports about itself and about a running attempt. A client gets the same values over the wire."""

from __future__ import annotations

from datetime import datetime
from typing import Final, final

import attrs

from trio_jobs._engine.states import State

__all__ = ["PROBLEMS", "Health", "Pause", "SdkClose", "ServerInfo", "Statistics"]


PROBLEMS: Final = (
    "stuck",
    "overdue",
    "paused",
    "opening_sdk",
    "sessions_failing",
    "close_failed",
    "store",
    "draining",
    "stopping",
)
"""The names of problems, as `Health.problems` has them."""


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
class Pause:
    """Why no attempt starts, and since when."""

    reason: str
    """Why, as given to `pause`; may be empty."""
    since: datetime
    """When the queue was paused, UTC."""
    by: str | None = None
    """Who paused it; None if it was called without, and for a client of scope `watch`."""
    until: datetime | None = None
    """When it ends by itself, UTC; None for never."""


@final
@attrs.frozen
class SdkClose:
    """How a session of the SDK was closed."""

    session: int
    """The number of the session."""
    at: datetime
    """When it was closed, UTC."""
    failed: bool = False
    """The close raised."""
    problem: str | None = None
    """What it raised; None if it raised nothing, and for a client of scope `watch`."""


@final
@attrs.frozen
class Health:
    """Whether a queue works, what keeps it from working, and what waits for a person."""

    ok: bool
    """There is no problem."""
    problems: tuple[str, ...]
    """The names of the problems: stuck, overdue, paused, opening_sdk, sessions_failing, close_failed, store, draining,
    stopping."""
    in_doubt: int
    """The number of jobs that wait for a person."""
    held_by: str | None = None
    """With `strict_order`: the id of the first job, if it blocks the others while it is retrying, snoozed or in
    doubt."""
    held_since: datetime | None = None
    """Since when `held_by` blocks the others."""
    without_handler: int = 0
    """The number of open jobs whose kind has no handler in this process."""
    store: str | None = None
    """Why the store cannot commit; None if it can, and for a client of scope `watch`."""
    paused: Pause | None = None
    """The pause; None without one."""
    last_close: SdkClose | None = None
    """The last close of the SDK, also one before the start of the queue if the journal has it; None before the
    first."""
    failed_sessions: int = 0
    """How many sessions in a row have ended because of an error without a completed attempt."""
    in_doubt_since: datetime | None = None
    """Since when the oldest doubt waits for a person, UTC; None without one."""
    oldest_waiting: str | None = None
    """The id of the job that has been pending for the longest time; None without one."""
    waiting_since: datetime | None = None
    """Since when it is pending, UTC."""


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
