"""cancel_many and retry_many: what support people do to all jobs of a sort."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from support.recording_sdk import RecordingSdk, RecordingThreadSdk, Wrong, work_service
from support.rig import open_queue, until_state
from trio_jobs import Fail, Queue, QueueClosed, RetriedJobs, Retry, Service, State, UsageError
from trio_jobs._runtime.queue import runtime_of
from trio_jobs.testing import Blocker


class Odd(Exception):
    pass


def two_kinds(sdk: RecordingSdk, **settings: Any) -> Service:
    return work_service(sdk, kinds=("red", "blue"), rules={"retry": Retry(1, waits=[1000])}, **settings)


async def one_of_each(queue: Queue, sdk: RecordingSdk) -> dict[str, str]:
    """A job in each of these states, by the state's name; the queue is left paused."""
    sdk.fails("failed", Fail())
    sdk.fails("retrying", Wrong())
    names = ("completed", "failed", "retrying")
    ids = {name: (await queue.submit("red", name)).job_id for name in names}
    await trio.sleep(5)
    await queue.pause()
    for name in ("cancelled", "pending"):
        ids[name] = (await queue.submit("red", name)).job_id
    ids["scheduled"] = (await queue.submit("red", "scheduled", delay=5000)).job_id
    await queue.cancel(ids["cancelled"])
    assert all(queue.get(job_id).state == name for name, job_id in ids.items())
    return ids


async def test_cancel_many_cancels_all_that_can_be_cancelled(autojump_clock: MockClock) -> None:
    sdk = RecordingSdk()
    async with open_queue(two_kinds(sdk)) as queue:
        ids = await one_of_each(queue, sdk)
        done = await queue.cancel_many(by="Ada")
        assert sorted(done) == sorted([ids["scheduled"], ids["pending"], ids["retrying"]])
        assert {queue.get(job_id).state for job_id in done} == {State.CANCELLED}
        assert queue.get(ids["completed"]).state is State.COMPLETED
        assert queue.get(ids["failed"]).state is State.FAILED


@pytest.mark.parametrize("state", list(State))
async def test_cancel_many_filters_by_state(state: State, autojump_clock: MockClock) -> None:
    sdk = RecordingSdk()
    async with open_queue(two_kinds(sdk)) as queue:
        ids = await one_of_each(queue, sdk)
        expected = (ids[state],) if state in ("scheduled", "pending", "retrying") else ()
        assert await queue.cancel_many(state=state) == expected


async def test_cancel_many_requests_the_cancel_of_the_running_attempt_once(autojump_clock: MockClock) -> None:
    """Whoever calls again for more gets more, not the one that is still ending."""
    service = Service()
    may_end = trio.Event()

    @service.handler
    async def stubborn(what: str) -> None:
        with trio.CancelScope(shield=True):
            await may_end.wait()
        await trio.sleep(0)

    async with open_queue(service) as queue:
        first = await queue.submit(stubborn, "a")
        second = await queue.submit(stubborn, "b")
        await wait_all_tasks_blocked()
        told = [await queue.cancel_many(limit=1) for _ in range(3)]
        may_end.set()
        assert told == [(first.job_id,), (second.job_id,), ()]
        await until_state(queue, first.job_id, "cancelled")


async def test_cancel_many_leaves_in_doubt_jobs_alone(autojump_clock: MockClock) -> None:
    sdk = RecordingSdk()
    service = sdk.service()

    @service.handler(attempt_timeout=1, on_doubt="hold")
    async def work(sdk: RecordingSdk, what: str) -> None:
        await sdk.call(what, 5)

    async with open_queue(service) as queue:
        receipt = await queue.submit(work, "a")
        await until_state(queue, receipt.job_id, "in_doubt")
        assert await queue.cancel_many() == ()
        assert await queue.cancel_many(state="in_doubt") == ()
        assert queue.get(receipt.job_id).state is State.IN_DOUBT


async def test_retry_many_starts_a_new_run_of_each_failed_or_cancelled_job(autojump_clock: MockClock) -> None:
    sdk = RecordingSdk()
    async with open_queue(two_kinds(sdk)) as queue:
        ids = await one_of_each(queue, sdk)
        done = (await queue.retry_many(by="Ada")).retried
        assert done == (ids["failed"], ids["cancelled"])
        await queue.resume()
        for job_id in done:
            await queue.result(job_id)
            assert queue.get(job_id).run == 2


@pytest.mark.parametrize("state", list(State))
async def test_retry_many_filters_by_state(state: State, autojump_clock: MockClock) -> None:
    sdk = RecordingSdk()
    async with open_queue(two_kinds(sdk)) as queue:
        ids = await one_of_each(queue, sdk)
        expected = (ids[state],) if state in ("failed", "cancelled") else ()
        assert await queue.retry_many(state=state) == RetriedJobs(expected, ())


