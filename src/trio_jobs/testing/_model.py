"""A model of a queue's jobs that checks committed events against the promises P1, P5, P6, P8 and P10.

The model is a dictionary of jobs and a table of state transitions, written from the documentation and not from the
code. It uses neither Hypothesis nor IO.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import attrs
from msgspec import UNSET

from trio_jobs._engine import events as ev
from trio_jobs._engine.jobs import FINAL, Outcome, State

__all__ = ["GRACE", "Model", "ModelJob"]

#: Seconds after its limit in which an attempt may end before it is overdue, as documented
GRACE: Final = 1.0
_ROUNDING: Final = 1e-5  #: seconds: twenty times the resolution of a float of this size
_NEVER: Final = float("inf")

_TRANSITIONS: Final[dict[str | None, str]] = {
    None: "scheduled pending",
    "scheduled": "scheduled pending cancelled failed",
    "pending": "scheduled processing cancelled failed",
    "processing": "saving completed retrying failed scheduled pending cancelled in_doubt",
    "saving": "completed in_doubt failed cancelled retrying pending",
    "retrying": "scheduled pending cancelled failed",
    "in_doubt": "completed saving retrying pending failed in_doubt",
    "failed": "pending completed",
    "cancelled": "pending",
    "completed": "",
}

_NEXT_STATE: Final[dict[str, str]] = {
    "Submitted": "pending",
    "Scheduled": "scheduled",
    "Due": "pending",
    "Started": "processing",
    "Returned": "saving",
    "Completed": "completed",
    "RetryScheduled": "retrying",
    "Snoozed": "scheduled",
    "Interrupted": "pending",
    "InDoubt": "in_doubt",
    "DoubtResolved": "pending",
    "Failed": "failed",
    "Cancelled": "cancelled",
    "RunRestarted": "pending",
    "Corrected": "pending",
    "Rescheduled": "scheduled",
}


@attrs.define(eq=False)
class ModelJob:
    """A job as its events show it. All times are UTC seconds."""

    id: str
    state: str | None = None
    kind: str = ""
    key: str | None = None
    payload: bytes = b""
    acknowledged: bool = False
    """The submit returned."""
    ends: int = 0
    """How often the job became final in this run."""
    attempts: int = 0
    inside: bool = False
    """The call of the job's last attempt has not returned."""
    forgotten: bool = False
    """The job was final and has been pruned."""
    deadline_at: float = _NEVER
    limit_at: float = _NEVER
    """When the attempt must end: at its own limit or the job's deadline, whichever is earlier."""
    overdue: bool = False
    """The attempt was reported overdue."""


