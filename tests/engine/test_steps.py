"""The steps of a job: a finished step does not run again, an open step is a doubt."""

from __future__ import annotations

import attrs
import msgspec
import pytest
from engine_bench import BOOM, NOT_DONE, PLAIN, Bench, ended, error, in_state

from trio_jobs._engine.decide import AttemptResult, VerifyAnswer
from trio_jobs._engine.jobs import Outcome, State, Unknown, open_step, view
from trio_jobs._engine.retry import Rules

VERIFIES = attrs.evolve(PLAIN, verifies=True)


def with_open_step(rules: Rules = PLAIN) -> Bench:
    bench = Bench(rules)
    bench.start()
    bench.start_step("draft")
    bench.finish_step("draft")
    bench.start_step("voucher")
    assert open_step(bench.job) == view(bench.job).open_step == "voucher"
    assert view(bench.job).steps == ("draft",)
    return bench


def test_a_step_enters_the_sdk() -> None:
    assert with_open_step().job.attempts[0].entered


def test_an_error_in_a_step_is_a_doubt_without_verify() -> None:
    bench = with_open_step()
    bench.end(error(entered=True))
    assert (bench.job.state, bench.job.reason, bench.job.error) == (State.IN_DOUBT, "open_step", BOOM)
    assert open_step(bench.job) == "voucher"


def test_an_error_between_two_steps_follows_the_retry_policy() -> None:
    bench = with_open_step()
    bench.finish_step("voucher", msgspec.Raw(b"7"))
    bench.end(error(entered=True))
    assert bench.job.state is State.RETRYING
    assert bench.job.steps == {"draft": msgspec.Raw(b'{"folio":"A-1"}'), "voucher": msgspec.Raw(b"7")}


@pytest.mark.parametrize("on_doubt", ["retry", "fail"])
def test_an_error_in_a_step_follows_on_doubt(on_doubt: str) -> None:
    bench = with_open_step(Rules(on_doubt="retry" if on_doubt == "retry" else "fail"))
    bench.end(error(entered=True))
    assert (bench.job.state, bench.job.may_have_acted) == (
        State.RETRYING if on_doubt == "retry" else State.FAILED,
        True,
    )
    assert open_step(bench.job) == "voucher"


def test_on_doubt_does_not_retry_an_error_that_is_not_retryable() -> None:
    bench = with_open_step(Rules(on_doubt="retry"))
    bench.end(error(entered=True, retryable=False))
    assert bench.job.state is State.FAILED


def test_not_done_of_verify_closes_the_open_step() -> None:
    bench = with_open_step(VERIFIES)
    bench.end(error(entered=True))
    bench.verified(NOT_DONE)
    assert bench.job.state is State.RETRYING
    assert open_step(bench.job) is None
    assert view(bench.job).steps == ("draft",)


def test_unknown_of_verify_leaves_the_step_open() -> None:
    bench = with_open_step(VERIFIES)
    bench.end(error(entered=True))
    bench.verified(VerifyAnswer(Unknown()))
    assert bench.job.state is State.IN_DOUBT
    assert open_step(bench.job) == "voucher"
    bench.resolve("not_done")
    assert open_step(bench.job) is None


@pytest.mark.parametrize("outcome", [Outcome.FAIL, Outcome.CANCEL, Outcome.SNOOZE, Outcome.RETRY_AFTER])
def test_a_directive_of_the_handler_closes_its_open_step(outcome: Outcome) -> None:
    bench = with_open_step()
    bench.end(AttemptResult(outcome, entered=True))
    assert open_step(bench.job) is None
    assert view(bench.job).steps == ("draft",)


def test_a_step_of_an_idempotent_handler_may_run_again() -> None:
    bench = with_open_step(Rules(idempotent=True))
    bench.end(ended(Outcome.STOPPED, entered=True))
    assert bench.job.state is State.PENDING
    assert open_step(bench.job) is None


def test_a_stuck_step_is_open_until_it_finishes() -> None:
    bench = with_open_step()
    bench.stuck()
    assert open_step(bench.job) == "voucher"
    assert bench.start_step("next") == []
    assert bench.finish_step("voucher") == ["StepFinished"]
    assert (bench.job.state, open_step(bench.job)) == (State.IN_DOUBT, None)
    bench.end(AttemptResult(Outcome.COMPLETED, entered=True, late=True))
    assert bench.job.state is State.COMPLETED


@pytest.mark.parametrize("crash", [True, False])
def test_an_interrupted_stuck_step_stays_open(crash: bool) -> None:
    bench = with_open_step()
    bench.stuck()
    bench.crash() if crash else bench.end(ended(Outcome.STOPPED, entered=True))
    assert (bench.job.state, open_step(bench.job)) == (State.IN_DOUBT, "voucher")


def test_of_nested_open_steps_the_outer_one_is_shown() -> None:
    bench = with_open_step()
    bench.start_step("line 1")
    assert open_step(bench.job) == "voucher"
    bench.finish_step("line 1")
    assert open_step(bench.job) == "voucher"


@pytest.mark.parametrize("state", [state for state in State if state is not State.PROCESSING])
def test_a_step_event_needs_a_running_attempt(state: State) -> None:
    bench = in_state(state)
    assert bench.start_step("voucher") == []
    assert bench.finish_step("voucher") == []


def test_finished_steps_survive_a_new_run() -> None:
    bench = with_open_step()
    bench.end(AttemptResult(Outcome.FAIL, entered=True))
    bench.retry()
    assert view(bench.job).steps == ("draft",)


def test_a_later_attempt_without_a_step_leaves_the_step_open() -> None:
    bench = with_open_step(Rules(on_doubt="retry"))
    bench.end(error(entered=True))
    bench.attempt(ended(Outcome.STOPPED))
    assert (bench.job.state, open_step(bench.job)) == (State.PENDING, "voucher")
