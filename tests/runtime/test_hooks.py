"""service.on: whoever must know is told of doubts, stuck calls and failures."""

from __future__ import annotations

import logging
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

import trio_jobs
from support.recording_sdk import RecordingSdk, RecordingThreadSdk, Wrong, work_service
from support.rig import open_queue, until_state
from trio_jobs import Done, Fail, Job, Retry, Service, Unknown
from trio_jobs.testing import Blocker


def limited_service(sdk: RecordingSdk, **rules: Any) -> Service:
    """Its attempts may take 2 seconds; a call whose name begins with "slow" takes 5."""
    rules = {"retry": Retry(0), "attempt_timeout": 2, **rules}
    return work_service(sdk, seconds=lambda what: 5 if what.startswith("slow") else 1, rules=rules, drain_timeout=0)


async def test_the_in_doubt_hook_runs_once_with_the_job_as_it_was(autojump_clock: MockClock) -> None:
    sdk, told = RecordingSdk(), list[Job]()
    service = limited_service(sdk)
    service.on("in_doubt", told.append)
    async with open_queue(service) as queue:
        receipt = await queue.submit("work", "slow")
        await until_state(queue, receipt.job_id, "in_doubt")
        await queue.resolve(receipt.job_id, "done")  # before it is the hooks' turn
        await trio.sleep(10)
    [job] = told
    assert isinstance(job, Job)
    assert (job.id, job.state, job.reason) == (receipt.job_id, "in_doubt", "timed_out")


async def test_the_in_doubt_hook_does_not_run_when_verify_resolves_the_job(autojump_clock: MockClock) -> None:
    told: list[Job] = []

    async def verify(sdk: RecordingSdk, job: trio_jobs.AsyncJobContext) -> Done:
        return Done()

    service = limited_service(RecordingSdk(), verify=verify)
    service.on("in_doubt", told.append)
    async with open_queue(service) as queue:
        await queue.result((await queue.submit("work", "slow")).job_id)
    assert told == []


async def test_the_in_doubt_hook_runs_when_verify_returns_unknown(autojump_clock: MockClock) -> None:
    told: list[Job] = []

    async def verify(sdk: RecordingSdk, job: trio_jobs.AsyncJobContext) -> Unknown:
        return Unknown()

    service = limited_service(RecordingSdk(), verify=verify)
    service.on("in_doubt", told.append)
    async with open_queue(service) as queue:
        await queue.submit("work", "slow")
        await trio.sleep(10)
    assert [job.state for job in told] == ["in_doubt"]


@pytest.mark.parametrize("on_doubt", ["retry", "fail"])
async def test_the_in_doubt_hook_does_not_run_when_on_doubt_resolves_the_job(
    on_doubt: str, autojump_clock: MockClock
) -> None:
    told: list[Job] = []
    service = limited_service(RecordingSdk(), on_doubt=on_doubt)
    service.on("in_doubt", told.append)
    async with open_queue(service) as queue:
        receipt = await queue.submit("work", "slow")
        await until_state(queue, receipt.job_id, "failed")
    assert told == []


async def test_the_failed_hook_gets_the_error(autojump_clock: MockClock) -> None:
    sdk, told = RecordingSdk(), list[Job]()
    sdk.fails("a", Wrong("no paper"))
    sdk.fails("b", Fail("no ink"))
    service = limited_service(sdk)
    service.on("failed", told.append)
    async with open_queue(service) as queue:
        for what in "abc":
            await queue.submit("work", what)
        await trio.sleep(10)
    assert [str(job.error) for job in told] == ["Wrong: no paper", "Fail: no ink"]


async def test_the_failed_hook_runs_for_an_expired_job_and_not_for_a_cancelled_one(autojump_clock: MockClock) -> None:
    told: list[Job] = []
    service = limited_service(RecordingSdk())
    service.on("failed", told.append)
    async with open_queue(service) as queue:
        await queue.pause()
        await queue.submit("work", "expires", deadline_after=3)
        cancelled = await queue.submit("work", "cancelled")
        await queue.cancel(cancelled.job_id)
        await trio.sleep(10)
    assert [job.reason for job in told] == ["expired"]


async def test_an_async_hook_is_awaited_and_hooks_run_in_order(autojump_clock: MockClock) -> None:
    sdk = RecordingSdk()
    sdk.fails("a", Fail("first"))
    sdk.fails("b", Fail("second"))
    told: list[tuple[float, str]] = []

    async def mail(job: Job) -> None:
        await trio.sleep(20)
        told.append((trio.current_time(), f"mail {job.error}"))

    service = limited_service(sdk)
    service.on("failed", mail)
    service.on("failed", lambda job: told.append((trio.current_time(), f"page {job.error}")))
    async with open_queue(service) as queue:
        await queue.submit("work", "a")
        await queue.submit("work", "b")
        await trio.sleep(100)
    assert told == [
        (21, "mail Fail: first"),
        (21, "page Fail: first"),
        (41, "mail Fail: second"),
        (41, "page Fail: second"),
    ]


