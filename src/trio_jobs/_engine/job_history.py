"""The history of a job: its events that are kept, by run. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, final

import attrs

from trio_jobs._engine.event_base import Event
from trio_jobs._engine.states import FINAL
from trio_jobs._engine.transitions import TABLE

__all__ = ["MAX_EVENTS", "JobHistory", "JobRun"]

MAX_EVENTS: Final = 10_000  #: events of a job that are read at most, the newest: thousands of attempts

#: Events that begin a new run: those that lead from a final state to one that is not
_BEGIN_RUN: Final = frozenset(row.event for row in TABLE if row.before in FINAL and row.after not in FINAL)


@final
@attrs.frozen
class JobRun:
    """The events of one run of a job."""

    number: int
    """The number of the run, from 1."""
    events: tuple[Event, ...]
    """Its events, in order. The first one of a later run is that by which a person began it."""

    def to_dict(self) -> dict[str, Any]:
        """The run as JSON types, for `json.dumps`."""
        return {"run": self.number, "events": [event.to_dict() for event in self.events]}


@final
@attrs.frozen
class JobHistory:
    """What has happened to a job."""

    job_id: str
    """The id of the job."""
    runs: tuple[JobRun, ...]
    """The runs, in order."""
    complete: bool
    """It begins with the submit. False if the first events are not kept: a queue without a journal keeps the newest
    events of all jobs, and of one job at most 10,000 are read."""

    @property
    def events(self) -> tuple[Event, ...]:
        """The events of all runs, in order."""
        return tuple(event for run in self.runs for event in run.events)

    def to_dict(self) -> dict[str, Any]:
        """The history as JSON types, for `json.dumps`."""
        return {"job": self.job_id, "complete": self.complete, "runs": [run.to_dict() for run in self.runs]}

    @classmethod
    def from_events(cls, job_id: str, events: Sequence[Event], last_run: int, *, complete: bool) -> JobHistory:
        """The history with these events.

        Args:
            job_id: The id of the job.
            events: Its newest events, in order.
            last_run: The number of the run to which the last of them belongs.
            complete: See `JobHistory.complete`.
        """
        number = last_run - sum(type(event) in _BEGIN_RUN for event in events)
        runs: dict[int, list[Event]] = {}
        for event in events:
            number += type(event) in _BEGIN_RUN
            runs.setdefault(number, []).append(event)
        return cls(job_id, tuple(JobRun(number, tuple(events)) for number, events in runs.items()), complete)
