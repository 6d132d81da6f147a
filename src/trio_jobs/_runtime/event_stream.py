"""Reading the stream of events: what a reader wants, where it stands, and `async for` over what is to come.

A reader is a cursor into the feed's ring, not a buffer. A cursor that has fallen off the ring goes on from the store,
in pages. Where the store has let go of it too, the reader is told (`Lagged`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Final, Protocol, final

import attrs
import trio

from trio_jobs._engine import events as ev
from trio_jobs._engine.events import Event, JobEvent
from trio_jobs._engine.jobs import State
from trio_jobs._errors import TrioJobsError
from trio_jobs._wire.event_encoding import STATE_AFTER

__all__ = ["PAGE", "Cursor", "EventStream", "Filter", "Lagged", "Source"]

PAGE: Final = 200  #: events taken at once: more would hold up commits, or the loop


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


class Source(Protocol):
    """What a cursor reads from: the feed.

    seq: the last event there is. closed: there will be no more.
    """

    @property
    def seq(self) -> int: ...

    @property
    def closed(self) -> bool: ...

    @property
    def kind_of(self) -> Callable[[str], str | None]:
        """A job's kind, None once the job is forgotten."""
        ...

    def told(self) -> int:
        """The event up to which all sleeping readers have been told."""
        ...

    def at_hand(self, after: int) -> Sequence[Event] | None:
        """Events after `after`, a page at most; None if they have to be read."""
        ...

    async def after(self, seq: int) -> Sequence[Event]:
        """Events after `seq`, some of them or all there are. Raises `Lagged`."""
        ...

    def attach(self, cursor: Cursor) -> None: ...

    def detach(self, cursor: Cursor) -> None: ...


class Cursor:
    """One reader's place in the stream.

    seq: the last event it has gone past. idle: nothing that concerns it is left before what the feed has told. on_news:
    called when there is something again; synchronous. attached: it is told of news. weight: for how many it reads, so
    that the feed knows how much it asks of the loop by telling it.
    """

    # "filter" is the word of the design and of the wire; the builtin of that name is not needed here
    def __init__(self, feed: Source, after: int, filter: Filter, on_news: Callable[[], None]) -> None:  # noqa: A002
        self.feed = feed
        self.seq = after
        self.filter = filter
        self.on_news = on_news
        self.idle = False
        self.attached = False
        self.weight = 1

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


@final
class EventStream:
    """An endless, ordered stream of events: `async for event in subscription`. One task reads it.

    seq: the last event it has gone past. Ends when the queue has stopped and all is read. Raises `Lagged` where events
    are gone; iterate again to go on behind the gap.

    Cancelled: nothing is lost, the next iteration gives what this one would have given.
    """

    def __init__(self, feed: Source, after: int, filter: Filter = Filter()) -> None:  # noqa: A002 - it is frozen
        self.seq = after
        self._awake = trio.Event()
        self._cursor = Cursor(feed, after, filter, lambda: self._awake.set())
        self._page: deque[Event] = deque()

    def __repr__(self) -> str:
        return f"<EventStream after event {self.seq}>"

    def __aiter__(self) -> EventStream:
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
                        return ev.with_kind(event, cursor.feed.kind_of)
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
