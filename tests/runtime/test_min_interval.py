"""min_interval: a rest from the end of one call into the SDK to the start of the next, whoever makes them."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

import trio_jobs
from support.recording_sdk import RecordingSdk, RecordingThreadSdk, Wrong, work_service
from support.rig import open_queue, outcomes
from trio_jobs import Done, MemoryStore, NotDone, Retry, SdkHandle, Service, State

REST = 4
AT_ONCE = Retry(3, waits=[0])


def resting_service(sdk: RecordingSdk, *, retry: Retry = AT_ONCE, **rules: Any) -> Service:
    return work_service(sdk, rules={"retry": retry, **rules}, min_interval=REST)


def gaps(sdk: RecordingSdk, seconds: float = 1) -> list[float]:
    """From the end of each call, which took `seconds`, to the start of the next."""
    starts = [at for at, what in sdk.record if what not in ("open", "close")]
    return [after - before - seconds for before, after in pairwise(starts)]


async def test_min_interval_passes_between_two_jobs(autojump_clock: MockClock) -> None:
    sdk = RecordingSdk()
    async with open_queue(resting_service(sdk)) as queue:
        for what in "abc":
            await queue.submit("work", what)
    assert sdk.calls == ["a", "b", "c"]
    assert gaps(sdk) == [REST, REST]


async def test_the_first_call_does_not_wait_for_min_interval(autojump_clock: MockClock) -> None:
    sdk = RecordingSdk()
    async with open_queue(resting_service(sdk)) as queue:
        await queue.submit("work", "a")
    assert (0, "a") in sdk.record


async def test_a_job_submitted_after_min_interval_starts_at_once(autojump_clock: MockClock) -> None:
    sdk = RecordingSdk()
    async with open_queue(resting_service(sdk)) as queue:
        await queue.submit("work", "a")
        await trio.sleep(20)
        await queue.submit("work", "b")
    assert (20, "b") in sdk.record


async def test_min_interval_passes_after_a_failed_call(autojump_clock: MockClock) -> None:
    sdk = RecordingSdk()
    sdk.fails("a", Wrong())
    async with open_queue(resting_service(sdk)) as queue:
        await queue.submit("work", "a")
    assert sdk.calls == ["a", "a"]
    assert gaps(sdk) == [REST]


async def test_the_attempt_s_clock_starts_after_min_interval(autojump_clock: MockClock) -> None:
    sdk = RecordingSdk()
    async with open_queue(resting_service(sdk, attempt_timeout=1.5)) as queue:
        for what in "abc":
            await queue.submit("work", what)
    assert [outcomes(job) for job in queue.list()] == [["completed"]] * 3


async def test_min_interval_passes_before_and_after_a_verify(autojump_clock: MockClock) -> None:
    sdk = RecordingSdk()
    sdk.fails("a", Wrong())

    async def verify(sdk: RecordingSdk, job: trio_jobs.AsyncJobContext) -> NotDone:
        await sdk.call("verify", 1)
        return NotDone()

    async with open_queue(resting_service(sdk, verify=verify)) as queue:
        await queue.submit("work", "a")
        await queue.submit("work", "b")
    assert sdk.calls[:2] == ["a", "verify"]
    assert sorted(sdk.calls) == ["a", "a", "b", "verify"]
    assert gaps(sdk) == [REST, REST, REST]


async def test_min_interval_passes_between_verify_first_and_its_handler(autojump_clock: MockClock) -> None:
    """And the attempt's clock starts after it."""
    sdk = RecordingSdk()

    async def verify(sdk: RecordingSdk, job: trio_jobs.AsyncJobContext) -> NotDone:
        await sdk.call("verify", 1)
        return NotDone()

    service = resting_service(sdk, verify=verify, verify_first=True, attempt_timeout=1.5)
    async with open_queue(service) as queue:
        receipt = await queue.submit("work", "a")
        assert await queue.result(receipt.job_id) == "a"
    assert sdk.calls == ["verify", "a"]
    assert gaps(sdk) == [REST]
    assert outcomes(queue.get(receipt.job_id)) == ["completed"]


async def test_min_interval_passes_before_the_verify_of_an_in_doubt_job(autojump_clock: MockClock) -> None:
    sdk = RecordingSdk()

    async def verify(sdk: RecordingSdk, job: trio_jobs.AsyncJobContext) -> Done:
        await sdk.call("verify", 0.5)
        return Done()

    async with open_queue(resting_service(sdk, verify=verify, attempt_timeout=0.5)) as queue:
        receipt = await queue.submit("work", "a")
        await queue.result(receipt.job_id)
    assert sdk.record[1:-1] == [(0, "a"), (0.5, "close"), (0.5, "open"), (0.5 + REST, "verify")]


async def test_a_cancel_during_min_interval_before_a_verify_is_refused(
    autojump_clock: MockClock,
) -> None:
    sdk = RecordingSdk()
    sdk.fails("a", Wrong())

    async def verify(sdk: RecordingSdk, job: trio_jobs.AsyncJobContext) -> NotDone:
        await sdk.call("verify", 1)
        return NotDone()

    async with open_queue(resting_service(sdk, verify=verify)) as queue:
        receipt = await queue.submit("work", "a")
        await trio.sleep(2)
        with pytest.raises(trio_jobs.InvalidState, match="use resolve"):
            await queue.cancel(receipt.job_id)
        assert await queue.result(receipt.job_id) == "a"
    assert sdk.calls == ["a", "verify", "a"]
    assert gaps(sdk) == [REST, REST]


