"""The end of an attempt: every row of docs/attempts.md, both columns. The name of a case starts with its row."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs
import msgspec
import pytest
from engine_bench import BOOM, NOT_DONE, PLAIN, Bench, ended, error, in_state

from trio_jobs._engine import decide
from trio_jobs._engine.decide import AttemptResult, VerifyAnswer
from trio_jobs._engine.jobs import Done, Doubt, EndedBy, Outcome, State, Unknown
from trio_jobs._engine.retry import Retry, Rules
from trio_jobs._errors import InvalidState

DONE = VerifyAnswer(Done(7), msgspec.Raw(b"7"))
UNKNOWN = VerifyAnswer(Unknown())
NOT_ASKED = VerifyAnswer(Unknown(), asked=False)

IDEMPOTENT = attrs.evolve(PLAIN, idempotent=True)
ASK = attrs.evolve(PLAIN, verifies=True)
ONCE = attrs.evolve(PLAIN, retries_unverified=False)
ONCE_TRY = attrs.evolve(ONCE, on_doubt="retry")
ONCE_GIVE_UP = attrs.evolve(ONCE, on_doubt="fail")
NO_RETRY = attrs.evolve(PLAIN, retry=Retry(0))
TRY = attrs.evolve(PLAIN, on_doubt="retry")
GIVE_UP = attrs.evolve(PLAIN, on_doubt="fail")
ASK_TRY = attrs.evolve(TRY, verifies=True)
ASK_GIVE_UP = attrs.evolve(GIVE_UP, verifies=True)

COMPLETED, FAILED, CANCELLED = State.COMPLETED, State.FAILED, State.CANCELLED
PENDING, RETRYING, IN_DOUBT, SCHEDULED = State.PENDING, State.RETRYING, State.IN_DOUBT, State.SCHEDULED
BOTH = (False, True)
RIGHT = (True,)
LEFT = (False,)


@attrs.frozen
class Case:
    """One line of a table below.

    entered: the columns in which it holds. ending: how the attempt ended. becomes, reason: of the job. acted: it may
    have acted. retries: used by it. wait: seconds until it is due again, None where it is not. cancel: a person asked
    for cancel meanwhile. used, crashes, snoozes: what the run had used before. deadline: in so many seconds, from the
    start. late: the attempt was stuck before it ended so.
    """

    name: str
    result: AttemptResult
    becomes: State
    reason: str
    entered: Sequence[bool] = BOTH
    rules: Rules = PLAIN
    verdict: VerifyAnswer | None = None
    acted: bool = False
    retries: int = 0
    wait: float | None = None
    cancel: bool = False
    used: int = 0
    crashes: int = 0
    snoozes: int = 0
    deadline: float | None = None


RETURNED = AttemptResult(Outcome.COMPLETED, msgspec.Raw(b"7"))
ALREADY = AttemptResult(Outcome.ALREADY_DONE, msgspec.Raw(b"7"))
FAIL = AttemptResult(Outcome.FAIL, error=BOOM)
CANCEL = AttemptResult(Outcome.CANCEL, error=BOOM)
SNOOZE = AttemptResult(Outcome.SNOOZE, wait=60.0)
AFTER = AttemptResult(Outcome.RETRY_AFTER, error=BOOM, wait=60.0)
ERROR = error()
HOPELESS = error(retryable=False)
TIMED_OUT = ended(Outcome.TIMED_OUT)
EXPIRED = ended(Outcome.EXPIRED)
ASKED = ended(Outcome.CANCELLED)
STOPPED = ended(Outcome.STOPPED)
CRASHED = ended(Outcome.CRASHED)
UNVERIFIED = ended(Outcome.UNVERIFIED)

#: Ends of an attempt that was under way. `Case.name` begins with the row of docs/attempts.md.
CASES = [
    # 1: it returned
    Case("1 returned", RETURNED, COMPLETED, "returned"),
    Case("1 returned, idempotent", RETURNED, COMPLETED, "returned", rules=IDEMPOTENT),
    Case("1 returned though cancel was asked for", RETURNED, COMPLETED, "returned", cancel=True),
    Case("1 returned after its deadline", RETURNED, COMPLETED, "returned", deadline=0.5),
    Case("1 found done by verify", ALREADY, COMPLETED, "verified", LEFT, ASK),
    # 2: it raised what it wants
    Case("2 Fail", FAIL, FAILED, "fail"),
    Case("2 Fail with retries left and verify", FAIL, FAILED, "fail", rules=ASK),
    Case("2 Cancel", CANCEL, CANCELLED, "boom"),
    Case("2 Cancel without a word", AttemptResult(Outcome.CANCEL), CANCELLED, ""),
    Case("2 Snooze uses no retry", SNOOZE, SCHEDULED, "snooze", wait=60, used=3),
    Case("2 Snooze, the last one allowed", SNOOZE, SCHEDULED, "snooze", wait=60, snoozes=999),
    Case("2 Snooze, one too many", SNOOZE, FAILED, "too_many_snoozes", snoozes=1000),
    Case("2 Snooze, cancel asked for", SNOOZE, CANCELLED, "cancelled", cancel=True),
    Case("2 RetryAfter uses a retry", AFTER, RETRYING, "retry_after", retries=1, wait=60),
    Case("2 RetryAfter, the last retry", AFTER, RETRYING, "retry_after", retries=1, wait=60, used=2),
    Case("2 RetryAfter, no retry left", AFTER, FAILED, "retry_after", used=3),
    Case("2 RetryAfter, cancel asked for", AFTER, CANCELLED, "cancelled", cancel=True),
    Case("2 RetryAfter, deadline passed", AFTER, FAILED, "expired", deadline=1),
    Case("2 Snooze, deadline passed", SNOOZE, FAILED, "expired", deadline=1),
    # 3: it raised another error
    Case("3 error, first retry", ERROR, RETRYING, "error", LEFT, retries=1, wait=1),
    Case("3 error, second retry", ERROR, RETRYING, "error", LEFT, retries=1, wait=2, used=1),
    Case("3 error, last retry", ERROR, RETRYING, "error", LEFT, retries=1, wait=4, used=2),
    Case("3 error, retries exhausted", ERROR, FAILED, "error", LEFT, used=3),
    Case("3 error, no retries at all", ERROR, FAILED, "error", LEFT, NO_RETRY),
    Case("3 error not to be retried", HOPELESS, FAILED, "error", LEFT),
    Case("3 error, cancel asked for", ERROR, CANCELLED, "cancelled", LEFT, cancel=True),
    Case("3 error, idempotent", ERROR, RETRYING, "error", BOTH, IDEMPOTENT, retries=1, wait=1),
    Case("3 error, idempotent, retries exhausted", ERROR, FAILED, "error", BOTH, IDEMPOTENT, used=3),
    Case("3 error, idempotent, cancel asked for", ERROR, CANCELLED, "cancelled", BOTH, IDEMPOTENT, cancel=True),
    Case("3 error", ERROR, RETRYING, "error", RIGHT, acted=True, retries=1, wait=1),
    Case("3 error, retries exhausted", ERROR, FAILED, "error", RIGHT, acted=True, used=3),
    Case("3 error not to be retried", HOPELESS, FAILED, "error", RIGHT, acted=True),
    Case("3 error, cancel asked for", ERROR, FAILED, "error", RIGHT, acted=True, cancel=True),
    Case("3 error, no consent to retries", ERROR, IN_DOUBT, "error", RIGHT, ONCE, acted=True),
    Case("3 error, no consent, not entered", ERROR, RETRYING, "error", LEFT, ONCE, retries=1, wait=1),
    Case("3 error not to be retried, no consent", HOPELESS, IN_DOUBT, "error", RIGHT, ONCE, acted=True),
    Case("3 error, no consent, cancel asked for", ERROR, IN_DOUBT, "error", RIGHT, ONCE, acted=True, cancel=True),
    Case("3 no consent, retry", ERROR, RETRYING, "on_doubt", RIGHT, ONCE_TRY, acted=True, retries=1, wait=1),
    Case("3 no consent, fail", ERROR, FAILED, "on_doubt", RIGHT, ONCE_GIVE_UP, acted=True),
    Case("3 error, verify says done", ERROR, COMPLETED, "verified", RIGHT, ASK, DONE),
    Case("3 error, no retry left, verify says done", HOPELESS, COMPLETED, "verified", RIGHT, ASK, DONE, used=3),
    Case("3 error, verify says not done", ERROR, RETRYING, "not_done", RIGHT, ASK, NOT_DONE, retries=1, wait=1),
    Case("3 error, no retry left, verify says not done", ERROR, FAILED, "not_done", RIGHT, ASK, NOT_DONE, used=3),
    Case("3 error not to be retried, verify says not done", HOPELESS, FAILED, "not_done", RIGHT, ASK, NOT_DONE),
    Case("3 error, cancel asked for, not done", ERROR, CANCELLED, "cancelled", RIGHT, ASK, NOT_DONE, cancel=True),
    Case("3 error, unknown, hold", ERROR, IN_DOUBT, "error", RIGHT, ASK, UNKNOWN, acted=True),
    Case("3 unknown, retry", ERROR, RETRYING, "on_doubt", RIGHT, ASK_TRY, UNKNOWN, acted=True, retries=1, wait=1),
    Case("3 hopeless, unknown, retry", HOPELESS, FAILED, "on_doubt", RIGHT, ASK_TRY, UNKNOWN, acted=True),
    Case("3 error, verify cannot tell, fail", ERROR, FAILED, "on_doubt", RIGHT, ASK_GIVE_UP, UNKNOWN, acted=True),
    Case("3 error, deadline passed", ERROR, FAILED, "expired", LEFT, deadline=1),
    Case("3 error, deadline passed", ERROR, FAILED, "expired", RIGHT, acted=True, deadline=1),
    Case("3 error, the stop kept verify from telling", ERROR, IN_DOUBT, "error", RIGHT, ASK_TRY, NOT_ASKED, acted=True),
    # 4: attempt_timeout ended it
    Case("4 timed out", TIMED_OUT, RETRYING, "timed_out", LEFT, retries=1, wait=1),
    Case("4 timed out, retries exhausted", TIMED_OUT, FAILED, "timed_out", LEFT, used=3),
    Case("4 timed out, cancel asked for", TIMED_OUT, CANCELLED, "cancelled", LEFT, cancel=True),
    Case("4 timed out, deadline passed", TIMED_OUT, FAILED, "expired", LEFT, deadline=1),
    Case("4 timed out, idempotent", TIMED_OUT, RETRYING, "timed_out", BOTH, IDEMPOTENT, retries=1, wait=1),
    Case("4 timed out, hold", TIMED_OUT, IN_DOUBT, "timed_out", RIGHT, acted=True),
    Case("4 timed out, cancel asked for, hold", TIMED_OUT, IN_DOUBT, "timed_out", RIGHT, acted=True, cancel=True),
    Case("4 timed out, verify is to be asked", TIMED_OUT, IN_DOUBT, "timed_out", RIGHT, ASK_GIVE_UP, acted=True),
    Case("4 timed out, retry", TIMED_OUT, RETRYING, "on_doubt", RIGHT, TRY, acted=True, retries=1, wait=1),
    Case("4 timed out, retry, exhausted", TIMED_OUT, FAILED, "on_doubt", RIGHT, TRY, acted=True, used=3),
    Case("4 timed out, no retry when cancelled", TIMED_OUT, IN_DOUBT, "timed_out", RIGHT, TRY, acted=True, cancel=True),
    Case("4 timed out, fail", TIMED_OUT, FAILED, "on_doubt", RIGHT, GIVE_UP, acted=True),
    # 5: the deadline ended it
    Case("5 expired", EXPIRED, FAILED, "expired", LEFT, deadline=1),
    Case("5 expired, idempotent", EXPIRED, FAILED, "expired", BOTH, IDEMPOTENT, deadline=1),
    Case("5 expired, hold", EXPIRED, IN_DOUBT, "expired", RIGHT, acted=True, deadline=1),
    Case("5 expired, verify is to be asked", EXPIRED, IN_DOUBT, "expired", RIGHT, ASK, acted=True, deadline=1),
    Case("5 expired, retry comes too late", EXPIRED, FAILED, "expired", RIGHT, TRY, acted=True, deadline=1),
    Case("5 expired, fail", EXPIRED, FAILED, "on_doubt", RIGHT, GIVE_UP, acted=True, deadline=1),
    # 6: a person's cancel ended it
    Case("6 cancelled", ASKED, CANCELLED, "cancelled", LEFT, cancel=True),
    Case("6 cancelled, idempotent", ASKED, CANCELLED, "cancelled", BOTH, IDEMPOTENT, cancel=True),
    Case("6 cancelled, hold", ASKED, IN_DOUBT, "cancelled", RIGHT, acted=True, cancel=True),
    Case("6 cancelled, verify is to be asked", ASKED, IN_DOUBT, "cancelled", RIGHT, ASK, acted=True, cancel=True),
    Case("6 cancelled, nothing is retried", ASKED, IN_DOUBT, "cancelled", RIGHT, TRY, acted=True, cancel=True),
    Case("6 cancelled, fail", ASKED, FAILED, "on_doubt", RIGHT, GIVE_UP, acted=True, cancel=True),
    # 7: the stop ended it
    Case("7 stopped", STOPPED, PENDING, "stopped", LEFT, used=3),
    Case("7 stopped, idempotent", STOPPED, PENDING, "stopped", BOTH, IDEMPOTENT),
    Case("7 stopped, cancel asked for", STOPPED, CANCELLED, "cancelled", LEFT, cancel=True),
    Case("7 stopped, hold", STOPPED, IN_DOUBT, "stopped", RIGHT, acted=True),
    Case("7 stopped, verify is to be asked", STOPPED, IN_DOUBT, "stopped", RIGHT, ASK, acted=True),
    Case("7 stopped, retry", STOPPED, PENDING, "on_doubt", RIGHT, TRY, acted=True, used=3),
    Case("7 stopped, fail", STOPPED, FAILED, "on_doubt", RIGHT, GIVE_UP, acted=True),
    # 9: the process died
    Case("9 crashed", CRASHED, PENDING, "crashed", LEFT, retries=1),
    Case("9 crashed, no retries left", CRASHED, PENDING, "crashed", LEFT, retries=1, used=3),
    Case("9 crashed the second time", CRASHED, PENDING, "crashed", LEFT, retries=1, crashes=1),
    Case("9 crashed the third time", CRASHED, FAILED, "poison", LEFT, retries=1, crashes=2),
    Case("9 crashed, cancel asked for", CRASHED, CANCELLED, "cancelled", LEFT, cancel=True, retries=1),
    Case("9 crashed, idempotent", CRASHED, PENDING, "crashed", BOTH, IDEMPOTENT, retries=1),
    Case("9 crashed the third time, idempotent", CRASHED, FAILED, "poison", BOTH, IDEMPOTENT, retries=1, crashes=2),
    Case("9 crashed, hold", CRASHED, IN_DOUBT, "crashed", RIGHT, acted=True, retries=1),
    Case("9 crashed, verify is to be asked", CRASHED, IN_DOUBT, "crashed", RIGHT, ASK, acted=True, retries=1),
    Case("9 crashed the third time", CRASHED, FAILED, "poison", RIGHT, ASK, acted=True, retries=1, crashes=2),
    Case("9 crashed, retry", CRASHED, PENDING, "on_doubt", RIGHT, TRY, acted=True, retries=1),
    Case("9 crashed, fail", CRASHED, FAILED, "on_doubt", RIGHT, GIVE_UP, acted=True, retries=1),
    # 10: verify could not tell, before an attempt
    Case("10 unknown, hold", UNVERIFIED, IN_DOUBT, "unverified", LEFT, ASK, acted=True),
    Case("10 unknown, fail", UNVERIFIED, FAILED, "on_doubt", LEFT, ASK_GIVE_UP, acted=True),
    Case("10 unknown, retry", UNVERIFIED, RETRYING, "on_doubt", LEFT, ASK_TRY, acted=True, retries=1, wait=1),
]  # fmt: skip
#: A process of the SDK that was killed at the limit of a call, or has died, is as a timeout, or a crash of the queue
CASES += [
    attrs.evolve(
        case,
        name=case.name.replace(before, outcome),
        result=ended(outcome),
        reason=outcome if case.reason in (Outcome.TIMED_OUT, Outcome.CRASHED) else case.reason,
    )
    for case in CASES
    for of, before, outcome in ((TIMED_OUT, "timed out", Outcome.KILLED), (CRASHED, "crashed", Outcome.DIED))
    if case.result is of
]


def under_way(case: Case, entered: bool) -> Bench:
    deadline = None if case.deadline is None else 1000.0 + case.deadline
    bench = Bench(case.rules, deadline_at=deadline)
    bench.start(entered=entered)
    bench.job.retries_used, bench.job.crashes, bench.job.snoozes = case.used, case.crashes, case.snoozes
    if case.cancel:
        assert bench.cancel() == "requested"
    return bench


def column(entered: bool) -> str:
    return "entered" if entered else "not entered"


def params(cases: list[Case]) -> list[Any]:
    return [pytest.param(c, e, id=f"{c.name}, {column(e)}") for c in cases for e in c.entered]


@pytest.mark.parametrize(("case", "entered"), params(CASES))
def test_the_end_of_an_attempt_leads_to(case: Case, entered: bool) -> None:
    bench = under_way(case, entered)
    result = msgspec.structs.replace(case.result, entered=entered)
    bench.now += 1
    end_and_verify(bench, case, result)
    check(bench, case)
    attempt = bench.job.attempts[0]
    assert (attempt.outcome, attempt.ended_by, attempt.entered) == (result.outcome, result.ended_by, entered)
    assert (attempt.error, attempt.ended_at, attempt.late) == (result.error, bench.now, False)


def end_and_verify(bench: Bench, case: Case, result: AttemptResult) -> None:
    """The end of the attempt, and the answer of verify where the case has one: until then the job is in doubt."""
    bench.end(result)
    if case.verdict is not None:
        assert bench.job.doubt == Doubt(result.outcome, result.retryable, False, False)
        assert (bench.job.state, bench.job.reason, bench.job.may_have_acted) == (IN_DOUBT, "error", True)
        bench.verified(case.verdict)


@pytest.mark.parametrize(
    ("case", "entered"), params([case for case in CASES if case.result not in (ALREADY, UNVERIFIED)])
)
def test_8_a_late_end_of_a_stuck_attempt_leads_to_the_same(case: Case, entered: bool) -> None:
    bench = under_way(case, entered)
    bench.overdue()
    bench.stuck()
    assert bench.job.state is IN_DOUBT
    result = msgspec.structs.replace(case.result, entered=entered, late=True)
    bench.now += 1
    end_and_verify(bench, case, result)
    # there is no way from in_doubt to scheduled: a late snooze waits as a retry does
    check(bench, attrs.evolve(case, becomes=RETRYING) if case.becomes is SCHEDULED else case)
    attempt = bench.job.attempts[0]
    assert (attempt.outcome, attempt.late, attempt.overdue) == (result.outcome, True, True)


def check(bench: Bench, case: Case) -> None:
    job = bench.job
    assert (job.state, job.reason, job.may_have_acted) == (case.becomes, case.reason, case.acted)
    assert job.retries_used - case.used == case.retries
    waits = job.state in (RETRYING, SCHEDULED)
    assert (job.due_at - bench.now if waits and job.due_at is not None else None) == case.wait
    assert job.snoozes - case.snoozes == (case.result is SNOOZE and waits)
    assert (job.doubt is not None) is (job.state is IN_DOUBT)
    if job.state is IN_DOUBT:
        asked = case.verdict is UNKNOWN or case.result is UNVERIFIED
        assert job.doubt == Doubt(
            case.result.outcome, case.result.retryable or case.result.outcome is not Outcome.ERROR, False, asked
        )
    if job.state is COMPLETED:
        assert job.result == msgspec.Raw(b"7")
    else:
        assert job.result is None
        assert job.error == case.result.error


# 8: still inside


@pytest.mark.parametrize("rules", [PLAIN, IDEMPOTENT, ASK_TRY], ids=["plain", "idempotent", "verifies"])
@pytest.mark.parametrize("entered", BOTH, ids=column)
def test_8_a_call_that_is_still_inside_is_overdue_and_then_in_doubt_until_it_returns(
    rules: Rules, entered: bool
) -> None:
    bench = Bench(rules)
    bench.start(entered=entered)
    assert bench.overdue(EndedBy.DEADLINE) == ["Overdue"]
    assert (bench.job.state, bench.job.attempts[0].overdue) == (State.PROCESSING, True)
    assert bench.stuck(EndedBy.DEADLINE) == ["InDoubt"]
    assert (bench.job.state, bench.job.reason) == (IN_DOUBT, "stuck")
    assert bench.job.attempts[0].ended_by is EndedBy.DEADLINE
    # whatever on_doubt says, and whatever verify would: nothing can be done while it is inside
    assert bench.verified(DONE) == []
    with pytest.raises(InvalidState, match="still inside the SDK; wait for it to return"):
        bench.resolve("not_done")


@pytest.mark.parametrize("entered", BOTH, ids=column)
def test_9_a_crash_depends_on_the_recorded_events_of_the_attempt(entered: bool) -> None:
    bench = Bench()
    bench.start(entered=False)
    if entered:
        assert bench.enter() == ["SdkEntered"]
        assert bench.enter() == []
    bench.crash()
    assert bench.job.state is (IN_DOUBT if entered else PENDING)
    assert bench.job.attempts[0].outcome is Outcome.CRASHED


def test_9_the_third_crash_of_a_run_is_poison_whatever_happened_between() -> None:
    bench = Bench(attrs.evolve(PLAIN, retry=Retry(9, waits=[1])))
    for last in (False, False, True):
        bench.attempt(ERROR)
        bench.now += 1
        bench.attempt(SNOOZE)
        bench.now += 60
        bench.attempt(STOPPED)
        bench.start()
        bench.crash()
        assert (bench.job.state, bench.job.reason) == ((FAILED, "poison") if last else (PENDING, "crashed"))
    bench.retry()
    bench.start()
    bench.crash()
    assert bench.job.state is PENDING


def test_9_a_process_that_dies_with_a_call_inside_leaves_a_crashed_attempt() -> None:
    bench = Bench(ASK)
    bench.start(entered=True)
    bench.stuck()
    assert bench.crash() == ["InDoubt"]
    assert bench.job.doubt == Doubt(Outcome.CRASHED, True, False, False)
    assert (bench.job.crashes, bench.job.retries_used) == (1, 1)


# 11 to 13: verify answers about a doubt


@attrs.frozen
class Settled:
    """outcome: what made the doubt. answer: verify's. The rest as in `Case`."""

    name: str
    outcome: Outcome
    answer: VerifyAnswer
    becomes: State
    reason: str
    rules: Rules = ASK
    acted: bool = False
    retries: int = 0
    wait: float | None = None
    cancel: bool = False
    used: int = 0
    deadline: float | None = None


