"""The watchdog reports a blocked event loop, with its stack. Real threads; each waits for the other's word."""

from __future__ import annotations

import logging
import re
import threading
import time
from collections.abc import Iterator

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

import trio_jobs
from support.recording_sdk import RecordingSdk, RecordingThreadSdk
from support.rig import open_queue
from support.waiting import DEADLINE, deadline, wait_until
from trio_jobs import Service
from trio_jobs._runtime import watchdog
from trio_jobs._runtime.watchdog import Watchdog
from trio_jobs._thread_timer import open_timer

LIMIT = 0.05


class Words(logging.Handler):
    """What the watchdog says. A loaded machine blocks the loop too, so a test waits for what names its own block."""

    def __init__(self) -> None:
        super().__init__()
        self.said: list[str] = []
        self.looks: list[int] = []
        """How often the watchdog had looked when it said that, if the test names it."""
        self.watchdog: Watchdog | None = None
        self._changed = threading.Condition()

    def emit(self, record: logging.LogRecord) -> None:
        with self._changed:
            self.said.append(record.getMessage())
            self.looks.append(0 if self.watchdog is None else self.watchdog.looks)
            self._changed.notify_all()

    def wait_for(self, text: str) -> int:
        """Wait until the watchdog has said this, and return which of its words that is."""

        def find() -> int | None:
            return next((at + 1 for at, said in enumerate(self.said) if text in said), None)

        with self._changed:
            found = self._changed.wait_for(find, DEADLINE)
        assert found, f"the watchdog did not say {text!r}, but {self.said}"
        return found - 1


@pytest.fixture
def words() -> Iterator[Words]:
    handler = Words()
    logger = logging.getLogger("trio_jobs.watchdog")
    logger.addHandler(handler)
    yield handler
    logger.removeHandler(handler)


def a_function_that_blocks_the_loop(words: Words) -> int:
    return words.wait_for("in a_function_that_blocks_the_loop")


def service(limit: float | None = LIMIT) -> Service:
    return Service(watchdog=limit)


async def test_a_blocked_loop_is_logged_with_its_stack_and_so_is_its_end(words: Words) -> None:
    async with service().open():
        a_function_that_blocks_the_loop(words)
        await trio.to_thread.run_sync(words.wait_for, "continues after")
    named = [said for said in words.said if "a_function_that_blocks_the_loop" in said]
    assert len(named) == 1, "once for each time that it is blocked"
    assert re.search(r"the event loop has been blocked for \d+\.\d\d s, here:", named[0])
    assert any(said.startswith("the event loop continues after") for said in words.said)


async def test_an_async_handler_that_blocks_the_loop_is_logged(words: Words) -> None:
    blocking = service()

    @blocking.handler
    async def careless(what: str) -> None:
        words.wait_for("in careless")

    async with blocking.open() as queue:
        await queue.result((await queue.submit(careless, "x")).job_id)


async def test_a_plain_handler_that_blocks_its_own_thread_is_not_logged(words: Words) -> None:
    """Its call lasts for three looks of the watchdog at a loop that is well."""
    sdk = RecordingThreadSdk()
    looks = threading.Semaphore(0)
    plain = Service(sdk=sdk.session, watchdog=LIMIT)

    @plain.handler(on_doubt="hold")
    def patient(sdk: RecordingThreadSdk, what: str) -> None:
        for _ in range(3):
            assert looks.acquire(timeout=DEADLINE)

    async with plain.open() as queue:
        dogs = [thread for thread in threading.enumerate() if thread.name == "trio-jobs watchdog"]
        assert len(dogs) == 1
        dog = dogs[0]._target.__self__  # type: ignore[attr-defined]
        its_look = dog._look

        def look(now: float) -> float:
            looks.release()
            return its_look(now)  # type: ignore[no-any-return]

        dog._look = look
        await queue.result((await queue.submit(patient, "x")).job_id)
    assert not [said for said in words.said if "patient" in said]


async def test_a_loop_that_waits_for_io_is_left_alone_and_one_that_blocks_afterwards_is_logged(words: Words) -> None:
    dog = Watchdog(LIMIT)
    dog.start()
    looks = watchdog.LOOKS - 5
    await trio.to_thread.run_sync(wait_until, lambda: dog.looks >= looks, "the watchdog looks")
    assert dog.callbacks <= looks / 2, "a loaded machine may show the loop while it wakes"
    words.watchdog = dog
    looks = dog.looks
    said = a_function_that_blocks_the_loop(words)
    assert words.looks[said] <= looks + 6, "one that sees it, and as many as the limit has halves"
    await trio.to_thread.run_sync(words.wait_for, "continues after")
    dog.stop()


