"""The events as clients of different rights are sent them."""

from __future__ import annotations

from typing import Final, NamedTuple

from trio_jobs._engine.event_cursor import EventSource
from trio_jobs._server.event_bodies import EventBodies
from trio_jobs._server.multicast import Multicasts
from trio_jobs._wire.codes import Scope

__all__ = ["EventsByScope", "SharedEvents"]


class SharedEvents(NamedTuple):
    """What clients of the same rights share."""

    bodies: EventBodies
    """Their encoded events."""
    multicasts: Multicasts
    """Their multicasts."""


class EventsByScope:
    """The events of one server.

    Args:
        source: The events.
    """

    def __init__(self, source: EventSource) -> None:
        complete = EventBodies(source)
        watched = EventBodies(source, "watch", complete)
        whole = SharedEvents(complete, Multicasts(source, complete))
        self._by_scope: Final[dict[Scope, SharedEvents]] = {
            "watch": SharedEvents(watched, Multicasts(source, watched)),
            "operate": whole,
            "control": whole,
        }

    def of(self, scope: Scope) -> SharedEvents:
        """What a client with this scope shares with others."""
        return self._by_scope[scope]
