"""What an attempt comes to: each row of the table in the design, through a real queue, on both executors."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

import trio_jobs
from support.rig import (
    NO_RETRY,
    HostKind,
    busy_queue,
    ended,
    last,
    make_rig,
    outcomes,
    pass_time,
    service_for,
    until,
    until_state,
)
from trio_jobs import (
    Cancel,
    Done,
    EndedBy,
    Fail,
    JobInDoubt,
    NotDone,
    Outcome,
    Retry,
    RetryAfter,
    SdkCallStuck,
    SdkHandle,
    Snooze,
    State,
    Unknown,
)
from trio_jobs.testing import Blocker, FakeSdk, FakeSession


class Busy(Exception):
    """An SDK's error, with the number that SDKs give."""

    code = 1205


async def linger(seconds: float, then: Any = None) -> Any:
    """Go on behind a shield for `seconds` after the cancel."""
    try:
        await trio.sleep_forever()
    except BaseException:
        with trio.CancelScope(shield=True):
            await trio.sleep(seconds)
        if then is None:
            raise
        return then  # that is the point: the Cancelled is swallowed


# returned


async def test_an_attempt_that_returned_is_completed(kind: HostKind, clock: MockClock) -> None:
    rig = make_rig(kind)
    async with rig.open() as queue:
        receipt = await queue.submit("work", "a")
        job = await ended(queue, receipt.job_id)
    assert job.state is State.COMPLETED
    assert job.result == b'"a"'
    assert last(job).outcome is Outcome.COMPLETED
    assert last(job).ended_by is None
    assert last(job).entered
    assert not last(job).late
    assert not job.may_have_acted


async def test_an_attempt_that_returned_late_on_the_thread_is_completed_and_marked_late(mock_clock: MockClock) -> None:
    rig = make_rig("thread", attempt_timeout=5)
    hold = Blocker("late")
    rig.sdk.script("call", hold)
    async with rig.open() as queue:
        receipt = await queue.submit("work", "a")
        await hold.reached()
        await pass_time(mock_clock, 6)
        assert last(queue.get(receipt.job_id)).overdue
        assert queue.get(receipt.job_id).state is State.PROCESSING
        hold.release()
        job = await ended(queue, receipt.job_id)
    assert job.state is State.COMPLETED
    assert last(job).late
    assert last(job).overdue


async def test_an_attempt_that_returned_late_in_the_loop_is_completed_and_marked_late(
    autojump_clock: MockClock,
) -> None:
    rig = make_rig("trio", attempt_timeout=5)
    rig.sdk.script("call", lambda: linger(2, "late"))
    async with rig.open() as queue:
        job = await ended(queue, (await queue.submit("work", "a")).job_id)
    assert job.state is State.COMPLETED
    assert job.result == b'"late"'
    assert last(job).late


async def test_an_attempt_that_returned_nothing_has_entered_the_sdk_too(kind: HostKind, clock: MockClock) -> None:
    rig = make_rig(kind)
    rig.sdk.script("call", lambda: None)
    async with rig.open() as queue:
        job = await ended(queue, (await queue.submit("work", "a")).job_id)
    assert job.result == b"null"
    assert last(job).entered


async def test_an_attempt_that_returned_nothing_late_is_marked_late_too(autojump_clock: MockClock) -> None:
    service = trio_jobs.Service()

    @service.handler(attempt_timeout=5)
    async def work(number: int) -> None:
        with trio.CancelScope(shield=True):
            await trio.sleep(7)

    async with service.open() as queue:
        job = await ended(queue, (await queue.submit("work", 1)).job_id)
    assert job.state is State.COMPLETED
    assert not last(job).entered
    assert last(job).late


async def test_a_stuck_call_that_returns_resolves_its_job(mock_clock: MockClock) -> None:
    rig = make_rig("thread", attempt_timeout=5, stuck_after=7)
    hold = Blocker("very late")
    rig.sdk.script("call", hold)
    async with rig.open() as queue:
        receipt = await queue.submit("work", "a")
        await hold.reached()
        await pass_time(mock_clock, 5)
        assert queue.get(receipt.job_id).state is State.PROCESSING
        await pass_time(mock_clock, 7)
        job = queue.get(receipt.job_id)
        assert job.state is State.IN_DOUBT
        assert job.inside
        assert last(job).outcome is Outcome.INSIDE
        with pytest.raises(trio_jobs.InvalidState, match="resolve"):
            await queue.cancel(receipt.job_id)
        hold.release()
        job = await ended(queue, receipt.job_id)
    assert job.state is State.COMPLETED
    assert last(job).outcome is Outcome.COMPLETED
    assert last(job).late


@pytest.mark.parametrize(
    ("then", "state", "reason"),
    [
        (Busy("no"), "retrying", "error"),
        (Fail("never"), "failed", "fail"),
        (Cancel("not wanted"), "cancelled", "not wanted"),
        (Snooze(50), "retrying", "snooze"),
        (RetryAfter(50), "retrying", "retry_after"),
    ],
    ids=["error", "fail", "cancel", "snooze", "retry_after"],
)
async def test_a_stuck_call_that_raises_has_its_own_result(
    then: BaseException, state: str, reason: str, mock_clock: MockClock
) -> None:
    rig = make_rig("thread", attempt_timeout=5, stuck_after=7)
    hold = Blocker(then)
    rig.sdk.script("call", hold)
    with trio.CancelScope() as scope:
        async with rig.open() as queue:
            receipt = await queue.submit("work", "a")
            await hold.reached()
            await pass_time(mock_clock, 12)
            assert queue.get(receipt.job_id).inside
            hold.release()
            job = await until_state(queue, receipt.job_id, state)
            assert job.reason == reason
            scope.cancel()
            await trio.sleep_forever()


