"""Steps in a service with `save`: a step is finished when the SDK has saved its work, since it is not repeated."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import pytest
import trio
from trio.testing import MockClock

import trio_jobs
from support.forked_sdk import fork_sdk_processes
from support.memory_ledger import MemoryLedger, Page, abook, book, save
from support.process_rig import IN_A_PROCESS, end_served, make_service, serve
from support.rig import open_jumping_queue as open_queue
from support.rig import until_state
from support.served_sdk import open_served_session
from trio_jobs import Retry, Service, State, events
from trio_jobs.testing import drain

WAYS = [
    *("plain", "async on a thread", "async"),
    *([] if sys.platform == "win32" else ["plain in a process", "async with a process"]),
]


@pytest.fixture(autouse=True)
def _forked(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    fork_sdk_processes(monkeypatch)
    yield
    end_served()


class Full(Exception):
    """What a save raises."""


class Lost(Exception):
    """What a handler raises."""


# `page` is a `Page` or, in another process, has its methods


def steps(page: Any, what: str, job: trio_jobs.JobContext) -> str:
    first = job.step("first", page.book, f"{what}1")
    job.step("second", page.book, f"{what}2")
    page.end()
    return str(first)


async def asteps(page: Page, what: str, job: trio_jobs.AsyncJobContext) -> str:
    first = await job.step("first", page.abook, f"{what}1")
    await job.step("second", page.abook, f"{what}2")
    page.end()
    return str(first)


def process_step_service(way: str, settings: dict[str, Any]) -> Service:
    service = Service(sdk=open_served_session, save=save, **IN_A_PROCESS, **settings)
    return add_handlers(service, way, MemoryLedger())


def add_handlers(service: Service, way: str, ledger: MemoryLedger) -> Service:
    async def steps_of_handle(sdk: trio_jobs.SdkHandle, what: str, job: trio_jobs.AsyncJobContext) -> str:
        first = await job.step("first", sdk.call, book, f"{what}1")
        await job.step("second", sdk.call, book, f"{what}2")
        if ledger.on_end:
            raise ledger.on_end.pop(0)
        return str(first)

    handler: Any = asteps if way == "async" else steps if way.startswith("plain") else steps_of_handle
    rules: dict[str, Any] = {"retry": Retry(3, waits=[1])}
    service.handler(kind="steps", **rules)(handler)
    service.handler(kind="book", **rules)(abook if way == "async" else book)
    return service


def step_service(ledger: MemoryLedger, way: str, **settings: Any) -> Service:
    """A service with the handler "steps", which executes two steps and then ends as `on_end` says; and "book"."""
    if "process" in way:
        serve(ledger.session)
        make_service(process_step_service, way, settings)
        return add_handlers(Service(sdk=open_served_session, save=save, **IN_A_PROCESS, **settings), way, ledger)
    if way == "async":
        service = Service(async_sdk=ledger.async_session, save=Page.asave, **settings)
    else:
        service = Service(sdk=ledger.session, save=Page.save, **settings)
    return add_handlers(service, way, ledger)


@pytest.mark.parametrize("way", WAYS)
async def test_p6_a_finished_step_is_in_the_file_when_its_session_is_lost(way: str, autojump_clock: MockClock) -> None:
    ledger = MemoryLedger(on_end=[Lost()])
    async with open_queue(step_service(ledger, way)) as queue:
        receipt = await queue.submit("steps", "a")
        assert await queue.result(receipt.job_id) == "a1 in 1"
        assert (queue.get(receipt.job_id).steps, queue.get(receipt.job_id).attempt_count) == (("first", "second"), 2)
    assert ledger.file == ["a1", "a2"], "each once, although the session of the first attempt was discarded"
    thrown = (
        "SessionDiscarded" if way in ("async on a thread", "async with a process") else "Lost"
    )  # raised in Trio's thread
    assert ledger.done[:6] == ["open 1", "a1", "save", "a2", "save", f"discard 1 {thrown}"]


@pytest.mark.parametrize("way", WAYS)
async def test_a_save_that_raises_leaves_the_step_open(way: str, autojump_clock: MockClock) -> None:
    ledger = MemoryLedger(on_save=[None, Full()])
    async with open_queue(step_service(ledger, way)) as queue:
        receipt = await queue.submit("steps", "a")
        job = await until_state(queue, receipt.job_id, "in_doubt")
        assert (job.reason, job.steps, job.open_step) == ("open_step", ("first",), "second")
    assert ledger.file == ["a1"]
    assert "discard 1 Full" in ledger.done


@pytest.mark.parametrize("way", WAYS)
async def test_the_save_of_a_step_completes_the_other_jobs_of_the_group(way: str, autojump_clock: MockClock) -> None:
    ledger = MemoryLedger(on_end=[Lost()])
    service = step_service(ledger, way, save_after_jobs=20, save_after=1000)
    async with open_queue(service) as queue:
        other = await queue.submit("book", "x")
        await until_state(queue, other.job_id, "saving")
        await queue.submit("steps", "a")
        await until_state(queue, other.job_id, "completed")
        assert await queue.result(other.job_id) == "x in 1"
        assert queue.statistics().jobs[State.COMPLETED] == 1
        await drain(queue)
    assert ledger.file == ["x", "a1", "a2"]
    assert ledger.saved[:2] == [["x", "a1"], ["a2"]]


@pytest.mark.parametrize("way", WAYS)
async def test_a_save_of_a_step_that_raises_uses_a_retry_of_the_other_jobs(way: str, autojump_clock: MockClock) -> None:
    ledger = MemoryLedger(on_save=[Full()])
    service = step_service(ledger, way, save_after_jobs=20, save_after=1000)
    async with open_queue(service) as queue:
        other = await queue.submit("book", "x")
        await until_state(queue, other.job_id, "saving")
        steps = await queue.submit("steps", "a")
        assert await queue.result(other.job_id) == "x in 2"
        assert queue.get(other.job_id).retries_used == 1
        await until_state(queue, steps.job_id, "in_doubt")
    assert ledger.file == ["x"]


async def test_a_handler_that_swallows_a_failed_save_gets_no_further_step_and_nothing_of_it_is_completed(
    autojump_clock: MockClock,
) -> None:
    ledger = MemoryLedger(on_save=[Full()])
    service = Service(sdk=ledger.session, save=Page.save)
    refused: list[str] = []

    @service.handler(on_doubt="hold")
    def stubborn(page: Page, what: str, job: trio_jobs.JobContext) -> None:
        for name in ("first", "second"):
            try:
                job.step(name, page.book, f"{what} {name}")
            except Exception as error:
                refused.append(type(error).__name__)

    async with open_queue(service) as queue:
        receipt = await queue.submit("stubborn", "a")
        job = await until_state(queue, receipt.job_id, "in_doubt")
        assert job.reason == "session_discarded"
    assert refused == ["Full", "SdkCallRefused"]
    assert ledger.file == []


async def test_min_interval_lies_between_the_saves_of_two_steps(autojump_clock: MockClock) -> None:
    times: list[float] = []
    ledger = MemoryLedger()

    async def save(page: Page) -> None:
        times.append(trio.current_time())
        page.save()

    service = Service(async_sdk=ledger.async_session, save=save, min_interval=4)

    @service.handler(retry=Retry(0))
    async def steps(page: Page, what: str, job: trio_jobs.AsyncJobContext) -> None:
        await job.step("first", page.abook, "1")
        await job.step("second", page.abook, "2")

    async with open_queue(service) as queue:
        begin = trio.current_time()
        receipt = await queue.submit("steps", "a")
        await queue.result(receipt.job_id)
        saved = [event async for event in _read(queue) if isinstance(event, events.Saved)]
        assert len(saved) == 1, "the steps had nobody else to complete"
    assert [at - begin for at in times] == [0, 4, 8]


async def _read(queue: trio_jobs.Queue) -> Any:
    async for event in queue.events(after=0):
        yield event
        if event.seq == queue.statistics().seq:
            break
