"""A journal without files or threads whose process can crash: committed events survive, others are lost."""

from __future__ import annotations

import contextvars
import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence

import trio

from trio_jobs._engine.events import Event, Forgotten, JobEvent
from trio_jobs._engine.key_tombstones import KeyTombstone
from trio_jobs._engine.queue_events import last_of_groups
from trio_jobs._errors import OutcomeUnknown, StoreError

__all__ = ["CrashableStore", "SimulatedStore"]


class CrashableStore:
    """The storage that survives simulated processes.

    Each process opens the store that `store` returns; `crash` ends the process. Events that were appended and not
    committed are then lost, and so is everything that tasks of the dead process still write until they are cancelled.
    """

    def __init__(self) -> None:
        self.epoch = secrets.token_hex(16)
        """The identity of the history."""
        self.events: list[Event] = []
        """The committed events that have not been pruned."""
        self.keys: dict[bytes, KeyTombstone] = {}
        """The tombstones of pruned jobs' keys, by their hash."""
        self.oldest = 1
        """The number from which on the events are complete."""
        self.last_seq = 0
        """The number of the last committed event."""
        self._store: SimulatedStore | None = None

    def __repr__(self) -> str:
        return f"<CrashableStore {len(self.events)} events>"

    def store(self) -> SimulatedStore:
        """Return a store for the next process, not open. The one before must be closed or have crashed."""
        self._store = SimulatedStore(self)
        return self._store

    def crash(self) -> None:
        """Kill the process that has the store open. Can be called from any thread."""
        if self._store is not None:
            self._store.crash()


class SimulatedStore:
    """The `Store` of one process. It commits in groups, in a callback of Trio's loop after the append."""

    durable = True

    def __init__(self, disk: CrashableStore) -> None:
        self._disk = disk
        self._on_commit: Callable[[Sequence[Event]], None] | None = None
        self._appended: list[Event] = []
        self._waits: dict[int, trio.Event] = {}
        self._token: trio.lowlevel.TrioToken | None = None
        self._context = contextvars.copy_context()  # of the queue that opens it
        self._dead = False
        self.on_death: Callable[[], None] = lambda: None
        """Called in Trio's thread after a crash: nothing more will be committed."""

    def __repr__(self) -> str:
        return f"<SimulatedStore {'dead' if self._dead else 'closed' if self._on_commit is None else 'open'}>"

    @property
    def epoch(self) -> str:
        return self._disk.epoch

    @property
    def trouble(self) -> str | None:
        return "the process has died" if self._dead else None

    @property
    def oldest(self) -> int:
        return self._disk.oldest

    @property
    def last_seq(self) -> int:
        return self._disk.last_seq

    def crash(self) -> None:
        """Kill the process, see `CrashableStore.crash`."""
        self._dead = True
        if self._token is not None:
            self._token.run_sync_soon(self._context.run, self._wake_all)

    async def open(
        self,
        on_commit: Callable[[Sequence[Event]], None],
        on_failure: Callable[[], Sequence[Event]] | None = None,
        on_broken: Callable[[StoreError], None] | None = None,
    ) -> Iterable[Event]:
        await trio.lowlevel.checkpoint()
        if self._on_commit is not None:
            raise StoreError("this store is in use by another queue; close that one first")
        self._on_commit = on_commit
        self._token = trio.lowlevel.current_trio_token()
        self._context = contextvars.copy_context()
        retained = last_of_groups(self._disk.events)
        kept = (JobEvent, Forgotten)
        return [event for event in self._disk.events if isinstance(event, kept) or event in retained]

    def append(self, events: Sequence[Event]) -> None:
        if self._dead:
            return
        if self._on_commit is None or self._token is None:
            raise StoreError("this store is closed")
        self._appended.extend(events)
        self._token.run_sync_soon(self._context.run, self._commit, idempotent=True)

    async def committed(self, seq: int) -> None:
        if seq <= self._disk.last_seq and not self._dead:
            return
        if not self._dead:
            await self._waits.setdefault(seq, trio.Event()).wait()
        if self._dead:
            raise OutcomeUnknown("the process has died")

    async def events(self, after: int, limit: int) -> Sequence[Event]:
        await trio.lowlevel.checkpoint()
        if after + 1 < self._disk.oldest:
            raise StoreError(f"event {after + 1} has been pruned; the oldest is {self._disk.oldest}")
        return [event for event in self._disk.events if event.seq > after][:limit]

    async def job_events(self, job: str, first: int, last: int) -> Sequence[Event]:
        await trio.lowlevel.checkpoint()
        events = [event for event in self._disk.events if isinstance(event, JobEvent) and event.job == job]
        return [event for event in events if event.seq <= last]

    def keys(self) -> Iterable[KeyTombstone]:
        return list(self._disk.keys.values())

    async def prune(
        self,
        jobs: Mapping[str, tuple[int, int]],
        keys: Sequence[KeyTombstone] = (),
        stale: Sequence[KeyTombstone] = (),
    ) -> None:
        await trio.lowlevel.checkpoint()
        disk = self._disk
        if self._dead:
            return
        disk.events = [event for event in disk.events if not (isinstance(event, JobEvent) and event.job in jobs)]
        disk.oldest = max([disk.oldest, *(last + 1 for _, last in jobs.values())])
        for key in keys:
            disk.keys[key.name] = key
        for key in stale:
            disk.keys.pop(key.name, None)

    async def forget(self, jobs: Mapping[str, tuple[int, int]], keys: Sequence[KeyTombstone]) -> None:
        await self.prune(jobs, keys)

    async def aclose(self) -> None:
        self._commit()
        self._on_commit = None
        await trio.lowlevel.checkpoint()

    def _commit(self) -> None:
        if self._dead or not self._appended or self._on_commit is None:
            return
        group, self._appended = self._appended, []
        self._disk.events.extend(group)
        self._disk.last_seq = group[-1].seq
        self._on_commit(group)
        for event in group:
            if (wait := self._waits.pop(event.seq, None)) is not None:
                wait.set()

    def _wake_all(self) -> None:
        self.on_death()
        waits, self._waits = self._waits, {}
        for wait in waits.values():
            wait.set()
