"""service.on: functions are called for what happens to jobs and sessions."""

from __future__ import annotations

import logging
from functools import partial
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

import trio_jobs
from support.recording_sdk import RecordingSdk, RecordingThreadSdk, Wrong, work_service
from support.rig import HostKind, make_rig, open_queue, pass_time, service_for, until_state
from trio_jobs import CloseFailure, Done, Fail, Job, Retry, Service, Unknown
from trio_jobs._runtime import hooks
from trio_jobs.testing import Blocker, FakeSdk, FakeSession


def limited_service(sdk: RecordingSdk, **rules: Any) -> Service:
    """Its attempts may take 2 seconds; a call whose name begins with "slow" takes 5."""
    rules = {"retry": Retry(0), "attempt_timeout": 2, **rules}
    return work_service(sdk, seconds=lambda what: 5 if what.startswith("slow") else 1, rules=rules, drain_timeout=0)


def note(told: list[Any], hook: str, job: Job) -> None:
    told.append((hook, job.key, job.state))


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
    assert (record.levelno, record.getMessage()) == (
        logging.ERROR,
        f"the hook for failed raised (job {receipt.job_id})",
    )
    assert (record.__dict__["job_id"], record.__dict__["kind"]) == (receipt.job_id, "work")


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
    assert "the hook for failed did not return within 30 s (job " in caplog.text


async def test_a_stop_waits_two_seconds_for_hooks(autojump_clock: MockClock, caplog: pytest.LogCaptureFixture) -> None:
    sdk = RecordingSdk()
    for what in "abc":
        sdk.fails(what, Fail())
    service = limited_service(sdk)
    service.on("failed", lambda job: trio.sleep_forever())
    async with open_queue(service) as queue:
        for what in "abc":
            await queue.submit("work", what)
        await trio.sleep(4)
    assert trio.current_time() == 6
    assert "a hook has not returned, and the stop does not wait for it; calls that wait: 2" in caplog.text


async def test_a_stop_makes_the_calls_that_wait(autojump_clock: MockClock) -> None:
    told: list[Any] = []

    async def mail(job: Job) -> None:
        await trio.sleep(0.1)
        told.append(job.key)

    service = limited_service(RecordingSdk())
    service.on("completed", mail)
    async with open_queue(service) as queue:
        for what in "abc":
            await queue.result((await queue.submit("work", what, key=what)).job_id)
    assert told == ["a", "b", "c"]


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


async def test_the_stuck_hook_runs_before_on_stuck_stop_has_ended_the_queue(mock_clock: MockClock) -> None:
    hold, told, gone = Blocker(), list[Any](), trio.Event()
    rig = make_rig("thread", attempt_timeout=10, stuck_after=5, settings={"on_stuck": "stop"})
    rig.sdk.script("call", hold)

    async def mail(job: Job) -> None:
        await trio.lowlevel.checkpoint()
        told.append(job.kind)

    rig.service.on("stuck", mail)

    async def life() -> None:
        with pytest.raises(trio_jobs.SdkCallStuck):
            async with rig.open() as queue:
                await queue.submit("work", "a")
                await trio.sleep_forever()
        gone.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(life)
        await hold.reached()
        for seconds in (10, 5):
            await pass_time(mock_clock, seconds)
        hold.release()
        await gone.wait()
    assert told == ["work"]


