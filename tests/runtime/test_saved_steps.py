"""Steps in a service with `save`: a step is finished when the SDK has saved its work, since it is not repeated."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from trio.testing import MockClock

import trio_jobs
from support.memory_ledger import MemoryLedger, Page
from support.rig import until_state
from trio_jobs import Retry, Service, State, events
from trio_jobs.testing import drain, open_queue

WAYS = ["plain", "async on a thread", "async"]


class Full(Exception):
    """What a save raises."""


class Lost(Exception):
    """What a handler raises."""


def step_service(ledger: MemoryLedger, way: str, then: list[Any], **settings: Any) -> Service:
    """A service with the handler "steps", which executes two steps and then does the next of `then`; and "book"."""
    rules: dict[str, Any] = {"retry": Retry(3, waits=[1])}
    if way == "async":
        service = Service(async_sdk=ledger.async_session, save=Page.asave, **settings)
    else:
        service = Service(sdk=ledger.session, save=Page.save, **settings)

    def do(item: Any) -> None:
        if isinstance(item, BaseException):
            raise item

    if way == "plain":

        @service.handler(kind="steps", **rules)
        def steps(page: Page, what: str, job: trio_jobs.JobContext) -> str:
            first = job.step("first", page.book, f"{what}1")
            job.step("second", page.book, f"{what}2")
            do(then.pop(0) if then else None)
            return str(first)

    elif way == "async":

        @service.handler(kind="steps", **rules)
        async def asteps(page: Page, what: str, job: trio_jobs.AsyncJobContext) -> str:
            first = await job.step("first", page.abook, f"{what}1")
            await job.step("second", page.abook, f"{what}2")
            do(then.pop(0) if then else None)
            return str(first)

    else:

        @service.handler(kind="steps", **rules)
        async def tsteps(sdk: trio_jobs.SdkHandle, what: str, job: trio_jobs.AsyncJobContext) -> str:
            first = await job.step("first", sdk.call, Page.book, f"{what}1")
            await job.step("second", sdk.call, Page.book, f"{what}2")
            do(then.pop(0) if then else None)
            return str(first)

    if way == "async":

        @service.handler(kind="book", **rules)
        async def abook(page: Page, what: str) -> str:
            return await page.abook(what)

    else:

        @service.handler(kind="book", **rules)
        def book(page: Page, what: str) -> str:
            return page.book(what)

    return service


@pytest.mark.parametrize("way", WAYS)
async def test_p6_a_finished_step_is_in_the_file_when_its_session_is_lost(way: str, autojump_clock: MockClock) -> None:
    ledger = MemoryLedger()
    async with open_queue(step_service(ledger, way, [Lost()])) as queue:
        receipt = await queue.submit("steps", "a")
        assert await queue.result(receipt.job_id) == "a1 in 1"
        assert (queue.get(receipt.job_id).steps, queue.get(receipt.job_id).attempt_count) == (("first", "second"), 2)
    assert ledger.file == ["a1", "a2"], "each once, although the session of the first attempt was discarded"
    thrown = "SessionDiscarded" if way == "async on a thread" else "Lost"  # raised in Trio's thread
    assert ledger.done[:6] == ["open 1", "a1", "save", "a2", "save", f"discard 1 {thrown}"]


@pytest.mark.parametrize("way", WAYS)
async def test_a_save_that_raises_leaves_the_step_open(way: str, autojump_clock: MockClock) -> None:
    ledger = MemoryLedger(on_save=[None, Full()])
    async with open_queue(step_service(ledger, way, [])) as queue:
        receipt = await queue.submit("steps", "a")
        job = await until_state(queue, receipt.job_id, "in_doubt")
        assert (job.reason, job.steps, job.open_step) == ("open_step", ("first",), "second")
    assert ledger.file == ["a1"]
    assert "discard 1 Full" in ledger.done


@pytest.mark.parametrize("way", WAYS)
async def test_the_save_of_a_step_completes_the_other_jobs_of_the_group(way: str, autojump_clock: MockClock) -> None:
    ledger = MemoryLedger()
    service = step_service(ledger, way, [Lost()], save_after_jobs=20, save_after=1000)
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
    service = step_service(ledger, way, [], save_after_jobs=20, save_after=1000)
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
