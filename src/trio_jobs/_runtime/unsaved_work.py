"""What the session manager must know of work that only the memory of a session holds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from trio_jobs._call_report import CallReport
from trio_jobs._engine import events as ev
from trio_jobs._ports import Discard
from trio_jobs._sdk_call import SaveCall

__all__ = ["NothingUnsaved", "UnsavedWork"]


class UnsavedWork(Protocol):
    """The work of the open session that is not saved. `Saver` conforms."""

    @property
    def pending(self) -> bool:
        """Whether there is any."""
        ...

    async def save(self) -> None:
        """Save it. Raises and Cancelled: as `Saver.save`."""
        ...

    def session_ends(self, discard: Discard | None) -> None:
        """It is lost, or may be: decide what becomes of its jobs. Called before each close, and when a session is lost.

        Args:
            discard: Why the session is discarded; None if it is not.
        """
        ...

    def session_lost(self) -> None:
        """The session is lost between two calls: the consumer, which may wait for the next save, is to close it."""
        ...

    def can_tell(self, job: str) -> bool:
        """Whether `verify` can be believed about this job in the open session."""
        ...

    def step_call(self) -> SaveCall | None:
        """Return the call that saves what a step has done, within the call that executes it; None without `save`."""
        ...

    async def before_step_save(self) -> None:
        """Return when that call may be made.

        Cancelled:
            It may not be made yet.
        """
        ...

    def step_saved(self, seq: int) -> Sequence[ev.Event]:
        """That call has returned: return the events by which the jobs whose work it has saved too are completed.

        Args:
            seq: The number of the first of these events, which the caller appends at once.
        """
        ...

    def step_not_saved(self, report: CallReport) -> None:
        """That call has raised: decide what becomes of the other jobs whose work it should have saved."""
        ...


class NothingUnsaved:
    """That of a service without `save`: what a handler has done is durable when it returns."""

    pending = False

    async def save(self) -> None:
        """There is nothing to save."""

    def session_ends(self, discard: Discard | None) -> None:
        """Nothing is lost."""

    def session_lost(self) -> None:
        """Nothing is waited for."""

    def can_tell(self, job: str) -> bool:
        """It is part of that declaration that `verify` reports what is durable."""
        return True

    def step_call(self) -> SaveCall | None:
        """The work of a step is durable."""
        return None

    async def before_step_save(self) -> None:
        """Not called."""

    def step_saved(self, seq: int) -> Sequence[ev.Event]:
        """No job waits for a save."""
        return ()

    def step_not_saved(self, report: CallReport) -> None:
        """Not called."""
