"""Rules of `WakeUp`, with which tasks that sleep until something changes are woken, and of what sleeps with it."""

from __future__ import annotations

import gc
from collections.abc import Awaitable, Callable

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from trio_jobs import EventStream, Service
from trio_jobs._concurrency import WakeUp

TASKS = 200


async def is_waiting(wake: WakeUp) -> bool:
    with trio.move_on_after(0):
        await wake.wait()
        return False
    return True


async def test_a_set_ends_one_wait_whichever_comes_first() -> None:
    wake = WakeUp()
    wake.set()
    wake.set()
    await wake.wait()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(wake.wait)
        await wait_all_tasks_blocked()
        wake.set()
    assert not wake.is_set
    assert await is_waiting(wake)


async def test_clear_takes_a_set_back() -> None:
    wake = WakeUp()
    wake.set()
    wake.clear()
    assert await is_waiting(wake)


async def test_a_cancelled_wait_takes_no_set() -> None:
    wake = WakeUp()
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(wake.wait)
            await wait_all_tasks_blocked()
            scope.cancel()
    wake.set()
    with trio.move_on_after(0):
        await wake.wait()
        pytest.fail("the wait was not cancelled")
    assert wake.is_set
    await wake.wait()


async def objects_of(make: Callable[[], Awaitable[object]]) -> float:
    """The objects that a full collection visits, for each of many tasks that sleep."""

    async def sleep(until: Awaitable[object]) -> None:
        await until

    gc.collect()
    before = len(gc.get_objects())
    async with trio.open_nursery() as nursery:
        for _ in range(TASKS):
            nursery.start_soon(sleep, make())
        await wait_all_tasks_blocked()
        gc.collect()
        after = len(gc.get_objects())
        nursery.cancel_scope.cancel()
    return (after - before) / TASKS


async def test_a_full_collection_visits_few_objects_of_a_reader_that_sleeps() -> None:
    """A queue has up to thousands of them, and the collection stops the event loop."""
    async with Service().open() as queue:
        streams: list[EventStream] = []

        def reader() -> Awaitable[object]:
            streams.append(queue.events())
            return anext(streams[-1])

        of_task, of_reader = await objects_of(trio.sleep_forever), await objects_of(reader)
    assert of_reader - of_task < 7.5
