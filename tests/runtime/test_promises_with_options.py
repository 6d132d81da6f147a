"""P1, P2, P3, P5 and P10 hold with each option on, and with all of them at once.

A day is a queue with a handful of jobs that succeed, fail, are snoozed, cut off and cancelled. The books check P1 (one
at a time), P2 (one thread) and one session at a time by themselves, as they are used; what is left is said below.
"""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise
from typing import Any

import attrs
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

import trio_jobs
from support.recording_sdk import RecordingSdk, RecordingThreadSdk, Wrong
from support.rig import open_queue
from trio_jobs import AsyncJobContext, EndedBy, JobContext, MemoryStore, NotDone, Outcome, Queue, Retry, Service, Snooze
from trio_jobs.testing import Blocker


@attrs.frozen
class Option:
    """settings of the service; whether somebody pauses and resumes; whether handlers work in steps."""

    name: str
    settings: dict[str, Any] = attrs.field(factory=dict)
    pauses: bool = False
    steps: bool = False


OPTIONS = [
    Option("plain"),
    Option("strict_order", {"strict_order": True}),
    Option("min_interval", {"min_interval": 2}),
    Option("renew_after_jobs", {"renew_after_jobs": 1}),
    Option("renew_after_idle", {"renew_after_idle": 3}),
    Option("pause", pauses=True),
    Option("steps", steps=True),
    Option(
        "everything",
        {"strict_order": True, "min_interval": 2, "renew_after_jobs": 2, "renew_after_idle": 3},
        pauses=True,
        steps=True,
    ),
]
each_option = pytest.mark.parametrize("option", OPTIONS, ids=lambda option: option.name)

WHATS = ("good", "fails", "snoozes", "retries", "slow", "cancelled", "good again")


def service_with(sdk: RecordingSdk, option: Option, **settings: Any) -> Service:
    service = sdk.service(**{**option.settings, **settings})

    async def verify(sdk: RecordingSdk, job: AsyncJobContext) -> NotDone:
        await sdk.call("verify")
        return NotDone()

    @service.handler(retry=Retry(2, waits=[3]), attempt_timeout=10, verify=verify)
    async def work(sdk: RecordingSdk, what: str, job: AsyncJobContext) -> str:
        async def act() -> str:
            return await sdk.call(what, 1000 if what == "slow" else 1)

        result: str = await job.step("act", act) if option.steps else await act()
        return result

    sdk.fails("fails", Wrong(), Wrong(), Wrong())
    sdk.fails("snoozes", Snooze(5))
    sdk.fails("retries", Wrong())
    return service


@asynccontextmanager
async def a_day(queue: Queue, option: Option) -> AsyncIterator[dict[str, str]]:
    """Jobs of all sorts have been submitted; while the block runs, the queue may be paused now and then."""

    async def pause_now_and_then() -> None:
        while True:
            await trio.sleep(7)
            await queue.pause()
            await trio.sleep(2)
            await queue.resume()

    async with trio.open_nursery() as nursery:
        ids = {what: (await queue.submit("work", what)).job_id for what in WHATS}
        ids["for later"] = (await queue.submit("work", "for later", delay=20)).job_id
        ids["expires"] = (await queue.submit("work", "expires", delay=0.5, deadline_after=0.75)).job_id
        await queue.cancel(ids["cancelled"])
        if option.pauses:
            nursery.start_soon(pause_now_and_then)
        yield ids
        nursery.cancel_scope.cancel()


def check_sessions(sdk: RecordingSdk | RecordingThreadSdk) -> None:
    """P3: each open has one close after it, and no call lies outside."""
    inside = False
    for _, what in sdk.record:
        if what == "open":
            assert not inside
            inside = True
        elif what == "close":
            assert inside
            inside = False
        else:
            assert inside, f"{what} outside of a session"
    assert not inside, "the last one is closed"


# P1, P3 and P5 in the loop


