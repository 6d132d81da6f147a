"""The methods of `Client` that return what has happened, and what operators did."""

from __future__ import annotations

import msgspec

from trio_jobs._client.client_operations import ClientOperations
from trio_jobs._engine.events import Event
from trio_jobs._engine.job_history import JobHistory, JobRun
from trio_jobs._engine.operator_actions import OperatorAction
from trio_jobs._validation import check_note
from trio_jobs._wire import conversion
from trio_jobs._wire.histories import (
    Activity,
    ActivityResult,
    Forget,
    ForgetResult,
    History,
    HistoryEvent,
    HistoryResult,
)

__all__ = ["ClientHistories"]


class ClientHistories(ClientOperations):
    """A base class of `Client`, which is too long for one module."""

    async def forget(self, job_id: str, *, note: str | None = None) -> None:
        """Remove the data of a final job now; see `Queue.forget`. It needs a token of scope `control`.

        Args:
            job_id: The id of the job.
            note: Why, at most 1,000 characters; recorded.

        Raises:
            JobNotFound: There is no job with that id.
            InvalidState: The job is not final.
            StoreError: The job is forgotten, and its data is not removed yet. That is tried again.

        Cancelled:
            The job may have been forgotten.
        """
        await self._call("jobs.forget", Forget(job_id, check_note(note)), ForgetResult)

    async def history(self, job_id: str) -> JobHistory:
        """What has happened to a job; see `Queue.history`.

        With a token of scope `watch` its events lack payloads, notes and the names of people.

        Raises:
            JobNotFound: There is no job with that id, or it was pruned meanwhile.

        Cancelled:
            Nothing has changed.
        """
        runs: dict[int, list[Event]] = {}
        after, more, complete = 0, True, True
        while more:
            page = await self._call("jobs.history", History(job_id, after), HistoryResult, bounded=False)
            job_id, more, complete = page.job, page.more, complete and page.complete
            for sent in page.events:
                runs.setdefault(sent.run, []).append(_event(sent))
                after = sent.seq
        return JobHistory(job_id, tuple(JobRun(run, tuple(events)) for run, events in runs.items()), complete)

    async def activity(
        self, *, before: int | None = None, limit: int = 100, by: str | None = None
    ) -> tuple[OperatorAction, ...]:
        """What operators did, the newest first; see `Queue.activity`. It needs a token of scope `operate`.

        Args:
            before: As of `Queue.activity`.
            limit: 1 to 500.
            by: As of `Queue.activity`.

        Cancelled:
            Nothing has changed.
        """
        page = await self._call("queue.activity", Activity(before, limit, by), ActivityResult)
        return tuple(map(conversion.action_from_wire, page.actions))


def _event(sent: HistoryEvent) -> Event:
    event = conversion.event_from_wire(sent)
    return event if sent.payload is msgspec.UNSET else msgspec.structs.replace(event, payload=sent.payload)
