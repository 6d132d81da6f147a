"""The feed: committed events to any number of readers (`_reading`), each at its own pace.

A reader is a cursor into a ring, not a buffer: publishing costs the same for one reader as for a thousand, and a slow
one holds nobody up. Publishing only appends and sets a flag; one task tells those whom the news concerns, at once when
all is quiet and every `INTERVAL` under load, so that a burst wakes a reader once and not once for each event. A few
readers may be told `SPARE` times more before that counts as load: a job that is submitted, starts and ends within a
millisecond is told to whoever follows it as it happens.

A reader of certain jobs stands in an index and sleeps through everything else: told of an event of its job, it goes on
from there, and what lay between its cursor and that event is known not to be its. So a thousand readers with a job
each cost one look-up an event. Readers with other filters (or none) look at every event.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from typing import Final

import trio

from trio_jobs._engine.events import Event, JobEvent
from trio_jobs._ports import Store
from trio_jobs._runtime.event_stream import PAGE, Cursor, Lagged
from trio_jobs._wire.event_encoding import encode_body

__all__ = ["Feed"]

RING: Final = 4096  #: events at hand: about a second at the rate of a busy queue in memory, hours at that of an SDK
INTERVAL: Final = 0.005  #: seconds between two wake-ups under load
SPARE: Final = 4  #: wake-ups that need not keep it, won back one each interval
FEW: Final = 16  #: weight of readers that costs one wake-up; more of them use up what is spare
AT_ONCE: Final = 100  #: weight of readers told before others have a turn: each may write to its socket, some 5 us


class Feed:
    """The ring and its readers.

    kind_of: a job's kind, None once the job is forgotten.
    """

    def __init__(self, store: Store, kind_of: Callable[[str], str | None] = lambda job: None) -> None:
        self.store = store
        self.kind_of = kind_of
        self.seq = 0
        self.closed = False
        self._ring: deque[Event] = deque(maxlen=RING)
        self._bodies: dict[int, bytes] = {}
        self._told = 0
        self._news = trio.Event()
        self._by_job: dict[str, dict[Cursor, None]] = {}
        self._broad: dict[Cursor, None] = {}
        self._readers = 0

    def __repr__(self) -> str:
        return f"<Feed at event {self.seq}, {self._readers} readers>"

    @property
    def readers(self) -> int:
        return self._readers

    @property
    def oldest(self) -> int:
        """`seq` of the first event that can still be had."""
        return min(self.store.oldest, self.seq - len(self._ring) + 1)

    def publish(self, events: Sequence[Event]) -> None:
        """Take committed events in, in order. Synchronous, O(1) for each."""
        self._ring.extend(events)
        self.seq = events[-1].seq
        if self._readers:
            self._news.set()

    def close(self) -> None:
        """No more events: readers get those that are left, then end."""
        self.closed = True
        for cursor in [*self._broad, *(cursor for cursors in self._by_job.values() for cursor in cursors)]:
            cursor.tell(self._told)

    # telling

    @trio.lowlevel.enable_ki_protection
    async def run(self) -> None:
        paid_until = 0.0  # on Trio's clock; a wake-up costs an interval (the generic cell rate algorithm, ITU-T I.371)
        while True:
            await self._news.wait()
            told = await self.run_once()
            now = trio.current_time()
            paid_until = max(paid_until, now) + INTERVAL * min(1 + told // FEW, 1 + SPARE)
            await trio.sleep(max(paid_until - now - SPARE * INTERVAL, 0.0))

    async def run_once(self) -> int:
        """Tell all whom the events since the last time concern; give their weight. Cancelled: some were not told."""
        if self._news.is_set():
            self._news = trio.Event()
        told = since_a_turn = 0
        for cursor in self.concerned():
            if since_a_turn >= AT_ONCE:
                since_a_turn = 0
                await trio.lowlevel.checkpoint()
            if cursor.attached:
                since_a_turn += cursor.weight
                told += cursor.weight
                cursor.on_news()
        return told

    def concerned(self) -> list[Cursor]:
        """The readers that the events since the last call concern, with their cursors moved up to what concerns them.

        Synchronous, so that no reader comes or goes in between.
        """
        since, self._told = self._told, self.seq
        fresh = self.seq - since
        found: dict[Cursor, None] = {}
        if fresh <= 0:
            return []
        if fresh > len(self._ring):  # so many at once that some have gone by unseen: all have to look for themselves
            for cursors in self._by_job.values():
                for cursor in cursors:
                    cursor.tell(since)
                    found[cursor] = None
        elif self._by_job:
            by_job = self._by_job
            for event in self._last(fresh):
                if isinstance(event, JobEvent):
                    for cursor in by_job.get(event.job, ()):
                        if event.seq > cursor.seq:
                            cursor.tell(event.seq - 1)
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
            self._told = self.seq
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

    def told(self) -> int:
        """The event up to which all sleeping readers have been told."""
        return self._told

    def at_hand(self, after: int) -> Sequence[Event] | None:
        """Events after `after` from the ring, a page at most; None if it has fallen off the ring."""
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

    async def after(self, seq: int) -> Sequence[Event]:
        """Committed events after `seq`, some of them or all there are; empty: there are none yet. Raises `Lagged`."""
        events = self.at_hand(seq)
        if events is None:
            if seq + 1 < self.store.oldest:
                raise Lagged(seq, self.store.oldest)
            events = await self.store.events(seq, PAGE)
        return events

    def body(self, event: Event) -> bytes:
        """The event as subscribers on the wire get it, encoded once for all of them."""
        body = self._bodies.get(event.seq)
        if body is None:
            if len(self._bodies) >= RING:
                self._bodies.clear()  # those still needed are made again, once
            kind = self.kind_of(event.job) if isinstance(event, JobEvent) else None
            body = self._bodies[event.seq] = encode_body(event, kind)
        return body
