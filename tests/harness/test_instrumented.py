"""Instrumented handlers: no call of a process that has died reaches the SDK."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import trio
from trio.testing import MockClock
from worked_example import Invoice, Ledger, make_corrected_service

import trio_jobs
from trio_jobs._service import parts_of
from trio_jobs.testing import _instrumented
from trio_jobs.testing._instrumented import CallRecorder, CallSite, FaultPlan, ProcessDied, instrument

JOB: Any = SimpleNamespace(id="job-1", attempt=1)
SLOW = FaultPlan("slow", at=CallSite(2, "before", "book"), seconds=5.0)


def test_a_slow_plain_call_of_a_process_that_dies_meanwhile_does_not_reach_the_sdk(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ledger, recorder = Ledger(), CallRecorder(plan=SLOW)

    class Activity:
        def sleep(self, seconds: float) -> None:
            recorder.dead = True

    monkeypatch.setattr(_instrumented, "current_activity", Activity)
    handler = instrument(parts_of(make_corrected_service(ledger)).handlers["post_invoice"], recorder)
    with pytest.raises(ProcessDied):
        handler.fn(ledger, Invoice("A-1", 1), JOB)
    assert recorder.triggered
    assert ledger.vouchers == []


def test_a_handler_that_has_returned_does_not_raise_by_plan() -> None:
    ledger = Ledger()
    plan = FaultPlan("raise", at=CallSite(3, "after", "any"), error=OSError())  # the ledger is called twice
    recorder = CallRecorder(plan=plan)
    handler = instrument(parts_of(make_corrected_service(ledger)).handlers["post_invoice"], recorder)
    handler.fn(ledger, Invoice("A-1", 1), JOB)
    assert len(ledger.vouchers) == 1
    assert [str(site) for site in recorder.call_sites][-1] == "after call 3, return of the handler"
    assert not recorder.triggered  # the fault stays planned for a call


async def test_a_slow_async_call_of_a_process_that_dies_meanwhile_does_not_reach_the_sdk(
    autojump_clock: MockClock,
) -> None:
    booked: list[str] = []
    service = trio_jobs.Service(async_sdk=lambda: pytest.fail("not opened here"))

    class AsyncLedger:
        async def check(self) -> None:
            await trio.lowlevel.checkpoint()

        async def book(self, number: str) -> None:
            booked.append(number)

    @service.handler(on_doubt="hold")
    async def post(ledger: Any, number: str) -> None:
        await ledger.check()
        await ledger.book(number)

    recorder = CallRecorder(plan=SLOW)
    handler = instrument(parts_of(service).handlers["post"], recorder)

    async def die() -> None:
        await trio.sleep(1)
        recorder.dead = True

    async with trio.open_nursery() as nursery:
        nursery.start_soon(die)
        with pytest.raises(ProcessDied):
            await handler.fn(AsyncLedger(), "A-1", JOB)
    assert recorder.triggered
    assert booked == []
