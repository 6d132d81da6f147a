"""Waits for a commit, limited by `commit_timeout`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import trio

from trio_jobs._errors import OutcomeUnknown
from trio_jobs._runtime.event_log import EventLog

__all__ = ["CommitWaiter", "not_acknowledged"]


class CommitWaiter:
    """Waits are shielded, since an appended event is committed whether or not its caller is cancelled."""

    def __init__(self, event_log: EventLog, commit_timeout: float) -> None:
        self.timeout = commit_timeout
        """The limit, in seconds."""
        self._event_log = event_log

    async def everything(self) -> None:
        """Return when all events appended so far are committed.

        Raises:
            OutcomeUnknown: The store did not acknowledge them within `commit_timeout`.

        Cancelled:
            Never; a cancellation is raised at the caller's next checkpoint.
        """
        if self._event_log.durable:
            await self.within_timeout(self._event_log.committed, self._event_log.projection.seq)
        else:
            await trio.lowlevel.cancel_shielded_checkpoint()

    async def first_event(self, job_id: str) -> None:
        """Return when the submit of this job, also if another caller made it, is committed.

        Raises and Cancelled: as `everything`.
        """
        event_log = self._event_log
        record = event_log.projection.jobs.get(job_id)
        if record is not None and record.submitted_seq > event_log.committed_seq:
            await self.within_timeout(event_log.store.committed, record.submitted_seq)
        else:
            await trio.lowlevel.cancel_shielded_checkpoint()

    async def within_timeout(self, wait: Callable[[int], Awaitable[None]], seq: int) -> None:
        """Await `wait(seq)`, shielded.

        Args:
            wait: Returns when the event is committed.
            seq: Number of the event.

        Raises:
            OutcomeUnknown: It did not return within `commit_timeout`.
        """
        with trio.CancelScope(deadline=trio.current_time() + self.timeout, shield=True) as scope:
            await wait(seq)
        if scope.cancelled_caught:
            raise not_acknowledged(self.timeout)


def not_acknowledged(timeout: float) -> OutcomeUnknown:
    """The error of a change that the store did not acknowledge within `timeout` seconds."""
    return OutcomeUnknown(
        f"the store did not acknowledge the change within {timeout:g} s, so it may or may not be done; "
        "read the state again"
    )
