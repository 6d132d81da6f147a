"""The thread that owns the journal: it takes whatever is queued, commits that as one group, and says so.

Nobody waits here for a group to fill: what comes is committed at once, and what comes in while a sync is under way is
the next group. Between two groups one other wish is served (a page, a batch to prune), so that readers never hold a
commit up for longer than one of theirs takes. The mark of a group is synced with whatever is done next, or when nothing
has come for a moment.

When a commit fails the thread finds out what is there, tells, and then waits for `Replacement`: the history has to say
what is to be written in place of what failed, since those who submitted are told that it was not taken.
"""

from __future__ import annotations

import itertools
import logging
import sqlite3
import threading
from collections import deque
from collections.abc import Callable, Sequence
from queue import Empty, SimpleQueue
from typing import Any, Final, Protocol

import attrs
import outcome
import trio

from trio_jobs._engine.events import Event
from trio_jobs._errors import StoreError
from trio_jobs._stores.sqlite.errors import is_full
from trio_jobs._stores.sqlite.high_water_mark import BackgroundSync
from trio_jobs._stores.sqlite.journal import Journal
from trio_jobs._stores.sqlite.lock import FileLock

__all__ = ["CLOSE", "IDLE", "ReadRequest", "Replacement", "StoreListener", "WriterThread"]

log: Final = logging.getLogger("trio_jobs.journal")

MOST: Final = 2000  #: events in one group: some 20 ms
REOPENINGS: Final = 3
IDLE: Final = 0.005  #: seconds without a group after which the mark of the last one is synced by itself
WAITS: Final = (0.0, 0.1, 0.2, 0.5, 1.0, 2.0)  #: seconds before the next try, after 1, 2, ... failures in a row


@attrs.frozen(eq=False)
class ReadRequest:
    """A wish: `do` runs in the thread, `answer` gets its outcome in Trio's thread."""

    do: Callable[[], Any]
    answer: Callable[[outcome.Value[Any] | outcome.Error], None]


@attrs.frozen(eq=False)
class Replacement:
    """What is to be written in place of everything that was handed over before and is not committed."""

    events: Sequence[Event]


class _Close:
    """Commit what was handed over before, then end."""


CLOSE: Final = _Close()
Item = Sequence[Event] | ReadRequest | Replacement | _Close


class StoreListener(Protocol):
    """Whom the thread tells; called in Trio's thread, in order."""

    def on_opened(self, result: outcome.Value[Any] | outcome.Error) -> None: ...

    def on_committed(self, events: Sequence[Event]) -> None: ...

    def on_failed(self, error: StoreError) -> None: ...

    def on_broken(self, error: BaseException) -> None: ...

    def on_closed(self) -> None: ...


