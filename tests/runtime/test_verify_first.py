"""verify_first: in memory, what an earlier process may have done is asked about before the first attempt."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from trio.testing import MockClock

import trio_jobs
from support.recording_sdk import RecordingSdk, Wrong
from support.rig import open_queue, outcomes, until_state
from trio_jobs import Done, InvalidHandler, NotDone, Retry, Service, Unknown


def verifying_service(sdk: RecordingSdk, *answers: Any, **rules: Any) -> Service:
    left = list(answers)
    service = sdk.service()

    async def verify(sdk: RecordingSdk, job: trio_jobs.AsyncJobContext) -> Any:
        await sdk.call(f"verify {job.key}")
        return left.pop(0)

    @service.handler(verify=verify, verify_first=True, retry=Retry(2, waits=[1]), **rules)
    async def work(sdk: RecordingSdk, what: str) -> str:
        return await sdk.call(what)

    return service


async def test_a_job_that_verify_first_calls_done_does_not_run(autojump_clock: MockClock) -> None:
    sdk = RecordingSdk()
    async with open_queue(verifying_service(sdk, Done("voucher 7"))) as queue:
        receipt = await queue.submit("work", "a", key="k")
        assert await queue.result(receipt.job_id) == "voucher 7"
        job = queue.get(receipt.job_id)
    assert sdk.calls == ["verify k"]
    assert (job.reason, outcomes(job), job.may_have_acted) == ("verified", ["already_done"], False)


async def test_a_job_that_verify_first_calls_not_done_runs(autojump_clock: MockClock) -> None:
    sdk = RecordingSdk()
    async with open_queue(verifying_service(sdk, NotDone())) as queue:
        receipt = await queue.submit("work", "a", key="k")
        assert await queue.result(receipt.job_id) == "a"
    assert sdk.calls == ["verify k", "a"]


async def test_a_job_that_verify_first_calls_unknown_is_in_doubt_before_it_runs(autojump_clock: MockClock) -> None:
    sdk = RecordingSdk()
    async with open_queue(verifying_service(sdk, Unknown())) as queue:
        receipt = await queue.submit("work", "a", key="k")
        job = await until_state(queue, receipt.job_id, "in_doubt")
    assert (job.reason, outcomes(job)) == ("unverified", ["unverified"])
    assert sdk.calls == ["verify k"]


async def test_on_doubt_retry_runs_the_job_without_an_answer(autojump_clock: MockClock) -> None:
    sdk = RecordingSdk()
    async with open_queue(verifying_service(sdk, Unknown(), on_doubt="retry")) as queue:
        receipt = await queue.submit("work", "a", key="k")
        assert await queue.result(receipt.job_id) == "a"


async def test_on_doubt_fail_ends_a_job_without_an_answer(autojump_clock: MockClock) -> None:
    sdk = RecordingSdk()
    async with open_queue(verifying_service(sdk, Unknown(), on_doubt="fail")) as queue:
        receipt = await queue.submit("work", "a", key="k")
        with pytest.raises(trio_jobs.JobFailed, match="may have acted"):
            await queue.result(receipt.job_id)
    assert sdk.calls == ["verify k"]


async def test_verify_first_is_asked_again_after_an_operator_s_not_done(autojump_clock: MockClock) -> None:
    sdk = RecordingSdk()
    async with open_queue(verifying_service(sdk, Unknown(), NotDone())) as queue:
        receipt = await queue.submit("work", "a", key="k")
        await until_state(queue, receipt.job_id, "in_doubt")
        await queue.resolve(receipt.job_id, "not_done")
        assert await queue.result(receipt.job_id) == "a"
    assert sdk.calls == ["verify k", "verify k", "a"]


async def test_verify_first_is_asked_before_a_retry(autojump_clock: MockClock) -> None:
    sdk = RecordingSdk()
    sdk.fails("a", Wrong())
    async with open_queue(verifying_service(sdk, NotDone(), NotDone(), NotDone())) as queue:
        receipt = await queue.submit("work", "a", key="k")
        assert await queue.result(receipt.job_id) == "a"
    assert sdk.calls == ["verify k", "a", "verify k", "verify k", "a"]


async def test_the_attempt_s_clock_starts_after_the_answer_of_verify_first(autojump_clock: MockClock) -> None:
    sdk = RecordingSdk()
    service = sdk.service()

    async def slow(sdk: RecordingSdk, job: trio_jobs.AsyncJobContext) -> NotDone:
        await trio.sleep(20)
        return NotDone()

    @service.handler(verify=slow, verify_first=True, attempt_timeout=5)
    async def work(sdk: RecordingSdk, what: str) -> str:
        return await sdk.call(what, 4)

    async with open_queue(service) as queue:
        assert await queue.result((await queue.submit(work, "a")).job_id) == "a"


async def test_verify_first_waits_for_verify_delay_after_an_earlier_process(autojump_clock: MockClock) -> None:
    sdk = RecordingSdk()
    async with open_queue(verifying_service(sdk, NotDone(), verify_delay=30)) as queue:
        await queue.result((await queue.submit("work", "a", key="k")).job_id)
    assert sdk.record[1:3] == [(30, "verify k"), (30, "a")]


async def test_verify_delay_counts_from_the_end_of_the_last_attempt(autojump_clock: MockClock) -> None:
    """Not once more from the start of the next: by then it has long settled."""
    sdk = RecordingSdk()
    sdk.fails("a", trio_jobs.RetryAfter(100))
    async with open_queue(verifying_service(sdk, NotDone(), NotDone(), verify_delay=30)) as queue:
        await queue.result((await queue.submit("work", "a", key="k")).job_id)
    assert sdk.record[1:-1] == [(30, "verify k"), (30, "a"), (130, "verify k"), (130, "a")]


@pytest.mark.parametrize(("answer", "state"), [(NotDone(), "cancelled"), (Done(), "completed")])
async def test_a_cancel_during_the_verify_delay_leaves_the_job_to_the_answer(
    answer: Any, state: str, autojump_clock: MockClock
) -> None:
    sdk = RecordingSdk()
    async with open_queue(verifying_service(sdk, answer, verify_delay=30)) as queue:
        receipt = await queue.submit("work", "a", key="k")
        await trio.sleep(5)
        assert await queue.cancel(receipt.job_id) == "requested"
        await until_state(queue, receipt.job_id, state)
        assert trio.current_time() == 30
    assert sdk.calls == ["verify k"]


def test_verify_first_without_verify_is_refused() -> None:
    with pytest.raises(InvalidHandler, match="verify_first=True needs verify="):

        @Service().handler(verify_first=True)
        def work(what: str) -> None: ...
