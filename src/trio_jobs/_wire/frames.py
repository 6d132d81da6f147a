"""WebSocket frames (RFC 6455, section 5): those of the server are encoded here, those of a client are counted.

`frame_decoder` decodes those of a server, wsproto those of a client. wsproto keeps every fragment of a message, also
one of a single byte or of none, so that a message far below the size limit can use any amount of memory.
`FrameLimiter` reads the frame headers before wsproto.
"""

from __future__ import annotations

import struct
from typing import Final

from trio_jobs._wire.codes import MAX_MESSAGE, CloseCode

__all__ = ["CLOSE", "FrameLimiter", "LimitExceeded", "close_frame", "ping_frame", "text_frame", "text_header"]

_PING: Final = 0x9
CLOSE: Final = 0x8  #: the opcode of a close frame
_LONG: Final = struct.Struct("!BBQ").pack
_MIDDLE: Final = struct.Struct("!BBH").pack


def text_header(length: int) -> bytes:
    """The header of an unfragmented, unmasked text frame."""
    if length < 126:
        return bytes((0x81, length))
    if length < 65536:
        return _MIDDLE(0x81, 126, length)
    return _LONG(0x81, 127, length)


def text_frame(text: bytes) -> bytes:
    return text_header(len(text)) + text


def ping_frame(payload: bytes = b"") -> bytes:
    return bytes((0x80 | _PING, len(payload))) + payload


def close_frame(code: int, reason: str = "") -> bytes:
    """A close frame. `reason` is truncated to 123 bytes."""
    payload = struct.pack("!H", code) + reason.encode()[:123].decode(errors="ignore").encode()
    return bytes((0x80 | CLOSE, len(payload))) + payload


class LimitExceeded(Exception):
    """The client has exceeded a limit. `code` is the close code for it."""

    def __init__(self, code: CloseCode, reason: str) -> None:
        self.code: Final = code
        self.reason: Final = reason
        super().__init__(reason)


class FrameLimiter:
    """Counts the frames of a client by their headers.

    max_message: bytes of a message, over all its fragments. The header declares them before they arrive.
    max_fragments: frames of a message; 68 frames of 16 KiB make the largest message.
    """

    def __init__(self, max_message: int, max_fragments: int = MAX_MESSAGE // 16384) -> None:
        self.frames = 0
        self.closed = False
        self._max_message = max_message
        self._max_fragments = max_fragments
        self._header = bytearray()
        self._skip = 0
        self._message = 0
        self._fragments = 0

    def feed(self, data: bytes | bytearray) -> None:
        """Count the frames that begin in `data`. Raises `LimitExceeded`. The decoder rejects malformed headers."""
        at, end = 0, len(data)
        while at < end:
            if self._skip:
                step = min(self._skip, end - at)
                self._skip -= step
                at += step
                continue
            header = self._header
            header.append(data[at])
            at += 1
            if len(header) < 2:
                continue
            short = header[1] & 0x7F
            extra = 2 if short == 126 else 8 if short == 127 else 0
            wanted = 2 + extra + (4 if header[1] & 0x80 else 0)
            take = min(wanted - len(header), end - at)
            header += data[at : at + take]
            at += take
            if len(header) < wanted:
                continue
            length = int.from_bytes(header[2 : 2 + extra]) if extra else short
            self._begin(header[0], length)
            header.clear()

    def _begin(self, first: int, length: int) -> None:
        self.frames += 1
        self._skip = length
        opcode = first & 0x0F
        if opcode & 0x8:
            self.closed = self.closed or opcode == CLOSE
            return
        self._fragments += 1
        self._message += length
        if self._message > self._max_message:
            raise LimitExceeded(CloseCode.TOO_BIG, f"a message has at most {self._max_message} bytes")
        if self._fragments > self._max_fragments:
            raise LimitExceeded(CloseCode.TOO_MANY, f"a message has at most {self._max_fragments} fragments")
        if first & 0x80:
            self._fragments = self._message = 0
