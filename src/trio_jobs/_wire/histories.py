"""The parameters and results of the methods that return what has happened, and what operators did."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Final

import msgspec
from msgspec import Meta, Raw, Struct

from trio_jobs._engine.job_history import JobHistory
from trio_jobs._engine.jobs import Job
from trio_jobs._wire.codes import MAX_PAGE_BYTES
from trio_jobs._wire.conversion import event_to_wire
from trio_jobs._wire.params import Note, Params
from trio_jobs._wire.schemas import OneJobId, Seq, WireAction, WireEvent

__all__ = [
    "Activity",
    "ActivityResult",
    "Forget",
    "ForgetResult",
    "History",
    "HistoryEvent",
    "HistoryOut",
    "HistoryResult",
    "history_page",
]

_encode: Final = msgspec.json.Encoder().encode


class History(Params, frozen=True):
    """job: the id of the job, or at least its last 6 characters. after: only events after this one."""

    job: OneJobId
    after: Seq = 0
    limit: Annotated[int, Meta(ge=1, le=500)] = 200


class HistoryEvent(WireEvent, frozen=True, omit_defaults=True, kw_only=True):
    """An event of a job. run: the number of the run to which it belongs. payload: of an event that has one; sent to a
    token of scope operate or control only."""

    run: int
    payload: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


class HistoryResult(Struct, frozen=True):
    """events: in order. A page has fewer than `limit` where they would exceed 256 KiB. more: there are further ones,
    after the last of these. complete: the history begins with the submit; false if the first events are not kept."""

    job: str
    events: list[HistoryEvent]
    more: bool
    complete: bool


class HistoryOut(Struct, frozen=True):
    """`HistoryResult` with encoded events."""

    job: str
    events: list[Raw]
    more: bool
    complete: bool


class Forget(Params, frozen=True):
    """job: the id of the job, or at least its last 6 characters. note: why; recorded."""

    job: OneJobId
    note: Note = None


class ForgetResult(Struct, frozen=True):
    """job: its whole id. seq: the last event."""

    job: str
    seq: int


class Activity(Params, frozen=True):
    """What operators did, the newest first. before: only what was done before this event. by: by this operator."""

    before: Seq | None = None
    limit: Annotated[int, Meta(ge=1, le=500)] = 100
    by: Annotated[str, Meta(min_length=1, max_length=200)] | None = None


class ActivityResult(Struct, frozen=True):
    """seq: the last event. actions: the newest first. more: there may be older ones, before the last of these."""

    seq: int
    actions: list[WireAction]
    more: bool


def history_page(
    history: JobHistory, job: Job, after: int, limit: int, limited: Callable[[HistoryEvent], HistoryEvent]
) -> HistoryOut:
    """A page of a history.

    Args:
        history: The history.
        job: The job.
        after: Only events after this one.
        limit: The number of events at most.
        limited: Returns what is sent of an event; see `field_scopes.limit_to`.
    """
    events: list[Raw] = []
    size = 0
    for run in history.runs:
        for event in run.events:
            if event.seq <= after:
                continue
            sent = event_to_wire(event, job.kind, job.key)
            fields = {name: getattr(sent, name) for name in WireEvent.__struct_fields__}
            payload = getattr(event, "payload", msgspec.UNSET)
            body = _encode(limited(HistoryEvent(**fields, run=run.number, payload=payload)))
            if len(events) == limit or (events and size + len(body) > MAX_PAGE_BYTES):
                return HistoryOut(history.job_id, events, True, history.complete)
            events.append(Raw(body))
            size += len(body) + 1  # with the comma
    return HistoryOut(history.job_id, events, False, history.complete)
