"""A stream of events that outlives its connections.

It knows how far it has come. On each new session it subscribes again behind that event; where the server cannot go on
from there it says so (`Gap`) and begins anew with a snapshot. What has been received waits in a buffer of `BUFFER`;
when its reader is slower than that, the subscription is ended, and begun again behind what was received once the buffer
is empty: so nothing is lost, nothing is kept without end, and the other requests of the client are not held up.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, Final

import attrs
import msgspec
import trio

from trio_jobs._client.errors import as_exception
from trio_jobs._client.session import Session
from trio_jobs._errors import TrioJobsError
from trio_jobs._wire import methods as w
from trio_jobs._wire.codes import ErrorCode
from trio_jobs._wire.jsonrpc import Answer, Notification
from trio_jobs._wire.schemas import EventView, JobView

__all__ = ["Gap", "Snapshot", "Subscription", "Update"]

BUFFER: Final = 1000  #: updates received and not yet read, some 500 KB


@attrs.frozen
class Gap:
    """What came after event `after` cannot be had any more; the snapshot that follows tells what has become of it.

    new_history: the server's events are others altogether (`epoch` names them now); jobs may be gone.
    """

    after: int
    epoch: str
    new_history: bool


@attrs.frozen
class Snapshot:
    """Jobs as they are. A snapshot comes in pages; with `first` whatever was known before is to be forgotten, with
    `last` it is whole."""

    jobs: tuple[JobView, ...]
    first: bool
    last: bool


Update = EventView | w.Progress | Snapshot | Gap


class Subscription:
    """`async for update in subscription`: EventView, in order, each once; Progress; Snapshot and Gap. One task reads
    it.

    seq, epoch: how far it has been read; given to another `subscription` as `after` and `epoch`, that one goes on
    there.

    Raises what the server has against the subscription. Cancelled: nothing is lost.
    """

    def __init__(
        self,
        start: Callable[[Subscription], None],
        route: Callable[[Subscription, Session | None], str],
        filters: dict[str, Any],
        after: int | None,
        epoch: str | None,
        snapshot: bool,
    ) -> None:
        self.seq = after or 0
        self.epoch = epoch
        self._start = start
        self._route = route
        self._filters = filters
        self._received = after
        self._epoch = epoch
        self._in_snapshot = snapshot
        self._first_page = True
        self._snapshot_at = 0
        self._known: dict[str, int] = {}
        self._known_until = 0
        self._buffer: deque[tuple[int | None, Update | None]] = deque()
        self._news = trio.Event()
        self._behind = False
        self._begun = trio.Event()
        self._error: TrioJobsError | None = None

    def __repr__(self) -> str:
        return f"<Updates after event {self.seq} of {self.epoch}, {len(self._buffer)} waiting>"

    def __aiter__(self) -> Subscription:
        return self

    async def __anext__(self) -> Update:
        await trio.lowlevel.checkpoint_if_cancelled()
        while True:
            while self._buffer:
                seq, update = self._buffer.popleft()
                self.epoch = update.epoch if isinstance(update, Gap) else self.epoch or self._epoch
                if seq is not None:
                    self.seq = seq
                if update is not None:
                    return update
            if self._error is not None:
                raise self._error
            if self._behind:
                self._behind = False
                self._start(self)
            self._news = trio.Event()
            await self._news.wait()

    # what the client does with it

    @property
    def has_begun(self) -> bool:
        return self._begun.is_set()

    async def begun(self) -> None:
        """Wait until it has begun. Raises what the server has against it."""
        await self._begun.wait()
        if self._error is not None:
            raise self._error

    def fail(self, error: TrioJobsError) -> None:
        """Nothing more will come."""
        self._error = error
        self._news.set()
        self._begun.set()

    async def begin(self, session: Session) -> None:
        """Subscribe on this session, behind what was received. Raises `ConnectionLost`."""
        if self._behind:
            return
        if self._received is not None and self._epoch not in (None, session.epoch):
            self._lose(session.epoch)
        answer = await self._subscribe(session)
        if answer.error is not None and answer.error.code == ErrorCode.CANNOT_RESUME:
            self._lose(session.epoch)
            answer = await self._subscribe(session)
        if answer.error is not None:
            self.fail(as_exception(answer.error))

    def _lose(self, epoch: str) -> None:
        self._put(None, Gap(self._received or 0, epoch, self._epoch not in (None, epoch)))
        self._received = None
        self._epoch = epoch
        self._in_snapshot = True

    async def _subscribe(self, session: Session) -> Answer:
        subscription = self._route(self, session)
        if self._in_snapshot:
            params = w.Subscribe(subscription, snapshot=True, **self._filters)
        elif self._received is not None:
            params = w.Subscribe(subscription, after=self._received, epoch=session.epoch, **self._filters)
        else:
            params = w.Subscribe(subscription, **self._filters)
        self._first_page = True
        self._known.clear()
        return await session.ask("jobs.subscribe", params, self._on_answer)

    def _on_answer(self, answer: Answer) -> None:
        if answer.error is None:
            result = msgspec.json.decode(answer.result, type=w.SubscribeResult)
            self._epoch = result.epoch
            self._snapshot_at = result.seq
            self._begun.set()
            if not self._in_snapshot:
                self._put(result.seq, None)

    def on_notification(self, notification: Notification) -> None:
        """A notification of this subscription, in order. Synchronous: whoever calls reads from the socket."""
        params = notification.params
        if len(self._buffer) >= BUFFER:
            self._behind = True
            self._route(self, None)
        elif isinstance(params, w.EventParams):
            self._on_event(params)
        elif isinstance(params, w.Position):
            if not self._in_snapshot:
                self._put(params.seq, None)
        elif isinstance(params, w.Snapshot):
            self._on_page(params)
        elif isinstance(params, w.Lagged):
            self._put(None, Gap(params.first - 1, self._epoch or "", new_history=False))
            self._in_snapshot = self._first_page = True
            self._snapshot_at = params.last
        elif len(self._buffer) < BUFFER // 2:  # progress is told, not kept
            self._put(None, params)

    def _on_event(self, event: w.EventParams) -> None:
        if event.seq > self._known_until:
            self._known.clear()
        known = event.job is not None and self._known.get(event.job, 0) >= event.seq
        self._put(event.seq, None if known else event)

    def _on_page(self, page: w.Snapshot) -> None:
        if self._first_page:
            self._known.clear()
        self._known.update((job.id, job.seq) for job in page.jobs)
        self._known_until = page.seq
        if page.last:
            self._in_snapshot = False
        self._put(self._snapshot_at if page.last else None, Snapshot(tuple(page.jobs), self._first_page, page.last))
        self._first_page = False

    def _put(self, seq: int | None, update: Update | None) -> None:
        if seq is not None:
            if self._received is not None and seq < self._received:
                return
            self._received = seq
        if update is None and self._buffer and self._buffer[-1][1] is None:
            self._buffer.pop()
        self._buffer.append((seq, update))
        self._news.set()