async def test_a_job_in_doubt_after_an_abandoned_call_is_reported_at_the_next_start(
    mock_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    sdk, hold, told = RecordingThreadSdk(), Blocker(), list[Any]()
    sdk.does("held", hold)
    store = trio_jobs.MemoryStore()

    def service(sdk: RecordingThreadSdk) -> Service:
        # the abandoned call would keep the seat, and this process is the next one too
        made = Service(sdk=sdk.session, drain_timeout=0, cancel_timeout=0, seat_lock=None)

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


async def test_each_final_state_has_a_hook_which_gets_the_job(autojump_clock: MockClock) -> None:
    sdk, told = RecordingSdk(), list[Any]()
    sdk.fails("b", Fail("no"))
    service = limited_service(sdk)
    hook: Any
    for hook in ("completed", "failed", "cancelled"):
        service.on(hook, partial(note, told, hook))
    async with open_queue(service) as queue:
        await queue.pause()
        jobs = [(await queue.submit("work", what, key=what)).job_id for what in "abc"]
        await queue.cancel(jobs[2])
        await queue.resume()
        await until_state(queue, jobs[1], "failed")
    assert told == [("cancelled", "c", "cancelled"), ("completed", "a", "completed"), ("failed", "b", "failed")]


async def test_hooks_are_called_in_the_order_of_the_events(mock_clock: MockClock) -> None:
    sdk, hold, told = RecordingThreadSdk(), Blocker(), list[Any]()
    sdk.does("held", hold)
    service = Service(sdk=sdk.session)

    @service.handler(attempt_timeout=10, stuck_after=5, on_doubt="hold")
    def work(sdk: RecordingThreadSdk, what: str) -> str:
        return sdk.call(what)

    hook: Any
    for hook in ("completed", "in_doubt", "stuck", "overdue"):  # in another order than they happen
        service.on(hook, partial(note, told, hook))
    async with open_queue(service) as queue:
        receipt = await queue.submit(work, "held")
        await hold.reached()
        await pass_time(mock_clock, 10)
        assert told == [("overdue", None, "processing")]
        await pass_time(mock_clock, 5)
        hold.release()
        await queue.result(receipt.job_id)
        await wait_all_tasks_blocked()
    assert told[1:] == [
        ("stuck", None, "in_doubt"),
        ("in_doubt", None, "in_doubt"),
        ("completed", None, "completed"),
    ]


async def test_a_verify_that_overruns_is_overdue_too(mock_clock: MockClock) -> None:
    hold, told = Blocker(Done()), list[Any]()
    rig = make_rig("thread", verifies=True, verify_timeout=5, stuck_after=7, settings={"renew_after_error": False})
    rig.sdk.script("call", Wrong())
    rig.sdk.script("verify", hold)
    rig.service.on("overdue", lambda job: told.append(f"overdue, {job.state}"))
    rig.service.on("stuck", lambda job: told.append(f"stuck, {job.state}"))
    async with rig.open() as queue:
        await queue.submit("work", "a")
        await hold.reached()
        await pass_time(mock_clock, 5)
        await pass_time(mock_clock, 7)
        hold.release()
    assert told == ["overdue, in_doubt", "stuck, in_doubt"]


async def test_p3_the_close_failed_hook_gets_the_jobs_whose_work_may_be_lost(
    kind: HostKind, clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    rig, told = make_rig(kind, settings={"renew_after_jobs": 2}), list[Any]()
    rig.sdk.script("close", None, OSError("saving failed"), OSError("again"))
    rig.service.on("completed", lambda job: told.append(job.key))
    rig.service.on("close_failed", told.append)
    async with rig.open() as queue:
        for n in range(6):
            await queue.result((await queue.submit("work", str(n), key=f"A-{n}")).job_id)
    *_, first, name, other, second = told  # the last close is that of the stop
    assert isinstance(first, CloseFailure)
    assert (name, other) == ("A-4", "A-5")
    assert (first.session, first.problem, first.omitted) == (2, "OSError: saving failed", 0)
    assert [(job.kind, job.key, str(job)) for job in first.jobs] == [("work", f"A-{n}", f"A-{n}") for n in (2, 3)]
    assert (second.session, [str(job) for job in second.jobs]) == (3, ["A-2", "A-3", "A-4", "A-5"])
    lines = [record.getMessage() for record in caplog.records if "failed: " in record.getMessage()]
    for failure, line in zip((first, second), lines, strict=True):  # the log names the same jobs
        assert line.endswith(f"lost: {len(failure.jobs)} ({', '.join(map(str, failure.jobs))})")


async def test_a_close_that_succeeds_calls_no_hook(kind: HostKind, clock: MockClock) -> None:
    rig, told = make_rig(kind, settings={"renew_after_jobs": 1}), list[Any]()
    rig.service.on("close_failed", told.append)
    async with rig.open() as queue:
        for what in "ab":
            await queue.result((await queue.submit("work", what, key=what)).job_id)
    assert told == []


async def test_many_completed_jobs_do_not_displace_the_call_for_a_failed_one(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    sdk, told = FakeSdk(), list[Any]()
    sdk.script("call", "first", Fail("no"))
    service = service_for(sdk, "trio")

    @service.handler(on_doubt="hold")
    async def work(session: FakeSession, n: int) -> Any:
        return await session.acall(str(n))

    held = trio.Event()

    async def completed(job: Job) -> None:
        await held.wait()
        told.append(f"completed {job.key}")

    service.on("completed", completed)
    service.on("failed", lambda job: told.append(f"failed {job.key}"))
    async with open_queue(service) as queue:
        first = await queue.submit(work, 1, key="1")
        await queue.result(first.job_id)
        await wait_all_tasks_blocked()  # the call for the first job is under way
        jobs = [await queue.submit(work, n, key=str(n)) for n in range(2, hooks.WAITING + 6)]
        await queue.result(jobs[-1].job_id)
        held.set()
        await wait_all_tasks_blocked()
    # the calls for jobs 3 to 5 were dropped
    assert told == ["completed 1", "failed 2", *(f"completed {n}" for n in range(6, hooks.WAITING + 6))]
    assert caplog.text.count("the hook for completed is too slow: more than 1000 calls wait") == 1


async def test_events_of_an_earlier_start_call_no_hook(autojump_clock: MockClock) -> None:
    store, told = trio_jobs.MemoryStore(), list[Any]()
    for _ in range(2):
        service = limited_service(RecordingSdk())
        service.on("completed", lambda job: told.append(job.key))
        async with open_queue(service, store=store) as queue:
            receipt = await queue.submit("work", "a", key="a")
            await queue.result(receipt.job_id)
    assert told == ["a"]


async def test_a_job_without_a_handler_has_hooks_too(autojump_clock: MockClock) -> None:
    store, told = trio_jobs.MemoryStore(), list[Any]()
    async with open_queue(limited_service(RecordingSdk()), store=store) as queue:
        await queue.pause()
        receipt = await queue.submit("work", "a", key="a")
    service = Service(unhandled_jobs="hold")
    service.on("cancelled", lambda job: told.append(f"{job.kind} {job.key}"))
    async with open_queue(service, store=store) as queue:
        await queue.cancel(receipt.job_id)
    assert told == ["work a"]
