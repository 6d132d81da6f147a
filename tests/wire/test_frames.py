"""Frames that we make, and frames that we count."""

from __future__ import annotations

import os
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wsproto.connection import Connection, ConnectionType
from wsproto.events import CloseConnection, Ping, TextMessage
from wsproto.frame_protocol import FrameProtocol

from trio_jobs._wire.codes import CloseCode
from trio_jobs._wire.frames import FrameLimiter, LimitExceeded, close_frame, ping_frame, text_frame


def as_client(*frames: bytes) -> list[object]:
    client = Connection(ConnectionType.CLIENT)
    client.receive_data(b"".join(frames))
    return list(client.events())


@pytest.mark.parametrize("length", [0, 1, 125, 126, 127, 65535, 65536, 200_000])
def test_wsproto_reads_our_text_frames(length: int) -> None:
    events = as_client(text_frame(b"x" * length), text_frame(b"end"))
    texts = "".join(event.data for event in events if isinstance(event, TextMessage))
    assert texts == "x" * length + "end"


def test_wsproto_reads_our_control_frames() -> None:
    ping, close = as_client(ping_frame(b"p"), close_frame(4429, "too many"))
    assert isinstance(ping, Ping)
    assert bytes(ping.payload) == b"p"
    assert isinstance(close, CloseConnection)
    assert (close.code, close.reason) == (4429, "too many")


def test_a_long_reason_is_cut_between_characters() -> None:
    (close,) = as_client(close_frame(1001, "é" * 200))
    assert isinstance(close, CloseConnection)
    assert close.reason == "é" * 61


def from_client(messages: Iterable[tuple[str, int]]) -> tuple[bytes, int]:
    """Client bytes for messages in so many fragments, and how many frames that is."""
    proto = FrameProtocol(client=True, extensions=[])
    data, frames = b"", 0
    for text, fragments in messages:
        for i in range(fragments):
            data += proto.send_data(text if i == 0 else "", fin=i == fragments - 1)
            frames += 1
    return data, frames


@given(
    st.lists(st.tuples(st.text(max_size=300), st.integers(1, 4)), max_size=6),
    st.lists(st.integers(1, 40), min_size=1, max_size=50),
)
def test_however_bytes_arrive_the_frames_are_counted_right(messages: list[tuple[str, int]], cuts: list[int]) -> None:
    data, frames = from_client(messages)
    meter, at, i = FrameLimiter(10_000), 0, 0
    while at < len(data):
        meter.feed(data[at : at + cuts[i % len(cuts)]])
        at += cuts[i % len(cuts)]
        i += 1
    assert meter.frames == frames
    assert not meter.closed


def test_a_message_that_announces_too_much_is_refused_before_it_comes() -> None:
    header = bytes((0x81, 0x80 | 127)) + (2**40).to_bytes(8, "big") + os.urandom(4)
    with pytest.raises(LimitExceeded) as caught:
        FrameLimiter(1024).feed(header)
    assert caught.value.code is CloseCode.TOO_BIG


def test_fragments_add_up() -> None:
    data, _ = from_client([("x" * 600, 1)])
    meter = FrameLimiter(1000)
    meter.feed(bytes([data[0] & 0x7F]) + data[1:])  # not the last one
    with pytest.raises(LimitExceeded):
        meter.feed(bytes([0x80]) + data[1:])


def test_empty_fragments_count() -> None:
    meter = FrameLimiter(1000, max_fragments=64)
    empty = bytes((0x00, 0x80)) + bytes(4)
    meter.feed(bytes((0x01, 0x80)) + bytes(4) + empty * 63)
    with pytest.raises(LimitExceeded) as caught:
        meter.feed(empty)
    assert caught.value.code is CloseCode.TOO_MANY


def test_a_close_frame_is_noticed() -> None:
    meter = FrameLimiter(1000)
    meter.feed(FrameProtocol(client=True, extensions=[]).close(1000, "bye"))
    assert meter.closed
