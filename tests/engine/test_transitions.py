"""Every cell of the table, legal and illegal. The grid here is written from the design, not from the code."""

from __future__ import annotations

from typing import Any

import pytest
from engine_bench import PAYLOAD, in_state, snapshot

from trio_jobs._engine import events as ev
from trio_jobs._engine.fold import begin, fold
from trio_jobs._engine.jobs import FINAL, EndedBy, State
from trio_jobs._engine.operator_events import REMARKS
from trio_jobs._engine.projection import Projection
from trio_jobs._engine.transitions import TABLE, target
from trio_jobs._errors import IllegalTransition, QueueBroken

# What each event makes of a job in each state; a dot where it cannot happen.
GRID = """
                -         scheduled pending    processing saving    retrying  in_doubt  completed failed  cancelled
Submitted       pending   .         .          .          .         .         .         .         .       .
Scheduled       scheduled .         .          .          .         .         .         .         .       .
Due             .         pending   .          .          .         pending   .         .         .       .
Started         .         .         processing .          .         .         .         .         .       .
SdkEntered      .         .         .          processing .         .         .         .         .       .
StepStarted     .         .         .          processing .         .         .         .         .       .
StepFinished    .         .         .          processing .         .         in_doubt  .         .       .
CancelRequested .         .         .          processing saving    .         .         .         .       .
Overdue         .         .         .          processing .         .         .         .         .       .
Returned        .         .         .          saving     .         .         saving    .         .       .
Completed       .         .         .          completed  completed .         completed .         completed .
RetryScheduled  .         .         .          retrying   retrying  .         retrying  .         .       .
Snoozed         .         .         .          scheduled  .         .         .         .         .       .
Interrupted     .         .         .          pending    pending   .         .         .         .       .
InDoubt         .         .         in_doubt   in_doubt   in_doubt  .         in_doubt  .         .       .
DoubtResolved   .         .         .          .          .         .         pending   .         .       .
Failed          .         failed    failed     failed     failed    failed    failed    .         .       .
Cancelled       .         cancelled cancelled  cancelled  cancelled cancelled .         .         .       .
RunRestarted    .         .         .          .          .         .         .         .         pending pending
Corrected       .         .         .          .          .         .         .         .         pending pending
Rescheduled     .         scheduled scheduled  .          .         scheduled .         .         .       .
Verified        .         .         .          .          .         .         .         .         failed  cancelled
Claimed         .         scheduled pending    processing saving    retrying  in_doubt  .         failed  cancelled
"""

# "leaves to" in the design's table of states
LEAVES_TO = {
    State.SCHEDULED: {State.PENDING, State.CANCELLED, State.FAILED},
    State.PENDING: {State.SCHEDULED, State.PROCESSING, State.IN_DOUBT, State.CANCELLED, State.FAILED},
    State.PROCESSING: {
        State.SAVING,
        State.COMPLETED,
        State.RETRYING,
        State.FAILED,
        State.SCHEDULED,
        State.PENDING,
        State.CANCELLED,
        State.IN_DOUBT,
    },
    State.RETRYING: {State.SCHEDULED, State.PENDING, State.CANCELLED, State.FAILED},
    State.SAVING: {
        State.COMPLETED,
        State.IN_DOUBT,
        State.FAILED,
        State.CANCELLED,
        State.RETRYING,
        State.PENDING,
    },
    State.IN_DOUBT: {State.COMPLETED, State.SAVING, State.RETRYING, State.PENDING, State.FAILED},
    State.COMPLETED: set(),
    State.FAILED: {State.PENDING, State.COMPLETED},
    State.CANCELLED: {State.PENDING},
}

JOB_EVENTS = [event for event in ev.ALL_EVENTS if issubclass(event, ev.JobEvent)]


def cells() -> list[tuple[State | None, type[ev.JobEvent], State | None]]:
    head, *rows = [line.split() for line in GRID.strip().splitlines()]
    befores = [None if name == "-" else State(name) for name in head]
    found = []
    for name, *afters in rows:
        assert len(afters) == len(befores)
        for before, after in zip(befores, afters, strict=True):
            found.append((before, getattr(ev, name), None if after == "." else State(after)))
    return found


CELLS = cells()
NEEDED: dict[type[ev.Event], dict[str, Any]] = {
    ev.Submitted: {"kind": "kind", "payload": PAYLOAD},
    ev.Scheduled: {"kind": "kind", "payload": PAYLOAD, "due_at": 9.0},
    ev.Started: {"attempt": 2},
    ev.SdkEntered: {"attempt": 1},
    ev.StepStarted: {"attempt": 1, "step": "voucher"},
    ev.StepFinished: {"attempt": 1, "step": "voucher", "result": PAYLOAD},
    ev.Overdue: {"attempt": 1, "limit": EndedBy.DEADLINE},
    ev.RetryScheduled: {"due_at": 9.0},
    ev.Snoozed: {"due_at": 9.0},
    ev.Corrected: {"payload": PAYLOAD},
    ev.Rescheduled: {"due_at": 9.0},
    ev.Verified: {"answer": "unknown"},
}


def an(event: type[ev.JobEvent], seq: int, job: str = "job") -> ev.JobEvent:
    return event(seq=seq, at=5.0, job=job, **NEEDED.get(event, {}))