class ScriptedTimer:
    """A timer that ends a wait when the test says so."""

    def __init__(self) -> None:
        self.times: list[float] = []
        self._wakes = threading.Semaphore(0)

    def set(self, seconds: float) -> None:
        self.times.append(seconds)

    def expire(self) -> None:
        self._wakes.release()

    def wait(self) -> None:
        assert self._wakes.acquire(timeout=DEADLINE)

    def close(self) -> None:
        pass


@pytest.fixture
def processor(monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    """The seconds that the loop has taken of a processor, as the watchdog sees it."""
    used = {"seconds": 0.0}

    class Time:
        monotonic = staticmethod(time.monotonic)

        @staticmethod
        def thread_time() -> float:
            return used["seconds"]

    monkeypatch.setattr(watchdog, "time", Time)
    return used


async def test_a_loop_moves_on_the_next_look_from_the_start_until_it_is_idle_and_when_it_is_busy(
    mock_clock: MockClock, monkeypatch: pytest.MonkeyPatch, processor: dict[str, float]
) -> None:
    timer = ScriptedTimer()
    monkeypatch.setattr(watchdog, "open_timer", lambda: timer)
    dog = Watchdog(10.0)
    async with trio.open_nursery() as nursery:
        dog.start()
        wait_until(lambda: timer.times == [10.0], "the thread waits for its first look")
        nursery.start_soon(dog.run)
        for _ in range(2):
            timer.times.clear()
            await wait_all_tasks_blocked()
            for beats in range(1, 5):
                assert timer.times == [10.0] * beats
                processor["seconds"] += 0.2
                mock_clock.jump(5.0)
                await wait_all_tasks_blocked()
            for _ in range(3):
                mock_clock.jump(5.0)
                await wait_all_tasks_blocked()
            assert timer.times == [10.0] * 5, "the last time is the one after which it was idle"
            timer.expire()
            wait_until(lambda: timer.times[-1:] == [5.0], "the watchdog has seen a loop that does not wait")
        dog.stop()
        nursery.cancel_scope.cancel()


async def test_a_loop_that_is_busy_and_then_blocks_is_logged(words: Words, monkeypatch: pytest.MonkeyPatch) -> None:
    times: list[float] = []

    class NotedTimer(ScriptedTimer):
        def __init__(self) -> None:
            super().__init__()
            self.wait = timer.wait  # type: ignore[method-assign]
            self.expire = timer.expire  # type: ignore[method-assign]
            self.close = timer.close  # type: ignore[method-assign]

        def set(self, seconds: float) -> None:
            times.append(seconds)
            timer.set(seconds)

    timer = open_timer()
    monkeypatch.setattr(watchdog, "open_timer", NotedTimer)
    async with service().open():
        with deadline("the busy loop moves on the look"):
            while times.count(LIMIT) < 10:
                await trio.lowlevel.checkpoint()
        a_function_that_blocks_the_loop(words)


async def test_the_watchdog_ends_with_the_queue() -> None:
    async with service().open():
        [thread] = [thread for thread in threading.enumerate() if thread.name == "trio-jobs watchdog"]
    await trio.to_thread.run_sync(thread.join, DEADLINE)
    assert not thread.is_alive()


async def test_the_watchdog_ends_when_the_loop_has_ended_without_a_stop() -> None:
    made = []

    async def main() -> None:
        dog = Watchdog(LIMIT)
        dog.start()
        made.append(dog)

    await trio.to_thread.run_sync(trio.run, main)
    thread = made[0]._thread
    assert thread is not None
    await trio.to_thread.run_sync(thread.join, DEADLINE)
    assert not thread.is_alive()
    assert made[0].blocked == 0


async def test_watchdog_none_starts_no_watchdog() -> None:
    async with service(limit=None).open():
        assert "trio-jobs watchdog" not in [thread.name for thread in threading.enumerate()]


async def test_virtual_time_starts_no_watchdog(autojump_clock: MockClock) -> None:
    async with open_queue(RecordingSdk().service()):
        assert "trio-jobs watchdog" not in [thread.name for thread in threading.enumerate()]


def test_an_invalid_watchdog_limit_is_refused() -> None:
    with pytest.raises(trio_jobs.UsageError, match="watchdog"):
        Service(watchdog=0)
