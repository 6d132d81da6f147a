"""A cache of encoded events, so that each event is encoded once for all subscribers."""

from __future__ import annotations

from typing import Final

from trio_jobs._engine.event_cursor import EventSource
from trio_jobs._engine.events import Event, JobEvent
from trio_jobs._wire.event_encoding import encode_body

__all__ = ["EventBodies"]

MOST: Final = 4096  #: encoded events that are kept: the size of the feed's ring


class EventBodies:
    """A cache of encoded events, by number."""

    def __init__(self, source: EventSource) -> None:
        self._source = source
        self._bodies: dict[int, bytes] = {}

    def body(self, event: Event) -> bytes:
        """Return the event as the second part of a notification; see `event_encoding.encode_body`."""
        body = self._bodies.get(event.seq)
        if body is None:
            if len(self._bodies) >= MOST:
                self._bodies.clear()  # an event that is still needed is encoded once more
            kind = self._source.kind_of(event.job) if isinstance(event, JobEvent) else None
            body = self._bodies[event.seq] = encode_body(event, kind)
        return body
