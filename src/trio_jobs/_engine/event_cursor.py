"""Reading the stream of events: what a reader wants, and where it is. Pure.

A reader is a cursor into the feed's ring of recent events, not a buffer. A cursor that has fallen off the ring
continues from the store, in pages. Where the store has pruned the events too, the reader gets `Lagged`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Protocol

import attrs

from trio_jobs._engine import events as ev
from trio_jobs._engine.bounds import UNBOUND, Bounds
from trio_jobs._engine.events import Event, JobEvent
from trio_jobs._engine.jobs import State
from trio_jobs._engine.transitions import STATE_AFTER
from trio_jobs._errors import Lagged

__all__ = ["Cursor", "EventSource", "Filter"]


def _frozen(names: Iterable[str] | None) -> frozenset[str] | None:
    return None if names is None else frozenset(names)


def _do_nothing() -> None:
    pass


@attrs.frozen
class Filter:
    """What a reader wants: events that match all conditions that are given.

    Events of the queue itself match only a filter without conditions.
    """

    jobs: frozenset[str] | None = attrs.field(default=None, converter=_frozen)
    """Ids of jobs; None for all."""
    kinds: frozenset[str] | None = attrs.field(default=None, converter=_frozen)
    """Kinds of jobs; None for all."""
    states: frozenset[State] | None = None
    """States that the event leads to; None for all."""
    bounds: Bounds = UNBOUND
    """The jobs that the reader may know about."""

    @property
    def is_open(self) -> bool:
        """The filter has no conditions."""
        return self.jobs is None and self.kinds is None and self.states is None and not self.bounds


class EventSource(Protocol):
    """What a cursor reads from: the feed."""

    @property
    def seq(self) -> int:
        """Number of the last event."""
        ...

    @property
    def oldest(self) -> int:
        """Number of the first event that can still be read."""
        ...

    @property
    def closed(self) -> bool:
        """There will be no more events."""
        ...

    @property
    def notified_seq(self) -> int:
        """The event up to which all sleeping readers have been notified."""
        ...

    def identity_of(self, job_id: str) -> tuple[str, str | None] | None:
        """A job's kind and its key, if it has one; None once the job is pruned and its events have left the ring."""
        ...

    def labels_of(self, job_id: str) -> Mapping[str, str] | None:
        """A job's labels, by name; None without any, and as `identity_of`."""
        ...

    def recent(self, after: int) -> Sequence[Event] | None:
        """Events after `after`, at most a page; None if they are not in the ring any more."""
        ...

    async def read(self, after: int) -> Sequence[Event]:
        """Events after `after`, at most a page, from the ring or the store. Empty: there are none yet.

        Raises:
            Lagged: They are pruned.

        Cancelled:
            Nothing has changed.
        """
        ...

    def attach(self, cursor: Cursor) -> None:
        """Notify the cursor from now on."""
        ...

    def detach(self, cursor: Cursor) -> None: ...


class Cursor:
    """One reader's place in the stream.

    Args:
        source: What is read.
        after: Number of the event behind which the reader begins.
        filter: What the reader wants.
        on_available: Called, synchronously, when there are events to read again.
    """

    def __init__(
        self,
        source: EventSource,
        after: int,
        filter: Filter,  # noqa: A002 - the word of the wire; the builtin is not needed here
        on_available: Callable[[], None],
    ) -> None:
        self.source = source
        self.seq = after
        """The last event that the reader has passed."""
        self.filter = filter
        self.on_available = on_available
        self.idle = False
        """No event for this reader is left before `source.notified_seq`."""
        self.attached = False
        """The source notifies this cursor."""
        self.weight = 1
        """Number of readers that share this cursor: what notifying it costs the event loop."""

    @property
    def position(self) -> int:
        """The last event before which no event for this reader is still to come."""
        return max(self.seq, self.source.notified_seq) if self.idle else self.seq

    def attach(self) -> None:
        if not self.attached:
            self.attached = True
            self.source.attach(self)

    def detach(self) -> None:
        if self.attached:
            self.attached = False
            self.source.detach(self)

    def end(self) -> None:
        """Detach, and drop `on_available`, which commonly refers to the owner of the cursor: without a reference cycle
        both are freed at once, not by the next run of the garbage collector."""
        self.detach()
        self.on_available = _do_nothing

    def notify(self, seq: int) -> None:
        """Nothing up to `seq` is for this reader if it was idle; an event behind it may be."""
        if self.idle:
            self.idle = False
            self.seq = max(self.seq, seq)
        if self.source.closed:
            self.on_available()

    def read_nowait(self) -> Sequence[Event] | None:
        """The next events from the ring, which are then behind the cursor. The reader asks `wants` for each.

        Returns:
            Empty if there are none, and the cursor is idle; None if they are not in the ring: call `read`.
        """
        return self._passed(self.source.recent(self.seq))

    async def read(self) -> Sequence[Event]:
        """The next events, from the ring or the store.

        Raises:
            Lagged: They are pruned. The cursor is then behind the gap.

        Cancelled:
            The cursor has not moved.
        """
        try:
            events = await self.source.read(self.seq)
        except Lagged as lagged:
            self.seq = lagged.oldest - 1
            raise
        return self._passed(events) or ()

    def _passed(self, events: Sequence[Event] | None) -> Sequence[Event] | None:
        if events is not None:
            if events:
                self.seq = events[-1].seq
            self.idle = self.seq >= self.source.seq
        return events

    def unread(self, event: Event) -> None:
        """Move back before `event`, which was read in the same step, and before those read after it."""
        self.seq = event.seq - 1
        self.idle = False

    def wants(self, event: Event) -> bool:
        """Does the event match the filter?

        Raises:
            Lagged: That is not known any more: the job is pruned, and its kind with it.
        """
        wanted = self.filter
        if wanted.is_open:
            return True
        if not isinstance(event, JobEvent):
            return False
        if wanted.jobs is not None and event.job not in wanted.jobs:
            return False
        if wanted.states is not None and STATE_AFTER.get(type(event)) not in wanted.states:
            return False
        if wanted.kinds is None and not wanted.bounds:
            return True
        kind: str | None = None
        labels: Mapping[str, str] | None = None
        if isinstance(event, ev.Submitted):
            kind, labels = event.kind, event.labels
        elif (identity := self.source.identity_of(event.job)) is not None:
            kind, _ = identity
            labels = self.source.labels_of(event.job) if wanted.bounds.labels else None
        if kind is None:
            self.seq, after = self.source.seq, event.seq - 1
            raise Lagged(after, self.source.seq + 1)
        return (wanted.kinds is None or kind in wanted.kinds) and wanted.bounds.include(kind, labels, event.job)