async def test_bulk_operations_filter_by_kind_error_age_and_all_of_them(autojump_clock: MockClock) -> None:
    sdk = RecordingSdk()
    async with open_queue(two_kinds(sdk)) as queue:
        ids = {}
        for at, (kind, error) in enumerate([("red", Fail()), ("blue", Fail()), ("red", Odd()), ("blue", Odd())]):
            name = f"{kind} {type(error).__name__}"
            sdk.fails(name, error, error)
            ids[name] = (await queue.submit(kind, name)).job_id
            await trio.sleep(10 if at < 3 else 1)
        await trio.sleep(2000)
        now = trio.current_time()
        assert [job.state for job in queue.list()] == ["failed"] * 4
        await queue.pause()

        async def found(**how: Any) -> set[str]:
            """Retried, and cancelled again, so that nothing has changed."""
            done = (await queue.retry_many(even_if_acted=True, **how)).retried
            await queue.cancel_many(state="pending")
            return {name for name, job_id in ids.items() if job_id in done}

        assert await found(error_type="Odd") == {"red Odd", "blue Odd"}
        assert await queue.retry_many(error_type="Nothing") == RetriedJobs((), ())
        assert await found(kind="red", older_than=now - 5) == {"red Fail"}
        assert await found(kind="blue") == {"blue Fail", "blue Odd"}
        assert await found(older_than=now - 10) == {"red Fail", "blue Fail"}
        assert await found(older_than=now + 1) == set()


async def test_a_retried_job_that_has_not_started_keeps_no_error_to_filter_by(autojump_clock: MockClock) -> None:
    sdk = RecordingSdk()
    sdk.fails("a", Fail())
    async with open_queue(two_kinds(sdk)) as queue:
        receipt = await queue.submit("red", "a")
        await until_state(queue, receipt.job_id, "failed")
        await queue.pause()
        assert await queue.retry_many(error_type="Fail") == RetriedJobs((receipt.job_id,), ())
        assert await queue.cancel_many(error_type="Fail") == ()


async def test_bulk_operations_take_the_oldest_jobs_first_and_the_next_call_takes_the_rest(
    autojump_clock: MockClock,
) -> None:
    async with open_queue(two_kinds(RecordingSdk())) as queue:
        await queue.pause()
        ids = [(await queue.submit("red", str(n), delay=100 if n % 2 else None)).job_id for n in range(10)]
        assert await queue.cancel_many(limit=3) == tuple(ids[:3])
        assert await queue.cancel_many(limit=3) == tuple(ids[3:6])
        assert await queue.cancel_many() == tuple(ids[6:])
        assert await queue.cancel_many() == ()


async def test_cancelled_jobs_leave_the_queue_and_free_their_slots(autojump_clock: MockClock) -> None:
    sdk = RecordingSdk()
    async with open_queue(two_kinds(sdk, buffer=3)) as queue:
        await queue.pause()
        for n in range(3):
            await queue.submit("red" if n else "blue", str(n))
        assert len(await queue.cancel_many(kind="red")) == 2
        assert queue.statistics().free == 2
        await queue.resume()
    assert sdk.calls == ["0"]


async def test_a_job_whose_call_is_inside_is_not_retried(mock_clock: MockClock) -> None:
    sdk, hold = RecordingThreadSdk(), Blocker()
    sdk.does("held", hold)
    service = Service(sdk=sdk.session)

    @service.handler(attempt_timeout=10, stuck_after=5, on_doubt="hold")
    def work(sdk: RecordingThreadSdk, what: str) -> str:
        return sdk.call(what)

    async with open_queue(service) as queue:
        receipt = await queue.submit(work, "held")
        await hold.reached()
        for seconds in (10, 5):
            await wait_all_tasks_blocked()
            mock_clock.jump(seconds)
        await wait_all_tasks_blocked()
        await queue.resolve(receipt.job_id, "failed")
        assert await queue.retry_many(even_if_acted=True) == RetriedJobs((), ())
        hold.release()
        await runtime_of(queue).slot.wait_empty()
        assert (await queue.retry_many(even_if_acted=True)).retried == (receipt.job_id,)
    assert sdk.calls == ["held", "held"]


@pytest.mark.parametrize("how", [{"limit": 0}, {"limit": 1001}, {"state": "nowhere"}, {"older_than": -1}], ids=str)
async def test_invalid_filters_are_refused(how: dict[str, Any], autojump_clock: MockClock) -> None:
    async with open_queue(two_kinds(RecordingSdk())) as queue:
        with pytest.raises(UsageError):
            await queue.cancel_many(**how)
        with pytest.raises(UsageError):
            await queue.retry_many(**how)


async def test_the_error_for_an_unknown_condition_names_the_nearest(autojump_clock: MockClock) -> None:
    unknown: dict[str, Any] = {"error_typ": "OSError"}
    async with open_queue(two_kinds(RecordingSdk())) as queue:
        with pytest.raises(UsageError, match="did you mean 'error_type'"):
            await queue.cancel_many(**unknown)


async def test_a_closed_queue_retries_nothing(autojump_clock: MockClock) -> None:
    async with open_queue(two_kinds(RecordingSdk())) as queue:
        await queue.drain()
        with pytest.raises(QueueClosed):
            await queue.retry_many()
