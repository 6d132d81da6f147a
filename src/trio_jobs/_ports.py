"""What a store, an SDK executor and a clock must guarantee: the interfaces to everything outside of the queue.

`trio_jobs.ports` exports them. An object that conforms can be passed to `Service.open` (a store, a clock) or to
`Service` (a function that returns an executor). `_stores` and `_executors` have the implementations of this package;
`trio_jobs.testing` has `check_store` and `check_executor`, which test any other.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, Protocol, final, runtime_checkable

import attrs

from trio_jobs._backup import Backup
from trio_jobs._call_report import CallReport
from trio_jobs._engine.events import Event
from trio_jobs._engine.key_tombstones import KeyTombstone
from trio_jobs._engine.openings import Opening, OpeningReason
from trio_jobs._errors import StoreError
from trio_jobs._sdk_call import SdkCall

__all__ = ["BacksUp", "Clock", "Discard", "RecognizesCallers", "SdkExecutor", "Store"]


@final
@attrs.frozen
class Discard:
    """Why a session is discarded instead of closed: an attempt, `verify` or `alive` has gone wrong in it."""

    reason: str
    """In a few words: "ValueError", "attempt_timeout", "verify raised"."""

    by_last_call: bool = False
    """Because of the exception that the last call raised, which the executor has kept where the session lives. False
    without one, as after a timeout, and for an exception that was raised elsewhere."""

    next_opening: OpeningReason = "error"
    """`Opening.reason` of the session that replaces it."""


@runtime_checkable
class Clock(Protocol):
    """A source of times. `SystemClock` and `TrioClock` conform."""

    def now(self) -> float:
        """The wall clock: UTC, in seconds since the epoch. It may jump in either direction. For dates."""
        ...

    def elapsed(self) -> float:
        """Elapsed seconds since any moment, those of a suspend of the machine included. It never goes back. For waits
        and ages that are given in seconds."""
        ...

    def monotonic(self) -> float:
        """Trio's clock, in seconds. It never goes back, but may stop while the machine is suspended. The deadlines of
        cancel scopes are on it."""
        ...


class Store(Protocol):
    """Keeps events in order, and returns them. `MemoryStore` and `SqliteStore` conform.

    All methods are called in the Trio thread. An event is *appended* when `append` has returned, and *committed* when
    the store guarantees that it stays.
    """

    @property
    def durable(self) -> bool:
        """Whether committed events survive the process. If False, `append` commits before it returns."""
        ...

    @property
    def epoch(self) -> str:
        """The name of this history, at most 64 characters. Known once the store is open.

        A store that has lost events, or was restored from a backup, has a new epoch.
        """
        ...

    async def open(
        self,
        on_commit: Callable[[Sequence[Event]], None],
        on_failure: Callable[[], Sequence[Event]] | None = None,
        on_broken: Callable[[StoreError], None] | None = None,
    ) -> Iterable[Event]:
        """Open the store, and return the events that it keeps.

        Args:
            on_commit: Called with every event that is appended from now on, once, in order, after it is committed and
                in no other case.
            on_failure: Called when a commit has failed and none of its events is committed. It returns all events that
                were appended and not yet passed to `on_commit`, under the same numbers, with a `SubmitRejected` in
                place of each event that must not be tried again; `committed` raises StoreError for such an event. The
                store appends what it returns. A commit that failed and did take effect goes to `on_commit` instead.
            on_broken: Called once, when no further commit is possible.

        Returns:
            All events of all jobs that are kept, the last Paused or Resumed, the last of SessionOpening,
            SessionOpeningFailed, SessionOpened and SessionClosed, and each Forgotten whose job is kept, in order of
            `seq`.

        Raises:
            JournalInUse: Another queue has the store open.
            JournalDamaged: The content is not that of a store, or is not complete.
            StoreError: The store cannot be opened for another reason.

        Cancelled:
            The store is not open, and releases all that it has acquired as soon as possible.
        """
        ...

    def append(self, events: Sequence[Event]) -> None:
        """Accept events for the next commit, in order. Never blocks and never raises.

        Args:
            events: Events whose `seq` continues that of the last appended event without a gap.
        """
        ...

    @property
    def trouble(self) -> str | None:
        """Why the store cannot commit at present, in plain words; None when it can."""
        ...

    async def committed(self, seq: int) -> None:
        """Wait until event `seq` is committed.

        Called before the next checkpoint after `append`, or later for an event that neither `on_commit` nor
        `on_failure` has covered yet.

        Args:
            seq: The number of an appended event.

        Raises:
            StoreError: The event is not committed.
            OutcomeUnknown: It is not known whether the event is committed.

        Cancelled:
            Only the wait ends: the event is committed all the same.
        """
        ...

    async def events(self, after: int, limit: int) -> Sequence[Event]:
        """Read committed events.

        Args:
            after: Only events with a `seq` above this number are returned; at least `oldest` - 1.
            limit: At most this number of events is returned.

        Returns:
            Events in order of `seq`, without a gap. Empty if there are none after `after`.

        Raises:
            StoreError: `after` + 1 is before `oldest`, or the store cannot be read.

        Cancelled:
            Nothing was changed.
        """
        ...

    async def job_events(self, job: str, first: int, last: int) -> Sequence[Event]:
        """Read the committed events of one job.

        Args:
            job: The id of a job that is kept.
            first: The `seq` of its first event.
            last: The `seq` of the last event to return.

        Returns:
            The events in order of `seq`: all of them if the store is durable, also those before `oldest`, but at most
            the newest 10,000. A store that is not durable returns those that it still has.

        Raises:
            StoreError: The store cannot be read.

        Cancelled:
            Nothing was changed.
        """
        ...

    @property
    def oldest(self) -> int:
        """`seq` of the first event from which there is no gap; the next event's `seq` if there is no event."""
        ...

    @property
    def last_seq(self) -> int:
        """`seq` of the last committed event, 0 before the first. Known once the store is open."""
        ...

    def keys(self) -> Iterable[KeyTombstone]:
        """The tombstones of all keys that `prune` has received and not been asked to drop, in order of `at`.

        Called once, after `open`.
        """
        ...

    async def prune(
        self,
        jobs: Mapping[str, tuple[int, int]],
        keys: Sequence[KeyTombstone] = (),
        stale: Sequence[KeyTombstone] = (),
    ) -> None:
        """Remove the events of final jobs.

        Args:
            jobs: The `seq` of the first and of the last event of each job, by job id.
            keys: The tombstones of the keys of these jobs, at most one for each job. A tombstone is committed together
                with the removal of its job.
            stale: Tombstones of earlier calls to drop.

        Raises:
            StoreError: Some of the jobs are not removed. Each job is either removed and its tombstone kept, or
                unchanged without a tombstone.

        Cancelled:
            As with StoreError: each job is removed completely or not at all.
        """
        ...

    async def forget(self, jobs: Mapping[str, tuple[int, int]], keys: Sequence[KeyTombstone]) -> None:
        """Remove the events of final jobs, as `prune` does, and from the stream too.

        After it `oldest` is above the last event of each of these jobs, so that `events` returns none of theirs.

        Arguments, Raises and Cancelled: as `prune`.
        """
        ...

    async def aclose(self) -> None:
        """Commit all appended events, then close the store. A second call does nothing.

        Cancelled:
            Events that were not committed before the cancellation may be lost.
        """
        ...


