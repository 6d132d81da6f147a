"""Calls that other threads have made in Trio's thread are made once, in order, in the turn that they begin."""

from __future__ import annotations

import errno
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
import trio.testing

from support.turns import Turns
from support.waiting import DEADLINE, deadline
from trio_jobs._loop_calls import LoopCalls


@pytest.fixture(params=["eventfd", "run_sync_soon"], autouse=True)
def woken_by(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """With what the loop is woken."""
    if request.param == "run_sync_soon":
        monkeypatch.delattr(os, "eventfd", raising=False)
    elif not hasattr(os, "eventfd"):
        pytest.skip("this system has no eventfd")
    return str(request.param)


@asynccontextmanager
async def started() -> AsyncIterator[LoopCalls]:
    calls = LoopCalls(trio.lowlevel.current_trio_token())
    calls.start()
    try:
        await first_call(calls)
        yield calls
    finally:
        calls.stop()
        await trio.testing.wait_all_tasks_blocked()


async def first_call(calls: LoopCalls) -> None:
    """Have a first call made, which opens the eventfd."""
    made = trio.Event()
    await trio.to_thread.run_sync(calls.post, made.set)
    with deadline("the call"):
        await made.wait()
    await trio.testing.wait_all_tasks_blocked()


@pytest.fixture
def eventfds(monkeypatch: pytest.MonkeyPatch, woken_by: str) -> list[int]:
    """The eventfds that are opened."""
    found: list[int] = []
    if woken_by == "eventfd":
        open_one = os.eventfd

        def eventfd(*args: Any) -> int:
            found.append(open_one(*args))
            return found[-1]

        monkeypatch.setattr(os, "eventfd", eventfd)
    return found


async def test_a_task_that_a_call_wakes_runs_in_the_turn_in_which_the_loop_was_woken() -> None:
    turns, woken, steps = Turns(), trio.Event(), list[int]()

    def call() -> None:
        steps.append(turns.count)
        woken.set()

    async with started() as calls:
        trio.lowlevel.add_instrument(turns)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.to_thread.run_sync, calls.post, call)
            with deadline("the call"):
                await woken.wait()
            steps.append(turns.count)
        trio.lowlevel.remove_instrument(turns)
    assert steps[0] == steps[1]


async def test_calls_are_made_once_and_in_order() -> None:
    made: list[int] = []
    async with started() as calls:

        def post() -> None:
            for number in range(500):
                calls.post(made.append, number)

        await trio.to_thread.run_sync(post)
        await trio.testing.wait_all_tasks_blocked()
    assert made == list(range(500))


async def test_a_call_that_posts_another_is_followed_by_it() -> None:
    made: list[str] = []
    async with started() as calls:
        done = trio.Event()
        # in this thread: another one would wake the loop again when it is done
        calls.post(lambda: calls.post(made.append, "second"))
        calls.post(lambda: calls.post(done.set))
        calls.post(made.append, "first")
        with trio.fail_after(DEADLINE) as limit:
            await done.wait()
        assert trio.current_time() < limit.deadline  # that wakes the loop too
    assert made == ["first", "second"]


async def test_calls_that_were_posted_before_the_stop_are_made() -> None:
    made: list[str] = []
    async with started() as calls:
        calls.post(made.append, "before")
        calls.stop()
        calls.post(made.append, "after")
    assert made == ["before", "after"]


async def test_calls_go_on_after_another_start() -> None:
    async with started() as calls:
        for waits in (False, True):
            calls.stop()
            if waits:
                await trio.testing.wait_all_tasks_blocked()
            calls.start()
            await first_call(calls)
            await first_call(calls)


async def test_the_eventfd_is_opened_by_the_first_call_and_closed_by_the_stop(
    eventfds: list[int], woken_by: str
) -> None:
    calls = LoopCalls(trio.lowlevel.current_trio_token())
    calls.start()
    await trio.testing.wait_all_tasks_blocked()
    assert not eventfds
    await first_call(calls)
    await first_call(calls)
    assert len(eventfds) == (woken_by == "eventfd")
    calls.stop()
    await trio.testing.wait_all_tasks_blocked()
    for eventfd in eventfds:
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(eventfd)