OUT, STOP, CRASH, LIMIT, WISH = (
    Outcome.TIMED_OUT,
    Outcome.STOPPED,
    Outcome.CRASHED,
    Outcome.EXPIRED,
    Outcome.CANCELLED,
)

DOUBTS = (OUT, STOP, CRASH, LIMIT, WISH)

SETTLED = [
    *(Settled(f"11 done, {o}", o, DONE, COMPLETED, "verified", cancel=o is WISH) for o in DOUBTS),
    Settled("11 done, whatever on_doubt says", OUT, DONE, COMPLETED, "verified", ASK_GIVE_UP),
    Settled("12 not done, timed out", OUT, NOT_DONE, RETRYING, "not_done", retries=1, wait=1),
    Settled("12 not done, timed out, exhausted", OUT, NOT_DONE, FAILED, "not_done", used=3),
    Settled("12 not done, stopped", STOP, NOT_DONE, PENDING, "not_done", used=3),
    Settled("12 not done, crashed", CRASH, NOT_DONE, PENDING, "not_done", used=3),
    Settled("12 not done, expired", LIMIT, NOT_DONE, FAILED, "expired", deadline=1),
    Settled("12 not done, timed out, deadline passed", OUT, NOT_DONE, FAILED, "expired", deadline=1),
    Settled("12 not done, crashed, deadline passed", CRASH, NOT_DONE, FAILED, "expired", deadline=1),
    Settled("12 not done, deadline ahead", OUT, NOT_DONE, RETRYING, "not_done", retries=1, wait=1, deadline=99),
    Settled("12 not done, cancelled", WISH, NOT_DONE, CANCELLED, "cancelled", cancel=True),
    Settled("12 not done, stopped, cancel asked for", STOP, NOT_DONE, CANCELLED, "cancelled", cancel=True),
    Settled("12 not done, timed out, cancel asked for", OUT, NOT_DONE, CANCELLED, "cancelled", cancel=True),
    *(Settled(f"13 unknown, hold, {o}", o, UNKNOWN, IN_DOUBT, str(o), acted=True) for o in DOUBTS),
    *(Settled(f"13 unknown, fail, {o}", o, UNKNOWN, FAILED, "on_doubt", ASK_GIVE_UP, acted=True) for o in DOUBTS),
    Settled("13 unknown, retry, timed out", OUT, UNKNOWN, RETRYING, "on_doubt", ASK_TRY, acted=True, retries=1, wait=1),
    Settled("13 unknown, retry, timed out, exhausted", OUT, UNKNOWN, FAILED, "on_doubt", ASK_TRY, acted=True, used=3),
    Settled("13 unknown, retry, stopped", STOP, UNKNOWN, PENDING, "on_doubt", ASK_TRY, acted=True, used=3),
    Settled("13 unknown, retry, crashed", CRASH, UNKNOWN, PENDING, "on_doubt", ASK_TRY, acted=True),
    Settled("13 unknown, retry, expired", LIMIT, UNKNOWN, FAILED, "expired", ASK_TRY, acted=True, deadline=1),
    Settled("13 unknown, retry, cancelled", WISH, UNKNOWN, IN_DOUBT, "cancelled", ASK_TRY, acted=True, cancel=True),
    Settled("13 unknown, stopped, cancelled", STOP, UNKNOWN, IN_DOUBT, "stopped", ASK_TRY, acted=True, cancel=True),
]  # fmt: skip


