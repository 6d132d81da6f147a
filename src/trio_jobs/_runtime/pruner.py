"""The pruner: removes final jobs that are too old or too many, in batches, and later the tombstones of their keys.

The hard part is that a wrong wall clock must not remove anything: the results of a week are gone then, and a key that
is forgotten lets its work be done twice. The age of a job that ended in this process is measured on the clock of
elapsed seconds. For what an earlier process recorded there is the wall clock only; it is believed when it has been the
same for `CONFIRMED_AFTER` seconds.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Final

import trio

from trio_jobs._engine.jobs import JobRecord, State
from trio_jobs._errors import StoreError
from trio_jobs._log import Log
from trio_jobs._ports import Clock
from trio_jobs._runtime.activity_keeper import ActivityKeeper
from trio_jobs._runtime.event_log import EventLog

__all__ = ["Pruner", "Spans"]

log: Final = Log("trio_jobs.pruner")

INTERVAL: Final = 60.0  #: seconds between two searches for old jobs
BATCH: Final = 500  #: jobs removed at once: about a millisecond
LARGEST: Final = 2000  #: jobs removed at once while jobs end faster than batches of 500 are removed
SAME: Final = 60.0  #: seconds by which a wall clock that is not set may differ from another one, for hours
CONFIRMED_AFTER: Final = 3600.0  #: seconds; a time service corrects a wrong clock within minutes


class ConfirmedTime:
    """The wall clock without readings that may be wrong. It may be behind the wall clock, and is never ahead of it.

    A step forward, as it appears to be at the start of a process too, counts after it has lasted for `CONFIRMED_AFTER`
    seconds. A step back counts at once: nothing is removed too early by it.

    Args:
        clock: The clocks.
        known: The latest time that is known to have passed (UTC); None for the time of the wall clock.
    """

    def __init__(self, clock: Clock, known: float | None) -> None:
        self._clock = clock
        elapsed, now = clock.elapsed(), clock.now()
        self._ahead = (now if known is None else min(known, now)) - elapsed
        self._claimed = now - elapsed
        self._claimed_since = elapsed

    def now(self) -> float:
        """The time, UTC."""
        elapsed = self._clock.elapsed()
        ahead = self._clock.now() - elapsed
        if abs(ahead - self._claimed) > SAME:
            self._claimed, self._claimed_since = ahead, elapsed
        if ahead <= self._ahead + SAME or elapsed - self._claimed_since >= CONFIRMED_AFTER:
            self._ahead = ahead
        return elapsed + self._ahead


class Spans(Mapping[str, tuple[int, int]]):
    """The numbers of the first and of the last event of each of these jobs, by id.

    A dict of pairs would be hundreds of objects that the garbage collector counts: beside what many submits have under
    way, it would begin a collection.
    """

    def __init__(self, records: Mapping[str, JobRecord]) -> None:
        self._records = records

    def __getitem__(self, job_id: str) -> tuple[int, int]:
        record = self._records[job_id]
        return record.submitted_seq, record.last_seq

    def __contains__(self, job_id: object) -> bool:  # that of `Mapping` raises and catches an error for each other job
        return job_id in self._records

    def __iter__(self) -> Iterator[str]:
        return iter(self._records)

    def __len__(self) -> int:
        return len(self._records)


class Pruner:
    """Applies the settings job_retention, max_finished_jobs, key_retention and max_keys."""

    def __init__(
        self,
        *,
        event_log: EventLog,
        clock: Clock,
        job_retention: Mapping[State, float],
        max_finished_jobs: Mapping[State, int],
        key_retention: float,
        max_keys: int,
        activity: ActivityKeeper,
    ) -> None:
        self._activity = activity
        self._event_log = event_log
        self._clock = clock
        self._time: ConfirmedTime | None = None
        self._started = 0.0
        self._job_retention = job_retention
        self._max_finished_jobs = max_finished_jobs
        self.fewest: Final = min(max_finished_jobs.values()) + BATCH - 1
        """With so many jobs there is no batch of any final state to prune."""
        self._key_retention = key_retention
        self._max_keys = max_keys
        self._scope = trio.CancelScope()
        self._has_warned = False
        self.remove_forgotten: Callable[[], Awaitable[None]] | None = None
        """Removes what the store still has of forgotten jobs. Nothing is pruned before."""
        self.on_prune: Callable[[JobRecord], None] = lambda record: None
        """Called with each job before it is removed."""

    def job_ended(self, state: State) -> None:
        """A job has entered this final state: prune now if there are too many.

        `BATCH` jobs more than the limit are allowed, since a batch costs hardly more than one job.
        """
        if len(self._event_log.projection.by_state[state]) >= self._max_finished_jobs[state] + BATCH:
            self._scope.cancel()

    @trio.lowlevel.enable_ki_protection
    async def run(self) -> None:
        while True:
            self._scope = trio.CancelScope(deadline=self._clock.monotonic() + INTERVAL)
            with self._scope:
                await trio.sleep_forever()
            await self._remove_batches(whole=self._is_over())

    async def _remove_batches(self, *, whole: bool) -> None:
        """Remove one batch after the other.

        Args:
            whole: End when fewer than `BATCH` jobs are too many. Jobs end while a batch is removed: to remove these few
                at once, and so on, costs a search of the store for some of them instead of one for a batch.
        """
        while await self.run_once() and (not whole or self._is_over()):
            await trio.lowlevel.checkpoint()

    def _is_over(self) -> bool:
        """Whether there is a batch of jobs in one final state that are too many."""
        return self._excess() >= BATCH

    def _excess(self) -> int:
        """The number of jobs that are too many, in the final state in which it is the largest; below 0: none are."""
        by_state = self._event_log.projection.by_state
        return max(len(by_state[state]) - most for state, most in self._max_finished_jobs.items())

    def _age(self, record: JobRecord, now: float, elapsed: float) -> float | None:
        """The seconds since the job ended; None if they are not known."""
        if record.changed_elapsed is not None:
            return elapsed - record.changed_elapsed
        if record.changed_at <= now:
            return now - record.changed_at
        # it ended under a wrong clock, before this process started
        running = elapsed - self._started
        return running if running >= self._job_retention[record.state] else None

    async def run_once(self) -> bool:
        """Remove one batch. False: there was none.

        Cancelled:
            The jobs are removed from the projection; the store removes them with a later batch.
        """
        if self._time is None:
            self._time, self._started = ConfirmedTime(self._clock, self._event_log.restored_at), self._clock.elapsed()
        if self.remove_forgotten is not None:
            try:
                await self.remove_forgotten()
            except StoreError:
                return False
        projection, committed, now = self._event_log.projection, self._event_log.committed_seq, self._time.now()
        elapsed = self._clock.elapsed()
        limit = min(max(self._excess(), BATCH), LARGEST)
        ids = projection.prunable(
            lambda record: self._age(record, now, elapsed), self._job_retention, self._max_finished_jobs, limit
        )
        # an end that is not committed yet may be retracted
        records = {job_id: record for job_id in ids if (record := projection.jobs[job_id]).last_seq <= committed}
        for record in records.values():
            self.on_prune(record)
        tombstones = projection.forget(records, now)
        stale = projection.tombstones.take_stale(now - self._key_retention, self._max_keys, BATCH)
        if not records and not stale:
            return False
        if stale and stale[-1].at > now - self._key_retention and not self._has_warned:
            self._has_warned = True
            log.warning(
                "more than %d keys of pruned jobs: the oldest are removed before key_retention has passed",
                self._max_keys,
            )
        try:
            if records:
                self._activity.keep()
            await self._event_log.store.prune(Spans(records), tombstones, stale)
        except StoreError as error:  # the jobs are restored at the next start, then pruned again
            log.warning("old jobs could not be removed from the store: %s", error)
            return False
        return True
