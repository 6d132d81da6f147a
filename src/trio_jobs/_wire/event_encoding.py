"""An event to JSON, once for all who get it.

A delivery is a frame header, the subscription's prefix and the event's body. The prefix is made when the subscription
is; the body when the event is first needed; so a further subscriber costs a join of three byte strings.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from trio_jobs._engine import events as ev
from trio_jobs._engine.events import ALL_EVENTS, Event, JobEvent
from trio_jobs._engine.transitions import STATE_AFTER
from trio_jobs._wire.schemas import EventView, without_traceback

__all__ = ["WITHHELD", "encode_body", "event_view", "prefix"]

#: Fields of events that never leave the process this way. `digest` would tell who guesses a payload that it is right.
WITHHELD: Final = frozenset({"payload", "result", "digest"})

_ON_WIRE: Final = frozenset(EventView.__struct_fields__)
_COPIED: Final = {
    event: tuple(name for name in event.__struct_fields__ if name in _ON_WIRE and name != "error")
    for event in ALL_EVENTS
}
_HAS_ERROR: Final = frozenset(event for event in ALL_EVENTS if "error" in event.__struct_fields__)
_encode: Final = msgspec.json.Encoder().encode


def event_view(event: Event, kind: str | None) -> EventView:
    """`event` without what is withheld, with its job's kind (None where that is not known any more) and state."""
    of = type(event)
    fields: dict[str, Any] = {name: getattr(event, name) for name in _COPIED[of]}
    fields["type"] = event.__struct_config__.tag
    if isinstance(event, JobEvent):
        fields["state"] = STATE_AFTER.get(of)
        fields["kind"] = event.kind if isinstance(event, ev.Submitted) else kind
        if of in _HAS_ERROR:
            fields["error"] = without_traceback(event.error)  # type: ignore[attr-defined] # looked up by class
    return EventView(**fields)


def encode_body(event: Event, kind: str | None) -> bytes:
    """The second part of a `jobs.event`, to be put behind a `prefix`."""
    return _encode(event_view(event, kind))[1:] + b"}"


def prefix(subscription: str) -> bytes:
    """The first part of every `jobs.event` of that subscription."""
    return b'{"jsonrpc":"2.0","method":"jobs.event","params":{"subscription":' + _encode(subscription) + b","
