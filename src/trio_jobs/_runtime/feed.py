"""The feed: delivers committed events to any number of readers (`event_cursor`), each at its own pace.

A reader has a cursor into a shared ring, not a buffer: publishing costs the same for one reader as for a thousand, and
a slow reader delays no other. Publishing only appends and sets a flag. One task notifies the readers: at once, unless
that takes more than `SHARE` of the time of the event loop. So a notification that was dear delays the next one, by
`LONGEST` at most, and a burst of events wakes many readers once. What notifying has cost is measured, until all readers
have run, since a reader may write to a socket or compute for a millisecond. In virtual time it costs nothing. The delay
ends when the queue and the loop have nothing to do (`idle_wait`): then a notification delays no job. A queue at half of
its load has such a moment after most jobs, and a queue at its full load has none.

A reader with a filter of jobs is found by an index, and is notified only of the events of those jobs. Its cursor is
then moved to that event, since no event in between matches the filter. So each event costs one look-up, however many
jobs have readers. Readers with other filters, or none, read every event.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice
from typing import Final

import trio

from trio_jobs._engine.event_cursor import Cursor
from trio_jobs._engine.events import Event, JobEvent
from trio_jobs._engine.jobs import JobRecord
from trio_jobs._errors import Lagged
from trio_jobs._ports import Store
from trio_jobs._runtime.idle_wait import IdleWait

__all__ = ["PAGE", "Feed"]

RING: Final = (
    4096  #: events retained: about a second at the rate of a busy queue in memory, hours at the rate of an SDK
)
PAGE: Final = 200  #: events per read; more would delay commits or the event loop
SHARE: Final = 0.1  #: of the time of the event loop that notifying may take
#: notifications may take the share of so many seconds in advance: the three events of a short job are not delayed
BURST: Final = 0.02
LONGEST: Final = 0.025  #: seconds by which a notification is delayed at most: a person sees no delay below a tenth
AT_ONCE: Final = (
    32  #: weight of readers notified before a checkpoint: each may write to its socket, which takes about 5 us
)
EVENTS_AT_ONCE: Final = 32  #: events that make a reader twice as heavy: it handles all of them in one step


class Feed:
    """The ring and its readers. Conforms to `EventSource`.

    Args:
        store: Has the events that the ring no longer retains.
        record_of: Returns the record of a job; None if the job is pruned or never existed.
        is_idle: Whether the queue has nothing to do.
    """

    def __init__(
        self,
        store: Store,
        record_of: Callable[[str], JobRecord | None] = lambda job: None,
        is_idle: Callable[[], bool] = lambda: False,
    ) -> None:
        self.store = store
        self.seq = 0
        self.closed = False
        self.notified_seq = 0
        self._record_of = record_of
        self._ring: deque[Event] = deque(maxlen=RING)
        self._between_pages = 0
        """Readers that have read a page of the ring, and go on in the next turn of the loop."""
        # of pruned jobs with events in the ring: the last event, kind and key, labels
        self._pruned: dict[str, tuple[int, tuple[str, str | None], Mapping[str, str] | None]] = {}
        self._published = trio.Event()
        self._idle_wait = IdleWait(is_idle)
        self._by_job: dict[str, dict[Cursor, None]] = {}
        self._broad: dict[Cursor, None] = {}
        self._readers = 0

    def __repr__(self) -> str:
        return f"<Feed at event {self.seq}, {self._readers} readers>"

    @property
    def readers(self) -> int:
        """Number of attached cursors."""
        return self._readers

    @property
    def oldest(self) -> int:
        """Number of the first retained event."""
        return min(self.store.oldest, self.seq - len(self._ring) + 1)

    def identity_of(self, job_id: str) -> tuple[str, str | None] | None:
        record = self._record_of(job_id)
        if record is not None:
            return record.kind, record.key
        kept = self._pruned.get(job_id)
        return None if kept is None else kept[1]

    def labels_of(self, job_id: str) -> Mapping[str, str] | None:
        record = self._record_of(job_id)
        if record is not None:
            return record.labels
        kept = self._pruned.get(job_id)
        return None if kept is None else kept[2]

    def job_pruned(self, record: JobRecord) -> None:
        """Retain the kind, the key and the labels of a job that is about to be pruned while its events are in the ring:
        readers that have not passed them yet may want only some jobs."""
        if self._ring and record.last_seq >= self._ring[0].seq:
            self._pruned[record.id] = (record.last_seq, (record.kind, record.key), record.labels)
            if len(self._pruned) > len(self._ring):
                self._drop_pruned()

    def _drop_pruned(self) -> None:
        first = self._ring[0].seq if self._ring else self.seq + 1
        self._pruned = {job: kept for job, kept in self._pruned.items() if kept[0] >= first}

    def forget(self, last: int) -> None:
        """Retain no event up to this one. A reader before it gets `Lagged`."""
        ring = self._ring
        while ring and ring[0].seq <= last:
            ring.popleft()
        self._drop_pruned()

    def set_ring_size(self, events: int) -> None:
        """Retain that many events. For the simulator, in which readers must fall behind the ring."""
        self._ring = deque(self._ring, maxlen=events)

    def publish(self, events: Sequence[Event]) -> None:
        """Append committed events, in order. Synchronous, O(1) for each."""
        self._ring.extend(events)
        self.seq = events[-1].seq
        if self._readers:
            self._published.set()

    def close(self) -> None:
        """End the feed: readers read the remaining events, then end."""
        self.closed = True
        for cursor in [*self._broad, *(cursor for cursors in self._by_job.values() for cursor in cursors)]:
            cursor.notify(self.notified_seq)

    # notifying

    @trio.lowlevel.enable_ki_protection
    async def run(self) -> None:
        try:
            await self._run()
        finally:
            self._idle_wait.stop()

    async def _run(self) -> None:
        # on Trio's clock: what the notifications until now have taken is their `SHARE` of the time up to this moment
        # (the generic cell rate algorithm, ITU-T I.371)
        paid_until = 0.0
        while True:
            await self._published.wait()
            began = trio.current_time()
            await self.run_once()
            for _ in range(2):  # the readers run in the next turn of the loop, some of them after this task
                await trio.lowlevel.checkpoint()
            while self._between_pages and trio.current_time() < began + LONGEST:  # what they read takes more turns
                await trio.lowlevel.checkpoint()
            now = trio.current_time()
            delay = max(paid_until, began) + (now - began) / SHARE - BURST - now
            if delay > 0:
                delay = min(delay, LONGEST)
                if await self._idle_wait.within(delay):
                    paid_until = trio.current_time()  # so the next notifications go out at once
                    continue
            paid_until = now + delay + BURST

    async def run_once(self) -> None:
        """Notify all readers for which there are events since the last call.

        Cancelled:
            Some readers were not notified.
        """
        if self._published.is_set():
            self._published = trio.Event()
        heaviness = 1 + (self.seq - self.notified_seq) // EVENTS_AT_ONCE
        since_checkpoint = 0
        for cursor in self.affected_readers():
            if since_checkpoint >= AT_ONCE:
                since_checkpoint = 0
                await trio.lowlevel.checkpoint()
            if cursor.attached:
                since_checkpoint += cursor.weight * heaviness
                cursor.on_available()

    def affected_readers(self) -> list[Cursor]:
        """Return the readers for which there are events since the last call, and move their cursors to these events.

        Synchronous, so that no reader is attached or detached in between.
        """
        since, self.notified_seq = self.notified_seq, self.seq
        fresh = self.seq - since
        found: dict[Cursor, None] = {}
        if fresh <= 0:
            return []
        if fresh > len(self._ring):  # some of the new events have left the ring already: notify all readers
            for cursors in self._by_job.values():
                for cursor in cursors:
                    cursor.notify(since)
                    found[cursor] = None
        elif self._by_job:
            by_job = self._by_job
            for event in self._last(fresh):
                if isinstance(event, JobEvent):
                    for cursor in by_job.get(event.job, ()):
                        if event.seq > cursor.seq:
                            cursor.notify(event.seq - 1)
                            found[cursor] = None
        for cursor in self._broad:
            cursor.idle = False
            found[cursor] = None
        return list(found)

    def _last(self, count: int) -> Iterable[Event]:
        ring = self._ring
        if count == 1:
            return (ring[-1],)
        return islice(ring, len(ring) - count, None)

    # readers

    def attach(self, cursor: Cursor) -> None:
        if not self._readers:
            self.notified_seq = self.seq
        self._readers += 1
        if cursor.filter.jobs is None:
            self._broad[cursor] = None
        else:
            for job in cursor.filter.jobs:
                self._by_job.setdefault(job, {})[cursor] = None

    def detach(self, cursor: Cursor) -> None:
        self._readers -= 1
        self._broad.pop(cursor, None)
        for job in cursor.filter.jobs or ():
            cursors = self._by_job[job]
            del cursors[cursor]
            if not cursors:
                del self._by_job[job]

    def recent(self, after: int) -> Sequence[Event] | None:
        missing = self.seq - after
        if missing <= 0:
            return ()
        ring = self._ring
        if missing > len(ring):
            return None
        if missing == 1:
            return (ring[-1],)
        start = len(ring) - missing
        return list(islice(ring, start, start + min(missing, PAGE)))

    async def read(self, after: int) -> Sequence[Event]:
        events = self.recent(after)
        if events is None:
            if after + 1 < self.store.oldest:
                raise Lagged(after, self.store.oldest)
            events = await self.store.events(after, PAGE)
        elif len(events) == PAGE:  # to read the rest of the ring takes up to 5 ms
            self._between_pages += 1
            try:
                await trio.lowlevel.checkpoint()
            finally:
                self._between_pages -= 1
        return events
