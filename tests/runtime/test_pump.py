"""Service(pump=): a function is called on the SDK's thread every few seconds, between two calls."""

from __future__ import annotations

import itertools
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import pytest
import trio
from trio.testing import MockClock

import trio_jobs
from support.rig import open_queue, pass_time, until_state
from support.waiting import DEADLINE, deadline
from trio_jobs import Queue, Retry, SdkCallStuck, SdkHandle, Service
from trio_jobs._runtime import pump
from trio_jobs._runtime.queue import runtime_of
from trio_jobs.testing import Blocker
from trio_jobs.testing import open_queue as open_virtual_queue


class Program:
    """An SDK with a message loop."""

    def __init__(self) -> None:
        self.record: list[str] = []
        self.threads: set[int] = set()
        self.script: dict[str, list[Any]] = {"pump": [], "call": []}  # exceptions to raise, blockers
        self.inside = 0
        self._pumped = threading.Condition()
        self._pumps = 0

    @contextmanager
    def session(self) -> Iterator[Program]:
        self.note("open")
        try:
            yield self
        except BaseException as error:
            self.note(f"discard {error}")
            raise
        finally:
            self.note("close")

    def call(self, what: str) -> str:
        self.note(what)
        self._do("call")
        return what

    def save(self) -> None:
        """`Service(save=Program.save)`."""
        self.note("save")

    def pump(self) -> None:
        """`Service(pump=Program.pump)`."""
        self.note("pump")
        try:
            self._do("pump")
        finally:
            with self._pumped:
                self._pumps += 1
                self._pumped.notify_all()

    async def pumped(self, queue: Queue, times: int) -> None:
        """Wait until so many calls of the pump have ended, and the queue waits for the next one."""

        def wait() -> bool:
            with self._pumped:
                return self._pumped.wait_for(lambda: self._pumps >= times, DEADLINE)

        assert await trio.to_thread.run_sync(wait), f"the pump was not called {times} times"
        with deadline("the queue sees that the call of the pump has ended"):
            while runtime_of(queue).executor.inside:
                await trio.lowlevel.checkpoint()
        await trio.testing.wait_all_tasks_blocked()

    def note(self, what: str) -> None:
        self.record.append(what)
        self.threads.add(threading.get_ident())

    def _do(self, operation: str) -> None:
        self.inside += 1
        assert self.inside == 1, "P1"
        try:
            script = self.script[operation]
            item = script.pop(0) if script else None
            if isinstance(item, Blocker):
                item.block()
                item = item.then
            if isinstance(item, BaseException):
                raise item
        finally:
            self.inside -= 1


def service_with(program: Program, **settings: Any) -> Service:
    service = Service(sdk=program.session, pump=Program.pump, **{"pump_every": 5, **settings})

    @service.handler(on_doubt="hold", retry=Retry(1, waits=[1]))
    def work(program: Program, what: str) -> str:
        return program.call(what)

    return service


async def test_the_pump_is_called_every_few_seconds_on_the_thread_of_the_sdk(mock_clock: MockClock) -> None:
    program = Program()
    async with open_queue(service_with(program)) as queue:
        await pass_time(mock_clock, 4)
        assert program.record == ["open"]
        for n in (1, 2, 3):
            await pass_time(mock_clock, 1 if n == 1 else 5)
            await program.pumped(queue, n)
        assert await queue.result((await queue.submit("work", "a")).job_id) == "a"
    assert program.record == ["open", "pump", "pump", "pump", "a", "close"]
    assert len(program.threads) == 1


async def test_p1_the_pump_is_not_called_during_a_call_and_goes_before_the_next_one(mock_clock: MockClock) -> None:
    """Eight times: between two calls the SDK is idle for a moment, in which a pump that waits for that may run."""
    program, holds = Program(), [Blocker() for _ in range(8)]
    program.script["call"] += holds
    async with open_queue(service_with(program)) as queue:
        jobs = [await queue.submit("work", what) for what in "abcdefghi"]
        for what, hold in zip("abcdefgh", holds, strict=True):
            await hold.reached()
            await pass_time(mock_clock, 60)
            assert program.record[-1] == what
            hold.release()
        for job in jobs:
            await queue.result(job.job_id)
    assert program.record == ["open", "a", *itertools.chain(*(("pump", what) for what in "bcdefghi")), "close"]


async def test_a_call_waits_until_the_pump_has_returned(mock_clock: MockClock) -> None:
    program, hold = Program(), Blocker()
    program.script["pump"].append(hold)
    async with open_queue(service_with(program)) as queue:
        await pass_time(mock_clock, 5)
        await hold.reached()
        receipt = await queue.submit("work", "a")
        await trio.testing.wait_all_tasks_blocked()
        assert queue.get(receipt.job_id).state == "processing"
        assert program.record == ["open", "pump"]
        hold.release()
        assert await queue.result(receipt.job_id) == "a"
    assert program.record == ["open", "pump", "a", "close"]


