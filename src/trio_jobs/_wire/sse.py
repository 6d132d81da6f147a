"""Server-sent events (https://html.spec.whatwg.org/#server-sent-events): text to write, and ids to read.

The id of an event is `epoch/seq`. A browser sends the id that it has received last when it connects again, so the
stream continues without a gap. A block with an id alone moves it forward and dispatches nothing.
"""

from __future__ import annotations

import re
from typing import Final

import msgspec
from msgspec import Struct

__all__ = ["MEDIA_TYPE", "encode_id", "encode_retry", "encode_sse", "event_head", "read_id"]

MEDIA_TYPE: Final = "text/event-stream"
#: How a stream names its subscription in the parameters that it has from the WebSocket: not at all
_SUBSCRIPTION: Final = b'"subscription":"",'
_ID: Final = re.compile(r"([A-Za-z0-9_-]{1,64})/([0-9]{1,15})")

_encode: Final = msgspec.json.Encoder().encode


def event_head(epoch: bytes, seq: int) -> bytes:
    """What precedes the body of an event; two line ends follow it."""
    return b"id: %b/%d\nevent: jobs.event\ndata: {" % (epoch, seq)


def encode_id(epoch: bytes, seq: int) -> bytes:
    """A block that moves the id forward."""
    return b"id: %b/%d\n\n" % (epoch, seq)


def encode_retry(milliseconds: int) -> bytes:
    """A block that says after which time a client connects again."""
    return b"retry: %d\n\n" % milliseconds


def encode_sse(epoch: bytes, name: str, params: Struct, at: int | None) -> bytes:
    """A block with the parameters of a notification, whose subscription is "".

    Args:
        epoch: The epoch.
        name: Of the notification.
        params: Its parameters.
        at: The number of an event, for the id; None for a block without an id.
    """
    data = _encode(params).replace(_SUBSCRIPTION, b"", 1)
    head = b"" if at is None else b"id: %b/%d\n" % (epoch, at)
    return b"%bevent: %b\ndata: %b\n\n" % (head, name.encode("ascii"), data)


def read_id(text: str) -> tuple[str, int] | None:
    """The epoch and the number in an id; None if it is none."""
    found = _ID.fullmatch(text)
    return None if found is None else (found[1], int(found[2]))
