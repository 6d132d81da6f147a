"""What a caller of a queue may expect, as a model that is small enough to be obviously right. No Hypothesis, no IO.

It is a dictionary of jobs, and a table of moves written down a second time, from the docs and not from the code. It
reads the committed events as they come and says what is wrong with them: that is how P1, P5, P6 and P8 look from
outside.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

import attrs

from trio_jobs import _events as ev
from trio_jobs._jobs import FINAL, Outcome, State

__all__ = ["Model", "ModelJob"]

_MOVES: Final[dict[str | None, str]] = {
    None: "scheduled pending",
    "scheduled": "pending cancelled failed",
    "pending": "processing cancelled failed",
    "processing": "completed retrying failed scheduled pending cancelled in_doubt",
    "retrying": "pending cancelled failed",
    "in_doubt": "completed retrying pending failed in_doubt",
    "failed": "pending",
    "cancelled": "pending",
    "completed": "",
}

_LEADS_TO: Final[dict[str, str]] = {
    "Submitted": "pending",
    "Scheduled": "scheduled",
    "Due": "pending",
    "Started": "processing",
    "Completed": "completed",
    "Retrying": "retrying",
    "Snoozed": "scheduled",
    "Interrupted": "pending",
    "InDoubt": "in_doubt",
    "Released": "pending",
    "Failed": "failed",
    "Cancelled": "cancelled",
    "Retried": "pending",
}


@attrs.define(eq=False)
class ModelJob:
    """A job as far as it was seen. ends: in this run. told: its submit was acknowledged. inside:
    its call has not returned. forgotten: it was final, and its time is over."""

    id: str
    state: str | None = None
    kind: str = ""
    key: str | None = None
    payload: bytes = b""
    told: bool = False
    ends: int = 0
    attempts: int = 0
    inside: bool = False
    forgotten: bool = False


class Model:
    """seq: of the last event that was read. under_way: the job whose attempt is."""

    def __init__(self) -> None:
        self.jobs: dict[str, ModelJob] = {}
        self.seq = 0
        self.under_way: str | None = None

    def job(self, job_id: str) -> ModelJob:
        return self.jobs.setdefault(job_id, ModelJob(job_id))

    def told(self, job_id: str, kind: str, key: str | None, payload: bytes) -> ModelJob:
        """A submit was acknowledged."""
        job = self.job(job_id)
        job.kind, job.key, job.payload, job.told = kind, key, payload, True
        return job

    def by_key(self, kind: str, key: str) -> ModelJob | None:
        return next((job for job in self.jobs.values() if job.told and (job.kind, job.key) == (kind, key)), None)

    def in_state(self, *states: State) -> list[ModelJob]:
        return [job for job in self.jobs.values() if job.state in states]

    def new_process(self) -> None:
        """Whatever was under way in the one before is not any more, which nobody may have been able to write down."""
        self.under_way = None

    def read(self, events: Sequence[ev.Event], returned: Iterable[tuple[str, int]]) -> list[str]:
        """Go on with these events; say what is wrong with them. returned: attempts whose handler did."""
        seen = set(returned)
        wrong: list[str] = []
        for event in events:
            if event.seq != self.seq + 1:
                wrong.append(f"P8: event {event.seq} follows {self.seq}")
            self.seq = event.seq
            if isinstance(event, ev.JobEvent):
                wrong += self._read(event, seen)
        return wrong

    def _read(self, event: ev.JobEvent, returned: set[tuple[str, int]]) -> Iterable[str]:
        job = self.job(event.job)
        name = type(event).__name__
        after = _LEADS_TO.get(name)
        if after is None:  # it changes something about the job, not where it stands
            return
        if after not in _MOVES[job.state].split():
            yield f"P5: {name} leads {_shown(job)} from {job.state} to {after}"
        if isinstance(event, ev.Started):
            if self.under_way is not None:
                yield f"P1: attempt {event.attempt} of {_shown(job)} starts while {self.under_way} is under way"
            if event.attempt != job.attempts + 1:
                yield f"attempt {event.attempt} of {_shown(job)} follows attempt {job.attempts}"
            job.attempts = event.attempt
            self.under_way = job.id
        elif job.state in (State.PROCESSING, State.IN_DOUBT) and self.under_way == job.id:
            job.inside = isinstance(event, ev.InDoubt) and event.inside
            if not job.inside:
                self.under_way = None
        if isinstance(event, ev.Retried):
            job.ends = 0
        if after in FINAL:
            job.ends += 1
            if job.ends > 1:
                yield f"P5: {_shown(job)} ends a second time, {after}"
        if (
            isinstance(event, ev.Completed)
            and event.outcome is Outcome.COMPLETED
            and (job.id, job.attempts) not in returned
        ):
            yield f"P6: {_shown(job)} is completed, and the handler of attempt {job.attempts} did not return"
        job.state = after


def _shown(job: ModelJob) -> str:
    return f"job {job.id}" if job.key is None else f"job {job.id} (key {job.key!r})"