async def test_a_pause_does_not_stop_the_pump_and_the_stop_does_before_the_close(mock_clock: MockClock) -> None:
    program, last = Program(), Blocker()

    async def release() -> None:
        await trio.testing.wait_all_tasks_blocked()
        assert program.record[-1] == "pump"
        last.release()  # the stop waits for the pump

    async with trio.open_nursery() as nursery, open_queue(service_with(program)) as queue:
        await queue.pause()
        await pass_time(mock_clock, 5)
        await program.pumped(queue, 1)
        program.script["pump"].append(last)
        await pass_time(mock_clock, 5)
        await last.reached()
        nursery.start_soon(release)
    assert program.record == ["open", "pump", "pump", "close"]
    assert queue.report is not None
    assert queue.report.sdk_closed


async def test_p2_without_a_session_there_is_no_pump(mock_clock: MockClock) -> None:
    program = Program()
    program.script["call"].append(OSError("gone"))
    async with open_queue(service_with(program)) as queue:
        receipt = await queue.submit("work", "a")
        with deadline("the close of the discarded session"):
            while "close" not in program.record:
                await trio.lowlevel.checkpoint()
            await runtime_of(queue).sessions.wait_settled()
        await queue.pause()
        await pass_time(mock_clock, 60)
        assert "pump" not in program.record
        await queue.resume()
        await queue.result(receipt.job_id)
        await pass_time(mock_clock, 5)  # from the opening of the new session
        await program.pumped(queue, 1)
    assert program.record == ["open", "a", "discard gone", "close", "open", "a", "pump", "close"]


