"""What a queue tells of itself: while it runs, and when it has stopped."""

from __future__ import annotations

from typing import final

import attrs

from trio_jobs._engine.jobs import State
from trio_jobs._engine.status import Health, Statistics

__all__ = ["Health", "ShutdownReport", "Statistics", "UnfinishedJob"]


@final
@attrs.frozen
class UnfinishedJob:
    """A job that had not ended when the queue stopped."""

    job_id: str
    kind: str
    key: str | None
    state: State
    reason: str


@final
@attrs.frozen
class ShutdownReport:
    """How the queue stopped.

    sdk_closed: no session was left open. sdk_problem: why one was, or what its close raised. left: jobs
    without a final state, by the order of their submit; in memory they are lost, in a journal they wait for the next
    start. jobs: how many are known, by state.
    """

    sdk_closed: bool
    sdk_problem: str | None
    left: tuple[UnfinishedJob, ...]
    jobs: dict[State, int]
