"""The half of a durable store that runs in Trio's thread, for any log.

An event goes one way: `append` adds it to the group commit, the group commit puts the group into the writer thread's
inbox, the writer thread commits it, and `on_committed` passes it to the runtime. Reports of the writer thread are calls
in Trio's thread, so all state here is used in that thread alone.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, Generic, Protocol, TypeVar

import outcome
import trio

from trio_jobs._engine.error_info import describe
from trio_jobs._engine.events import Event, SubmitRejected
from trio_jobs._errors import OutcomeUnknown, StoreError, TrioJobsError
from trio_jobs._log import Log
from trio_jobs._loop_calls import LoopCalls
from trio_jobs._stores.durable_log import DurableLog
from trio_jobs._stores.group_commit import MAX_TURNS, GroupCommit
from trio_jobs._stores.writer_thread import CLOSE, Opened, ReadRequest, Replacement, StoreListener, WriterThread

__all__ = ["STALL_AFTER", "DurableStore", "MakeWriter"]

log: Final = Log("trio_jobs.journal")

#: Seconds without a reply to a commit after which the store counts as stalled: slow disks take some tenths
STALL_AFTER: Final = 5.0

#: Seconds that a cancelled close waits for the writer thread, which ends at once unless the disk hangs
ABANDON_GRACE: Final = 0.5

#: Seconds before each further attempt to start the writer thread: a system without threads recovers soon, or not at all
START_RETRIES: Final = (0.1, 0.3, 0.6)

L = TypeVar("L", bound=DurableLog)


class MakeWriter(Protocol):
    """Makes the writer thread of one opening."""

    def __call__(self, log: DurableLog, listener: StoreListener, post: Callable[..., None], /) -> WriterThread: ...


class DurableStore(Generic[L]):
    """Implements `Store` over a log, except for what depends on its database (`keys`, `prune`).

    Args:
        make_log: Called by each `open`.
        stall_after: Seconds after which a commit that has not returned is reported as `trouble`.
        make_writer: For the simulator.
        monotonic: The clock of `stall_after`.
        max_turns: See `GroupCommit`.
    """

    def __init__(
        self,
        make_log: Callable[[], L],
        *,
        stall_after: float = STALL_AFTER,
        make_writer: MakeWriter = WriterThread,
        monotonic: Callable[[], float] = time.monotonic,
        max_turns: int = MAX_TURNS,
    ) -> None:
        self.epoch = ""
        """See `Store.epoch`."""
        self.last_seq = 0
        """See `Store.last_seq`."""
        self.appended_seq = 0
        """`seq` of the last event that was appended, committed or not."""
        self.ended = trio.Event()
        """Set when the writer thread has released the log; a new one with each `open`."""
        self.writer: WriterThread | None = None
        """The writer thread; None unless open."""
        self._make_log = make_log
        self._make_writer = make_writer
        self._monotonic = monotonic
        self._stall_after = stall_after
        self._max_turns = max_turns
        self._log: L | None = None
        self._is_open = False
        self._is_abandoned = False
        self._commit_started: float | None = None
        self._failure: StoreError | None = None
        self._broken: StoreError | None = None
        self._waiters: dict[int, _Waiter] = {}
        self._group_commit: GroupCommit | None = None
        self._reads: set[trio.Event] = set()

    @property
    def log(self) -> L:
        """The log of the last `open`, for attributes that are safe to read in any thread."""
        assert self._log is not None, "the store was never opened"
        return self._log

    @property
    def oldest(self) -> int:
        """See `Store.oldest`."""
        return 1 if self._log is None else self._log.oldest

    async def open(
        self,
        on_commit: Callable[[Sequence[Event]], None],
        on_failure: Callable[[], Sequence[Event]] | None,
        on_broken: Callable[[StoreError], None] | None,
    ) -> Iterable[Event]:
        """See `Store.open`."""
        if self.writer is not None:
            raise StoreError("this store is in use by another queue; close that one first")
        self._on_commit, self._on_failure, self._on_broken = on_commit, on_failure, on_broken
        self._failure = self._broken = self._commit_started = None
        self.ended = trio.Event()
        self._log = self._make_log()
        self._loop_calls = LoopCalls(trio.lowlevel.current_trio_token())
        self.writer = self._make_writer(self._log, self, self._loop_calls.post)
        self._group_commit = GroupCommit(self.writer.inbox.put, self._max_turns, self._on_run_end)
        self._opened: Opened | None = None
        self._has_opened = trio.Event()
        await self._start(self.writer)
        try:
            await self._has_opened.wait()
        except BaseException:  # Cancelled or Ctrl-C
            if self.writer is not None:  # None: opening has failed and the thread has ended meanwhile
                self._is_abandoned = True
                self.writer.abandon()
            raise
        assert self._opened is not None
        if isinstance(self._opened, outcome.Error):
            await self.ended.wait()
            error = self._opened.error
            if not isinstance(error, TrioJobsError):
                raise StoreError(f"{self._log.name} cannot be opened: {describe(error)}") from error
        events: Iterable[Event] = self._opened.unwrap()
        self._is_open = True
        self._group_commit.start()
        self._loop_calls.start()
        self.epoch = self._log.epoch
        self.last_seq = self.appended_seq = self._log.last_seq
        return events

    async def _start(self, writer: WriterThread) -> None:
        """Start the writer thread. Where the system has no more threads, try again after each of `START_RETRIES`.

        Raises:
            StoreError: The thread did not start.

        Cancelled:
            The thread is not started, and the store can be opened again.
        """
        try:
            for wait in START_RETRIES:
                try:
                    writer.start()
                    return
                except RuntimeError:
                    await trio.sleep(wait)
            try:
                writer.start()
            except RuntimeError as error:
                raise StoreError(f"{self.log.name}: the thread of the journal cannot start: {error}") from error
        except BaseException:
            self.writer = None
            raise

    def append(self, events: Sequence[Event]) -> None:
        """See `Store.append`."""
        if not self._is_open:
            raise StoreError("this store is closed")
        assert self._group_commit is not None
        if self._commit_started is None:
            self._commit_started = self._monotonic()
        self.appended_seq = events[-1].seq
        self._group_commit.add(events)

    async def committed(self, seq: int) -> None:
        """See `Store.committed`."""
        if seq <= self.last_seq:
            return
        if self._broken is not None:
            raise OutcomeUnknown(str(self._broken))
        waiter = self._waiters.get(seq)
        if waiter is None:
            waiter = self._waiters[seq] = _Waiter()
        await waiter.done.wait()
        if waiter.error is not None:
            raise waiter.error

    @property
    def trouble(self) -> str | None:
        """See `Store.trouble`."""
        if self._broken is not None:
            return str(self._broken)
        if self._failure is not None:
            return str(self._failure)
        if self._commit_started is not None:
            elapsed = self._monotonic() - self._commit_started
            if elapsed > self._stall_after:
                return f"{self.log.name}: a commit has not returned for {elapsed:.0f} s"
        return None

    async def read(self, run: Callable[[], Any]) -> Any:
        """Have the writer thread call `run` between two groups, and return its result.

        Raises:
            StoreError: The store is closed or broken, or `run` has failed.

        Cancelled:
            `run` may or may not be called.
        """
        if not self._is_open or self._broken is not None:
            raise self._broken or StoreError("this store is closed")
        assert self.writer is not None
        done = trio.Event()
        result: outcome.Value[Any] | outcome.Error | None = None

        def on_result(received: outcome.Value[Any] | outcome.Error) -> None:
            nonlocal result
            result = received
            done.set()

        assert self._group_commit is not None
        self._group_commit.flush()  # what was appended before is committed before
        self._reads.add(done)
        self.writer.inbox.put(ReadRequest(run, on_result))
        try:
            await done.wait()
        finally:
            self._reads.discard(done)
        if result is None:
            raise self._broken or StoreError("this store is closed")
        return result.unwrap()

    async def aclose(self) -> None:
        """See `Store.aclose`."""
        writer = self.writer
        self._is_open = False
        if writer is None:
            return
        assert self._group_commit is not None
        self._group_commit.stop()
        self._loop_calls.stop()
        writer.inbox.put(CLOSE)
        try:
            await self.ended.wait()
        except trio.Cancelled:
            self._is_abandoned = True
            writer.abandon()
            with trio.move_on_after(ABANDON_GRACE, shield=True):  # so that the store can be opened again
                await self.ended.wait()
            raise
        self.writer = None

    def _on_run_end(self) -> None:
        """Close the log: its owner did not, because Trio itself has failed, for example."""
        writer, self.writer = self.writer, None
        self._is_open = False
        self._waiters.clear()
        self._reads.clear()
        if writer is not None:
            writer.inbox.put(CLOSE)
            writer.join(ABANDON_GRACE)  # so that the store can be opened again

    # reports of the writer thread (`StoreListener`)

    def on_opened(self, result: Opened) -> None:
        """Wake `open`."""
        if isinstance(result, outcome.Error):
            self._is_abandoned = True  # set here, since `on_closed` may come before `open` continues
        self._opened = result
        self._has_opened.set()

    def on_committed(self, events: Sequence[Event]) -> None:
        """Pass committed events to the runtime, then wake the callers of `committed`."""
        self.last_seq = events[-1].seq
        self._failure = None
        self._commit_started = self._monotonic() if self.appended_seq > self.last_seq else None
        try:
            self._on_commit(events)
        except BaseException as error:  # as in `_call`
            self.on_broken(error)
        if self._waiters:
            for event in events:
                waiter = self._waiters.pop(event.seq, None)
                if waiter is not None:
                    waiter.done.set()

    def on_failed(self, error: StoreError) -> None:
        """Let the runtime replace what was appended, reject its submits, and have the rest committed."""
        assert self.writer is not None
        assert self._group_commit is not None
        self._failure = error
        self._group_commit.discard()  # the replacement contains it
        replacement: Sequence[Event] = ()
        if self._on_failure is not None:
            replacement = self._call(self._on_failure) or ()
        for event in replacement:
            waiter = self._waiters.pop(event.seq, None) if isinstance(event, SubmitRejected) else None
            if waiter is not None:
                waiter.error = error
                waiter.done.set()
        self._commit_started = self._monotonic() if replacement else None
        if not replacement:
            self._failure = None
        self.writer.inbox.put(Replacement(replacement))

    def on_broken(self, error: BaseException) -> None:
        """Report once that nothing can be committed any more."""
        if self._broken is not None:
            return
        if not isinstance(error, StoreError):
            cause, error = error, StoreError(f"{self.log.name}: its writer thread has failed: {describe(error)}")
            error.__cause__ = cause
        self._broken = error
        if self._group_commit is not None:
            self._group_commit.discard()
        waiters, self._waiters = self._waiters, {}
        for waiter in waiters.values():
            waiter.error = OutcomeUnknown(f"{self._broken}: uncommitted events may or may not be in the store")
            waiter.done.set()
        if self._on_broken is not None:
            try:
                self._on_broken(error)
            except BaseException as problem:  # it would end Trio's run
                log.error("%s: its failure could not be reported: %s", self.log.name, describe(problem))

    def on_closed(self) -> None:
        """Wake everyone who waits for the writer thread."""
        if self._is_abandoned:
            self.writer, self._is_abandoned = None, False
        for done in self._reads:
            done.set()
        self.ended.set()

    def _call(self, fn: Callable[[], Any]) -> Any:
        """Call a callback of the runtime. An exception from it is a bug: it breaks the store, not Trio's run."""
        try:
            return fn()
        except BaseException as error:
            self.on_broken(error)


class _Waiter:
    """The callers that wait for the commit of one event."""

    __slots__ = ("done", "error")

    def __init__(self) -> None:
        self.done = trio.Event()
        self.error: Exception | None = None