@each_option
async def test_p1_p3_p5_hold_on_a_day_of_all_kinds_of_jobs(option: Option, autojump_clock: MockClock) -> None:
    sdk = RecordingSdk()
    async with open_queue(service_with(sdk, option)) as queue, a_day(queue, option) as ids:
        for what, job_id in ids.items():
            if what not in ("fails", "slow", "cancelled", "expires"):
                assert await queue.result(job_id) == what
        for what in ("fails", "slow", "expires"):
            with pytest.raises(trio_jobs.JobFailed):
                await queue.result(ids[what])
    check_sessions(sdk)
    assert queue.report is not None
    assert queue.report.sdk_closed
    assert queue.report.unfinished == ()
    assert {what for what, job_id in ids.items() if queue.get(job_id).state == "cancelled"} == {"cancelled"}
    if option.name in ("min_interval", "everything"):
        starts = [at for at, what in sdk.record if what not in ("open", "close")]
        assert all(after - before >= 2 for before, after in pairwise(starts))


END = ["return", "error", "cancel"]


@each_option
@pytest.mark.parametrize("end", END)
@pytest.mark.parametrize("at", [0, 0.5, 4.25, 8.25, 12.5, 21])
async def test_p3_p5_hold_however_and_whenever_the_block_ends(
    end: str, at: float, option: Option, autojump_clock: MockClock
) -> None:
    """Every job is final or named in the report, and the session is closed; a next start can go on from there."""
    sdk, store = RecordingSdk(), MemoryStore()
    service = service_with(sdk, option, drain_timeout=0)
    ids: dict[str, str] = {}
    caught = None
    with trio.move_on_after(at if end == "cancel" else 1e6) as scope:
        try:
            async with open_queue(service, store=store) as queue:
                async with a_day(queue, option) as ids:
                    await (trio.sleep_forever() if end == "cancel" else trio.sleep(at))
                if end == "error":
                    raise Wrong("the owner's own")
        except Wrong as error:
            caught = error
    assert (caught is not None) == (end == "error")
    assert scope.cancelled_caught == (end == "cancel")
    if at == 0 and end == "cancel" and not ids:
        check_sessions(sdk)
        return
    check_sessions(sdk)
    assert queue.report is not None
    assert queue.report.sdk_closed
    left = {left.job_id for left in queue.report.unfinished}
    final = {job.id for job in queue.list() if job.is_final}
    assert left | final == set(ids.values())
    assert not left & final

    again = RecordingSdk()
    async with open_queue(service_with(again, option), store=store) as queue:
        await queue.resume()
        for job_id in ids.values():
            try:
                await queue.result(job_id)
            except (trio_jobs.JobFailed, trio_jobs.JobCancelled):
                assert queue.get(job_id).is_final
    check_sessions(again)
    assert queue.report is not None
    assert queue.report.unfinished == ()


# P10


@each_option
@pytest.mark.parametrize(
    ("attempt_timeout", "deadline_after", "stop_at", "ended_by", "outcome"),
    [
        (5, 10, None, EndedBy.ATTEMPT_TIMEOUT, Outcome.TIMED_OUT),
        (10, 5, None, EndedBy.DEADLINE, Outcome.EXPIRED),
        (10, 10, 5, EndedBy.STOP, Outcome.STOPPED),
    ],
    ids=["attempt", "job", "stop"],
)
async def test_p10_the_nearest_bound_ends_an_attempt_and_its_record_says_so(
    attempt_timeout: float,
    deadline_after: float,
    stop_at: float | None,
    ended_by: EndedBy,
    outcome: Outcome,
    option: Option,
    autojump_clock: MockClock,
) -> None:
    sdk = RecordingSdk()
    service = sdk.service(**{**option.settings, "drain_timeout": 0})

    @service.handler(attempt_timeout=attempt_timeout, on_doubt="hold")
    async def endless(sdk: RecordingSdk, what: str, job: AsyncJobContext) -> None:
        async def act() -> str:
            return await sdk.call(what, 1000)

        await (job.step("act", act) if option.steps else act())

    with trio.move_on_after(stop_at or 100):
        async with open_queue(service) as queue:
            receipt = await queue.submit(endless, "a", deadline_after=deadline_after)
            if option.pauses:
                await wait_all_tasks_blocked()
                await queue.pause()
            await trio.sleep_forever()
    [attempt] = queue.get(receipt.job_id).attempts or ()
    assert (attempt.ended_by, attempt.outcome) == (ended_by, outcome)
    assert attempt.ended_at is not None
    assert (attempt.ended_at - attempt.started_at).total_seconds() == 5
    check_sessions(sdk)


