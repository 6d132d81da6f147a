"""Submits that wait for their commit, with a store that commits later.

Their callers sleep until the submit is committed or rejected, or the store has failed. One task ends the wait of each
caller after `commit_timeout`: a cancel scope for each would take as long as a twentieth of a job in a journal. The task
sleeps until the wait of the caller that was the first when it fell asleep is over, so it runs once in that time.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import msgspec
import trio

from trio_jobs._engine import events as ev
from trio_jobs._engine.jobs import JobRecord, Receipt
from trio_jobs._errors import OutcomeUnknown, StoreError
from trio_jobs._ports import Store
from trio_jobs._runtime.commit_waiter import not_acknowledged
from trio_jobs._runtime.submission import Submission

__all__ = ["PendingSubmit", "PendingSubmits"]


class PendingSubmit(msgspec.Struct, eq=False):
    """A submit whose event was appended and is not known to be committed."""

    submission: Submission
    in_channel: JobRecord | None = None
    """The job's record, if it was sent to the channel before its commit."""
    receipt: Receipt | None = None
    """Set when the submit is committed."""
    problem: StoreError | OutcomeUnknown | None = None
    """Set when the store rejects the submit, or it is no longer waited for."""
    since: float = 0.0
    """When its caller fell asleep, on Trio's clock."""
    waiter: trio.lowlevel.Task | None = None
    """The task of the caller, while it sleeps."""

    @property
    def is_settled(self) -> bool:
        return self.receipt is not None or self.problem is not None

    def wake(self) -> None:
        waiter, self.waiter = self.waiter, None
        if waiter is not None:
            trio.lowlevel.reschedule(waiter)

    def give_up(self, problem: OutcomeUnknown) -> None:
        """Do not wait any longer. The submit may still be committed."""
        self.problem = problem
        self.wake()


class PendingSubmits:
    """The pending submits by job, and their sleeping callers.

    Args:
        store: The store, for what it reports as its trouble.
        timeout: `commit_timeout`, in seconds.
    """

    def __init__(self, store: Store, timeout: float) -> None:
        self._store = store
        self._timeout = timeout
        self._by_job: dict[str, PendingSubmit] = {}
        self._sleepers: deque[PendingSubmit] = deque()
        """Submits whose callers sleep, in the order of their calls. Some may be settled already."""
        self._fell_asleep = trio.Event()
        self._has_ended = False

    def __len__(self) -> int:
        return len(self._by_job)

    def add(self, event: ev.Submitted, submission: Submission) -> PendingSubmit:
        """Add a submit whose event is about to be appended."""
        one = self._by_job[event.job] = PendingSubmit(submission)
        return one

    def pop(self, job_id: str) -> PendingSubmit:
        return self._by_job.pop(job_id)

    def discard(self, job_id: str) -> None:
        """Forget the submit of this job, whose event could not be appended."""
        self._by_job.pop(job_id, None)

    def reject(self, job_id: str) -> PendingSubmit:
        """Reject the submit of this job, and wake its caller."""
        one = self._by_job.pop(job_id)
        one.problem = StoreError(self._store.trouble or "the store did not accept it")
        one.wake()
        return one

    def end(self) -> None:
        """Wake all callers, now and from now on: no commit will be reported any more."""
        self._has_ended = True
        for one in (*self._by_job.values(), *self._sleepers):
            if not one.is_settled:
                one.give_up(self._unknown())
        self._sleepers.clear()

    async def run(self) -> None:
        """End each wait after `commit_timeout`."""
        while True:
            await self._fell_asleep.wait()
            while self._sleepers:
                first = self._sleepers[0]
                due = first.since + self._timeout
                if first.waiter is None:
                    self._sleepers.popleft()
                elif trio.current_time() < due:
                    await trio.sleep_until(due)
                else:
                    first.give_up(not_acknowledged(self._timeout))
            self._fell_asleep = trio.Event()

    async def receipts(self, pending: Sequence[PendingSubmit]) -> list[Receipt]:
        """As `receipt`, for submits that were appended together, in that order."""
        if pending:
            await self.receipt(pending[-1])
        return [one.receipt for one in pending if one.receipt is not None]

    @trio.lowlevel.enable_ki_protection
    async def receipt(self, one: PendingSubmit) -> Receipt:
        """Wait until a submit is committed.

        Raises:
            StoreError: It was rejected.
            OutcomeUnknown: The store did not acknowledge it within `commit_timeout`.

        Cancelled:
            Never; a cancellation is raised at the caller's next checkpoint.
        """
        if one.is_settled:
            await trio.lowlevel.cancel_shielded_checkpoint()
        elif self._has_ended:
            await trio.lowlevel.cancel_shielded_checkpoint()
            raise self._unknown()
        else:
            sleepers = self._sleepers
            while sleepers and sleepers[0].waiter is None:
                sleepers.popleft()
            one.since = trio.current_time()
            one.waiter = trio.lowlevel.current_task()
            sleepers.append(one)
            if not self._fell_asleep.is_set():
                self._fell_asleep.set()
            await trio.lowlevel.wait_task_rescheduled(_not_cancelled)
        if one.problem is not None:
            raise one.problem
        assert one.receipt is not None
        return one.receipt

    def _unknown(self) -> OutcomeUnknown:
        trouble = self._store.trouble or "a part of the queue has failed"
        return OutcomeUnknown(f"{trouble}: the job may or may not be accepted; submit it again with the same key")


def _not_cancelled(_: object) -> trio.lowlevel.Abort:
    """Do not end the wait on a cancellation, which is raised at the caller's next checkpoint."""
    return trio.lowlevel.Abort.FAILED
