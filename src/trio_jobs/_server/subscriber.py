"""One subscription: from a cursor in the feed to frames for the wire.

It is in one of two phases. In a snapshot it sends pages of jobs, each read when it is its turn; the stream stands still
at the event with which the snapshot began, and goes on from there. Otherwise it sends what the cursor gives. When
events are gone it says `jobs.lagged` and begins a snapshot.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from functools import partial

from trio_jobs._backend import Backend
from trio_jobs._engine.event_cursor import Cursor, Filter
from trio_jobs._engine.events import Event
from trio_jobs._engine.status import Progress
from trio_jobs._errors import JobNotFound, Lagged
from trio_jobs._server.event_bodies import EventBodies
from trio_jobs._server.multicast import Multicast, Multicasts, frames
from trio_jobs._server.stream import GuardedStream
from trio_jobs._wire import methods as w
from trio_jobs._wire.codes import SNAPSHOT_PAGE
from trio_jobs._wire.conversion import job_to_wire, progress_to_wire
from trio_jobs._wire.event_encoding import prefix
from trio_jobs._wire.frames import text_frame
from trio_jobs._wire.jsonrpc import encode_notification

__all__ = ["Subscriber"]


class Subscriber:
    """id: the client's. prefix: of each of its frames. on_news: called, synchronously, when there is something to send;
    with True if it may be sent in this step, if it can. cursor: its own, or its multicast's."""

    def __init__(
        self,
        subscription: str,
        backend: Backend,
        bodies: EventBodies,
        wanted: Filter,
        after: int,
        on_news: Callable[[Subscriber, bool], None],
    ) -> None:
        self.id = subscription
        self.prefix = prefix(subscription)
        self.cursor = Cursor(backend.events, after, wanted, partial(on_news, self, True))
        self._on_news = on_news
        self._backend = backend
        self._bodies = bodies
        self._multicast: Multicast | None = None
        self._page: deque[str] | None = None
        self._catching_up = after < backend.events.seq

    @property
    def caught_up(self) -> bool:
        return self.cursor.idle and self._page is None

    # alone or in a multicast

    def begin(self) -> None:
        """Be told of news from now on."""
        self.cursor.attach()

    def end(self) -> None:
        """Be told no more. Harmless when repeated."""
        if self._multicast is not None:
            multicast, self._multicast = self._multicast, None
            self.cursor = self._own(self.cursor.position)
            multicast.leave(self)
        self.cursor.detach()

    def join(self, multicasts: Multicasts, stream: GuardedStream) -> None:
        """Go on in a multicast, if there is one for it where it is. `stream` is its connection's."""
        if self._multicast is None and self.caught_up and stream.free and self.cursor.filter.jobs is None:
            multicast = self._multicast = multicasts.join(self, stream, self.prefix, self.cursor)
            if multicast is not None:
                self.cursor.detach()
                self.cursor = multicast.cursor

    def go_alone(self, after: int) -> None:
        self._multicast = None
        self.cursor = self._own(after)
        self.cursor.attach()
        self._on_news(self, False)

    def _own(self, after: int) -> Cursor:
        return Cursor(self._backend.events, after, self.cursor.filter, partial(self._on_news, self, True))

    # what it sends

    def begin_snapshot(self) -> None:
        """The jobs as they are first, then the stream from here on."""
        wanted = self.cursor.filter
        self.cursor.seq = self.cursor.source.seq
        self.cursor.idle = False
        self._page = deque(self._backend.snapshot() if wanted.jobs is None else sorted(wanted.jobs))
        self._catching_up = True

    def collect_nowait(self) -> list[bytes] | None:
        """Parts of frames for one write, from what is at hand; none: all is sent. None: use `collect`."""
        if self._page is not None:
            return [self._snapshot_page()]
        try:
            events = self.cursor.read_nowait()
            if events is None:
                self._catching_up = True
                return None
            return self._parts(events)
        except Lagged as lagged:
            return [self._lagged(lagged)]

    async def collect(self) -> list[bytes]:
        """The same, from the store if need be. Cancelled: nothing is taken."""
        parts = self.collect_nowait()
        if parts is None:
            try:
                return self._parts(await self.cursor.read())
            except Lagged as lagged:
                return [self._lagged(lagged)]
        return parts

    def _parts(self, events: Sequence[Event]) -> list[bytes]:
        parts = frames(self.prefix, events, self.cursor, self._bodies.body)
        if self._catching_up and self.cursor.idle:
            self._catching_up = False
            parts.append(self.position())
        return parts

    def position(self) -> bytes:
        return self._told("jobs.position", w.Position(self.id, self.cursor.position))

    def progress(self, news: Progress) -> bytes | None:
        """None if the job is not one of this subscription's, as far as can be said."""
        wanted = self.cursor.filter
        if wanted.jobs is not None and news.job_id not in wanted.jobs:
            return None
        if wanted.kinds is not None and self.cursor.source.kind_of(news.job_id) not in wanted.kinds:
            return None
        return self._told("jobs.progress", progress_to_wire(self.id, news))

    def _lagged(self, lagged: Lagged) -> bytes:
        self.begin_snapshot()
        return self._told("jobs.lagged", w.Lagged(self.id, lagged.after + 1, self.cursor.seq))

    def _snapshot_page(self) -> bytes:
        assert self._page is not None
        page, wanted, jobs = self._page, self.cursor.filter, []
        for _ in range(min(len(page), SNAPSHOT_PAGE)):  # those that do not fit count too: each costs 10 us to look at
            try:
                job = self._backend.get(page.popleft())
            except JobNotFound:
                continue  # pruned since the snapshot began, or never there
            if wanted.kinds is not None and job.kind not in wanted.kinds:
                continue
            if wanted.states is None or job.state in wanted.states:
                jobs.append(job_to_wire(job))
        last = not page
        if last:
            self._page = None
        return self._told("jobs.snapshot", w.Snapshot(self.id, self.cursor.source.seq, jobs, last))

    @staticmethod
    def _told(method: str, params: w.Position | w.Lagged | w.Snapshot | w.ProgressParams) -> bytes:
        return text_frame(encode_notification(method, params))
