"""Rules of the alarms: a thread waits until a time that another thread moves on."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from support.waiting import DEADLINE
from trio_jobs import _alarm
from trio_jobs._alarm import Alarm, PlainAlarm, TimerAlarm, open_alarm

LATE = 10 * DEADLINE

timers = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has timers with file descriptors")


@pytest.fixture(params=["plain", pytest.param("timer", marks=timers)])
def alarm(request: pytest.FixtureRequest) -> Iterator[Alarm]:
    made = PlainAlarm() if request.param == "plain" else open_alarm()
    assert isinstance(made, PlainAlarm if request.param == "plain" else TimerAlarm)
    yield made
    made.close()


@pytest.fixture
def wait(alarm: Alarm) -> Callable[[], threading.Thread]:
    """Starts a thread that waits for the alarm once."""

    def start() -> threading.Thread:
        thread = threading.Thread(target=alarm.wait, daemon=True)
        thread.start()
        return thread

    return start


def has_ended(thread: threading.Thread) -> bool:
    thread.join(DEADLINE)
    return not thread.is_alive()


@pytest.mark.parametrize("seconds", [0.0, 1e-12, 0.01], ids=["now", "less than a nanosecond", "soon"])
def test_a_wait_ends_at_the_time_that_was_set(
    alarm: Alarm, wait: Callable[[], threading.Thread], seconds: float
) -> None:
    alarm.set(seconds)
    assert has_ended(wait())


def test_a_ring_ends_a_wait_and_no_other(alarm: Alarm, wait: Callable[[], threading.Thread]) -> None:
    for _ in range(3):
        alarm.set(LATE)
        first = wait()
        alarm.ring()
        assert has_ended(first)
    alarm.ring()  # before the wait
    assert has_ended(wait())


def test_a_thread_that_wakes_at_a_time_that_has_been_moved_on_waits_again(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    waits = []

    class Time:
        @staticmethod
        def monotonic() -> float:
            return now

    alarm = PlainAlarm()

    def wait(seconds: float) -> bool:
        nonlocal now
        waits.append(seconds)
        if len(waits) < 3:  # the other thread moves it on meanwhile
            now += seconds / 2
            alarm.set(10.0)
            now += seconds / 2
        else:
            now += seconds
        return False

    monkeypatch.setattr(_alarm, "time", Time)
    monkeypatch.setattr(alarm._has_rung, "wait", wait)
    alarm.set(10.0)
    alarm.wait()
    assert waits == [10.0, 5.0, 7.5]
    assert now == 22.5


def left(alarm: TimerAlarm) -> float:
    """The seconds until the timer expires; 0: it is not set."""
    for line in Path(f"/proc/self/fdinfo/{alarm._timer}").read_text().splitlines():
        name, _, value = line.partition(": ")
        if name == "it_value":
            whole, nanoseconds = value.strip("()").split(", ")
            return int(whole) + int(nanoseconds) / 1e9
    raise AssertionError("the descriptor is none of a timer")


@timers
def test_a_timer_is_moved_on_while_its_thread_waits() -> None:
    alarm = open_alarm()
    assert isinstance(alarm, TimerAlarm)
    assert left(alarm) == 0
    for seconds in (LATE, LATE * 2, LATE * 3 + 0.25):
        alarm.set(seconds)
        assert seconds - DEADLINE < left(alarm) <= seconds
    alarm.close()


def test_a_closed_timer_is_not_set_since_its_descriptor_may_be_that_of_another_file() -> None:
    end, other_end = os.pipe()
    times: list[float] = []
    alarm = TimerAlarm(end, lambda timer, seconds: times.append(seconds))
    alarm.set(1.0)
    alarm.close()
    with pytest.raises(BrokenPipeError):
        os.write(other_end, b"x")
    alarm.set(2.0)
    alarm.ring()
    alarm.close()
    assert times == [1.0]
    os.close(other_end)


@timers
def test_an_alarm_needs_no_file_descriptor_if_there_is_none() -> None:
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = os.dup(0)
    os.close(free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free, hard))
    try:
        alarm = open_alarm()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert isinstance(alarm, PlainAlarm)


@timers
def test_an_alarm_is_plain_where_the_c_library_has_no_timers(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> TimerAlarm:
        raise AttributeError("timerfd_create")

    monkeypatch.setattr(_alarm, "_open_timer", missing)
    assert isinstance(open_alarm(), PlainAlarm)


def test_other_systems_have_plain_alarms(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    assert isinstance(open_alarm(), PlainAlarm)
