"""All jobs of one history as the newest event left them, with the indices that every command needs. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec

from trio_jobs import _events as ev
from trio_jobs._engine.fold import begin, fold
from trio_jobs._errors import IllegalTransition, NoSuchJob
from trio_jobs._jobs import FINAL, JobRecord, State

__all__ = ["Head", "KeyEntry"]


class KeyEntry(msgspec.Struct, gc=False):
    """What is remembered of a used key. `state` is that of the job when it was pruned, None while the job is known."""

    job: str
    digest: str
    state: State | None = None


class Head:
    """The jobs, by id, by state (in the order in which they came into it) and by key.

    Every change comes in as an event through `apply`. `seq` is the last one's number.
    """

    def __init__(self) -> None:
        self.seq = 0
        self.jobs: dict[str, JobRecord] = {}
        self.by_state: dict[State, dict[str, JobRecord]] = {state: {} for state in State}
        self.keys: dict[tuple[str, str], KeyEntry] = {}
        self.pruned_keys = 0
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
            raise NoSuchJob(job)
        record = begin(event)
        self.jobs[job] = self.by_state[record.state][job] = record
        if record.key is not None:
            self.keys[record.kind, record.key] = KeyEntry(job, record.digest or "")

    def take_back(self, job_id: str) -> None:
        """Undo the beginning of a job to which nothing has happened since; its number stays spent."""
        record = self.jobs.pop(job_id)
        assert record.last_seq == record.submitted_seq, "only a beginning can be taken back"
        del self.by_state[record.state][job_id]
        if record.key is not None:
            del self.keys[record.kind, record.key]

    def get(self, job_id: str) -> JobRecord:
        """Raises `NoSuchJob`."""
        try:
            return self.jobs[job_id]
        except KeyError:
            raise NoSuchJob(job_id) from None

    def count(self, *states: State) -> int:
        return sum(len(self.by_state[state]) for state in states)

    def prunable(self, older_than: float, keep: int, limit: int) -> list[str]:
        """Ids of final jobs to forget, those that ended first of each state: older than the time, or more than `keep`
        in all.

        At most `limit` of them; what is left over is found by the next call.
        """
        excess = self.count(*FINAL) - keep
        chosen: list[str] = []
        for record in self._oldest_finals():
            if len(chosen) >= limit or (record.changed_at > older_than and len(chosen) >= excess):
                break
            chosen.append(record.id)
        return chosen

    def _oldest_finals(self) -> Iterator[JobRecord]:
        heads = {state: iter(self.by_state[state].values()) for state in FINAL}
        front = {state: record for state, it in heads.items() if (record := next(it, None)) is not None}
        while front:
            state = min(front, key=lambda state: front[state].last_seq)
            yield front[state]
            following = next(heads[state], None)
            if following is None:
                del front[state]
            else:
                front[state] = following

    def forget(self, job_ids: Iterable[str], keep_keys: int) -> None:
        """Drop final jobs. Their keys stay known, the last `keep_keys` of them, so that pruning invites no second
        time."""
        for job_id in job_ids:
            record = self.jobs.pop(job_id)
            del self.by_state[record.state][job_id]
            if record.key is not None:
                # moved to the end: the dictionary's order is then the order in which keys lost their jobs
                entry = self.keys.pop((record.kind, record.key))
                entry.state = record.state
                self.keys[record.kind, record.key] = entry
                self.pruned_keys += 1
        excess = self.pruned_keys - keep_keys
        if excess > 0:
            stale = [name for name, entry in self.keys.items() if entry.state is not None][:excess]
            for name in stale:
                del self.keys[name]
            self.pruned_keys -= len(stale)
