"""The events that follow from one decision about a job, and the values that the decision is based on. Pure."""

from __future__ import annotations

from typing import Any

import attrs
import msgspec
from msgspec import UNSET

from trio_jobs._engine import events as ev
from trio_jobs._engine.jobs import EndedBy, ErrorInfo, JobRecord, OperatorEnding, Outcome, State, Verdict

__all__ = ["AttemptResult", "EventWriter", "Events", "VerifyAnswer", "is_expired"]

Events = tuple[ev.JobEvent, ...]


class AttemptResult(msgspec.Struct, frozen=True, gc=False):
    """How an attempt ended, as the consumer observed it."""

    outcome: Outcome
    """The kind of the end."""

    result: msgspec.Raw | None = None
    """The JSON of what the handler returned; None if it did not return, or the result cannot be kept."""

    problem: str | None = None
    """Why the result cannot be kept; None if it is kept."""

    error: ErrorInfo | None = None
    """What the handler raised; None if it raised nothing."""

    retryable: bool = False
    """Whether the handler's retry policy retries this error."""

    has_run: bool = True
    """False if the handler returned something that has not run, such as a coroutine. Whether what it did before that
    has acted is known to nobody but verify or a person."""

    wait: float = 0.0
    """The seconds of a Snooze or RetryAfter."""

    ended_by: EndedBy | None = None
    """The limit that ended it; None if it ended by itself."""

    entered: bool = False
    """Whether an SDK call began."""

    late: bool = False
    """Whether it ended after its limit."""

    reason: str = ""
    """Why the work of an unsaved attempt is not saved, in a word."""

    interrupted: bool = False
    """Whether an unsaved attempt was interrupted before a save returned, rather than by a save that raised."""

    crashed: bool = False
    """Whether the process died while the work of an unsaved attempt was the only work that was not saved."""


@attrs.frozen
class VerifyAnswer:
    """What verify answered."""

    verdict: Verdict
    """Done, NotDone or Unknown."""

    result: msgspec.Raw | None = None
    """The JSON of the result of Done."""

    problem: str | None = None
    """Why the result of Done was not kept; None if it was."""

    asked: bool = True
    """Whether verify could answer. False if the queue's stop prevented it; the next start calls verify again."""


def is_expired(record: JobRecord, now: float, elapsed: float | None = None) -> bool:
    """Whether the job's deadline has passed.

    Args:
        record: The job.
        now: UTC, seconds since the epoch: for a deadline that is a date.
        elapsed: On the clock of elapsed seconds: for a deadline that was given in seconds. None: its date decides.
    """
    wait = record.deadline_wait
    if wait is not None and wait.end is not None and elapsed is not None:
        return wait.end <= elapsed
    return record.deadline_at is not None and record.deadline_at <= now


class EventWriter:
    """Collects the events of one job, in order. The first event carries the end of the attempt."""

    def __init__(
        self,
        record: JobRecord,
        now: float,
        seq: int,
        ending: AttemptResult | None,
        by: str | None = None,
        elapsed: float | None = None,
        action: OperatorEnding | None = None,
        note: str | None = None,
    ) -> None:
        self.events: Events = ()
        self._in_doubt = record.state is State.IN_DOUBT
        self._job = record.id
        self.now = now
        self._elapsed = elapsed
        self._seq = seq
        self._by = by
        # of the first event: the others follow from it
        self._action: OperatorEnding | None = action
        self._note = note
        self.ending = ending
        last = record.last_attempt
        self._attempt = 0 if last is None else last.number
        # the end of this attempt says nothing about an earlier one; only a return, verify or an operator does
        self.earlier_acted = record.may_have_acted and ending is not None

    def write(
        self, kind: type[ev.Ended], *, may_have_acted: bool = False, error: ErrorInfo | None = None, **fields: Any
    ) -> None:
        seq = self._seq + len(self.events)
        ending = self.ending
        may_have_acted = (may_have_acted or self.earlier_acted) and kind is not ev.Completed
        if ending is not None and not self.events:
            event = kind(
                seq=seq, at=self.now, job=self._job, by=self._by, attempt=self._attempt, outcome=ending.outcome,
                ended_by=ending.ended_by, entered=ending.entered, late=ending.late, may_have_acted=may_have_acted,
                error=ending.error, crashed=ending.crashed, **fields,
            )  # fmt: skip
        else:
            event = kind(
                seq=seq, at=self.now, job=self._job, by=self._by, attempt=self._attempt, may_have_acted=may_have_acted,
                error=error if ending is None else ending.error, action=self._action, note=self._note, **fields,
            )  # fmt: skip
        self._action = self._note = None
        self.events = (*self.events, event)
        self._in_doubt = kind is ev.InDoubt

    def complete(self, result: msgspec.Raw | None, problem: str | None, reason: str) -> None:
        self.write(ev.Completed, result=UNSET if result is None else result, problem=problem, reason=reason)

    def is_expired(self, record: JobRecord) -> bool:
        return is_expired(record, self.now, self._elapsed)

    def resolve_first(self) -> None:
        """Resolve the doubt, if there is one: the table has no way from in_doubt to cancelled. The return of the late
        call resolves it."""
        if self._in_doubt:
            self.write(ev.DoubtResolved, reason="returned")