class WriterThread:
    """`hurry` ends a wait between two tries; `give_up` ends the thread as soon as it can."""

    def __init__(
        self,
        journal: Journal,
        lock: FileLock | None,
        background: BackgroundSync,
        listener: StoreListener,
        token: trio.lowlevel.TrioToken,
    ) -> None:
        self.inbox: SimpleQueue[Item] = SimpleQueue()
        self._journal = journal
        self._lock = lock
        self._background = background
        self._listener = listener
        self._token = token
        self._hurry = threading.Event()
        self._give_up = False
        self._closing = False
        self._asked: deque[ReadRequest] = deque()
        self._failures = 0
        # a daemon: a sync that never returns must not keep the process from ending
        self._thread = threading.Thread(target=self._run, name="trio-jobs journal", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def give_up(self) -> None:
        """Nobody waits any more: end without what cannot be committed now."""
        self._give_up = True
        self._hurry.set()
        self.inbox.put(CLOSE)

    # from here on: the journal's thread

    def _tell(self, fn: Callable[..., None], *args: Any) -> None:
        try:
            self._token.run_sync_soon(fn, *args)
        except trio.RunFinishedError:  # Trio has ended without closing the store: so does the thread
            self._give_up = self._closing = True

    def _run(self) -> None:
        try:
            result = outcome.capture(self._open)
            self._tell(self._listener.on_opened, result)
            if isinstance(result, outcome.Value):
                self._serve()
        except BaseException as error:
            log.error("journal %s: %s", self._journal.path, error)
            self._tell(self._listener.on_broken, error)
        finally:
            self._background.stop()
            self._journal.close()
            if self._lock is not None:
                self._lock.release()
            self._tell(self._listener.on_closed)

    def _open(self) -> list[bytes]:
        if self._lock is not None:
            self._lock.acquire()
        return self._journal.open()

    def _serve(self) -> None:
        group: list[Event] = []
        while True:
            if not group:
                if self._closing and not self._asked:
                    return
                self._collect(group, wait=not self._asked and not self._closing)
            if group:
                group = self._commit(group)
                if self._give_up:
                    return
            if self._asked:
                self._answer(self._asked.popleft())

    def _collect(self, group: list[Event], *, wait: bool) -> None:
        """Take what is queued; with `wait`, at least one thing."""
        inbox = self.inbox
        try:
            item = self._next() if wait else inbox.get_nowait()
            while True:
                if isinstance(item, ReadRequest):
                    self._asked.append(item)
                elif isinstance(item, _Close):
                    self._closing = True
                else:
                    assert not isinstance(item, Replacement), "nobody has asked for it"
                    group.extend(item)
                    if len(group) >= MOST:
                        return
                item = inbox.get_nowait()
        except Empty:
            return

    def _next(self) -> Item:
        if self._journal.mark_is_due:
            try:
                return self.inbox.get(timeout=IDLE)
            except Empty:
                self._journal.sync_mark()
        return self.inbox.get()

    def _commit(self, group: list[Event]) -> list[Event]:
        """Commit a group; gives what is left of it, to be tried again."""
        try:
            self._journal.write(group)
        except (sqlite3.Error, OSError) as error:  # an `OSError` comes after the rows are in: reading back tells
            return self._recover(group, error)
        self._failures = 0
        self._tell(self._listener.on_committed, group)
        return []

    def _recover(self, group: list[Event], error: sqlite3.Error | OSError) -> list[Event]:
        before = self._journal.last_seq
        why = StoreError(f"journal {self._journal.path}: {'the disk is full' if is_full(error) else error}")
        log.error("%s (commit of events %d to %d)", why, group[0].seq, group[-1].seq)
        self._find_out(error)
        if self._journal.last_seq > before:  # all of it: a group is one transaction
            self._tell(self._listener.on_committed, group)
            return []
        self._tell(self._listener.on_failed, why)
        if self._give_up:
            return []
        instead = self._wait_for_replacement()
        self._hurry.wait(WAITS[min(self._failures, len(WAITS) - 1)])
        self._failures += 1
        return instead

    def _answer(self, ask: ReadRequest) -> None:
        self._journal.sync_mark()  # who asks again and again must not put it off
        result = outcome.capture(ask.do)
        if isinstance(result, outcome.Error) and isinstance(result.error, sqlite3.Error):
            error = result.error
            result = outcome.Error(StoreError(f"journal {self._journal.path}: {error}"))
            self._find_out(error)
        self._tell(ask.answer, result)

    def _find_out(self, error: sqlite3.Error | OSError) -> None:
        """What is there, after something failed. Raises `StoreError` when the journal cannot be opened any more."""
        for tries in itertools.count(1):
            try:
                self._journal.recover(error)
                return
            except (sqlite3.Error, OSError) as worse:
                log.error("journal %s: reopening it failed (%d): %s", self._journal.path, tries, worse)
                if tries == REOPENINGS or self._give_up:
                    raise StoreError(f"journal {self._journal.path} could not be opened again: {worse}") from worse
                self._hurry.wait(WAITS[tries])

    def _wait_for_replacement(self) -> list[Event]:
        while True:
            item = self.inbox.get()
            if isinstance(item, Replacement):
                return list(item.events)
            if isinstance(item, ReadRequest):
                self._asked.append(item)
            elif isinstance(item, _Close):
                self._closing = True
                if self._give_up:
                    return []


def broken(error: BaseException) -> StoreError:
    """Whatever ended the thread, as an error of the store."""
    if isinstance(error, StoreError):
        return error
    return StoreError(f"the journal's thread died: {error!r}")
