"""What a queue tells of itself: while it runs, and when it has stopped."""

from __future__ import annotations

from datetime import datetime

import attrs

from trio_jobs._engine.jobs import State

__all__ = ["Health", "ShutdownReport", "Statistics", "UnfinishedJob"]


@attrs.frozen
class Statistics:
    """jobs: how many are known, by state. capacity, free: places in the line. waiting_callers: submits that wait for
    a place. waiting_jobs: jobs that do. session: SDK sessions opened. sdk_busy: a call is in the SDK now. seq: the last
    committed event. mean_run: seconds an attempt took lately, None before the first.
    """

    jobs: dict[State, int]
    capacity: int
    free: int
    waiting_callers: int
    waiting_jobs: int
    session: int
    sdk_busy: bool
    seq: int
    mean_run: float | None


@attrs.frozen
class Health:
    """problems: what is wrong, each a word or two (opening_sdk, overdue, stuck, store, stopping). ok: jobs are being
    worked on, or could be. in_doubt: jobs that wait for a person. held_by, held_since: in strict order, the job at the
    head of the line that nobody passes, and since when it is retrying, snoozed or in doubt; None where there is none.
    without_handler: open jobs that no handler here can take. store: what keeps the store from committing, None while
    it does.
    """

    ok: bool
    problems: tuple[str, ...]
    in_doubt: int
    held_by: str | None = None
    held_since: datetime | None = None
    without_handler: int = 0
    store: str | None = None


@attrs.frozen
class UnfinishedJob:
    """A job that had not ended when the queue stopped."""

    job_id: str
    kind: str
    key: str | None
    state: State
    reason: str


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