async def test_an_operator_can_resolve_a_job_while_its_call_is_inside(
    mock_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    rig = make_rig("thread", attempt_timeout=5, stuck_after=7)
    hold = Blocker("too late")
    rig.sdk.script("call", hold)
    async with rig.open() as queue:
        receipt = await queue.submit("work", "a")
        await hold.reached()
        await pass_time(mock_clock, 12)
        with pytest.raises(trio_jobs.InvalidState, match="inside the SDK"):
            await queue.resolve(receipt.job_id, "not_done")
        await queue.resolve(receipt.job_id, "failed", by="ann")
        with pytest.raises(trio_jobs.InvalidState, match="inside the SDK"):
            await queue.retry(receipt.job_id)
        second = await queue.submit("work", "b")
        hold.release()
        assert await queue.result(second.job_id) == "b"
        assert queue.get(receipt.job_id).state is State.FAILED
    assert "after the job was resolved" in caplog.text


async def test_a_stuck_call_that_a_stop_abandons_is_not_said_to_have_ended(
    mock_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    rig = make_rig(
        "thread",
        attempt_timeout=5,
        stuck_after=7,
        settings={"drain_timeout": 0, "cancel_timeout": 0, "close_timeout": 1},
    )
    hold = Blocker()
    rig.sdk.script("call", hold)
    leaving = trio.Event()

    async def life() -> None:
        async with rig.open() as queue:
            receipt = await queue.submit("work", "a")
            await hold.reached()
            await pass_time(mock_clock, 12)
            assert queue.get(receipt.job_id).inside
            leaving.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(life)
        await leaving.wait()
        await pass_time(mock_clock, 2)
    assert "a call has not returned" in caplog.text
    assert "its call ended" not in caplog.text
    hold.release()


# raised as asked


async def test_a_job_that_raised_fail_is_failed_and_not_retried(kind: HostKind, clock: MockClock) -> None:
    rig = make_rig(kind, verifies=True)
    rig.sdk.script("call", Fail("invoice data is missing"))
    async with rig.open() as queue:
        receipt = await queue.submit("work", "a")
        with pytest.raises(trio_jobs.JobFailed, match=r"\(fail\): Fail: invoice data is missing"):
            await queue.result(receipt.job_id)
    job = queue.get(receipt.job_id)
    assert outcomes(job) == ["fail"]
    assert not job.may_have_acted, "the handler vouches that nothing is half done"
    assert rig.sdk.count("verify") == 0


async def test_a_job_that_raised_cancel_is_cancelled(kind: HostKind, clock: MockClock) -> None:
    rig = make_rig(kind)
    rig.sdk.script("call", Cancel("nobody wants it"))
    async with rig.open() as queue:
        receipt = await queue.submit("work", "a")
        with pytest.raises(trio_jobs.JobCancelled, match="nobody wants it"):
            await queue.result(receipt.job_id)
    assert outcomes(queue.get(receipt.job_id)) == ["cancel"]


async def test_a_snoozed_job_is_due_later_and_uses_no_retry(autojump_clock: MockClock) -> None:
    rig = make_rig("trio", retry=NO_RETRY)
    rig.sdk.script("call", Snooze(100), Snooze(50), "done")
    began = trio.current_time()
    async with rig.open() as queue:
        receipt = await queue.submit("work", "a")
        await until_state(queue, receipt.job_id, "scheduled")
        assert await queue.result(receipt.job_id) == "done"
    job = queue.get(receipt.job_id)
    assert trio.current_time() - began == 150
    assert outcomes(job) == ["snooze", "snooze", "completed"]
    assert job.retries_used == 0
    assert job.snoozes == 2


async def test_a_job_that_raised_retry_after_waits_that_long_and_uses_a_retry(autojump_clock: MockClock) -> None:
    rig = make_rig("trio", retry=Retry(1))
    rig.sdk.script("call", RetryAfter(33, "license in use"), RetryAfter(33))
    began = trio.current_time()
    async with rig.open() as queue:
        receipt = await queue.submit("work", "a")
        job = await ended(queue, receipt.job_id)
    assert trio.current_time() - began == 33
    assert job.state is State.FAILED
    assert job.reason == "retry_after"
    assert job.retries_used == 1
    assert outcomes(job) == ["retry_after", "retry_after"]


# raised another error


async def test_retries_wait_1_2_and_4_seconds_then_the_job_fails(autojump_clock: MockClock) -> None:
    rig = make_rig("trio")
    rig.sdk.script("call", *[Busy("busy")] * 4)
    async with rig.open() as queue:
        job = await ended(queue, (await queue.submit("work", "a")).job_id)
    began = (job.attempts or ())[0].started_at
    assert [(a.started_at - began).total_seconds() for a in job.attempts or ()] == [0, 1, 3, 7]
    assert job.state is State.FAILED
    assert job.may_have_acted
    assert job.retries_used == 3
    assert job.error is not None
    assert (job.error.type, job.error.message, job.error.code) == ("Busy", "busy", 1205)
    error = (job.attempts or ())[0].error
    assert error is not None
    assert "Traceback" in (error.traceback or "")


async def test_a_retrying_job_lets_others_pass(autojump_clock: MockClock) -> None:
    rig = make_rig("trio")
    rig.sdk.script("call", Busy())
    async with rig.open() as queue:
        await queue.submit("work", "a")
        await queue.submit("work", "b")
    assert rig.sdk.calls() == ["a", "b", "a"]


async def test_an_error_that_the_policy_does_not_name_is_not_retried(kind: HostKind, clock: MockClock) -> None:
    rig = make_rig(kind, retry=Retry(on=Busy))
    rig.sdk.script("call", ValueError("not busy, wrong"))
    async with rig.open() as queue:
        job = await ended(queue, (await queue.submit("work", "a")).job_id)
    assert job.state is State.FAILED
    assert outcomes(job) == ["error"]


async def test_verify_done_after_an_error_completes_the_job(kind: HostKind, clock: MockClock) -> None:
    rig = make_rig(kind, verifies=True)
    rig.sdk.script("call", Busy("booked, then raised"))
    rig.sdk.script("verify", Done("voucher 7"))
    async with rig.open() as queue:
        receipt = await queue.submit("work", "a")
        assert await queue.result(receipt.job_id) == "voucher 7"
    job = queue.get(receipt.job_id)
    assert job.reason == "verified"
    assert outcomes(job) == ["error"], "what the attempt came to stays what it was"
    assert rig.sdk.count("call") == 1


async def test_verify_not_done_after_an_error_leaves_it_to_the_policy(autojump_clock: MockClock) -> None:
    rig = make_rig("trio", verifies=True)
    rig.sdk.script("call", Busy(), "done")
    rig.sdk.script("verify", NotDone())
    async with rig.open() as queue:
        receipt = await queue.submit("work", "a")
        assert await queue.result(receipt.job_id) == "done"
    operations = [step.operation for step in rig.sdk.steps]
    assert operations == ["open", "call", "close", "open", "verify", "call", "close"]


async def test_a_failed_job_that_verify_calls_not_done_has_not_acted(kind: HostKind, clock: MockClock) -> None:
    rig = make_rig(kind, verifies=True, retry=NO_RETRY)
    rig.sdk.script("call", Busy())
    rig.sdk.script("verify", NotDone())
    async with rig.open() as queue:
        job = await ended(queue, (await queue.submit("work", "a")).job_id)
    assert job.state is State.FAILED
    assert not job.may_have_acted


@pytest.mark.parametrize(
    "answer",
    [Unknown(), Busy("verify breaks"), "yes", None, SystemExit(1), trio_jobs.Done],
    ids=["unknown", "raises", "nonsense", "nothing", "exits", "the class"],
)
async def test_a_verify_that_returns_unknown_leaves_the_job_in_doubt(
    answer: Any, kind: HostKind, clock: MockClock
) -> None:
    rig = make_rig(kind, verifies=True)
    rig.sdk.script("call", Busy())
    rig.sdk.script("verify", (lambda: answer) if not isinstance(answer, BaseException) else answer)
    async with rig.open() as queue:
        receipt = await queue.submit("work", "a")
        job = await until_state(queue, receipt.job_id, "in_doubt")
        assert job.reason == "error"
        with pytest.raises(trio_jobs.JobInDoubt, match="resolve it"):
            await queue.result(receipt.job_id, in_doubt="raise")
        second = await queue.submit("work", "b")
        assert await queue.result(second.job_id) == "b"
    assert queue.report is not None
    assert [left.job_id for left in queue.report.unfinished] == [receipt.job_id]


async def test_a_coroutine_returned_by_a_plain_verify_counts_as_unknown(mock_clock: MockClock) -> None:
    sdk = FakeSdk()
    sdk.script("call", Busy())
    service = service_for(sdk, "thread")

    async def verify_body() -> Done:
        return Done()

    def verify(session: FakeSession, job: trio_jobs.JobContext) -> Any:
        return verify_body()

    @service.handler(verify=verify)
    def work(session: FakeSession, what: str) -> None:
        session.call(what)

    async with service.open(clock=trio_jobs.TrioClock()) as queue:
        receipt = await queue.submit(work, "a")
        await until_state(queue, receipt.job_id, "in_doubt")


async def test_a_verify_that_overruns_in_the_loop_counts_as_unknown(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    rig = make_rig("trio", verifies=True, verify_timeout=3)
    rig.sdk.script("call", Busy())
    rig.sdk.script("verify", Blocker(Done()))
    began = trio.current_time()
    async with rig.open() as queue:
        receipt = await queue.submit("work", "a")
        with pytest.raises(JobInDoubt):
            await queue.result(receipt.job_id, in_doubt="raise")
        assert trio.current_time() - began == 3
    assert "verify did not answer within 3 s" in caplog.text


async def test_a_verify_that_overruns_on_the_thread_is_awaited_and_counts_as_unknown(
    mock_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    rig = make_rig("thread", verifies=True, verify_timeout=3)
    hold = Blocker(Done())
    rig.sdk.script("call", Busy())
    rig.sdk.script("verify", hold)
    async with rig.open() as queue:
        receipt = await queue.submit("work", "a")
        await hold.reached()
        await pass_time(mock_clock, 4)
        assert queue.health().problems == ("overdue",)
        hold.release()
        with pytest.raises(JobInDoubt):
            await queue.result(receipt.job_id, in_doubt="raise")
    assert "verify did not answer within 3 s" in caplog.text
    rig.sdk.check()


async def test_verify_delay_passes_between_the_end_of_an_attempt_and_verify(autojump_clock: MockClock) -> None:
    rig = make_rig("trio", verifies=True, verify_delay=10, attempt_timeout=5)
    rig.sdk.script("call", Blocker())
    asked_at: list[float] = []

    def note() -> Done:
        asked_at.append(trio.current_time())
        return Done("there it is")

    rig.sdk.script("verify", note)
    async with rig.open() as queue:
        receipt = await queue.submit("work", "a")
        began = trio.current_time()
        assert await queue.result(receipt.job_id) == "there it is"
    assert [at - began for at in asked_at] == [15]


async def test_verify_delay_after_an_error_passes_within_the_attempt(autojump_clock: MockClock) -> None:
    rig = make_rig("trio", verifies=True, verify_delay=10)
    rig.sdk.script("call", Busy())
    rig.sdk.script("verify", Done("there it is"))
    async with rig.open() as queue:
        receipt = await queue.submit("work", "a")
        began = trio.current_time()
        assert await queue.result(receipt.job_id) == "there it is"
        assert trio.current_time() - began == 10


@pytest.mark.parametrize("on_doubt", ["hold", "retry", "fail"])
async def test_on_doubt_decides_without_verify(on_doubt: str, autojump_clock: MockClock) -> None:
    rig = make_rig("trio", on_doubt=on_doubt, attempt_timeout=5)
    rig.sdk.script("call", Blocker(), "second")
    async with rig.open() as queue:
        receipt = await queue.submit("work", "a")
        job = await until(
            queue, receipt.job_id, lambda job: job.is_final or (on_doubt == "hold" and job.state == "in_doubt")
        )
        if on_doubt == "hold":
            job = await until_state(queue, receipt.job_id, "in_doubt")
    expected = {"hold": State.IN_DOUBT, "retry": State.COMPLETED, "fail": State.FAILED}
    assert job.state is expected[on_doubt]
    assert outcomes(job) == (["timed_out", "completed"] if on_doubt == "retry" else ["timed_out"])
    if on_doubt == "fail":
        assert job.may_have_acted
        assert job.reason == "on_doubt"


@pytest.mark.parametrize("on_doubt", ["retry", "fail"])
async def test_on_doubt_decides_when_verify_returns_unknown(on_doubt: str, autojump_clock: MockClock) -> None:
    rig = make_rig("trio", verifies=True, on_doubt=on_doubt)
    rig.sdk.script("call", Busy(), "second")
    rig.sdk.script("verify", Unknown(), Unknown())
    async with rig.open() as queue:
        job = await ended(queue, (await queue.submit("work", "a")).job_id)
    assert job.state is (State.COMPLETED if on_doubt == "retry" else State.FAILED)


async def test_an_idempotent_handler_is_never_in_doubt_nor_verified(autojump_clock: MockClock) -> None:
    rig = make_rig("trio", verifies=True, idempotent=True, attempt_timeout=5)
    rig.sdk.script("call", Blocker(), Busy(), "third")
    async with rig.open() as queue:
        receipt = await queue.submit("work", "a")
        assert await queue.result(receipt.job_id) == "third"
    assert rig.sdk.count("verify") == 0
    assert outcomes(queue.get(receipt.job_id)) == ["timed_out", "error", "completed"]


# limits


@pytest.mark.parametrize("limit", [EndedBy.ATTEMPT_TIMEOUT, EndedBy.DEADLINE, EndedBy.CANCEL, EndedBy.STOP])
async def test_an_entered_attempt_that_a_limit_ended_leaves_its_job_in_doubt(
    limit: EndedBy, autojump_clock: MockClock
) -> None:
    rig = make_rig(
        "trio",
        attempt_timeout=5 if limit is EndedBy.ATTEMPT_TIMEOUT else None,
        settings={"drain_timeout": 5 if limit is EndedBy.STOP else 1000},
    )
    rig.sdk.script("call", Blocker())
    async with rig.open() as queue:
        deadline = 5 if limit is EndedBy.DEADLINE else None
        receipt = await queue.submit("work", "a", deadline_after=deadline)
        if limit is EndedBy.CANCEL:
            await until_state(queue, receipt.job_id, "processing")
            await trio.sleep(5)
            assert await queue.cancel(receipt.job_id, by="ann") == "requested"
    job = queue.get(receipt.job_id)
    assert job.state is State.IN_DOUBT
    assert last(job).ended_by is limit
    assert last(job).entered


@pytest.mark.parametrize("limit", [EndedBy.ATTEMPT_TIMEOUT, EndedBy.DEADLINE, EndedBy.CANCEL, EndedBy.STOP])
async def test_an_attempt_that_did_not_enter_leaves_no_doubt(limit: EndedBy, mock_clock: MockClock) -> None:
    """An async handler before a thread's SDK that has made no call yet."""
    sdk = FakeSdk()
    service = service_for(sdk, "thread", drain_timeout=5)

    @service.handler(attempt_timeout=5 if limit is EndedBy.ATTEMPT_TIMEOUT else None, retry=NO_RETRY)
    async def work(handle: SdkHandle, what: str) -> None:
        await trio.sleep_forever()

    clock = trio_jobs.TrioClock()
    states: list[State] = []

    async def life() -> None:
        async with service.open(clock=clock) as queue:
            receipt = await queue.submit(work, "a", deadline_after=5 if limit is EndedBy.DEADLINE else None)
            await until_state(queue, receipt.job_id, "processing")
            if limit is EndedBy.CANCEL:
                await queue.cancel(receipt.job_id)
            begun.set()
        job = queue.get(receipt.job_id)
        states.append(job.state)
        assert last(job).ended_by is limit
        assert not last(job).entered

    begun = trio.Event()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(life)
        await begun.wait()
        await pass_time(mock_clock, 5)
    expected = {
        EndedBy.ATTEMPT_TIMEOUT: State.FAILED,
        EndedBy.DEADLINE: State.FAILED,
        EndedBy.CANCEL: State.CANCELLED,
        EndedBy.STOP: State.PENDING,
    }
    assert states == [expected[limit]]
    sdk.check()
    assert sdk.count("call") == 0


async def test_a_call_that_was_cancelled_inside_and_returns_is_completed(mock_clock: MockClock) -> None:
    rig = make_rig("thread")
    hold = Blocker("done anyway")
    rig.sdk.script("call", hold)
    async with rig.open() as queue:
        receipt = await queue.submit("work", "a")
        await hold.reached()
        assert await queue.cancel(receipt.job_id) == "requested"
        hold.release()
        assert await queue.result(receipt.job_id) == "done anyway"
        assert await queue.cancel(receipt.job_id) == "too_late"


async def test_no_retry_follows_a_requested_cancel(mock_clock: MockClock) -> None:
    rig = make_rig("thread", verifies=True)
    hold = Blocker(Busy())
    rig.sdk.script("call", hold)
    rig.sdk.script("verify", NotDone())
    async with rig.open() as queue:
        receipt = await queue.submit("work", "a")
        await hold.reached()
        for _ in range(2):
            assert await queue.cancel(receipt.job_id, by="ann") == "requested"
        hold.release()
        job = await ended(queue, receipt.job_id)
    assert job.state is State.CANCELLED


async def test_a_pending_job_whose_deadline_passes_fails_and_leaves_the_queue(autojump_clock: MockClock) -> None:
    rig = make_rig("trio", settings={"buffer": 1})
    async with busy_queue(rig) as (queue, _, _first):
        receipt = await queue.submit("work", "too late", deadline_after=5)
        assert queue.statistics().free == 0
        await trio.sleep(6)
        assert queue.statistics().free == 1
        job = queue.get(receipt.job_id)
        assert (job.state, job.reason) == (State.FAILED, "expired")
    assert rig.sdk.calls() == ["first"]


async def test_a_handler_can_read_the_deadline_of_its_job(autojump_clock: MockClock) -> None:
    sdk = FakeSdk()
    service = service_for(sdk, "trio")
    seen: list[trio_jobs.JobContext] = []

    @service.handler(on_doubt="hold")
    async def work(session: FakeSession, what: str, job: trio_jobs.JobContext) -> None:
        seen.append(job)
        assert job.deadline is not None
        assert not job.cancel_requested
        await trio.sleep(1)

    async with service.open(clock=trio_jobs.TrioClock(epoch=0)) as queue:
        receipt = await queue.submit(work, "a", key="K", deadline_after=60)
        await queue.result(receipt.job_id)
    [job] = seen
    assert (job.id, job.key, job.kind, job.attempt, job.run) == (receipt.job_id, "K", "work", 1, 1)
    assert job.deadline is not None
    assert job.deadline.timestamp() == 60
    assert repr(job) == f"<AsyncJobContext work {receipt.job_id} attempt 1>"


async def test_a_long_call_can_see_a_cancel_request(mock_clock: MockClock) -> None:
    sdk = FakeSdk()
    hold = Blocker()
    sdk.script("call", hold)
    service = service_for(sdk, "thread")

    @service.handler(on_doubt="hold")
    def work(session: FakeSession, what: str, job: trio_jobs.JobContext) -> bool:
        session.call(what)
        return job.cancel_requested

    async with service.open(clock=trio_jobs.TrioClock()) as queue:
        receipt = await queue.submit(work, "a")
        await hold.reached()
        await queue.cancel(receipt.job_id)
        hold.release()
        assert await queue.result(receipt.job_id) is True


@pytest.mark.parametrize("limit", ["attempt_timeout", "deadline"])
async def test_a_long_call_can_see_that_its_limit_has_passed(mock_clock: MockClock, limit: str) -> None:
    sdk = FakeSdk()
    holds = [Blocker(), Blocker()]
    sdk.script("call", *holds)
    service = service_for(sdk, "thread")

    @service.handler(attempt_timeout=10 if limit == "attempt_timeout" else None, on_doubt="hold")
    def work(session: FakeSession, what: str, job: trio_jobs.JobContext) -> list[bool]:
        seen = []
        for _ in holds:
            session.call(what)
            seen.append(job.cancel_requested)
        return seen

    async with service.open(clock=trio_jobs.TrioClock()) as queue:
        receipt = await queue.submit(work, "a", deadline_after=10 if limit == "deadline" else None)
        for hold, seconds in zip(holds, (9.0, 1.0), strict=True):
            await hold.reached()
            mock_clock.jump(seconds)
            await wait_all_tasks_blocked()
            hold.release()
        assert await queue.result(receipt.job_id) == [False, True]


# the queue stops


async def test_an_attempt_that_returns_within_the_drain_is_completed(autojump_clock: MockClock) -> None:
    rig = make_rig("trio", settings={"drain_timeout": 10})

    async def slow() -> str:
        await trio.sleep(9)
        return "done"

    rig.sdk.script("call", slow)
    async with rig.open() as queue:
        receipt = await queue.submit("work", "a")
    assert queue.get(receipt.job_id).state is State.COMPLETED


async def test_an_idempotent_attempt_is_given_back_by_a_stop(autojump_clock: MockClock) -> None:
    rig = make_rig("trio", idempotent=True, settings={"drain_timeout": 1})
    rig.sdk.script("call", Blocker())
    async with rig.open() as queue:
        receipt = await queue.submit("work", "a")
    job = queue.get(receipt.job_id)
    assert job.state is State.PENDING
    assert job.retries_used == 0
    assert outcomes(job) == ["stopped"]
    assert queue.report is not None
    [left] = queue.report.unfinished
    assert (left.job_id, left.reason) == (receipt.job_id, "stopped")


async def test_a_stop_waits_for_a_shielded_attempt(autojump_clock: MockClock) -> None:
    rig = make_rig("trio", settings={"drain_timeout": 1, "cancel_timeout": 1})
    rig.sdk.script("call", lambda: linger(20, "done"))
    began = trio.current_time()
    async with rig.open() as queue:
        receipt = await queue.submit("work", "a")
    assert queue.get(receipt.job_id).state is State.COMPLETED
    assert trio.current_time() - began == 21
    rig.sdk.check()


async def test_a_stop_while_verify_runs_in_the_loop_ends_with_a_doubt(autojump_clock: MockClock) -> None:
    rig = make_rig("trio", verifies=True, verify_timeout=100, settings={"drain_timeout": 1, "cancel_timeout": 2})
    rig.sdk.script("call", Busy())
    rig.sdk.script("verify", Blocker())
    began = trio.current_time()
    async with rig.open() as queue:
        receipt = await queue.submit("work", "a")
    assert trio.current_time() - began <= 3, "a verify is no reason to overrun the budgets of the stop"
    assert queue.get(receipt.job_id).state is State.IN_DOUBT
    rig.sdk.check()


async def test_a_stop_while_verify_runs_on_the_thread_leaves_a_doubt(mock_clock: MockClock) -> None:
    rig = make_rig("thread", verifies=True, settings={"drain_timeout": 1, "cancel_timeout": 2, "close_timeout": 1})
    hold = Blocker()
    rig.sdk.script("call", Busy())
    rig.sdk.script("verify", hold)
    leaving = trio.Event()
    left: list[State] = []

    async def life() -> None:
        async with rig.open() as queue:
            await queue.submit("work", "a")
            await hold.reached()
            leaving.set()
        assert queue.report is not None
        assert not queue.report.sdk_closed
        left.extend(job.state for job in queue.report.unfinished)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(life)
        await leaving.wait()
        await pass_time(mock_clock, 1)
        await pass_time(mock_clock, 2)
    assert left == [State.IN_DOUBT]
    hold.release()


async def test_a_stop_does_not_wait_for_the_verify_delay(autojump_clock: MockClock) -> None:
    rig = make_rig("trio", verifies=True, verify_delay=500, settings={"drain_timeout": 1})
    rig.sdk.script("call", Busy())
    began = trio.current_time()
    async with rig.open() as queue:
        receipt = await queue.submit("work", "a")
    assert trio.current_time() - began == 1
    assert queue.get(receipt.job_id).state is State.IN_DOUBT
    assert rig.sdk.count("verify") == 0


# stuck


async def test_an_attempt_is_overdue_at_its_limit_and_stuck_after_stuck_after(mock_clock: MockClock) -> None:
    rig = make_rig("thread", attempt_timeout=5, stuck_after=7)
    hold = Blocker("late")
    rig.sdk.script("call", hold)
    store = trio_jobs.MemoryStore()
    async with rig.open(store=store) as queue:
        receipt = await queue.submit("work", "a")
        await hold.reached()
        await pass_time(mock_clock, 5)
        await pass_time(mock_clock, 7)
        hold.release()
        await queue.result(receipt.job_id)
        events = await store.events(0, 100)
    began = events[0].at
    times = {type(event).__name__: event.at - began for event in events}
    assert times["Overdue"] == 5
    assert times["Stuck"] == 12
    assert times["InDoubt"] == 12


async def test_on_stuck_stop_raises_sdk_call_stuck_from_the_block(mock_clock: MockClock) -> None:
    # nothing can end the call, so nothing is waited for: the clock does not move after the call is stuck
    rig = make_rig("thread", attempt_timeout=5, stuck_after=7, settings={"on_stuck": "stop", "cancel_timeout": 60})
    hold = Blocker()
    rig.sdk.script("call", hold)
    begun, gone = trio.Event(), trio.Event()

    async def life() -> None:
        with pytest.raises(SdkCallStuck, match="did not return; end the process"):
            async with rig.open() as queue:
                await queue.submit("work", "a")
                await hold.reached()
                begun.set()
                await trio.sleep_forever()
        assert queue.report is not None
        assert not queue.report.sdk_closed
        [left] = queue.report.unfinished
        assert left.state is State.IN_DOUBT
        gone.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(life)
        await begun.wait()
        await pass_time(mock_clock, 5)
        await pass_time(mock_clock, 7)
        ended = gone.is_set()
        mock_clock.jump(60)
        hold.release()
        await gone.wait()
        assert ended


async def test_a_cancelled_async_handler_has_a_second_to_clean_up(autojump_clock: MockClock) -> None:
    rig = make_rig("trio", attempt_timeout=5, stuck_after=7)
    rig.sdk.script("call", lambda: linger(0.9), lambda: linger(1.1))
    async with rig.open() as queue:
        jobs = [await queue.submit("work", what) for what in "ab"]
        for receipt in jobs:
            await until_state(queue, receipt.job_id, "in_doubt")
        assert [last(queue.get(receipt.job_id)).overdue for receipt in jobs] == [False, True]


# an async handler before an SDK on a thread


async def test_a_call_of_an_async_handler_ends_before_its_cancel(mock_clock: MockClock) -> None:
    sdk = FakeSdk()
    hold = Blocker("in vain")
    sdk.script("call", hold)
    service = service_for(sdk, "thread")
    after: list[str] = []

    @service.handler(attempt_timeout=5, on_doubt="hold")
    async def work(handle: SdkHandle, what: str) -> None:
        try:
            await handle.call(FakeSession.call, what)
        except trio.Cancelled:
            with trio.CancelScope(shield=True):
                try:
                    await handle.call(FakeSession.call, "one more")
                except trio_jobs.SdkCallRefused as error:
                    after.append(str(error))
            raise

    async with service.open(clock=trio_jobs.TrioClock()) as queue:
        receipt = await queue.submit(work, "a")
        await hold.reached()
        await pass_time(mock_clock, 5)
        assert queue.get(receipt.job_id).state is State.PROCESSING
        hold.release()
        job = await until_state(queue, receipt.job_id, "in_doubt")
    assert last(job).outcome is Outcome.TIMED_OUT
    assert after == ["this attempt is over, or about to be; its SDK handle takes no more calls"]
    assert sdk.calls() == ["a"]
    sdk.check()


async def test_a_handle_kept_beyond_its_attempt_refuses_calls(mock_clock: MockClock) -> None:
    sdk = FakeSdk()
    service = service_for(sdk, "thread")
    kept: list[SdkHandle] = []

    @service.handler(on_doubt="hold")
    async def work(handle: SdkHandle, what: str) -> None:
        kept.append(handle)

    async with service.open(clock=trio_jobs.TrioClock()) as queue:
        await queue.result((await queue.submit(work, "a")).job_id)
        with pytest.raises(trio_jobs.SdkCallRefused):
            await kept[0].call(FakeSession.call, "late")
    assert sdk.calls() == []


async def test_entering_is_recorded_once_before_the_first_call(mock_clock: MockClock) -> None:
    sdk = FakeSdk()
    store = trio_jobs.MemoryStore()
    service = service_for(sdk, "thread")

    @service.handler(on_doubt="hold")
    async def work(handle: SdkHandle, what: str) -> None:
        for _ in range(3):
            await handle.call(FakeSession.call, what)

    async with service.open(clock=trio_jobs.TrioClock(), store=store) as queue:
        await queue.result((await queue.submit(work, "a")).job_id)
        names = [type(event).__name__ for event in await store.events(0, 100)]
    assert names[:6] == ["SessionOpening", "SessionOpened", "Submitted", "Started", "SdkEntered", "Completed"]
    assert names.count("SdkEntered") == 1


async def test_stop_iteration_from_a_call_reaches_the_handler_as_an_error(mock_clock: MockClock) -> None:
    sdk = FakeSdk()
    sdk.script("call", StopIteration("of the SDK"))
    service = service_for(sdk, "thread")

    @service.handler(retry=NO_RETRY)
    async def work(handle: SdkHandle, what: str) -> None:
        await handle.call(FakeSession.call, what)

    async with service.open(clock=trio_jobs.TrioClock()) as queue:
        job = await ended(queue, (await queue.submit(work, "a")).job_id)
    assert job.error is not None
    assert job.error.message == "the SDK call raised StopIteration"


async def test_an_async_verify_may_call_the_sdk_on_its_thread(mock_clock: MockClock) -> None:
    sdk = FakeSdk()
    sdk.script("call", Busy())
    sdk.script("verify", Done("found"))
    service = service_for(sdk, "thread")
    kept: list[SdkHandle] = []

    async def verify(handle: SdkHandle, job: trio_jobs.JobContext) -> Any:
        kept.append(handle)
        return await handle.call(FakeSession.verify, job.kind)

    @service.handler(verify=verify)
    async def work(handle: SdkHandle, what: str) -> None:
        await handle.call(FakeSession.call, what)

    async with service.open(clock=trio_jobs.TrioClock()) as queue:
        receipt = await queue.submit(work, "a")
        assert await queue.result(receipt.job_id) == "found"
        with pytest.raises(trio_jobs.SdkCallRefused, match="this verify is over"):
            await kept[0].call(FakeSession.verify, "late")
    sdk.check()


# without an SDK


async def test_a_service_without_an_sdk_runs_both_kinds_of_handler() -> None:
    service = trio_jobs.Service()

    @service.handler
    def plain(n: int) -> int:
        return n + 1

    @service.handler
    def plain_with_job(n: int, job: trio_jobs.JobContext) -> int:
        return n + job.attempt

    @service.handler
    async def asynchronous(n: int) -> int:
        await trio.lowlevel.checkpoint()
        return n + 2

    @service.handler
    async def asynchronous_with_job(n: int, job: trio_jobs.JobContext) -> int:
        return n + job.attempt

    async with service.open() as queue:
        receipts = [await queue.submit(fn, 1) for fn in (plain, plain_with_job, asynchronous, asynchronous_with_job)]
        assert [await queue.result(receipt.job_id) for receipt in receipts] == [2, 2, 3, 2]


async def test_verify_without_an_sdk_takes_the_job_alone() -> None:
    service = trio_jobs.Service()
    tried: list[str] = []

    def verify(job: trio_jobs.JobContext) -> Done:
        return Done(job.kind)

    async def averify(job: trio_jobs.JobContext) -> Done:
        return Done(job.kind)

    @service.handler(verify=verify)
    def plain(what: str) -> str:
        raise Busy

    @service.handler(verify=averify)
    def asked_in_trio(what: str) -> str:
        tried.append(what)
        raise Busy

    async with service.open() as queue:
        for fn, name in ((plain, "plain"), (asked_in_trio, "asked_in_trio")):
            assert await queue.result((await queue.submit(fn, "a")).job_id) == name


# a person resolves


@pytest.mark.parametrize("resolution", ["done", "not_done", "failed"])
async def test_an_operator_resolves_an_in_doubt_job(resolution: Any, autojump_clock: MockClock) -> None:
    rig = make_rig("trio", attempt_timeout=5)
    rig.sdk.script("call", Blocker(), "second time")
    async with rig.open() as queue:
        receipt = await queue.submit("work", "a")
        await until_state(queue, receipt.job_id, "in_doubt")
        waiting = trio.Event()
        got: list[Any] = []

        async def wait_for_it() -> None:
            waiting.set()
            try:
                got.append(await queue.result(receipt.job_id))
            except trio_jobs.JobFailed as error:
                got.append(error.reason)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait_for_it)
            await waiting.wait()
            await wait_all_tasks_blocked()
            await queue.resolve(
                receipt.job_id, resolution, result="voucher 9" if resolution == "done" else None, by="ann"
            )
    assert got == [{"done": "voucher 9", "not_done": "second time", "failed": "resolved"}[resolution]]


async def test_an_operator_resolves_an_in_doubt_job_while_verify_runs(autojump_clock: MockClock) -> None:
    rig = make_rig("trio", verifies=True, attempt_timeout=5)
    hold = Blocker(Done("by verify"))
    rig.sdk.script("call", Blocker())
    rig.sdk.script("verify", hold)
    async with rig.open() as queue:
        receipt = await queue.submit("work", "a")
        await hold.reached_in_trio()
        await queue.resolve(receipt.job_id, "done", result="by hand")
        hold.release()
        assert await queue.result(receipt.job_id) == "by hand"
    assert queue.get(receipt.job_id).reason == "resolved"


async def test_attempt_numbers_go_on_and_no_attempt_is_lost(autojump_clock: MockClock) -> None:
    rig = make_rig("trio", retry=Retry(1, waits=[1]))
    rig.sdk.script("call", Busy(), Busy(), Snooze(1), Fail("no"), "at last")
    async with rig.open() as queue:
        receipt = await queue.submit("work", "a")
        for _ in range(2):
            await ended(queue, receipt.job_id)
            await queue.retry(receipt.job_id, even_if_acted=True)
        assert await queue.result(receipt.job_id) == "at last"
    job = queue.get(receipt.job_id)
    assert [a.number for a in job.attempts or ()] == [1, 2, 3, 4, 5]
    assert [a.run for a in job.attempts or ()] == [1, 1, 2, 2, 3]
    assert outcomes(job) == ["error", "error", "snooze", "fail", "completed"]


async def test_a_stuck_verify_is_an_event_of_the_queue_alone(
    mock_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """The job is in doubt already; what stands is the line."""
    rig = make_rig("trio", verifies=True, verify_timeout=5, stuck_after=5, attempt_timeout=5)
    rig.sdk.script("call", Blocker())
    rig.sdk.script("verify", lambda: linger(20, Done("found")))
    store = trio_jobs.MemoryStore()
    async with rig.open(store=store) as queue:
        receipt = await queue.submit("work", "a")
        await until_state(queue, receipt.job_id, "processing")
        for seconds in (5, 5, 1, 4, 5):
            await pass_time(mock_clock, seconds)
        assert queue.health().problems[:1] == ("stuck",)
        names = [type(event).__name__ for event in await store.events(0, 100)]
        assert names.count("Stuck") == 1
        assert "Overdue" not in names
        await pass_time(mock_clock, 30)
        await until_state(queue, receipt.job_id, "in_doubt")
    assert "verify did not answer within 5 s" in caplog.text


async def test_a_stuck_attempt_and_its_stuck_verify_are_reported_once_each(mock_clock: MockClock) -> None:
    rig = make_rig("thread", verifies=True, attempt_timeout=5, stuck_after=5, verify_timeout=5)
    call, verify = Blocker(Busy()), Blocker(Done("found"))
    rig.sdk.script("call", call)
    rig.sdk.script("verify", verify)
    store = trio_jobs.MemoryStore()
    async with rig.open(store=store) as queue:
        receipt = await queue.submit("work", "a")
        await call.reached()
        await pass_time(mock_clock, 10)
        assert queue.get(receipt.job_id).inside
        call.release()
        await verify.reached()
        await pass_time(mock_clock, 10)
        verify.release()
        await until(queue, receipt.job_id, lambda job: not job.inside)
        names = [type(event).__name__ for event in await store.events(0, 100)]
    assert names.count("Stuck") == 2


async def test_a_stop_before_the_verify_delay_ends_leaves_verify_unasked(mock_clock: MockClock) -> None:
    rig = make_rig("thread", verifies=True, verify_delay=100, settings={"drain_timeout": 1, "cancel_timeout": 1000})
    call = Blocker(Busy())
    rig.sdk.script("call", call)
    leaving, left = trio.Event(), trio.Event()

    async def life() -> None:
        async with rig.open() as queue:
            await queue.submit("work", "a")
            await call.reached()
            leaving.set()
        assert queue.report is not None
        assert [job.state for job in queue.report.unfinished] == [State.IN_DOUBT]
        left.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(life)
        await leaving.wait()
        await pass_time(mock_clock, 1)
        call.release()
        await left.wait()
    assert rig.sdk.count("verify") == 0
    rig.sdk.check()
