"""A store without a file: events are committed when they are appended, and lost with the process."""

from __future__ import annotations

import secrets
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from operator import attrgetter
from typing import Final

import trio

from trio_jobs._engine.events import Event, Forgotten, JobEvent
from trio_jobs._engine.job_history import MAX_EVENTS
from trio_jobs._engine.key_tombstones import KeyTombstone
from trio_jobs._engine.queue_events import last_of_groups
from trio_jobs._errors import StoreError

__all__ = ["MemoryStore"]

CHUNK: Final = 1000  #: events searched in one step of a prune: about 60 us


class MemoryStore:
    """A `Store` in memory.

    It keeps the events of all jobs that were not pruned, in chunks, and the last events of all kinds, as a stream. It
    can be opened again after `aclose`, also by another queue, and then returns what it has kept. To a queue that is the
    same as a restart, so recovery can be tried without a file.

    Args:
        stream: Number of events that `events` can return, at least 1.
        reopens: False for a store that only one queue can ever open. It keeps the stream alone, which saves a quarter
            of the memory of a finished job.
    """

    durable = False
    """Committed events do not survive the process."""
    trouble: str | None = None
    """A store in memory always commits."""

    def __init__(self, *, stream: int = 10_000, reopens: bool = True) -> None:
        self.epoch = secrets.token_hex(16)
        """See `Store.epoch`."""
        self._reopens = reopens
        self._chunk: list[Event] = []
        self._chunks: list[list[Event]] = [self._chunk]
        self._tombstones: dict[bytes, KeyTombstone] = {}
        self._retained: list[Event] = []
        self._stream: deque[Event] = deque(maxlen=stream)
        self._forgotten_seq = 0  # of the last event that was removed from the stream
        self._on_commit: Callable[[Sequence[Event]], None] | None = None
        self._secrets: dict[str, str] = {}
        self._activity: str | None = None

    def __repr__(self) -> str:
        return f"<MemoryStore events {self.oldest} to {self.last_seq}>"

    async def open(
        self,
        on_commit: Callable[[Sequence[Event]], None],
        on_failure: Callable[[], Sequence[Event]] | None = None,
        on_broken: Callable[[StoreError], None] | None = None,
    ) -> Iterable[Event]:
        """See `Store.open`."""
        if self._on_commit is not None:
            raise StoreError("this store is in use by another queue; close that one first")
        if not self._reopens and self.last_seq:
            raise StoreError("this store cannot be opened again; create it with reopens=True")
        self._on_commit = on_commit
        self._begin_chunk()
        events = [event for chunk in self._chunks for event in chunk]
        return sorted(events + self._retained, key=attrgetter("seq"))

    def append(self, events: Sequence[Event]) -> None:
        """See `Store.append`."""
        on_commit = self._on_commit
        if on_commit is None:
            raise StoreError("this store is closed")
        self._stream.extend(events)
        if self._reopens:
            self._chunk.extend(events)
            if len(self._chunk) >= CHUNK:
                self._begin_chunk()
        on_commit(events)

    def _begin_chunk(self) -> None:
        """Start a new chunk. Of the queue events, the next queue needs only the last ones, and who is forgotten."""
        self._retained = last_of_groups(self._retained + self._chunk)
        self._chunk[:] = [event for event in self._chunk if isinstance(event, JobEvent | Forgotten)]
        self._chunk = []
        self._chunks = [*filter(None, self._chunks), self._chunk]

    async def committed(self, seq: int) -> None:
        """See `Store.committed`."""
        return

    async def events(self, after: int, limit: int) -> Sequence[Event]:
        """See `Store.events`."""
        start = after + 1 - self.oldest
        if start < 0:
            raise StoreError(f"events before {self.oldest} are gone, {after + 1} was asked for")
        stop = min(start + limit, len(self._stream))
        found = [self._stream[i] for i in range(start, stop)]
        await trio.lowlevel.checkpoint()  # a reader far behind reads many pages
        return found

    async def job_events(self, job: str, first: int, last: int) -> Sequence[Event]:
        """See `Store.job_events`. A store that is not opened again has those of the stream."""
        found: list[Event] = []
        for chunk in self._chunks if self._reopens else [self._stream]:
            if chunk and chunk[-1].seq >= first and chunk[0].seq <= last:
                found += [one for one in chunk if isinstance(one, JobEvent) and one.job == job and one.seq <= last]
                await trio.lowlevel.checkpoint()
        return found[-MAX_EVENTS:]

    @property
    def last_seq(self) -> int:
        """See `Store.last_seq`."""
        return self._stream[-1].seq if self._stream else self._forgotten_seq

    @property
    def oldest(self) -> int:
        """See `Store.oldest`."""
        return self._stream[0].seq if self._stream else self._forgotten_seq + 1

    def keys(self) -> Iterable[KeyTombstone]:
        """See `Store.keys`."""
        return list(self._tombstones.values())

    async def prune(
        self,
        jobs: Mapping[str, tuple[int, int]],
        keys: Sequence[KeyTombstone] = (),
        stale: Sequence[KeyTombstone] = (),
    ) -> None:
        """See `Store.prune`."""
        if not self._reopens:
            await trio.lowlevel.cancel_shielded_checkpoint()
            return
        for key in keys:
            self._tombstones[key.name] = key
        for key in stale:
            self._tombstones.pop(key.name, None)
        if not jobs:
            return
        first, last = min(span[0] for span in jobs.values()), max(span[1] for span in jobs.values())
        for chunk in self._chunks:
            if chunk and chunk[0].seq <= last and chunk[-1].seq >= first:
                chunk[:] = [event for event in chunk if not (isinstance(event, JobEvent) and event.job in jobs)]
                await trio.lowlevel.cancel_shielded_checkpoint()

    def activity(self) -> str | None:
        """See `KeepsActivity.activity`."""
        return self._activity

    def keep_activity(self, actions: str) -> None:
        """See `KeepsActivity.keep_activity`."""
        self._activity = actions

    async def secrets(self) -> Mapping[str, str]:
        """See `KeepsSecrets.secrets`."""
        await trio.lowlevel.checkpoint()
        return dict(self._secrets)

    async def keep_secret(self, name: str, value: str) -> None:
        """See `KeepsSecrets.keep_secret`."""
        await trio.lowlevel.checkpoint()
        self._secrets[name] = value

    async def forget(self, jobs: Mapping[str, tuple[int, int]], keys: Sequence[KeyTombstone]) -> None:
        """See `Store.forget`."""
        last = max(span[1] for span in jobs.values())
        while self._stream and self._stream[0].seq <= last:
            self._forgotten_seq = self._stream.popleft().seq
        await self.prune(jobs, keys)
        for chunk in self._chunks:
            chunk[:] = [one for one in chunk if not (isinstance(one, Forgotten) and jobs.keys() >= {*one.jobs})]

    async def aclose(self) -> None:
        """See `Store.aclose`."""
        self._on_commit = None
