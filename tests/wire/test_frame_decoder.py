"""What a server sends, decoded: the same messages as wsproto decodes, however the bytes arrive."""

from __future__ import annotations

import itertools
import os
from collections.abc import Sequence

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from wsproto.connection import Connection, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Ping, Pong, TextMessage

from trio_jobs._wire.frame_decoder import FrameDecoder
from trio_jobs._wire.frames import close_frame, ping_frame, text_frame

LARGE = 2**20

Decoded = tuple[list[str | bytes], list[object]]


def frame(opcode: int, payload: bytes, *, last: bool = True, reserved: int = 0, mask: bool = False) -> bytes:
    first = (0x80 if last else 0) | reserved | opcode
    length = len(payload)
    masked = 0x80 if mask else 0
    if length < 126:
        header = bytes((first, masked | length))
    elif length < 65536:
        header = bytes((first, masked | 126)) + length.to_bytes(2)
    else:
        header = bytes((first, masked | 127)) + length.to_bytes(8)
    return header + (bytes(4) if mask else b"") + payload


def cut(data: bytes, sizes: Sequence[int]) -> list[bytes]:
    parts: list[bytes] = []
    at = 0
    while at < len(data):
        size = sizes[len(parts) % len(sizes)]
        parts.append(data[at : at + size])
        at += size
    return parts


def by_wsproto(parts: list[bytes]) -> Decoded:
    """The messages and the rest; a violation is a `CloseConnection` with its code."""
    connection = Connection(ConnectionType.CLIENT)
    messages: list[str | bytes] = []
    rest: list[object] = []
    pieces: list[str | bytes] = []
    for part in parts:
        connection.receive_data(part)
        for event in connection.events():
            if isinstance(event, TextMessage | BytesMessage):
                pieces.append(event.data if isinstance(event, TextMessage) else bytes(event.data))
                if event.message_finished:
                    messages.append(type(pieces[0])().join(pieces))  # type: ignore[arg-type]  # all of one type
                    pieces = []
            else:
                rest.append(plain(event))
    return messages, rest


def plain(event: object) -> object:
    if isinstance(event, Ping | Pong):
        return type(event), bytes(event.payload)
    assert isinstance(event, CloseConnection)
    return int(event.code)


def by_us(parts: list[bytes]) -> Decoded:
    """As the client decodes: wsproto decodes the control frames alone."""
    decoder = FrameDecoder(LARGE)
    messages: list[str | bytes] = []
    rest: list[object] = []
    control = Connection(ConnectionType.CLIENT)
    for part in parts:
        found, frames = decoder.feed(part)
        messages += found
        control.receive_data(b"".join(frames))
        rest += map(plain, control.events())
    if decoder.error is not None:
        rest.append(decoder.error.code)
    return messages, rest


CONTROL = st.one_of(
    st.binary(max_size=125).map(lambda payload: frame(0x9, payload)),
    st.binary(max_size=125).map(lambda payload: frame(0xA, payload)),
)
CLOSING = st.one_of(
    st.sampled_from([1000, 1001, 1009, 3000, 4401, 4429]).map(lambda code: close_frame(code, "bye")),
    st.sampled_from(
        [frame(0x8, b""), frame(0x8, b"x"), close_frame(1006), close_frame(999), frame(0x8, b"\x03\xe8\xff")]
    ),
)
LENGTHS = st.sampled_from([0, 1, 124, 125, 126, 127, 300, 65534, 65535, 65536, 65537])
PAYLOADS = st.one_of(
    st.text(max_size=60).map(str.encode).map(lambda text: (0x1, text)),
    st.binary(max_size=60).map(lambda data: (0x2, data)),
    LENGTHS.map(lambda length: (0x1, b"x" * length)),
)


@st.composite
def a_message(draw: st.DrawFn) -> bytes:
    """A message in any fragments, also in the middle of a character, with control frames between them."""
    opcode, payload = draw(PAYLOADS)
    cuts = sorted(draw(st.lists(st.integers(0, len(payload)), max_size=4)))
    edges = [0, *cuts, len(payload)]
    data = b""
    for number, (begin, end) in enumerate(itertools.pairwise(edges)):
        data += frame(opcode if number == 0 else 0x0, payload[begin:end], last=number == len(cuts))
        if number < len(cuts):
            data += b"".join(draw(st.lists(CONTROL, max_size=2)))
    return data


STREAMS = st.lists(st.one_of(a_message(), CONTROL), max_size=6).map(b"".join)
SIZES = st.lists(st.integers(1, 70_000) | st.integers(1, 9), min_size=1, max_size=8)


