"""Multicasts: subscriptions that are sent the same bytes.

The members of a multicast have the same filter and the same subscription id, and have been sent all events so far. They
share one cursor, and the frames are encoded and joined once. The only cost of each further member is one send on its
socket.

A member whose stream is not free leaves the multicast before the next bytes are sent. It continues with a cursor of its
own, from the first event that it has not been sent, by the pump of its connection. So a slow client neither delays the
others nor misses an event. Once it is up to date it can join again. A subscription over TLS, or with a filter of jobs,
is never a member.
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
from trio_jobs._server.stream_formats import StreamFormat

__all__ = ["JOINED", "Member", "Multicast", "Multicasts", "frames"]

JOINED: Final = 64 * 1024  #: bytes of one write, which commonly fit into the send buffer of a socket
MOST: Final = 100  #: members of a multicast: one step of the event loop sends to all of them, about 5 us each
ROUNDS: Final = 4  #: writes to each member in one step: 800 events, more than a queue commits between two steps


def frames(
    form: StreamFormat, events: Sequence[Event], cursor: Cursor, body_of: Callable[[Event], bytes]
) -> list[bytes]:
    """Encode the events that match the filter of `cursor`, up to `JOINED` bytes; the others are returned to the cursor.

    Args:
        form: Of the subscriptions.
        events: The events that were just read from `cursor`.
        cursor: The cursor.
        body_of: Encodes an event.

    Returns:
        Parts of frames, to be joined.

    Raises:
        Lagged: The filter cannot be applied to the first event, since its job is pruned.
    """
    everything, wants = cursor.filter.is_open, cursor.wants
    parts: list[bytes] = []
    size, lead = 0, form.lead
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
        size += lead + len(body)
        if size > JOINED and parts:
            cursor.unread(event)
            break
        parts += form.event(event.seq, body)
    return parts


class Member(Protocol):
    """A subscription that can be in a multicast."""

    def go_alone(self, after: int) -> None:
        """Continue without the multicast, with the events after `after`. Synchronous."""
        ...


class Multicast:
    """Subscriptions that share one cursor.

    Args:
        form: Of their subscriptions.
        wanted: The filter of the members.
        after: The members have been sent the events up to this one.
        on_empty: Called when the last member has left. The multicast is not used after that.
    """

    def __init__(
        self,
        source: EventSource,
        bodies: EventBodies,
        form: StreamFormat,
        wanted: Filter,
        after: int,
        on_empty: Callable[[Multicast], None],
    ) -> None:
        self.cursor = Cursor(source, after, wanted, self._send_news)
        self.cursor.idle = True
        self._members: dict[Member, GuardedStream] = {}
        self._form = form
        self._body_of = bodies.body
        self._on_empty = on_empty

    def __len__(self) -> int:
        return len(self._members)

    def join(self, member: Member, stream: GuardedStream) -> None:
        """Add a member. It has been sent all events up to the position of the cursor that match its filter."""
        self._members[member] = stream
        self.cursor.weight = len(self._members)
        self.cursor.attach()

    def leave(self, member: Member) -> None:
        del self._members[member]
        self.cursor.weight = len(self._members)
        if not self._members:
            self.cursor.end()
            self._on_empty(self)

    def _send_news(self) -> None:
        cursor = self.cursor
        for _ in range(ROUNDS):
            after = cursor.seq
            try:
                events = cursor.read_nowait()
                parts = None if events is None else frames(self._form, events, cursor, self._body_of)
            except Lagged:  # each member then reads the same from its own cursor, and notifies its client
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
    """All multicasts of a server, by format and filter."""

    def __init__(self, source: EventSource, bodies: EventBodies) -> None:
        self._source = source
        self._bodies = bodies
        self._multicasts: dict[tuple[bytes, Filter], list[Multicast]] = {}

    def __len__(self) -> int:
        return sum(len(multicast) for multicasts in self._multicasts.values() for multicast in multicasts)

    def join(self, member: Member, stream: GuardedStream, form: StreamFormat, cursor: Cursor) -> Multicast | None:
        """Add a member to a multicast whose cursor is at the position of the member's cursor.

        Args:
            member: The subscription.
            stream: The stream of its connection.
            form: Of its subscription.
            cursor: The member's own cursor: attached, with no event left to read.

        Returns:
            The multicast; None if there is none at this position, so that the member must continue without one.
        """
        key = (form.key, cursor.filter)
        multicasts = self._multicasts.setdefault(key, [])
        multicast = next((multicast for multicast in multicasts if len(multicast) < MOST), None)
        if multicast is None:
            multicast = Multicast(
                self._source, self._bodies, form, cursor.filter, cursor.seq, partial(self._forget, key)
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