async def test_p3_a_pump_that_raises_loses_the_session_which_is_closed_at_once(
    mock_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    program = Program()
    program.script["pump"].append(OSError("the program is gone"))
    async with open_queue(service_with(program)) as queue:
        await queue.pause()  # a pause does not keep a lost session open
        await pass_time(mock_clock, 5)
        await program.pumped(queue, 1)
        with deadline("the close of the lost session"):
            while "close" not in program.record:
                await trio.lowlevel.checkpoint()
        await queue.resume()
        assert await queue.result((await queue.submit("work", "a")).job_id) == "a"
    assert program.record == ["open", "pump", "discard the program is gone", "close", "open", "a", "close"]
    assert "the pump raised OSError: the program is gone: the SDK session is lost" in caplog.text


async def test_a_pump_that_raises_gives_back_what_is_not_saved(mock_clock: MockClock) -> None:
    program = Program()
    service = Service(
        sdk=program.session, pump=Program.pump, pump_every=5, save=Program.save, save_after_jobs=10, save_after=100
    )

    @service.handler(idempotent=True)
    def work(program: Program, what: str) -> str:
        return program.call(what)

    async with open_queue(service) as queue:
        receipt = await queue.submit(work, "a")
        await until_state(queue, receipt.job_id, "saving")
        program.script["pump"].append(OSError("gone"))
        await pass_time(mock_clock, 5)
        await program.pumped(queue, 1)
        with deadline("the second attempt"):
            while program.record.count("a") < 2:
                await trio.lowlevel.checkpoint()
    assert program.record == ["open", "a", "pump", "discard gone", "close", "open", "a", "save", "close"]
    assert queue.get(receipt.job_id).state == "completed"


async def test_an_async_handler_does_not_call_a_session_that_the_pump_has_lost(mock_clock: MockClock) -> None:
    program = Program()
    service, going_on = service_with(program), trio.Event()

    @service.handler(retry=Retry(1, waits=[1]))
    async def twice(sdk: SdkHandle, what: str) -> str:
        await sdk.call(Program.call, f"{what} 1")
        await going_on.wait()
        return str(await sdk.call(Program.call, f"{what} 2"))

    async with open_queue(service) as queue:
        receipt = await queue.submit(twice, "a")
        with deadline("the first call"):
            while "a 1" not in program.record or runtime_of(queue).executor.inside:
                await trio.lowlevel.checkpoint()
        program.script["pump"].append(OSError("gone"))
        await pass_time(mock_clock, 5)  # between two calls of the attempt
        await program.pumped(queue, 1)
        going_on.set()
        job = await until_state(queue, receipt.job_id, "retrying")
        assert str(job.error).startswith("SessionLost: the pump raised OSError, so the session is lost")
        await pass_time(mock_clock, 1)
        assert await queue.result(receipt.job_id) == "a 2"
    assert program.record == ["open", "a 1", "pump", "discard gone", "close", "open", "a 1", "a 2", "close"]


async def test_a_pump_that_hangs_is_overdue_and_stuck_like_a_call(mock_clock: MockClock) -> None:
    program, hold = Program(), Blocker()
    program.script["pump"].append(hold)
    async with open_queue(service_with(program)) as queue:
        await pass_time(mock_clock, 5)
        await hold.reached()
        receipt = await queue.submit("work", "a")
        await pass_time(mock_clock, pump.TIMEOUT + pump.GRACE)
        assert queue.health().problems == ("overdue",)
        await pass_time(mock_clock, pump.TIMEOUT)
        assert queue.health().problems == ("stuck",)
        assert await culprits(queue) == ["pump"]
        hold.release()
        assert await queue.result(receipt.job_id) == "a"
        assert queue.health().ok


async def culprits(queue: Queue) -> list[str]:
    events = await runtime_of(queue).event_log.store.events(0, 100)
    return [event.culprit for event in events if isinstance(event, trio_jobs.events.Stuck)]


async def test_on_stuck_stop_ends_the_queue_when_the_pump_is_stuck(mock_clock: MockClock) -> None:
    program, hold, opened, gone = Program(), Blocker(), trio.Event(), trio.Event()
    program.script["pump"].append(hold)
    service = service_with(program, on_stuck="stop")

    async def life() -> None:
        with pytest.raises(SdkCallStuck, match="the pump did not return; end the process"):
            async with open_queue(service):
                opened.set()
                await trio.sleep_forever()
        gone.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(life)
        with deadline("the opening of the SDK"):
            await opened.wait()
        await pass_time(mock_clock, 5)
        await hold.reached()
        for seconds in (pump.TIMEOUT, pump.GRACE, pump.TIMEOUT):
            await pass_time(mock_clock, seconds)
        ended = gone.is_set()
        mock_clock.jump(60)
        hold.release()
        await gone.wait()
        assert ended


async def test_a_stop_during_a_pump_that_hangs_gives_back_the_job_that_waits_for_it(mock_clock: MockClock) -> None:
    program, hold = Program(), Blocker()
    program.script["pump"].append(hold)
    async with open_queue(service_with(program, drain_timeout=0, cancel_timeout=0)) as queue:
        await pass_time(mock_clock, 5)
        await hold.reached()
        await queue.submit("work", "a")
        await trio.testing.wait_all_tasks_blocked()
    assert queue.report is not None
    assert not queue.report.sdk_closed
    assert [job.state for job in queue.report.unfinished] == ["pending"]  # not in doubt: its call was not made
    hold.release()


async def test_a_pump_that_hangs_is_interrupted(mock_clock: MockClock) -> None:
    program, freed = Program(), threading.Event()

    def hang(program: Program) -> None:
        program.note("pump")
        assert freed.wait(DEADLINE)

    service = Service(sdk=program.session, pump=hang, pump_every=5, interrupt=lambda program: freed.set())
    async with open_queue(service) as queue:
        await pass_time(mock_clock, 5)
        await pass_time(mock_clock, pump.TIMEOUT)
        with deadline("the end of the pump"):
            while not freed.is_set() or queue.statistics().sdk_busy:
                await trio.lowlevel.checkpoint()
        assert queue.health().ok
    assert program.record == ["open", "pump", "close"]


async def test_virtual_time_passes_with_a_pump(autojump_clock: MockClock) -> None:
    program = Program()
    async with open_virtual_queue(service_with(program, pump_every=60)) as queue:
        receipt = await queue.submit("work", "a", delay=3601)
        assert await queue.result(receipt.job_id) == "a"
    assert program.record == ["open", *["pump"] * 60, "a", "close"]


@asynccontextmanager
async def async_sdk() -> AsyncIterator[str]:
    yield "sdk"


def test_a_pump_is_refused_where_there_is_no_thread_for_it() -> None:
    with pytest.raises(trio_jobs.UsageError, match="with async_sdk= start a task where the SDK is opened"):
        Service(async_sdk=async_sdk, pump=print)
    for settings in ({}, {"executor": lambda nursery: None}):
        with pytest.raises(trio_jobs.UsageError, match="pump= needs sdk=; an executor of your own makes such calls"):
            Service(pump=print, **settings)  # type: ignore[arg-type]
    with pytest.raises(trio_jobs.UsageError, match="pump must be a plain function of the SDK, not 3"):
        Service(sdk=Program().session, pump=3)  # type: ignore[arg-type]
    with pytest.raises(trio_jobs.UsageError, match="pump_every"):
        Service(sdk=Program().session, pump=print, pump_every=0)
