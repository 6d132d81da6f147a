"""Floor 5: the doors to the outside. What a store, a host and a clock must guarantee stands in their docstrings.

A conforming implementation may be passed to `Service.open` or `Service`; ours are in `_stores` and `_executors`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

import attrs
import outcome

from trio_jobs._engine.decide import Resolution
from trio_jobs._engine.event_cursor import EventSource
from trio_jobs._engine.events import Event
from trio_jobs._engine.jobs import CancelAnswer, Job, Receipt, State
from trio_jobs._engine.key_tombstones import KeyTombstone
from trio_jobs._errors import StoreError

if TYPE_CHECKING:
    from trio_jobs._runtime.job_context import Progress
    from trio_jobs._runtime.report import Health, Statistics

__all__ = ["Backend", "BackendHolder", "BacksUp", "Backup", "Clock", "SdkExecutor", "Store"]


@attrs.frozen
class Backup:
    """path: of the copy. seq: the last event in it. events: how many are in it. size: bytes."""

    path: str
    seq: int
    events: int
    size: int


class Clock(Protocol):
    """Where times come from."""

    def now(self) -> float:
        """UTC, seconds since the epoch. May jump."""
        ...

    def monotonic(self) -> float:
        """Seconds on Trio's clock; never goes back. Deadlines of cancel scopes are on it."""
        ...


class Store(Protocol):
    """Keeps events, in order, and gives them back.

    `durable`: what is committed survives the process. If False, `append` commits before it returns.
    """

    durable: bool

    @property
    def epoch(self) -> str:
        """Names this history, at most 64 characters; known once it is open. Another one as soon as events are lost."""
        ...

    async def open(
        self,
        on_commit: Callable[[Sequence[Event]], None],
        on_failure: Callable[[], Sequence[Event]] | None = None,
        on_broken: Callable[[StoreError], None] | None = None,
    ) -> Iterable[Event]:
        """Get ready, and give back every event of every job that is kept, and the last Paused or Resumed, in order of
        `seq`.

        `on_commit` is called in Trio's thread with each event appended from then on, once, in order, when and only
        when it is committed.

        `on_failure` is called there when a commit has failed and it is known that what was handed over and not told to
        `on_commit` is not in. It gives all of that again, under the same numbers, with a `Refused` in place of each
        event that shall not be tried again; whoever waits for one of those gets the StoreError. A commit that failed
        and is in all the same is told to `on_commit`.

        `on_broken` is called there, once, when nothing can be committed any more.

        Raises StoreError; JournalInUse if somebody else has it open; JournalDamaged. Cancelled: it is not open, and
        lets go of everything as soon as it can.
        """
        ...

    def append(self, events: Sequence[Event]) -> None:
        """Take events over, in order; never blocks. What is handed over is committed or `committed` raises."""
        ...

    @property
    def trouble(self) -> str | None:
        """What keeps it from committing now, in words; None while all is well."""
        ...

    async def committed(self, seq: int) -> None:
        """Return when event `seq` is committed. Cancelled leaves nothing behind: the event is committed all the same.

        Asked for before the next checkpoint after `append`; or later, for an event of which neither `on_commit` nor
        `on_failure` has told yet. Raises StoreError where it is not committed, OutcomeUnknown where that is not known.
        """
        ...

    async def events(self, after: int, limit: int) -> Sequence[Event]:
        """At most `limit` committed events with `seq` above `after`, without a gap. Empty: there are none.

        Raises StoreError if `after` + 1 lies before `oldest`.
        """
        ...

    @property
    def oldest(self) -> int:
        """`seq` of the first event from which the stream has no gap; the next event's where there is none."""
        ...

    @property
    def last_seq(self) -> int:
        """`seq` of the last committed event, 0 before the first; known once it is open."""
        ...

    def keys(self) -> Iterable[KeyTombstone]:
        """The keys of forgotten jobs, in the order of `at`: all that `prune` was given and not told to let go of. Asked
        for once, after `open`."""
        ...

    async def prune(
        self,
        jobs: Mapping[str, tuple[int, int]],
        keys: Sequence[KeyTombstone] = (),
        stale: Sequence[KeyTombstone] = (),
    ) -> None:
        """Forget the events of these jobs, which are final; with each id, the `seq` of its first and last event.

        keys: what is to be kept of their keys, at most one of each job; kept in the very step in which its job's events
        are forgotten. stale: keys of jobs forgotten earlier, to let go of.

        Cancelled, or with StoreError: each job is forgotten whole, or still there whole and its key not among `keys`.
        """
        ...

    async def aclose(self) -> None:
        """Commit what was handed over, then let go of everything. Closing twice is harmless.

        Cancelled: what was not committed by then may be lost.
        """
        ...


