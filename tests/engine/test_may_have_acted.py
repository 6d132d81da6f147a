"""`may_have_acted` stays set until the handler returns, verify answers or an operator decides."""

from __future__ import annotations

import pytest
from engine_bench import NOT_DONE, PLAIN, Bench, ended, error

from trio_jobs._engine.decide import AttemptResult
from trio_jobs._engine.jobs import Outcome, State
from trio_jobs._engine.retry import Retry, Rules

#: Declares nothing but on_doubt
ONCE = Rules(retries_unverified=False)


def after_an_entered_error(rules: Rules = PLAIN) -> Bench:
    bench = Bench(rules)
    bench.attempt(error(entered=True))
    assert bench.job.state is State.RETRYING
    assert bench.job.may_have_acted
    return bench


@pytest.mark.parametrize(
    "result",
    [
        error(),
        ended(Outcome.TIMED_OUT),
        ended(Outcome.EXPIRED),
        ended(Outcome.CANCELLED),
        ended(Outcome.STOPPED),
        ended(Outcome.CRASHED),
        AttemptResult(Outcome.SNOOZE, wait=5),
        AttemptResult(Outcome.RETRY_AFTER, wait=5),
        AttemptResult(Outcome.FAIL),
        AttemptResult(Outcome.CANCEL),
    ],
    ids=lambda result: str(result.outcome),
)
def test_an_attempt_that_did_not_enter_keeps_may_have_acted(result: AttemptResult) -> None:
    bench = after_an_entered_error()
    bench.attempt(result)
    assert bench.job.may_have_acted


def test_a_job_whose_last_attempt_did_not_enter_ends_failed_with_may_have_acted() -> None:
    bench = after_an_entered_error(Rules(retry=Retry(1)))
    bench.attempt(error())
    assert bench.job.state is State.FAILED
    assert bench.job.may_have_acted


def test_a_return_resets_may_have_acted() -> None:
    bench = after_an_entered_error()
    bench.attempt(AttemptResult(Outcome.COMPLETED, entered=True))
    assert not bench.job.may_have_acted


def test_not_done_of_verify_resets_may_have_acted() -> None:
    bench = after_an_entered_error()
    bench.rules = Rules(verifies=True)
    bench.attempt(error(entered=True), NOT_DONE)
    assert bench.job.state is State.RETRYING
    assert not bench.job.may_have_acted


def test_not_done_of_an_operator_resets_may_have_acted() -> None:
    bench = after_an_entered_error()
    bench.attempt(ended(Outcome.TIMED_OUT, entered=True))
    bench.resolve("not_done")
    assert not bench.job.may_have_acted


def test_a_new_run_keeps_may_have_acted() -> None:
    bench = after_an_entered_error()
    bench.cancel()
    bench.retry(even_if_acted=True)
    assert bench.job.state is State.PENDING
    assert bench.job.may_have_acted


def test_p12_the_permission_to_repeat_ends_with_its_run() -> None:
    bench = after_an_entered_error()
    bench.cancel()
    bench.retry(even_if_acted=True)
    bench.rules = ONCE
    assert bench.start(entered=True) == ["Started"]
    bench.rules = Rules(retry=Retry(0))
    bench.end(error(entered=True))
    bench.rules = Rules(on_doubt="retry")
    bench.retry()
    bench.rules = ONCE
    assert bench.start(entered=True) == ["InDoubt"]
    assert bench.job.reason == "not_permitted"
