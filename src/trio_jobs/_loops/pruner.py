"""The pruner: forgets final jobs that are old or too many, a few at a time."""

from __future__ import annotations

import logging
from typing import Final

import trio

from trio_jobs._errors import StoreError
from trio_jobs._history import History
from trio_jobs._jobs import FINAL
from trio_jobs._ports import Clock

__all__ = ["Pruner"]

log: Final = logging.getLogger("trio_jobs.pruner")

INTERVAL: Final = 60.0  #: seconds between two looks for jobs that are too old
BATCH: Final = 500  #: jobs forgotten at once: about a millisecond
TRANSACTION: Final = 50  #: jobs that the store forgets at once, so that no commit waits for long


class Pruner:
    """max_age: seconds a final job is kept. max_jobs: final jobs kept. max_keys: keys of forgotten jobs kept."""

    def __init__(
        self,
        *,
        history: History,
        clock: Clock,
        max_age: float,
        max_jobs: int,
        max_keys: int,
    ) -> None:
        self._history = history
        self._clock = clock
        self._max_age = max_age
        self._max_jobs = max_jobs
        self._max_keys = max_keys
        self._scope = trio.CancelScope()

    def one_more(self) -> None:
        """A job has ended: wake up if there are too many now. Some slack, since a batch costs hardly more than one."""
        if self._history.head.count(*FINAL) >= self._max_jobs + BATCH:
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
        """Forget one batch; were there any? Cancelled: it is forgotten here, and by the store when it is asked next."""
        head, committed = self._history.head, self._history.committed_seq
        ids = head.prunable(self._clock.now() - self._max_age, self._max_jobs, BATCH)
        # an end that is not committed yet may turn out not to have been
        spans = {
            job_id: (record.submitted_seq, record.last_seq)
            for job_id in ids
            if (record := head.jobs[job_id]).last_seq <= committed
        }
        if not spans:
            return False
        ids = list(spans)
        head.forget(ids, self._max_keys)
        batches = [ids[at : at + TRANSACTION] for at in range(0, len(ids), TRANSACTION)]
        try:
            for batch in batches:
                await self._history.store.prune({job_id: spans[job_id] for job_id in batch})
        except StoreError as error:  # they come back with the next start, and are forgotten again
            log.warning("jobs that are too old could not be taken out of the store: %s", error)
            return False
        return True