@runtime_checkable
class BacksUp(Protocol):
    """A store that can be copied while it is in use."""

    path: str

    async def backup(self, to: str) -> Backup:
        """Copy all that is committed now to a new file, while commits go on.

        Raises `StoreError`, also if there is a file of that name. Cancelled, or with an error: there is no such file.
        """
        ...


class SdkExecutor(Protocol):
    """Owns the SDK session. One caller at a time; nothing enters the SDK while a call is `inside`."""

    session: int
    """How many sessions were opened, from 0."""

    @property
    def is_open(self) -> bool:
        """A session is open and usable."""
        ...

    @property
    def inside(self) -> bool:
        """A call (or an open, or a close) has begun and has not returned."""
        ...

    def take_close_problem(self) -> str | None:
        """What the last close raised, if it raised; told once."""
        ...

    async def open(self) -> None:
        """Open a session. Raises what opening raised.

        Cancelled: the session is not open; if its opening cannot be broken off `inside` stays True until it returns,
        and it is then closed at once.
        """
        ...

    async def call(self, fn: Callable[..., Any], *args: Any) -> outcome.Value[Any] | outcome.Error:
        """Run `fn(sdk, *args)` where the SDK lives, and give back what it returned or raised.

        Waits until it has returned, even under cancellation, and is no checkpoint after that; only `abandon` ends the
        wait.
        """
        ...

    def handle(self, enter: Callable[[], Awaitable[None]], leave: Callable[[], None]) -> Any:
        """What an async handler is handed for the SDK. Where that makes calls of its own, each awaits `enter` first,
        and calls `leave` when it has returned."""
        ...

    def abandon(self) -> None:
        """Wait for the call that is inside no longer: the one who waits gets `SdkCallStuck`."""
        ...

    async def close(self) -> bool:
        """Close the session if one is open, and wait for that. True when there is no open session any more.

        Cancelled: not known to be closed.
        """
        ...

    async def stop(self) -> None:
        """Let go of what is left after `close`: threads, tasks."""
        ...


class Backend(Protocol):
    """What a server needs of a queue. The queue of this process is its first implementation.

    All methods that change something return when the change is committed; they raise what the methods of `Queue` raise,
    and what Cancelled leaves behind is documented there.
    """

    @property
    def epoch(self) -> str:
        """The identity of this history of events."""
        ...

    @property
    def events(self) -> EventSource:
        """The stream of committed events."""
        ...

    @property
    def progress_listeners(self) -> set[Callable[[Progress], None]]:
        """Called with each published progress; they must return at once and not raise."""
        ...

    def now(self) -> float:
        """UTC, seconds since the epoch, on the queue's clock."""
        ...

    def get(self, job_id: str) -> Job:
        """Raises `JobNotFound`."""
        ...

    def page(self, state: State | None, kind: str | None, after: str | None, limit: int) -> tuple[list[Job], bool]:
        """A page of jobs, and whether there is another one behind it; see `Queue.list`."""
        ...

    def snapshot(self) -> list[str]:
        """The ids of all known jobs, in the order of their submit."""
        ...

    async def wait_final(self, job_id: str, timeout: float, *, in_doubt: Literal["wait", "raise"]) -> Job:
        """The job when it is final, or after `timeout` seconds as it is then. With "raise" a doubt ends the wait too.

        Cancelled:
            The job continues.
        """
        ...

    def statistics(self) -> Statistics: ...

    def health(self) -> Health: ...

    @property
    def paused(self) -> str | None:
        """Why the queue is paused; None if it is not."""
        ...

    def oldest_pending(self) -> float | None:
        """When the first pending job became pending; None without one. UTC, seconds since the epoch."""
        ...

    async def submit(
        self,
        kind: str,
        payload: Any,
        *,
        key: str | None,
        due_at: datetime | None,
        deadline_at: datetime | None,
        wait: float | None,
        by: str | None,
    ) -> Receipt: ...

    async def cancel(self, job_id: str, *, by: str | None) -> CancelAnswer: ...

    async def retry(self, job_id: str, *, by: str | None) -> None: ...

    async def resolve(self, job_id: str, resolution: Resolution, *, result: Any, by: str | None) -> None: ...

    async def pause(self, reason: str, *, by: str | None) -> None: ...

    async def resume(self, *, by: str | None) -> None: ...

    async def drain(self) -> None: ...

    async def backup(self, name: str) -> Backup:
        """Copy the journal to its own folder; see `Queue.backup_beside`."""
        ...


class BackendHolder(Protocol):
    """A queue that can be served."""

    @property
    def backend(self) -> Backend: ...
