"""Records of jobs without the moments of the process in which their events happened, which no event has."""

from __future__ import annotations

import msgspec

from trio_jobs._engine.jobs import JobRecord, Wait

__all__ = ["without_moments"]


def without_moments(record: JobRecord) -> JobRecord:
    """The record as another process folds it."""
    due, deadline = (wait and Wait(wait.seconds, None) for wait in (record.due_wait, record.deadline_wait))
    moments = dict.fromkeys(("changed_elapsed", "ended_elapsed"))
    return msgspec.structs.replace(record, due_wait=due, deadline_wait=deadline, **moments)
