"""Subscribers in step: those who asked for the same under the same id, and have missed nothing.

Each event goes to all of them as the very same bytes, so they share one cursor, the bytes are joined once, and what is
left for each is to hand them to its socket. That is as near to bare sockets as it gets: of 100 deliveries, nothing but
the 100 sends costs anything.

Who cannot take the bytes at once leaves before it would have had them, and goes on alone from there, by its own cursor
and its connection's pump; so the slow delay nobody and miss nothing. Once it has caught up it may join again. Streams
through TLS, of certain jobs, or that are catching up never are in a multicast.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Final, Protocol

from trio_jobs._engine.event_cursor import Cursor, EventSource, Filter
from trio_jobs._engine.events import Event
from trio_jobs._errors import Lagged
from trio_jobs._server.event_bodies import EventBodies
from trio_jobs._server.stream import GuardedStream
from trio_jobs._wire.frames import text_header

__all__ = ["JOINED", "Member", "Multicast", "Multicasts", "frames"]

JOINED: Final = 64 * 1024  #: bytes in one write: as much as a socket's buffer takes at once
MOST: Final = 100  #: members of a multicast: they are written to in one step of the loop, some 5 us each
ROUNDS: Final = 4  #: writes to each in one step: 800 events, more than a queue makes between two


def frames(prefix: bytes, events: Sequence[Event], cursor: Cursor, body_of: Callable[[Event], bytes]) -> list[bytes]:
    """What the cursor wants of `events` as parts of frames, `JOINED` bytes at most; the others are given back to it.

    events: just taken from `cursor`. Raises `Lagged` when it is the first of them of which nothing can be said.
    """
    everything, wants = cursor.filter.is_open, cursor.wants
    parts: list[bytes] = []
    size, lead = 0, len(prefix)
    for event in events:
        try:
            if not (everything or wants(event)):
                continue
        except Lagged:
            if not parts:
                raise
            cursor.unread(event)
            break
        body = body_of(event)
        length = lead + len(body)
        size += length
        if size > JOINED and parts:
            cursor.unread(event)
            break
        parts += (text_header(length), prefix, body)
    return parts


class Member(Protocol):
    """A subscription that can be in a multicast."""

    def go_alone(self, after: int) -> None:
        """It is out: the next event for it is the one after `after`. Synchronous."""
        ...


class Multicast:
    """cursor: where all of them are. on_empty: called when the last one has left; the multicast is then over."""

    def __init__(
        self,
        source: EventSource,
        bodies: EventBodies,
        prefix: bytes,
        wanted: Filter,
        after: int,
        on_empty: Callable[[Multicast], None],
    ) -> None:
        self.cursor = Cursor(source, after, wanted, self._send_news)
        self.cursor.idle = True
        self._members: dict[Member, GuardedStream] = {}
        self._prefix = prefix
        self._body_of = bodies.body
        self._on_empty = on_empty

    def __len__(self) -> int:
        return len(self._members)

    def join(self, member: Member, stream: GuardedStream) -> None:
        """`member` has had, or did not want, all events up to where the cursor is."""
        self._members[member] = stream
        self.cursor.weight = len(self._members)
        self.cursor.attach()

    def leave(self, member: Member) -> None:
        del self._members[member]
        self.cursor.weight = len(self._members)
        if not self._members:
            self.cursor.detach()
            self._on_empty(self)

    def _send_news(self) -> None:
        cursor = self.cursor
        for _ in range(ROUNDS):
            after = cursor.seq
            try:
                events = cursor.read_nowait()
                parts = None if events is None else frames(self._prefix, events, cursor, self._body_of)
            except Lagged:  # each is told so by itself
                parts = None
            if parts is None:
                self._dismiss([*self._members], after)
                return
            if parts:
                self._send(b"".join(parts), after)
            if cursor.idle:
                return
        self._dismiss([*self._members], cursor.seq)

    def _send(self, data: bytes, after: int) -> None:
        size = len(data)
        late: list[Member] = []
        for member, stream in self._members.items():
            if stream.free:
                try:
                    sent = stream.send(data)
                except OSError as error:
                    stream.not_sent(data, error)
                else:
                    if sent != size:
                        stream.keep(data[sent:])
            else:
                late.append(member)
        if late:
            self._dismiss(late, after)

    def _dismiss(self, members: list[Member], after: int) -> None:
        for member in members:
            self.leave(member)
            member.go_alone(after)


class Multicasts:
    """All multicasts of a server, by what they send."""

    def __init__(self, source: EventSource, bodies: EventBodies) -> None:
        self._source = source
        self._bodies = bodies
        self._multicasts: dict[tuple[bytes, Filter], list[Multicast]] = {}

    def __len__(self) -> int:
        return sum(len(multicast) for multicasts in self._multicasts.values() for multicast in multicasts)

    def join(self, member: Member, stream: GuardedStream, prefix: bytes, cursor: Cursor) -> Multicast | None:
        """A multicast that is where `cursor`, the member's own, is; it is in it from now on. None: go on alone for now.

        cursor: still attached, and with nothing left to take.
        """
        key = (prefix, cursor.filter)
        multicasts = self._multicasts.setdefault(key, [])
        multicast = next((multicast for multicast in multicasts if len(multicast) < MOST), None)
        if multicast is None:
            multicast = Multicast(
                self._source, self._bodies, prefix, cursor.filter, cursor.seq, partial(self._forget, key)
            )
            multicasts.append(multicast)
        elif not multicast.cursor.idle or multicast.cursor.seq != cursor.seq:
            return None
        multicast.join(member, stream)
        return multicast

    def _forget(self, key: tuple[bytes, Filter], multicast: Multicast) -> None:
        multicasts = self._multicasts[key]
        multicasts.remove(multicast)
        if not multicasts:
            del self._multicasts[key]
