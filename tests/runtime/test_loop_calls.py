"""Calls that other threads have made in Trio's thread are made once, in order, in the turn that they begin."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing

from trio_jobs._loop_calls import LoopCalls


@asynccontextmanager
async def started() -> AsyncIterator[LoopCalls]:
    calls = LoopCalls(trio.lowlevel.current_trio_token())
    calls.start()
    try:
        yield calls
    finally:
        calls.stop()


class Turns(trio.abc.Instrument):
    """Counts the turns of the loop."""

    def __init__(self) -> None:
        self.count = 0

    def before_io_wait(self, timeout: float) -> None:
        self.count += 1


async def test_a_task_that_a_call_wakes_runs_in_the_turn_in_which_the_loop_was_woken() -> None:
    turns, woken, steps = Turns(), trio.Event(), list[int]()

    def call() -> None:
        steps.append(turns.count)
        woken.set()

    async with started() as calls:
        trio.lowlevel.add_instrument(turns)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.to_thread.run_sync, calls.post, call)
            with trio.fail_after(5):
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
        calls.post(lambda: calls.post(made.append, "second"))
        calls.post(made.append, "first")
        await trio.testing.wait_all_tasks_blocked()
    assert made == ["first", "second"]


@pytest.mark.parametrize("when", ["before the start", "after the stop"])
async def test_calls_are_made_also_while_the_instrument_is_not_installed(when: str) -> None:
    calls = LoopCalls(trio.lowlevel.current_trio_token())
    if when == "after the stop":
        calls.start()
        calls.stop()
        calls.stop()
    made = trio.Event()
    await trio.to_thread.run_sync(calls.post, made.set)
    with trio.fail_after(5):
        await made.wait()


def test_a_call_that_raises_ends_the_run_of_trio_with_its_error() -> None:
    """Trio would remove an instrument that raises, and nothing would be committed any more."""

    def bug() -> None:
        raise ZeroDivisionError

    async def main() -> None:
        async with started() as calls:
            await trio.to_thread.run_sync(calls.post, bug)
            with trio.move_on_after(5):
                await trio.sleep_forever()

    with pytest.raises(trio.TrioInternalError) as caught:
        trio.run(main)
    cause = caught.value.__cause__
    while isinstance(cause, BaseExceptionGroup):
        [cause] = cause.exceptions
    assert isinstance(cause, ZeroDivisionError)


def test_a_call_to_a_run_that_has_ended_is_refused() -> None:
    async def main() -> LoopCalls:
        return LoopCalls(trio.lowlevel.current_trio_token())

    calls = trio.run(main)
    with pytest.raises(trio.RunFinishedError):
        calls.post(print)