@pytest.mark.parametrize("case", SETTLED, ids=lambda case: case.name)
def test_an_answer_of_verify_leads_to(case: Settled) -> None:
    deadline = None if case.deadline is None else 1000.0 + case.deadline
    bench = Bench(case.rules, deadline_at=deadline)
    bench.start(entered=True)
    if case.cancel:
        bench.cancel()
    bench.end(ended(case.outcome, entered=True))
    job = bench.job
    assert job.state is IN_DOUBT
    job.retries_used = case.used
    bench.now += 5
    bench.verified(case.answer)
    assert (job.state, job.reason, job.may_have_acted) == (case.becomes, case.reason, case.acted)
    assert job.retries_used - case.used == case.retries
    assert (job.due_at - bench.now if job.due_at is not None else None) == case.wait
    assert job.attempts[0].outcome is case.outcome  # what the attempt itself came to does not change
    assert job.attempts[0].ended_at == 1000
    if job.state is COMPLETED:
        assert job.result == msgspec.Raw(b"7")
    if job.state is IN_DOUBT:
        assert job.doubt == Doubt(case.outcome, True, inside=False, asked=True)


def test_13_a_verify_that_the_stop_interrupted_does_not_change_the_doubt() -> None:
    bench = Bench(ASK_GIVE_UP)
    bench.start(entered=True)
    bench.end(msgspec.structs.replace(STOPPED, entered=True))
    was = bench.job.doubt
    assert bench.verified(NOT_ASKED) == []
    assert (bench.job.state, bench.job.doubt) == (IN_DOUBT, was)
    assert bench.verified(NOT_DONE) == ["DoubtResolved"]


