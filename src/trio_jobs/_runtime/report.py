"""What a queue reports about itself: while it runs, and when it has stopped."""

from __future__ import annotations

from typing import final

import attrs

from trio_jobs._engine.jobs import State
from trio_jobs._engine.status import Health, Statistics

__all__ = ["Health", "ShutdownReport", "Statistics", "UnfinishedJob"]


@final
@attrs.frozen
class UnfinishedJob:
    """A job that was not final when the queue stopped."""

    job_id: str
    kind: str
    key: str | None
    state: State
    reason: str


@final
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
