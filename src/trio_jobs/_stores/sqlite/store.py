"""The journal: a store in one SQLite file. Committed events survive the process and a power cut.

The shared `DurableStore` does the work in Trio's thread, the shared `WriterThread` commits; this file names the files
and adds what only a journal can do: key tombstones, pruning, backups.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import trio

from trio_jobs import _export
from trio_jobs._backup import Backup
from trio_jobs._engine.events import Event
from trio_jobs._engine.key_tombstones import KeyTombstone
from trio_jobs._errors import StoreError
from trio_jobs._stores.durable_store import STALL_AFTER, DurableStore
from trio_jobs._stores.sqlite.backup import backup
from trio_jobs._stores.sqlite.disk import Disk
from trio_jobs._stores.sqlite.durable_log import SqliteLog
from trio_jobs._stores.sqlite.high_water_mark import BackgroundSync
from trio_jobs._stores.sqlite.job_events import job_events
from trio_jobs._stores.sqlite.journal import Journal
from trio_jobs._stores.sqlite.lock import FileLock
from trio_jobs._stores.sqlite.path import resolve_path
from trio_jobs._stores.sqlite.pruning import prune
from trio_jobs._stores.sqlite.schema import get_secrets, keep_secret

__all__ = ["SqliteStore", "call_in_writer"]


class SqliteStore:
    """A `Store` in an SQLite file; `docs/journal.md` lists the files beside it.

    A store that was closed can be opened again, also by another queue.

    Args:
        path: The journal. A relative path is resolved now. ":memory:" keeps the events in memory; they are committed
            after `append`, as on a disk, and lost with the process.
        allow_data_loss: Open a damaged journal with the events that can be read, under a new epoch. The damaged files
            are renamed, not deleted.
        stall_after: Seconds after which a commit that has not returned is reported as `trouble`.
        disk: For tests.

    Raises:
        InvalidJournalPath: No file can have this path.
    """

    durable = True
    """Committed events survive the process."""

    def __init__(
        self,
        path: str | Path,
        *,
        allow_data_loss: bool = False,
        stall_after: float = STALL_AFTER,
        disk: Disk | None = None,
    ) -> None:
        self.path = ":memory:" if str(path) == ":memory:" else resolve_path(path)
        """The resolved path of the journal, or ":memory:"."""
        self._allow_data_loss = allow_data_loss
        self._disk = Disk() if disk is None else disk
        self._durable = DurableStore(self._make_log, stall_after=stall_after)
        self._activity: str | None = None  # to be written by the next prune
        # a prune must not change what a backup is copying
        self._pruning = trio.Lock()

    def __repr__(self) -> str:
        return f"<SqliteStore {self.path}, {self.last_seq} events>"

    def _make_log(self) -> SqliteLog:
        background = BackgroundSync()
        journal = Journal(
            self.path, self._disk, allow_data_loss=self._allow_data_loss, run_in_background=background.request
        )
        lock = None if self.path == ":memory:" else FileLock(self.path + "-lock", self.path)
        return SqliteLog(journal, background, lock)

    @property
    def epoch(self) -> str:
        """See `Store.epoch`."""
        return self._durable.epoch

    @property
    def last_seq(self) -> int:
        """See `Store.last_seq`."""
        return self._durable.last_seq

    @property
    def oldest(self) -> int:
        """See `Store.oldest`."""
        return self._durable.oldest

    @property
    def trouble(self) -> str | None:
        """See `Store.trouble`."""
        return self._durable.trouble

    async def open(
        self,
        on_commit: Callable[[Sequence[Event]], None],
        on_failure: Callable[[], Sequence[Event]] | None = None,
        on_broken: Callable[[StoreError], None] | None = None,
    ) -> Iterable[Event]:
        """See `Store.open`."""
        return await self._durable.open(on_commit, on_failure, on_broken)

    def append(self, events: Sequence[Event]) -> None:
        """See `Store.append`."""
        self._durable.append(events)

    async def committed(self, seq: int) -> None:
        """See `Store.committed`."""
        await self._durable.committed(seq)

    async def events(self, after: int, limit: int) -> Sequence[Event]:
        """See `Store.events`."""
        log = self._durable.log
        page: Sequence[Event] = await self._durable.read(lambda: log.page(after, limit))
        return page

    async def job_events(self, job: str, first: int, last: int) -> Sequence[Event]:
        """See `Store.job_events`. Waits until a running prune has ended."""
        async with self._pruning:
            return await job_events(self._call, self._durable.log.journal, job, first, last)

    def keys(self) -> Iterable[KeyTombstone]:
        """See `Store.keys`."""
        return self._durable.log.journal.take_tombstones()

    async def prune(
        self,
        jobs: Mapping[str, tuple[int, int]],
        keys: Sequence[KeyTombstone] = (),
        stale: Sequence[KeyTombstone] = (),
    ) -> None:
        """See `Store.prune`. Waits until a running backup has ended."""
        async with self._pruning:
            activity = self._activity if jobs else None
            await prune(self._call, self._durable.log.journal, jobs, keys, stale, activity)
            if activity is self._activity:
                self._activity = None

    async def forget(self, jobs: Mapping[str, tuple[int, int]], keys: Sequence[KeyTombstone]) -> None:
        """See `Store.forget`. A prune removes the events from the stream in any case."""
        await self.prune(jobs, keys)

    async def backup(self, to: str) -> Backup:
        """See `BacksUp.backup`. Waits until a running prune has ended."""
        async with self._pruning:
            return await backup(self._call, self._durable.log.journal, self._disk, to)

    def activity(self) -> str | None:
        """See `KeepsActivity.activity`."""
        return self._durable.log.journal.activity

    def keep_activity(self, actions: str) -> None:
        """See `KeepsActivity.keep_activity`."""
        self._activity = actions

    async def secrets(self) -> Mapping[str, str]:
        """See `KeepsSecrets.secrets`."""
        journal = self._durable.log.journal
        secrets: dict[str, str] = await self._call(lambda: get_secrets(journal.connection, journal.path))
        return secrets

    async def keep_secret(self, name: str, value: str) -> None:
        """See `KeepsSecrets.keep_secret`. Waits until a running backup has ended."""
        journal = self._durable.log.journal
        async with self._pruning:
            await self._call(lambda: keep_secret(journal.connection, name, value))

    async def aclose(self) -> None:
        """See `Store.aclose`."""
        await self._durable.aclose()

    async def _call(self, fn: Callable[[], Any]) -> Any:
        log = self._durable.log
        return await self._durable.read(lambda: log.call(fn))


async def call_in_writer(store: SqliteStore, fn: Callable[[], Any]) -> Any:
    """Call a function that uses the files, in the writer thread between two groups: for the test kit."""
    return await store._call(fn)


# here, since a service with a journal imports this module, and no public name of it need be used
_export.export("trio_jobs", ["SqliteStore"], globals())
