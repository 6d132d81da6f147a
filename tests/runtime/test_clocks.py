"""The clocks: what counts a suspend, what may be set, and when the pruner believes the wall clock."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock

import trio_jobs
from support.rig import make_rig
from trio_jobs import MemoryStore, Queue, SystemClock, TrioClock
from trio_jobs._runtime.clock import TOLERANCE, CountedFromWallClock
from trio_jobs._runtime.pruner import CONFIRMED_AFTER, ConfirmedTime

YEAR = 365 * 86_400.0


# elapsed seconds


async def test_the_elapsed_seconds_of_the_system_advance_as_real_time_does() -> None:
    clock = SystemClock()
    before, began, after = time.monotonic(), clock.elapsed(), time.monotonic()
    while time.monotonic() < after + 0.05:
        await trio.lowlevel.checkpoint()
    least, passed, most = time.monotonic() - after, clock.elapsed() - began, time.monotonic() - before
    assert 0.05 <= least <= passed + 0.001, "the two clocks differ by the correction of a time service"
    assert passed <= most + 0.001


@pytest.mark.skipif(not hasattr(time, "CLOCK_BOOTTIME"), reason="this system has no clock that counts a suspend")
def test_where_there_is_one_the_clock_that_counts_a_suspend_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "clock_gettime", lambda number: 42.0 if number == time.CLOCK_BOOTTIME else 0.0)
    assert SystemClock().elapsed() == 42.0


def test_elsewhere_seconds_are_counted_from_the_wall_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(time, "CLOCK_BOOTTIME", raising=False)
    now = {"monotonic": 5.0, "wall": 1000.0}
    monkeypatch.setattr(time, "monotonic", lambda: now["monotonic"])
    monkeypatch.setattr(time, "time", lambda: now["wall"])
    clock = SystemClock()
    began = clock.elapsed()
    now["wall"] += 3600
    assert clock.elapsed() - began == 3600


@given(
    steps=st.lists(
        st.tuples(st.floats(0, 1e5), st.one_of(st.floats(-1e7, 1e7), st.floats(-TOLERANCE / 2, TOLERANCE / 2))),
        max_size=20,
    )
)
def test_counted_seconds_never_go_back_and_count_each_suspend(steps: list[tuple[float, float]]) -> None:
    """A step of the wall clock forward cannot be told from a suspend; a step back counts nothing."""
    now = {"monotonic": 0.0, "wall": 1.7e9}
    elapsed = CountedFromWallClock(lambda: now["monotonic"], lambda: now["wall"])
    for passes, jumps in steps:
        before = elapsed()
        now["monotonic"] += passes
        now["wall"] += passes + jumps
        expected = passes + (jumps if jumps > TOLERANCE else 0.0)
        assert elapsed() - before == pytest.approx(expected, abs=1e-5)


def test_many_readings_of_coarse_clocks_do_not_add_up() -> None:
    """On some systems the two clocks advance in steps of 16 ms, at different moments."""
    now = {"monotonic": 0.0, "wall": 0.0}
    elapsed = CountedFromWallClock(lambda: now["monotonic"], lambda: now["wall"])
    for _ in range(1000):
        now["wall"] += 0.016
        elapsed()
        now["monotonic"] += 0.016
        elapsed()
    assert elapsed() == pytest.approx(16, abs=0.1)


async def test_a_clock_of_virtual_time_can_be_set_and_suspended(autojump_clock: MockClock) -> None:
    clock = TrioClock(epoch=100.0)
    await trio.sleep(1)
    assert (clock.now(), clock.elapsed(), clock.monotonic()) == (101, 1, 1)
    clock.set_wall(-50)
    assert (clock.now(), clock.elapsed(), clock.monotonic()) == (51, 1, 1)
    clock.suspend(10)
    assert (clock.now(), clock.elapsed(), clock.monotonic()) == (61, 11, 1)


# when the wall clock is believed


async def test_a_step_forward_counts_after_it_has_lasted(autojump_clock: MockClock) -> None:
    clock = TrioClock()
    confirmed = ConfirmedTime(clock, None)
    clock.set_wall(YEAR)
    await trio.sleep(CONFIRMED_AFTER - 1)
    assert confirmed.now() == pytest.approx(clock.now() - YEAR)
    await trio.sleep(1)
    confirmed.now()
    await trio.sleep(CONFIRMED_AFTER)
    assert confirmed.now() == pytest.approx(clock.now())


async def test_a_step_back_counts_at_once(autojump_clock: MockClock) -> None:
    clock = TrioClock()
    confirmed = ConfirmedTime(clock, None)
    clock.set_wall(-YEAR)
    assert confirmed.now() == pytest.approx(clock.now())


async def test_a_wrong_reading_does_not_count(autojump_clock: MockClock) -> None:
    clock = TrioClock()
    confirmed = ConfirmedTime(clock, None)
    for _ in range(10):
        clock.set_wall(YEAR)
        await trio.sleep(CONFIRMED_AFTER / 2)
        assert confirmed.now() < clock.now() - YEAR + 1
        clock.set_wall(-YEAR)
        await trio.sleep(CONFIRMED_AFTER / 2)
        assert confirmed.now() == pytest.approx(clock.now())


async def test_the_first_reading_of_a_process_counts_after_it_has_lasted(autojump_clock: MockClock) -> None:
    clock = TrioClock()
    confirmed = ConfirmedTime(clock, clock.now() - YEAR)
    assert confirmed.now() == pytest.approx(clock.now() - YEAR)
    await trio.sleep(CONFIRMED_AFTER)
    assert confirmed.now() == pytest.approx(clock.now())
    assert ConfirmedTime(clock, clock.now() + YEAR).now() == pytest.approx(clock.now()), "never ahead of the wall clock"


@given(changes=st.lists(st.tuples(st.floats(-1e8, 1e8), st.floats(0, 2 * CONFIRMED_AFTER)), max_size=10))
def test_the_confirmed_time_is_never_ahead_of_the_wall_clock(changes: list[tuple[float, float]]) -> None:
    class Clock(TrioClock):
        passed = 0.0

        def monotonic(self) -> float:
            return self.passed

        def elapsed(self) -> float:
            return self.passed

        def now(self) -> float:
            return self.epoch + self.passed

    clock = Clock()
    confirmed = ConfirmedTime(clock, None)
    for step, seconds in changes:
        clock.set_wall(step)
        assert confirmed.now() <= clock.now() + 1e-5
        clock.passed += seconds
        assert confirmed.now() <= clock.now() + 1e-5


# what is removed


@asynccontextmanager
async def keeping(clock: TrioClock, store: MemoryStore | None = None, **settings: Any) -> AsyncIterator[Queue]:
    rig = make_rig("trio", settings={"job_retention": 86_400, **settings})
    async with rig.service.open(clock=clock, store=store or MemoryStore(), seed=1) as queue:
        yield queue


async def done(queue: Queue, key: str) -> str:
    receipt = await queue.submit("work", key, key=key)
    await queue.result(receipt.job_id)
    return receipt.job_id


def jobs(queue: Queue) -> list[str]:
    return [job.id for job in queue.list()]


@pytest.mark.parametrize("wrong", [YEAR, -YEAR])
@pytest.mark.parametrize("restarted", [False, True])
async def test_a_wall_clock_that_is_wrong_for_minutes_removes_no_job_and_no_key(
    restarted: bool, wrong: float, autojump_clock: MockClock
) -> None:
    clock, store = TrioClock(), MemoryStore()
    async with keeping(clock, store) as queue:
        before = await done(queue, "before")
        if restarted:
            await trio.sleep(100)
        else:
            clock.set_wall(wrong)
            during = await done(queue, "during")
            await trio.sleep(600)
            clock.set_wall(-wrong)
            await trio.sleep(600)
            assert jobs(queue) == [before, during]
    if restarted:
        clock.set_wall(wrong)
        async with keeping(clock, store) as queue:
            during = await done(queue, "during")
            await trio.sleep(600)
            clock.set_wall(-wrong)
            await trio.sleep(600)
            assert jobs(queue) == [before, during]
            assert not (await queue.submit("work", "before", key="before")).created


async def test_a_job_that_ended_under_a_wrong_clock_has_its_right_age(autojump_clock: MockClock) -> None:
    clock = TrioClock()
    async with keeping(clock) as queue:
        clock.set_wall(-YEAR)
        early = await done(queue, "early")
        clock.set_wall(2 * YEAR)
        late = await done(queue, "late")
        clock.set_wall(-YEAR)
        await trio.sleep(86_000)
        assert jobs(queue) == [early, late]
        await trio.sleep(600)
        assert jobs(queue) == []


async def test_a_restored_job_with_a_time_in_the_future_does_not_keep_others(autojump_clock: MockClock) -> None:
    clock, store = TrioClock(), MemoryStore()
    async with keeping(clock, store) as queue:
        clock.set_wall(YEAR)
        future = await done(queue, "future")
        clock.set_wall(-YEAR)
        await done(queue, "present")
    await trio.sleep(86_400)
    async with keeping(clock, store) as queue:
        await trio.sleep(CONFIRMED_AFTER + 120)
        assert jobs(queue) == [future]
        await trio.sleep(86_400)
        assert jobs(queue) == [], "it ended before this process began"


async def test_old_jobs_are_removed_soon_after_a_restart(autojump_clock: MockClock) -> None:
    clock, store = TrioClock(), MemoryStore()
    async with keeping(clock, store) as queue:
        await done(queue, "old")
    await trio.sleep(10 * 86_400)
    async with keeping(clock, store) as queue:
        await trio.sleep(CONFIRMED_AFTER + 120)
        assert jobs(queue) == []


async def test_a_key_whose_job_is_removed_while_the_clock_is_behind_is_kept_as_long_as_others(
    autojump_clock: MockClock,
) -> None:
    clock = TrioClock()
    async with keeping(clock, max_finished_jobs=0, key_retention=30 * 86_400) as queue:
        await done(queue, "right")
        await trio.sleep(120)
        clock.set_wall(-YEAR)
        await done(queue, "behind")
        await trio.sleep(120)
        clock.set_wall(YEAR)
        await trio.sleep(2 * CONFIRMED_AFTER)
        assert jobs(queue) == []
        for key in ("right", "behind"):
            assert not (await queue.submit("work", key, key=key)).created
        await trio.sleep(31 * 86_400)
        assert (await queue.submit("work", "behind", key="behind")).created


async def test_a_clock_that_has_no_elapsed_seconds_is_named(autojump_clock: MockClock) -> None:
    class Old:
        def now(self) -> float:
            return 0.0

        def monotonic(self) -> float:
            return trio.current_time()

    with pytest.raises(trio_jobs.UsageError, match="clock must conform to trio_jobs"):
        trio_jobs.Service().open(clock=Old())  # type: ignore[arg-type] # that is the point
