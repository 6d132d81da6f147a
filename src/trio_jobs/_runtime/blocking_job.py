"""In strict order: the job that blocks all others until it is final."""

from __future__ import annotations

import trio

from trio_jobs._engine.jobs import JobRecord

__all__ = ["BlockingJob"]


class BlockingJob:
    """The first job of a queue in strict order, from the moment it leaves the channel until it is final.

    The consumer processes it and waits between its attempts; other parts notify the consumer when the job has changed
    meanwhile.
    """

    def __init__(self) -> None:
        self.record: JobRecord | None = None
        self._changed = trio.Event()

    def __repr__(self) -> str:
        return f"<BlockingJob {'none' if self.record is None else self.record.id}>"

    def notify(self, record: JobRecord) -> None:
        """Notify the consumer that the job has changed, if it is the blocking job."""
        if self.record is record:
            self._changed.set()

    def expect_change(self) -> None:
        """Ignore earlier changes: the next wait ends at the first change after this call."""
        self._changed = trio.Event()

    async def changed(self) -> None:
        """Return when the job has changed since `expect_change`.

        Cancelled:
            Nothing has changed.
        """
        await self._changed.wait()

    async def changed_within(self, seconds: float) -> bool:
        """Wait for a change, at most so many seconds. False: there was none."""
        with trio.move_on_after(max(seconds, 0.0)) as scope:
            await self._changed.wait()
        return not scope.cancelled_caught
