"""WebSocket frames (RFC 6455, section 5): a server's are made here, for joined writes; a client's are only counted.

wsproto decodes what comes in. It keeps each fragment of a message, down to a byte or none at all, so that a message far
below any limit of size can cost any amount of memory: `FrameLimiter` looks at the headers before it does.
"""

from __future__ import annotations

import struct
from typing import Final

from trio_jobs._wire.codes import CloseCode

__all__ = ["FrameLimiter", "LimitExceeded", "close_frame", "ping_frame", "text_frame", "text_header"]

_PING: Final = 0x9
_CLOSE: Final = 0x8
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
    """A close frame; `reason` is cut to the 123 bytes that have room."""
    payload = struct.pack("!H", code) + reason.encode()[:123].decode(errors="ignore").encode()
    return bytes((0x80 | _CLOSE, len(payload))) + payload


class LimitExceeded(Exception):
    """The client sends more than it may; `code` is what to close with."""

    def __init__(self, code: CloseCode, reason: str) -> None:
        self.code: Final = code
        self.reason: Final = reason
        super().__init__(reason)


class FrameLimiter:
    """Follows a client's frames by their headers.

    max_message: bytes of a message, all its fragments together; told by the header, so before they come. max_fragments:
    frames of a message; 64 of 16 KiB make the largest one.
    """

    def __init__(self, max_message: int, max_fragments: int = 64) -> None:
        self.frames = 0
        self.closed = False
        self._max_message = max_message
        self._max_fragments = max_fragments
        self._header = bytearray()
        self._skip = 0
        self._message = 0
        self._fragments = 0

    def feed(self, data: bytes | bytearray) -> None:
        """Count what begins in `data`. Raises `LimitExceeded`. A malformed header is left for the decoder to refuse."""
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
            self.closed = self.closed or opcode == _CLOSE
            return
        self._fragments += 1
        self._message += length
        if self._message > self._max_message:
            raise LimitExceeded(CloseCode.TOO_BIG, f"a message may have {self._max_message} bytes")
        if self._fragments > self._max_fragments:
            raise LimitExceeded(CloseCode.TOO_MANY, f"a message may have {self._max_fragments} fragments")
        if first & 0x80:
            self._fragments = self._message = 0
