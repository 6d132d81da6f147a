"""`async for event in queue.events()`."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Final, final

from trio import BusyResourceError
from trio.lowlevel import checkpoint_if_cancelled

from trio_jobs._concurrency import LoopThread, WakeUp
from trio_jobs._engine.event_cursor import Cursor, EventSource, Filter
from trio_jobs._engine.event_identity import with_identity
from trio_jobs._engine.events import Event
from trio_jobs._errors import Lagged

__all__ = ["EventStream"]

EVERYTHING: Final = Filter()
_NOTHING: Final[Iterator[Event]] = iter(())  #: the page of every stream that has none


@final
class EventStream:
    """An ordered stream of committed events without gaps: `async for event in stream`. One task reads it.

    The stream ends when the queue has stopped and all events are read.

    Raises:
        Lagged: Events are pruned. Iterate again to continue behind the gap.
        trio.BusyResourceError: Another task waits for the next event of this stream, and goes on waiting.

    Cancelled:
        No event is lost; the next iteration returns what this one would have returned.
    """

    def __init__(self, source: EventSource, after: int, wanted: Filter = EVERYTHING) -> None:
        self.seq = after
        """The last event that the stream has passed."""
        self._loop_thread = LoopThread()
        self._awake = WakeUp()
        self._cursor = Cursor(source, after, wanted, self._awake.set)
        self._wants_all = wanted.is_open
        self._page = _NOTHING  #: events that were read and are still to come

    def __repr__(self) -> str:
        return f"<EventStream after event {self.seq}>"

    def __aiter__(self) -> EventStream:
        return self

    async def __anext__(self) -> Event:
        if threading.get_ident() != self._loop_thread.id:  # compared here, for each event
            self._loop_thread.check("a stream of events", "use queue.from_thread.events()")
        await checkpoint_if_cancelled()
        cursor = self._cursor
        while True:
            try:
                for event in self._page:
                    self.seq = event.seq
                    if self._wants_all or cursor.wants(event):
                        return with_identity(event, cursor.source.identity_of)
                self._page = _NOTHING
                events = await cursor.read()
            except Lagged:
                self._page = _NOTHING
                self.seq = cursor.seq
                raise
            if events:
                self._page = iter(events)
                continue
            if cursor.source.closed:
                raise StopAsyncIteration
            if cursor.attached:
                raise BusyResourceError("another task waits for the next event of this stream; make one for each task")
            # attached only while it sleeps, so that a stream that is simply dropped leaves nothing behind
            self._awake.clear()
            cursor.attach()
            try:
                await self._awake.wait()
            finally:
                cursor.detach()
                self.seq = max(self.seq, cursor.seq)
