"""The feed: committed events to any number of readers, each at its own pace.

A reader is a cursor into a ring, not a buffer: publishing costs the same for one reader as for a thousand, and a slow
one holds nobody up. Publishing only appends and sets a flag; one task tells those whom the news concerns, at once when
all is quiet and at most every `INTERVAL` under load, so that a burst wakes a reader once and not once for each event.

A reader of certain jobs stands in an index and sleeps through everything else: told of an event of its job, it goes on
from there, and what lay between its cursor and that event is known not to be its. So a thousand readers with a job
each cost one look-up an event. Readers with other filters (or none) look at every event.

A cursor that has fallen off the ring goes on from the store, in pages. Where the store has let go of it too, the reader
is told (`Lagged`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from typing import Final

import attrs
import trio

from trio_jobs import _events as ev
from trio_jobs._errors import TrioJobsError
from trio_jobs._events import Event, JobEvent
from trio_jobs._jobs import State
from trio_jobs._ports import Store
from trio_jobs._wire.bodies import STATE_AFTER, encode_body

__all__ = ["Cursor", "Feed", "Filter", "Lagged", "Subscription"]

RING: Final = 4096  #: events at hand: about a second at the rate of a busy queue in memory, hours at that of an SDK
PAGE: Final = 200  #: events read from the store at once
INTERVAL: Final = 0.005  #: seconds between two wake-ups under load
AT_ONCE: Final = 100  #: readers told before others have a turn: each may write to its socket, which takes 5 us


class Lagged(TrioJobsError):
    """Events after `after` can no longer be had; the stream can go on from `oldest`, with a gap."""

    def __init__(self, after: int, oldest: int) -> None:
        self.after = after
        self.oldest = oldest
        super().__init__(
            f"events {after + 1} to {oldest - 1} are no longer kept; "
            f"look at the jobs anew, then go on after {oldest - 1}"
        )


def _frozen(names: Iterable[str] | None) -> frozenset[str] | None:
    return None if names is None else frozenset(names)


@attrs.frozen
class Filter:
    """What a reader wants: events of these jobs, of jobs of these kinds, that lead to these states; None for any.

    All that is given must fit. Events of the queue itself fit only a filter that asks for nothing.
    """

    jobs: frozenset[str] | None = attrs.field(default=None, converter=_frozen)
    kinds: frozenset[str] | None = attrs.field(default=None, converter=_frozen)
    states: frozenset[State] | None = None

    @property
    def is_open(self) -> bool:
        return self.jobs is None and self.kinds is None and self.states is None


class Feed:
    """The ring and its readers. kind_of: a job's kind, None once the job is forgotten."""

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
        while True:
            await self._news.wait()
            await self.run_once()
            await trio.sleep(INTERVAL)

    async def run_once(self) -> None:
        """Tell all whom the events since the last time concern. Cancelled: some were not told."""
        self._news = trio.Event()
        for i, cursor in enumerate(self.concerned(), 1):
            if cursor.attached:
                cursor.on_news()
            if i % AT_ONCE == 0:
                await trio.lowlevel.checkpoint()

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


class Cursor:
    """One reader's place in the stream.

    seq: the last event it has gone past. idle: nothing that concerns it is left before what the feed has told. on_news:
    called when there is something again; synchronous. attached: it is told of news.
    """

    def __init__(self, feed: Feed, after: int, filter: Filter, on_news: Callable[[], None]) -> None:  # noqa: A002
        self.feed = feed
        self.seq = after
        self.filter = filter
        self.on_news = on_news
        self.idle = False
        self.attached = False

    @property
    def position(self) -> int:
        """The last event of which it is known that nothing before it is still to come."""
        return max(self.seq, self.feed.told()) if self.idle else self.seq

    def attach(self) -> None:
        if not self.attached:
            self.attached = True
            self.feed.attach(self)

    def detach(self) -> None:
        if self.attached:
            self.attached = False
            self.feed.detach(self)

    def tell(self, seq: int) -> None:
        """Nothing up to `seq` concerns it if it was idle; something behind may."""
        if self.idle:
            self.idle = False
            self.seq = max(self.seq, seq)
        if self.feed.closed:
            self.on_news()

    def take_nowait(self) -> Sequence[Event] | None:
        """The next events from the ring, which are then behind the cursor; the reader asks `wants` for each.

        Empty: there are none, the cursor is idle. None: they are not in the ring, use `take`.
        """
        return self._taken(self.feed.at_hand(self.seq))

    async def take(self) -> Sequence[Event]:
        """The same, from ring or store. Raises `Lagged`; the cursor then stands behind the gap. Cancelled: nothing is
        taken."""
        try:
            events = await self.feed.after(self.seq)
        except Lagged as lagged:
            self.seq = lagged.oldest - 1
            raise
        return self._taken(events) or ()

    def _taken(self, events: Sequence[Event] | None) -> Sequence[Event] | None:
        if events is not None:
            if events:
                self.seq = events[-1].seq
            self.idle = self.seq >= self.feed.seq
        return events

    def give_back(self, event: Event) -> None:
        """`event` and what came after it in the same page was not used; in the step in which it was taken."""
        self.seq = event.seq - 1
        self.idle = False

    def wants(self, event: Event) -> bool:
        """Raises `Lagged` if that cannot be said: the job is forgotten, and its kind with it."""
        wanted = self.filter
        if wanted.is_open:
            return True
        if not isinstance(event, JobEvent):
            return False
        if wanted.jobs is not None and event.job not in wanted.jobs:
            return False
        if wanted.states is not None and STATE_AFTER.get(type(event)) not in wanted.states:
            return False
        if wanted.kinds is None:
            return True
        kind = event.kind if isinstance(event, ev.Submitted) else self.feed.kind_of(event.job)
        if kind is None:
            self.seq, after = self.feed.seq, event.seq - 1
            raise Lagged(after, self.feed.seq + 1)
        return kind in wanted.kinds


class Subscription:
    """An endless, ordered stream of events: `async for event in subscription`. One task reads it.

    seq: the last event it has gone past. Ends when the queue has stopped and all is read. Raises `Lagged` where events
    are gone; iterate again to go on behind the gap.

    Cancelled: nothing is lost, the next iteration gives what this one would have given.
    """

    def __init__(self, feed: Feed, after: int, filter: Filter = Filter()) -> None:  # noqa: A002 - it is frozen
        self.seq = after
        self._awake = trio.Event()
        self._cursor = Cursor(feed, after, filter, lambda: self._awake.set())
        self._page: deque[Event] = deque()

    def __repr__(self) -> str:
        return f"<Subscription after event {self.seq}>"

    def __aiter__(self) -> Subscription:
        return self

    async def __anext__(self) -> Event:
        await trio.lowlevel.checkpoint_if_cancelled()
        cursor = self._cursor
        while True:
            try:
                while self._page:
                    event = self._page.popleft()
                    self.seq = event.seq
                    if cursor.wants(event):
                        return event
                self._page.extend(await cursor.take())
            except Lagged:
                self._page.clear()
                self.seq = cursor.seq
                raise
            if not self._page:
                if cursor.feed.closed:
                    raise StopAsyncIteration
                await self._sleep()

    async def _sleep(self) -> None:
        # attached only while it sleeps, so that a reader that is simply dropped leaves nothing behind
        self._awake = trio.Event()
        self._cursor.attach()
        try:
            await self._awake.wait()
        finally:
            self._cursor.detach()
            self.seq = max(self.seq, self._cursor.seq)
