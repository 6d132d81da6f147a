"""Stores that report themselves as durable, and commit, refuse or lose events when a test wants it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import trio

from trio_jobs import MemoryStore, OutcomeUnknown, StoreError
from trio_jobs._engine.events import Event, SubmitRejected


class SlowStore(MemoryStore):
    """Commits nothing from the first event of a class in `slow` on, until `keep`.

    `keep(count)` commits only the next `count` events.
    """

    durable = True

    def __init__(self, *slow: type[Event]) -> None:
        super().__init__()
        self._slow = slow
        self._is_slow = True
        self._waiting: list[Event] = []
        self._change = trio.Event()

    def append(self, events: Sequence[Event]) -> None:
        if self._waiting or (self._is_slow and any(isinstance(event, self._slow) for event in events)):
            self._waiting.extend(events)
        else:
            super().append(events)

    def handed_over(self, kind: type[Event]) -> bool:
        return any(isinstance(event, kind) for event in self._waiting)

    def keep(self, count: int | None = None) -> None:
        self._is_slow = count is not None
        count = len(self._waiting) if count is None else count
        kept, self._waiting = self._waiting[:count], self._waiting[count:]
        if kept:
            super().append(kept)
        self._notify()

    @contextmanager
    def kept_at_the_end(self) -> Iterator[None]:
        """Commit everything when the block has ended: a call that waits for a commit is shielded, so a test that fails
        before would wait for it until its limit."""
        try:
            yield
        finally:
            self.keep()

    def hold(self) -> None:
        """Be slow again after `keep`."""
        self._is_slow = True

    async def committed(self, seq: int) -> None:
        while seq > self.last_seq:
            await self._changed()

    async def _changed(self) -> None:
        await self._change.wait()

    def _notify(self) -> None:
        changed, self._change = self._change, trio.Event()
        changed.set()


class FailingStore(MemoryStore):
    """Refuses the events of one class, or raises when it is closed."""

    def __init__(self, refuses: type[Event] | str) -> None:
        super().__init__()
        self.refuses = refuses

    def append(self, events: Sequence[Event]) -> None:
        if isinstance(self.refuses, type) and any(isinstance(event, self.refuses) for event in events):
            raise StoreError("the disk is gone")
        super().append(events)

    async def aclose(self) -> None:
        await super().aclose()
        if self.refuses == "aclose":
            raise StoreError("the last commit failed")


class RefusingStore(SlowStore):
    """Has `refuse` as well: the waiting events are not committed, and their submits are rejected."""

    async def open(self, on_commit: Any, on_failure: Any = None, on_broken: Any = None) -> Any:
        self._on_failure = on_failure
        self.refused: set[int] = set()
        return await super().open(on_commit, on_failure, on_broken)

    def refuse(self) -> None:
        self._waiting = list(self._on_failure())
        self.refused = {event.seq for event in self._waiting if isinstance(event, SubmitRejected)}
        self.keep()

    async def committed(self, seq: int) -> None:
        if seq > self.last_seq:
            await super().committed(seq)
            if seq in self.refused:
                raise StoreError("the disk is full")


class DyingStore(SlowStore):
    """Has `die` as well: callers that wait for a commit get the error before the owner of the store does."""

    async def open(self, on_commit: Any, on_failure: Any = None, on_broken: Any = None) -> Any:
        self.report_broken = on_broken
        self.trouble = None
        self._is_dead = False
        return await super().open(on_commit, on_failure, on_broken)

    def die(self) -> None:
        self._is_dead = True
        self._notify()

    async def _changed(self) -> None:
        if not self._is_dead:
            await super()._changed()
        if self._is_dead:
            raise OutcomeUnknown("the journal cannot be opened any more")
