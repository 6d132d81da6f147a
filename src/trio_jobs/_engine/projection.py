"""All jobs of one history as the newest event left them, with the indices that every command needs. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from trio_jobs._engine import events as ev
from trio_jobs._engine.fold import begin, fold
from trio_jobs._engine.jobs import FINAL, JobRecord, State
from trio_jobs._engine.key_tombstones import KeyTombstone, KeyTombstones, key_name
from trio_jobs._errors import IllegalTransition, JobNotFound

__all__ = ["KeyEntry", "Projection"]


_FINAL = tuple(state for state in State if state in FINAL)  # the set's own order changes from run to run


class KeyEntry(msgspec.Struct, gc=False):
    """The job that has a key, and the digest of its payload."""

    job: str
    digest: str


class Projection:
    """The jobs, by id, by state (in the order in which they came into it) and by key; and the keys of forgotten ones.

    Every change comes in as an event through `apply`. `seq` is the last one's number.
    """

    def __init__(self) -> None:
        self.seq = 0
        self.jobs: dict[str, JobRecord] = {}
        self.by_state: dict[State, dict[str, JobRecord]] = {state: {} for state in State}
        self.keys: dict[tuple[str, str], KeyEntry] = {}
        self.tombstones = KeyTombstones()
        self.paused: ev.Paused | None = None

    def apply(self, event: ev.Event) -> None:
        """Take one event in.

        Raises `IllegalTransition`, having changed nothing, for an event that the table or the order of events forbids.
        """
        seq = event.seq
        if seq != self.seq + 1:
            raise IllegalTransition(f"event {seq} cannot follow event {self.seq}")
        if isinstance(event, ev.JobEvent):
            job = event.job
            record = self.jobs.get(job)
            if record is None:
                self._begin(event)
            else:
                before = record.state
                after = fold(record, event)
                if before is not after:
                    by_state = self.by_state
                    del by_state[before][job]
                    by_state[after][job] = record
        elif isinstance(event, ev.Paused):
            self.paused = event
        elif isinstance(event, ev.Resumed):
            self.paused = None
        self.seq = seq

    def _begin(self, event: ev.JobEvent) -> None:
        job = event.job
        if not isinstance(event, ev.Submitted):
            raise JobNotFound(job)
        record = begin(event)
        self.jobs[job] = self.by_state[record.state][job] = record
        if record.key is not None:
            self.keys[record.kind, record.key] = KeyEntry(job, record.digest or "")

    def retract(self, job_id: str) -> None:
        """Undo a job from its beginning on; the numbers of its events stay spent."""
        record = self.jobs.pop(job_id)
        del self.by_state[record.state][job_id]
        if record.key is not None:
            del self.keys[record.kind, record.key]

    def get(self, job_id: str) -> JobRecord:
        """Raises `JobNotFound`."""
        try:
            return self.jobs[job_id]
        except KeyError:
            raise JobNotFound(job_id) from None

    def count(self, *states: State) -> int:
        return sum(len(self.by_state[state]) for state in states)

    def prunable(self, older_than: Mapping[State, float], keep: Mapping[State, int], limit: int) -> list[str]:
        """Ids of final jobs to forget: of each state those that ended first, at that time or before, or as many as
        there are more than `keep`.

        At most `limit` of them; what is left over is found by the next call.
        """
        chosen: list[str] = []
        for state in _FINAL:
            records = self.by_state[state].values()
            excess = len(records) - keep[state]
            for rank, record in enumerate(records):
                if record.changed_at > older_than[state] and rank >= excess:
                    break
                if len(chosen) >= limit:
                    return chosen
                chosen.append(record.id)
        return chosen

    def forget(self, job_ids: Iterable[str], now: float) -> list[KeyTombstone]:
        """Drop final jobs. What is to be remembered of their keys, which is in `tombstones` from now on."""
        keys: list[KeyTombstone] = []
        for job_id in job_ids:
            record = self.jobs.pop(job_id)
            del self.by_state[record.state][job_id]
            if record.key is not None:
                entry = self.keys.pop((record.kind, record.key))
                keys.append(KeyTombstone(key_name(record.kind, record.key), record.id, entry.digest, record.state, now))
        self.tombstones.add(keys)
        return keys
