"""An event to JSON, once for all subscribers.

A delivery consists of a frame header, the prefix of the subscription and the body of the event. The prefix is encoded
when the subscription starts, the body when the event is first sent; so each further subscriber costs a join of three
byte strings.
"""

from __future__ import annotations

from typing import Final

import msgspec

from trio_jobs._engine.events import Event
from trio_jobs._wire.conversion import event_to_wire

__all__ = ["encode_body", "prefix"]

_encode: Final = msgspec.json.Encoder().encode


def encode_body(event: Event, kind: str | None, key: str | None = None, *, private: bool = False) -> bytes:
    """The second part of a `jobs.event` notification, which follows a `prefix`. Arguments: as of `event_to_wire`."""
    return _encode(event_to_wire(event, kind, key, private=private))[1:] + b"}"


def prefix(subscription: str) -> bytes:
    """The first part of every `jobs.event` notification of that subscription."""
    return b'{"jsonrpc":"2.0","method":"jobs.event","params":{"subscription":' + _encode(subscription) + b","
