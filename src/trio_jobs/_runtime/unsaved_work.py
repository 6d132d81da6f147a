"""What the session manager must know of work that only the memory of a session holds."""

from __future__ import annotations

from typing import Protocol

from trio_jobs._ports import Discard

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
