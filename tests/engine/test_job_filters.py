"""Rules of the table of jobs: whatever changes, a filter finds the jobs that it matches, against a list of all jobs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from trio_jobs._engine import job_block, job_table
from trio_jobs._engine.job_filter import Group, JobFilter
from trio_jobs._engine.job_table import JobTable, facts
from trio_jobs._engine.jobs import AttemptRecord, Doubt, ErrorInfo, JobRecord, Outcome, State

KINDS = st.sampled_from(("post", "print"))
KEYS = st.none() | st.text("ab-", min_size=1, max_size=4)
PEOPLE = st.none() | st.sampled_from(("ada", "bob"))
LABELS = st.none() | st.dictionaries(st.sampled_from(("company", "year")), st.sampled_from(("x", "y")), min_size=1)
ERRORS = st.none() | st.sampled_from(("OSError", "TypeError"))
STATES = st.sampled_from(State)
ENTERED = AttemptRecord(1, 1, 0.0, True)

CONDITIONS: dict[str, st.SearchStrategy[Any]] = {
    "states": st.frozensets(STATES, min_size=1, max_size=6),
    "kinds": st.frozensets(KINDS | st.just("unknown")),
    "key_prefix": st.text("ab-", min_size=1, max_size=2),
    "error_type": st.sampled_from(("OSError", "TypeError")),
    "may_have_acted": st.booleans(),
    "labels": LABELS.map(lambda labels: tuple(sorted((labels or {}).items()))),
    "by": st.sampled_from(("ada", "bob")),
    "since": st.floats(0, 9),
    "until": st.floats(0, 9),
}
# of all conditions together hardly any job would match
FILTERS = (
    st.sets(st.sampled_from(sorted(CONDITIONS)), max_size=2)
    .flatmap(lambda names: st.fixed_dictionaries({name: CONDITIONS[name] for name in sorted(names)}))
    .map(lambda conditions: JobFilter(**conditions))
)
ALONE = [
    *(JobFilter(states=frozenset([state])) for state in State),
    *(JobFilter(error_type=error) for error in ("OSError", "TypeError")),
    *(JobFilter(may_have_acted=acted) for acted in (False, True)),
    *(JobFilter(key_prefix=prefix) for prefix in ("a", "b", "-", "ab", "a-", "-b")),
]


def is_meant(wanted: JobFilter, record: JobRecord) -> bool:
    """The rule in the words of the docs, written apart from the code."""
    inside = record.doubt is not None and record.doubt.inside
    labels = record.labels or {}
    return all(
        [
            wanted.states is None or record.state in wanted.states,
            wanted.kinds is None or record.kind in wanted.kinds,
            wanted.key_prefix is None or (record.key or "").startswith(wanted.key_prefix),
            wanted.error_type is None or (record.error is not None and record.error.type == wanted.error_type),
            wanted.may_have_acted is None or wanted.may_have_acted is (record.may_have_acted or inside),
            set(wanted.labels) <= set(labels.items()),
            wanted.by is None or record.by == wanted.by,
            wanted.since is None or wanted.since <= record.submitted_at,
            wanted.until is None or record.submitted_at < wanted.until,
        ]
    )


class TableAgainstList(RuleBasedStateMachine):
    """The table with blocks of 8 jobs."""

    def __init__(self) -> None:
        super().__init__()
        self.table = JobTable()
        self.jobs: list[JobRecord] = []
        self.seq = 0

    @rule(
        count=st.integers(1, 24), step=st.integers(1, 3), kind=KINDS, state=STATES, keys=st.lists(KEYS, min_size=1),
        by=PEOPLE, labels=LABELS, at=st.floats(0, 9), error=ERRORS,
    )  # fmt: skip
    def submit(self, count: int, step: int, kind: str, state: State, keys: list[str | None], **fields: Any) -> None:
        for number in range(count):
            self.seq += step
            record = JobRecord(
                f"{self.seq:036x}", kind, msgspec.Raw(b"1"), fields["at"], self.seq, 0.0, self.seq, state,
                keys[number % len(keys)], None, fields["by"], labels=fields["labels"], last_attempt=ENTERED,
            )  # fmt: skip
            record.error = None if fields["error"] is None else ErrorInfo(fields["error"])
            self.table.append(record)
            self.jobs.append(record)

    @rule(data=st.data(), state=STATES, error=ERRORS, acted=st.booleans(), inside=st.none() | st.booleans())
    def change(self, data: Any, state: State, error: str | None, acted: bool, inside: bool | None) -> None:
        if not self.jobs:
            return
        record = data.draw(st.sampled_from(self.jobs))
        before = facts(record)
        record.state = state
        record.error = None if error is None else ErrorInfo(error)
        record.may_have_acted = acted
        record.doubt = None if inside is None else Doubt(Outcome.ERROR, True, inside, False)
        if record.submitted_seq < self.table.tail_seq:
            self.table.update(record, before)

    @rule(data=st.data(), count=st.integers(1, 20), where=st.sampled_from(("first", "last", "any")))
    def remove(self, data: Any, count: int, where: str) -> None:
        for _ in range(min(count, len(self.jobs))):
            last = len(self.jobs) - 1
            at = {"first": 0, "last": last}.get(where)
            self.table.remove(self.jobs.pop(data.draw(st.integers(0, last)) if at is None else at))

    @rule(wanted=FILTERS, place=st.none() | st.integers(0, 150), order=st.sampled_from(("oldest", "newest")))
    def scan(self, wanted: JobFilter, place: int | None, order: Any) -> None:
        expected = [job for job in self.jobs if is_meant(wanted, job)]
        if place is not None:
            expected = [job for job in expected if (job.submitted_seq - place) * (1 if order == "oldest" else -1) > 0]
        if order == "newest":
            expected.reverse()
        assert [job for _, job in self.table.scan(wanted, place, order) if job is not None] == expected
        assert [job for job in self.jobs if wanted.matches(job)] == [job for job in self.jobs if is_meant(wanted, job)]

    @rule(wanted=FILTERS, order=st.sampled_from(("oldest", "newest")), size=st.integers(1, 5))
    def scan_in_pages(self, wanted: JobFilter, order: Any, size: int) -> None:
        """Each page begins where the last one has ended, at a job or at a step without one."""
        found: list[JobRecord] = []
        place, more = None, True
        pages = iter(range(1000))
        while more:
            assert next(pages, None) is not None, "each page makes progress"
            more = False
            for count, (number, job) in enumerate(self.table.scan(wanted, place, order)):
                if count == size:
                    more = True
                    break
                place = number
                if job is not None:
                    found.append(job)
        expected = [job for job in self.jobs if is_meant(wanted, job)]
        assert found == (expected if order == "oldest" else expected[::-1])

    @rule(wanted=FILTERS, group=st.none() | st.sampled_from(("state", "kind", "error_type", "label")))
    def count(self, wanted: JobFilter, group: Group | None) -> None:
        expected = [job for job in self.jobs if is_meant(wanted, job)]
        values: Counter[str] = Counter()
        assert sum(self.table.count(wanted, group, "year", values)) == len(expected)
        of: dict[str | None, Callable[[JobRecord], str | None]] = {
            None: lambda job: None,
            "state": lambda job: job.state,
            "kind": lambda job: job.kind,
            "error_type": lambda job: None if job.error is None else job.error.type,
            "label": lambda job: (job.labels or {}).get("year"),
        }
        assert +values == Counter(value for job in expected if (value := of[group](job)) is not None)

    @rule(data=st.data(), length=st.integers(6, 36))
    def find_by_the_end_of_an_id(self, data: Any, length: int) -> None:
        if self.jobs:
            end = data.draw(st.sampled_from(self.jobs)).id[-length:]
            assert self.table.with_id_end(end) == [job for job in self.jobs if job.id.endswith(end)]
        assert self.table.with_id_end("f" * length) == []

    @invariant()
    def each_condition_alone_finds_its_jobs(self) -> None:
        for wanted in ALONE:
            found = [job for _, job in self.table.scan(wanted) if job is not None]
            assert found == [job for job in self.jobs if is_meant(wanted, job)]

    @invariant()
    def all_jobs_are_there_in_order(self) -> None:
        assert [*self.table] == self.jobs
        assert len(self.table) == len(self.jobs)
        assert self.table.kinds() >= {job.kind for job in self.jobs}

    @invariant()
    def sparse_neighbours_are_merged(self) -> None:
        blocks = int(repr(self.table).split()[-2])
        assert blocks <= 2 * len(self.jobs) // job_table.SPARSE + 1 + len(self.jobs) % 2


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    for module, values in (
        (job_block, {"SIZE": 8, "STRIDE": 3}),
        (job_table, {"SIZE": 8, "SPARSE": 4, "SELDOM": 1, "LOOK": 1}),
    ):
        for name, value in values.items():
            monkeypatch.setattr(module, name, value)


@pytest.mark.parametrize("error", [None, "TypeError"], ids=["none", "another"])
@pytest.mark.parametrize("in_block", [True, False])
def test_a_job_is_listed_and_counted_by_the_error_that_it_has_now(in_block: bool, error: str | None) -> None:
    table, payload = JobTable(), msgspec.Raw(b"1")
    jobs = [JobRecord(f"{n:036x}", "post", payload, 0.0, n, 0.0, n, State.PENDING) for n in range(1, 10)]
    for job in jobs:  # with the ninth, the first eight are in a block
        table.append(job)
    job = jobs[3 if in_block else 8]
    for kind in ("OSError", error, "OSError", error):
        before = facts(job)
        job.error = None if kind is None else ErrorInfo(kind)
        if in_block:
            table.update(job, before)
        for listed in ("OSError", "TypeError"):
            wanted = JobFilter(error_type=listed)
            found = [job for _, job in table.scan(wanted) if job is not None]
            assert found == ([job] if kind == listed else [])
            values: Counter[str] = Counter()
            assert sum(table.count(wanted, "error_type", "", values)) == +values[listed] == (kind == listed)


TestTableAgainstList = TableAgainstList.TestCase
TestTableAgainstList.settings = settings(max_examples=30, stateful_step_count=30)