def test_3_an_error_without_an_answer_of_verify_is_a_doubt_that_verify_can_resolve() -> None:
    bench = Bench(ASK)
    bench.start(entered=True)
    assert bench.end(msgspec.structs.replace(ERROR, entered=True)) == ["InDoubt"]
    assert bench.job.doubt == Doubt(Outcome.ERROR, retryable=True, inside=False, asked=False)
    bench.verified(NOT_DONE)
    assert (bench.job.state, bench.job.may_have_acted) == (RETRYING, False)


def test_12_a_doubt_keeps_the_error_and_whether_it_is_retryable() -> None:
    bench = Bench(ASK)
    bench.start(entered=True)
    bench.end(msgspec.structs.replace(TIMED_OUT, error=BOOM, entered=True))
    bench.verified(UNKNOWN)
    assert bench.job.error == BOOM
    bench.verified(NOT_DONE)
    assert (bench.job.state, bench.job.error) == (RETRYING, BOOM)


@pytest.mark.parametrize("state", [s for s in State if s is not IN_DOUBT])
def test_a_late_answer_of_verify_changes_nothing(state: State) -> None:
    bench = in_state(state, ASK)
    assert bench.verified(DONE) == []


@pytest.mark.parametrize("rules", [ASK, IDEMPOTENT, PLAIN], ids=["verifies", "idempotent", "plain"])
@pytest.mark.parametrize("entered", BOTH, ids=column)
def test_3_an_error_is_in_doubt_until_verify_has_answered(entered: bool, rules: Rules) -> None:
    bench = Bench(rules)
    bench.start(entered=entered)
    bench.end(error(entered=entered))
    assert (bench.job.state is IN_DOUBT) is (entered and rules is ASK)


