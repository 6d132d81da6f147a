"""The journal as a `DurableLog`: with its file lock, its background sync, and SQLite's errors translated."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final, TypeVar

from trio_jobs._engine.events import Event
from trio_jobs._stores.durable_log import LogFailure
from trio_jobs._stores.sqlite.errors import describe
from trio_jobs._stores.sqlite.high_water_mark import BackgroundSync
from trio_jobs._stores.sqlite.journal import Journal
from trio_jobs._stores.sqlite.lock import FileLock
from trio_jobs._stores.sqlite.rows import decode_all

__all__ = ["SqliteLog"]

T = TypeVar("T")


class SqliteLog:
    """Implements `DurableLog`.

    Args:
        journal: Not open. Used by the writer thread alone.
        background: Runs the syncs that `journal` defers.
        lock: Held while the journal is open; None for a journal that no other process can open.
    """

    def __init__(self, journal: Journal, background: BackgroundSync, lock: FileLock | None) -> None:
        self.journal: Final = journal
        self._background = background
        self._lock = lock
        self._is_open = False

    @property
    def name(self) -> str:
        return f"journal {self.journal.path}"

    @property
    def epoch(self) -> str:
        return self.journal.epoch

    @property
    def last_seq(self) -> int:
        return self.journal.last_seq

    @property
    def oldest(self) -> int:
        return self.journal.oldest

    @property
    def deferred_sync_wait(self) -> float | None:
        return self.journal.sync_pace.wait() if self.journal.has_deferred_sync else None

    def open(self) -> Iterable[Event]:
        """Acquire the file lock, then open and verify the journal."""
        if self._lock is not None:
            self._lock.acquire()
        bodies = self.journal.open()
        self._is_open = True
        if self._lock is not None:
            self._lock.note_file()
        return decode_all(bodies)

    def write(self, events: Sequence[Event]) -> None:
        """Commit events in one transaction, with one sync."""
        try:  # not `_translate`, which takes longer than the check of the files
            self.journal.write(events)
        except (sqlite3.Error, OSError, MemoryError) as error:  # an `OSError` comes after the rows were inserted
            raise LogFailure(self.name, describe(error)) from error

    def page(self, after: int, limit: int) -> Sequence[Event]:
        """Read events."""
        return self.journal.page(after, limit)

    def call(self, fn: Callable[[], T]) -> T:
        """Call a function that uses the journal. An error of SQLite in it becomes a `LogFailure`."""
        with self._translate(sqlite3.Error, MemoryError):
            return fn()

    def recover(self, failure: LogFailure) -> None:
        """Read back what is committed; see `Journal.recover`."""
        error = failure.__cause__
        assert error is not None
        with self._translate(sqlite3.Error, OSError, MemoryError):
            self.journal.recover(error)

    def start_deferred_sync(self) -> None:
        """Sync the high-water mark in the background."""
        self.journal.sync_high_water_mark()

    def close(self) -> None:
        """Close the journal, then release the file lock."""
        try:
            self._background.stop()
            self.journal.close()
        finally:
            if self._lock is not None:
                self._lock.release(unused=not self._is_open)

    @contextmanager
    def _translate(self, *errors: type[Exception]) -> Iterator[None]:
        try:
            yield
        except errors as error:
            raise LogFailure(self.name, describe(error)) from error
