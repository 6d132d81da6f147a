"""Public values to the private Structs of the wire, and back: the only place that knows both.

What is withheld from everybody has no field on the wire. A client gets None or UNSET for it, as documented at each
public field. What is withheld from some is in the Structs that are made here, until `field_scopes.limit_to`.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

import msgspec

from trio_jobs._backup import Backup
from trio_jobs._engine import events as ev
from trio_jobs._engine.events import ALL_EVENTS, Event, JobEvent, QueueEvent
from trio_jobs._engine.jobs import Attempt, ErrorInfo, Job, to_datetime
from trio_jobs._engine.json_values import moment
from trio_jobs._engine.operator_actions import OperatorAction
from trio_jobs._engine.progress import Progress
from trio_jobs._engine.states import State
from trio_jobs._engine.status import Health, ServerInfo, Statistics
from trio_jobs._engine.transitions import STATE_AFTER
from trio_jobs._wire import methods as w
from trio_jobs._wire.codes import MAX_HISTORY_BYTES
from trio_jobs._wire.schemas import WireAction, WireAttempt, WireError, WireEvent, WireJob

__all__ = [
    "WITHHELD",
    "action_from_wire",
    "action_to_wire",
    "backup_from_wire",
    "backup_to_wire",
    "error_to_wire",
    "event_from_wire",
    "event_to_wire",
    "job_from_wire",
    "job_to_wire",
    "progress_from_wire",
    "progress_to_wire",
    "server_info_from_wire",
    "statistics_from_wire",
    "statistics_to_wire",
]

#: Fields of events that are not sent. A digest would confirm a guessed payload.
WITHHELD: Final = frozenset({"payload", "result", "digest"})

_encode: Final = msgspec.json.Encoder().encode
_ALL: Final[tuple[type[Event], ...]] = (*ALL_EVENTS, JobEvent, QueueEvent)
_ON_WIRE: Final = frozenset(WireEvent.__struct_fields__)
_COPIED: Final = {
    type_: tuple(name for name in type_.__struct_fields__ if name in _ON_WIRE and name != "error") for type_ in _ALL
}
_HAS_ERROR: Final = frozenset(type_ for type_ in ALL_EVENTS if "error" in type_.__struct_fields__)
_UNSET: Final[dict[type[Event], dict[str, Any]]] = {
    type_: {name: msgspec.UNSET for name in ("payload", "result") if name in type_.__struct_fields__} for type_ in _ALL
}
_TYPES: Final[dict[str, type[Event]]] = {str(type_.__struct_config__.tag): type_ for type_ in ALL_EVENTS}


# events


def event_to_wire(event: Event, kind: str | None, key: str | None = None) -> WireEvent:
    """`event` as it is sent, with the kind, the key and the state of its job.

    Args:
        event: The event.
        kind, key: Of its job. None once the job is pruned; a submit has its own.
    """
    type_ = type(event)
    fields: dict[str, Any] = {name: getattr(event, name) for name in _COPIED[type_]}
    fields["type"] = type_.__struct_config__.tag
    if isinstance(event, JobEvent):
        fields["state"] = STATE_AFTER.get(type_)
        if not isinstance(event, ev.Submitted):
            fields["kind"], fields["key"] = kind, key
        if type_ in _HAS_ERROR:
            fields["error"] = error_to_wire(event.error)  # type: ignore[attr-defined] # looked up by class
    return WireEvent(**fields)


def event_from_wire(sent: WireEvent) -> Event:
    """The event that was sent; a plain `JobEvent` or `QueueEvent` for a type that this version does not know."""
    type_ = _TYPES.get(sent.type, QueueEvent if sent.job is None else JobEvent)
    fields: dict[str, Any] = {name: getattr(sent, name) for name in _COPIED[type_]}
    if type_ in _HAS_ERROR:
        fields["error"] = _error_from_wire(sent.error)
    return type_(**fields, **_UNSET[type_])


def progress_to_wire(subscription: str, progress: Progress) -> w.ProgressParams:
    return w.ProgressParams(subscription, progress.job_id, progress.done, progress.total, progress.message)


def progress_from_wire(sent: w.ProgressParams) -> Progress:
    return Progress(sent.job, sent.done, sent.total, sent.message)


# jobs


def error_to_wire(error: ErrorInfo | None, *, traceback: bool = False) -> WireError | None:
    """traceback: with the traceback."""
    if error is None:
        return None
    return WireError(error.type, error.message, error.code, error.traceback if traceback else None)


def _error_from_wire(sent: WireError | None) -> ErrorInfo | None:
    return None if sent is None else ErrorInfo(sent.type, sent.message, sent.code, sent.traceback)


def job_to_wire(job: Job, *, history: bool = False) -> WireJob:
    """history: with the payload, with tracebacks, and with the attempts, at most `MAX_HISTORY_BYTES` of the newest."""
    attempts = None
    if history:
        attempts = _history(job.attempts or ())
    return WireJob(
        id=job.id,
        kind=job.kind,
        state=job.state,
        seq=job.seq,
        submitted_at=job.submitted_at.timestamp(),
        changed_at=job.changed_at.timestamp(),
        key=job.key,
        due_at=_seconds(job.due_at),
        deadline_at=_seconds(job.deadline_at),
        by=job.by,
        labels=job.labels or None,
        claimed_by=job.claimed_by,
        claimed_until=_seconds(job.claimed_until),
        run=job.run,
        attempts=job.attempt_count,
        retries_used=job.retries_used,
        snoozes=job.snoozes,
        cancel_requested=job.cancel_requested,
        may_have_acted=job.may_have_acted,
        inside=job.inside,
        reason=job.reason,
        error=error_to_wire(job.error, traceback=history),
        actions=tuple(action_to_wire(action) for action in job.actions) or None,
        position=job.position,
        expected_wait=job.expected_wait,
        result_problem=job.result_problem,
        history=attempts,
        payload=msgspec.Raw(job.payload) if history and job.payload is not None else msgspec.UNSET,
        earlier_payloads=_earlier(job.earlier_payloads) if history else None,
    )


def _earlier(payloads: dict[int, bytes] | None) -> dict[str, msgspec.Raw] | None:
    """The newest payloads that together have at most `MAX_HISTORY_BYTES`, the oldest first; None without any."""
    sent: dict[str, msgspec.Raw] = {}
    size = 0
    for run, payload in reversed((payloads or {}).items()):
        size += len(payload)
        if size > MAX_HISTORY_BYTES:
            break
        sent[str(run)] = msgspec.Raw(payload)
    return dict(reversed(sent.items())) or None


def _history(attempts: Sequence[Attempt]) -> list[WireAttempt]:
    """The newest attempts that together have at most `MAX_HISTORY_BYTES`, and at least one, oldest first."""
    history: list[WireAttempt] = []
    size = 0
    for attempt in reversed(attempts):
        sent = WireAttempt(
            number=attempt.number,
            run=attempt.run,
            started_at=attempt.started_at.timestamp(),
            ended_at=_seconds(attempt.ended_at),
            outcome=attempt.outcome,
            ended_by=attempt.ended_by,
            error=error_to_wire(attempt.error, traceback=True),
            entered=attempt.entered,
            late=attempt.late,
            overdue=attempt.overdue,
        )
        size += len(_encode(sent))
        if size > MAX_HISTORY_BYTES and history:
            break
        history.append(sent)
    return history[::-1]


def job_from_wire(sent: WireJob) -> Job:
    """The job that was sent."""
    attempts = None
    if sent.history is not None:
        attempts = tuple(
            Attempt(
                number=attempt.number,
                run=attempt.run,
                started_at=moment(attempt.started_at),
                ended_at=to_datetime(attempt.ended_at),
                outcome=attempt.outcome,
                ended_by=attempt.ended_by,
                error=_error_from_wire(attempt.error),
                entered=attempt.entered,
                late=attempt.late,
                overdue=attempt.overdue,
            )
            for attempt in sent.history
        )
    return Job(
        id=sent.id,
        kind=sent.kind,
        state=sent.state,
        seq=sent.seq,
        key=sent.key,
        payload=None if sent.payload is msgspec.UNSET else bytes(sent.payload),
        submitted_at=moment(sent.submitted_at),
        changed_at=moment(sent.changed_at),
        due_at=to_datetime(sent.due_at),
        deadline_at=to_datetime(sent.deadline_at),
        by=sent.by,
        labels=sent.labels or {},
        claimed_by=sent.claimed_by,
        claimed_until=to_datetime(sent.claimed_until),
        run=sent.run,
        retries_used=sent.retries_used,
        snoozes=sent.snoozes,
        cancel_requested=sent.cancel_requested,
        may_have_acted=sent.may_have_acted,
        inside=sent.inside,
        steps=None,
        open_step=None,
        attempt_count=sent.attempts,
        attempts=attempts,
        earlier_payloads=None
        if sent.earlier_payloads is None
        else {int(run): bytes(payload) for run, payload in sent.earlier_payloads.items()},
        result=None,
        result_problem=sent.result_problem,
        reason=sent.reason,
        error=_error_from_wire(sent.error),
        actions=tuple(map(action_from_wire, sent.actions or ())),
        position=sent.position,
        expected_wait=sent.expected_wait,
    )


def action_to_wire(action: OperatorAction) -> WireAction:
    return WireAction(
        action=action.action,
        seq=action.seq,
        at=action.at.timestamp(),
        by=action.by,
        note=action.note,
        detail=action.detail,
        job=action.job,
        kind=action.kind,
        key=action.key,
    )


def action_from_wire(sent: WireAction) -> OperatorAction:
    return OperatorAction(
        sent.action, sent.seq, moment(sent.at), sent.by, sent.note, sent.detail, sent.job, sent.kind, sent.key
    )


def _seconds(at: datetime | None) -> float | None:
    return None if at is None else at.timestamp()


# the queue


def statistics_to_wire(
    statistics: Statistics, health: Health, *, connections: int, subscriptions: int, refusals: dict[str, int]
) -> w.StatisticsResult:
    return w.StatisticsResult(
        jobs={str(state): count for state, count in statistics.jobs.items()},
        capacity=statistics.capacity,
        free=statistics.free,
        waiting_callers=statistics.waiting_callers,
        waiting_jobs=statistics.waiting_jobs,
        session=statistics.session,
        sdk_busy=statistics.sdk_busy,
        seq=statistics.seq,
        ok=health.ok,
        problems=[*health.problems],
        connections=connections,
        subscriptions=subscriptions,
        refusals=refusals,
        mean_run=statistics.mean_run,
    )


def statistics_from_wire(sent: w.StatisticsResult) -> Statistics:
    return Statistics(
        jobs={State(state): count for state, count in sent.jobs.items()},
        capacity=sent.capacity,
        free=sent.free,
        waiting_callers=sent.waiting_callers,
        waiting_jobs=sent.waiting_jobs,
        session=sent.session,
        sdk_busy=sent.sdk_busy,
        seq=sent.seq,
        mean_run=sent.mean_run,
        connections=sent.connections,
        subscriptions=sent.subscriptions,
        refusals=sent.refusals,
    )


def server_info_from_wire(sent: w.HelloResult) -> ServerInfo:
    return ServerInfo(sent.protocol, sent.epoch, sent.seq, sent.oldest, sent.scope, sent.name)


def backup_to_wire(backup: Backup) -> w.BackupResult:
    return w.BackupResult(backup.path, backup.seq, backup.events, backup.size)


def backup_from_wire(sent: w.BackupResult) -> Backup:
    return Backup(sent.path, sent.seq, sent.events, sent.size)
