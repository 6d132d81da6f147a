"""Submits that wait for their commit, with a store that commits later.

Many callers may wait at once. One of them, the leader, awaits the store within a cancel scope that ends after
`commit_timeout`. The others sleep until their submit is committed or rejected, or until they are the next leader. A
cancel scope for each caller would take about a tenth of the time of a job.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import attrs
import trio

from trio_jobs._engine import events as ev
from trio_jobs._engine.jobs import JobRecord, Receipt
from trio_jobs._errors import OutcomeUnknown, StoreError
from trio_jobs._ports import Store
from trio_jobs._runtime.commit_waiter import CommitWaiter
from trio_jobs._runtime.submission import Submission

__all__ = ["PendingSubmit", "PendingSubmits"]


@attrs.define(eq=False)
class PendingSubmit:
    """A submit whose event was appended and is not known to be committed."""

    submission: Submission
    seq: int
    in_channel: JobRecord | None = None
    """The job's record, if it was sent to the channel before its commit."""
    receipt: Receipt | None = None
    """Set when the submit is committed."""
    rejection: StoreError | None = None
    """Set when the store rejects the submit."""
    waiter: trio.lowlevel.Task | None = None
    """The task of the caller, while it sleeps."""

    @property
    def is_settled(self) -> bool:
        return self.receipt is not None or self.rejection is not None

    def wake(self) -> None:
        waiter, self.waiter = self.waiter, None
        if waiter is not None:
            trio.lowlevel.reschedule(waiter)


class PendingSubmits:
    """The pending submits by job, and their sleeping callers."""

    def __init__(self, store: Store, commits: CommitWaiter) -> None:
        self._store = store
        self._commits = commits
        self._by_job: dict[str, PendingSubmit] = {}
        self._leader: PendingSubmit | None = None
        """The submit whose caller awaits the store."""
        self._sleepers: deque[PendingSubmit] = deque()
        """Submits whose callers sleep, in the order of their calls. Some may be settled already."""

    def __len__(self) -> int:
        return len(self._by_job)

    def add(self, events: Sequence[ev.Submitted], pending: Sequence[PendingSubmit]) -> None:
        self._by_job.update((event.job, one) for event, one in zip(events, pending, strict=True))

    def pop(self, job_id: str) -> PendingSubmit:
        return self._by_job.pop(job_id)

    def discard(self, job_id: str) -> None:
        """Forget the submit of this job, whose event could not be appended."""
        self._by_job.pop(job_id, None)

    def reject(self, job_id: str) -> PendingSubmit:
        """Set the rejection of the submit of this job, and wake its caller."""
        one = self._by_job.pop(job_id)
        one.rejection = StoreError(self._store.trouble or "the store did not accept it")
        one.wake()
        return one

    async def receipts(self, pending: Sequence[PendingSubmit]) -> list[Receipt]:
        """Wait until these submits of one caller are committed.

        Raises:
            StoreError: They were rejected.
            OutcomeUnknown: The store did not acknowledge them within `commit_timeout`.

        Cancelled:
            Never; a cancellation is raised at the caller's next checkpoint.
        """
        if pending:
            await self._settled(pending[-1])
        return [one.receipt for one in pending if one.receipt is not None]

    @trio.lowlevel.enable_ki_protection
    async def _settled(self, one: PendingSubmit) -> None:
        began = trio.current_time()
        if one.is_settled:
            await trio.lowlevel.cancel_shielded_checkpoint()
        elif self._leader is None:
            self._leader = one
        else:
            one.waiter = trio.lowlevel.current_task()
            self._sleepers.append(one)
            await trio.lowlevel.wait_task_rescheduled(_not_cancelled)
        if self._leader is one:
            try:
                if not one.is_settled:  # it may be settled since it became the leader
                    await self._commits.within_timeout(self._store.committed, one.seq, began)
            finally:
                self._appoint_next_leader()
        if one.rejection is not None:
            raise one.rejection
        if one.receipt is None:  # the submit is committed, and a reaction to that has raised: the queue is broken
            trouble = self._store.trouble or "a part of the queue has failed"
            raise OutcomeUnknown(f"{trouble}: the job may or may not be accepted; submit it again with the same key")

    def _appoint_next_leader(self) -> None:
        """Make the caller that has waited longest the leader, since its timeout ends first."""
        sleepers = self._sleepers
        while sleepers and sleepers[0].waiter is None:
            sleepers.popleft()
        self._leader = sleepers.popleft() if sleepers else None
        if self._leader is not None:
            self._leader.wake()


def _not_cancelled(_: object) -> trio.lowlevel.Abort:
    """Do not end the wait on a cancellation, which is raised at the caller's next checkpoint."""
    return trio.lowlevel.Abort.FAILED
