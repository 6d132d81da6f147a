"""One subscription: from a cursor in the feed to frames for the wire.

A subscription has two phases. In a snapshot it sends pages of jobs, each read immediately before it is sent; the cursor
stays at the event with which the snapshot began, and the events after it follow the snapshot. Otherwise it sends the
events that the cursor returns. If events are no longer retained, it sends `jobs.lagged` and begins a snapshot.

A snapshot keeps no list of jobs: it is a position in the order of the submits, or in the ids of the filter.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from trio_jobs._backend import Backend
from trio_jobs._engine.event_cursor import Cursor, Filter
from trio_jobs._engine.events import Event
from trio_jobs._engine.jobs import Job
from trio_jobs._engine.progress import Progress
from trio_jobs._errors import Lagged
from trio_jobs._lookup_errors import JobNotFound
from trio_jobs._server.bound_backend import bound
from trio_jobs._server.event_bodies import EventBodies
from trio_jobs._server.multicast import Multicast, Multicasts, frames
from trio_jobs._server.pacing import STEP, Pacer
from trio_jobs._server.stream import GuardedStream
from trio_jobs._server.stream_formats import StreamFormat, WebSocketFormat
from trio_jobs._wire import methods as w
from trio_jobs._wire.codes import SNAPSHOT_PAGE
from trio_jobs._wire.conversion import progress_to_wire
from trio_jobs._wire.field_scopes import limit_to
from trio_jobs._wire.pages import JobPage, SnapshotOut

__all__ = ["Subscriber"]


class _Snapshot:
    """How far the jobs of a snapshot have been sent.

    Args:
        until: The event with which the snapshot begins. Later jobs follow as events.
    """

    def __init__(self, backend: Backend, wanted: Filter, until: int) -> None:
        self._backend = backend
        self._wanted = wanted
        self._ids = None if wanted.jobs is None else sorted(wanted.jobs)
        self._after = 0
        self._until = until

    @property
    def is_done(self) -> bool:
        return self._after >= (self._until if self._ids is None else len(self._ids))

    def step(self, page: JobPage) -> None:
        """Add the next jobs to a page: at most `STEP`, and as many as it takes."""
        limit = min(STEP, page.room)
        if self._ids is None:
            wanted = self._wanted
            self._after = self._backend.snapshot(
                self._after, self._until, wanted.kinds, wanted.states, limit, page.take
            )
            return
        for job_id in self._ids[self._after : self._after + limit]:
            job = self._job(job_id)
            if job is not None and not page.take(job):
                break
            self._after += 1

    def _job(self, job_id: str) -> Job | None:
        wanted = self._wanted
        try:
            job = self._backend.get(job_id, brief=True)
        except JobNotFound:
            return None  # pruned since the snapshot began, or the filter names an unknown job
        matches = (wanted.kinds is None or job.kind in wanted.kinds) and (
            wanted.states is None or job.state in wanted.states
        )
        return job if matches else None


class Subscriber:
    """One subscription.

    Args:
        subscription: The id that the client has chosen.
        backend: The queue.
        bodies: The cache of encoded events.
        pacer: Runs the steps of snapshots.
        wanted: The filter.
        after: The first event is the one after this.
        on_news: Called synchronously when something can be sent. The second argument is True if it may be sent in the
            same step.
        format: In which the events are sent; None for messages of a WebSocket.

    Attributes:
        id: The id of the subscription.
        cursor: The cursor of the subscription, or of its multicast.
    """

    def __init__(
        self,
        subscription: str,
        backend: Backend,
        bodies: EventBodies,
        pacer: Pacer,
        wanted: Filter,
        after: int,
        on_news: Callable[[Subscriber, bool], None],
        *,
        format: StreamFormat | None = None,  # noqa: A002 - what it is
    ) -> None:
        self.id = subscription
        self._format = WebSocketFormat(subscription) if format is None else format
        self.cursor = Cursor(backend.events, after, wanted, partial(on_news, self, True))
        self._on_news = on_news
        self._backend = bound(backend, wanted.bounds)
        self._bodies = bodies
        self._pacer = pacer
        self._multicast: Multicast | None = None
        self._snapshot: _Snapshot | None = None
        self._catching_up = after < backend.events.seq

    @property
    def followed_jobs(self) -> int:
        """How many jobs its filter names; 0 if it follows all."""
        return len(self.cursor.filter.jobs or ())

    @property
    def can_resume(self) -> bool:
        """A client that has received everything so far can resume: no snapshot has begun."""
        return self._snapshot is None

    @property
    def caught_up(self) -> bool:
        return self.cursor.idle and self._snapshot is None

    # its own cursor or a multicast

    def begin(self) -> None:
        """Attach to the feed."""
        self.cursor.attach()

    def leave(self) -> None:
        """Leave the multicast, if it is in one. Its own cursor, at the same position, is not attached to the feed."""
        if self._multicast is not None:
            multicast, self._multicast = self._multicast, None
            self.cursor = self._own(self.cursor.position)
            multicast.leave(self)

    def end(self) -> None:
        """Leave the multicast and the feed. Repeated calls have no effect; nothing else may be called after it."""
        self.leave()
        self.cursor.end()

    def join(self, multicasts: Multicasts, stream: GuardedStream) -> None:
        """Join a multicast at the current position, if that is possible. `stream` is that of the connection."""
        if self._multicast is None and self.caught_up and stream.free and self.cursor.filter.jobs is None:
            multicast = self._multicast = multicasts.join(self, stream, self._format, self.cursor)
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

    # output

    def begin_snapshot(self) -> None:
        """Send the jobs as they are now, then the events after the current one."""
        self.cursor.seq = self.cursor.source.seq
        self.cursor.idle = False
        self._snapshot = _Snapshot(self._backend, self.cursor.filter, self.cursor.seq)
        self._catching_up = True

    def collect_nowait(self) -> list[bytes] | None:
        """Return parts of frames for one write, without a wait.

        Returns:
            The parts; empty if everything is sent. None during a snapshot, or if the store must be read: use `collect`.
        """
        if self._snapshot is not None:
            return None
        try:
            events = self.cursor.read_nowait()
            if events is None:
                self._catching_up = True
                return None
            return self._parts(events)
        except Lagged as lagged:
            return [self._lagged(lagged)]

    async def collect(self) -> list[bytes]:
        """Return parts of frames for one write. Reads events from the store if the feed does not retain them.

        Cancelled:
            The cursor has not moved; a page of a snapshot is lost.
        """
        if self._snapshot is not None:
            return [await self._snapshot_page(self._snapshot)]
        parts = self.collect_nowait()
        if parts is None:
            try:
                return self._parts(await self.cursor.read())
            except Lagged as lagged:
                return [self._lagged(lagged)]
        return parts

    def _parts(self, events: Sequence[Event]) -> list[bytes]:
        parts = frames(self._format, events, self.cursor, self._bodies.body)
        if self._catching_up and self.cursor.idle:
            self._catching_up = False
            if self.cursor.filter.bounds.jobs is None:  # a ticket does not tell how many events other jobs have
                parts.append(self.position())
        return parts

    def position(self) -> bytes:
        return self.notification("jobs.position", w.Position(self.id, self.cursor.position))

    def progress(self, news: Progress) -> bytes | None:
        """Encode a job's progress; None if the job does not match the filter, or its kind is not known any more."""
        wanted = self.cursor.filter
        if wanted.jobs is not None and news.job_id not in wanted.jobs:
            return None
        if wanted.kinds is not None or wanted.bounds:
            source = self.cursor.source
            kind = (source.identity_of(news.job_id) or ("",))[0]
            if wanted.kinds is not None and kind not in wanted.kinds:
                return None
            if not wanted.bounds.include(kind, source.labels_of(news.job_id), news.job_id):
                return None
        return self.notification("jobs.progress", limit_to(progress_to_wire(self.id, news), self._bodies.scope))

    def _lagged(self, lagged: Lagged) -> bytes:
        self.begin_snapshot()
        return self.notification("jobs.lagged", w.Lagged(self.id, lagged.after + 1, self.cursor.seq))

    async def _snapshot_page(self, snapshot: _Snapshot) -> bytes:
        page = JobPage(SNAPSHOT_PAGE, self._bodies.scope)
        while page.room and not snapshot.is_done:
            await self._pacer.run(partial(snapshot.step, page))
        if snapshot.is_done:
            self._snapshot = None
        params = SnapshotOut(self.id, self.cursor.source.seq, page.jobs, snapshot.is_done)
        return self.notification("jobs.snapshot", params, self.cursor.seq if snapshot.is_done else None)

    def notification(
        self, method: str, params: w.Position | w.Lagged | SnapshotOut | w.ProgressParams, at: int | None = None
    ) -> bytes:
        """Encode a notification. at: as of `StreamFormat.notification`."""
        return self._format.notification(method, params, at)
