"""The wait of the consumer for the commit of a start, before it calls the handler.

A cancel scope, in which it could await the store, takes as long as some percent of a job in a journal. So the consumer
sleeps, and is woken by the commit, or by the stop of the queue.
"""

from __future__ import annotations

import trio

from trio_jobs._engine import events as ev
from trio_jobs._engine.jobs import JobRecord
from trio_jobs._errors import OutcomeUnknown, StoreError
from trio_jobs._runtime.event_log import EventLog

__all__ = ["StartCommit"]


class StartCommit:
    """Waits for one start at a time."""

    def __init__(self, event_log: EventLog) -> None:
        self._event_log = event_log
        self._task: trio.lowlevel.Task | None = None
        self._seq = 0
        self._job = ""
        self._broken: StoreError | None = None

    async def wait(self, record: JobRecord) -> bool:
        """Return when the last event of this job, its start, is committed, or was rejected with its submit.

        Also returns after `cancel`.

        Returns:
            Whether it has slept, which is a checkpoint.

        Raises:
            OutcomeUnknown: The store has failed permanently.

        Cancelled:
            The start is, or will be, committed.
        """
        seq = record.last_seq
        sleeps = self._event_log.committed_seq < seq and self._broken is None
        if sleeps:
            self._seq, self._job = seq, record.id
            self._task = trio.lowlevel.current_task()
            await trio.lowlevel.wait_task_rescheduled(self._abort)
        if self._broken is not None and self._event_log.committed_seq < seq:
            raise OutcomeUnknown(f"{self._broken}: the start of job {record.id} may or may not be in the store")
        return sleeps

    def cancel(self) -> None:
        """End the wait. Does nothing if there is none."""
        task, self._task = self._task, None
        if task is not None:
            trio.lowlevel.reschedule(task)

    def on_committed(self, event: ev.Started) -> None:
        """A start is committed."""
        if event.seq == self._seq:
            self.cancel()

    def on_rejected(self, submit: ev.Submitted) -> None:
        """The store has rejected a submit."""
        if submit.job == self._job:
            self.cancel()

    def on_broken(self, error: StoreError) -> None:
        """Nothing can be committed any more."""
        self._broken = error
        self.cancel()

    def _abort(self, _: object) -> trio.lowlevel.Abort:
        self._task = None
        return trio.lowlevel.Abort.SUCCEEDED
