"""PyVISA with the instruments of pyvisa-sim, which exist only as a text: `examples/visa_supply.py`."""

from __future__ import annotations

import sys
import textwrap
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import trio_jobs
from support.processes import run
from support.sdks import EXAMPLES, load_example, need_module, sdk_environment

need_module("pyvisa_sim")

#: It answers, except to PAUSE; the simulation cannot answer late, so a test leaves an answer unread instead
SUPPLY = textwrap.dedent(
    r"""
    spec: "1.1"
    devices:
      supply:
        eom:
          GPIB INSTR: {q: "\n", r: "\n"}
        error: ERROR
        dialogues:
          - q: "PAUSE"
        properties:
          voltage:
            default: 0.0
            getter: {q: "VOLT?", r: "{:.2f}"}
            setter: {q: "VOLT {:.2f}", r: "OK", e: "OUT OF RANGE"}
            specs: {min: 0, max: 30, type: float}
    resources:
      GPIB0::5::INSTR: {device: supply}
    """
)


@pytest.fixture
def backend(tmp_path: Path) -> str:
    (tmp_path / "supply.yaml").write_text(SUPPLY, encoding="utf-8")
    return f"{tmp_path / 'supply.yaml'}@sim"


@pytest.fixture
def example(backend: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.setenv("VISA", backend)
    return load_example("visa_supply")


def test_the_program_sets_the_voltage(backend: str, tmp_path: Path) -> None:
    command = [sys.executable, str(EXAMPLES / "visa_supply.py")]
    done = run(command, env=sdk_environment(VISA=backend), cwd=tmp_path, check=True)
    assert done.stdout == "12.0 V\n"


async def test_what_the_instrument_refuses_fails_and_the_session_stays(example: ModuleType) -> None:
    async with example.service.open() as queue:
        receipt = await queue.submit(example.set_voltage, 31.0)
        with pytest.raises(trio_jobs.JobFailed, match="OUT OF RANGE"):
            await queue.result(receipt.job_id)
        receipt = await queue.submit(example.set_voltage, 5.0)
        assert await queue.result(receipt.job_id) == 5.0
        assert queue.statistics().session == 1


async def test_p11_a_read_without_an_answer_ends_when_the_attempt_is_to_end(example: ModuleType) -> None:
    """The VISA timeout is 0.1 s, so it takes no longer."""
    service = trio_jobs.Service(sdk=example.open_supply)

    @service.handler(idempotent=True, attempt_timeout=0.05, retry=trio_jobs.Retry(0))
    def pause(supply: Any, seconds: int, job: trio_jobs.JobContext) -> None:
        supply.ask("PAUSE", job)

    async with service.open() as queue:
        receipt = await queue.submit(pause, 1)
        with pytest.raises(trio_jobs.JobFailed) as failed:
            await queue.result(receipt.job_id)
    assert failed.value.error is not None


async def test_an_answer_that_was_not_waited_for_is_not_read_by_the_next_session(example: ModuleType) -> None:
    service = trio_jobs.Service(sdk=example.open_supply)

    @service.handler(idempotent=True, retry=trio_jobs.Retry(1, waits=[0.0]))
    def read_voltage(supply: Any, volts: float, job: trio_jobs.JobContext) -> float:
        if job.attempt == 1:
            supply.resource.write("*IDN?")  # the answer, ERROR, stays unread
            raise ConnectionError("the reader has given up")
        return float(supply.ask("VOLT?", job))

    async with service.open() as queue:
        receipt = await queue.submit(read_voltage, 0.0)
        assert await queue.result(receipt.job_id) == 0.0
