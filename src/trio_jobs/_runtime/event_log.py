"""The event log: every change of a job or the queue is an event that is appended here.

`append` applies events to the projection and passes them to the store, in one synchronous step. So each decision is
based on all earlier ones, and no lock is necessary. An appended event is not yet durable: readers and subscribers see
the committed events only, which the store reports to the listener of the log.

With a store that commits later, each job with uncommitted events has a *committed copy*: a record folded from its
committed events alone, which readers get.

After a failed commit the projection must agree with the journal again. It must also agree with what has happened in
any case: a handler has returned or a timer has fired, also while the disk was full. Only a submit can be rejected, by
an error for its caller. So each uncommitted event is written again under its own number, except for submits and the
later events of their jobs: `SubmitRejected` takes their numbers, and their jobs are removed from the projection. A job
that was never acknowledged has not reached the SDK or any reader. So the result is the same as folding the journal
again and applying the other events, and no number is used for two events.
"""

from __future__ import annotations

import heapq
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from operator import itemgetter, methodcaller
from typing import Final, Protocol

from trio_jobs._engine import events as ev
from trio_jobs._engine.event_texts import NO_TEXTS, TEXTS, any_texts, check_encodable, check_texts
from trio_jobs._engine.fold import begin, fold
from trio_jobs._engine.job_block import value_of
from trio_jobs._engine.job_conditions import ID_LENGTH
from trio_jobs._engine.job_filter import Group, JobFilter, Order
from trio_jobs._engine.jobs import JobRecord, State
from trio_jobs._engine.projection import Projection
from trio_jobs._errors import StoreError
from trio_jobs._lookup_errors import SHORTEST_END, AmbiguousJob, JobNotFound
from trio_jobs._operator_errors import JobChanged
from trio_jobs._ports import Store

__all__ = ["EventLog", "LogListener"]

_number: Final = itemgetter(0)
_shallow_copy: Final = methodcaller("__copy__")  # `copy.copy` takes three times as long


class LogListener(Protocol):
    """Is notified of the result of each append. All methods are synchronous and run in Trio's thread."""

    def on_committed(self, events: Sequence[ev.Event]) -> None:
        """These events are committed; each one is reported once, in order."""
        ...

    def on_rejected(self, submit: ev.Submitted) -> None:
        """The store could not commit this submit, and its job was removed from the projection."""
        ...

    def on_broken(self, error: StoreError) -> None:
        """Nothing can be committed any more. Called once."""
        ...


