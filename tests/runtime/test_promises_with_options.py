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
from support.process_rig import IN_A_PROCESS, lose_sessions, make_service, serve
from support.recording_sdk import RecordingSdk, RecordingThreadSdk, Wrong
from support.rig import IN_PROCESS, HostKind
from support.rig import open_jumping_queue as open_queue
from support.served_sdk import open_served_session
from trio_jobs import AsyncJobContext, EndedBy, JobContext, MemoryStore, NotDone, Outcome, Queue, Retry, Service, Snooze
from trio_jobs._executors.process_child import STACK_WAIT
from trio_jobs._runtime.overrun_monitor import KILL_GRACE
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
not_on_a_thread = pytest.mark.parametrize("kind", ["trio", *IN_PROCESS], indirect=True)
each_option = pytest.mark.parametrize("option", OPTIONS, ids=lambda option: option.name)

WHATS = ("good", "fails", "snoozes", "retries", "slow", "cancelled", "good again")


RULES: dict[str, Any] = {"retry": Retry(2, waits=[3]), "attempt_timeout": 10}


def failures() -> dict[str, list[BaseException]]:
    """What is raised, anew for each day: the traceback of an exception that is raised again becomes longer."""
    return {"fails": [Wrong(), Wrong(), Wrong()], "snoozes": [Snooze(5)], "retries": [Wrong()]}


@attrs.define
class Day:
    """An SDK and its service, whose handler "work" makes a call by the name of its payload."""

    sdk: RecordingSdk | RecordingThreadSdk
    service: Service
    hangs: list[Blocker] = attrs.field(factory=list)
    """What blocks the call "slow" in another process. In the loop it takes 1000 s, and each other call 1 s."""

    def end(self) -> None:
        """Called in Trio, when the queue has stopped."""
        lose_sessions()
        for hang in self.hangs:
            hang.release()


def make_day(kind: HostKind, option: Option, clock: MockClock, **settings: Any) -> Day:
    settings = {**option.settings, **settings}
    if kind == "trio":
        return day_in_the_loop(option, settings)
    sdk = RecordingThreadSdk(clock.current_time)
    for what, errors in failures().items():
        sdk.does(what, *errors)
    hangs = [Blocker() for _ in range(3)]
    sdk.does("slow", *hangs)
    serve(sdk.session, sdk.lose)
    return Day(sdk, make_service(process_service, "work", RULES, True, option.steps, settings), hangs)


def day_in_the_loop(option: Option, settings: dict[str, Any]) -> Day:
    sdk = RecordingSdk()
    service = sdk.service(**settings)

    async def verify(sdk: RecordingSdk, job: AsyncJobContext) -> NotDone:
        await sdk.call("verify")
        return NotDone()

    @service.handler(verify=verify, **RULES)
    async def work(sdk: RecordingSdk, what: str, job: AsyncJobContext) -> str:
        async def act() -> str:
            return await sdk.call(what, 1000 if what == "slow" else 1)

        result: str = await job.step("act", act) if option.steps else await act()
        return result

    for what, errors in failures().items():
        sdk.fails(what, *errors)
    return Day(sdk, service)


# in a process; `sdk` has the methods of a RecordingThreadSdk


def process_service(kind: str, rules: dict[str, Any], verifies: bool, steps: bool, settings: dict[str, Any]) -> Service:
    service = Service(sdk=open_served_session, **IN_A_PROCESS, **settings)
    if verifies:
        rules = {**rules, "verify": verify_not_done}
    service.handler(kind=kind, **rules)(call_in_step if steps else call)
    return service


def call(sdk: Any, what: str, job: JobContext) -> str:
    result: str = sdk.call(what)
    return result


def call_in_step(sdk: Any, what: str, job: JobContext) -> str:
    result: str = job.step("act", sdk.call, what)
    return result


def verify_not_done(sdk: Any, job: JobContext) -> NotDone:
    sdk.call("verify")
    return NotDone()


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
@not_on_a_thread
async def test_p1_p3_p5_hold_on_a_day_of_all_kinds_of_jobs(
    option: Option, kind: HostKind, autojump_clock: MockClock
) -> None:
    day = make_day(kind, option, autojump_clock)
    sdk = day.sdk
    async with open_queue(day.service) as queue, a_day(queue, option) as ids:
        for what, job_id in ids.items():
            if what not in ("fails", "slow", "cancelled", "expires"):
                assert await queue.result(job_id) == what
        for what in ("fails", "slow", "expires"):
            with pytest.raises(trio_jobs.JobFailed):
                await queue.result(ids[what])
    day.end()
    check_sessions(sdk)
    assert queue.report is not None
    assert queue.report.sdk_closed
    assert queue.report.unfinished == ()
    assert {what for what, job_id in ids.items() if queue.get(job_id).state == "cancelled"} == {"cancelled"}
    if option.name in ("min_interval", "everything") and kind == "trio":
        starts = [at for at, what in sdk.record if what not in ("open", "close")]
        assert all(after - before >= 2 for before, after in pairwise(starts))


ENDS = ["return", "error", "cancel"]
MOMENTS = [0, 0.5, 4.25, 8.25, 12.5, 21]


@each_option
@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("at", MOMENTS)
@pytest.mark.parametrize("kind", ["trio"], indirect=True)
async def test_p3_p5_hold_however_and_whenever_the_block_ends(
    end: str, at: float, option: Option, kind: HostKind, autojump_clock: MockClock
) -> None:
    await check_end(end, at, option, kind, autojump_clock)


