"""pause: no attempt begins. All else goes on."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

import trio_jobs
from support.recording_sdk import RecordingSdk, Wrong, work_service
from support.rig import open_queue, until_state
from trio_jobs import Done, MemoryStore, QueueFull, Retry, Service, State, UsageError
from trio_jobs._engine.events import Paused, Resumed
from trio_jobs._engine.json_values import moment
from trio_jobs._runtime.queue import runtime_of
from trio_jobs.testing import CrashableStore


def slow_service(sdk: RecordingSdk, **settings: Any) -> Service:
    return work_service(sdk, seconds=2, rules={"retry": Retry(3, waits=[1])}, **settings)


async def test_a_pause_lets_the_running_attempt_end_and_starts_no_other(autojump_clock: MockClock) -> None:
    sdk = RecordingSdk()
    async with open_queue(slow_service(sdk)) as queue:
        first = await queue.submit("work", "a")
        await queue.submit("work", "b")
        await trio.sleep(1)
        await queue.pause("the auditor is here", by="Ada")
        assert queue.paused == "the auditor is here"
        await trio.sleep(50)
        assert queue.get(first.job_id).state is State.COMPLETED
        assert sdk.calls == ["a"]
        await queue.resume(by="Ada")
        assert queue.paused is None
    assert sdk.record[-2:] == [(51, "b"), (53, "close")]


async def test_a_pause_in_the_same_moment_as_a_submit_comes_first(autojump_clock: MockClock) -> None:
    """An empty queue waits for its next job; a pause is heard there too."""
    sdk = RecordingSdk()
    async with open_queue(slow_service(sdk, drain_timeout=0)) as queue:
        await wait_all_tasks_blocked()
        queue.submit_nowait("work", "a")
        await queue.pause()
        await trio.sleep(50)
        assert sdk.calls == []


async def test_a_paused_queue_accepts_jobs_until_it_is_full(autojump_clock: MockClock) -> None:
    sdk = RecordingSdk()
    async with open_queue(slow_service(sdk, buffer=3)) as queue:
        await wait_all_tasks_blocked()
        await queue.pause()
        for n in range(3):
            await queue.submit("work", str(n))
            await wait_all_tasks_blocked()
        with pytest.raises(QueueFull):
            await queue.submit("work", "3", wait=5)
        await queue.resume()
    assert sdk.calls == ["0", "1", "2"]


async def test_a_job_that_leaves_a_paused_queue_frees_its_slot(autojump_clock: MockClock) -> None:
    sdk = RecordingSdk()
    async with open_queue(slow_service(sdk, buffer=1)) as queue:
        await wait_all_tasks_blocked()
        await queue.pause()
        first = await queue.submit("work", "cancelled")
        await wait_all_tasks_blocked()
        await queue.cancel(first.job_id)
        await queue.submit("work", "expires", deadline_after=5)
        await queue.submit("work", "c")
        assert trio.current_time() == 5
        await queue.resume()
    assert sdk.calls == ["c"]


async def test_deadlines_pass_while_the_queue_is_paused(autojump_clock: MockClock) -> None:
    async with open_queue(slow_service(RecordingSdk())) as queue:
        await queue.pause()
        receipt = await queue.submit("work", "a", deadline_after=5)
        job = await until_state(queue, receipt.job_id, "failed")
        assert (trio.current_time(), job.reason) == (5, "expired")


async def test_retries_and_scheduled_jobs_become_due_and_wait_in_a_paused_queue(autojump_clock: MockClock) -> None:
    sdk = RecordingSdk()
    sdk.fails("a", Wrong())
    async with open_queue(slow_service(sdk)) as queue:
        first = await queue.submit("work", "a")
        later = await queue.submit("work", "later", delay=5)
        await trio.sleep(1)
        await queue.pause()
        await trio.sleep(50)
        assert [queue.get(r.job_id).state for r in (first, later)] == ["pending", "pending"]
        await queue.resume()
    assert sdk.calls == ["a", "a", "later"]


async def test_the_verify_of_a_job_in_doubt_waits_for_the_end_of_a_pause(autojump_clock: MockClock) -> None:
    sdk = RecordingSdk()
    sdk.fails("a", Wrong())
    service = sdk.service()

    async def verify(sdk: RecordingSdk, job: trio_jobs.AsyncJobContext) -> Done:
        await sdk.call("verify")
        return Done("found")

    @service.handler(verify=verify)
    async def work(sdk: RecordingSdk, what: str) -> str:
        return await sdk.call(what, 2)

    async with open_queue(service) as queue:
        receipt = await queue.submit("work", "a")
        await trio.sleep(1)
        await queue.pause()
        await trio.sleep(9)
        assert queue.get(receipt.job_id).state is State.IN_DOUBT
        await queue.resume()
        assert await queue.result(receipt.job_id) == "found"
    assert sdk.record[1:-1] == [(0, "a"), (2, "close"), (10, "open"), (10, "verify")]


async def test_a_stop_while_paused_ends_within_drain_timeout_and_names_unfinished_jobs(
    autojump_clock: MockClock,
) -> None:
    sdk = RecordingSdk()
    async with open_queue(slow_service(sdk, drain_timeout=7)) as queue:
        await queue.pause()
        receipt = await queue.submit("work", "a")
    assert trio.current_time() == 7
    assert queue.report is not None
    assert [left.job_id for left in queue.report.unfinished] == [receipt.job_id]
    assert sdk.calls == []


async def test_a_resume_during_the_drain_lets_it_finish(autojump_clock: MockClock) -> None:
    sdk = RecordingSdk()

    async def resume_later(queue: trio_jobs.Queue) -> None:
        await trio.sleep(3)
        await queue.resume()

    async with trio.open_nursery() as nursery, open_queue(slow_service(sdk)) as queue:
        await queue.pause()
        await queue.submit("work", "a")
        nursery.start_soon(resume_later, queue)
    assert sdk.record[-2:] == [(3, "a"), (5, "close")]


async def test_a_second_queue_over_the_same_store_stays_paused(autojump_clock: MockClock) -> None:
    sdk, store = RecordingSdk(), MemoryStore()
    service = slow_service(sdk, drain_timeout=0)
    async with open_queue(service, store=store) as queue:
        await queue.pause("until Monday")
        await queue.submit("work", "a")
    async with open_queue(service, store=store) as queue:
        await trio.sleep(50)
        assert queue.paused == "until Monday"
        assert sdk.calls == []
        await queue.resume()
        await trio.sleep(5)
    assert sdk.calls == ["a"]
    async with open_queue(service, store=store) as queue:
        assert queue.paused is None


async def test_pausing_and_resuming_again_changes_nothing_and_each_is_one_event(autojump_clock: MockClock) -> None:
    async with open_queue(slow_service(RecordingSdk())) as queue:
        await queue.resume()
        await queue.pause("first", by="Ada")
        await queue.pause("second", by="Bob")
        assert queue.paused == "first"
        await queue.resume(by="Cyd")
        await queue.resume()
        events = queue.events(after=0)
    told = [(e.type, e.by) async for e in events if isinstance(e, Paused | Resumed)]
    assert told == [("paused", "Ada"), ("resumed", "Cyd")]


async def test_the_reason_of_a_pause_is_escaped_and_truncated(autojump_clock: MockClock) -> None:
    async with open_queue(slow_service(RecordingSdk())) as queue:
        await queue.pause("\x1b[2J" + "x" * 1000)
        assert queue.paused is not None
        assert queue.paused.startswith("\\x1b[2J")
        assert len(queue.paused) == 500


async def test_a_pause_ends_by_itself_at_its_date(autojump_clock: MockClock) -> None:
    sdk = RecordingSdk()
    async with open_queue(slow_service(sdk)) as queue:
        until = moment(runtime_of(queue).clock.now() + 100)
        await queue.pause("lunch", until=until, by="Ada")
        assert queue.paused_until == until
        receipt = await queue.submit("work", "a")
        assert await queue.result(receipt.job_id) == "a"
        assert queue.paused is None
        assert queue.paused_until is None
    assert sdk.record[-2:] == [(100, "a"), (102, "close")]


async def test_the_end_of_a_pause_survives_a_restart(autojump_clock: MockClock) -> None:
    sdk, storage = RecordingSdk(), CrashableStore()
    async with open_queue(slow_service(sdk, drain_timeout=0), store=storage.store()) as queue:
        await queue.pause("lunch", until=moment(runtime_of(queue).clock.now() + 100))
        await queue.submit("work", "a")
    await trio.sleep(50)
    async with open_queue(slow_service(sdk), store=storage.store(), seed=2) as queue:
        assert queue.paused == "lunch"
        await trio.sleep(60)
        assert queue.paused is None
    assert (100, "a") in sdk.record


async def test_a_pause_whose_end_passed_while_the_service_was_down_ends_at_once(autojump_clock: MockClock) -> None:
    sdk, storage = RecordingSdk(), CrashableStore()
    async with open_queue(slow_service(sdk, drain_timeout=0), store=storage.store()) as queue:
        await queue.pause("lunch", until=moment(runtime_of(queue).clock.now() + 100))
    await trio.sleep(500)
    async with open_queue(slow_service(sdk), store=storage.store(), seed=2) as queue:
        receipt = await queue.submit("work", "a")
        assert await queue.result(receipt.job_id) == "a"


async def test_of_two_pauses_the_longer_one_holds(autojump_clock: MockClock) -> None:
    """Whoever pauses because the SDK is broken is not overruled by the end of a lunch."""
    async with open_queue(slow_service(RecordingSdk())) as queue:
        now = runtime_of(queue).clock.now()
        await queue.pause("lunch", until=moment(now + 100), by="Ada")
        await queue.pause("a minute", until=moment(now + 60), by="Cyd")
        assert queue.paused == "lunch"
        await queue.pause("the SDK is broken", by="Bob")
        await queue.pause("until evening", until=moment(now + 500), by="Ada")
        await trio.sleep(1000)
        assert (queue.paused, queue.paused_until) == ("the SDK is broken", None)
        await queue.resume()


async def test_a_pause_that_would_end_in_the_past_is_refused(autojump_clock: MockClock) -> None:
    async with open_queue(slow_service(RecordingSdk())) as queue:
        with pytest.raises(UsageError, match="would end in the past"):
            await queue.pause(until=moment(runtime_of(queue).clock.now()))
        assert queue.paused is None
