"""Floor 5: the history. Decide and apply to the head are one step, which also hands the events to the store.

`append` is the only way in which anything changes. It is synchronous: whoever decides on the head, decides on all that
was decided before. What was recorded is not yet known to be kept: readers and subscribers see the committed prefix,
which the store reports to `_on_commit`.

With a store that commits later, the jobs with uncommitted events (and only those) have a *shadow*: a record folded from
their committed events alone, which is what readers are shown.

When a commit fails, the head must become what the journal says, plus what has happened all the same. A handler has
returned, a timer has fired, whether or not a disk was full; only a submit can be taken back, by telling its caller.
So each event that did not get in is tried again under its own number, except for submits and what came behind them of
their jobs: `Refused` takes their numbers, and their jobs leave the head. Since neither the SDK nor anybody outside has
seen a job that was never acknowledged, that is the same as to fold the journal anew and apply the rest, and every
number that was ever handed out stays true.
"""

from __future__ import annotations

import copy
import heapq
from collections import deque
from collections.abc import Callable, Iterable, Sequence

from trio_jobs._engine import events as ev
from trio_jobs._engine.fold import begin, fold
from trio_jobs._engine.jobs import JobRecord, State
from trio_jobs._engine.projection import Projection
from trio_jobs._errors import JobNotFound, StoreError
from trio_jobs._ports import Store

__all__ = ["EventLog"]

Listener = Callable[[ev.Event], None]


class EventLog:
    """The head, the store it is kept in, and those who are told of each committed event.

    `reactions` by class of event run before `publish`, which gets them all, group by group. `on_rejected` is called
    with each submit that was taken back, `on_broken` once when the store has failed for good.
    """

    def __init__(self, store: Store) -> None:
        self.store = store
        self.durable = store.durable
        self.projection = Projection()
        self.committed_seq = 0
        self._is_open = False
        self._failures = 0
        self.reactions: dict[type[ev.Event], Listener] = {}
        self.publish: Callable[[Sequence[ev.Event]], None] = lambda events: None
        self.on_rejected: Callable[[ev.Submitted], None] = lambda event: None
        self.on_broken: Callable[[StoreError], None] = lambda error: None
        self._uncommitted: deque[ev.Event] = deque()
        # None: the job's beginning is not committed, so there is nothing to be seen yet
        self._committed_copies: dict[str, JobRecord | None] = {}

    @property
    def next_seq(self) -> int:
        return self.projection.seq + 1

    async def restore(self) -> None:
        """Open the store and fold what it kept."""
        kept = await self.store.open(self._on_commit, self._on_failure, self._on_broken)
        self._is_open = True
        for event in kept:
            # seqs of pruned jobs are missing
            self.projection.seq = event.seq - 1
            self.projection.apply(event)
        self.projection.seq = self.committed_seq = self.store.last_seq
        self.projection.forgotten.add(self.store.keys())

    async def aclose(self) -> None:
        """Close the store, if it was opened here: what could not be opened may be in use by somebody else."""
        if self._is_open:
            self._is_open = False
            await self.store.aclose()

    def append(self, events: Sequence[ev.Event]) -> None:
        """Apply these events to the head and hand them to the store. None: there was nothing to decide."""
        if not events:
            return
        if self.durable:
            self._copy_committed(events)
        projection = self.projection
        for event in events:
            projection.apply(event)
        self.store.append(events)

    async def committed(self, seq: int, of: JobRecord | None = None) -> None:
        """Return when event `seq`, or the `Refused` in its place, is committed. Cancelled: it is, or will be.

        of: the job whose event it is; return too when the store has refused that job's submit, see `contains`.

        Raises `OutcomeUnknown` when the store has failed for good.
        """
        while True:
            failures = self._failures
            try:
                await self.store.committed(seq)
                return
            except StoreError:
                if self._failures == failures:
                    raise
                # a submit was refused; its number is still to be committed
                if of is not None and not self.contains(of):
                    return

    # the committed prefix

    def committed_job(self, job_id: str) -> JobRecord:
        """The job as far as it is committed. Raises `JobNotFound`."""
        seen = self.committed_view(self.projection.get(job_id))
        if seen is None:
            raise JobNotFound(job_id)
        return seen

    def committed_view(self, record: JobRecord) -> JobRecord | None:
        """The same for a record of the head. None: there is nothing to be seen yet."""
        return self._committed_copies.get(record.id, record) if self._committed_copies else record

    def contains(self, record: JobRecord) -> bool:
        """Is it a job of this history? One whose submit was taken back is none any more."""
        return record.id in self.projection.jobs

    def count(self, state: State) -> int:
        """Jobs in that state, as far as it is committed."""
        count = len(self.projection.by_state[state])
        for job_id, copy_ in self._committed_copies.items():
            count += (copy_ is not None and copy_.state is state) - (self.projection.jobs[job_id].state is state)
        return count

    def in_state(self, state: State) -> Iterable[JobRecord]:
        """Jobs in that state, as far as it is committed, in the order in which they came into it."""
        there = self.projection.by_state[state]
        if not self._committed_copies:
            return there.values()
        seen = [copy_ for copy_ in self._committed_copies.values() if copy_ is not None and copy_.state is state]
        seen.sort(key=_state_seq)
        certain = (record for job_id, record in there.items() if job_id not in self._committed_copies)
        return heapq.merge(seen, certain, key=_state_seq)

    # what the store tells

    def _copy_committed(self, events: Sequence[ev.Event]) -> None:
        self._uncommitted.extend(events)
        copies = self._committed_copies
        for event in events:
            if isinstance(event, ev.JobEvent) and event.job not in copies:
                record = self.projection.jobs.get(event.job)
                copies[event.job] = None if record is None else _copy(record)

    def _on_commit(self, events: Sequence[ev.Event]) -> None:
        self.committed_seq = events[-1].seq
        if self._uncommitted:
            self._advance_copies(events)
        reactions = self.reactions
        for event in events:
            if type(event) in reactions:
                reactions[type(event)](event)
        self.publish(events)

    def _advance_copies(self, events: Sequence[ev.Event]) -> None:
        copies, jobs = self._committed_copies, self.projection.jobs
        for event in events:
            self._uncommitted.popleft()
            if not isinstance(event, ev.JobEvent):
                continue
            if jobs[event.job].last_seq <= self.committed_seq:
                copies.pop(event.job, None)
            elif (copy_ := copies[event.job]) is not None:
                fold(copy_, event)
            else:
                assert isinstance(event, ev.Submitted)
                copies[event.job] = begin(event)

    def _on_failure(self) -> Sequence[ev.Event]:
        """What was handed over did not get in: take the submits of it back, and give what is to be tried again."""
        self._failures += 1
        refused = {event.job: event for event in self._uncommitted if isinstance(event, ev.Submitted)}
        for job in refused:
            self.projection.retract(job)
            del self._committed_copies[job]
        kept = [
            ev.SubmitRejected(seq=event.seq, at=event.at)
            if isinstance(event, ev.JobEvent) and event.job in refused
            else event
            for event in self._uncommitted
        ]
        self._uncommitted = deque(kept)
        for submit in refused.values():
            self.on_rejected(submit)
        return kept

    def _on_broken(self, error: StoreError) -> None:
        self.on_broken(error)


def _state_seq(record: JobRecord) -> int:
    return record.state_seq


def _copy(record: JobRecord) -> JobRecord:
    """A record that `fold` may write to without touching the other."""
    twin = copy.copy(record)
    twin.attempts = [copy.copy(attempt) for attempt in record.attempts]
    return twin
