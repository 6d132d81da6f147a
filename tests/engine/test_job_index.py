"""Rules of the index of jobs, against a sorted list."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from trio_jobs._engine import job_index
from trio_jobs._engine.job_index import FinalJobs, OpenJobs
from trio_jobs._engine.jobs import JobRecord, State

KINDS = ("post", "print", "send")


def record(number: int, kind: str) -> JobRecord:
    return JobRecord(str(number), kind, msgspec.Raw(b"1"), 0.0, number, 0.0, number, State.PENDING, state_seq=number)


class IndexAgainstList(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.index = FinalJobs()
        self.open_index = OpenJobs()
        self.model: list[tuple[int, JobRecord]] = []
        self.newest = 0

    @rule(kind=st.sampled_from(KINDS), step=st.integers(1, 3), count=st.integers(1, 12))
    def append(self, kind: str, step: int, count: int) -> None:
        added = [record(self.newest + step * n, kind) for n in range(1, count + 1)]
        self.newest += step * count
        self.index.extend(added)
        self.open_index.extend(added)
        self.model += [(job.state_seq, job) for job in added]

    @rule(data=st.data())
    def remove(self, data: Any) -> None:
        if self.model:
            number, removed = self.model.pop(data.draw(st.integers(0, len(self.model) - 1)))
            removed.state_seq = self.newest + 1  # a record has changed already when it leaves its place
            del self.index[number]
            del self.open_index[number]

    @rule(first=st.booleans(), count=st.integers(1, 20))
    def remove_from_one_end(self, first: bool, count: int) -> None:
        for _ in range(min(count, len(self.model))):
            number, _ = self.model.pop(0 if first else -1)
            del self.index[number]
            del self.open_index[number]

    @invariant()
    def all_jobs_are_there_in_order(self) -> None:
        for index in (self.index, self.open_index):
            assert [*index] == [job for _, job in self.model]
            assert len(index) == len(self.model)


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job_index, "CHUNK", 4)


TestIndexAgainstList = IndexAgainstList.TestCase
