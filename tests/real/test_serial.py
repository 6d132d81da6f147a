"""pyserial on a pseudo-terminal: the device behind `examples/serial_doser.py` hangs, drops off and answers late."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

import trio_jobs
from support.processes import run
from support.pump import Pump
from support.rig import until_state
from support.sdks import EXAMPLES, load_example, need_module, sdk_environment
from support.waiting import DEADLINE
from trio_jobs import TrioClock

need_module("serial")
if sys.platform == "win32":
    pytest.skip("needs a pseudo-terminal", allow_module_level=True)

NO_WAIT = trio_jobs.Retry(waits=[0.01])


@pytest.fixture
def pump(tmp_path: Path) -> Iterator[Pump]:
    with Pump(tmp_path / "ttyUSB0").plugged() as pump:
        yield pump


@pytest.fixture
def example(pump: Pump, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.setenv("DOSER", str(pump.path))
    return load_example("serial_doser")


def service_of(example: ModuleType, attempt_timeout: float | None = None, **settings: Any) -> trio_jobs.Service:
    """The program's service, with other limits."""
    service = trio_jobs.Service(sdk=example.open_doser, interrupt=lambda doser: doser.port.cancel_read(), **settings)
    service.handler(kind="dose", verify=example.was_dosed, attempt_timeout=attempt_timeout)(example.dose)
    return service


async def limit_passes(pump: Pump, clock: MockClock) -> None:
    """Let the attempt that the pump does not answer time out; no other one does, whatever it takes."""
    assert await trio.to_thread.run_sync(pump.held.wait, DEADLINE)
    clock.jump(0.2)


def test_the_program_doses_once(pump: Pump, tmp_path: Path) -> None:
    command = [sys.executable, str(EXAMPLES / "serial_doser.py")]
    for _ in range(2):
        done = run(command, env=sdk_environment(DOSER=str(pump.path)), cwd=tmp_path, check=True)
        assert done.stdout == "sample-1 has its 5 ml\n"
    assert pump.doses == [("sample-1", 5)]


async def test_p11_an_interrupt_frees_a_read_that_hangs_and_verify_finds_the_dose(
    pump: Pump, example: ModuleType, mock_clock: MockClock
) -> None:
    """Without `interrupt=` the read would end after the port's timeout of 10 s only."""
    pump.hold("DOSE")
    async with service_of(example, attempt_timeout=0.2).open(clock=TrioClock()) as queue:
        receipt = await queue.submit("dose", 5, key="a")
        await limit_passes(pump, mock_clock)
        await queue.result(receipt.job_id, in_doubt="raise")
        job = queue.get(receipt.job_id)
        assert job.reason == "verified"
        assert job.attempts is not None
        assert [attempt.outcome for attempt in job.attempts] == ["timed_out"]
    assert pump.doses == [("a", 5)]


async def test_a_late_answer_is_not_the_answer_to_the_next_question(
    pump: Pump, example: ModuleType, mock_clock: MockClock
) -> None:
    """The pump answers OK to the first dose when the next session asks; without the mark that would be taken for the
    answer to DONE?, and everything after it would be one answer late."""
    pump.hold("DOSE")
    async with service_of(example, attempt_timeout=0.2).open(clock=TrioClock()) as queue:
        for key in "abc":
            receipt = await queue.submit("dose", 5, key=key)
            if key == "a":
                await limit_passes(pump, mock_clock)
            await queue.result(receipt.job_id, in_doubt="raise")
    assert pump.doses == [("a", 5), ("b", 5), ("c", 5)]
    marks = [command for command in pump.commands if command.startswith("SYNC")]
    assert len(marks) == len({*marks}) == 2, "one for each session"


async def test_a_device_that_drops_off_is_asked_when_it_is_back(pump: Pump, example: ModuleType) -> None:
    pump.drop("DOSE")
    service = service_of(example, open_retry=NO_WAIT)
    async with service.open() as queue:
        receipt = await queue.submit("dose", 5, key="a")
        await until_state(queue, receipt.job_id, "in_doubt")
        while queue.health().problems != ("opening_sdk",):
            await wait_all_tasks_blocked(0.001)
        pump.plug()
        await queue.result(receipt.job_id, in_doubt="raise")
        assert queue.get(receipt.job_id).reason == "verified"
        assert queue.health().problems == ()
    assert pump.doses == [("a", 5)]


async def test_p3_a_stop_frees_a_read_that_hangs_and_closes_the_port(pump: Pump, example: ModuleType) -> None:
    pump.hold("DOSE")
    service = service_of(example, drain_timeout=0.0)
    async with service.open() as queue:
        receipt = await queue.submit("dose", 5, key="a")
        assert await trio.to_thread.run_sync(pump.held.wait, DEADLINE)
    assert queue.report is not None
    assert queue.report.sdk_closed
    assert [(job.job_id, job.state) for job in queue.report.unfinished] == [(receipt.job_id, "in_doubt")]
    with example.open_doser() as doser:
        assert doser.ask("DONE? a") == "YES"
