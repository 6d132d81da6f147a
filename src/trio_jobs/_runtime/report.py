"""What a queue reports about itself: while it runs, and when it has stopped."""

from __future__ import annotations

from datetime import datetime

import attrs

from trio_jobs._engine.jobs import State

__all__ = ["Health", "ShutdownReport", "Statistics", "UnfinishedJob"]


@attrs.frozen
class Statistics:
    """Numbers of a running queue, as of the last committed event."""

    jobs: dict[State, int]
    """Number of known jobs, by state."""
    capacity: int
    """Slots of the channel."""
    free: int
    """Slots that nobody has reserved."""
    waiting_callers: int
    """Submits that wait for a slot."""
    waiting_jobs: int
    """Jobs that are due again and wait for a slot."""
    session: int
    """SDK sessions opened so far."""
    sdk_busy: bool
    """A call is inside the SDK now."""
    seq: int
    """Number of the last committed event."""
    mean_run: float | None
    """Seconds that an attempt took lately; None before the first has ended."""


@attrs.frozen
class Health:
    """Is the queue able to work?"""

    ok: bool
    """There are no problems."""
    problems: tuple[str, ...]
    """What restricts the queue: opening_sdk, overdue, stuck, store, stopping."""
    in_doubt: int
    """Jobs that are in doubt."""
    held_by: str | None = None
    """In strict order: the job that blocks the queue while it is retrying, snoozed or in doubt; None without one."""
    held_since: datetime | None = None
    """Since when it does."""
    without_handler: int = 0
    """Open jobs that no handler of this service can process."""
    store: str | None = None
    """What keeps the store from committing; None while it commits."""


@attrs.frozen
class UnfinishedJob:
    """A job that was not final when the queue stopped."""

    job_id: str
    kind: str
    key: str | None
    state: State
    reason: str


@attrs.frozen
class ShutdownReport:
    """How the queue stopped."""

    sdk_closed: bool
    """No SDK session was left open."""
    sdk_problem: str | None
    """Why a session was left open, or what its close raised; None if all went well."""
    unfinished: tuple[UnfinishedJob, ...]
    """Jobs without a final state, in the order of their submit. Jobs in memory are lost; jobs in a journal wait for the
    next start."""
    jobs: dict[State, int]
    """Number of known jobs, by state."""
