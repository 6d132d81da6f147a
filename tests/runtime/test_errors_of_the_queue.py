"""What follows if a handler does not catch what a method of the queue, or of another queue, raises."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Any

import attrs
import pytest
import trio
from trio.testing import MockClock

import trio_jobs
from support.rig import ended, last, open_queue, until_state
from trio_jobs import Job, Queue, Retry, Service
from trio_jobs.testing import CrashableStore, FakeSdk

ONCE = Retry(1)


@attrs.define
class Program:
    """A service whose handler calls a function with the queue."""

    call: Callable[[Queue], Awaitable[object]]
    service: Service = attrs.Factory(lambda: Service(buffer=1, drain_timeout=5))
    queue: Queue | None = None
    retry: Retry = ONCE

    def __attrs_post_init__(self) -> None:
        @self.service.handler(retry=self.retry)
        async def work(number: int) -> None:
            assert self.queue is not None
            await self.call(self.queue)

        @self.service.handler
        async def other(number: int) -> None:
            pass

    async def run(self) -> Job:
        async with open_queue(self.service) as self.queue:
            return await ended(self.queue, (await self.queue.submit("work", 1, key="key")).job_id)


async def drain(queue: Queue) -> None:
    await queue.drain()


async def submit_unknown(queue: Queue) -> None:
    await queue.submit("unknown", 1)


async def submit_many_now(queue: Queue) -> None:
    for number in range(3):
        queue.submit_nowait("other", number)


async def submit_conflict(queue: Queue) -> None:
    await queue.submit("work", 2, key="key")


async def submit_invalid(queue: Queue) -> None:
    await queue.submit("other", "text")


async def get_nothing(queue: Queue) -> None:
    queue.get("no-such-job")


async def retry_open(queue: Queue) -> None:
    await queue.retry(queue.job_ids()[0])


MISTAKES = {drain: "UsageError", submit_unknown: "UnknownKind"}
CONDITIONS = {
    submit_many_now: "QueueFull",
    submit_conflict: "KeyConflict",
    submit_invalid: "InvalidPayload",
    get_nothing: "JobNotFound",
    retry_open: "InvalidState",
}


@pytest.mark.parametrize(("call", "error"), {**MISTAKES, **CONDITIONS}.items())
async def test_the_retry_policy_decides_about_an_error_of_the_queue(
    call: Callable[[Queue], Awaitable[object]], error: str, autojump_clock: MockClock
) -> None:
    job = await Program(call).run()
    assert (job.state, job.reason, job.attempt_count) == ("failed", "error", 2)
    assert [attempt.error.type for attempt in job.attempts or () if attempt.error is not None] == [error] * 2
    job = await Program(call, retry=Retry(on=lambda raised: not isinstance(raised, trio_jobs.UsageError))).run()
    assert job.attempt_count == (4 if error == "QueueFull" else 1)


@pytest.mark.parametrize(("call", "error"), MISTAKES.items())
async def test_a_mistake_in_the_use_of_the_queue_is_logged_without_its_message(
    call: Callable[[Queue], Awaitable[object]],
    error: str,
    autojump_clock: MockClock,
    caplog: pytest.LogCaptureFixture,
) -> None:
    job = await Program(call).run()
    records = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert [record.getMessage() for record in records] == [
        f"job {job.id} (work): attempt {attempt} used the queue in a wrong way, and raised {error}; "
        "the attempt has the message"
        for attempt in (1, 2)
    ]
    assert {vars(record)["job_id"] for record in records} == {job.id}


@pytest.mark.parametrize("call", CONDITIONS)
async def test_an_error_that_depends_on_the_moment_is_not_logged(
    call: Callable[[Queue], Awaitable[object]], autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    await Program(call).run()
    assert [record.message for record in caplog.records if record.levelno >= logging.WARNING] == []


async def test_an_attempt_whose_submit_the_stop_refuses_is_given_back(autojump_clock: MockClock) -> None:
    """With a journal, a stop lets the running attempt finish, but accepts no jobs."""

    async def submit_in_the_stop(queue: Queue) -> None:
        await trio.sleep(1)
        await queue.submit("other", 1)

    program = Program(submit_in_the_stop)
    async with open_queue(program.service, store=CrashableStore().store()) as program.queue:
        receipt = await program.queue.submit("work", 1)
        await until_state(program.queue, receipt.job_id, "processing")
    job = program.queue.get(receipt.job_id)
    assert (job.state, last(job).outcome, last(job).ended_by, job.retries_used) == ("pending", "stopped", "stop", 0)


async def test_a_submit_that_a_drain_refuses_is_an_error(autojump_clock: MockClock) -> None:
    """The job would be started again at once, until the end of the drain."""

    async def submit_in_the_drain(queue: Queue) -> None:
        queue.close_to_submits()
        await queue.submit("other", 1)

    job = await Program(submit_in_the_drain).run()
    assert (job.state, job.attempt_count) == ("failed", 2)
    assert job.error is not None
    assert job.error.type == "QueueClosed"


@pytest.mark.parametrize("is_async", [False, True], ids=["plain", "async"])
async def test_sdk_call_stuck_of_another_queue_is_an_error(is_async: bool, autojump_clock: MockClock) -> None:
    service = Service(sdk=FakeSdk().session, seat_lock=None)
    error = trio_jobs.SdkCallStuck("the call of the other queue did not return")

    def work(sdk: Any, number: int) -> None:
        raise error

    async def awork(sdk: Any, number: int) -> None:
        raise error

    service.handler(kind="work", idempotent=True, retry=Retry(0))(awork if is_async else work)
    async with trio_jobs.testing.open_queue(service) as queue:
        job = await ended(queue, (await queue.submit("work", 1)).job_id)
    assert (job.state, job.reason) == ("failed", "error")