# 14 and 15: a person resolves it


@pytest.mark.parametrize("outcome", [OUT, STOP, CRASH, LIMIT])
@pytest.mark.parametrize("cancel", [False, True], ids=["", "cancel asked for"])
@pytest.mark.parametrize(
    ("resolution", "becomes"), [("done", COMPLETED), ("not_done", PENDING), ("failed", FAILED)], ids=str
)
def test_14_an_operator_resolves_a_doubt(
    outcome: Outcome, cancel: bool, resolution: decide.Resolution, becomes: State
) -> None:
    bench = Bench()
    bench.start(entered=True)
    if cancel:
        bench.cancel()
    bench.end(msgspec.structs.replace(ended(outcome, entered=True), error=BOOM))
    bench.resolve(resolution, msgspec.Raw(b'"found it"'))
    job = bench.job
    if cancel and becomes is PENDING:
        becomes = CANCELLED
    assert job.state is becomes
    assert not job.may_have_acted
    assert job.result == (msgspec.Raw(b'"found it"') if becomes is COMPLETED else None)
    assert job.error == (BOOM if becomes is FAILED else None)
    assert {getattr(event, "by", "nobody") for event in bench.events[-1:]} == {"ana"}


@pytest.mark.parametrize(
    "result", [RETURNED, FAIL, SNOOZE, ERROR, TIMED_OUT, STOPPED, CRASHED], ids=lambda e: e.outcome
)
@pytest.mark.parametrize("resolution", ["done", "failed"])
def test_15_a_call_that_returns_after_resolve_changes_nothing(
    result: AttemptResult, resolution: decide.Resolution
) -> None:
    bench = Bench(ASK)
    bench.start(entered=True)
    bench.stuck()
    bench.resolve(resolution)
    late = msgspec.structs.replace(result, entered=True, late=True)
    assert bench.end(late) == []