@runtime_checkable
class BacksUp(Protocol):
    """A store that can be copied while it is in use. `SqliteStore` conforms."""

    @property
    def path(self) -> str:
        """The journal's file."""
        ...

    async def backup(self, to: str) -> Backup:
        """Copy all events that are committed now to a new file, while commits continue.

        Args:
            to: The file to create.

        Raises:
            UsageError: A file of that name exists.
            StoreError: The copy cannot be made.

        Cancelled:
            There is no such file; nor is there one after an error.
        """
        ...


class SdkExecutor(Protocol):
    """Owns the SDK session: opens it, calls it, closes it. `Service(executor=...)` takes a function that returns one.

    The queue guarantees that one task at a time calls `open`, `call` and `close`. The executor guarantees that nothing
    enters the SDK while a call is inside: no second call, no open, no close. All methods are called in the Trio thread.

    After a call the session may be used for the next one, whatever the call raised.

    No object of the SDK leaves the thread on which the session lives: what a call returned or raised, the frames of an
    exception and the context manager are destroyed there (P2).
    """

    @property
    def session(self) -> int:
        """How many sessions were opened: 0 before the first, incremented by every `open` that succeeds."""
        ...

    @property
    def is_open(self) -> bool:
        """Whether a session is open and can be called."""
        ...

    @property
    def inside(self) -> bool:
        """Whether a call (or an open, or a close) has started and has not returned, even if it was abandoned."""
        ...

    def take_close_problem(self) -> str | None:
        """Return what the last close raised, as text, and reset it; None if it raised nothing."""
        ...

    async def open(self, opening: Opening) -> None:
        """Open a session.

        Args:
            opening: Why it is opened, for the factory of the SDK.

        Raises:
            BaseException: What opening the SDK raised, its frames cleared; from another process, its facts. There is
                then no session, and `open` can be called again.
            SdkCallStuck: An earlier call is still inside.

        Cancelled:
            No session is open. If opening cannot be interrupted, `inside` stays True until it returns, and the session
            is then closed at once.
        """
        ...

    async def call(self, call: SdkCall) -> CallReport:
        """Run `call.run(sdk)` where the SDK lives.

        This must be a checkpoint: the queue has no other one between two jobs.

        Plain handlers and plain verify functions run in this. The call has entered the SDK when it starts. The executor
        keeps the exception of the result there, and destroys it there, at the latest at the next call or close.

        Args:
            call: What to call. An executor whose SDK is in another process makes an equal call there.

        Returns:
            The report of the call. After `abandon`: that of an error that is `stuck`.

        Raises:
            SdkCallStuck: An earlier call is still inside.
            Exception: The executor itself failed (the queue treats this as an error of the attempt).

        Cancelled:
            **Not raised**: `call` waits until the call has returned, and returns its report. Only `abandon` ends the
            wait. In an asynchronous SDK the call is cancelled, and Cancelled propagates.
        """
        ...

    def handle(self, enter: Callable[[], Awaitable[None]], leave: Callable[[], None]) -> Any:
        """Return the object that an `async def` handler gets as its first argument. Called once for each attempt.

        That object must await `enter()` before each call into the SDK and call `leave()` after it. `enter` records that
        the attempt has entered the SDK, which decides whether an interrupted attempt is in doubt; it raises
        `SdkCallRefused` once the attempt is over.

        Args:
            enter: To be awaited before each call.
            leave: To be called after each call, whether it returned or raised.
        """
        ...

    def abandon(self) -> None:
        """Stop waiting for the call that is inside: the waiting task gets `SdkCallStuck`.

        The session is then not usable. When the call returns after all, the session is closed. Without a call inside,
        this does nothing.
        """
        ...

    async def close(self, discard: Discard | None = None) -> bool:
        """Close the session, if one is open, and wait until it is closed. What closing raises is a close problem.

        Args:
            discard: An exception is thrown into the context manager of the session, as if the body of its `with`
                statement had raised it: the kept exception of the last call if `discard.by_last_call`, otherwise a
                `SessionDiscarded` made there. It is no close problem that this exception propagates.

        Returns:
            True if no session is open any more; False if a call is inside, so that the session cannot be closed.

        Cancelled:
            It is not known whether the session is closed.
        """
        ...

    async def stop(self) -> None:
        """Release what remains after `close`, such as threads and tasks. A second call does nothing.

        Cancelled:
            What remains may not be released.
        """
        ...


@runtime_checkable
class RecognizesCallers(Protocol):
    """An `SdkExecutor` that recognizes callers of the queue within its own calls. The executors of trio-jobs conform.

    With it the queue refuses, with `UsageError`, a plain handler or an SDK factory that waits for the queue, which
    would wait forever. Without it only async handlers are recognized.
    """

    def is_inside(self, thread: int, tasks: Collection[object]) -> bool:
        """Whether a call, an open or a close that is inside the SDK at present runs in this thread or these tasks.

        Args:
            thread: The thread, as `threading.get_ident()` returns it.
            tasks: The Trio task, and the tasks around it.
        """
        ...
