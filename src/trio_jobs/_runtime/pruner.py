"""The pruner: forgets final jobs that are old or too many, a few at a time; and, much later, their keys."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Final

import trio

from trio_jobs._engine.jobs import State
from trio_jobs._errors import StoreError
from trio_jobs._ports import Clock
from trio_jobs._runtime.event_log import EventLog

__all__ = ["Pruner"]

log: Final = logging.getLogger("trio_jobs.pruner")

INTERVAL: Final = 60.0  #: seconds between two looks for what is too old
BATCH: Final = 500  #: jobs forgotten at once: about a millisecond


class Pruner:
    """job_retention, max_finished_jobs: seconds that final jobs are kept, and how many, by the state they ended in.
    key_retention, max_keys: the same for the keys of forgotten jobs."""

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
        self._key_retention = key_retention
        self._max_keys = max_keys
        self._scope = trio.CancelScope()
        self._has_warned = False

    def one_more(self, state: State) -> None:
        """A job has ended so: wake up if there are too many now; with slack, as a batch costs hardly more than one."""
        if len(self._event_log.projection.by_state[state]) >= self._max_finished_jobs[state] + BATCH:
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
        """Forget one batch; was there any? Cancelled: it is forgotten here, and by the store when it is asked next."""
        projection, committed, now = self._event_log.projection, self._event_log.committed_seq, self._clock.now()
        ids = projection.prunable(
            {state: now - age for state, age in self._job_retention.items()}, self._max_finished_jobs, BATCH
        )
        # an end that is not committed yet may turn out not to have been
        spans = {
            job_id: (record.submitted_seq, record.last_seq)
            for job_id in ids
            if (record := projection.jobs[job_id]).last_seq <= committed
        }
        keys = projection.forget(spans, now)
        stale = projection.forgotten.take_stale(now - self._key_retention, self._max_keys, BATCH)
        if not spans and not stale:
            return False
        if stale and stale[-1].at > now - self._key_retention and not self._has_warned:
            self._has_warned = True
            log.warning("more than %d keys of forgotten jobs: the oldest are let go before their time", self._max_keys)
        try:
            await self._event_log.store.prune(spans, keys, stale)
        except StoreError as error:  # they come back with the next start, and are forgotten again
            log.warning("jobs that are too old could not be taken out of the store: %s", error)
            return False
        return True