@given(STREAMS, st.none() | CLOSING, STREAMS, SIZES)
def test_any_messages_in_any_fragments_and_any_reads_are_decoded_as_wsproto_does(
    before: bytes, closing: bytes | None, after: bytes, sizes: list[int]
) -> None:
    data = before + (b"" if closing is None else closing + after)
    parts = cut(data, sizes)
    assert by_us(parts) == by_wsproto(parts)


VIOLATIONS = st.one_of(
    st.binary(max_size=20),
    st.tuples(
        st.integers(0, 15),
        st.binary(max_size=130),
        st.booleans(),
        st.sampled_from([0, 0, 0x10, 0x20, 0x40]),
        st.booleans(),
    ).map(lambda row: frame(row[0], row[1], last=row[2], reserved=row[3], mask=row[4])),
)


@given(st.lists(st.one_of(a_message(), CONTROL, VIOLATIONS), max_size=6).map(b"".join), SIZES)
@example(frame(0x1, b"\xff"), [100])
@example(frame(0x1, b"\xc3", last=False) + frame(0x0, b"\x28"), [100])
@example(frame(0x1, b"\xe2\x82", last=False) + frame(0x0, b""), [1])
@example(frame(0x1, b"\xed\xa0\x80"), [2])
@example(frame(0x1, b"a", last=False) + frame(0x1, b"b"), [100])
@example(frame(0x0, b"a"), [100])
@example(bytes((0x81, 126, 0, 125)) + bytes(125), [3])
@example(bytes((0x81, 127)) + (65535).to_bytes(8) + bytes(65535), [100])
@example(bytes((0x82, 127)) + (2**63).to_bytes(8), [4])
def test_whatever_arrives_the_messages_and_the_end_are_those_of_wsproto(data: bytes, sizes: list[int]) -> None:
    parts = cut(data, sizes)
    messages, rest = by_us(parts)
    theirs, their_rest = by_wsproto(parts)
    assert messages == theirs
    if rest == their_rest:
        return
    # a header that is invalid already is refused before all of it has come, and a length before its payload
    assert rest[:-1] == their_rest
    assert rest[-1] in (1002, 1009)
    more = [*parts, bytes(200)]
    assert rest[-1] == 1009 or by_wsproto(more)[1] == rest


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (frame(0x1, b"x", mask=True), 1002),
        (frame(0x9, b"", mask=True), 1002),
        (frame(0x1, b"x", reserved=0x40), 1002),  # compressed, which was not negotiated
        (frame(0x3, b"x"), 1002),
        (frame(0x9, b"x", last=False), 1002),
        (frame(0x9, bytes(126)), 1002),
        (frame(0x1, b"a", last=False) + frame(0x2, b"b"), 1002),
        (frame(0x0, b"a"), 1002),
        (frame(0x1, b"\xff"), 1007),
        (frame(0x1, b"\xe2\x82", last=False) + frame(0x0, b"a", last=False), 1007),
        (frame(0x1, b"\xe2\x82"), 1007),
        (frame(0x1, b"x" * 101), 1009),
        (frame(0x1, b"x" * 60, last=False) + frame(0x0, b"x" * 41)[:2], 1009),
        (bytes((0x82, 127)) + (2**40).to_bytes(8), 1009),
    ],
)
def test_what_breaks_the_protocol_has_a_close_code_and_what_came_before_it_is_decoded(data: bytes, code: int) -> None:
    decoder = FrameDecoder(100)
    messages, control = decoder.feed(text_frame(b"before") + ping_frame(b"p") + data + text_frame(b"behind"))
    assert (messages, control) == (["before"], [ping_frame(b"p")])
    assert decoder.error is not None
    assert decoder.error.code == code
    assert decoder.feed(text_frame(b"more")) == ([], [])


def test_a_message_of_the_largest_size_is_decoded_whole_and_in_fragments() -> None:
    decoder = FrameDecoder(100)
    data = text_frame(b"x" * 100) + frame(0x1, b"y" * 99, last=False) + frame(0x0, b"y")
    assert decoder.feed(data * 2) == (["x" * 100, "y" * 100] * 2, [])
    assert decoder.error is None


def test_invalid_text_is_refused_before_the_rest_of_its_message_comes() -> None:
    decoder = FrameDecoder(LARGE)
    decoder.feed(frame(0x1, b"\xff" + bytes(1000))[:10])
    assert decoder.error is not None
    assert decoder.error.code == 1007


def test_what_comes_behind_a_close_frame_is_discarded() -> None:
    decoder = FrameDecoder(LARGE)
    end = close_frame(1001)
    assert decoder.feed(text_frame(b"a") + end + text_frame(b"b") + os.urandom(9)) == (["a"], [end])
    assert decoder.closed
    assert decoder.feed(b"\xff" * 9) == ([], [])
    assert decoder.error is None
