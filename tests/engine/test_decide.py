"""Every command in every state: its answer, its events, or the error that it raises."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from engine_bench import BOOM, PAYLOAD, Bench, ended, error, in_state, names, snapshot

from trio_jobs._engine import decide
from trio_jobs._engine import events as ev
from trio_jobs._engine.jobs import FINAL, Outcome, State
from trio_jobs._engine.retry import Rules
from trio_jobs._errors import InvalidState

#: state -> what each command gives: an answer, the events, or the words of its InvalidState.
COMMANDS: dict[State, dict[str, Any]] = {
    State.SCHEDULED: {
        "cancel": ("cancelled", ["Cancelled"]), "retry": "only a failed or cancelled", "resolve": "only a job that is",
        "due": ["Due"], "start": [], "expire": ["Failed"], "enter": [], "overdue": [], "stuck": [],
    },
    State.PENDING: {
        "cancel": ("cancelled", ["Cancelled"]), "retry": "only a failed or cancelled", "resolve": "only a job that is",
        "due": [], "start": ["Started"], "expire": ["Failed"], "enter": [], "overdue": [], "stuck": [],
    },
    State.PROCESSING: {
        "cancel": ("requested", ["CancelRequested"]), "retry": "only a failed or cancelled",
        "resolve": "only a job that is", "due": [], "start": [], "expire": [], "enter": ["SdkEntered"],
        "overdue": ["Overdue"], "stuck": ["InDoubt"],
    },
    State.SAVING: {
        "cancel": ("requested", ["CancelRequested"]), "retry": "only a failed or cancelled",
        "resolve": "only a job that is", "due": [], "start": [], "expire": [], "enter": [], "overdue": [], "stuck": [],
    },
    State.RETRYING: {
        "cancel": ("cancelled", ["Cancelled"]), "retry": "only a failed or cancelled", "resolve": "only a job that is",
        "due": ["Due"], "start": [], "expire": ["Failed"], "enter": [], "overdue": [], "stuck": [],
    },
    State.IN_DOUBT: {
        "cancel": "use resolve instead of cancel", "retry": "only a failed or cancelled",
        "resolve": {"done": ["Completed"], "not_done": ["DoubtResolved"], "failed": ["Failed"]},
        "due": [], "start": [], "expire": [], "enter": [], "overdue": [], "stuck": [],
    },
    State.COMPLETED: {
        "cancel": ("too_late", []), "retry": "only a failed or cancelled", "resolve": "only a job that is",
        "due": [], "start": [], "expire": [], "enter": [], "overdue": [], "stuck": [],
    },
    State.FAILED: {
        "cancel": ("too_late", []), "retry": ["RunRestarted"], "resolve": "only a job that is",
        "due": [], "start": [], "expire": [], "enter": [], "overdue": [], "stuck": [],
    },
    State.CANCELLED: {
        "cancel": ("cancelled", []), "retry": ["RunRestarted"], "resolve": "only a job that is",
        "due": [], "start": [], "expire": [], "enter": [], "overdue": [], "stuck": [],
    },
}  # fmt: skip

RESOLUTIONS: tuple[decide.Resolution, ...] = ("done", "not_done", "failed")


def a_job(state: State, **submit: Any) -> Bench:
    bench = Bench(**submit) if state is State.PROCESSING else in_state(state, **submit)
    if state is State.PROCESSING:
        bench.start()  # not entered, so that it can be
    assert bench.job.state is state
    return bench


def test_every_state_has_a_row() -> None:
    assert set(COMMANDS) == set(State)


@pytest.mark.parametrize("state", State)
def test_cancel_answers_by_state(state: State) -> None:
    bench = a_job(state)
    was, wanted = snapshot(bench.job), COMMANDS[state]["cancel"]
    if isinstance(wanted, str):
        with pytest.raises(InvalidState, match=wanted) as raised:
            bench.cancel()
        assert (raised.value.job_id, raised.value.state) == ("job", state)
        return
    answer, events = decide.cancel(bench.job, "ana", bench.now, bench.seq)
    assert snapshot(bench.job) == was  # to decide changes nothing
    assert (answer, names(events)) == wanted
    bench.take(events)
    assert all(isinstance(e, ev.Cancelled | ev.CancelRequested) and e.by == "ana" for e in events)
    if answer == "cancelled":
        assert bench.job.state is State.CANCELLED
    assert bench.cancel() == answer  # asked again it answers the same
    assert bench.projection.seq == was["last_seq"] + len(events)


@pytest.mark.parametrize("state", State)
def test_retry_answers_by_state(state: State) -> None:
    bench = a_job(state)
    wanted = COMMANDS[state]["retry"]
    if isinstance(wanted, str):
        with pytest.raises(InvalidState, match=wanted):
            bench.retry()
    else:
        assert bench.retry() == wanted
        assert (bench.job.state, bench.job.run) == (State.PENDING, 2)


@pytest.mark.parametrize("resolution", RESOLUTIONS)
@pytest.mark.parametrize("state", State)
def test_resolve_answers_by_state(state: State, resolution: decide.Resolution) -> None:
    bench = a_job(state)
    wanted = COMMANDS[state]["resolve"]
    if isinstance(wanted, str):
        with pytest.raises(InvalidState, match=wanted):
            bench.resolve(resolution)
    else:
        assert bench.resolve(resolution, msgspec.Raw(b"7")) == wanted[resolution]


@pytest.mark.parametrize("command", ["due", "start", "enter", "overdue", "stuck"])
@pytest.mark.parametrize("state", State)
def test_a_command_of_the_queue_returns_events_or_none(state: State, command: str) -> None:
    bench = a_job(state)
    ask = {
        "due": lambda: decide.due(bench.job, bench.now, bench.seq),
        "start": lambda: decide.start(bench.job, False, bench.rules, bench.now, bench.seq),
        "enter": bench.enter,
        "overdue": bench.overdue,
        "stuck": bench.stuck,
    }[command]
    made = ask()
    assert [e if isinstance(e, str) else type(e).__name__ for e in made] == COMMANDS[state][command]


@pytest.mark.parametrize("state", State)
def test_expire_fails_only_a_waiting_job(state: State) -> None:
    bench = a_job(state, deadline_at=3000.0)
    assert bench.expire() == []
    bench.now = 3000.0
    assert bench.expire() == COMMANDS[state]["expire"]
    if COMMANDS[state]["expire"]:
        assert (bench.job.state, bench.job.reason, bench.job.due_at) == (State.FAILED, "expired", None)


@pytest.mark.parametrize("state", State)
def test_a_job_without_a_deadline_never_expires(state: State) -> None:
    bench = a_job(state)
    bench.now = 1e12
    assert bench.expire() == []


def test_may_have_acted_survives_a_cancel_and_an_expiry() -> None:
    for how, state in (("cancel", State.CANCELLED), ("expire", State.FAILED)):
        bench = Bench(deadline_at=3000.0)
        bench.attempt(error(entered=True))
        bench.now = 3000.0
        bench.cancel() if how == "cancel" else bench.expire()
        assert (bench.job.state, bench.job.may_have_acted, bench.job.error) == (state, True, BOOM)


def test_a_start_at_the_deadline_expires_the_job() -> None:
    bench = Bench(deadline_at=3000.0)
    bench.now = 3000.0
    assert bench.start() == ["Failed"]
    assert (bench.job.state, bench.job.reason, bench.job.attempts) == (State.FAILED, "expired", ())


def test_a_start_before_the_deadline_starts_an_attempt() -> None:
    bench = Bench(deadline_at=3000.0)
    bench.now = 2999.9
    assert bench.start() == ["Started"]


def test_a_second_cancel_request_adds_no_event() -> None:
    bench = a_job(State.PROCESSING)
    assert bench.cancel() == "requested"
    seq = bench.projection.seq
    assert bench.cancel() == "requested"
    assert bench.projection.seq == seq


def test_a_stuck_job_can_be_neither_cancelled_nor_resolved_as_not_done() -> None:
    bench = a_job(State.PROCESSING)
    bench.stuck()
    with pytest.raises(InvalidState, match="use resolve instead of cancel"):
        bench.cancel()
    with pytest.raises(InvalidState, match="wait for it to return"):
        bench.resolve("not_done")
    assert bench.resolve("done", msgspec.Raw(b"7")) == ["Completed"]
    assert bench.job.result == msgspec.Raw(b"7")


# submit


@pytest.mark.parametrize(
    ("due_at", "state"),
    [(None, State.PENDING), (999.0, State.PENDING), (1000.0, State.PENDING), (1000.1, State.SCHEDULED)],
)
def test_a_job_is_scheduled_only_if_due_at_is_in_the_future(due_at: float | None, state: State) -> None:
    bench = Bench(due_at=due_at)
    assert bench.job.state is state
    assert bench.job.due_at == (due_at if state is State.SCHEDULED else None)


def test_a_submit_event_has_every_option() -> None:
    event = decide.submit("job", "kind", PAYLOAD, 5.0, 7, key="A-1", digest="d", due_at=9.0, deadline_at=99.0, by="ana")
    assert event == ev.Scheduled(
        seq=7, at=5.0, job="job", kind="kind", payload=PAYLOAD, key="A-1", digest="d", due_at=9.0, deadline_at=99.0,
        by="ana",
    )  # fmt: skip
    bench = Bench(key="A-1", digest="d", deadline_at=99_999.0, by="ana")
    job = bench.job
    assert (job.key, job.digest, job.deadline_at, job.by, job.run) == ("A-1", "d", 99_999.0, "ana", 1)
    assert (job.submitted_at, job.submitted_seq, job.changed_at, job.last_seq) == (1000.0, 1, 1000.0, 1)


# a new run


def test_a_new_run_has_new_retries_and_continues_the_attempt_numbers() -> None:
    bench = Bench(Rules(max_snoozes=1))
    bench.attempt(decide.AttemptResult(Outcome.SNOOZE, wait=10))
    bench.now += 10
    bench.start()
    bench.crash()
    bench.start()
    bench.cancel()
    bench.end(ended(Outcome.CANCELLED))
    job = bench.job
    assert (job.retries_used, job.snoozes, job.crashes, job.cancel_requested) == (1, 1, 1, True)
    bench.retry("eva")
    assert (job.retries_used, job.snoozes, job.crashes, job.cancel_requested) == (0, 0, 0, False)
    assert (job.reason, job.error, job.run) == ("", None, 2)
    bench.start()
    assert [(attempt.number, attempt.run) for attempt in job.attempts] == [(1, 1), (2, 1), (3, 1), (4, 2)]


@pytest.mark.parametrize(("deadline", "kept"), [(1500.0, None), (2000.0, None), (2000.1, 2000.1)])
def test_a_new_run_keeps_a_deadline_only_if_it_is_in_the_future(deadline: float, kept: float | None) -> None:
    bench = Bench(deadline_at=deadline)
    bench.cancel()
    bench.now = 2000.0
    bench.retry()
    assert bench.job.deadline_at == kept
    assert bench.start() == ["Started"]


@pytest.mark.parametrize("state", sorted(FINAL - {State.COMPLETED}))
def test_a_final_job_has_no_due_at(state: State) -> None:
    bench = in_state(state)
    bench.retry()
    assert bench.job.due_at is None
