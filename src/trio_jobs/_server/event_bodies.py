"""Caches of encoded events, so that each event is encoded once for all subscribers of the same rights."""

from __future__ import annotations

from typing import Final

from trio_jobs._engine.event_cursor import EventSource
from trio_jobs._engine.events import Event, JobEvent
from trio_jobs._wire.conversion import has_private
from trio_jobs._wire.event_encoding import encode_body

__all__ = ["EventBodies"]

MOST: Final = 4096  #: encoded events that are kept: the size of the feed's ring


class EventBodies:
    """A cache of encoded events, by number.

    Args:
        source: The events.
        complete: For tokens that are not sent everything: the cache for those that are. None: this is that cache.
    """

    def __init__(self, source: EventSource, complete: EventBodies | None = None) -> None:
        self.private: Final = complete is None
        """With what is sent to tokens of scope operate or control only."""
        self._source = source
        self._complete = complete
        self._bodies: dict[int, bytes] = {}

    def body(self, event: Event) -> bytes:
        """Return the event as the second part of a notification; see `event_encoding.encode_body`."""
        if self._complete is not None and not has_private(event):
            return self._complete.body(event)
        body = self._bodies.get(event.seq)
        if body is None:
            if len(self._bodies) >= MOST:
                self._bodies.clear()  # an event that is still needed is encoded once more
            identity = self._source.identity_of(event.job) if isinstance(event, JobEvent) else None
            kind, key = identity or (None, None)
            body = self._bodies[event.seq] = encode_body(event, kind, key, private=self.private)
        return body