class Model:
    """The jobs of a queue.

    Args:
        limits: Seconds that an attempt of each kind may take; no limit for a kind that is missing.
    """

    def __init__(self, limits: Mapping[str, float] | None = None) -> None:
        self.limits = limits or {}
        self.jobs: dict[str, ModelJob] = {}
        self.seq = 0
        """The number of the last event read."""
        self.running: str | None = None
        """The job whose attempt is running."""
        self.saved: set[str] = set()
        """The jobs of the last save that are not completed yet."""

    def job(self, job_id: str) -> ModelJob:
        return self.jobs.setdefault(job_id, ModelJob(job_id))

    def acknowledge(self, job_id: str, kind: str, key: str | None, payload: bytes) -> ModelJob:
        """Record that a submit returned."""
        job = self.job(job_id)
        job.kind, job.key, job.payload, job.acknowledged = kind, key, payload, True
        return job

    def by_key(self, kind: str, key: str) -> ModelJob | None:
        return next(
            (job for job in self.jobs.values() if job.acknowledged and (job.kind, job.key) == (kind, key)), None
        )

    def in_state(self, *states: State) -> list[ModelJob]:
        return [job for job in self.jobs.values() if job.state in states]

    def new_process(self) -> None:
        """Record that the process has ended: no attempt is running, whether or not an event says so."""
        self.running = None

    def read(self, events: Sequence[ev.Event], returned: Iterable[tuple[str, int]]) -> list[str]:
        """Apply the events and return the violations, a sentence each.

        Args:
            events: The events behind `seq`.
            returned: The attempts whose handler returned, as (job id, attempt).
        """
        seen = set(returned)
        wrong: list[str] = []
        for event in events:
            if event.seq != self.seq + 1:
                wrong.append(f"P8: event {event.seq} follows {self.seq}")
            self.seq = event.seq
            if isinstance(event, ev.Saved):
                self.saved = set(event.jobs)
            elif isinstance(event, ev.JobEvent):
                wrong += self._read(event, seen)
        return wrong

    def late(self, now: float) -> list[str]:
        """The jobs that should have ended before `now` and are not reported overdue, a sentence each."""
        wrong = [
            f"P10: {_shown(job)} is {job.state} {now - job.deadline_at:g} s after its deadline"
            for job in self.in_state(State.SCHEDULED, State.PENDING, State.RETRYING)
            if now > job.deadline_at + GRACE
        ]
        for job in self.in_state(State.PROCESSING):
            wrong += self._overrun(job, now)
        return wrong

    @staticmethod
    def _overrun(job: ModelJob, at: float) -> Iterable[str]:
        if at > job.limit_at + GRACE and not job.overdue:
            yield f"P10: attempt {job.attempts} of {_shown(job)} goes on {at - job.limit_at:g} s after its limit"

    def _read(self, event: ev.JobEvent, returned: set[tuple[str, int]]) -> Iterable[str]:
        job = self.job(event.job)
        name = type(event).__name__
        after = _NEXT_STATE.get(name)
        if isinstance(event, ev.Submitted):
            job.kind, job.deadline_at = event.kind, _NEVER if event.deadline_at is None else event.deadline_at
        job.overdue = job.overdue or isinstance(event, ev.Overdue)
        if after is None:  # the event does not change the state
            return
        if after not in _TRANSITIONS[job.state].split():
            yield f"P5: {name} moves {_shown(job)} from {job.state} to {after}"
        if job.state == State.PROCESSING and getattr(event, "outcome", None) is not Outcome.CRASHED:
            yield from self._overrun(job, event.at)
        if isinstance(event, ev.Started):
            if event.at >= job.deadline_at + _ROUNDING:
                yield f"P10: attempt {event.attempt} of {_shown(job)} starts after its deadline"
            if self.running is not None:
                yield f"P1: attempt {event.attempt} of {_shown(job)} starts during an attempt of job {self.running}"
            if event.attempt != job.attempts + 1:
                yield f"attempt {event.attempt} of {_shown(job)} follows attempt {job.attempts}"
            job.attempts = event.attempt
            self.running = job.id
            job.limit_at = min(event.at + self.limits.get(job.kind, _NEVER), job.deadline_at)
            job.overdue = False
        elif job.state in (State.PROCESSING, State.IN_DOUBT) and self.running == job.id:
            job.inside = isinstance(event, ev.InDoubt) and event.inside
            if not job.inside:
                self.running = None
        if isinstance(event, ev.RunRestarted | ev.Corrected):
            job.ends = 0
            if job.deadline_at <= event.at:  # a deadline that has passed does not apply to a new run
                job.deadline_at = _NEVER
        if isinstance(event, ev.Corrected):
            job.payload = bytes(event.payload) if event.payload is not UNSET else b""
            if event.deadline_at is not None:
                job.deadline_at = event.deadline_at
        if after in FINAL:
            # verify, which a person requested, finds the work of a failed job done
            found_done = job.state == State.FAILED and getattr(event, "reason", "") == "verified"
            job.ends += not found_done
            if job.ends > 1:
                yield f"P5: {_shown(job)} becomes final a second time: {after}"
        has_returned = isinstance(event, ev.Completed | ev.Returned) and event.outcome is Outcome.COMPLETED
        if has_returned and (job.id, job.attempts) not in returned:
            yield f"P6: {_shown(job)} is {after}, and the handler of attempt {job.attempts} did not return"
        if isinstance(event, ev.Completed) and job.state == State.SAVING:
            if job.id not in self.saved:
                yield f"P6: {_shown(job)} is completed, and no save has returned"
            self.saved.discard(job.id)
        job.state = after


def _shown(job: ModelJob) -> str:
    return f"job {job.id}" if job.key is None else f"job {job.id} (key {job.key!r})"
