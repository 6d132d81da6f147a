"""The port between the shared half of a durable store and a database.

An implementation translates the errors of its database, so the shared half imports no database module.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

from trio_jobs._engine.events import Event

__all__ = ["DurableLog", "LogFailure"]


class LogFailure(Exception):
    """A call to a `DurableLog` failed, and it is unknown whether it took effect. `DurableLog.recover` finds out.

    `__cause__` is the error of the database.
    """

    def __init__(self, name: str, reason: str) -> None:
        self.reason = reason
        """What failed, without the name of the log."""
        super().__init__(f"{name}: {reason}")


class DurableLog(Protocol):
    """A log of events in a database. All methods are called in the writer thread.

    `LogFailure` means that `recover` must be called before the log is used again. A `StoreError` from any method but
    `page` means that the log cannot be used any more.
    """

    @property
    def name(self) -> str:
        """What messages call the log, such as "journal /srv/jobs.db"."""
        ...

    @property
    def epoch(self) -> str:
        """See `Store.epoch`. Valid after `open`."""
        ...

    @property
    def last_seq(self) -> int:
        """`seq` of the last committed event, 0 before the first. Valid after `open`."""
        ...

    @property
    def oldest(self) -> int:
        """See `Store.oldest`."""
        ...

    @property
    def deferred_sync_wait(self) -> float | None:
        """The seconds without a group after which to call `start_deferred_sync`; None if nothing is to be synced.

        No commit depends on this sync. In a journal it is that of the high-water mark.
        """
        ...

    def open(self) -> Iterable[Event]:
        """Acquire the log and return its events in the order of `seq`. Decoding may happen in another thread, later.

        Raises:
            StoreError: The log cannot be opened. `close` must still be called.
        """
        ...

    def write(self, events: Sequence[Event]) -> None:
        """Commit events in one transaction.

        Raises:
            LogFailure: The transaction may be committed or not; after `recover`, `last_seq` says which.
            StoreError: The log cannot be used any more.
        """
        ...

    def page(self, after: int, limit: int) -> Sequence[Event]:
        """Return at most `limit` committed events with `seq` above `after`.

        Raises:
            StoreError: The events cannot be read. The log can still be used.
        """
        ...

    def recover(self, failure: LogFailure) -> None:
        """Find out what is committed and make the log usable again.

        Raises:
            LogFailure: The attempt failed; another one may succeed.
            StoreError: The log cannot be used any more.
        """
        ...

    def start_deferred_sync(self) -> None:
        """Sync in the background what `deferred_sync_wait` is about."""
        ...

    def close(self) -> None:
        """Release everything, also after a failed `open`. Closing twice is harmless."""
        ...
