"""An event to JSON, once for all subscribers.

A delivery consists of a frame header, the prefix of the subscription and the body of the event. The prefix is encoded
when the subscription starts, the body when the event is first sent; so each further subscriber costs a join of three
byte strings.
"""

from __future__ import annotations

from functools import cache
from typing import Any, Final

import msgspec

from trio_jobs._engine.events import Event
from trio_jobs._wire.codes import Scope
from trio_jobs._wire.conversion import error_to_wire, event_to_wire
from trio_jobs._wire.field_scopes import hidden, limit_to
from trio_jobs._wire.schemas import WireEvent

__all__ = ["encode_body", "has_hidden", "prefix"]

_encode: Final = msgspec.json.Encoder().encode


def encode_body(event: Event, kind: str | None, key: str | None = None, scope: Scope = "control") -> bytes:
    """The second part of a `jobs.event` notification, which follows a `prefix`. Arguments: as of `event_to_wire`."""
    return _encode(limit_to(event_to_wire(event, kind, key), scope))[1:] + b"}"


def prefix(subscription: str) -> bytes:
    """The first part of every `jobs.event` notification of that subscription."""
    return b'{"jsonrpc":"2.0","method":"jobs.event","params":{"subscription":' + _encode(subscription) + b","


def has_hidden(event: Event, scope: Scope) -> bool:
    """Whether the event has something that a token of this scope is not sent."""
    if any(getattr(event, name) != default for name, default in _fields_hidden(type(event), scope)):
        return True
    error = error_to_wire(getattr(event, "error", None))
    return error is not None and limit_to(error, scope) is not error


@cache
def _fields_hidden(type_: type[Event], scope: Scope) -> tuple[tuple[str, Any], ...]:
    own = frozenset(type_.__struct_fields__)
    return tuple((name, default) for name, default in hidden(WireEvent, scope).items() if name in own)
