"""The current state of all jobs, folded from their events, with the indexes that commands need. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

import msgspec

from trio_jobs._engine import events as ev
from trio_jobs._engine.activity import Activity, queue_action
from trio_jobs._engine.event_base import JobEvent
from trio_jobs._engine.fold import begin, fold
from trio_jobs._engine.job_index import MOST_CHANGED, JobIndex, JobsByState
from trio_jobs._engine.job_keys import JobKeys, KeyEntry
from trio_jobs._engine.job_table import JobTable, facts
from trio_jobs._engine.jobs import FINAL, JobRecord, State
from trio_jobs._engine.key_tombstones import KeyTombstone, KeyTombstones, key_name
from trio_jobs._engine.queue_events import is_unclean
from trio_jobs._errors import IllegalTransition, QueueBroken
from trio_jobs._lookup_errors import JobNotFound

__all__ = ["Forgotten", "Projection"]


_OF_SESSIONS = (ev.SessionOpening, ev.SessionOpeningFailed, ev.SessionOpened, ev.SessionClosed)
_OF_QUEUE: Final = frozenset(event for event in ev.ALL_EVENTS if not issubclass(event, JobEvent))
_FINAL = tuple(state for state in State if state in FINAL)  # the order of a set differs from run to run


class Forgotten(msgspec.Struct, frozen=True, gc=False):
    """A job whose events are to be removed."""

    first: int
    """The number of its first event."""

    last: int
    """The number of its last event."""

    tombstone: KeyTombstone | None
    """That of its key, if it had one."""


class Projection:
    """All jobs of one history. Every change is an event that `apply` receives."""

    def __init__(self) -> None:
        self.seq = 0
        """The number of the last event."""
        self.jobs: dict[str, JobRecord] = {}
        """The jobs, by id."""
        self.by_submit = JobTable()
        """The jobs in the order of their submits, and which of them match a filter."""
        self._by_state = JobsByState()
        self.keys = JobKeys()
        """The jobs with a key, by kind and key."""
        self.tombstones = KeyTombstones()
        """The keys of removed jobs."""
        self.paused: ev.Paused | None = None
        """The event that paused the queue; None if it is not paused."""
        self.last_session_event: ev.QueueEvent | None = None
        """The last event of an SDK session; None before the first, and if the store has not kept it."""
        self.forgotten: dict[str, Forgotten] = {}
        """The jobs that are forgotten and whose events the store may still have, by id."""
        self.last_close: ev.SessionClosed | None = None
        """The last close of an SDK session, as far as the store has kept it."""
        self.activity = Activity()
        """What operators did."""

    def apply(self, event: ev.Event, elapsed: float | None = None) -> None:
        """Apply one event.

        Args:
            event: The next event.
            elapsed: When it happened, on the clock of elapsed seconds; None for an event of an earlier process.

        Raises:
            IllegalTransition: The event does not follow the last one, or the table forbids it. Nothing was changed.
            QueueBroken: The event is of an unknown job. Nothing was changed.
        """
        seq = event.seq
        if seq != self.seq + 1:
            raise IllegalTransition(f"event {seq} cannot follow event {self.seq}")
        if type(event) not in _OF_QUEUE:
            of_job: Any = event  # a JobEvent; `isinstance` takes eight times as long for the classes of events
            record = self.jobs.get(of_job.job)
            if record is None:
                self._add(of_job, elapsed)
            else:
                before, number = record.state, record.state_seq
                known = facts(record) if record.submitted_seq < self.by_submit.tail_seq else None
                after = fold(record, of_job, elapsed)
                if before is not after and number <= self._by_state.seq:
                    self._by_state.leave(record, before, number)
                if known is not None:
                    self.by_submit.update(record, known)
                if record.actions and record.actions[-1].seq == seq:
                    self._acted(record, of_job)
        else:
            self._apply_to_queue(event)
        self.seq = seq

    def _acted(self, record: JobRecord, event: JobEvent) -> None:
        """An operator has done something to a job."""
        self.activity.add(record.actions[-1].of_job(record.id, record.kind, record.key))
        if isinstance(event, ev.Corrected) and record.key is not None:
            self.keys[record.kind, record.key].digest = event.digest or ""

    def _forget_now(self, event: ev.Forgotten) -> None:
        for job in event.jobs:
            record = self.jobs.get(job)
            if record is not None:  # at a restart the store may have removed it
                tombstones = self.forget([job], event.at)
                first, last = record.submitted_seq, record.last_seq
                self.forgotten[job] = Forgotten(first, last, tombstones[0] if tombstones else None)
                self.activity.forget_job(job)

    def _apply_to_queue(self, event: ev.Event) -> None:
        if isinstance(event, ev.Paused):
            self.paused = event
        elif isinstance(event, ev.Resumed):
            self.paused = None
        elif isinstance(event, _OF_SESSIONS):
            self.last_session_event = event
            if isinstance(event, ev.SessionClosed):
                self.last_close = event
        elif isinstance(event, ev.Forgotten):
            self._forget_now(event)
        action = queue_action(event)
        if action is not None:
            self.activity.add(action)

    @property
    def by_state(self) -> Mapping[State, JobIndex]:
        """The jobs of each state in the order in which they came into it (`state_seq`)."""
        return self._by_state.indexes()

    @property
    def is_unclean(self) -> bool:
        """Whether the last SDK session is not known to have closed. A history without any session was pruned by a
        version that did not keep its last event, so nothing is known of it."""
        return self.seq > 0 if self.last_session_event is None else is_unclean(self.last_session_event)

    def _add(self, event: JobEvent, elapsed: float | None) -> None:
        job = event.job
        if not isinstance(event, ev.Submitted):
            raise QueueBroken(f"{type(event).__name__} (event {event.seq}) is of job {job!r:.100}, which is not known")
        record = begin(event, elapsed)
        self.jobs[job] = record
        self.by_submit.append(record)
        changed = self._by_state.changed
        changed.append(record)
        if len(changed) >= MOST_CHANGED:
            self._by_state.update()
        if record.key is not None:
            self.keys[record.kind, record.key] = KeyEntry(job, record.digest or "")

    def retract(self, job_id: str) -> None:
        """Remove a job whose submit was rejected. The numbers of its events are not used again."""
        record = self._remove(job_id)
        if record.actions:
            self.activity.remove_job(job_id)
        if record.key is not None:
            del self.keys[record.kind, record.key]

    def _remove(self, job_id: str) -> JobRecord:
        record = self.jobs.pop(job_id)
        self.by_submit.remove(record)
        self._by_state.remove(record)
        return record

    def get(self, job_id: str) -> JobRecord:
        """The record of a job.

        Raises:
            JobNotFound: There is no such job.
        """
        try:
            return self.jobs[job_id]
        except KeyError:
            raise JobNotFound(job_id) from None

    def count(self, *states: State) -> int:
        """The number of jobs in these states."""
        return sum(len(self.by_state[state]) for state in states)

    def prunable(
        self,
        age_of: Callable[[JobRecord], float | None],
        max_age: Mapping[State, float],
        keep: Mapping[State, int],
        limit: int,
    ) -> list[str]:
        """The ids of final jobs to remove, of each state the oldest first.

        Args:
            age_of: The seconds since the job ended; None if that is not known, so that its age is no reason.
            max_age: By state: jobs of this age or older are chosen.
            keep: By state: if there are more jobs than this number, the excess is chosen, whatever its age.
            limit: At most this number of ids is returned; the next call returns the rest.
        """
        chosen: list[str] = []
        for state in _FINAL:
            records = self.by_state[state]
            excess = len(records) - keep[state]
            for rank, record in enumerate(records):
                if rank >= excess:
                    age = age_of(record)
                    if age is None:
                        continue
                    if age < max_age[state]:
                        break
                if len(chosen) >= limit:
                    return chosen
                chosen.append(record.id)
        return chosen

    def forget(self, job_ids: Iterable[str], now: float) -> list[KeyTombstone]:
        """Remove final jobs, and return the tombstones of their keys, which are in `tombstones` from then on.

        Args:
            job_ids: The ids of the jobs.
            now: UTC, seconds since the epoch. If the newest tombstone has a later time, that time is used, since keys
                are kept in this order and a clock that was set back must not shorten the time for which they are kept.
        """
        now = max(now, self.tombstones.newest_at)
        keys: list[KeyTombstone] = []
        for job_id in job_ids:
            record = self._remove(job_id)
            if record.key is not None:
                entry = self.keys.pop((record.kind, record.key))
                name = key_name(record.kind, record.key)
                keys.append(KeyTombstone(name, record.id, entry.digest, record.state, now, _has_left_work(record)))
        self.tombstones.add(keys)
        return keys


def _has_left_work(record: JobRecord) -> bool:
    """Whether a final job has done its work or a step of it, or may have."""
    return record.state is State.COMPLETED or record.has_acted or bool(record.steps)