@pytest.mark.parametrize("option", OPTIONS[-1:], ids=lambda option: option.name)
@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("at", [4.25, 21])
@pytest.mark.parametrize("kind", IN_PROCESS, indirect=True)
async def test_p3_p5_with_a_process_hold_however_and_whenever_the_block_ends(
    end: str, at: float, option: Option, kind: HostKind, autojump_clock: MockClock
) -> None:
    await check_end(end, at, option, kind, autojump_clock)


async def check_end(end: str, at: float, option: Option, kind: HostKind, clock: MockClock) -> None:
    """Every job is final or named in the report, and the session is closed; a next start can go on from there."""
    day, store = make_day(kind, option, clock, drain_timeout=0), MemoryStore()
    sdk, service = day.sdk, day.service
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

    again = make_day(kind, option, clock)
    async with open_queue(again.service, store=store) as queue:
        await queue.resume()
        for job_id in ids.values():
            try:
                await queue.result(job_id)
            except (trio_jobs.JobFailed, trio_jobs.JobCancelled):
                assert queue.get(job_id).is_final
    day.end()
    again.end()
    check_sessions(again.sdk)
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
@not_on_a_thread
async def test_p10_the_nearest_bound_ends_an_attempt_and_its_record_says_so(
    attempt_timeout: float,
    deadline_after: float,
    stop_at: float | None,
    ended_by: EndedBy,
    outcome: Outcome,
    option: Option,
    kind: HostKind,
    autojump_clock: MockClock,
) -> None:
    """In a process it is killed, since it does not end by itself."""
    settings = {**option.settings, "drain_timeout": 0, "cancel_timeout": 3}
    rules: dict[str, Any] = {"attempt_timeout": attempt_timeout, "on_doubt": "hold"}
    sdk: RecordingSdk | RecordingThreadSdk
    hang = Blocker()
    if kind == "trio":
        sdk = RecordingSdk()
        service = sdk.service(**settings)

        @service.handler(**rules)
        async def endless(sdk: RecordingSdk, what: str, job: AsyncJobContext) -> None:
            async def act() -> str:
                return await sdk.call(what, 1000)

            await (job.step("act", act) if option.steps else act())

    else:
        sdk = RecordingThreadSdk()
        sdk.does("a", hang)
        serve(sdk.session, sdk.lose)
        service = make_service(process_service, "endless", rules, False, option.steps, settings)
    with trio.move_on_after(stop_at or 100):
        async with open_queue(service) as queue:
            receipt = await queue.submit("endless", "a", deadline_after=deadline_after)
            if option.pauses:
                await wait_all_tasks_blocked()
                await queue.pause()
            await trio.sleep_forever()
    lose_sessions()
    hang.release()
    [attempt] = queue.get(receipt.job_id).attempts or ()
    assert attempt.ended_by is ended_by
    assert attempt.ended_at is not None
    took = (attempt.ended_at - attempt.started_at).total_seconds()
    if kind == "trio":
        assert (attempt.outcome, took) == (outcome, 5)
    else:
        assert attempt.outcome is (Outcome.KILLED if outcome is Outcome.TIMED_OUT else outcome)
        assert took == pytest.approx(5 + (3 if stop_at else KILL_GRACE) + STACK_WAIT)
    check_sessions(sdk)


# P1, P2 and P3 on a thread, and in a process, where `sdk` has the methods of a RecordingThreadSdk


def call_only(sdk: Any, what: str) -> str:
    result: str = sdk.call(what)
    return result


async def call_thrice(sdk: trio_jobs.SdkHandle, what: str, job: AsyncJobContext) -> str:
    for _ in range(2):
        await sdk.call(call_only, "one of two")
    return str(await sdk.call(call_only, what))


async def call_thrice_in_step(sdk: trio_jobs.SdkHandle, what: str, job: AsyncJobContext) -> str:
    for _ in range(2):
        await sdk.call(call_only, "one of two")
    return str(await job.step("act", sdk.call, call_only, what))


def service_with_both(kind: str, steps: bool, settings: dict[str, Any], open_session: Any = None) -> Service:
    service = (
        Service(sdk=open_session, **settings)
        if kind == "thread"
        else Service(sdk=open_served_session, **IN_A_PROCESS, **settings)
    )
    rules: dict[str, Any] = {"retry": Retry(2, waits=[0]), "verify": verify_not_done}
    service.handler(kind="plain", **rules)(call_in_step if steps else call)
    service.handler(kind="mixed", **rules)(call_thrice_in_step if steps else call_thrice)
    return service


@pytest.mark.parametrize(
    "option",
    [
        attrs.evolve(option, settings={**option.settings, "min_interval": 0.002 * ("min_interval" in option.settings)})
        for option in OPTIONS
    ],
    ids=lambda option: option.name,
)
@pytest.mark.parametrize("kind", ["thread", *IN_PROCESS], indirect=True)
async def test_p1_p2_p3_hold_on_a_thread_and_in_a_process(option: Option, kind: HostKind) -> None:
    """In real time, with rests of two milliseconds and retries without a wait: threads and processes are the point."""
    sdk = RecordingThreadSdk()
    sdk.does("b", Wrong())
    sdk.does("d", trio_jobs.SessionLost())
    sdk.does("e", trio_jobs.Fail())
    if kind == "thread":
        service = service_with_both(kind, option.steps, option.settings, sdk.session)
    else:
        serve(sdk.session, sdk.lose)
        service = make_service(service_with_both, kind, option.steps, option.settings)
    chance = random.Random(1)
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
