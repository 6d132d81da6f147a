"""Reports of the writer thread are made in Trio's thread: each once, in order, in the turn that they begin."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing

from trio_jobs._stores.reports import Reports


@asynccontextmanager
async def started() -> AsyncIterator[Reports]:
    reports = Reports(trio.lowlevel.current_trio_token())
    reports.start()
    try:
        yield reports
    finally:
        reports.stop()


class Turns(trio.abc.Instrument):
    """Counts the turns of the loop."""

    def __init__(self) -> None:
        self.count = 0

    def before_io_wait(self, timeout: float) -> None:
        self.count += 1


async def test_a_task_that_a_report_wakes_runs_in_the_turn_in_which_the_loop_was_woken() -> None:
    turns, woken, steps = Turns(), trio.Event(), list[int]()

    def report() -> None:
        steps.append(turns.count)
        woken.set()

    async with started() as reports:
        trio.lowlevel.add_instrument(turns)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.to_thread.run_sync, reports.post, report)
            with trio.fail_after(5):
                await woken.wait()
            steps.append(turns.count)
        trio.lowlevel.remove_instrument(turns)
    assert steps[0] == steps[1]


async def test_reports_are_made_once_and_in_order() -> None:
    made: list[int] = []
    async with started() as reports:

        def post() -> None:
            for number in range(500):
                reports.post(made.append, number)

        await trio.to_thread.run_sync(post)
        await trio.testing.wait_all_tasks_blocked()
    assert made == list(range(500))


async def test_a_report_that_posts_another_is_followed_by_it() -> None:
    made: list[str] = []
    async with started() as reports:
        reports.post(lambda: reports.post(made.append, "second"))
        reports.post(made.append, "first")
        await trio.testing.wait_all_tasks_blocked()
    assert made == ["first", "second"]


@pytest.mark.parametrize("when", ["before the start", "after the stop"])
async def test_reports_are_made_also_while_the_instrument_is_not_installed(when: str) -> None:
    reports = Reports(trio.lowlevel.current_trio_token())
    if when == "after the stop":
        reports.start()
        reports.stop()
        reports.stop()
    made = trio.Event()
    await trio.to_thread.run_sync(reports.post, made.set)
    with trio.fail_after(5):
        await made.wait()


def test_a_report_that_raises_ends_the_run_of_trio_with_its_error() -> None:
    """Trio would remove an instrument that raises, and nothing would be committed any more."""

    def bug() -> None:
        raise ZeroDivisionError

    async def main() -> None:
        async with started() as reports:
            await trio.to_thread.run_sync(reports.post, bug)
            with trio.move_on_after(5):
                await trio.sleep_forever()

    with pytest.raises(trio.TrioInternalError) as caught:
        trio.run(main)
    cause = caught.value.__cause__
    while isinstance(cause, BaseExceptionGroup):
        [cause] = cause.exceptions
    assert isinstance(cause, ZeroDivisionError)


def test_a_report_to_a_run_that_has_ended_is_refused() -> None:
    async def main() -> Reports:
        return Reports(trio.lowlevel.current_trio_token())

    reports = trio.run(main)
    with pytest.raises(trio.RunFinishedError):
        reports.post(print)
