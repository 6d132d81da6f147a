"""How events and notifications of a subscription are written: as messages of a WebSocket, or as server-sent events.

Both use the same encoded events, so an event is encoded once for the subscribers of both.
"""

from __future__ import annotations

from typing import Final, Protocol, final

from msgspec import Struct

from trio_jobs._wire import methods as w
from trio_jobs._wire.event_encoding import prefix
from trio_jobs._wire.frames import text_frame, text_header
from trio_jobs._wire.jsonrpc import encode_notification
from trio_jobs._wire.sse import encode_id, encode_sse, event_head

__all__ = ["SseFormat", "StreamFormat", "WebSocketFormat"]


class StreamFormat(Protocol):
    """The format of one subscription."""

    @property
    def key(self) -> bytes:
        """Two subscriptions with the same key and filter are sent the same bytes."""
        ...

    @property
    def lead(self) -> int:
        """About how many bytes an event has beside its body."""
        ...

    def event(self, seq: int, body: bytes) -> tuple[bytes, ...]:
        """The parts of an event, to be joined. body: see `event_encoding.encode_body`."""
        ...

    def notification(self, method: str, params: Struct, at: int | None) -> bytes:
        """Encode a notification. at: a client that has received it can resume behind this event; None if it cannot."""
        ...


@final
class WebSocketFormat:
    """Messages of JSON-RPC, each in one frame.

    Args:
        subscription: The id that the client has chosen.
    """

    def __init__(self, subscription: str) -> None:
        self.key: Final = prefix(subscription)
        self.lead: Final = len(self.key)

    def event(self, seq: int, body: bytes) -> tuple[bytes, ...]:
        return text_header(self.lead + len(body)), self.key, body

    def notification(self, method: str, params: Struct, at: int | None) -> bytes:
        return text_frame(encode_notification(method, params))


@final
class SseFormat:
    """Server-sent events, with the epoch and the number of the event as their ids.

    Args:
        epoch: The identity of the history of events.
    """

    def __init__(self, epoch: str) -> None:
        self.key: Final = b"sse"
        self.lead: Final = 40 + len(epoch)
        self._epoch = epoch.encode("ascii")

    def event(self, seq: int, body: bytes) -> tuple[bytes, ...]:
        return event_head(self._epoch, seq), body[:-1], b"\n\n"

    def notification(self, method: str, params: Struct, at: int | None) -> bytes:
        if isinstance(params, w.Position):
            return encode_id(self._epoch, params.seq)
        return encode_sse(self._epoch, method, params, at)
