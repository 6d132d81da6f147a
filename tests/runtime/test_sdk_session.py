"""A session that is used up, idle or lost is closed, and a new one opened, between two attempts."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

import trio_jobs
from support.recording_sdk import RecordingSdk, RecordingThreadSdk, Wrong, work_service
from support.rig import open_queue, outcomes, until_state
from trio_jobs import Done, NotDone, Retry, SdkOpenFailed, Service, SessionLost, State
from trio_jobs._engine.events import SessionClosed, SessionOpened
from trio_jobs.testing import Blocker


def retrying_service(sdk: RecordingSdk, **settings: Any) -> Service:
    return work_service(sdk, rules={"retry": Retry(3, waits=[1])}, **settings)


def steps(sdk: RecordingSdk | RecordingThreadSdk) -> list[str]:
    return [what for _, what in sdk.record]


async def test_a_session_is_renewed_after_renew_after_jobs(autojump_clock: MockClock) -> None:
    sdk = RecordingSdk()
    async with open_queue(retrying_service(sdk, renew_after_jobs=2)) as queue:
        for what in "abcde":
            await queue.submit("work", what)
    assert "".join(s[0] if len(s) == 1 else s[0].upper() for s in steps(sdk)) == "OabCOcdCOeC"


async def test_a_used_up_session_is_renewed_when_the_next_job_arrives(autojump_clock: MockClock) -> None:
    sdk = RecordingSdk()
    async with open_queue(retrying_service(sdk, renew_after_jobs=1)) as queue:
        await queue.submit("work", "a")
        await trio.sleep(50)
        assert sdk.record == [(0, "open"), (0, "a")]
        await queue.submit("work", "b")
    assert sdk.record[2:5] == [(50, "close"), (50, "open"), (50, "b")]


async def test_a_failed_attempt_counts_towards_the_renewal(autojump_clock: MockClock) -> None:
    sdk = RecordingSdk()
    sdk.fails("a", Wrong())
    async with open_queue(retrying_service(sdk, renew_after_jobs=1)) as queue:
        await queue.submit("work", "a")
    assert steps(sdk)[:5] == ["open", "a", "close", "open", "a"]


async def test_a_session_is_renewed_after_an_idle_time(autojump_clock: MockClock) -> None:
    sdk = RecordingSdk()
    async with open_queue(retrying_service(sdk, renew_after_idle=60)) as queue:
        await queue.submit("work", "a")
        await trio.sleep(60.5)  # 59.5 after its end
        await queue.submit("work", "b")
        await trio.sleep(61)  # 60 after its end
        await queue.submit("work", "c")
    assert steps(sdk) == ["open", "a", "b", "close", "open", "c", "close"]


async def test_a_session_that_was_never_used_is_renewed_when_idle(autojump_clock: MockClock) -> None:
    sdk = RecordingSdk()
    async with open_queue(retrying_service(sdk, renew_after_idle=60)) as queue:
        await trio.sleep(100)
        await queue.submit("work", "a")
    assert steps(sdk) == ["open", "close", "open", "a", "close"]


async def test_a_long_attempt_is_not_idle(autojump_clock: MockClock) -> None:
    sdk = RecordingSdk()
    service = sdk.service(renew_after_idle=5)

    @service.handler(on_doubt="hold")
    async def work(sdk: RecordingSdk, what: str) -> None:
        await sdk.call(what, 100)

    async with open_queue(service) as queue:
        await queue.submit(work, "a")
        await queue.submit(work, "b")
        await trio.sleep(300)
    assert steps(sdk) == ["open", "a", "b", "close"]


async def test_a_handler_that_lost_the_session_gets_a_new_one_for_its_retry(autojump_clock: MockClock) -> None:
    sdk = RecordingSdk()
    sdk.fails("a", SessionLost("the line dropped"))
    async with open_queue(retrying_service(sdk)) as queue:
        receipt = await queue.submit("work", "a")
        assert await queue.result(receipt.job_id) == "a"
        job = queue.get(receipt.job_id)
    assert steps(sdk) == ["open", "a", "close", "open", "a", "close"]
    assert outcomes(job) == ["error", "completed"]
    assert str((job.attempts or ())[0].error) == "SessionLost: the line dropped"


async def test_the_next_job_gets_the_new_session(autojump_clock: MockClock) -> None:
    sdk = RecordingSdk()
    sdk.fails("a", SessionLost())
    async with open_queue(retrying_service(sdk)) as queue:
        await queue.submit("work", "a")
        await queue.submit("work", "b")
    assert steps(sdk) == ["open", "a", "close", "open", "b", "a", "close"]


async def test_a_session_lost_in_an_exception_group_is_renewed(autojump_clock: MockClock) -> None:
    sdk = RecordingSdk()
    sdk.fails("a", ExceptionGroup("two things", [Wrong(), SessionLost()]))
    async with open_queue(retrying_service(sdk)) as queue:
        await queue.result((await queue.submit("work", "a")).job_id)
    assert steps(sdk) == ["open", "a", "close", "open", "a", "close"]


async def test_verify_is_asked_in_the_new_session(autojump_clock: MockClock) -> None:
    sdk = RecordingSdk()
    sdk.fails("a", SessionLost())
    service = sdk.service()

    async def verify(sdk: RecordingSdk, job: trio_jobs.AsyncJobContext) -> Done:
        await sdk.call("verify")
        return Done("found")

    @service.handler(verify=verify)
    async def work(sdk: RecordingSdk, what: str) -> str:
        return await sdk.call(what)

    async with open_queue(service) as queue:
        assert await queue.result((await queue.submit(work, "a")).job_id) == "found"
    assert steps(sdk) == ["open", "a", "close", "open", "verify", "close"]


async def test_a_session_lost_in_verify_is_renewed_before_anything_else(autojump_clock: MockClock) -> None:
    sdk = RecordingSdk()
    sdk.fails("verify", SessionLost())
    service = sdk.service()

    async def verify(sdk: RecordingSdk, job: trio_jobs.AsyncJobContext) -> NotDone:
        await sdk.call("verify")
        return NotDone()

    @service.handler(verify=verify, verify_first=True, on_doubt="retry")
    async def work(sdk: RecordingSdk, what: str) -> str:
        return await sdk.call(what)

    async with open_queue(service) as queue:
        await queue.result((await queue.submit(work, "a")).job_id)
    assert steps(sdk) == ["open", "verify", "close", "open", "a", "close"]


async def test_a_session_whose_own_tasks_crash_is_replaced(autojump_clock: MockClock) -> None:
    """An async SDK may hold a nursery; when that dies the session is gone, and the next attempt gets another."""
    sdk, crash = RecordingSdk(), trio.Event()

    @asynccontextmanager
    async def session() -> AsyncIterator[RecordingSdk]:
        async with trio.open_nursery() as nursery:

            async def background() -> None:
                await crash.wait()
                raise Wrong("background")

            async with sdk.session():
                if sdk.session_no == 1:
                    nursery.start_soon(background)
                yield sdk

    service = Service(async_sdk=session)

    @service.handler(on_doubt="hold")
    async def work(sdk: RecordingSdk, what: str) -> str:
        return await sdk.call(what)

    async with open_queue(service) as queue:
        await queue.result((await queue.submit(work, "a")).job_id)
        crash.set()
        await wait_all_tasks_blocked()
        assert await queue.result((await queue.submit(work, "b")).job_id) == "b"
    assert steps(sdk) == ["open", "a", "close", "open", "b", "close"]


@pytest.mark.parametrize("how", [{"renew_after_jobs": 1}, {"renew_after_idle": 1}], ids=str)
async def test_each_open_session_is_closed_once(how: dict[str, Any], autojump_clock: MockClock) -> None:
    sdk = RecordingSdk()
    async with open_queue(retrying_service(sdk, **how)) as queue:
        events = queue.events(after=0)
        for what in "abcd":
            await queue.submit("work", what)
            await trio.sleep(3)
    doors = [step for step in steps(sdk) if step in ("open", "close")]
    assert len(doors) in (8, 10)
    assert doors == ["open", "close"] * (len(doors) // 2)
    told = [(type(e), e.session) async for e in events if isinstance(e, SessionOpened | SessionClosed)]
    assert told == [(kind, n) for n in range(1, len(doors) // 2 + 1) for kind in (SessionOpened, SessionClosed)]


async def test_plain_sessions_are_renewed_on_the_same_thread() -> None:
    sdk = RecordingThreadSdk()
    sdk.does("b", SessionLost())
    service = Service(sdk=sdk.session, renew_after_jobs=2)

    @service.handler(retry=Retry(1, waits=[0]))
    def work(sdk: RecordingThreadSdk, what: str) -> str:
        return sdk.call(what)

    async with service.open() as queue:
        for what in "abc":
            await queue.result((await queue.submit(work, what)).job_id)
    assert steps(sdk) == ["open", "a", "b", "close", "open", "b", "c", "close"]
    assert len(sdk.threads) == 1


async def test_a_close_that_raises_is_logged_and_the_next_session_opens(autojump_clock: MockClock) -> None:
    sdk = RecordingSdk()

    @asynccontextmanager
    async def session() -> AsyncIterator[RecordingSdk]:
        async with sdk.session():
            yield sdk
        if sdk.session_no == 1:
            raise Wrong("the sdk is warm")

    service = Service(async_sdk=session, renew_after_jobs=1)

    @service.handler(on_doubt="hold")
    async def work(sdk: RecordingSdk, what: str) -> str:
        return await sdk.call(what)

    async with open_queue(service) as queue:
        events = queue.events(after=0)
        await queue.submit(work, "a")
        await queue.submit(work, "b")
    assert steps(sdk)[:6] == ["open", "a", "close", "open", "b", "close"]
    assert [e.problem async for e in events if isinstance(e, SessionClosed)][:2] == ["Wrong: the sdk is warm", None]


def failing_from(sdk: RecordingSdk, first_bad: int) -> Callable[[], Any]:
    tries = 0

    @asynccontextmanager
    async def session() -> AsyncIterator[RecordingSdk]:
        nonlocal tries
        tries += 1
        if tries >= first_bad:
            raise Wrong(f"try {tries}")
        async with sdk.session():
            yield sdk

    return session


async def test_on_open_failed_stop_ends_the_queue_and_loses_no_job_silently(autojump_clock: MockClock) -> None:
    sdk = RecordingSdk()
    service = Service(
        async_sdk=failing_from(sdk, 2), renew_after_jobs=1, open_retry=Retry(2, waits=[5]), on_open_failed="stop"
    )

    @service.handler(on_doubt="hold")
    async def work(sdk: RecordingSdk, what: str) -> str:
        return await sdk.call(what)

    with pytest.raises(SdkOpenFailed, match=r"tries: 3\): Wrong: try 4"):
        async with open_queue(service) as queue:
            await queue.submit(work, "a")
            second = await queue.submit(work, "b")
            await trio.sleep_forever()
    assert trio.current_time() == 10
    assert queue.report is not None
    assert queue.report.sdk_closed
    assert [left.job_id for left in queue.report.unfinished] == [second.job_id]
    assert queue.get(second.job_id).state is State.PENDING


async def test_an_sdk_that_cannot_be_opened_again_is_tried_until_it_opens(autojump_clock: MockClock) -> None:
    sdk = RecordingSdk()
    failures = 0

    @asynccontextmanager
    async def session() -> AsyncIterator[RecordingSdk]:
        nonlocal failures
        if sdk.session_no == 1 and failures < 8:
            failures += 1
            raise Wrong(f"failure {failures}")
        async with sdk.session():
            yield sdk

    service = Service(async_sdk=session, renew_after_jobs=1, open_retry=Retry(2, waits=[5, 100]))

    @service.handler(on_doubt="hold")
    async def work(sdk: RecordingSdk, what: str) -> str:
        return await sdk.call(what)

    async with open_queue(service) as queue:
        await queue.submit(work, "a")
        second = await queue.submit(work, "b")
        await trio.sleep(100)
        assert queue.health().problems == ("opening_sdk",)
        assert queue.get(second.job_id).state is State.PENDING
        assert await queue.result(second.job_id) == "b"
        assert queue.health().ok
    assert trio.current_time() == 5 + 7 * 60  # a wait of open_retry, the last one repeated, is at most a minute
    assert not queue.get(second.job_id).retries_used


async def test_a_stop_while_a_renewal_waits_to_try_again_does_not_wait_for_it(autojump_clock: MockClock) -> None:
    sdk = RecordingSdk()
    service = Service(
        async_sdk=failing_from(sdk, 2), renew_after_jobs=1, open_retry=Retry(5, waits=[30]), drain_timeout=0
    )

    @service.handler(on_doubt="hold")
    async def work(sdk: RecordingSdk, what: str) -> str:
        return await sdk.call(what)

    async with open_queue(service) as queue:
        await queue.submit(work, "a")
        await queue.submit(work, "b")
        await trio.sleep(10)
        assert queue.health().problems == ("opening_sdk",)
    assert trio.current_time() == 10
    assert queue.report is not None
    assert queue.report.sdk_closed
    assert steps(sdk) == ["open", "a", "close"]


async def test_a_stop_while_a_session_is_being_opened_waits_for_it_and_closes_it(autojump_clock: MockClock) -> None:
    sdk = RecordingSdk()

    @asynccontextmanager
    async def session() -> AsyncIterator[RecordingSdk]:
        if sdk.session_no == 1:
            await trio.sleep(3)
        async with sdk.session():
            yield sdk

    service = Service(async_sdk=session, renew_after_jobs=1, drain_timeout=0)

    @service.handler(on_doubt="hold")
    async def work(sdk: RecordingSdk, what: str) -> str:
        return await sdk.call(what)

    async with open_queue(service) as queue:
        await queue.submit(work, "a")
        await queue.submit(work, "b")
        await trio.sleep(1)
    assert trio.current_time() == 3
    assert steps(sdk) == ["open", "a", "close", "open", "close"]
    assert queue.report is not None
    assert queue.report.sdk_closed


async def test_a_plain_session_whose_opening_hangs_at_the_stop_is_closed_when_it_returns(mock_clock: MockClock) -> None:
    hold, sdk = Blocker(), RecordingThreadSdk()
    opened = 0

    def session() -> Any:
        nonlocal opened
        opened += 1
        if opened == 2:
            hold.block()
        return sdk.session()

    async def let_the_limits_pass() -> None:
        for limit in (10, 10):  # close_timeout for the opening, and for the close
            await wait_all_tasks_blocked()
            mock_clock.jump(limit)

    service = Service(sdk=session, renew_after_jobs=1, drain_timeout=0, cancel_timeout=0)

    @service.handler(on_doubt="hold")
    def work(sdk: RecordingThreadSdk, what: str) -> str:
        return sdk.call(what)

    async with open_queue(service) as queue:
        await queue.submit(work, "a")
        await queue.submit(work, "b")
        await hold.reached()
        trio.lowlevel.spawn_system_task(let_the_limits_pass)
    assert queue.report is not None
    assert not queue.report.sdk_closed
    assert steps(sdk) == ["open", "a", "close"], "nobody enters while its opening is inside"
    closed = trio.Event()
    token = trio.lowlevel.current_trio_token()
    leave = sdk._note

    def note(what: str) -> None:
        leave(what)
        if what == "close":
            token.run_sync_soon(closed.set)

    sdk._note = note  # type: ignore[method-assign]
    hold.release()
    await closed.wait()
    assert steps(sdk) == ["open", "a", "close", "open", "close"]


@pytest.mark.parametrize("how", [{"renew_after_jobs": 0}, {"renew_after_jobs": 1.5}, {"renew_after_idle": 0}], ids=str)
def test_invalid_renewal_settings_are_refused(how: dict[str, Any]) -> None:
    with pytest.raises(trio_jobs.UsageError, match=next(iter(how))):
        Service(**how)


async def test_an_in_doubt_job_does_not_keep_the_session_open(autojump_clock: MockClock) -> None:
    sdk = RecordingSdk()
    service = sdk.service(renew_after_jobs=1)

    @service.handler(attempt_timeout=1, on_doubt="hold")
    async def work(sdk: RecordingSdk, what: str) -> None:
        await sdk.call(what, 5 if what == "slow" else 0)

    async with open_queue(service) as queue:
        slow = await queue.submit(work, "slow")
        await queue.submit(work, "b")
        await until_state(queue, slow.job_id, "in_doubt")
    assert steps(sdk)[:5] == ["open", "slow", "close", "open", "b"]