@pytest.mark.parametrize(("cancel", "becomes"), [(False, FAILED), (True, CANCELLED)])
def test_14_a_job_resolved_as_not_done_after_its_deadline_is_expired(cancel: bool, becomes: State) -> None:
    bench = Bench(deadline_at=2000.0)
    bench.start(entered=True)
    if cancel:
        bench.cancel()
    bench.end(msgspec.structs.replace(STOPPED, entered=True))
    bench.now = 2000.0
    bench.resolve("not_done")
    assert (bench.job.state, bench.job.reason) == (becomes, "cancelled" if cancel else "expired")
    assert not bench.job.may_have_acted


# the docs


def test_every_row_of_the_docs_has_its_cases_and_rows_1_to_9_both_columns() -> None:
    docs = (Path(__file__).parents[2] / "docs" / "attempts.md").read_text(encoding="utf-8")
    rows = set(re.findall(r"^\| (\d+) \|", docs, re.MULTILINE))
    columns: dict[str, set[bool]] = {}
    for case in CASES:
        columns.setdefault(case.name.split()[0], set()).update(case.entered)
    with_two = {str(row) for row in range(1, 10)} - {"8"}
    assert {row for row, entered in columns.items() if entered == {True, False}} == with_two
    tested = set(columns) | {case.name.split()[0] for case in SETTLED}
    tested |= {match[1] for name in globals() if (match := re.match(r"test_(\d+)_", name))}
    saving = Path(__file__).with_name("test_saving.py").read_text(encoding="utf-8")
    for rows_of_test in re.findall(r"^def test_((?:\d+_)+)", saving, re.MULTILINE):
        tested |= set(rows_of_test.split("_")) - {""}
    assert tested == rows


