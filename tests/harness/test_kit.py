"""Rules of the tools for service tests: `open_queue`, `drain`, `assert_submitted`, `perform` and `FakeSdk`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs
import pytest
import trio
from trio.testing import MockClock

import trio_jobs
from support.rig import declared
from trio_jobs import AsyncJobContext, JobContext, Outcome, Service, State
from trio_jobs.testing import (
    Blocker,
    FakeSdk,
    FakeSession,
    Slow,
    assert_submitted,
    drain,
    open_queue,
    perform,
)


@attrs.frozen
class Order:
    n: int


def plain(sdk: FakeSdk, **rules: Any) -> Service:
    """A service with the SDK on a thread."""
    service = Service(sdk=sdk.session)

    @service.handler(**declared(rules))
    def post(session: FakeSession, order: Order, job: JobContext) -> Any:
        return job.step("call", session.call, f"order {order.n}")

    return service


def asynchronous(sdk: FakeSdk, **rules: Any) -> Service:
    """A service with the SDK in Trio."""
    service = Service(async_sdk=sdk.async_session)

    @service.handler(**declared(rules))
    async def post(session: FakeSession, order: Order, job: AsyncJobContext) -> Any:
        return await job.step("call", session.acall, f"order {order.n}")

    return service


BOTH = pytest.mark.parametrize("make", [plain, asynchronous], ids=["thread", "trio"])
pytestmark = pytest.mark.filterwarnings("error")


@BOTH
@pytest.mark.parametrize("durable", [False, True], ids=["memory", "journal"])
async def test_hours_of_virtual_time_pass_at_once_with_each_executor_and_store(
    make: Any, durable: bool, tmp_path: Path, autojump_clock: MockClock
) -> None:
    sdk = FakeSdk()
    sdk.script("call", OSError("busy"), Slow(7200, "slow"), "third")
    service = make(sdk, idempotent=True, retry=trio_jobs.Retry(3, first=300))
    async with open_queue(service, autojump_clock, journal=tmp_path / "jobs.db" if durable else None) as queue:
        receipts = [await queue.submit("post", Order(n), delay=600.0 * n) for n in range(3)]
        jobs = await drain(queue)
        assert [jobs[r.job_id].state for r in receipts] == [State.COMPLETED] * 3
        assert trio.current_time() >= 7500, "order 0 fails, waits for 300 s and then takes two hours"
    sdk.check()


@BOTH
async def test_a_thread_that_is_slow_in_real_time_does_not_time_out(make: Any, autojump_clock: MockClock) -> None:
    """The limit is 0.1 ms of virtual time, whatever the thread takes in real time."""
    sdk = FakeSdk()
    async with open_queue(make(sdk, attempt_timeout=0.0001)) as queue:
        for n in range(50):
            await queue.submit("post", Order(n))
        assert all(job.state is State.COMPLETED for job in (await drain(queue)).values())


@BOTH
async def test_a_call_that_takes_longer_than_its_limit_is_late(make: Any, autojump_clock: MockClock) -> None:
    sdk = FakeSdk()
    sdk.script("call", Slow(8, "late"))
    async with open_queue(make(sdk, attempt_timeout=5)) as queue:
        receipt = await queue.submit("post", Order(1))
        jobs = await drain(queue)
    [attempt] = jobs[receipt.job_id].attempts or ()
    if make is plain:
        assert (attempt.outcome, attempt.late) == (Outcome.COMPLETED, True)
        assert trio.current_time() >= 8
    else:
        assert attempt.outcome is Outcome.TIMED_OUT


async def test_virtual_time_passes_while_a_call_is_blocked_on_its_thread(autojump_clock: MockClock) -> None:
    sdk = FakeSdk()
    blocker = Blocker("at last")
    sdk.script("call", blocker)
    async with open_queue(plain(sdk, attempt_timeout=5)) as queue:
        receipt = await queue.submit("post", Order(1))
        await blocker.reached()
        await trio.sleep(100)
        assert queue.health().problems == ("stuck",)
        blocker.release()
        jobs = await drain(queue)
        assert await queue.result(receipt.job_id) == "at last"
    assert (jobs[receipt.job_id].attempts or ())[0].late


@BOTH
async def test_a_blocked_call_does_not_keep_the_queue_open(make: Any, autojump_clock: MockClock) -> None:
    sdk = FakeSdk()
    blocker = Blocker()
    sdk.at("call", 2, blocker)
    async with open_queue(make(sdk), drain_timeout=5.0, cancel_timeout=5.0, close_timeout=5.0) as queue:
        await queue.submit("post", Order(1))
        await queue.submit("post", Order(2))
    blocker.release()
    assert queue.report is not None
    [left] = queue.report.unfinished
    assert left.state is State.IN_DOUBT
    assert queue.report.sdk_closed is (make is asynchronous)


async def test_at_sets_the_item_of_one_operation_by_its_number(autojump_clock: MockClock) -> None:
    sdk = FakeSdk()
    sdk.at("call", 2, "the second")
    sdk.script("call", "the first", "the third")
    async with open_queue(asynchronous(sdk)) as queue:
        ids = [(await queue.submit("post", Order(n))).job_id for n in range(3)]
        assert [await queue.result(job_id) for job_id in ids] == ["the first", "the second", "the third"]
    with pytest.raises(AssertionError, match="call number 3 has already happened"):
        sdk.at("call", 3, "too late")


async def test_a_lost_session_is_replaced(autojump_clock: MockClock) -> None:
    sdk = FakeSdk()
    sdk.script("call", trio_jobs.SessionLost("gone"), "again")
    async with open_queue(plain(sdk, idempotent=True)) as queue:
        receipt = await queue.submit("post", Order(1))
        assert await queue.result(receipt.job_id) == "again"
    assert sdk.count("open") == sdk.count("close") == 2
    sdk.check()


def test_open_queue_in_real_time_raises_and_says_what_to_use() -> None:
    async def main() -> None:
        async with open_queue(plain(FakeSdk())):
            pass

    with pytest.raises(trio_jobs.UsageError, match="autojump_clock"):
        trio.run(main)


def test_open_queue_works_without_pytest_trio() -> None:
    async def main() -> None:
        async with open_queue(plain(FakeSdk())) as queue:
            await queue.submit("post", Order(1), delay=3600)
            [job] = (await drain(queue)).values()
            assert job.state is State.COMPLETED

    trio.run(main, clock=MockClock(autojump_threshold=0))


async def test_drain_leaves_the_queue_open_and_jobs_in_doubt_as_they_are(autojump_clock: MockClock) -> None:
    sdk = FakeSdk()
    sdk.script("call", Slow(10))
    async with open_queue(asynchronous(sdk, attempt_timeout=1)) as queue:
        first = await queue.submit("post", Order(1))
        assert (await drain(queue))[first.job_id].state is State.IN_DOUBT
        second = await queue.submit("post", Order(2))
        assert (await drain(queue))[second.job_id].state is State.COMPLETED


async def test_drain_of_a_paused_queue_raises(autojump_clock: MockClock) -> None:
    async with open_queue(asynchronous(FakeSdk())) as queue:
        await queue.pause("lunch")
        await queue.submit("post", Order(1))
        with pytest.raises(AssertionError, match="is paused"):
            await drain(queue)
        await queue.resume()
        await drain(queue)


async def test_assert_submitted_finds_jobs_by_payload_predicate_and_key(autojump_clock: MockClock) -> None:
    async with open_queue(asynchronous(FakeSdk())) as queue:
        await queue.submit("post", Order(1), key="a")
        await queue.submit("post", Order(2))
        assert len(assert_submitted(queue, "post")) == 2
        assert assert_submitted(queue, "post", Order(2))[0].key is None
        assert assert_submitted(queue, "post", lambda order: order.n < 2)[0].key == "a"
        assert assert_submitted(queue, "post", key="a")[0].key == "a"
        assert assert_submitted(queue, "post", Order(9), times=0) == ()
        with pytest.raises(AssertionError, match=r"with payload Order\(n=3\), found 0(?s:.)*Order\(n=1\)\) key='a'"):
            assert_submitted(queue, "post", Order(3))
        with pytest.raises(AssertionError, match=r"2 jobs .* found 1"):
            assert_submitted(queue, "post", Order(1), times=2)
        with pytest.raises(trio_jobs.UnknownKind):
            assert_submitted(queue, "other")


@BOTH
async def test_perform_runs_one_attempt_and_reports_its_result(make: Any, autojump_clock: MockClock) -> None:
    sdk = FakeSdk()
    service = make(sdk)
    done = await perform(service, "post", Order(1), key="a")
    assert (done.outcome, done.result, done.raised, done.entered) == (Outcome.COMPLETED, "order 1", None, True)
    assert done.steps == ("call",)
    assert done.job.key == "a"
    error = OSError("busy")
    sdk.script("call", error)
    failed = await perform(service, "post", Order(1))
    assert failed.outcome is Outcome.ERROR
    assert failed.raised is error
    assert failed.error is not None
    assert failed.error.message == "busy"
    assert sdk.count("call") == 2, "there is no retry"
    sdk.script("call", trio_jobs.Snooze(60))
    assert (await perform(service, "post", Order(1))).outcome is Outcome.SNOOZE
    sdk.script("call", trio_jobs.RetryAfter(0))
    assert (await perform(service, "post", Order(1))).outcome is Outcome.RETRY_AFTER
    with pytest.raises(trio_jobs.InvalidPayload):
        await perform(service, "post", "no order")
    with pytest.raises(trio_jobs.UsageError, match="no handler 'other'"):
        await perform(service, "other", Order(1))
    sdk.check()


def test_perform_works_in_real_time_too() -> None:
    async def main() -> None:
        assert (await perform(plain(FakeSdk()), "post", Order(1))).result == "order 1"

    trio.run(main)


def test_a_session_that_is_dropped_while_the_sdk_is_checked_is_found() -> None:
    class Collecting(list[Any]):
        def __iter__(self) -> Any:
            managers.clear()
            return super().__iter__()

    sdk = FakeSdk()
    managers = [sdk.session()]
    managers[0].__enter__()
    sdk.steps = Collecting(sdk.steps)
    with pytest.raises(AssertionError, match="without being closed"):
        sdk.check()
