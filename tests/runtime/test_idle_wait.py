"""A delayed notification goes out as soon as the loop and the queue have nothing to do, since it delays no job then."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import trio
import trio.testing

from support.stores import SlowStore
from trio_jobs import MemoryStore, Service
from trio_jobs._engine import events as ev
from trio_jobs._engine.event_cursor import Cursor, Filter
from trio_jobs._runtime.feed import LONGEST, Feed
from trio_jobs._runtime.idle_wait import IdleWait
from trio_jobs._runtime.queue import runtime_of

LIMIT = 30  #: seconds for what takes a millisecond


async def idle_turns() -> None:
    """Let Trio's loop wait for the operating system twice, with nothing else to do."""
    for _ in range(2):
        await trio.to_thread.run_sync(lambda: None)


async def test_the_wait_ends_as_soon_as_there_is_nothing_to_do() -> None:
    assert await IdleWait(lambda: True).within(LIMIT)


async def test_the_wait_ends_after_its_time_while_there_is_something_to_do(
    autojump_clock: trio.testing.MockClock,
) -> None:
    began = trio.current_time()
    assert not await IdleWait(lambda: False).within(0.025)
    assert trio.current_time() == began + 0.025


async def test_a_loop_with_a_task_that_is_ready_to_run_is_not_idle(mock_clock: trio.testing.MockClock) -> None:
    order: list[str] = []

    async def wait() -> None:
        assert await IdleWait(lambda: True).within(LIMIT)
        order.append("idle")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        for _ in range(50):
            await trio.lowlevel.checkpoint()
        order.append("busy")
    assert order == ["busy", "idle"]


async def test_a_wait_can_be_repeated_and_cancelled() -> None:
    idle = False
    wait = IdleWait(lambda: idle)
    with trio.move_on_after(0) as scope:
        await wait.within(LIMIT)
    assert scope.cancelled_caught
    idle = True
    await idle_turns()  # wakes no wait that has ended
    assert await wait.within(LIMIT)
    assert await wait.within(LIMIT)
    wait.stop()
    wait.stop()  # does nothing
    assert await wait.within(LIMIT)


@pytest.mark.parametrize("idle", [True, False])
async def test_a_notification_is_delayed_only_while_the_queue_has_something_to_do(
    idle: bool, mock_clock: trio.testing.MockClock
) -> None:
    store = MemoryStore()
    feed = Feed(store, is_idle=lambda: idle)
    told: list[float] = []
    notified = trio.Event()

    def notice() -> None:
        nonlocal notified
        told.append(trio.current_time())
        mock_clock.jump(0.01)  # what it takes the reader
        notified.set()
        notified = trio.Event()

    def publish(seqs: Sequence[int]) -> None:
        feed.publish([ev.Started(seq=seq, at=0.0, job="a", attempt=1) for seq in seqs])

    Cursor(feed, 0, Filter(), notice).attach()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(feed.run)
        for seq in (1, 2, 3):
            publish([seq])
            waited = notified
            if idle or seq == 1:
                await waited.wait()
                assert len(told) == seq
            else:
                await idle_turns()
                assert len(told) == seq - 1
                mock_clock.jump(LONGEST)
                await waited.wait()
        nursery.cancel_scope.cancel()
    assert told == pytest.approx([0.0, 0.01, 0.02] if idle else [0.0, 0.01 + LONGEST, 0.02 + 2 * LONGEST])


async def test_a_queue_is_idle_if_no_job_waits_or_runs_and_each_event_is_committed() -> None:
    store = SlowStore(ev.Completed)
    begun, end = trio.Event(), trio.Event()
    service = Service()

    @service.handler
    async def work(number: int) -> None:
        begun.set()
        await end.wait()

    with trio.fail_after(LIMIT):
        async with service.open(store=store) as queue:
            is_idle = runtime_of(queue).consumer.is_idle
            assert is_idle()
            await queue.pause()
            first = await queue.submit("work", 1)
            assert not is_idle(), "a job waits"
            await queue.resume()
            await begun.wait()
            assert not is_idle(), "a job runs"
            end.set()
            await idle_turns()
            assert store.handed_over(ev.Completed)
            assert not is_idle(), "its end is not committed"
            store.keep()
            await queue.result(first.job_id)
            assert is_idle()
