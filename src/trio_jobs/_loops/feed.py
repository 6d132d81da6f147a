"""The feed: committed events to any number of readers, each at its own pace.

A reader is a cursor into a ring, not a buffer: publishing costs the same for one reader as for a thousand, and a slow
one holds nobody up. Publishing only appends and sets a flag; one task wakes the sleepers, at once when all is
quiet and at most every `INTERVAL` under load, so that a burst wakes a reader once and not once for each event.

A cursor that has fallen off the ring goes on from the store, in pages. Where the store has let go of it too, the reader
is told.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

import trio

from trio_jobs._errors import TrioJobsError
from trio_jobs._events import Event
from trio_jobs._ports import Store

__all__ = ["Feed", "Lagged", "Subscription"]

RING: Final = 4096  #: events at hand: about a second at the rate of a busy queue in memory, hours at that of an SDK
PAGE: Final = 200  #: events read from the store at once
INTERVAL: Final = 0.005  #: seconds between two wake-ups under load


class Lagged(TrioJobsError):
    """The events after `after` are no longer kept; the stream can go on from `oldest` - 1, with a gap."""

    def __init__(self, after: int, oldest: int) -> None:
        self.after = after
        self.oldest = oldest
        super().__init__(
            f"events {after + 1} to {oldest - 1} are no longer kept; "
            f"look at the jobs anew, then go on after {oldest - 1}"
        )


class Feed:
    """The ring and its readers."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._ring: deque[Event] = deque(maxlen=RING)
        self._sleepers: dict[Subscription, None] = {}
        self._news = trio.Event()
        self.seq = 0
        self.closed = False

    def publish(self, events: Sequence[Event]) -> None:
        """Take committed events in, in order. Synchronous, O(1) for each."""
        self._ring.extend(events)
        self.seq = events[-1].seq
        if self._sleepers:
            self._news.set()

    def close(self) -> None:
        """No more events: readers get those that are left, then end."""
        self.closed = True
        self._wake()

    @trio.lowlevel.enable_ki_protection
    async def run(self) -> None:
        while True:
            await self._news.wait()
            self._news = trio.Event()
            self._wake()
            await trio.sleep(INTERVAL)

    def _wake(self) -> None:
        sleepers, self._sleepers = self._sleepers, {}
        for reader in sleepers:
            reader.wake()

    def sleep(self, reader: Subscription) -> None:
        self._sleepers[reader] = None

    def stay_awake(self, reader: Subscription) -> None:
        self._sleepers.pop(reader, None)

    async def after(self, seq: int) -> Sequence[Event]:
        """Committed events after `seq`, some of them or all there are; empty: there are none yet. Raises `Lagged`."""
        ring = self._ring
        missing = self.seq - seq
        if missing <= 0:
            return ()
        if missing <= len(ring):
            if missing == 1:
                return (ring[-1],)
            take = min(missing, PAGE)
            start = len(ring) - missing
            return [ring[i] for i in range(start, start + take)]
        if seq + 1 < self._store.oldest:
            raise Lagged(seq, self._store.oldest)
        return await self._store.events(seq, PAGE)


class Subscription:
    """An endless, ordered stream of events: `async for event in subscription`. One task reads it.

    seq: the last event it has gone past. Ends when the queue has stopped and all is read. Raises `Lagged` where
    events are gone; iterate again to go on behind the gap.

    Cancelled: nothing is lost, the next iteration gives what this one would have given.
    """

    def __init__(self, feed: Feed, after: int, wants: Callable[[Event], bool]) -> None:
        self.seq = after
        self._feed = feed
        self._wants = wants
        self._page: deque[Event] = deque()
        self._awake = trio.Event()

    def __aiter__(self) -> Subscription:
        return self

    async def __anext__(self) -> Event:
        await trio.lowlevel.checkpoint_if_cancelled()
        while True:
            while self._page:
                event = self._page.popleft()
                self.seq = event.seq
                if self._wants(event):
                    return event
            try:
                self._page.extend(await self._feed.after(self.seq))
            except Lagged as lagged:
                self.seq = lagged.oldest - 1
                raise
            if not self._page:
                if self._feed.closed:
                    raise StopAsyncIteration
                await self._sleep()

    def wake(self) -> None:
        self._awake.set()

    async def _sleep(self) -> None:
        self._awake = trio.Event()
        self._feed.sleep(self)
        try:
            await self._awake.wait()
        finally:
            self._feed.stay_awake(self)
