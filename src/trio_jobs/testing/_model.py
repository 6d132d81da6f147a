"""What a caller of a queue may expect, as a model that is small enough to be obviously right. No Hypothesis, no IO.

It is a dictionary of jobs, and a table of moves written down a second time, from the docs and not from the code. It
reads the committed events as they come and says what is wrong with them: that is how P1, P5, P6, P8 and P10 look from
outside.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import attrs

from trio_jobs._engine import events as ev
from trio_jobs._engine.jobs import FINAL, Outcome, State

__all__ = ["GRACE", "Model", "ModelJob"]

#: Seconds in which a handler that was told to end may do so before it is called overdue, as the docs have it
GRACE: Final = 1.0
_NEVER: Final = float("inf")

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
    "RetryScheduled": "retrying",
    "Snoozed": "scheduled",
    "Interrupted": "pending",
    "InDoubt": "in_doubt",
    "DoubtResolved": "pending",
    "Failed": "failed",
    "Cancelled": "cancelled",
    "RunRestarted": "pending",
}


@attrs.define(eq=False)
class ModelJob:
    """A job as far as it was seen. ends: in this run. told: its submit was acknowledged. inside:
    its call has not returned. forgotten: it was final, and its time is over. deadline_at: when it expires. limit_at:
    when its attempt is to end, of its own limit and the job's deadline the earlier. overdue: it was told that it has
    not."""

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
    deadline_at: float = _NEVER
    limit_at: float = _NEVER
    overdue: bool = False


class Model:
    """seq: of the last event that was read. under_way: the job whose attempt is. limits: seconds that an attempt of
    each kind may take; where there is none, any."""

    def __init__(self, limits: Mapping[str, float] | None = None) -> None:
        self.limits = limits or {}
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

    def late(self, now: float) -> list[str]:
        """Where all is at rest: who should have ended before `now`, and nobody has told why not."""
        wrong = [
            f"P10: {_shown(job)} is {job.state} {now - job.deadline_at:g} s after its deadline"
            for job in self.in_state(State.SCHEDULED, State.PENDING, State.RETRYING)
            if now > job.deadline_at + GRACE
        ]
        for job in self.in_state(State.PROCESSING):
            wrong += self._outlived(job, now)
        return wrong

    @staticmethod
    def _outlived(job: ModelJob, at: float) -> Iterable[str]:
        if at > job.limit_at + GRACE and not job.overdue:
            yield f"P10: attempt {job.attempts} of {_shown(job)} goes on {at - job.limit_at:g} s after its limit"

    def _read(self, event: ev.JobEvent, returned: set[tuple[str, int]]) -> Iterable[str]:
        job = self.job(event.job)
        name = type(event).__name__
        after = _LEADS_TO.get(name)
        if isinstance(event, ev.Submitted):
            job.kind, job.deadline_at = event.kind, _NEVER if event.deadline_at is None else event.deadline_at
        job.overdue = job.overdue or isinstance(event, ev.Overdue)
        if after is None:  # it changes something about the job, not where it stands
            return
        if after not in _MOVES[job.state].split():
            yield f"P5: {name} leads {_shown(job)} from {job.state} to {after}"
        if job.state == State.PROCESSING and getattr(event, "outcome", None) is not Outcome.CRASHED:
            yield from self._outlived(job, event.at)
        if isinstance(event, ev.Started):
            if event.at >= job.deadline_at:
                yield f"P10: attempt {event.attempt} of {_shown(job)} starts after its deadline"
            if self.under_way is not None:
                yield f"P1: attempt {event.attempt} of {_shown(job)} starts while {self.under_way} is under way"
            if event.attempt != job.attempts + 1:
                yield f"attempt {event.attempt} of {_shown(job)} follows attempt {job.attempts}"
            job.attempts = event.attempt
            self.under_way = job.id
            job.limit_at = min(event.at + self.limits.get(job.kind, _NEVER), job.deadline_at)
            job.overdue = False
        elif job.state in (State.PROCESSING, State.IN_DOUBT) and self.under_way == job.id:
            job.inside = isinstance(event, ev.InDoubt) and event.inside
            if not job.inside:
                self.under_way = None
        if isinstance(event, ev.RunRestarted):
            job.ends = 0
            if job.deadline_at <= event.at:  # a new run is not ended by what has passed
                job.deadline_at = _NEVER
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
