"""The frames of a server to messages (RFC 6455, sections 5 and 8.1), without IO.

Data frames are decoded here. A control frame is returned as it came, for whoever answers pings and closes. No extension
is negotiated. A message that came in one frame and in one read, as almost all do, takes a slice and a decoding.
"""

from __future__ import annotations

import codecs
from typing import Final

from trio_jobs._wire.frames import CLOSE

__all__ = ["FrameDecoder", "InvalidFrame"]

_CONTINUATION: Final = 0x0
_TEXT: Final = 0x1
_OPCODES: Final = frozenset({_CONTINUATION, _TEXT, 0x2, CLOSE, 0x9, 0xA})
_TEXT_FRAME: Final = 0x80 | _TEXT  #: the first byte of a text message in one frame
_PROTOCOL: Final = 1002
_NO_TEXT: Final = 1007
_TOO_BIG: Final = 1009
_new_checker: Final = codecs.getincrementaldecoder("utf-8")


class InvalidFrame(Exception):
    """The server has sent what breaks the protocol.

    Args:
        code: The code for the close frame.
        reason: What it has sent, for the close frame.
    """

    def __init__(self, code: int, reason: str) -> None:
        self.code: Final = code
        self.reason: Final = reason
        super().__init__(reason)


class FrameDecoder:
    """Decodes what a server sends after the handshake.

    Args:
        max_message: Bytes of a message, over all its fragments. A header declares them before they arrive.

    Attributes:
        closed: The server has sent a close frame. What comes after it is discarded.
        error: Why nothing more is decoded; None while all is valid.
    """

    def __init__(self, max_message: int) -> None:
        self.closed = False
        self.error: InvalidFrame | None = None
        self._max_message: Final = max_message
        self._rest = b""
        """The beginning of a header or of a control frame."""
        self._type = _CONTINUATION
        """The opcode of the unfinished message; `_CONTINUATION` if there is none."""
        self._message = bytearray()
        self._left = 0
        """Bytes of the payload of the unfinished data frame that have not come yet."""
        self._is_last = False
        """The data frame is the last one of its message."""
        self._checker = _new_checker()

    def feed(self, data: bytes) -> tuple[list[str | bytes], list[bytes]]:
        """Decode the next bytes.

        Returns:
            The messages that are complete with `data`: text as str, binary as bytes. And the control frames.
        """
        messages: list[str | bytes] = []
        control: list[bytes] = []
        if not self.closed and self.error is None:
            try:
                self._decode(self._rest + data if self._rest else data, messages, control)
            except InvalidFrame as error:
                self.error = error
            except UnicodeDecodeError as error:
                self.error = InvalidFrame(_NO_TEXT, f"a text message that is not UTF-8: {error.reason}")
            if self.error is not None:
                self._message.clear()
        return messages, control

    def _decode(self, data: bytes, messages: list[str | bytes], control: list[bytes]) -> None:
        self._rest = b""
        at, end = 0, len(data)
        while at < end:
            if self._left:
                stop = min(at + self._left, end)
                self._take(data[at:stop], messages)
                at = stop
                continue
            if at + 2 > end:
                break
            first, length, start = data[at], data[at + 1], at + 2
            if first != _TEXT_FRAME or length > 127:
                _check_header(first, length)
            if length > 125:
                start += 2 if length == 126 else 8
                if start > end:
                    break
                length = _long_length(data[at + 2 : start])
            stop = start + length
            if first & 0x08:
                if stop > end:
                    break
                control.append(data[at:stop])
                if first & 0x0F == CLOSE:
                    self.closed = True
                    return
            elif first == _TEXT_FRAME and stop <= end and not self._type and length <= self._max_message:
                messages.append(str(data[start:stop], "utf-8"))
            else:
                self._begin(first, length)
                if not length:
                    self._take(b"", messages)
                stop = start
            at = stop
        self._rest = data[at:]

    def _begin(self, first: int, length: int) -> None:
        """A data frame begins."""
        opcode = first & 0x0F
        if bool(opcode) is bool(self._type):
            why = "a message before the end of the last one" if opcode else "a continuation of no message"
            raise InvalidFrame(_PROTOCOL, why)
        if len(self._message) + length > self._max_message:
            raise InvalidFrame(_TOO_BIG, f"a message of more than {self._max_message} bytes")
        self._type = self._type or opcode
        self._is_last = bool(first & 0x80)
        self._left = length

    def _take(self, payload: bytes, messages: list[str | bytes]) -> None:
        """A part of the payload of a data frame."""
        self._left -= len(payload)
        self._message += payload
        is_complete = self._is_last and not self._left
        if self._type == _TEXT:  # at once, since the rest of the message may never come
            self._checker.decode(payload, is_complete)
        if is_complete:
            messages.append(self._message.decode() if self._type == _TEXT else bytes(self._message))
            self._message.clear()
            self._type = _CONTINUATION


def _check_header(first: int, second: int) -> None:
    opcode = first & 0x0F
    if first & 0x70:
        raise InvalidFrame(_PROTOCOL, "a frame with a reserved bit")
    if opcode not in _OPCODES:
        raise InvalidFrame(_PROTOCOL, f"a frame with the reserved opcode {opcode:#x}")
    if second & 0x80:
        raise InvalidFrame(_PROTOCOL, "a masked frame")
    if opcode & 0x08 and (not first & 0x80 or second > 125):
        raise InvalidFrame(_PROTOCOL, "a control frame that is fragmented or has more than 125 bytes")


def _long_length(encoded: bytes) -> int:
    length = int.from_bytes(encoded)
    if length < (126 if len(encoded) == 2 else 65536) or length >> 63:
        raise InvalidFrame(_PROTOCOL, "a frame whose length is not encoded in the fewest bytes, or is negative")
    return length