# P1, P2 and P3 on a thread


@pytest.mark.parametrize(
    "option",
    [
        attrs.evolve(option, settings={**option.settings, "min_interval": 0.002 * ("min_interval" in option.settings)})
        for option in OPTIONS
    ],
    ids=lambda option: option.name,
)
async def test_p1_p2_p3_hold_on_a_thread(option: Option) -> None:
    """In real time, with rests of two milliseconds and retries without a wait: threads are the point here."""
    sdk = RecordingThreadSdk()
    sdk.does("b", Wrong())
    sdk.does("d", trio_jobs.SessionLost())
    sdk.does("e", trio_jobs.Fail())
    service = Service(sdk=sdk.session, **option.settings)
    chance = random.Random(1)

    def verify(sdk: RecordingThreadSdk, job: JobContext) -> NotDone:
        sdk.call("verify")
        return NotDone()

    @service.handler(retry=Retry(2, waits=[0]), verify=verify)
    def plain(sdk: RecordingThreadSdk, what: str, job: JobContext) -> str:
        result: str = job.step("act", sdk.call, what) if option.steps else sdk.call(what)
        return result

    @service.handler(retry=Retry(2, waits=[0]), verify=verify)
    async def mixed(sdk: trio_jobs.SdkHandle, what: str, job: AsyncJobContext) -> str:
        for _ in range(2):
            await sdk.call(RecordingThreadSdk.call, "one of two")
        if option.steps:
            result = await job.step("act", sdk.call, RecordingThreadSdk.call, what)
        else:
            result = await sdk.call(RecordingThreadSdk.call, what)
        return str(result)

    async with service.open() as queue:
        receipts = [await queue.submit(chance.choice(["plain", "mixed"]), what) for what in "abcdefgh"]
        if option.pauses:
            await queue.pause()
            await queue.resume()
        for what, receipt in zip("abcdefgh", receipts, strict=True):
            if what == "e":
                with pytest.raises(trio_jobs.JobFailed):
                    await queue.result(receipt.job_id)
            else:
                assert await queue.result(receipt.job_id) == what
    check_sessions(sdk)
    assert len(sdk.threads) == 1
    assert queue.report is not None
    assert queue.report.sdk_closed


@each_option
async def test_p1_nothing_enters_while_a_call_that_outlived_its_limit_is_inside(
    option: Option, mock_clock: MockClock
) -> None:
    sdk, hold = RecordingThreadSdk(), Blocker()
    sdk.does("late", hold)
    service = Service(sdk=sdk.session, **option.settings)

    @service.handler(attempt_timeout=1, on_doubt="hold")
    def work(sdk: RecordingThreadSdk, what: str, job: JobContext) -> str:
        result: str = job.step("act", sdk.call, what) if option.steps else sdk.call(what)
        return result

    async with open_queue(service) as queue:
        late = await queue.submit(work, "late")
        second = await queue.submit(work, "second")
        await hold.reached()
        for _ in range(5):
            await wait_all_tasks_blocked()
            mock_clock.jump(50)
        if option.pauses:
            await queue.pause()
            await queue.resume()
        await wait_all_tasks_blocked()
        assert sdk.record == [(0, "open"), (0, "late")]
        hold.release()
        assert await queue.result(late.job_id) == "late"
        assert (queue.get(late.job_id).attempts or ())[0].late
        if "min_interval" in option.settings:
            await wait_all_tasks_blocked()
            mock_clock.jump(50)
        assert await queue.result(second.job_id) == "second"
    check_sessions(sdk)
