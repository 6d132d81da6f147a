"""Caches of encoded events, so that each event is encoded once for all subscribers of the same rights."""

from __future__ import annotations

from typing import Final

from trio_jobs._engine.event_cursor import EventSource
from trio_jobs._engine.events import Event, Forgotten, JobEvent
from trio_jobs._wire.codes import Scope
from trio_jobs._wire.event_encoding import encode_body, has_hidden

__all__ = ["EventBodies"]

MOST: Final = 4096  #: encoded events that are kept: the size of the feed's ring


class EventBodies:
    """A cache of encoded events, by number.

    Args:
        source: The events.
        scope: Of the tokens to which they are sent.
        complete: The cache for tokens that are sent everything; None if this is that cache.
    """

    def __init__(self, source: EventSource, scope: Scope = "control", complete: EventBodies | None = None) -> None:
        self.scope: Final = scope
        """The scope of the tokens to which they are sent."""
        self._source = source
        self._complete = complete
        self._bodies: dict[int, bytes] = {}

    def body(self, event: Event) -> bytes:
        """Return the event as the second part of a notification; see `event_encoding.encode_body`."""
        if isinstance(event, Forgotten) and event.seq not in self._bodies:
            self._bodies.clear()  # those of the job's events too
        if self._complete is not None and not has_hidden(event, self.scope):
            return self._complete.body(event)
        body = self._bodies.get(event.seq)
        if body is None:
            if len(self._bodies) >= MOST:
                self._bodies.clear()  # an event that is still needed is encoded once more
            identity = self._source.identity_of(event.job) if isinstance(event, JobEvent) else None
            kind, key = identity or (None, None)
            body = self._bodies[event.seq] = encode_body(event, kind, key, self.scope)
        return body