class EventLog:
    """The projection and the store that keeps its events.

    Args:
        store: The store.
        elapsed: The clock of elapsed seconds.
    """

    def __init__(self, store: Store, elapsed: Callable[[], float]) -> None:
        self.store = store
        self._elapsed = elapsed
        self.durable = store.durable
        self.projection = Projection()
        self.restored_at: float | None = None
        """The time (UTC) of the last event that the store held when it was opened; None without one."""
        self._committed_seq = 0
        self.is_failing = False
        """The last commit has failed."""
        self._listener: LogListener | None = None
        self._is_open = False
        self._failures = 0
        self._uncommitted: deque[ev.Event] = deque()
        # None: the job's first event is not committed, so readers do not see the job yet
        self._committed_copies: dict[str, JobRecord | None] = {}

    def __repr__(self) -> str:
        return f"<EventLog {self.projection.seq} events, {self.committed_seq} committed>"

    @property
    def next_seq(self) -> int:
        return self.projection.seq + 1

    @property
    def committed_seq(self) -> int:
        """The number of the last committed event."""
        return self._committed_seq if self.durable else self.projection.seq

    def is_committed(self) -> bool:
        """Whether each event is committed."""
        return not self._uncommitted

    async def open(self, listener: LogListener) -> None:
        """Open the store and apply the events that it holds.

        Raises:
            StoreError: The store cannot be opened.

        Cancelled:
            The store is not open, or will be closed as soon as possible.
        """
        self._listener = listener
        on_commit = self._on_commit if self.durable else listener.on_committed  # then `append` has committed
        restored = await self.store.open(on_commit, self._on_failure, listener.on_broken)
        self._is_open = True
        projection = self.projection
        for event in restored:
            projection.seq = event.seq - 1  # numbers of pruned events are missing
            projection.apply(event)
            self.restored_at = event.at
        projection.seq = self._committed_seq = self.store.last_seq
        projection.tombstones.add(self.store.keys())
        # those that the store does not have yet are the newest
        projection.tombstones.add(one.tombstone for one in projection.forgotten.values() if one.tombstone is not None)

    async def aclose(self) -> None:
        """Close the store if this log has opened it. A store that it could not open may be used by another queue.

        Cancelled:
            The store may not be closed.
        """
        if self._is_open:
            self._is_open = False
            await self.store.aclose()

    def append(self, events: Sequence[ev.Event], elapsed: float | None = None) -> None:
        """Apply these events to the projection and pass them to the store. An empty sequence changes nothing.

        Args:
            events: The events, numbered from `next_seq`.
            elapsed: The time on the clock of elapsed seconds if the caller has read it for them.

        Raises:
            UsageError: One of them cannot be encoded. Nothing has changed. The thread of a journal and the followers
                on the wire, which encode events later, could report this to nobody.
        """
        if elapsed is None:
            elapsed = self._elapsed()
        if self.durable or len(events) != 1:
            self._append_all(events, elapsed)
            return
        # the usual case: the loops and calls of the other one would take as long as all that is done here
        event = events[0]
        texts = TEXTS.get(type(event), any_texts)
        if texts is not None and texts(event) != NO_TEXTS:
            check_encodable(event)
        self.projection.apply(event, elapsed)
        self.store.append(events)

    def _append_all(self, events: Sequence[ev.Event], elapsed: float) -> None:
        """As `append`, for any number of events and any store."""
        if not events:
            return
        for event in events:
            check_texts(event)
        if self.durable:
            self._copy_committed(events)
        for event in events:
            self.projection.apply(event, elapsed)
        self.store.append(events)

    async def committed(self, seq: int, of: JobRecord | None = None) -> None:
        """Return when event `seq`, or the `SubmitRejected` in its place, is committed.

        Args:
            seq: Number of an appended event.
            of: The job of that event: return also if the store has rejected the submit of that job (see `contains`).

        Raises:
            OutcomeUnknown: The store has failed permanently.

        Cancelled:
            The event is, or will be, committed.
        """
        while True:
            failures = self._failures
            try:
                await self.store.committed(seq)
                return
            except StoreError:
                if self._failures == failures:
                    raise
                # a submit was rejected; the event that has taken its number is still to be committed
                if of is not None and not self.contains(of):
                    return

    def unstored(self) -> tuple[int, tuple[str, ...]]:
        """Return how many events are not committed, and the ids of their jobs."""
        events = self._uncommitted
        return len(events), tuple(dict.fromkeys(event.job for event in events if isinstance(event, ev.JobEvent)))

    # the committed prefix

    def committed_job(self, job_id: str) -> JobRecord:
        """Return the job as of its last committed event.

        Args:
            job_id: The id of the job, or at least its last 6 characters.

        Raises:
            JobNotFound: No event of a job with this id is committed.
            AmbiguousJob: Several ids end with this text.
        """
        found = self.projection.jobs.get(job_id)
        if found is None:
            return self._by_end(job_id)
        record = self.committed_view(found)
        if record is None:
            raise JobNotFound(job_id)
        return record

    def newest(self, job_id: str, if_seq: int | None = None) -> JobRecord:
        """Return the newest record of a job that has a committed event.

        Args:
            job_id: As for `committed_job`.
            if_seq: The event as of which the caller knows the job; None to take it as it is.

        Raises:
            JobNotFound: As `committed_job`.
            AmbiguousJob: As `committed_job`.
            JobChanged: The job has changed since.
        """
        record = self.projection.jobs[self.committed_job(job_id).id]
        if if_seq is not None and record.last_seq != if_seq:
            raise JobChanged(record.id, record.state, if_seq, record.last_seq)
        return record

    def _by_end(self, end: str) -> JobRecord:
        records: list[JobRecord] = []
        if isinstance(end, str) and SHORTEST_END <= len(end) < ID_LENGTH:
            candidates = map(self.committed_view, self.projection.by_submit.with_id_end(end.lower()))
            records = [record for record in candidates if record is not None]
        if not records:
            raise JobNotFound(end)
        if len(records) > 1:
            raise AmbiguousJob(end, tuple(record.id for record in records))
        return records[0]

    def by_key(self, kinds: Sequence[str], key: str) -> JobRecord:
        """Return the committed job that has this key.

        Args:
            kinds: The kinds that it can have.
            key: The key.

        Raises:
            JobNotFound: There is none, or it is pruned.
            AmbiguousJob: Jobs of several kinds have this key.
        """
        projection = self.projection
        entries = [entry for one in kinds if (entry := projection.keys.find(one, key)) is not None]
        candidates = (self.committed_view(projection.jobs[entry.job]) for entry in entries)
        records = [record for record in candidates if record is not None]
        if len(records) > 1:
            records.sort(key=_submitted_seq)
            raise AmbiguousJob(key, tuple(record.id for record in records))
        if not records:
            pruned = (projection.tombstones.find(one, key) for one in kinds)
            raise JobNotFound(next((tombstone.job for tombstone in pruned if tombstone is not None), ""), key)
        return records[0]

    def committed_view(self, record: JobRecord) -> JobRecord | None:
        """Return the committed copy of a record, or the record itself if it has none. None: no event is committed."""
        return self._committed_copies.get(record.id, record) if self._committed_copies else record

    def contains(self, record: JobRecord) -> bool:
        """Whether the job is in the projection: False if its submit was rejected."""
        return record.id in self.projection.jobs

    def count(self, state: State) -> int:
        """Return the number of jobs in that state, as of the last committed event."""
        count = len(self.projection.by_state[state])
        for job_id, copied in self._committed_copies.items():
            count += (copied is not None and copied.state is state) - (self.projection.jobs[job_id].state is state)
        return count

    def scan(
        self, wanted: JobFilter, place: int | None = None, order: Order = "oldest"
    ) -> Iterator[tuple[int, JobRecord | None]]:
        """Return the jobs that match as of the last committed event. See `JobTable.scan`."""
        pairs = self.projection.by_submit.scan(wanted, place, order)
        copies = self._committed_copies
        if not copies:
            return pairs
        newest = order == "newest"
        changed = [
            (copied.submitted_seq, copied)
            for copied in copies.values()
            if copied is not None
            and (place is None or (copied.submitted_seq < place if newest else copied.submitted_seq > place))
            and wanted.matches(copied)
        ]
        changed.sort(key=_number, reverse=newest)
        certain = (pair for pair in pairs if pair[1] is None or pair[1].id not in copies)
        # of two equal numbers that of the job comes first: the other one says that no job up to it is left
        return heapq.merge(changed, certain, key=_number, reverse=newest)

    def count_jobs(self, wanted: JobFilter, group: Group | None, label: str, into: Counter[str]) -> Iterator[int]:
        """Count the jobs that match as of the last committed event. See `JobTable.count`."""
        correction = 0
        for job_id, copied in self._committed_copies.items():
            for record, one in ((copied, 1), (self.projection.jobs[job_id], -1)):
                if record is not None and wanted.matches(record):
                    correction += one
                    if group is not None and (value := value_of(record, group, label)) is not None:
                        into[value] += one
        yield correction
        yield from self.projection.by_submit.count(wanted, group, label, into)

    def oldest(self, state: State) -> JobRecord | None:
        """Return the job that came into that state first, as of the last committed event."""
        copies = self._committed_copies
        changed = [copied for copied in copies.values() if copied is not None and copied.state is state]
        certain = (record for record in self.projection.by_state[state] if record.id not in copies)
        return min([*changed, *islice(certain, 1)], key=_state_seq, default=None)

    # reports of the store

    def _copy_committed(self, events: Sequence[ev.Event]) -> None:
        """Copy the committed state of the jobs that these events are about to change."""
        self._uncommitted.extend(events)
        copies = self._committed_copies
        for event in events:
            if isinstance(event, ev.JobEvent) and event.job not in copies:
                record = self.projection.jobs.get(event.job)
                copies[event.job] = None if record is None else _copy(record)

    def _on_commit(self, events: Sequence[ev.Event]) -> None:
        assert self._listener is not None
        self._committed_seq = events[-1].seq
        self.is_failing = False
        if len(events) == len(self._uncommitted):  # nothing was appended since
            self._uncommitted.clear()
            self._committed_copies.clear()
        elif self._uncommitted:
            self._advance_copies(events)
        self._listener.on_committed(events)

    def _advance_copies(self, events: Sequence[ev.Event]) -> None:
        copies, jobs = self._committed_copies, self.projection.jobs
        for event in events:
            self._uncommitted.popleft()
            if not isinstance(event, ev.JobEvent):
                continue
            if jobs[event.job].last_seq <= self._committed_seq:
                copies.pop(event.job, None)
            elif (copied := copies[event.job]) is not None:
                fold(copied, event)
            else:
                assert isinstance(event, ev.Submitted)
                copies[event.job] = begin(event)

    def _on_failure(self) -> Sequence[ev.Event]:
        """A commit has failed: retract the uncommitted submits and return the events to be written again."""
        assert self._listener is not None
        self._failures += 1
        self.is_failing = True
        rejected = {event.job: event for event in self._uncommitted if isinstance(event, ev.Submitted)}
        for job in rejected:
            self.projection.retract(job)
            del self._committed_copies[job]
        again = [
            ev.SubmitRejected(seq=event.seq, at=event.at)
            if isinstance(event, ev.JobEvent) and event.job in rejected
            else event
            for event in self._uncommitted
        ]
        self._uncommitted = deque(again)
        for submit in rejected.values():
            self._listener.on_rejected(submit)
        return again


def _submitted_seq(record: JobRecord) -> int:
    return record.submitted_seq


def _state_seq(record: JobRecord) -> int:
    return record.state_seq


def _copy(record: JobRecord) -> JobRecord:
    """Copy a record so that `fold` can change the copy without changing the original."""
    twin: JobRecord = _shallow_copy(record)
    if record.last_attempt is not None:
        twin.last_attempt = _shallow_copy(record.last_attempt)  # only the last one is changed
    return twin
