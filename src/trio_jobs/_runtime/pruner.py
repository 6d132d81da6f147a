"""The pruner: removes final jobs that are too old or too many, in batches, and later the tombstones of their keys."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import trio

from trio_jobs._engine.jobs import State
from trio_jobs._errors import StoreError
from trio_jobs._log import Log
from trio_jobs._ports import Clock
from trio_jobs._runtime.event_log import EventLog

__all__ = ["Pruner"]

log: Final = Log("trio_jobs.pruner")

INTERVAL: Final = 60.0  #: seconds between two searches for old jobs
BATCH: Final = 500  #: jobs removed at once: about a millisecond


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
    ) -> None:
        self._event_log = event_log
        self._clock = clock
        self._job_retention = job_retention
        self._max_finished_jobs = max_finished_jobs
        self._fewest = min(max_finished_jobs.values())
        self._key_retention = key_retention
        self._max_keys = max_keys
        self._scope = trio.CancelScope()
        self._has_warned = False

    def job_ended(self, state: State) -> None:
        """A job has entered this final state: prune now if there are too many.

        `BATCH` jobs more than the limit are allowed, since a batch costs hardly more than one job.
        """
        projection = self._event_log.projection
        if len(projection.jobs) <= self._fewest:
            return
        if len(projection.by_state[state]) >= self._max_finished_jobs[state] + BATCH:
            self._scope.cancel()

    @trio.lowlevel.enable_ki_protection
    async def run(self) -> None:
        while True:
            self._scope = trio.CancelScope(deadline=self._clock.monotonic() + INTERVAL)
            with self._scope:
                await trio.sleep_forever()
            while await self.run_once():
                await trio.lowlevel.checkpoint()

    async def run_once(self) -> bool:
        """Remove one batch. False: there was none.

        Cancelled:
            The jobs are removed from the projection; the store removes them with a later batch.
        """
        projection, committed, now = self._event_log.projection, self._event_log.committed_seq, self._clock.now()
        ids = projection.prunable(
            {state: now - age for state, age in self._job_retention.items()}, self._max_finished_jobs, BATCH
        )
        # an end that is not committed yet may be retracted
        spans = {
            job_id: (record.submitted_seq, record.last_seq)
            for job_id in ids
            if (record := projection.jobs[job_id]).last_seq <= committed
        }
        tombstones = projection.forget(spans, now)
        stale = projection.tombstones.take_stale(now - self._key_retention, self._max_keys, BATCH)
        if not spans and not stale:
            return False
        if stale and stale[-1].at > now - self._key_retention and not self._has_warned:
            self._has_warned = True
            log.warning(
                "more than %d keys of pruned jobs: the oldest are removed before key_retention has passed",
                self._max_keys,
            )
        try:
            await self._event_log.store.prune(spans, tombstones, stale)
        except StoreError as error:  # the jobs are restored at the next start, then pruned again
            log.warning("old jobs could not be removed from the store: %s", error)
            return False
        return True
