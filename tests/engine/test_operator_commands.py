"""Correct, verify now, reschedule, run now and claim: what they change, and when they are refused."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from engine_bench import NOT_DONE, PAYLOAD, PLAIN, Bench, ended, error, in_state, snapshot

from trio_jobs._engine.decide import AttemptResult, VerifyAnswer
from trio_jobs._engine.jobs import Claim, Done, Outcome, State, Unknown, Wait, view
from trio_jobs._engine.retry import Retry, Rules
from trio_jobs._errors import InvalidState, JobMayHaveActed
from trio_jobs._operator_errors import JobClaimed

DONE = VerifyAnswer(Done(7), msgspec.Raw(b"7"))
UNKNOWN = VerifyAnswer(Unknown())
VERIFIED = Rules(verifies=True)
#: Retries what raised without a verify
CONSENTS = Rules(retry=Retry(0))

CORRECTABLE = (State.FAILED, State.CANCELLED)
WAITING = (State.SCHEDULED, State.PENDING, State.RETRYING)


def acted(rules: Rules = CONSENTS) -> Bench:
    """A job that has failed, and that may have done its work."""
    bench = Bench(rules, key="A-1", digest="old digest")
    bench.attempt(error(entered=True))
    if rules.verifies:
        bench.verified(UNKNOWN)
        bench.resolve("failed")
        bench.projection.jobs["job"].may_have_acted = True
    assert bench.job.state is State.FAILED
    assert bench.job.may_have_acted
    return bench


def with_a_step(rules: Rules = PLAIN) -> Bench:
    """A job that has failed behind a finished step."""
    bench = Bench(rules)
    bench.start(entered=True)
    bench.start_step("draft")
    bench.finish_step("draft")
    bench.end(AttemptResult(Outcome.FAIL, entered=True))
    assert bench.job.state is State.FAILED
    return bench


# correct


@pytest.mark.parametrize("state", CORRECTABLE)
def test_a_correction_begins_a_new_run_with_the_new_payload_and_keeps_the_old_one(state: State) -> None:
    bench = in_state(state, key="A-1", digest="old digest")
    assert bench.correct() == ["Corrected"]
    job = bench.job
    assert (job.state, job.run, bytes(job.payload), job.digest) == (State.PENDING, 2, b'"new"', "new digest")
    assert view(job).earlier_payloads == {1: bytes(PAYLOAD)}
    assert (job.retries_used, job.error, job.reason, job.cancel_requested) == (0, None, "", False)
    assert bench.projection.keys["kind", "A-1"].digest == "new digest", "the key stands for the new payload"
    assert [(action.action, action.by) for action in job.actions][-1:] == [("correct", "ana")]


@pytest.mark.parametrize("state", [state for state in State if state not in CORRECTABLE])
def test_only_a_failed_or_cancelled_job_can_be_corrected(state: State) -> None:
    bench = in_state(state)
    was = snapshot(bench.job)
    with pytest.raises(InvalidState):
        bench.correct()
    assert snapshot(bench.job) == was


@pytest.mark.parametrize(
    ("rules", "advice"), [(CONSENTS, "its handler has no verify"), (VERIFIED, "verify it, and correct it")]
)
def test_a_job_that_may_have_acted_cannot_be_corrected_before_verify_says_not_done(rules: Rules, advice: str) -> None:
    """P12: asked in the new run, verify would find the work of the old payload."""
    bench = acted(rules)
    for answer in (None, UNKNOWN):
        if answer is not None:
            assert bench.answered(answer) == ["Verified"]
        with pytest.raises(JobMayHaveActed, match=advice):
            bench.correct()
    bench.answered(NOT_DONE)
    assert bench.correct() == ["Corrected"]


def test_a_job_with_a_finished_step_cannot_be_corrected_before_verify_says_not_done() -> None:
    """P12: a correction drops the steps, so it would do their work again."""
    bench = with_a_step(VERIFIED)
    with pytest.raises(JobMayHaveActed, match="it has finished 'draft'"):
        bench.correct()
    bench.answered(NOT_DONE)
    assert [*bench.job.steps] == ["draft"], "a retry with the same payload does not repeat it"
    bench.correct()
    assert [*bench.job.steps] == [], "the new payload has other steps"


def test_not_done_is_forgotten_when_the_next_attempt_starts() -> None:
    bench = with_a_step(VERIFIED)
    bench.answered(NOT_DONE)
    bench.retry()
    bench.start(entered=True)
    bench.end(AttemptResult(Outcome.FAIL, entered=True))
    with pytest.raises(JobMayHaveActed):
        bench.correct()


def test_not_done_of_a_verify_within_the_run_permits_a_correction_too() -> None:
    bench = Bench(Rules(Retry(0), verifies=True))
    bench.start(entered=True)
    bench.start_step("draft")
    bench.finish_step("draft")
    bench.end(error(entered=True))
    assert bench.verified(NOT_DONE) == ["Failed"]
    assert bench.correct() == ["Corrected"]


def test_a_correction_keeps_the_deadline_unless_it_has_passed_or_a_new_one_is_given() -> None:
    for later, more, expected in (
        (1.0, {}, 1100.0),
        (200.0, {}, None),
        (200.0, {"deadline_at": 5000.0}, 5000.0),
        (1.0, {"deadline_after": 7.0}, 1008.0),
    ):
        kwargs: dict[str, Any] = more
        bench = in_state(State.FAILED, deadline_at=1100.0)
        bench.now = 1000.0 + later
        bench.correct(**kwargs)
        assert bench.job.deadline_at == expected
        wait = bench.job.deadline_wait
        assert (None if wait is None else wait.seconds) == more.get("deadline_after")


def test_the_newest_10_replaced_payloads_are_kept() -> None:
    bench = in_state(State.FAILED)
    for number in range(12):
        bench.correct(b"%d" % number)
        bench.attempt(AttemptResult(Outcome.FAIL))
    earlier = view(bench.job).earlier_payloads
    assert earlier == {run: b"%d" % (run - 2) for run in range(3, 13)}
    assert view(bench.job, brief=True).earlier_payloads is None


# verify now


def test_a_failed_job_whose_work_is_found_done_is_completed() -> None:
    bench = acted()
    bench.claim()
    assert bench.answered(DONE) == ["Completed"]
    job = bench.job
    assert (job.state, job.reason, job.may_have_acted, job.run) == (State.COMPLETED, "verified", False, 1)
    assert bytes(job.result or b"") == b"7"
    assert job.claim is None, "nothing is left to be worked on"


def test_a_cancelled_job_whose_work_is_found_done_stays_cancelled_and_cannot_be_corrected() -> None:
    bench = in_state(State.CANCELLED)
    assert bench.answered(DONE) == ["Verified"]
    assert bench.job.state is State.CANCELLED
    with pytest.raises(JobMayHaveActed):
        bench.correct()


def test_an_answer_that_comes_after_a_new_run_has_begun_changes_nothing() -> None:
    bench = in_state(State.FAILED)
    bench.retry()
    for answer in (DONE, NOT_DONE, UNKNOWN):
        assert bench.answered(answer) == []


def test_verify_can_be_asked_again_after_it_has_answered_unknown() -> None:
    bench = Bench(VERIFIED)
    bench.attempt(ended(Outcome.TIMED_OUT, entered=True), UNKNOWN)
    assert bench.begin_verify() == [], "by itself the queue asks once"
    assert bench.ask_again() == ["InDoubt"]
    assert bench.begin_verify() == ["InDoubt"]
    assert bench.verified(DONE) == ["Completed"]


def test_verify_is_not_asked_again_while_the_call_is_inside() -> None:
    bench = Bench(VERIFIED)
    bench.start(entered=True)
    bench.stuck()
    with pytest.raises(InvalidState, match="still inside"):
        bench.ask_again()


# when a waiting job is due


@pytest.mark.parametrize("state", WAITING)
def test_a_waiting_job_is_rescheduled(state: State) -> None:
    bench = in_state(state)
    assert bench.reschedule(due_at=3000.0) == ["Rescheduled"]
    assert (bench.job.state, bench.job.due_at, bench.job.due_wait) == (State.SCHEDULED, 3000.0, None)
    assert bench.reschedule(delay=5.0) == ["Rescheduled"]
    assert (bench.job.due_at, bench.job.due_wait) == (bench.now + 5.0, Wait(5.0, None))


@pytest.mark.parametrize("state", WAITING)
def test_a_waiting_job_starts_now_on_request(state: State) -> None:
    bench = in_state(state)
    assert bench.run_now() == ([] if state is State.PENDING else ["Due"])
    assert bench.job.state is State.PENDING
    if state is not State.PENDING:
        assert bench.job.due_at == bench.now, "it takes its turn among the jobs that are due now"


@pytest.mark.parametrize("state", [state for state in State if state not in WAITING])
def test_a_job_that_does_not_wait_is_not_rescheduled(state: State) -> None:
    bench = in_state(state)
    for command in (bench.run_now, lambda: bench.reschedule(delay=5.0)):
        with pytest.raises(InvalidState, match="wait"):
            command()


# claims


@pytest.mark.parametrize("state", State)
def test_a_claim_changes_nothing_but_who_works_on_the_job(state: State) -> None:
    bench = in_state(state)
    was = snapshot(bench.job)
    if state is State.COMPLETED:
        with pytest.raises(InvalidState, match="nothing is left"):
            bench.claim()
        return
    assert bench.claim() == ["Claimed"]
    assert bench.job.claim == Claim("ana", bench.now + 900.0)
    assert bench.release() == ["Claimed"]
    changed = {name for name, value in snapshot(bench.job).items() if value != was[name]}
    assert changed == {"last_seq", "actions"}
    assert bench.release() == []


def test_a_claim_of_another_person_is_refused_until_it_ends_or_is_taken_over() -> None:
    bench = in_state(State.FAILED)
    bench.claim("ana")
    for command in (bench.claim, bench.release):
        with pytest.raises(JobClaimed, match=r"ana has claimed it until .* take it over") as caught:
            command("bob")
        assert caught.value.claimed_by == "ana"
    bench.claim("ana")
    assert bench.claim("bob", take_over=True) == ["Claimed"]
    bench.now += 900.0
    assert bench.claim("ana") == ["Claimed"], "a claim ends by itself"
