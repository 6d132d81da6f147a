"""What has happened to a job, and what operators did. The methods are documented in `Queue`."""

from __future__ import annotations

from itertools import islice
from typing import Final

from trio_jobs._engine.event_identity import with_identity
from trio_jobs._engine.job_history import JobHistory
from trio_jobs._engine.operator_actions import OperatorAction, view_action
from trio_jobs._errors import UsageError
from trio_jobs._lookup_errors import JobNotFound
from trio_jobs._runtime.event_log import EventLog
from trio_jobs._validation import check_by, check_number

__all__ = ["Histories"]

MAX_PAGE: Final = 1000  #: actions that one call returns


class Histories:
    """Reads the events of one job from the store, and the actions of operators from the projection."""

    def __init__(self, event_log: EventLog) -> None:
        self._event_log = event_log
        self._projection = event_log.projection

    async def of_job(self, job_id: str) -> JobHistory:
        record = self._event_log.committed_job(job_id)
        # the record changes during the read
        job_id, first, last, run = record.id, record.submitted_seq, record.last_seq, record.run
        identity = record.kind, record.key
        found = await self._event_log.store.job_events(job_id, first, last)
        if job_id not in self._projection.jobs:  # pruned meanwhile, maybe before the store was read
            raise JobNotFound(job_id)
        events = [with_identity(event, lambda job: identity) for event in found]
        return JobHistory.from_events(job_id, events, run, complete=bool(events) and events[0].seq == first)

    def activity(self, before: int | None, limit: int, by: str | None) -> tuple[OperatorAction, ...]:
        by = check_by(by)
        if before is not None:
            check_number("before", before, 0)
        if check_number("limit", limit) > MAX_PAGE:
            raise UsageError(f"limit must be at most {MAX_PAGE}, not {limit}")
        actions = self._projection.activity.page(before, self._event_log.committed_seq)
        return tuple(map(view_action, islice((one for one in actions if by is None or one.by == by), limit)))
