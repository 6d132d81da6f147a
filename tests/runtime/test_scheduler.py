"""Jobs for later, and jobs that are not to be done after a time."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import trio
from trio.testing import MockClock

import trio_jobs
from support.recording_sdk import RecordingSdk, Wrong, work_service
from support.rig import open_queue, outcomes, until_state
from trio_jobs import MemoryStore, Service, Snooze, State, TrioClock


def utc(seconds: float) -> datetime:
    """`seconds` after the test began."""
    return datetime.fromtimestamp(TrioClock().epoch + seconds, UTC)


def two_speeds(sdk: RecordingSdk, *, wait: float = 10, **settings: Any) -> Service:
    service = work_service(sdk, seconds=0, rules={"retry": trio_jobs.Retry(3, waits=[wait])}, **settings)

    @service.handler(on_doubt="hold")
    async def slow(sdk: RecordingSdk, what: str) -> str:
        return await sdk.call(what, 5)

    return service


# for later


@pytest.mark.parametrize("how", [{"delay": 5.25}, {"due_at": utc(5.25)}], ids=["delay", "due_at"])
async def test_a_job_for_later_is_scheduled_and_starts_when_it_is_due(
    how: dict[str, object], autojump_clock: MockClock
) -> None:
    sdk = RecordingSdk()
    async with open_queue(two_speeds(sdk)) as queue:
        receipt = await queue.submit("work", "a", **how)  # type: ignore[arg-type]
        assert (receipt.state, receipt.position, receipt.expected_wait) == (State.SCHEDULED, 0, None)
        assert queue.get(receipt.job_id).due_at == utc(5.25)
        assert await queue.result(receipt.job_id) == "a"
    assert (5.25, "a") in sdk.record


@pytest.mark.parametrize("how", [{"delay": 0}, {"due_at": utc(-1)}], ids=["delay", "due_at"])
async def test_a_due_time_in_the_past_means_now(how: dict[str, object], autojump_clock: MockClock) -> None:
    sdk = RecordingSdk()
    async with open_queue(two_speeds(sdk)) as queue:
        receipt = await queue.submit("work", "a", **how)  # type: ignore[arg-type]
        assert (receipt.state, receipt.position) == (State.PENDING, 1)


async def test_jobs_start_in_the_order_in_which_they_are_due(autojump_clock: MockClock) -> None:
    sdk = RecordingSdk()
    async with open_queue(two_speeds(sdk)) as queue:
        await queue.submit("slow", "now")
        receipts = [await queue.submit("work", str(at), delay=at) for at in (4, 2, 3, 1, 60)]
        for receipt in receipts:
            await queue.result(receipt.job_id)
    assert sdk.calls == ["now", "1", "2", "3", "4", "60"]


async def test_a_scheduled_job_takes_no_slot(autojump_clock: MockClock) -> None:
    sdk = RecordingSdk()
    async with open_queue(two_speeds(sdk, buffer=1)) as queue:
        for n in range(5):
            await queue.submit("work", str(n), delay=1)
        assert queue.statistics().free == 1
        await trio.sleep(1)
    assert sorted(sdk.calls) == ["0", "1", "2", "3", "4"]


async def test_a_drain_does_not_wait_for_a_scheduled_job(autojump_clock: MockClock) -> None:
    sdk = RecordingSdk()
    async with open_queue(two_speeds(sdk)) as queue:
        receipt = await queue.submit("work", "a", delay=5)
    assert trio.current_time() == 0
    assert queue.report is not None
    assert [left.job_id for left in queue.report.unfinished] == [receipt.job_id]


async def test_a_scheduled_job_is_due_at_the_same_time_after_a_restart(autojump_clock: MockClock) -> None:
    sdk, store = RecordingSdk(), MemoryStore()
    service = two_speeds(sdk)
    async with open_queue(service, store=store) as queue:
        receipt = await queue.submit("work", "a", delay=5)
        await trio.sleep(2)
    async with open_queue(service, store=store) as queue:
        await queue.result(receipt.job_id)
    assert (5, "a") in sdk.record


async def test_a_wait_for_a_far_date_is_sliced_and_ends_at_that_date(autojump_clock: MockClock) -> None:
    sdk = RecordingSdk()
    async with open_queue(two_speeds(sdk)) as queue:
        receipt = await queue.submit("work", "a", delay=86_400, deadline_after=2 * 86_400)
        assert await queue.result(receipt.job_id) == "a"
    assert (86_400, "a") in sdk.record


async def test_a_cancelled_job_does_not_start_when_it_is_due(autojump_clock: MockClock) -> None:
    sdk = RecordingSdk()
    async with open_queue(two_speeds(sdk)) as queue:
        receipt = await queue.submit("work", "a", delay=5)
        assert await queue.cancel(receipt.job_id) == "cancelled"
        await trio.sleep(10)
        assert queue.get(receipt.job_id).state is State.CANCELLED
    assert sdk.calls == []


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ({"delay": -1}, "delay must be a number of seconds"),
        ({"delay": float("nan")}, "delay must be a number of seconds"),
        ({"delay": 1, "due_at": utc(1)}, "give due_at or delay, not both"),
        ({"due_at": datetime(2030, 1, 1)}, "due_at must be an aware datetime"),
        ({"deadline_after": 1, "deadline_at": utc(1)}, "give deadline_at or deadline_after, not both"),
        ({"deadline_at": datetime(2030, 1, 1)}, "deadline_at must be an aware datetime"),
        ({"deadline_at": utc(-1)}, "the deadline must be in the future"),
        ({"deadline_after": 0}, "the deadline must be in the future"),
        (
            {"delay": 5, "deadline_after": 5},
            "the deadline must be in the future, and after the time at which the job is due",
        ),
    ],
)
async def test_invalid_times_are_refused_and_no_job_is_accepted(
    how: dict[str, object], says: str, autojump_clock: MockClock
) -> None:
    async with open_queue(two_speeds(RecordingSdk())) as queue:
        with pytest.raises(trio_jobs.UsageError, match=says):
            await queue.submit("work", "a", **how)  # type: ignore[arg-type]
        assert queue.list() == []


# snooze


async def test_a_snoozed_job_is_pending_again_after_its_seconds_and_uses_no_retry(autojump_clock: MockClock) -> None:
    sdk = RecordingSdk()
    sdk.fails("a", Snooze(7), Snooze(2))
    async with open_queue(two_speeds(sdk)) as queue:
        receipt = await queue.submit("work", "a")
        asleep = await until_state(queue, receipt.job_id, "scheduled")
        assert asleep.due_at == utc(7)
        assert not asleep.may_have_acted, "who snoozes vouches that nothing is half done"
        assert await queue.result(receipt.job_id) == "a"
        job = queue.get(receipt.job_id)
    assert [at for at, what in sdk.record if what == "a"] == [0, 7, 9]
    assert outcomes(job) == ["snooze", "snooze", "completed"]
    assert (job.retries_used, job.snoozes) == (0, 2)
    assert [attempt.number for attempt in job.attempts or ()] == [1, 2, 3]


async def test_other_jobs_pass_a_snoozed_job(autojump_clock: MockClock) -> None:
    sdk = RecordingSdk()
    sdk.fails("a", Snooze(7))
    async with open_queue(two_speeds(sdk)) as queue:
        first = await queue.submit("work", "a")
        await queue.submit("work", "b")
        await queue.result(first.job_id)
    assert sdk.calls == ["a", "b", "a"]


async def test_a_job_that_snoozes_more_than_a_thousand_times_fails(autojump_clock: MockClock) -> None:
    sdk = RecordingSdk()
    sdk.fails("a", *[Snooze(0) for _ in range(1001)])
    async with open_queue(two_speeds(sdk)) as queue:
        receipt = await queue.submit("work", "a")
        with pytest.raises(trio_jobs.JobFailed, match="too_many_snoozes"):
            await queue.result(receipt.job_id)
        assert queue.get(receipt.job_id).snoozes == 1000


# expiry


@pytest.mark.parametrize("how", [{"deadline_after": 3.5}, {"deadline_at": utc(3.5)}], ids=["after", "at"])
async def test_a_pending_job_expires_at_its_deadline_and_frees_its_slot(
    how: dict[str, object], autojump_clock: MockClock
) -> None:
    sdk = RecordingSdk()
    async with open_queue(two_speeds(sdk, buffer=1)) as queue:
        await queue.submit("slow", "first")
        await trio.sleep(0.25)
        doomed = await queue.submit("work", "doomed", **how)  # type: ignore[arg-type]
        await queue.submit("work", "next")  # waits for the place
        expired_at = trio.current_time()
        job = queue.get(doomed.job_id)
        assert (job.state, job.reason, job.may_have_acted) == (State.FAILED, "expired", False)
        with pytest.raises(trio_jobs.JobFailed, match="expired"):
            await queue.result(doomed.job_id)
    assert expired_at == (3.75 if "deadline_after" in how else 3.5)
    assert sdk.calls == ["first", "next"]


async def test_a_scheduled_job_that_is_snoozed_beyond_its_deadline_expires_at_the_deadline(
    autojump_clock: MockClock,
) -> None:
    sdk = RecordingSdk()
    sdk.fails("a", Snooze(100))
    async with open_queue(two_speeds(sdk)) as queue:
        receipt = await queue.submit("work", "a", delay=1, deadline_after=5)
        job = await until_state(queue, receipt.job_id, "failed")
        assert trio.current_time() == 5
    assert job.reason == "expired"
    assert sdk.calls == ["a"]


async def test_a_retrying_job_expires_at_its_deadline(autojump_clock: MockClock) -> None:
    sdk = RecordingSdk()
    sdk.fails("a", Wrong("first"))
    async with open_queue(two_speeds(sdk)) as queue:
        receipt = await queue.submit("work", "a", deadline_after=5)
        job = await until_state(queue, receipt.job_id, "failed")
        assert trio.current_time() == 5
    assert job.reason == "expired"
    assert job.error is not None
    assert job.error.type == "Wrong", "the last error is kept beside the reason"
    assert sdk.calls == ["a"]


@pytest.mark.parametrize("error", [Snooze(100), trio_jobs.RetryAfter(100)], ids=["snooze", "retry_after"])
async def test_a_job_whose_deadline_passed_in_its_attempt_is_not_retried(
    error: Exception, autojump_clock: MockClock
) -> None:
    """Its deadline was looked at while the attempt was under way; nobody would look again before it is due."""
    sdk = RecordingSdk()
    service = sdk.service()

    @service.handler(on_doubt="hold")
    async def stubborn(sdk: RecordingSdk, what: str) -> None:
        with trio.CancelScope(shield=True):
            await trio.sleep(5.5)
        raise error

    async with open_queue(service) as queue:
        receipt = await queue.submit(stubborn, "a", deadline_after=5)
        with pytest.raises(trio_jobs.JobFailed, match="expired"):
            await queue.result(receipt.job_id)
        assert trio.current_time() == 5.5


async def test_a_job_found_not_done_after_its_deadline_is_not_repeated(autojump_clock: MockClock) -> None:
    sdk = RecordingSdk()
    service = sdk.service()

    @service.handler(on_doubt="hold")
    async def endless(sdk: RecordingSdk, what: str) -> None:
        await sdk.call(what, 1000)

    async with open_queue(service) as queue:
        receipt = await queue.submit(endless, "a", deadline_after=5)
        await until_state(queue, receipt.job_id, "in_doubt")
        await queue.resolve(receipt.job_id, "not_done")
        with pytest.raises(trio_jobs.JobFailed, match="expired"):
            await queue.result(receipt.job_id)
    assert sdk.calls == ["a"]


async def test_an_expired_job_does_not_come_back_when_it_would_be_due(autojump_clock: MockClock) -> None:
    sdk = RecordingSdk()
    sdk.fails("a", Wrong())
    async with open_queue(two_speeds(sdk, wait=50)) as queue:
        receipt = await queue.submit("work", "a", deadline_after=5)
        await trio.sleep(100)
        assert outcomes(queue.get(receipt.job_id)) == ["error"]
    assert sdk.calls == ["a"]


async def test_a_deadline_is_kept_across_a_restart(autojump_clock: MockClock) -> None:
    sdk, store = RecordingSdk(), MemoryStore()
    service = two_speeds(sdk)
    async with open_queue(service, store=store) as queue:
        receipt = await queue.submit("work", "a", delay=9, deadline_after=10)
    await trio.sleep(20)
    async with open_queue(service, store=store) as queue:
        job = await until_state(queue, receipt.job_id, "failed")
    assert job.reason == "expired"
    assert sdk.calls == []


async def test_an_operator_s_retry_of_an_expired_job_has_no_deadline(autojump_clock: MockClock) -> None:
    sdk = RecordingSdk()
    sdk.fails("a", Wrong())
    async with open_queue(two_speeds(sdk)) as queue:
        receipt = await queue.submit("work", "a", deadline_after=5)
        await until_state(queue, receipt.job_id, "failed")
        await queue.retry(receipt.job_id, even_if_acted=True)
        assert await queue.result(receipt.job_id) == "a"
        assert queue.get(receipt.job_id).deadline_at is None


async def test_an_operator_s_retry_before_the_deadline_keeps_it(autojump_clock: MockClock) -> None:
    sdk = RecordingSdk()
    sdk.fails("a", trio_jobs.Fail(), Wrong())
    async with open_queue(two_speeds(sdk)) as queue:
        receipt = await queue.submit("work", "a", deadline_after=5)
        await until_state(queue, receipt.job_id, "failed")
        await queue.retry(receipt.job_id, even_if_acted=True)
        await until_state(queue, receipt.job_id, "retrying")
        job = await until_state(queue, receipt.job_id, "failed")
        assert trio.current_time() == 5
    assert (job.reason, job.deadline_at) == ("expired", utc(5))


async def test_a_job_waits_for_its_date_though_the_wall_clock_jumps(autojump_clock: MockClock) -> None:
    """A deadline is a date: after a jump of the wall clock it is met within a minute, not at the old moment."""

    class Jumping(TrioClock):
        offset = 0.0

        def now(self) -> float:
            return super().now() + self.offset

    sdk, clock = RecordingSdk(), Jumping()
    async with two_speeds(sdk).open(clock=clock) as queue:
        receipt = await queue.submit("work", "a", due_at=utc(7200), deadline_at=utc(7201))
        await trio.sleep(30)
        clock.offset = 10_000
        await until_state(queue, receipt.job_id, "failed")
        assert trio.current_time() <= 90


def test_the_test_helper_counts_from_the_clock_s_zero() -> None:
    assert utc(0) + timedelta(seconds=1) == utc(1)
