"""Work that a handler has returned and the SDK has not saved yet: what each end of it makes of a job."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from engine_bench import BOOM, NOT_DONE, PLAIN, Bench, ended, in_state, names, snapshot

from trio_jobs._engine import decide
from trio_jobs._engine import events as ev
from trio_jobs._engine.decide import AttemptResult, VerifyAnswer
from trio_jobs._engine.jobs import Done, Outcome, State, Unknown, view
from trio_jobs._engine.retry import Retry, Rules
from trio_jobs._engine.saving import Unsaved
from trio_jobs._errors import InvalidState

RAISED = Unsaved("save_failed", interrupted=False, error=BOOM, retryable=True)
DISCARDED = Unsaved("session_discarded", error=BOOM)
OVERRAN = Unsaved("save_timed_out")
STOPPED = Unsaved("stopped")
CRASHED = "crashed"
SEVEN, EIGHT = msgspec.Raw(b"7"), msgspec.Raw(b"8")

IDEMPOTENT = Rules(PLAIN.retry, idempotent=True)
VERIFIED = Rules(PLAIN.retry, verifies=True)
HELD = Rules(PLAIN.retry)


def saving(rules: Rules = PLAIN, *, entered: bool = True, **submit: Any) -> Bench:
    bench = Bench(rules, **submit)
    bench.start(entered=entered)
    assert bench.returned() == ["Returned"]
    return bench


def fails(bench: Bench, why: Unsaved | str) -> list[str]:
    return bench.unsaved(why) if isinstance(why, Unsaved) else bench.crash()


# the handler returns


def test_a_return_is_recorded_and_completes_nothing() -> None:
    bench = saving()
    job = bench.job
    assert (job.state, job.attempts[0].outcome, job.attempts[0].ended_at) == (State.SAVING, Outcome.COMPLETED, 1000.0)
    shown = view(job)
    assert (shown.state, shown.result, shown.is_final) == (State.SAVING, None, False)


def test_a_late_return_of_a_call_that_was_stuck_waits_for_a_save_too() -> None:
    bench = Bench()
    bench.start(entered=True)
    bench.stuck()
    assert bench.returned(AttemptResult(Outcome.COMPLETED, SEVEN, entered=True, late=True)) == ["Returned"]
    assert (bench.job.state, bench.job.doubt, bench.job.attempts[0].late) == (State.SAVING, None, True)
    assert bench.saved() == ["Saved", "Completed"]
    assert (bench.job.result, bench.job.attempts[0].late) == (SEVEN, True)


def test_a_return_after_an_operator_resolved_the_job_changes_nothing() -> None:
    bench = Bench()
    bench.start(entered=True)
    bench.stuck()
    bench.resolve("failed")
    assert bench.returned(ended(Outcome.COMPLETED, entered=True)) == []


@pytest.mark.parametrize("state", [state for state in State if state is not State.PROCESSING])
def test_a_return_needs_a_running_attempt(state: State) -> None:
    bench = in_state(state)
    assert decide.returned(bench.job, ended(Outcome.COMPLETED), bench.now, bench.seq) == ()


@pytest.mark.parametrize("state", [state for state in State if state is not State.SAVING])
def test_only_a_saving_job_is_saved_or_unsaved(state: State) -> None:
    bench = in_state(state)
    assert decide.saved([bench.job], 1, bench.now, bench.seq) == ()
    for why in (RAISED, DISCARDED):
        assert decide.unsaved(bench.job, why, PLAIN, bench.now, 0.0, bench.seq) == ()


def test_an_end_of_the_attempt_that_has_returned_changes_nothing() -> None:
    bench = saving()
    was = snapshot(bench.job)
    for outcome in Outcome:
        if outcome is not Outcome.UNSAVED:
            assert bench.end(ended(outcome, entered=True)) == []
    assert snapshot(bench.job) == was


def test_earlier_attempts_may_have_acted_until_the_work_is_saved() -> None:
    bench = Bench(Rules(PLAIN.retry, on_doubt="retry"))
    bench.attempt(ended(Outcome.TIMED_OUT, entered=True))
    bench.now += 10
    bench.start(entered=True)
    bench.returned()
    assert bench.job.may_have_acted
    bench.saved()
    assert not bench.job.may_have_acted


# a save returns


def test_a_save_completes_its_whole_group_with_the_results_that_were_returned() -> None:
    bench = Bench()
    for job in ("b", "c"):
        bench.projection.apply(decide.submit(job, "kind", SEVEN, bench.now, bench.seq))
    records = [bench.projection.jobs[job] for job in ("b", "job", "c")]
    for record in records[:2]:
        bench.take(decide.start(record, True, bench.rules, bench.now, bench.seq))
        result = AttemptResult(Outcome.COMPLETED, EIGHT if record.id == "b" else SEVEN, entered=True)
        bench.take(decide.returned(record, result, bench.now, bench.seq))
    bench.now = 1005.0
    events = decide.saved(records, 3, bench.now, bench.seq)
    assert names(events) == ["Saved", "Completed", "Completed"]
    first = events[0]
    assert isinstance(first, ev.Saved)
    assert (first.session, first.jobs) == (3, ("b", "job"))
    assert [event.seq for event in events] == [bench.seq, bench.seq + 1, bench.seq + 2]
    bench.take(events)
    assert [record.state for record in records] == [State.COMPLETED, State.COMPLETED, State.PENDING]
    assert [record.result for record in records] == [EIGHT, SEVEN, None]
    assert records[0].attempts[0].ended_at == 1000.0, "the attempt ended when its handler returned"
    assert records[0].reason == "saved"


def test_a_result_that_cannot_be_kept_is_still_explained_after_the_save() -> None:
    bench = Bench()
    bench.start()
    bench.returned(AttemptResult(Outcome.COMPLETED, None, "too large"))
    bench.saved()
    assert (bench.job.state, bench.job.result, bench.job.result_problem) == (State.COMPLETED, None, "too large")


def test_a_cancel_of_a_saving_job_is_requested_and_the_save_completes_it() -> None:
    bench = saving()
    assert bench.cancel() == "requested"
    assert bench.cancel() == "requested"
    assert (bench.job.state, bench.job.cancel_requested) == (State.SAVING, True)
    bench.saved()
    assert bench.job.state is State.COMPLETED


def test_a_saving_job_is_neither_resolved_nor_retried_and_does_not_expire() -> None:
    bench = saving(deadline_at=1500.0)
    with pytest.raises(InvalidState, match="only a job that is in_doubt"):
        bench.resolve("done")
    with pytest.raises(InvalidState, match="only a failed or cancelled job"):
        bench.retry()
    bench.now = 2000.0
    assert bench.expire() == []
    assert bench.saved() == ["Saved", "Completed"]


# no save returns: the table of docs/attempts.md, "Saving"


@pytest.mark.parametrize(
    ("rules", "entered", "why", "events", "state", "retries"),
    [
        (IDEMPOTENT, True, RAISED, ["RetryScheduled"], State.RETRYING, 1),
        (HELD, False, RAISED, ["RetryScheduled"], State.RETRYING, 1),
        (HELD, True, RAISED, ["RetryScheduled"], State.RETRYING, 1),
        (VERIFIED, True, RAISED, ["InDoubt"], State.IN_DOUBT, 0),
        *((IDEMPOTENT, True, why, ["Interrupted"], State.PENDING, 0) for why in (DISCARDED, OVERRAN, STOPPED, CRASHED)),
        *((HELD, False, why, ["Interrupted"], State.PENDING, 0) for why in (DISCARDED, OVERRAN, STOPPED, CRASHED)),
        *((HELD, True, why, ["InDoubt"], State.IN_DOUBT, 0) for why in (DISCARDED, OVERRAN, STOPPED, CRASHED)),
        *((VERIFIED, True, why, ["InDoubt"], State.IN_DOUBT, 0) for why in (DISCARDED, OVERRAN, STOPPED, CRASHED)),
    ],
)
def test_16_17_18_what_becomes_of_unsaved_work(
    rules: Rules, entered: bool, why: Unsaved | str, events: list[str], state: State, retries: int
) -> None:
    bench = saving(rules, entered=entered)
    assert fails(bench, why) == events
    job = bench.job
    assert (job.state, job.retries_used, job.crashes) == (state, retries, 0)
    assert job.reason == (why.reason if isinstance(why, Unsaved) else why)
    assert job.attempts[0].outcome is Outcome.UNSAVED
    assert job.attempts[0].entered is entered
    assert job.error == (why.error if isinstance(why, Unsaved) else None)
    acted = entered and not rules.idempotent
    assert job.may_have_acted is acted
    if state is State.IN_DOUBT:
        assert job.doubt is not None
        assert (job.doubt.outcome, job.doubt.inside, job.doubt.asked) == (Outcome.UNSAVED, False, False)


@pytest.mark.parametrize("why", [RAISED, DISCARDED, OVERRAN, STOPPED, CRASHED])
def test_unsaved_work_that_verify_finds_completes_the_job_with_the_result_of_the_handler(why: Unsaved | str) -> None:
    bench = saving(VERIFIED)
    fails(bench, why)
    assert bench.verified(VerifyAnswer(Done(8), EIGHT)) == ["Completed"]
    assert (bench.job.state, bench.job.result, bench.job.reason) == (State.COMPLETED, SEVEN, "verified")


def test_after_a_save_that_raised_not_done_leads_to_the_retry_policy() -> None:
    bench = saving(VERIFIED)
    bench.unsaved(RAISED)
    assert bench.verified(NOT_DONE) == ["RetryScheduled"]
    assert (bench.job.retries_used, bench.job.due_at, bench.job.may_have_acted) == (1, 1001.0, False)


def test_a_save_that_raised_an_error_that_is_not_retried_fails_the_job() -> None:
    for rules in (IDEMPOTENT, HELD):
        bench = saving(rules)
        bench.unsaved(Unsaved("save_failed", interrupted=False, error=BOOM, retryable=False))
        assert (bench.job.state, bench.job.reason, bench.job.error) == (State.FAILED, "save_failed", BOOM)
        assert bench.job.may_have_acted is not rules.idempotent
    bench = saving(VERIFIED)
    bench.unsaved(Unsaved("save_failed", interrupted=False, error=BOOM, retryable=False))
    assert bench.verified(NOT_DONE) == ["Failed"]


@pytest.mark.parametrize("why", [DISCARDED, OVERRAN, STOPPED, CRASHED])
def test_after_an_interruption_not_done_starts_the_job_again_without_a_retry_used(why: Unsaved | str) -> None:
    bench = saving(VERIFIED)
    fails(bench, why)
    assert bench.verified(NOT_DONE) == ["DoubtResolved"]
    assert (bench.job.state, bench.job.retries_used) == (State.PENDING, 0)


@pytest.mark.parametrize("why", [RAISED, DISCARDED])
@pytest.mark.parametrize("verifies", [False, True])
def test_a_doubt_about_unsaved_work_that_verify_does_not_resolve_follows_on_doubt(verifies: bool, why: Unsaved) -> None:
    after = {"hold": State.IN_DOUBT, "fail": State.FAILED, "retry": State.RETRYING}
    for on_doubt, state in after.items():
        if why is RAISED and not verifies:
            continue  # the retry policy
        bench = saving(Rules(PLAIN.retry, verifies=verifies, on_doubt=on_doubt))  # type: ignore[arg-type] # a literal
        bench.unsaved(why)
        if verifies:
            bench.verified(VerifyAnswer(Unknown()))
        if why is DISCARDED and on_doubt == "retry":
            state = State.PENDING
        assert bench.job.state is state
        assert bench.job.may_have_acted


def test_an_operator_resolves_unsaved_work_and_keeps_the_result_of_the_handler_unless_another_is_given() -> None:
    for given, kept in ((None, SEVEN), (msgspec.Raw(b"null"), SEVEN), (EIGHT, EIGHT)):
        bench = saving(HELD)
        bench.unsaved(DISCARDED)
        assert bench.resolve("done", given) == ["Completed"]
        assert bench.job.result == kept


def test_the_result_of_an_unsaved_attempt_is_not_that_of_the_next_one() -> None:
    bench = saving(IDEMPOTENT)
    bench.unsaved(DISCARDED)
    bench.start(entered=True)
    bench.end(AttemptResult(Outcome.COMPLETED, None, "too large"))
    assert (bench.job.result, bench.job.result_problem) == (None, "too large")


@pytest.mark.parametrize("rules", [IDEMPOTENT, VERIFIED])
@pytest.mark.parametrize("why", [RAISED, DISCARDED, CRASHED])
def test_a_cancelled_job_whose_work_is_not_saved_is_cancelled_once_nothing_is_left(
    rules: Rules, why: Unsaved | str
) -> None:
    bench = saving(rules)
    bench.cancel()
    fails(bench, why)
    if rules.verifies:
        bench.verified(NOT_DONE)
    assert (bench.job.state, bench.job.reason) == (State.CANCELLED, "cancelled")


def test_a_cancelled_job_whose_save_raised_fails_if_its_work_may_be_there() -> None:
    bench = saving(HELD)
    bench.cancel()
    bench.unsaved(RAISED)
    assert (bench.job.state, bench.job.may_have_acted) == (State.FAILED, True)


def test_the_budget_and_the_deadline_end_a_job_whose_save_raises() -> None:
    bench = saving(Rules(Retry(0), idempotent=True))
    bench.unsaved(RAISED)
    assert (bench.job.state, bench.job.reason) == (State.FAILED, "save_failed")
    bench = saving(IDEMPOTENT, deadline_at=1500.0)
    bench.now = 1500.0
    bench.unsaved(RAISED)
    assert (bench.job.state, bench.job.reason) == (State.FAILED, "expired")


@pytest.mark.parametrize("why", [DISCARDED, CRASHED])
def test_a_job_whose_deadline_passed_while_it_was_saving_does_not_start_again(why: Unsaved | str) -> None:
    bench = saving(IDEMPOTENT, deadline_at=1500.0)
    bench.now = 1500.0
    fails(bench, why)
    assert (bench.job.state, bench.job.reason) == (State.FAILED, "expired")


def test_crashes_count_towards_poison_only_for_work_that_was_unsaved_alone() -> None:
    bench = Bench(IDEMPOTENT)
    for alone, crashes in ((False, 0), (True, 1), (False, 1), (True, 2)):
        bench.start(entered=True)
        bench.returned()
        assert bench.crash(alone=alone) == ["Interrupted"]
        assert (bench.job.crashes, bench.job.retries_used, bench.job.state) == (crashes, 0, State.PENDING)
    bench.start(entered=True)
    bench.returned()
    assert bench.crash(alone=True) == ["Failed"]
    assert (bench.job.state, bench.job.reason, bench.job.crashes) == (State.FAILED, "poison", 3)


def test_a_crash_of_a_running_attempt_counts_as_before() -> None:
    bench = Bench(IDEMPOTENT)
    bench.start(entered=True)
    bench.crash(alone=True)
    assert (bench.job.crashes, bench.job.retries_used) == (1, 1)


def test_an_open_step_keeps_unsaved_work_in_doubt() -> None:
    bench = Bench(HELD)
    bench.start()
    bench.start_step("voucher")
    bench.returned(AttemptResult(Outcome.COMPLETED, SEVEN, entered=True))
    assert "voucher" in bench.job.steps
    bench.unsaved(RAISED)
    assert (bench.job.state, bench.job.reason) == (State.IN_DOUBT, "open_step")


def test_a_failed_save_is_recorded_once_for_its_group() -> None:
    bench = saving()
    (event,) = decide.save_failed([bench.job], 2, "OSError: full", bench.now, bench.seq)
    assert (event.session, event.jobs, event.problem) == (2, ("job",), "OSError: full")
