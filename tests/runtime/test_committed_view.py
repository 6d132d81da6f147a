"""P6: readers see the committed events of a job and nothing of a later one, not even in its history."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock

import trio_jobs
from support.moments import without_moments
from support.rig import open_queue
from support.stores import SlowStore
from trio_jobs import Outcome, Service, State
from trio_jobs._engine import events as ev
from trio_jobs._engine.fold import begin, fold
from trio_jobs._engine.jobs import EndedBy, JobRecord
from trio_jobs._runtime.event_log import EventLog


def make_service() -> Service:
    service = Service()

    @service.handler(retry=trio_jobs.Retry(1))
    async def post(fails: bool) -> int:
        if fails:
            raise ValueError("no")
        return 1

    return service


@pytest.mark.parametrize(
    ("fails", "event", "after"),
    [(False, ev.Completed, State.COMPLETED), (True, ev.RetryScheduled, State.RETRYING)],
    ids=["completed", "retrying"],
)
async def test_p6_the_end_of_an_attempt_is_not_seen_in_the_history_before_it_is_committed(
    autojump_clock: MockClock, fails: bool, event: type[ev.Event], after: State
) -> None:
    store = SlowStore(event)
    async with open_queue(make_service(), store=store) as queue:
        receipt = await queue.submit("post", fails)
        while not store.handed_over(event):
            await trio.testing.wait_all_tasks_blocked()
        for job in (queue.get(receipt.job_id), *queue.list()):
            assert job.state is State.PROCESSING
            assert job.attempts is not None
            (attempt,) = job.attempts
            assert (attempt.ended_at, attempt.outcome, attempt.error, attempt.ended_by) == (None, None, None, None)
            assert (job.error, job.result) == (None, None)
        store.keep()
        job = queue.get(receipt.job_id)
        assert job.state is after
        assert job.attempts is not None
        assert job.attempts[0].outcome is (Outcome.ERROR if fails else Outcome.COMPLETED)


#: Which events may follow in each state: their class, and what they have beside `seq`, `at` and `job`
ATTEMPT: dict[str, Any] = {"outcome": Outcome.ERROR, "entered": True}
NEXT: dict[State | None, list[tuple[type[ev.JobEvent], dict[str, Any]]]] = {
    None: [(ev.Submitted, {"kind": "k", "payload": msgspec.Raw(b"1")})],
    State.PENDING: [(ev.Started, {}), (ev.Cancelled, {"reason": "cancelled"})],
    State.PROCESSING: [
        (ev.SdkEntered, {}),
        (ev.StepStarted, {"step": "a"}),
        (ev.StepFinished, {"step": "a", "result": msgspec.Raw(b"1")}),
        (ev.CancelRequested, {}),
        (ev.Overdue, {"limit": EndedBy.ATTEMPT_TIMEOUT}),
        (ev.Completed, ATTEMPT | {"result": msgspec.Raw(b"1")}),
        (ev.Returned, ATTEMPT | {"outcome": Outcome.COMPLETED, "result": msgspec.Raw(b"1")}),
        (ev.RetryScheduled, ATTEMPT | {"due_at": 9.0, "reason": "error"}),
        (ev.Interrupted, ATTEMPT | {"outcome": Outcome.CRASHED}),
        (ev.InDoubt, ATTEMPT | {"may_have_acted": True}),
        (ev.Failed, ATTEMPT | {"reason": "error", "may_have_acted": True}),
    ],
    State.SAVING: [
        (ev.CancelRequested, {}),
        (ev.Completed, {"reason": "saved"}),
        (ev.RetryScheduled, ATTEMPT | {"outcome": Outcome.UNSAVED, "due_at": 9.0}),
        (ev.Interrupted, ATTEMPT | {"outcome": Outcome.UNSAVED, "crashed": True}),
        (ev.InDoubt, ATTEMPT | {"outcome": Outcome.UNSAVED, "may_have_acted": True, "interrupted": True}),
    ],
    State.RETRYING: [(ev.Due, {})],
    State.IN_DOUBT: [(ev.DoubtResolved, {}), (ev.Completed, {})],
    State.COMPLETED: [],
    State.FAILED: [(ev.RunRestarted, {})],
    State.CANCELLED: [(ev.RunRestarted, {})],
}


def next_event(record: JobRecord | None, job: str, seq: int, choice: int) -> ev.JobEvent | None:
    """One of the events that may follow; None if none may."""
    options = NEXT[None if record is None else record.state]
    if not options:
        return None
    kind, more = options[choice % len(options)]
    attempts = record.attempt_count if record is not None else 0
    if "attempt" in kind.__struct_fields__:
        more = more | {"attempt": attempts + 1 if kind is ev.Started else attempts}
    event: ev.JobEvent = kind(seq=seq, at=float(seq), job=job, **more)
    return event


@given(st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 9), st.integers(0, 3)), max_size=40))
def test_the_committed_view_of_a_job_is_what_a_fold_of_its_committed_events_gives(
    plan: list[tuple[str, int, int]],
) -> None:
    """Each step appends an event of one job, then commits up to three events."""

    class Nobody:
        def on_committed(self, events: Any) -> None: ...
        def on_rejected(self, submit: Any) -> None: ...
        def on_broken(self, error: Any) -> None: ...

    store = SlowStore(ev.JobEvent)
    log = EventLog(store, lambda: 0.0)
    trio.run(log.open, Nobody())
    appended: list[ev.JobEvent] = []
    for job, choice, commits in plan:
        event = next_event(log.projection.jobs.get(job), job, log.next_seq, choice)
        if event is not None:
            log.append([event])
            appended.append(event)
        store.keep(commits)
        expected: dict[str, JobRecord] = {}
        for committed in appended[: log.committed_seq]:
            if committed.job in expected:
                fold(expected[committed.job], committed)
            else:
                assert isinstance(committed, ev.Submitted)
                expected[committed.job] = begin(committed)
        for record in log.projection.jobs.values():
            seen = log.committed_view(record)
            compared = None if seen is None else without_moments(seen)
            assert compared == expected.get(record.id)