def test_the_eventfd_is_closed_by_the_end_of_the_run_and_calls_are_refused(eventfds: list[int]) -> None:
    made: list[str] = []

    async def main() -> LoopCalls:
        calls = LoopCalls(trio.lowlevel.current_trio_token())
        calls.start()
        await first_call(calls)
        calls.post(made.append, "last")
        return calls

    calls = trio.run(main)
    assert made == ["last"]
    for eventfd in eventfds:
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(eventfd)
    with pytest.raises(trio.RunFinishedError):
        calls.post(print)


def test_a_call_that_is_posted_while_the_run_ends_is_made(eventfds: list[int]) -> None:
    made: list[str] = []

    async def late(calls: LoopCalls) -> AsyncIterator[None]:
        try:
            yield
        finally:  # when Trio closes generators, after the system tasks have ended
            calls.post(made.append, "late")

    async def main() -> AsyncIterator[None]:
        calls = LoopCalls(trio.lowlevel.current_trio_token())
        calls.start()
        generator = late(calls)
        await anext(generator)
        return generator

    assert trio.run(main) is not None
    assert made == ["late"]
    for eventfd in eventfds:
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(eventfd)


async def test_calls_are_made_where_no_more_files_can_be_opened(monkeypatch: pytest.MonkeyPatch, woken_by: str) -> None:
    def eventfd(*args: Any) -> int:
        raise OSError(24, "Too many open files")

    if woken_by == "eventfd":
        monkeypatch.setattr(os, "eventfd", eventfd)
    async with started() as calls:
        await first_call(calls)


async def test_calls_are_made_where_no_more_files_can_be_watched(
    monkeypatch: pytest.MonkeyPatch, eventfds: list[int], woken_by: str
) -> None:
    wait_readable = trio.lowlevel.wait_readable

    async def wait(fd: Any) -> None:
        if fd in eventfds:
            raise OSError(errno.ENOSPC, "No space left on device")
        await wait_readable(fd)

    monkeypatch.setattr(trio.lowlevel, "wait_readable", wait)
    async with started() as calls:
        await first_call(calls)
        await first_call(calls)
    assert len(eventfds) == (woken_by == "eventfd")
    for eventfd in eventfds:
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(eventfd)


@pytest.mark.parametrize("when", ["before the start", "after the stop"])
async def test_calls_are_made_also_while_the_instrument_is_not_installed(when: str) -> None:
    calls = LoopCalls(trio.lowlevel.current_trio_token())
    if when == "after the stop":
        calls.start()
        calls.stop()
        calls.stop()
    made = trio.Event()
    await trio.to_thread.run_sync(calls.post, made.set)
    with deadline("the call"):
        await made.wait()


def test_a_call_that_raises_ends_the_run_of_trio_with_its_error() -> None:
    """Trio would remove an instrument that raises, and nothing would be committed any more."""

    def bug() -> None:
        raise ZeroDivisionError

    async def main() -> None:
        async with started() as calls:
            await trio.to_thread.run_sync(calls.post, bug)
            with deadline("the error"):
                await trio.sleep_forever()

    with pytest.raises(trio.TrioInternalError) as caught:
        trio.run(main)
    cause = caught.value.__cause__
    while isinstance(cause, BaseExceptionGroup):
        [cause] = cause.exceptions
    assert isinstance(cause, ZeroDivisionError)


async def test_calls_are_refused_after_an_error_of_trio_itself() -> None:
    """Its tasks are not run to their end then, so the eventfd stays open."""
    ended = list[str]()
    calls = LoopCalls(trio.lowlevel.current_trio_token(), lambda: ended.append("ended"))
    calls.start()
    await first_call(calls)
    calls.after_run()
    with pytest.raises(trio.RunFinishedError):
        calls.post(print)
    calls.stop()
    assert ended == ["ended"]


def test_a_call_to_a_run_that_has_ended_is_refused() -> None:
    async def main() -> LoopCalls:
        return LoopCalls(trio.lowlevel.current_trio_token())

    calls = trio.run(main)
    with pytest.raises(trio.RunFinishedError):
        calls.post(print)
