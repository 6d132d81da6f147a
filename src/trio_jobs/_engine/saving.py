"""The decisions about work that a handler has returned and the SDK has not saved yet. Pure.

An SDK may keep the work of attempts in memory until it saves them all at once. A job whose handler has returned is then
*saving*: its result is recorded, and it is completed, together with all jobs of its group, when a save returns.

A session can also end before that: a save raises or does not return, another attempt makes the session unusable, the
queue stops, the process dies. Then it is not known whether the work is durable. `unsaved` decides what follows, by the
handler's rules: a save that raised is an error of the attempt; in the other cases the attempt was interrupted.
"""

from __future__ import annotations

from collections.abc import Iterable

import attrs
from msgspec import UNSET

from trio_jobs._engine import events as ev
from trio_jobs._engine.attempt_result import end
from trio_jobs._engine.event_writer import AttemptResult, Events
from trio_jobs._engine.jobs import ErrorInfo, JobRecord, Outcome, State
from trio_jobs._engine.retry import Rules

__all__ = ["Unsaved", "returned", "save_failed", "saved", "unsaved"]


@attrs.frozen
class Unsaved:
    """Why work is not saved, or why it is not known whether it is."""

    reason: str
    """In a word: "save_failed", "save_timed_out", "session_discarded", "stopped"."""

    interrupted: bool = True
    """Whether the save was prevented or did not return. False: it raised, which uses one retry."""

    error: ErrorInfo | None = None
    """What the save raised, or the error because of which the session was discarded; None without one."""

    retryable: bool = False
    """Whether the handler's retry policy retries the error of the save."""


def returned(record: JobRecord, ending: AttemptResult, now: float, seq: int) -> Events:
    """The events of a handler that has returned in a service with `save=`.

    There are none if an operator resolved the job while the call was still inside.
    """
    inside = record.doubt is not None and record.doubt.inside
    if record.state is not State.PROCESSING and not inside:
        return ()
    return (
        ev.Returned(
            seq=seq, at=now, job=record.id, attempt=record.attempt.number, outcome=Outcome.COMPLETED,
            entered=ending.entered, late=ending.late, may_have_acted=record.may_have_acted,
            result=UNSET if ending.result is None else ending.result, problem=ending.problem,
        ),
    )  # fmt: skip


def saved(records: Iterable[JobRecord], session: int, now: float, seq: int) -> tuple[ev.Event, ...]:
    """The events of a save that has returned: all jobs of the group are completed. None if no job is saving."""
    group = [record for record in records if record.state is State.SAVING]
    if not group:
        return ()
    completed = (
        ev.Completed(seq=number, at=now, job=record.id, attempt=record.attempt.number, reason="saved")
        for number, record in enumerate(group, seq + 1)
    )
    return (ev.Saved(seq=seq, at=now, session=session, jobs=_ids(group)), *completed)


def save_failed(
    records: Iterable[JobRecord], session: int, problem: str, now: float, seq: int
) -> tuple[ev.SaveFailed, ...]:
    """The event of a save that has raised or did not return. `unsaved` decides about its jobs."""
    group = [record for record in records if record.state is State.SAVING]
    return (ev.SaveFailed(seq=seq, at=now, session=session, jobs=_ids(group), problem=problem),)


def unsaved(
    record: JobRecord,
    why: Unsaved,
    rules: Rules,
    now: float,
    chance: float,
    seq: int,
    elapsed: float | None = None,
) -> Events:
    """The events of a job whose work is not saved, or not certainly. None if it is not saving.

    Args:
        record: The job.
        why: Why the work is not saved.
        rules: The rules of the job's handler.
        now: UTC, seconds since the epoch.
        chance: Uniform in [0, 1), for the jitter of a retry.
        seq: The number of the first event.
        elapsed: See `is_expired`.
    """
    if record.state is not State.SAVING:
        return ()
    attempt = record.attempt
    ending = AttemptResult(
        Outcome.UNSAVED,
        error=why.error,
        retryable=why.retryable,
        entered=attempt.entered,
        late=attempt.late,
        reason=why.reason,
        interrupted=why.interrupted,
    )
    return end(record, ending, rules, now, chance, seq, elapsed)


def _ids(group: Iterable[JobRecord]) -> tuple[str, ...]:
    return tuple(record.id for record in group)
