"""Rules of the timers of threads: a thread waits until a time that another thread moves on."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from support.waiting import DEADLINE
from trio_jobs import _thread_timer
from trio_jobs._thread_timer import KernelTimer, PlainTimer, ThreadTimer, open_timer

LATE = 10 * DEADLINE

timers = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has timers with file descriptors")


@pytest.fixture(params=["plain", pytest.param("timer", marks=timers)])
def timer(request: pytest.FixtureRequest) -> Iterator[ThreadTimer]:
    made = PlainTimer() if request.param == "plain" else open_timer()
    assert isinstance(made, PlainTimer if request.param == "plain" else KernelTimer)
    yield made
    made.close()


@pytest.fixture
def wait(timer: ThreadTimer) -> Callable[[], threading.Thread]:
    """Starts a thread that waits for the timer once."""

    def start() -> threading.Thread:
        thread = threading.Thread(target=timer.wait, daemon=True)
        thread.start()
        return thread

    return start


def has_ended(thread: threading.Thread) -> bool:
    thread.join(DEADLINE)
    return not thread.is_alive()


@pytest.mark.parametrize("seconds", [0.0, 1e-12, 0.01], ids=["now", "less than a nanosecond", "soon"])
def test_a_wait_ends_at_the_time_that_was_set(
    timer: ThreadTimer, wait: Callable[[], threading.Thread], seconds: float
) -> None:
    timer.set(seconds)
    assert has_ended(wait())


def test_an_expiry_ends_a_wait_and_no_other(timer: ThreadTimer, wait: Callable[[], threading.Thread]) -> None:
    for _ in range(3):
        timer.set(LATE)
        first = wait()
        timer.expire()
        assert has_ended(first)
    timer.expire()  # before the wait
    assert has_ended(wait())


def test_a_thread_that_wakes_at_a_time_that_has_been_moved_on_waits_again(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    waits = []

    class Time:
        @staticmethod
        def monotonic() -> float:
            return now

    timer = PlainTimer()

    def wait(seconds: float) -> bool:
        nonlocal now
        waits.append(seconds)
        if len(waits) < 3:  # the other thread moves it on meanwhile
            now += seconds / 2
            timer.set(10.0)
            now += seconds / 2
        else:
            now += seconds
        return False

    monkeypatch.setattr(_thread_timer, "time", Time)
    monkeypatch.setattr(timer._is_expired, "wait", wait)
    timer.set(10.0)
    timer.wait()
    assert waits == [10.0, 5.0, 7.5]
    assert now == 22.5


def left(timer: KernelTimer) -> float:
    """The seconds until the timer expires; 0: it is not set."""
    for line in Path(f"/proc/self/fdinfo/{timer._descriptor}").read_text().splitlines():
        name, _, value = line.partition(": ")
        if name == "it_value":
            whole, nanoseconds = value.strip("()").split(", ")
            return int(whole) + int(nanoseconds) / 1e9
    raise AssertionError("the descriptor is none of a timer")


@timers
def test_a_timer_is_moved_on_while_its_thread_waits() -> None:
    timer = open_timer()
    assert isinstance(timer, KernelTimer)
    assert left(timer) == 0
    for seconds in (LATE, LATE * 2, LATE * 3 + 0.25):
        timer.set(seconds)
        assert seconds - DEADLINE < left(timer) <= seconds
    timer.close()


def test_a_closed_timer_is_not_set_since_its_descriptor_may_be_that_of_another_file() -> None:
    end, other_end = os.pipe()
    times: list[float] = []
    timer = KernelTimer(end, lambda timer, seconds: times.append(seconds))
    timer.set(1.0)
    timer.close()
    with pytest.raises(BrokenPipeError):
        os.write(other_end, b"x")
    timer.set(2.0)
    timer.expire()
    timer.close()
    assert times == [1.0]
    os.close(other_end)


@timers
def test_a_timer_needs_no_file_descriptor_if_there_is_none() -> None:
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = os.dup(0)
    os.close(free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free, hard))
    try:
        timer = open_timer()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert isinstance(timer, PlainTimer)


@timers
def test_a_timer_is_plain_where_the_c_library_has_no_timers(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> KernelTimer:
        raise AttributeError("timerfd_create")

    monkeypatch.setattr(_thread_timer, "_open_kernel_timer", missing)
    assert isinstance(open_timer(), PlainTimer)


def test_other_systems_have_plain_timers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    assert isinstance(open_timer(), PlainTimer)