def name_of(value: object) -> str:
    return value.__name__ if isinstance(value, type) else str(value or "-")


def test_the_grid_has_every_state_and_every_job_event() -> None:
    assert len(CELLS) == (len(State) + 1) * len(JOB_EVENTS)
    assert {event for _, event, _ in CELLS} == set(JOB_EVENTS)
    assert {before for before, _, _ in CELLS} == {None, *State}


@pytest.mark.parametrize(("before", "event", "after"), [c for c in CELLS if c[0] is not None], ids=name_of)
def test_an_event_moves_a_job_as_in_the_grid_or_is_illegal_and_changes_nothing(
    before: State, event: type[ev.JobEvent], after: State | None
) -> None:
    bench = in_state(before)
    record = bench.job
    was = snapshot(record)
    if after is None:
        with pytest.raises(IllegalTransition, match=f"{event.__name__} cannot happen to a job that is {before}"):
            fold(record, an(event, bench.seq))
        assert snapshot(record) == was
    else:
        assert fold(record, an(event, bench.seq)) is record.state is after
        assert record.last_seq == bench.seq
        if event in REMARKS:
            changed = {name for name, value in snapshot(record).items() if value != was[name]}
            assert changed <= {"last_seq", "actions", "claim"}
        else:
            assert (record.moved_seq, record.changed_at) == (bench.seq, 5.0)


@pytest.mark.parametrize(("before", "event", "after"), [c for c in CELLS if c[0] is not None], ids=name_of)
def test_the_projection_moves_a_job_between_its_indexes_or_changes_nothing(
    before: State, event: type[ev.JobEvent], after: State | None
) -> None:
    bench = in_state(before)
    projection, was = bench.projection, snapshot(bench.job)
    seq = projection.seq
    if after is None:
        with pytest.raises(IllegalTransition):
            projection.apply(an(event, seq + 1))
        assert (projection.seq, snapshot(bench.job)) == (seq, was)
    else:
        projection.apply(an(event, seq + 1))
        assert projection.seq == seq + 1
    found_in = [state for state in State if [record.id for record in projection.by_state[state]] == ["job"]]
    assert found_in == [after or before]


@pytest.mark.parametrize(
    ("event", "after"), [(event, after) for before, event, after in CELLS if before is None], ids=name_of
)
def test_only_a_submit_starts_a_job(event: type[ev.JobEvent], after: State | None) -> None:
    projection = Projection()
    if after is None:
        with pytest.raises(QueueBroken):
            projection.apply(an(event, 1))
        with pytest.raises(IllegalTransition, match=f"{event.__name__} cannot happen to a job that is not there"):
            target(None, event)
        assert (projection.seq, projection.jobs) == (0, {})
    else:
        made = an(event, 1)
        assert isinstance(made, ev.Submitted)
        assert begin(made).state is target(None, event) is after
        projection.apply(made)
        assert projection.jobs["job"].state is after


@pytest.mark.parametrize("before", State)
def test_an_event_that_is_not_newer_than_the_last_is_illegal_and_changes_nothing(before: State) -> None:
    legal = [event for state, event, after in CELLS if state is before and after is not None]
    for event in legal:
        record = in_state(before).job
        was = snapshot(record)
        with pytest.raises(IllegalTransition, match=f"event {record.last_seq} cannot follow event {record.last_seq}"):
            fold(record, an(event, record.last_seq))
        assert snapshot(record) == was


def test_the_table_is_the_grid() -> None:
    legal = {(before, event, after) for before, event, after in CELLS if after is not None}
    rows = [(row.before, row.event, row.after) for row in TABLE]
    assert len(rows) == len(set(rows))
    assert set(rows) == legal


@pytest.mark.parametrize("state", State)
def test_a_state_leads_only_to_the_states_of_the_design(state: State) -> None:
    assert {row.after for row in TABLE if row.before is state} - {state} == LEAVES_TO[state]


def test_nothing_leaves_completed_and_only_an_operator_leaves_the_other_final_states() -> None:
    leaving = {(row.before, row.event) for row in TABLE if row.before in FINAL and row.before is not row.after}
    assert leaving == {
        (State.FAILED, ev.RunRestarted),
        (State.FAILED, ev.Corrected),
        (State.FAILED, ev.Completed),
        (State.CANCELLED, ev.RunRestarted),
        (State.CANCELLED, ev.Corrected),
    }
    assert not any(row.before is State.COMPLETED for row in TABLE)


def test_every_row_has_a_reason() -> None:
    assert all(row.reason for row in TABLE)


def test_an_event_of_the_queue_itself_changes_no_job() -> None:
    """Except for the one that removes forgotten jobs."""
    bench = in_state(State.PENDING)
    was = snapshot(bench.job)
    others = (ev.JobEvent, ev.Forgotten)
    queue_events = [event for event in ev.ALL_EVENTS if not issubclass(event, others)]
    assert queue_events
    for event in queue_events:
        assert issubclass(event, ev.QueueEvent)
        needed: dict[str, Any] = {
            "session": 1, "culprit": "job", "jobs": ("job",), "problem": "OSError", "reason": "start"
        }  # fmt: skip
        more = {name: needed[name] for name in event.__struct_fields__ if name in needed}
        bench.projection.apply(event(seq=bench.projection.seq + 1, at=5.0, **more))
    assert snapshot(bench.job) == was