@pytest.mark.parametrize("max_crashes", [1, 2, 3])
def test_9_a_verify_that_killed_the_process_counts_like_an_attempt(max_crashes: int) -> None:
    """A call that has begun and has no answer when the next one begins."""
    bench = Bench(attrs.evolve(ASK, max_crashes=max_crashes))
    bench.attempt(error(entered=True))
    was = bench.job.error, bench.job.reason
    for crashes in range(max_crashes):
        assert bench.begin_verify() == ["InDoubt"]
        assert (bench.job.crashes, bench.job.error, bench.job.reason) == (crashes, *was)
    assert bench.begin_verify() == ["Failed"]
    assert (bench.job.state, bench.job.reason, bench.job.may_have_acted) == (FAILED, "poison", True)


def test_13_a_verify_that_the_stop_abandoned_is_no_crash() -> None:
    bench = Bench(attrs.evolve(ASK, max_crashes=1))
    bench.attempt(error(entered=True))
    was = bench.job.doubt
    for _ in range(3):
        assert bench.begin_verify() == ["InDoubt"]
        assert bench.abandon_verify() == ["InDoubt"]
        assert (bench.job.doubt, bench.job.crashes) == (was, 0)
    assert bench.abandon_verify() == []
    bench.begin_verify()
    bench.verified(NOT_DONE)
    assert bench.job.state is RETRYING


@pytest.mark.parametrize("answer", [DONE, UNKNOWN], ids=["done", "unknown"])
def test_13_verify_does_not_begin_where_nothing_is_to_be_asked(answer: VerifyAnswer) -> None:
    bench = Bench(ASK)
    assert bench.begin_verify() == []
    bench.attempt(error(entered=True), answer)
    assert bench.begin_verify() == []
    stuck = Bench(ASK)
    stuck.start(entered=True)
    stuck.stuck()
    assert stuck.begin_verify() == []
