"""Rules of drain and undrain."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from support.rig import busy_queue, make_rig
from trio_jobs import QueueClosed, Service, UsageError
from trio_jobs.testing import Blocker


async def raised_by(error: type[Exception], call: Callable[[], Awaitable[object]], told: list[str]) -> None:
    with pytest.raises(error) as caught:
        await call()
    told.append(str(caught.value))


async def test_a_drained_queue_accepts_jobs_again_after_undrain(autojump_clock: MockClock) -> None:
    rig = make_rig("trio")
    async with rig.open() as queue:
        await queue.submit("work", "a")
        await queue.drain()
        assert queue.health().problems == ("draining",)
        with pytest.raises(QueueClosed):
            await queue.submit("work", "b")
        await queue.undrain()
        assert queue.health().ok
        await queue.result((await queue.submit("work", "c")).job_id)
        await queue.undrain()  # has no effect
    assert rig.sdk.calls() == ["a", "c"]


async def test_undrain_ends_a_drain_that_waits(autojump_clock: MockClock) -> None:
    rig, told = make_rig("trio"), list[str]()
    async with busy_queue(rig) as (queue, hold, _), trio.open_nursery() as nursery:
        nursery.start_soon(raised_by, UsageError, queue.drain, told)
        await wait_all_tasks_blocked()
        await queue.undrain()
        await wait_all_tasks_blocked()
        assert told == ["undrain() was called before the queue was drained; it accepts jobs again"]
        await queue.submit("work", "second")
        hold.release()
    assert rig.sdk.calls() == ["first", "second"]


async def test_a_cancelled_drain_stays_in_force_until_undrain(autojump_clock: MockClock) -> None:
    rig = make_rig("trio")
    async with busy_queue(rig) as (queue, hold, _):
        with trio.move_on_after(1):
            await queue.drain()
        with pytest.raises(QueueClosed):
            await queue.submit("work", "refused")
        await queue.undrain()
        await queue.submit("work", "accepted")
        hold.release()
    assert rig.sdk.calls() == ["first", "accepted"]


async def test_resume_does_not_report_success_for_a_queue_that_drains(autojump_clock: MockClock) -> None:
    rig = make_rig("trio")
    async with rig.open() as queue:
        await queue.resume()  # has no effect
        await queue.drain()
        with pytest.raises(UsageError, match="draining; undrain"):
            await queue.resume()
        await queue.pause("lunch")
        await queue.resume()  # it ends the pause
        assert queue.paused is None
        assert queue.health().problems == ("draining",)
        await queue.undrain()
        await queue.resume()


async def test_a_stop_cannot_be_undone(autojump_clock: MockClock) -> None:
    rig, told = make_rig("trio"), list[str]()
    async with trio.open_nursery() as nursery:
        async with busy_queue(rig) as (queue, hold, _):
            queue.close_to_submits()
            assert queue.health().problems == ("stopping",)
            nursery.start_soon(queue.drain)
            await wait_all_tasks_blocked()
            await raised_by(QueueClosed, queue.undrain, told)
            hold.release()
        with pytest.raises(QueueClosed):
            await queue.undrain()
    assert told == ["the queue stops, which cannot be undone"]
    assert queue.report is not None
    assert queue.report.unfinished == ()


async def test_undrain_is_refused_while_the_owner_s_block_finishes_its_jobs(autojump_clock: MockClock) -> None:
    rig, told, hold = make_rig("trio"), list[str](), Blocker("first")
    rig.sdk.script("call", hold)

    async def late() -> None:
        await wait_all_tasks_blocked()
        await raised_by(QueueClosed, queue.undrain, told)
        hold.release()

    async with trio.open_nursery() as nursery:
        async with rig.open() as queue:
            await queue.submit("work", "first")
            await rig.reached(hold)
            nursery.start_soon(late)
    assert told == ["the queue stops, which cannot be undone"]


@pytest.mark.parametrize("_", range(8))  # the order of tasks in a turn of the loop is random
async def test_no_job_starts_between_the_error_of_a_block_and_its_stop(_: int, autojump_clock: MockClock) -> None:
    started: list[int] = []
    go_on = trio.Event()
    service = Service(watchdog=None)

    @service.handler
    async def work(number: int) -> None:
        started.append(number)
        await go_on.wait()

    with trio.fail_after(60), pytest.raises(ZeroDivisionError):
        async with service.open() as queue:
            for number in (1, 2):
                await queue.submit(work, number)
            await wait_all_tasks_blocked()
            go_on.set()
            raise ZeroDivisionError
    assert started == [1]
