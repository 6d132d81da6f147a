"""What a server needs of a queue: the interface between the network and the runtime.

`_runtime.backend` conforms; the server imports nothing of the runtime.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from datetime import datetime
from typing import Any, Literal, Protocol

from trio_jobs._backend_commands import CommandBackend
from trio_jobs._backup import Backup
from trio_jobs._engine.decide import Resolution
from trio_jobs._engine.event_cursor import EventSource
from trio_jobs._engine.job_filter import Group, JobFilter, Order
from trio_jobs._engine.job_history import JobHistory
from trio_jobs._engine.jobs import CancelAnswer, Job, Receipt, State
from trio_jobs._engine.operator_actions import OperatorAction
from trio_jobs._engine.progress import Progress
from trio_jobs._engine.status import Health, Statistics

__all__ = ["Backend", "BackendHolder"]


class Backend(CommandBackend, Protocol):
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

    def get(self, job_id: str, *, brief: bool = False) -> Job:
        """See `Queue.get`. brief: without payload, steps, attempts and result, so that its size has a limit."""
        ...

    def live(self, job: Job) -> Job:
        """The job with its position in the channel and its expected wait, if it is pending."""
        ...

    def find(self, kind: str | None, key: str) -> Job:
        """See `Queue.find`."""
        ...

    def page(
        self, wanted: JobFilter, order: Order, after: str | int | None, limit: int, take: Callable[[Job], bool]
    ) -> tuple[int | None, bool]:
        """Pass a page of jobs to `take`, in brief.

        Args:
            wanted: Which jobs.
            order: Which of them come first.
            after: A cursor, the id of a job, or the end of the previous call; None for the first page.
            limit: The number of jobs at most. A call also ends when it has looked for about a millisecond.
            take: Takes a job; returns False if it does not, and the page ends before that job.

        Returns:
            The end of the page as the number of an event, None if the page was ended before its first job; and whether
            more jobs may follow.
        """
        ...

    def count_steps(self, wanted: JobFilter, group: tuple[Group, str] | None, into: Counter[str]) -> Iterator[int]:
        """Count jobs, in steps of about half a millisecond.

        Args:
            wanted: Which jobs.
            group: The result of `parse_group`; None without one.
            into: Gets the number of jobs of each value of the group.

        Returns:
            The number of jobs that each step has found.
        """
        ...

    def snapshot(
        self,
        after: int,
        until: int,
        kinds: Collection[str] | None,
        states: Collection[State] | None,
        limit: int,
        take: Callable[[Job], bool],
    ) -> int:
        """Pass the next jobs of a snapshot to `take`, in brief, as they are now, in the order of their submits.

        Args:
            after: The event at which the previous call ended; 0 for the first call.
            until: Only jobs that were submitted up to this event.
            kinds: Only jobs of these kinds; None for all.
            states: Only jobs in these states; None for all.
            limit: The number of jobs at most. A call also ends when it has looked at many jobs that do not match.
            take: Takes a job; returns False if it does not, and the call ends before that job.

        Returns:
            The event at which the call ended: `until` if no job is left.
        """
        ...

    def kinds(self) -> Mapping[str, dict[str, Any]]:
        """The JSON schema of the payloads of each kind; an empty one if any payload fits or there is no schema."""
        ...

    def has_verify(self, kind: str) -> bool:
        """Whether the handler of this kind has a verify."""
        ...

    async def wait_final(self, job_id: str, timeout: float, *, in_doubt: Literal["wait", "raise"]) -> Job:
        """The job when it is final, or after `timeout` seconds as it is then. With "raise" a doubt ends the wait too.

        Cancelled:
            The job continues.
        """
        ...

    async def forget(self, job_id: str, *, by: str | None, note: str | None) -> None:
        """See `Queue.forget`."""
        ...

    async def history(self, job_id: str) -> JobHistory:
        """See `Queue.history`."""
        ...

    def activity(self, *, before: int | None, limit: int, by: str | None) -> tuple[OperatorAction, ...]:
        """See `Queue.activity`."""
        ...

    def statistics(self) -> Statistics:
        """See `Queue.statistics`."""
        ...

    def health(self) -> Health:
        """See `Queue.health`."""
        ...

    @property
    def paused(self) -> str | None:
        """Why the queue is paused; None if it is not."""
        ...

    @property
    def hook_errors(self) -> int:
        """How many calls of hooks have raised."""
        ...

    @property
    def interrupt_errors(self) -> int:
        """How many calls of the service's `interrupt` have raised or have not returned in time."""
        ...

    def oldest_pending_age(self) -> float | None:
        """For how many seconds the first pending job has been pending; None without one."""
        ...

    async def submit(
        self,
        kind: str,
        payload: Any,
        *,
        key: str | None,
        due_at: datetime | None,
        delay: float | None,
        deadline_at: datetime | None,
        deadline_after: float | None,
        wait: float | None,
        labels: Mapping[str, str] | None,
        correct: bool = False,
        by: str | None,
    ) -> Receipt:
        """See `Queue.submit`."""
        ...

    async def cancel(self, job_id: str, *, by: str | None, note: str | None, if_seq: int | None = None) -> CancelAnswer:
        """See `Queue.cancel`."""
        ...

    async def retry(
        self, job_id: str, *, even_if_acted: bool, by: str | None, note: str | None, if_seq: int | None = None
    ) -> None:
        """See `Queue.retry`."""
        ...

    async def resolve(
        self,
        job_id: str,
        resolution: Resolution,
        *,
        result: Any,
        by: str | None,
        note: str | None,
        if_seq: int | None = None,
    ) -> None:
        """See `Queue.resolve`."""
        ...

    async def pause(self, reason: str, *, until: datetime | None = None, by: str | None) -> None:
        """See `Queue.pause`."""
        ...

    async def resume(self, *, by: str | None, note: str | None) -> None:
        """See `Queue.resume`."""
        ...

    async def drain(self, *, by: str | None, note: str | None) -> None:
        """See `Queue.drain`."""
        ...

    async def undrain(self, *, by: str | None, note: str | None) -> None:
        """See `Queue.undrain`."""
        ...

    async def read_secrets(self) -> Mapping[str, str]:
        """The keys with which the server of this queue signs, by name.

        Raises:
            StoreError: They cannot be read.

        Cancelled:
            Nothing has changed.
        """
        ...

    async def keep_secret(self, name: str, value: str) -> None:
        """Keep a key as long as the jobs: see `KeepsSecrets`."""
        ...

    async def backup(self, name: str) -> Backup:
        """Copy the journal to its own folder, under its name with `.backup-` and `name` appended. For callers that may
        request a backup, but not write wherever this process may.

        Args:
            name: 1 to 100 letters, digits, `-`, `_` and `.`.

        Raises and Cancelled: as `Queue.backup`.
        """
        ...


class BackendHolder(Protocol):
    """A queue that can be served."""

    @property
    def backend(self) -> Backend:
        """The interface through which a server uses the queue."""
        ...
