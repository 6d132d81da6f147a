"""A function that the consumer waits for cannot wait for the consumer: it gets `UsageError`. Others may wait."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import attrs
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

import trio_jobs
from support.rig import NO_RETRY
from support.waiting import deadline
from trio_jobs import (
    AsyncJobContext,
    Job,
    JobContext,
    NewJob,
    Queue,
    QueueFull,
    SdkHandle,
    Service,
    Unknown,
    UsageError,
)
from trio_jobs._runtime.queue import runtime_of
from trio_jobs.testing import open_queue as open_test_queue

#: Each waits for the consumer of a queue without a free slot. `queue` is a Queue, or its methods for threads; `job` is
#: the id of a pending job
WAITS: dict[str, Callable[[Any, str], Any]] = {
    "the result of another job": lambda queue, job: queue.result(job),
    "a drain": lambda queue, job: queue.drain(),
    "a submit without a slot": lambda queue, job: queue.submit("later", 1),
    "a submit that waits for a time": lambda queue, job: queue.submit("later", 1, wait=3600),
    "several submits without a slot": lambda queue, job: queue.submit_many([NewJob("later", 1)]),
}
each_wait = pytest.mark.parametrize("wait", WAITS.values(), ids=WAITS)


@attrs.define
class Probe:
    """Fills the queue and makes the wait, once, from wherever a test calls it, and keeps what the wait raised."""

    wait: Callable[[Any, str], Any]
    queue: Queue | None = None
    raised: BaseException | None = None
    refused: trio.Event = attrs.field(factory=trio.Event)

    async def in_task(self) -> None:
        if self.queue is None or self.raised is not None:
            return
        jobs = []
        try:
            with contextlib.suppress(QueueFull):
                while True:
                    jobs.append((await self.queue.submit("later", 1, wait=0)).job_id)
            await self.wait(self.queue, jobs[0])
        except Exception as error:
            self.raised = error
            self.refused.set()

    def in_thread(self) -> None:
        if self.queue is None or self.raised is not None:
            return
        jobs = []
        try:
            with contextlib.suppress(QueueFull):
                while True:
                    jobs.append(self.queue.from_thread.submit("later", 1, wait=0).job_id)
            self.wait(self.queue.from_thread, jobs[0])
        except Exception as error:
            self.raised = error
            trio.from_thread.run_sync(self.refused.set, trio_token=runtime_of(self.queue).token)


def add_later(service: Service, *, takes_sdk: bool = True) -> None:
    """Add the kind of the jobs that are waited for."""
    if takes_sdk:
        service.handler(kind="later", idempotent=True, payload_type=int)(lambda sdk, number: number)
    else:

        @service.handler(kind="later", idempotent=True)
        async def later(number: int) -> int:
            return number


def in_an_async_handler(probe: Probe) -> Service:
    service = Service(buffer=2)

    @service.handler(retry=NO_RETRY)
    async def first(number: int) -> None:
        await probe.in_task()

    add_later(service, takes_sdk=False)
    return service


def in_a_task_of_an_async_handler(probe: Probe) -> Service:
    service = Service(buffer=2)

    @service.handler(retry=NO_RETRY)
    async def first(number: int) -> None:
        async with trio.open_nursery() as outer, trio.open_nursery() as inner:
            outer.start_soon(trio.sleep, 0)
            inner.start_soon(probe.in_task)

    add_later(service, takes_sdk=False)
    return service


def in_a_worker_thread_of_an_async_handler(probe: Probe) -> Service:
    service = Service(buffer=2)

    @service.handler(retry=NO_RETRY)
    async def first(number: int) -> None:
        await trio.to_thread.run_sync(probe.in_thread)

    add_later(service, takes_sdk=False)
    return service


def in_an_async_verify(probe: Probe) -> Service:
    service = Service(buffer=2)

    async def verify(job: AsyncJobContext) -> Unknown:
        await probe.in_task()
        return Unknown()

    @service.handler(retry=NO_RETRY, verify=verify, verify_first=True, on_doubt="fail")
    async def first(number: int) -> None: ...

    add_later(service, takes_sdk=False)
    return service


def in_the_opening_of_an_async_sdk(probe: Probe) -> Service:
    @contextlib.asynccontextmanager
    async def sdk() -> AsyncIterator[str]:
        await probe.in_task()
        yield "sdk"

    service = Service(async_sdk=sdk, buffer=2, renew_after_jobs=1)

    @service.handler(idempotent=True)
    async def first(sdk: str, number: int) -> None: ...

    @service.handler(kind="later", idempotent=True)
    async def later(sdk: str, number: int) -> None: ...

    return service


def in_the_close_of_an_async_sdk(probe: Probe) -> Service:
    @contextlib.asynccontextmanager
    async def sdk() -> AsyncIterator[str]:
        yield "sdk"
        await probe.in_task()

    service = Service(async_sdk=sdk, buffer=2, renew_after_jobs=1)

    @service.handler(idempotent=True)
    async def first(sdk: str, number: int) -> None: ...

    @service.handler(kind="later", idempotent=True)
    async def later(sdk: str, number: int) -> None: ...

    return service


def in_a_plain_handler(probe: Probe) -> Service:
    service = Service(sdk=lambda: contextlib.nullcontext("sdk"), buffer=2)

    @service.handler(idempotent=True)
    def first(sdk: str, number: int) -> None:
        probe.in_thread()

    add_later(service)
    return service


def in_a_step_of_a_plain_handler(probe: Probe) -> Service:
    service = Service(sdk=lambda: contextlib.nullcontext("sdk"), buffer=2)

    @service.handler(idempotent=True)
    def first(sdk: str, number: int, job: JobContext) -> None:
        job.step("wait", probe.in_thread)

    add_later(service)
    return service


def in_a_call_of_an_async_handler(probe: Probe) -> Service:
    service = Service(sdk=lambda: contextlib.nullcontext("sdk"), buffer=2)

    @service.handler(idempotent=True)
    async def first(sdk: SdkHandle, number: int) -> None:
        await sdk.call(lambda sdk: probe.in_thread())

    add_later(service)
    return service


def in_a_plain_verify(probe: Probe) -> Service:
    service = Service(sdk=lambda: contextlib.nullcontext("sdk"), buffer=2)

    def verify(sdk: str, job: JobContext) -> Unknown:
        probe.in_thread()
        return Unknown()

    @service.handler(retry=NO_RETRY, verify=verify, verify_first=True, on_doubt="fail")
    def first(sdk: str, number: int) -> None: ...

    add_later(service)
    return service


def in_the_opening_of_a_plain_sdk(probe: Probe) -> Service:
    @contextlib.contextmanager
    def sdk() -> Iterator[str]:
        probe.in_thread()
        yield "sdk"

    service = Service(sdk=sdk, buffer=2, renew_after_jobs=1)
    service.handler(kind="first", idempotent=True, payload_type=int)(lambda sdk, number: None)
    add_later(service)
    return service


def in_the_close_of_a_plain_sdk(probe: Probe) -> Service:
    @contextlib.contextmanager
    def sdk() -> Iterator[str]:
        yield "sdk"
        probe.in_thread()

    service = Service(sdk=sdk, buffer=2, renew_after_jobs=1)
    service.handler(kind="first", idempotent=True, payload_type=int)(lambda sdk, number: None)
    add_later(service)
    return service


PLACES = [
    in_an_async_handler,
    in_a_task_of_an_async_handler,
    in_a_worker_thread_of_an_async_handler,
    in_an_async_verify,
    in_the_opening_of_an_async_sdk,
    in_the_close_of_an_async_sdk,
    in_a_plain_handler,
    in_a_step_of_a_plain_handler,
    in_a_call_of_an_async_handler,
    in_a_plain_verify,
    in_the_opening_of_a_plain_sdk,
    in_the_close_of_a_plain_sdk,
]


@each_wait
@pytest.mark.parametrize("place", PLACES, ids=lambda place: place.__name__)
async def test_a_wait_for_the_own_consumer_is_refused_at_once(
    place: Callable[[Probe], Service], wait: Callable[[Any, str], Any]
) -> None:
    probe = Probe(wait)
    async with place(probe).open() as queue:
        probe.queue = queue
        await queue.submit("first", 1)
        second = await queue.submit("first", 2)  # a used-up session is renewed for it
        with deadline("the refusal of the wait"):
            await probe.refused.wait()
        assert isinstance(probe.raised, UsageError)
        assert "the queue has one consumer, which waits for that function to return" in str(probe.raised)
        with deadline("the end of the jobs"):
            with contextlib.suppress(trio_jobs.JobFailed):
                await queue.result(second.job_id)
            await queue.result((await queue.submit("later", 2)).job_id)  # the drain has not closed the queue
    assert queue.report is not None
    assert queue.report.unfinished == ()


# what remains allowed


async def test_a_handler_may_submit_a_job_that_has_a_slot_and_read_what_is_there() -> None:
    service = Service(buffer=2)
    queues: list[Queue] = []

    @service.handler(retry=NO_RETRY)
    async def child(number: int) -> int:
        return number

    @service.handler(retry=NO_RETRY)
    async def parent(done: str) -> str:
        [queue] = queues
        assert await queue.result(done) == 1, "the job is final"
        receipt = await queue.submit(child, 2, key="two")
        await queue.submit(child, 3)
        again = await queue.submit(child, 2, key="two")  # known, so it needs no slot
        assert not again.created
        await queue.submit(child, 4, delay=0.001)  # for later, so it needs no slot
        with pytest.raises(QueueFull):
            await queue.submit(child, 5, wait=0)
        with pytest.raises(QueueFull):
            queue.submit_nowait(child, 5)
        queue.get(receipt.job_id)
        queue.health()
        return receipt.job_id

    async with service.open() as queue:
        queues.append(queue)
        done = await queue.submit(child, 1)
        await queue.result(done.job_id)
        with deadline("the end of the jobs"):
            receipt = await queue.submit(parent, done.job_id)
            assert await queue.result(await queue.result(receipt.job_id)) == 2


async def test_a_task_outside_of_the_handler_may_wait_while_the_handler_runs() -> None:
    """Although the handler has started it, so that it has the context variables of the handler."""
    service = Service()
    results: list[int] = []
    waiting, tasks = trio.Event(), list[trio.Nursery]()

    @service.handler(retry=NO_RETRY)
    async def child(number: int) -> int:
        return number

    @service.handler(retry=NO_RETRY)
    async def parent(number: int) -> None:
        receipt = await queue.submit(child, number)
        tasks[0].start_soon(follow, receipt.job_id)
        await waiting.wait()

    async def follow(job_id: str) -> None:
        waiting.set()
        results.append(await queue.result(job_id))

    async with service.open() as queue:
        with deadline("the result in the other task"):
            async with trio.open_nursery() as nursery:
                tasks.append(nursery)
                await queue.result((await queue.submit(parent, 4)).job_id)
    assert results == [4]


async def test_a_hook_may_wait_for_the_queue_since_the_consumer_does_not_wait_for_hooks() -> None:
    service = Service()
    results: list[int] = []
    queues: list[Queue] = []

    @service.handler(retry=NO_RETRY)
    async def work(number: int) -> int:
        if number == 0:
            raise trio_jobs.Fail("no")
        return number

    async def hook(job: Job) -> None:
        receipt = await queues[0].submit(work, 5)
        results.append(await queues[0].result(receipt.job_id))

    service.on("failed", hook)
    async with service.open() as queue:
        queues.append(queue)
        await queue.submit(work, 0)
        with deadline("the result in the hook"):
            while not results:
                await wait_all_tasks_blocked(0.001)
    assert results == [5]


async def test_a_handler_may_wait_for_another_queue() -> None:
    inner, outer = Service(), Service()

    @inner.handler(retry=NO_RETRY)
    async def double(number: int) -> int:
        return number * 2

    async with inner.open() as inner_queue:

        @outer.handler(retry=NO_RETRY)
        async def twice(number: int) -> int:
            first = await inner_queue.submit(double, number)
            second = await inner_queue.submit(double, await inner_queue.result(first.job_id))
            result: int = await inner_queue.result(second.job_id)
            return result

        async with outer.open() as queue:
            with deadline("the end of the job"):
                assert await queue.result((await queue.submit(twice, 3)).job_id) == 12


async def test_a_wait_is_refused_in_the_virtual_time_of_the_test_kit_too(autojump_clock: MockClock) -> None:
    probe = Probe(WAITS["a drain"])
    async with open_test_queue(in_a_plain_handler(probe)) as queue:
        probe.queue = queue
        await queue.result((await queue.submit("first", 1)).job_id)
    assert isinstance(probe.raised, UsageError)
