"""The projection: the order of events, the keys, and the order of removal."""

from __future__ import annotations

from typing import Any

import pytest
from engine_bench import PAYLOAD
from msgspec import Raw

from trio_jobs._engine import decide
from trio_jobs._engine import events as ev
from trio_jobs._engine.decide import AttemptResult
from trio_jobs._engine.jobs import FINAL, Outcome, State
from trio_jobs._engine.projection import Projection
from trio_jobs._engine.retry import Rules
from trio_jobs._errors import IllegalTransition, QueueBroken
from trio_jobs._lookup_errors import JobNotFound


def submit(projection: Projection, job: str, *, key: str | None = None, kind: str = "kind", at: float = 0.0) -> None:
    projection.apply(decide.submit(job, kind, PAYLOAD, at, projection.seq + 1, key=key, digest=f"digest of {key}"))


def finish(projection: Projection, job: str, outcome: Outcome = Outcome.COMPLETED, *, at: float = 0.0) -> None:
    record = projection.get(job)
    for event in decide.start(record, False, Rules(), at, projection.seq + 1):
        projection.apply(event)
    for event in decide.end(record, AttemptResult(outcome), Rules(), at, 0.0, projection.seq + 1):
        projection.apply(event)
    assert record.state in FINAL


def with_finals(*jobs: str, outcomes: tuple[Outcome, ...] = (Outcome.COMPLETED,)) -> Projection:
    """Jobs that ended one by one, a second apart, each with its id as key."""
    projection = Projection()
    for at, job in enumerate(jobs):
        submit(projection, job, key=job, at=float(at))
        finish(projection, job, outcomes[at % len(outcomes)], at=float(at))
    return projection


# order


@pytest.mark.parametrize("seq", [0, 1, 3])
def test_an_event_out_of_order_is_illegal_and_changes_nothing(seq: int) -> None:
    projection = Projection()
    submit(projection, "a")
    with pytest.raises(IllegalTransition, match=f"event {seq} cannot follow event 1"):
        projection.apply(decide.submit("b", "kind", PAYLOAD, 0.0, seq))
    assert (projection.seq, list(projection.jobs)) == (1, ["a"])


def test_a_second_submit_of_a_job_is_illegal() -> None:
    projection = Projection()
    submit(projection, "a")
    with pytest.raises(IllegalTransition, match="Submitted cannot happen to a job that is pending"):
        submit(projection, "a")
    assert projection.seq == 1


def test_an_event_of_an_unknown_job_breaks_the_queue() -> None:
    projection = Projection()
    with pytest.raises(JobNotFound) as raised:
        projection.get("a")
    assert raised.value.job_id == "a"
    with pytest.raises(QueueBroken, match="Due \\(event 1\\) is of job 'a', which is not known"):
        projection.apply(ev.Due(seq=1, at=0.0, job="a"))
    assert projection.seq == 0


def test_jobs_of_a_state_are_in_the_order_in_which_they_reached_it() -> None:
    projection = Projection()
    for job in "abc":
        submit(projection, job)
    for job in "cab":
        finish(projection, job)
    assert [record.id for record in projection.by_state[State.COMPLETED]] == ["c", "a", "b"]
    assert projection.count(State.COMPLETED, State.FAILED) == 3
    assert projection.count(State.PENDING) == 0


def test_the_projection_keeps_the_last_pause() -> None:
    projection = Projection()
    projection.apply(ev.Paused(seq=1, at=0.0, reason="month end", by="ana"))
    assert projection.paused is not None
    assert (projection.paused.reason, projection.paused.by) == ("month end", "ana")
    projection.apply(ev.Resumed(seq=2, at=0.0))
    assert projection.paused is None


# keys


def test_a_key_belongs_to_a_kind() -> None:
    projection = Projection()
    submit(projection, "a", key="A-1", kind="post")
    submit(projection, "b", key="A-1", kind="print")
    assert {name: entry.job for name, entry in projection.keys.items()} == {("post", "A-1"): "a", ("print", "A-1"): "b"}
    assert projection.keys["post", "A-1"].digest == "digest of A-1"


def test_a_tombstone_keeps_the_final_state_of_its_job() -> None:
    projection = with_finals("a", "b", outcomes=(Outcome.COMPLETED, Outcome.FAIL))
    tombstones = projection.forget(["a", "b"], now=9.0)
    assert not projection.jobs
    assert not projection.keys
    assert [(key.job, key.state, key.digest, key.at) for key in tombstones] == [
        ("a", State.COMPLETED, "digest of a", 9.0),
        ("b", State.FAILED, "digest of b", 9.0),
    ]
    assert [projection.tombstones.find("kind", job) for job in "ab"] == tombstones
    assert projection.tombstones.find("another kind", "a") is None