async def test_a_stop_does_not_wait_min_interval_for_a_verify_and_the_next_start_asks_it(
    autojump_clock: MockClock,
) -> None:
    sdk, store = RecordingSdk(), MemoryStore()
    sdk.fails("a", Wrong())

    async def verify(sdk: RecordingSdk, job: trio_jobs.AsyncJobContext) -> Done:
        await sdk.call("verify", 1)
        return Done("found")

    service = sdk.service(min_interval=1000, drain_timeout=0)

    @service.handler(verify=verify, on_doubt="fail")
    async def work(sdk: RecordingSdk, what: str) -> str:
        return await sdk.call(what, 1)

    async with open_queue(service, store=store) as queue:
        receipt = await queue.submit("work", "a")
        await trio.sleep(2)
    assert trio.current_time() == 2
    assert queue.get(receipt.job_id).state is State.IN_DOUBT
    async with open_queue(service, store=store) as queue:
        assert await queue.result(receipt.job_id) == "found"
    assert sdk.calls == ["a", "verify"]


async def test_min_interval_passes_across_a_new_session(autojump_clock: MockClock) -> None:
    sdk = RecordingSdk()
    service = sdk.service(min_interval=REST, renew_after_jobs=1)

    @service.handler(on_doubt="hold")
    async def work(sdk: RecordingSdk, what: str) -> str:
        return await sdk.call(what, 1)

    async with open_queue(service) as queue:
        for what in "ab":
            await queue.submit("work", what)
    assert gaps(sdk) == [REST]
    assert (1, "close") in sdk.record, "the new session is opened while it rests"


async def test_a_pause_during_min_interval_stops_the_next_start(autojump_clock: MockClock) -> None:
    sdk = RecordingSdk()
    async with open_queue(resting_service(sdk)) as queue:
        await queue.submit("work", "a")
        await queue.submit("work", "b")
        await trio.sleep(2)
        await queue.pause()
        await trio.sleep(50)
        assert sdk.calls == ["a"]
        await queue.resume()
    assert (52, "b") in sdk.record


# on a thread: time stands still until the test moves it


async def test_min_interval_passes_between_the_calls_of_an_async_handler(mock_clock: MockClock) -> None:
    sdk = RecordingThreadSdk(mock_clock.current_time)
    service = Service(sdk=sdk.session, min_interval=REST)
    about_to_call = [trio.Event() for _ in range(3)]

    @service.handler(on_doubt="hold")
    async def work(sdk: SdkHandle, what: str) -> None:
        for n, event in enumerate(about_to_call):
            event.set()
            await sdk.call(RecordingThreadSdk.call, f"{what}{n}")

    async with open_queue(service) as queue:
        receipt = await queue.submit(work, "a")
        for n in (1, 2):
            await about_to_call[n].wait()
            await wait_all_tasks_blocked()
            assert sdk.calls == [f"a{i}" for i in range(n)], "it rests"
            mock_clock.jump(REST)
        await queue.result(receipt.job_id)
    assert [at for at, _ in sdk.record[1:-1]] == [0, REST, 2 * REST]


async def test_min_interval_passes_between_the_calls_of_an_async_verify(mock_clock: MockClock) -> None:
    sdk = RecordingThreadSdk(mock_clock.current_time)
    service = Service(sdk=sdk.session, min_interval=REST)
    came_to = {"second call": trio.Event(), "end": trio.Event()}

    async def verify(sdk: SdkHandle, job: trio_jobs.AsyncJobContext) -> NotDone:
        await sdk.call(RecordingThreadSdk.call, "verify 1")
        came_to["second call"].set()
        await sdk.call(RecordingThreadSdk.call, "verify 2")
        came_to["end"].set()
        return NotDone()

    @service.handler(verify=verify, verify_first=True)
    async def work(sdk: SdkHandle, what: str) -> None:
        await sdk.call(RecordingThreadSdk.call, what)

    async with open_queue(service) as queue:
        receipt = await queue.submit(work, "a")
        for event in came_to.values():
            await event.wait()
            await wait_all_tasks_blocked()
            mock_clock.jump(REST)
        await queue.result(receipt.job_id)
    assert sdk.record[1:-1] == [(0, "verify 1"), (REST, "verify 2"), (2 * REST, "a")]


async def test_min_interval_passes_between_plain_handlers(mock_clock: MockClock) -> None:
    sdk = RecordingThreadSdk(mock_clock.current_time)
    service = Service(sdk=sdk.session, min_interval=REST)

    @service.handler(on_doubt="hold")
    def work(sdk: RecordingThreadSdk, what: str) -> str:
        return sdk.call(what)

    async with open_queue(service) as queue:
        first = await queue.submit(work, "a")
        second = await queue.submit(work, "b")
        await queue.result(first.job_id)
        await wait_all_tasks_blocked()
        assert sdk.calls == ["a"]
        mock_clock.jump(REST)
        await queue.result(second.job_id)
    assert [at for at, _ in sdk.record[1:-1]] == [0, REST]


@pytest.mark.parametrize("value", [-1, float("nan"), "1", True])
def test_an_invalid_min_interval_is_refused(value: Any) -> None:
    with pytest.raises(trio_jobs.UsageError, match="min_interval"):
        Service(min_interval=value)
