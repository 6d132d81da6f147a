"""A store in one SQLite file: what is committed survives the process, and a power cut.

This is the face in Trio's thread. The journal's own thread (`writer_thread`) does the work on the file
(`journal`); between them go one queue in and `run_sync_soon` out.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import outcome
import trio

from trio_jobs._engine.events import Event, SubmitRejected
from trio_jobs._engine.key_tombstones import KeyTombstone
from trio_jobs._errors import OutcomeUnknown, StoreError
from trio_jobs._ports import Backup
from trio_jobs._stores.group_commit import GroupCommit
from trio_jobs._stores.sqlite.backup import backup
from trio_jobs._stores.sqlite.disk import Disk
from trio_jobs._stores.sqlite.high_water_mark import BackgroundSync
from trio_jobs._stores.sqlite.journal import Journal
from trio_jobs._stores.sqlite.lock import FileLock
from trio_jobs._stores.sqlite.pruning import prune
from trio_jobs._stores.sqlite.rows import decode_all
from trio_jobs._stores.sqlite.writer_thread import CLOSE, ReadRequest, Replacement, WriterThread, broken

__all__ = ["SqliteStore"]

#: Seconds without an answer to a commit after which the journal counts as stalled: slow disks take some tenths
STALL: Final = 5.0


class SqliteStore:
    """Conforms to `Store`. path: of the journal; beside it live `-wal`, `-mark` and `-lock`. ":memory:" for none.

    allow_data_loss: go on with what is left of a damaged journal, under a new epoch; the damaged files are kept under
    another name. stall_after: seconds after which a commit without an answer is told as `trouble`. disk: for tests.

    A journal in ":memory:" is `durable` only in that it commits after `append`, like one on a disk.
    """

    durable = True
    _monotonic = staticmethod(time.monotonic)

    def __init__(
        self,
        path: str | Path,
        *,
        allow_data_loss: bool = False,
        stall_after: float = STALL,
        disk: Disk | None = None,
    ) -> None:
        self.path = str(path) if str(path) == ":memory:" else str(Path(path).resolve())
        self.epoch = ""
        self._allow_data_loss = allow_data_loss
        self._stall_after = stall_after
        self._disk = Disk() if disk is None else disk
        self._thread: WriterThread | None = None
        self._journal: Journal | None = None
        self._is_open = False
        self._is_abandoned = False
        self._ended = trio.Event()
        self._last_seq = 0
        self._handed = 0
        self._since: float | None = None
        self._failure: StoreError | None = None
        self._broken: StoreError | None = None
        self._waits: dict[int, _Wait] = {}
        self._group_commit = GroupCommit(self._hand_over)
        self._asks: set[trio.Event] = set()
        self._pruning = trio.Lock()
        self._on_open: Callable[[outcome.Value[list[bytes]] | outcome.Error], None] = lambda result: None

    def __repr__(self) -> str:
        return f"<SqliteStore {self.path}, {self._last_seq} events>"

    async def open(
        self,
        on_commit: Callable[[Sequence[Event]], None],
        on_failure: Callable[[], Sequence[Event]] | None = None,
        on_broken: Callable[[StoreError], None] | None = None,
    ) -> Iterable[Event]:
        if self._thread is not None:
            raise StoreError("this store is in use by another queue; close that one first")
        self._on_commit, self._on_failure, self._on_broken = on_commit, on_failure, on_broken
        self._failure = self._broken = self._since = None
        self._ended = trio.Event()
        self._token = trio.lowlevel.current_trio_token()
        self._journal, self._thread = self._make_thread()
        answer = trio.Event()
        opened: outcome.Value[list[bytes]] | outcome.Error | None = None

        def tell(result: outcome.Value[list[bytes]] | outcome.Error) -> None:
            nonlocal opened
            opened = result
            answer.set()

        self._on_open = tell
        self._thread.start()
        try:
            await answer.wait()
        except trio.Cancelled:
            if self._thread is not None:  # else it has failed, and ended, meanwhile
                self._is_abandoned = True
                self._thread.give_up()
            raise
        assert opened is not None
        if isinstance(opened, outcome.Error):
            await self._ended.wait()
        bodies = opened.unwrap()
        self._is_open = True
        self._group_commit.begin()
        self.epoch = self._journal.epoch
        self._last_seq = self._handed = self._journal.last_seq
        return decode_all(bodies)

    def _make_thread(self) -> tuple[Journal, WriterThread]:
        """The journal, and the thread that is to own it. The simulator's own runs in Trio, in virtual time."""
        background = BackgroundSync()
        journal = Journal(self.path, self._disk, allow_data_loss=self._allow_data_loss, background=background.run)
        lock = None if self.path == ":memory:" else FileLock(self.path + "-lock", self.path)
        return journal, WriterThread(journal, lock, background, self, self._token)

    def append(self, events: Sequence[Event]) -> None:
        if not self._is_open:
            raise StoreError("this store is closed")
        assert self._thread is not None
        if self._since is None:
            self._since = self._monotonic()
        self._handed = events[-1].seq
        self._group_commit.add(events)

    def _hand_over(self, events: Sequence[Event]) -> None:
        assert self._thread is not None
        self._thread.inbox.put(events)

    async def committed(self, seq: int) -> None:
        if seq <= self._last_seq:
            return
        if self._broken is not None:
            raise OutcomeUnknown(str(self._broken))
        wait = self._waits.get(seq)
        if wait is None:
            wait = self._waits[seq] = _Wait()
        await wait.over.wait()
        if wait.error is not None:
            raise wait.error

    async def events(self, after: int, limit: int) -> Sequence[Event]:
        assert self._journal is not None
        journal = self._journal
        page: Sequence[Event] = await self._ask(lambda: journal.page(after, limit))
        return page

    @property
    def last_seq(self) -> int:
        return self._last_seq

    @property
    def oldest(self) -> int:
        return self._journal.oldest if self._journal is not None else 1

    @property
    def trouble(self) -> str | None:
        if self._broken is not None:
            return str(self._broken)
        if self._failure is not None:
            return str(self._failure)
        if self._since is not None and (passed := self._monotonic() - self._since) > self._stall_after:
            return f"journal {self.path}: a commit has not returned for {passed:.0f} s"
        return None

    def keys(self) -> Iterable[KeyTombstone]:
        assert self._journal is not None
        keys, self._journal.keys = self._journal.keys, []
        return keys

    async def prune(
        self,
        jobs: Mapping[str, tuple[int, int]],
        keys: Sequence[KeyTombstone] = (),
        stale: Sequence[KeyTombstone] = (),
    ) -> None:
        assert self._journal is not None
        async with self._pruning:
            await prune(self._ask, self._journal, jobs, keys, stale)

    async def backup(self, to: str) -> Backup:
        assert self._journal is not None
        async with self._pruning:
            return await backup(self._ask, self._journal, self._disk, to)

    async def aclose(self) -> None:
        thread = self._thread
        self._is_open = False
        if thread is None:
            return
        self._group_commit.end()
        thread.inbox.put(CLOSE)
        try:
            await self._ended.wait()
        except trio.Cancelled:
            thread.give_up()
            raise
        self._thread = None

    async def _ask(self, do: Callable[[], Any]) -> Any:
        """Have the thread do something between two groups. Cancelled: it is done, or not."""
        if not self._is_open or self._broken is not None:
            raise self._broken or StoreError("this store is closed")
        assert self._thread is not None
        answer = trio.Event()
        told: outcome.Value[Any] | outcome.Error | None = None

        def tell(result: outcome.Value[Any] | outcome.Error) -> None:
            nonlocal told
            told = result
            answer.set()

        self._asks.add(answer)
        self._thread.inbox.put(ReadRequest(do, tell))
        try:
            await answer.wait()
        finally:
            self._asks.discard(answer)
        if told is None:
            raise self._broken or StoreError("this store is closed")
        return told.unwrap()

    # what the thread tells (`StoreListener`)

    def on_opened(self, result: outcome.Value[list[bytes]] | outcome.Error) -> None:
        if isinstance(result, outcome.Error):
            self._is_abandoned = True  # here: `on_closed` may come before `open` goes on
        self._on_open(result)

    def on_committed(self, events: Sequence[Event]) -> None:
        self._last_seq = events[-1].seq
        self._failure = None
        self._since = self._monotonic() if self._handed > self._last_seq else None
        self._tell(lambda: self._on_commit(events))
        if self._waits:
            for event in events:
                wait = self._waits.pop(event.seq, None)
                if wait is not None:
                    wait.over.set()

    def on_failed(self, error: StoreError) -> None:
        self._failure = error
        self._group_commit.clear()  # it is in what is given instead
        instead: Sequence[Event] = ()
        if self._on_failure is not None:
            on_failure = self._on_failure
            instead = self._tell(on_failure) or ()
        for event in instead:
            wait = self._waits.pop(event.seq, None) if isinstance(event, SubmitRejected) else None
            if wait is not None:
                wait.error = error
                wait.over.set()
        self._since = self._monotonic() if instead else None
        if not instead:
            self._failure = None
        assert self._thread is not None
        self._thread.inbox.put(Replacement(instead))

    def on_broken(self, error: BaseException) -> None:
        if self._broken is None:
            self._broken = broken(error)
            self._group_commit.clear()
            waits, self._waits = self._waits, {}
            for wait in waits.values():
                wait.error = OutcomeUnknown(f"{self._broken}: what was handed over may or may not be kept")
                wait.over.set()
            if self._on_broken is not None:
                self._on_broken(self._broken)

    def on_closed(self) -> None:
        if self._is_abandoned:
            self._thread, self._is_abandoned = None, False
        for answer in self._asks:
            answer.set()
        self._ended.set()

    def _tell(self, fn: Callable[[], Any]) -> Any:
        """What listeners raise is a bug of ours: it must be heard, and must not end Trio's run from inside."""
        try:
            return fn()
        except Exception as error:
            self.on_broken(error)


class _Wait:
    """Those who wait for one event."""

    __slots__ = ("error", "over")

    def __init__(self) -> None:
        self.over = trio.Event()
        self.error: Exception | None = None
