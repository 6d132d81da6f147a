"""Floor 6: what a handler is told about its job, and may ask of it. Safe to use on the SDK's thread."""

from __future__ import annotations

from datetime import datetime

from trio_jobs._attempts import Running
from trio_jobs._jobs import to_datetime

__all__ = ["JobContext"]


class JobContext:
    """One attempt of a job, as its handler and its `verify` see it.

    id, kind, key: the job's. attempt: this attempt's number, from 1, over all runs. run: from 1. deadline: when the job
    expires, UTC, None for never.
    """

    __slots__ = ("_running", "attempt", "id", "key", "kind", "run")

    def __init__(self, running: Running) -> None:
        record = running.record
        self._running = running
        self.id = record.id
        self.kind = record.kind
        self.key = record.key
        self.attempt = len(record.attempts)
        self.run = record.run

    def __repr__(self) -> str:
        return f"<JobContext {self.kind} {self.id} attempt {self.attempt}>"

    @property
    def deadline(self) -> datetime | None:
        return to_datetime(self._running.record.deadline_at)

    @property
    def cancel_requested(self) -> bool:
        """A person asked for cancel, or a limit or the stop wants the attempt to end: a long call may look, and stop
        early."""
        running = self._running
        return running.record.cancel_requested or running.why is not None
