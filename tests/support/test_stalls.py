"""The stalls: which threads are paused, and for how long together."""

from __future__ import annotations

import os
import threading
from collections import Counter

import pytest
import trio

from support.stalls import MOST, Stalls
from support.waiting import DEADLINE
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
    paused = Paused()
    with pytest.MonkeyPatch.context() as patch:
        Stalls(seed, paused).install(patch)
        trio.run(run, 50)  # type: ignore[arg-type]
    return paused.counts["MainThread"]


def test_the_task_of_a_test_is_paused_more_often_than_the_others() -> None:
    assert paused_steps(steps) > paused_steps(with_a_task) > 0


def test_the_same_seed_pauses_the_same_steps() -> None:
    assert len({paused_steps(steps) for _ in range(3)}) == 1
    assert len({paused_steps(steps, str(seed)) for seed in range(10)}) > 1


def test_the_thread_of_an_sdk_is_paused_before_it_reports(monkeypatch: pytest.MonkeyPatch) -> None:
    paused = Paused()
    Stalls("a seed", paused).install(monkeypatch)
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


@pytest.mark.parametrize("is_other", [True, False], ids=["another process", "the process of the tests"])
def test_the_process_of_an_sdk_is_paused_before_it_answers(is_other: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    paused = Paused()
    Stalls("a seed", paused).install(monkeypatch)
    reads, writes = os.pipe()
    link = Link(reads, writes)
    number = os.getpid() + is_other
    with monkeypatch.context() as patch:
        patch.setattr(os, "getpid", lambda: number)
        for _ in range(30):
            link.send(pm.Ready(None))
    link.forked()  # closes the pipe
    assert bool(paused.counts) == is_other


def test_while_a_test_is_paused_a_thread_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """A test that expects something before a thread has done it depends on the speed of both."""
    done = threading.Event()
    thread = threading.Thread(target=done.set)
    Stalls("a seed", lambda seconds: done.wait(DEADLINE)).install(monkeypatch)
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
    Stalls("a seed", paused).install(monkeypatch)
    trio.run(steps, 10_000)
    assert MOST <= paused.seconds < MOST + 1
