"""Receives the notifications of one subscription, over any number of connections.

The receiver knows the last event that it has received. On each new session it subscribes again behind that event. If
the server cannot resume there, the reader gets a `Gap`, and the subscription starts again with a snapshot.

Received updates wait in a buffer of `BUFFER`. When the buffer is full, the receiver unsubscribes; once its reader has
emptied the buffer, it subscribes again behind what was received. So nothing is lost, the memory is bounded, and the
other requests of the client are not delayed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, Final

import attrs
import msgspec
import trio

from trio_jobs._client.connection_errors import ConnectionLost
from trio_jobs._client.errors import as_exception
from trio_jobs._client.session import Session
from trio_jobs._client.updates import Gap, Snapshot, Update
from trio_jobs._concurrency import WakeUp
from trio_jobs._errors import ConnectionFailed, TrioJobsError
from trio_jobs._wire import conversion
from trio_jobs._wire import methods as w
from trio_jobs._wire.codes import ErrorCode
from trio_jobs._wire.jsonrpc import Answer, Notification

__all__ = ["Receiver", "Routes"]

MOST_BLAMED: Final = 3  #: sessions in a row that may end because of what was sent, while the stream does not come on
BUFFER: Final = 1000  #: updates received and not yet read, some 500 KB


@attrs.frozen
class Routes:
    """What a receiver needs of its client."""

    start: Callable[[Receiver], None]
    """Call `Receiver.begin` with the current session, or with the next one."""
    route: Callable[[Receiver, Session | None], str]
    """Give the receiver a new subscription id on the session; without a session, end its subscription."""


@attrs.define(eq=False)
class _Position:
    """How far a stream has come. seq: None before its first event is known."""

    seq: int | None
    epoch: str | None


class Receiver:
    """One subscription of a client. `next_update` is called by one task; all else by the tasks of the client."""

    def __init__(
        self, routes: Routes, filters: dict[str, Any], after: int | None, epoch: str | None, snapshot: bool
    ) -> None:
        self.read = _Position(after, epoch)
        """How far the reader has come."""
        self._received = _Position(after, epoch)
        self._routes = routes
        self._filters = filters
        self._in_snapshot = snapshot
        self._first_page = True
        self._snapshot_at = 0
        self._known: dict[str, int] = {}
        """The `seq` of each job in the last snapshot: older events of a job are contained in it."""
        self._known_until = 0
        self._buffer: deque[tuple[int | None, Update | None]] = deque()
        self._changed = WakeUp()
        self._overflowed = False
        self._started = trio.Event()
        self._error: TrioJobsError | None = None
        self._blamed = 0
        self._blamed_at: int | None = None

    def __len__(self) -> int:
        return len(self._buffer)

    # for the reader

    async def next_update(self) -> Update:
        """The next update. Raises the error of the server. Cancelled: nothing is lost."""
        await trio.lowlevel.checkpoint_if_cancelled()
        while True:
            while self._buffer:
                seq, update = self._buffer.popleft()
                self.read.epoch = update.epoch if isinstance(update, Gap) else self.read.epoch or self._received.epoch
                if seq is not None:
                    self.read.seq = seq
                if update is not None:
                    return update
            if self._error is not None:
                raise self._error
            if self._overflowed:
                self._overflowed = False
                self._routes.start(self)
            self._changed.clear()
            await self._changed.wait()

    # for the client

    @property
    def has_started(self) -> bool:
        """The server has accepted the subscription once."""
        return self._started.is_set()

    async def started(self) -> None:
        """Wait until the server has accepted the subscription. Raises the error of the server."""
        await self._started.wait()
        if self._error is not None:
            raise self._error

    def fail(self, error: TrioJobsError) -> None:
        """The reader gets `error` after what has been received."""
        self._error = error
        self._changed.set()
        self._started.set()

    def blame(self, lost: ConnectionLost) -> None:
        """A session has ended because of what was sent. Fail if that happens again and again at the same event."""
        seq = self._received.seq
        self._blamed = self._blamed + 1 if seq == self._blamed_at else 1
        self._blamed_at = seq
        if self._blamed >= MOST_BLAMED:
            self.fail(ConnectionFailed(f"the stream cannot continue after event {seq or 0}: {lost}"))

    async def begin(self, session: Session) -> None:
        """Subscribe on this session, behind what was received. Raises `ConnectionLost`."""
        if self._overflowed or self._error is not None:
            return
        received = self._received
        if received.seq is not None and received.epoch not in (None, session.epoch):
            self._put_gap(session.epoch)
        answer = await self._subscribe(session)
        if answer.error is not None and answer.error.code == ErrorCode.CANNOT_RESUME:
            self._put_gap(session.epoch)
            answer = await self._subscribe(session)
        if answer.error is not None:
            self.fail(as_exception(answer.error))

    def _put_gap(self, epoch: str) -> None:
        received = self._received
        self._put(None, Gap(received.seq or 0, epoch, received.epoch not in (None, epoch)))
        received.seq = None
        received.epoch = epoch
        self._in_snapshot = True

    async def _subscribe(self, session: Session) -> Answer:
        subscription = self._routes.route(self, session)
        if self._in_snapshot:
            params = w.Subscribe(subscription, snapshot=True, **self._filters)
        elif self._received.seq is not None:
            params = w.Subscribe(subscription, after=self._received.seq, epoch=session.epoch, **self._filters)
        else:
            params = w.Subscribe(subscription, **self._filters)
        self._first_page = True
        self._known.clear()
        return await session.ask("jobs.subscribe", params, self._on_answer)

    def _on_answer(self, answer: Answer) -> None:
        if answer.error is None:
            result = msgspec.json.decode(answer.result, type=w.SubscribeResult)
            self._received.epoch = result.epoch
            self._snapshot_at = result.seq
            self._started.set()
            if not self._in_snapshot:
                self._put(result.seq, None)

    def on_notification(self, notification: Notification) -> None:
        """A notification of this subscription, in order. Synchronous, since the caller reads from the socket."""
        params = notification.params
        if len(self._buffer) >= BUFFER:
            self._overflowed = True
            self._routes.route(self, None)
        elif isinstance(params, w.EventParams):
            self._on_event(params)
        elif isinstance(params, w.Position):
            if not self._in_snapshot:
                self._put(params.seq, None)
        elif isinstance(params, w.Snapshot):
            self._on_page(params)
        elif isinstance(params, w.Lagged):
            self._put(None, Gap(params.first - 1, self._received.epoch or "", new_history=False))
            self._in_snapshot = self._first_page = True
            self._snapshot_at = params.last
        elif len(self._buffer) < BUFFER // 2:  # progress is not recorded, so it can be dropped
            self._put(None, conversion.progress_from_wire(params))

    def _on_event(self, event: w.EventParams) -> None:
        if event.seq > self._known_until:
            self._known.clear()
        known = event.job is not None and self._known.get(event.job, 0) >= event.seq
        self._put(event.seq, None if known else conversion.event_from_wire(event))

    def _on_page(self, page: w.Snapshot) -> None:
        if self._first_page:
            self._known.clear()
        self._known.update((job.id, job.seq) for job in page.jobs)
        self._known_until = page.seq
        if page.last:
            self._in_snapshot = False
        jobs = tuple(map(conversion.job_from_wire, page.jobs))
        self._put(self._snapshot_at if page.last else None, Snapshot(jobs, self._first_page, page.last))
        self._first_page = False

    def _put(self, seq: int | None, update: Update | None) -> None:
        if seq is not None:
            if self._received.seq is not None and seq < self._received.seq:
                return
            self._received.seq = seq
        if update is None and self._buffer and self._buffer[-1][1] is None:
            self._buffer.pop()
        self._buffer.append((seq, update))
        self._changed.set()
