"""The stalls: which threads are paused, and for how long together."""

from __future__ import annotations

import os
import select
import socket
import threading
from collections import Counter
from collections.abc import Callable
from functools import partial
from math import inf

import pytest
import trio
from trio.testing import MockClock

from support.stalls import LEAP, MOST, TIMES, FileStalls, RandomStalls, ReportStalls, Stalls, StepStalls, make_stalls
from support.waiting import DEADLINE, deadline
from trio_jobs import Service
from trio_jobs._executors import process_messages as pm
from trio_jobs._sdk_process.child import Link


class Paused:
    """Counts the pauses of each thread in place of pausing it."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.seconds = 0.0

    def __call__(self, seconds: float) -> None:
        self.counts[threading.current_thread().name] += 1
        self.seconds += seconds


async def steps(count: int) -> None:
    for _ in range(count):
        await trio.lowlevel.checkpoint()


async def with_a_task(count: int) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(steps, count)


def paused_steps(run: object, seed: str = "a seed") -> int:
    return pauses_of_main_thread(run, lambda paused: RandomStalls(seed, paused))


def pauses_of_main_thread(run: object, make: Callable[[Paused], Stalls]) -> int:
    paused = Paused()
    with pytest.MonkeyPatch.context() as patch:
        make(paused).install(patch)
        trio.run(run, 50)  # type: ignore[arg-type]
    return paused.counts["MainThread"]


def test_the_task_of_a_test_is_paused_more_often_than_the_others() -> None:
    assert paused_steps(steps) > paused_steps(with_a_task) > 0


def test_each_step_is_paused_the_first_times_of_the_tasks_that_are_named() -> None:
    each, test, others = (
        pauses_of_main_thread(with_a_task, partial(StepStalls, mode)) for mode in ("each", "test", "others")
    )
    assert test > 0
    assert others >= 2 * TIMES, "of a task that waits at one place 50 times, and at its begin"
    assert each == test + others


def test_the_same_seed_pauses_the_same_steps() -> None:
    assert len({paused_steps(steps) for _ in range(3)}) == 1
    assert len({paused_steps(steps, str(seed)) for seed in range(10)}) > 1


REPORTING = [partial(RandomStalls, "a seed"), ReportStalls]


@pytest.mark.parametrize("make", REPORTING, ids=["seed", "threads"])
def test_the_thread_of_an_sdk_is_paused_before_it_reports(
    make: Callable[[Paused], Stalls], monkeypatch: pytest.MonkeyPatch
) -> None:
    paused = Paused()
    make(paused).install(monkeypatch)
    service = Service()

    @service.handler
    def work(number: int) -> int:
        return number

    async def main() -> None:
        async with service.open() as queue:
            for number in range(30):
                await queue.result((await queue.submit(work, number)).job_id)

    trio.run(main)
    assert paused.counts["trio-jobs SDK"] > 0


@pytest.mark.parametrize("make", REPORTING, ids=["seed", "threads"])
@pytest.mark.parametrize("is_other", [True, False], ids=["another process", "the process of the tests"])
def test_the_process_of_an_sdk_is_paused_before_it_answers(
    is_other: bool, make: Callable[[Paused], Stalls], monkeypatch: pytest.MonkeyPatch
) -> None:
    paused = Paused()
    make(paused).install(monkeypatch)
    reads, writes = os.pipe()
    link = Link(reads, writes)
    number = os.getpid() + is_other
    with monkeypatch.context() as patch:
        patch.setattr(os, "getpid", lambda: number)
        for _ in range(30):
            link.send(pm.Ready(None))
    link.forked()  # closes the pipe
    assert bool(paused.counts) == is_other


@pytest.mark.skipif(not hasattr(select, "epoll"), reason="the files of Linux")
def test_the_loop_sees_nothing_of_a_file_that_is_ready_until_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """A test whose clock jumps while something is on its way depends on the speed of what brings it."""
    stalls = FileStalls(late=inf)
    stalls.install(monkeypatch)

    async def main() -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            ours, (theirs, _) = socket.create_connection(listener.getsockname()), listener.accept()
        with ours, theirs:
            theirs.send(b"x")
            with trio.move_on_after(10) as scope:
                await trio.lowlevel.wait_readable(ours)
            assert scope.cancelled_caught
            trio.lowlevel.current_clock().autojump_threshold = inf  # type: ignore[attr-defined]
            stalls.late = 0
            with deadline("the byte"):
                await trio.lowlevel.wait_readable(ours)

    trio.run(main, clock=MockClock(autojump_threshold=0))


def test_the_clock_leaps_the_first_time_that_a_task_waits_at_a_place(monkeypatch: pytest.MonkeyPatch) -> None:
    """A test in which a limit passes while it takes a step depends on the speed of the step."""
    make_stalls("a test", "clock").install(monkeypatch)

    async def main() -> None:
        began = trio.current_time()
        await trio.lowlevel.checkpoint()
        assert trio.current_time() - began >= LEAP
        with trio.move_on_after(LEAP / 2) as scope:
            await trio.sleep_forever()
        assert scope.cancelled_caught

    trio.run(main)


def test_while_a_test_is_paused_a_thread_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """A test that expects something before a thread has done it depends on the speed of both."""
    done = threading.Event()
    thread = threading.Thread(target=done.set)
    RandomStalls("a seed", lambda seconds: thread.ident and done.wait(DEADLINE)).install(monkeypatch)
    seen: list[bool] = []

    async def main() -> None:
        thread.start()
        for _ in range(30):
            await trio.lowlevel.checkpoint()
        seen.append(done.is_set())

    trio.run(main)
    thread.join()
    assert seen == [True]


def test_the_pauses_of_a_test_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    paused = Paused()
    RandomStalls("a seed", paused).install(monkeypatch)
    trio.run(steps, 10_000)
    assert MOST <= paused.seconds < MOST + 1


def test_a_word_that_is_no_mode_is_a_seed() -> None:
    kinds = {mode: type(make_stalls("a test", mode)) for mode in ("each", "others", "threads", "files", "1", "word")}
    assert [*kinds.values()] == [StepStalls, StepStalls, ReportStalls, FileStalls, RandomStalls, RandomStalls]
