"""Forgetting a job: its data is removed now, and not when its retention has passed.

The hard part is a crash in between. The event `Forgotten` is committed first: it is the decision, and a start that
finds it with the events of the job removes these again. Then the store removes them. Until it has, nothing else is
pruned, since that could remove the decision and leave what it is about.
"""

from __future__ import annotations

from typing import Final

import trio

from trio_jobs._engine import events as ev
from trio_jobs._engine.jobs import FINAL, JobRecord
from trio_jobs._errors import InvalidState, StoreError
from trio_jobs._log import Log
from trio_jobs._ports import Clock
from trio_jobs._runtime.activity_keeper import ActivityKeeper
from trio_jobs._runtime.attempt import AttemptSlot
from trio_jobs._runtime.commit_waiter import CommitWaiter
from trio_jobs._runtime.event_log import EventLog
from trio_jobs._runtime.feed import Feed
from trio_jobs._runtime.verify_requests import VerifyRequests
from trio_jobs._validation import check_by, check_note

__all__ = ["Erasure"]

log: Final = Log("trio_jobs.queue")


class Erasure:
    """Removes the data of jobs at the request of an operator. The method is documented in `Queue`."""

    def __init__(
        self,
        *,
        event_log: EventLog,
        clock: Clock,
        slot: AttemptSlot,
        commits: CommitWaiter,
        feed: Feed,
        activity: ActivityKeeper,
        requests: VerifyRequests,
    ) -> None:
        self._requests = requests
        self._activity = activity
        self._event_log = event_log
        self._projection = event_log.projection
        self._clock = clock
        self._slot = slot
        self._commits = commits
        self._feed = feed

    async def forget(self, job_id: str, *, by: str | None, note: str | None) -> None:
        by, note = check_by(by), check_note(note)
        job_id = self._event_log.committed_job(job_id).id
        record = self._projection.get(job_id)
        while record.last_seq > self._event_log.committed_seq:  # its end could be retracted
            await self._event_log.committed(record.last_seq, record)
            record = self._projection.get(job_id)
        self._decide(record, by, note)
        await self._commits.everything()
        with trio.CancelScope(shield=True):
            await self.remove()

    @trio.lowlevel.enable_ki_protection
    def _decide(self, record: JobRecord, by: str | None, note: str | None) -> None:
        if record.state not in FINAL:
            raise InvalidState(record.id, record.state, "only a completed, failed or cancelled job can be forgotten")
        if self._slot.attempt_of(record) is not None:
            raise InvalidState(record.id, record.state, "its call is still inside the SDK; wait for it to return")
        self._requests.drop(record)
        seq, now = self._event_log.next_seq, self._clock.now()
        self._event_log.append((ev.Forgotten(seq=seq, at=now, jobs=(record.id,), by=by, note=note),))

    async def remove(self) -> None:
        """Remove the data of the forgotten jobs from the store and the stream.

        Raises:
            StoreError: Some is still there. The next prune, and the next start, try again.

        Cancelled:
            As with StoreError.
        """
        forgotten = dict(self._projection.forgotten)
        if not forgotten:
            return
        tombstones = [one.tombstone for one in forgotten.values() if one.tombstone is not None]
        try:
            self._activity.keep()  # without the notes
            await self._event_log.store.forget(
                {job: (one.first, one.last) for job, one in forgotten.items()}, tombstones
            )
        except StoreError as error:
            log.error("the data of %d forgotten jobs is not removed yet: %s", len(forgotten), error)
            raise
        for job in forgotten:
            self._projection.forgotten.pop(job, None)
        self._feed.forget(max(one.last for one in forgotten.values()))
