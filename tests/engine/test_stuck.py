"""A call that exceeds its limits: in doubt while it is inside, and the effect of its late end."""

from __future__ import annotations

import pytest
from engine_bench import Bench, ended

from trio_jobs._engine.decide import AttemptResult
from trio_jobs._engine.jobs import Doubt, EndedBy, Outcome, State, view
from trio_jobs._engine.retry import Rules

IDEMPOTENT = Rules(idempotent=True)


def stuck(rules: Rules, *, entered: bool = True, cancel: bool = False) -> Bench:
    bench = Bench(rules)
    bench.start(entered=entered)
    if cancel:
        bench.cancel()
    bench.overdue()
    assert bench.stuck() == ["InDoubt"]
    assert bench.job.doubt == Doubt(Outcome.INSIDE, retryable=True, inside=True, asked=False)
    return bench


def test_an_overdue_attempt_stays_processing_and_is_recorded_once() -> None:
    bench = Bench()
    bench.start(entered=True)
    assert bench.overdue() == ["Overdue"]
    assert bench.overdue() == []
    assert bench.job.state is State.PROCESSING
    assert bench.job.attempts[0].overdue


def test_a_stuck_attempt_is_recorded_once() -> None:
    bench = stuck(Rules())
    assert bench.stuck() == []
    assert bench.overdue() == []
    assert bench.end(AttemptResult(Outcome.INSIDE, entered=True)) == []


@pytest.mark.parametrize("entered", [True, False])
def test_a_stuck_attempt_has_entered_only_if_it_did(entered: bool) -> None:
    bench = stuck(Rules(), entered=entered)
    assert bench.job.attempts[0].entered is entered
    assert view(bench.job).may_have_acted is entered


def test_a_stuck_attempt_that_never_entered_is_pending_after_a_crash() -> None:
    bench = stuck(Rules(), entered=False)
    assert bench.crash() == ["DoubtResolved"]
    assert bench.job.state is State.PENDING
    assert not bench.job.may_have_acted


@pytest.mark.parametrize("how", [Outcome.STOPPED, Outcome.CRASHED])
def test_a_requested_cancel_applies_when_a_stuck_attempt_is_interrupted(how: Outcome) -> None:
    bench = stuck(IDEMPOTENT, cancel=True)
    assert bench.end(ended(how, entered=True)) == ["DoubtResolved", "Cancelled"]
    assert bench.job.state is State.CANCELLED


def test_a_late_snooze_waits_as_a_retry_and_counts_as_a_snooze() -> None:
    bench = stuck(Rules(max_snoozes=1))
    assert bench.end(AttemptResult(Outcome.SNOOZE, wait=5, entered=True, late=True)) == ["RetryScheduled"]
    assert (bench.job.snoozes, bench.job.retries_used) == (1, 0)
    assert bench.job.due_at == 1005.0
    bench.start(entered=True)
    bench.stuck()
    assert bench.end(AttemptResult(Outcome.SNOOZE, wait=5, entered=True, late=True)) == ["Failed"]
    assert bench.job.reason == "too_many_snoozes"


@pytest.mark.parametrize("entered", [True, False])
def test_a_job_resolved_as_failed_while_its_call_is_inside_may_have_acted(entered: bool) -> None:
    bench = stuck(Rules(), entered=entered)
    bench.resolve("failed")
    assert bench.job.state is State.FAILED
    assert bench.job.may_have_acted is entered


def test_a_job_resolved_as_failed_after_its_call_returned_has_not_acted() -> None:
    bench = Bench()
    bench.attempt(ended(Outcome.TIMED_OUT, entered=True))
    bench.resolve("failed")
    assert bench.job.state is State.FAILED
    assert not bench.job.may_have_acted


@pytest.mark.parametrize("resolution", ["done", "failed"])
def test_the_end_of_a_call_after_resolve_changes_nothing(resolution: str) -> None:
    bench = stuck(Rules())
    bench.resolve("done" if resolution == "done" else "failed")
    assert bench.end(AttemptResult(Outcome.COMPLETED, entered=True, late=True)) == []
    assert bench.job.attempts[0].outcome is Outcome.INSIDE


def test_a_stop_that_abandons_a_call_leaves_its_job_in_doubt() -> None:
    bench = Bench()
    bench.start(entered=True)
    assert bench.end(AttemptResult(Outcome.INSIDE, ended_by=EndedBy.STOP, entered=True)) == ["InDoubt"]
    assert bench.job.reason == "stopped"
    assert bench.job.attempts[0].ended_by is EndedBy.STOP
    assert bench.job.doubt is not None
    assert bench.job.doubt.inside