def test_a_tombstone_keeps_whether_its_job_may_have_done_work_or_a_step_of_it() -> None:
    projection = with_finals("done", "failed", outcomes=(Outcome.COMPLETED, Outcome.FAIL))
    for job in ("acted", "step"):
        submit(projection, job, key=job)
        projection.apply(ev.Started(seq=projection.seq + 1, at=0.0, job=job, attempt=1, entered=True))
    at, seq = 0.0, projection.seq
    projection.apply(ev.StepStarted(seq=seq + 1, at=at, job="step", attempt=1, step="one"))
    projection.apply(ev.StepFinished(seq=seq + 2, at=at, job="step", attempt=1, step="one", result=Raw(b"1")))
    projection.apply(ev.Failed(seq=seq + 3, at=at, job="step", attempt=1, outcome=Outcome.FAIL))
    projection.apply(ev.Failed(seq=seq + 4, at=at, job="acted", outcome=Outcome.ERROR, may_have_acted=True))
    found = {key.job: key.may_have_acted for key in projection.forget(["done", "failed", "acted", "step"], now=1.0)}
    assert found == {"done": True, "failed": False, "acted": True, "step": True}


def test_the_key_of_a_kept_job_is_never_removed() -> None:
    projection = with_finals("a", "b")
    submit(projection, "c", key="c")
    projection.forget(["a"], now=1.0)
    assert [key.job for key in projection.tombstones.take_stale(1e9, 0, 100)] == ["a"]
    assert set(projection.keys) == {("kind", "b"), ("kind", "c")}


def test_a_job_without_a_key_leaves_no_tombstone() -> None:
    projection = Projection()
    submit(projection, "a")
    finish(projection, "a")
    assert projection.forget(["a"], now=1.0) == []
    assert (projection.jobs, dict(projection.keys), len(projection.tombstones)) == ({}, {}, 0)
    assert projection.count(*State) == 0


# what is forgotten


OUTCOMES = (Outcome.COMPLETED, Outcome.FAIL, Outcome.CANCEL)


def each(value: Any) -> dict[State, Any]:
    return dict.fromkeys(FINAL, value)


def prunable(projection: Projection, older_than: dict[State, float], keep: dict[State, int], limit: int) -> list[str]:
    """older_than: jobs that ended at this time or before are chosen."""
    max_age = {state: -at for state, at in older_than.items()}
    return projection.prunable(lambda record: -record.changed_at, max_age, keep, limit)


def test_the_oldest_jobs_of_each_state_are_removed_first() -> None:
    projection = with_finals(*"abcdef", outcomes=OUTCOMES)  # a and d completed, b and e failed, c and f were cancelled
    assert prunable(projection, each(-1.0), each(1), limit=100) == ["a", "b", "c"]
    assert prunable(projection, each(2.0), each(100), limit=100) == ["a", "b", "c"]
    assert prunable(projection, each(100.0), each(100), limit=100) == ["a", "d", "b", "e", "c", "f"]


def test_each_state_has_its_own_age_and_count() -> None:
    projection = with_finals(*"abcdef", outcomes=OUTCOMES)
    age = {State.COMPLETED: 100.0, State.FAILED: -1.0, State.CANCELLED: 2.0}
    assert prunable(projection, age, each(100), limit=100) == ["a", "d", "c"]
    count = {State.COMPLETED: 100, State.FAILED: 0, State.CANCELLED: 1}
    assert prunable(projection, each(-1.0), count, limit=100) == ["b", "e", "c"]


def test_at_most_limit_jobs_are_removed_in_one_call() -> None:
    projection = with_finals(*"abcde", outcomes=OUTCOMES)
    found = []
    while ids := prunable(projection, each(100.0), each(0), limit=2):
        assert len(ids) <= 2
        found += ids
        projection.forget(ids, now=1.0)
    assert found == list("adbec")


def test_a_young_job_below_the_maximum_is_not_removed() -> None:
    assert prunable(with_finals(*"abc"), each(-1.0), each(3), limit=100) == []


def test_an_open_job_is_never_removed() -> None:
    projection = with_finals("a")
    submit(projection, "b")
    assert prunable(projection, each(1e12), each(0), limit=100) == ["a"]


def test_a_new_run_resets_the_age_of_a_job() -> None:
    projection = with_finals("a", "b", outcomes=(Outcome.FAIL,))
    for event in decide.retry(projection.get("a"), Rules(), None, 5.0, projection.seq + 1):
        projection.apply(event)
    finish(projection, "a", Outcome.FAIL, at=6.0)
    assert prunable(projection, each(100.0), each(0), limit=100) == ["b", "a"]
