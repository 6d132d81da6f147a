"""The report of a queue about its stop."""

from __future__ import annotations

from typing import final

import attrs

from trio_jobs._engine.jobs import State

__all__ = ["ShutdownReport", "UnfinishedJob"]


@final
@attrs.frozen
class UnfinishedJob:
    """A job that was not final when the queue stopped."""

    job_id: str
    """The job's id."""
    kind: str
    """The job's kind."""
    key: str | None
    """The job's key; None without one."""
    state: State
    """The state of the job at the stop."""
    reason: str
    """The reason for that state, see `Job.reason`."""


@final
@attrs.frozen
class ShutdownReport:
    """How the queue stopped."""

    sdk_closed: bool
    """Whether no SDK session is open any more."""
    sdk_problem: str | None
    """Why a session is still open, or what the last close raised; None if neither is the case. If a close has raised,
    the log names the jobs that were completed since a session last closed well: their work may be lost."""
    unfinished: tuple[UnfinishedJob, ...]
    """The jobs that are not final, in the order of their submit. Jobs in memory are lost; jobs in a journal are
    restored at the next start."""
    jobs: dict[State, int]
    """The number of jobs, by state."""
    unstored_events: int = 0
    """The number of last events that the journal may lack, because its disk failed or did not respond; else 0."""
    unstored_jobs: tuple[str, ...] = ()
    """The ids of the jobs of those events, in their order. The next start finds these jobs in an earlier state."""
