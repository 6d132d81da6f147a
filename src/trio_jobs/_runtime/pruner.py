"""The pruner: forgets final jobs that are old or too many, a few at a time; and, much later, their keys."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Final

import trio

from trio_jobs._engine.jobs import State
from trio_jobs._errors import StoreError
from trio_jobs._ports import Clock
from trio_jobs._runtime.event_log import History

__all__ = ["Pruner"]

log: Final = logging.getLogger("trio_jobs.pruner")

INTERVAL: Final = 60.0  #: seconds between two looks for what is too old
BATCH: Final = 500  #: jobs forgotten at once: about a millisecond


class Pruner:
    """keep_for, keep_jobs: seconds that final jobs are kept, and how many, by the state they ended in. keep_keys_for,
    keep_keys: the same for the keys of forgotten jobs."""

    def __init__(
        self,
        *,
        history: History,
        clock: Clock,
        keep_for: Mapping[State, float],
        keep_jobs: Mapping[State, int],
        keep_keys_for: float,
        keep_keys: int,
    ) -> None:
        self._history = history
        self._clock = clock
        self._keep_for = keep_for
        self._keep_jobs = keep_jobs
        self._keep_keys_for = keep_keys_for
        self._keep_keys = keep_keys
        self._scope = trio.CancelScope()
        self._has_warned = False

    def one_more(self, state: State) -> None:
        """A job has ended so: wake up if there are too many now; with slack, as a batch costs hardly more than one."""
        if len(self._history.head.by_state[state]) >= self._keep_jobs[state] + BATCH:
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
        head, committed, now = self._history.head, self._history.committed_seq, self._clock.now()
        ids = head.prunable({state: now - age for state, age in self._keep_for.items()}, self._keep_jobs, BATCH)
        # an end that is not committed yet may turn out not to have been
        spans = {
            job_id: (record.submitted_seq, record.last_seq)
            for job_id in ids
            if (record := head.jobs[job_id]).last_seq <= committed
        }
        keys = head.forget(spans, now)
        stale = head.forgotten.take_stale(now - self._keep_keys_for, self._keep_keys, BATCH)
        if not spans and not stale:
            return False
        if stale and stale[-1].at > now - self._keep_keys_for and not self._has_warned:
            self._has_warned = True
            log.warning("more than %d keys of forgotten jobs: the oldest are let go before their time", self._keep_keys)
        try:
            await self._history.store.prune(spans, keys, stale)
        except StoreError as error:  # they come back with the next start, and are forgotten again
            log.warning("jobs that are too old could not be taken out of the store: %s", error)
            return False
        return True