async def test_a_slow_hook_delays_no_job(autojump_clock: MockClock) -> None:
    sdk = RecordingSdk()
    sdk.fails("a", Fail())
    service = limited_service(sdk)
    service.on("failed", lambda job: trio.sleep(25))
    async with open_queue(service) as queue:
        await queue.submit("work", "a")
        await queue.result((await queue.submit("work", "b")).job_id)
        assert trio.current_time() == 2


async def test_an_error_of_a_hook_is_logged_and_affects_neither_job_nor_other_hooks(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    sdk, told = RecordingSdk(), list[Job]()
    sdk.fails("a", Fail())

    def broken(job: Job) -> None:
        raise Wrong("the mail server is away")

    service = limited_service(sdk)
    service.on("failed", broken)
    service.on("failed", told.append)
    async with open_queue(service) as queue:
        receipt = await queue.submit("work", "a")
        assert await queue.result((await queue.submit("work", "b")).job_id) == "b"
        await wait_all_tasks_blocked()
        assert queue.get(receipt.job_id).state == "failed"
    assert len(told) == 1
    [record] = [record for record in caplog.records if record.name == "trio_jobs.hooks"]
    assert (record.levelno, record.getMessage()) == (logging.ERROR, "the hook for failed raised")


async def test_a_hook_that_does_not_return_is_cancelled_after_thirty_seconds(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    sdk, told = RecordingSdk(), list[float]()
    sdk.fails("a", Fail())
    service = limited_service(sdk)
    service.on("failed", lambda job: trio.sleep_forever())
    service.on("failed", lambda job: told.append(trio.current_time()))
    async with open_queue(service) as queue:
        await queue.submit("work", "a")
        await trio.sleep(100)
    assert told == [31]
    assert "the hook for failed did not return within 30 s" in caplog.text


async def test_a_stop_does_not_wait_for_a_hook(autojump_clock: MockClock) -> None:
    sdk = RecordingSdk()
    sdk.fails("a", Fail())
    service = limited_service(sdk)
    service.on("failed", lambda job: trio.sleep_forever())
    async with open_queue(service) as queue:
        await queue.submit("work", "a")
        await trio.sleep(2)
    assert trio.current_time() == 2


async def test_the_stuck_hook_runs_once(mock_clock: MockClock) -> None:
    sdk, hold, told = RecordingThreadSdk(), Blocker(), list[Any]()
    sdk.does("held", hold)
    service = Service(sdk=sdk.session)

    @service.handler(attempt_timeout=10, stuck_after=5, on_doubt="hold")
    def work(sdk: RecordingThreadSdk, what: str) -> str:
        return sdk.call(what)

    service.on("stuck", told.append)
    async with open_queue(service) as queue:
        receipt = await queue.submit(work, "held")
        await hold.reached()
        await wait_all_tasks_blocked()
        mock_clock.jump(10)
        await wait_all_tasks_blocked()
        assert told == []
        mock_clock.jump(5)
        await wait_all_tasks_blocked()
        mock_clock.jump(100)
        await wait_all_tasks_blocked()
        hold.release()
        assert await queue.result(receipt.job_id) == "held"
    assert [job.id for job in told] == [receipt.job_id]


async def test_a_job_in_doubt_after_an_abandoned_call_is_reported_at_the_next_start(
    mock_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    sdk, hold, told = RecordingThreadSdk(), Blocker(), list[Any]()
    sdk.does("held", hold)
    store = trio_jobs.MemoryStore()

    def service(sdk: RecordingThreadSdk) -> Service:
        made = Service(sdk=sdk.session, drain_timeout=0, cancel_timeout=0)

        @made.handler(on_doubt="hold")
        def work(sdk: RecordingThreadSdk, what: str) -> str:
            return sdk.call(what)

        made.on("in_doubt", lambda job: told.append((job.reason, job.inside)))
        return made

    async with open_queue(service(sdk), store=store) as queue:
        await queue.submit("work", "held")
        await hold.reached()
    hold.release()
    told.clear()
    caplog.clear()
    async with open_queue(service(RecordingThreadSdk()), store=store):
        await wait_all_tasks_blocked()
    assert told == [("crashed", False)]
    assert "is in doubt: crashed; it is not known what attempt 1 did" in caplog.text


def test_an_unknown_hook_is_refused() -> None:
    with pytest.raises(trio_jobs.UsageError, match="there is no hook 'completed'; the hooks are in_doubt, stuck"):
        Service().on("completed", print)  # type: ignore[arg-type]
