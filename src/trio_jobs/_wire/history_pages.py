"""Pages of the history of a job, encoded."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import msgspec
from msgspec import Raw, Struct

from trio_jobs._engine.job_history import JobHistory
from trio_jobs._engine.jobs import Job
from trio_jobs._wire.codes import MAX_PAGE_BYTES
from trio_jobs._wire.conversion import event_to_wire
from trio_jobs._wire.histories import HistoryEvent
from trio_jobs._wire.schemas import WireEvent

__all__ = ["HistoryOut", "history_page"]

_encode: Final = msgspec.json.Encoder().encode


class HistoryOut(Struct, frozen=True):
    """`HistoryResult` with encoded events."""

    job: str
    events: list[Raw]
    more: bool
    complete: bool


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
