"""A method of the queue that is called outside of its event loop is refused before anything is changed."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import threading
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import pytest
import trio

import trio_jobs
from support.rig import NO_RETRY, open_queue
from support.waiting import deadline
from trio_jobs import AsyncJobContext, FromThread, NewJob, Queue, SdkHandle, Service, UsageError
from trio_jobs._runtime.queue import runtime_of

# the thread

#: The arguments of a call of each method that has any
ARGUMENTS: dict[str, tuple[Any, ...]] = {
    "submit": ("work", 1),
    "submit_nowait": ("work", 1),
    "submit_many": ([NewJob("work", 1)],),
    "get": ("id",),
    "find": ("work", "key"),
    "result": ("id",),
    "progress": ("id",),
    "cancel": ("id",),
    "retry": ("id",),
    "resolve": ("id", "done"),
    "backup": ("copy.db",),
    **dict.fromkeys(("history", "forget", "verify", "claim", "release_claim", "run_now"), ("id",)),
    "correct": ("id", 1),
    "reschedule": ("id",),
}
#: Their keyword arguments, where one has no default
KEYWORDS: dict[str, dict[str, Any]] = {"claim": {"by": "ada"}}
METHODS = sorted(name for name, _ in inspect.getmembers(Queue, inspect.isfunction) if not name.startswith("_"))


def plain_service(**settings: Any) -> Service:
    service = Service(**settings)

    @service.handler(retry=NO_RETRY)
    async def work(number: int) -> int:
        return number

    return service


async def in_thread(fn: Callable[[], Any]) -> Any:
    """Run `fn` in a thread that Trio has not started, and return or raise what it returned or raised."""
    results: list[Any] = []

    def run() -> None:
        try:
            results.append(fn())
        except BaseException as error:
            results.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    with deadline("the end of the thread"):
        await trio.to_thread.run_sync(thread.join)
    [result] = results
    if isinstance(result, BaseException):
        raise result
    return result


def step_of(coroutine: Any) -> Any:
    """Run a coroutine to its first wait without an event loop."""
    with contextlib.closing(coroutine):
        return coroutine.send(None)


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("loop", ["no loop", "another Trio", "asyncio"])
async def test_p4_a_method_called_in_another_thread_changes_nothing_and_names_from_thread(name: str, loop: str) -> None:
    async with plain_service().open() as queue:
        method = partial(getattr(queue, name), *ARGUMENTS.get(name, ()), **KEYWORDS.get(name, {}))

        async def call() -> Any:
            result = method()
            return await result if inspect.isawaitable(result) else result

        run = {"no loop": lambda: step_of(call()), "another Trio": lambda: trio.run(call)}.get(
            loop, lambda: asyncio.run(call())
        )
        before = runtime_of(queue).event_log.next_seq
        with pytest.raises(UsageError, match=r"queue\.from_thread"):
            await in_thread(run)
        assert runtime_of(queue).event_log.next_seq == before
        assert queue.job_ids() == []
        receipt = await queue.submit("work", 7)  # also where the method would have closed the queue
        assert await queue.result(receipt.job_id) == 7


async def test_the_port_of_a_server_is_refused_in_another_thread() -> None:
    async with plain_service().open() as queue:
        with pytest.raises(UsageError, match=r"queue\.from_thread"):
            await in_thread(lambda: queue.backend)


async def test_the_properties_and_the_text_of_a_queue_can_be_read_in_any_thread() -> None:
    async with plain_service().open() as queue:
        await queue.pause("inventory")
        read = await in_thread(lambda: (queue.epoch, queue.paused, queue.report, repr(queue)))
        assert read == (queue.epoch, "inventory", None, repr(queue))


def test_an_async_method_awaited_in_asyncio_around_a_guest_changes_nothing() -> None:
    """Both loops share a thread, so only the task tells them apart."""
    found: list[Any] = []

    async def trio_main(ready: Callable[[Queue], None], stop: trio.Event) -> None:
        async with plain_service().open() as queue:
            ready(queue)
            await stop.wait()

    async def asyncio_main() -> None:
        loop = asyncio.get_running_loop()
        opened, done = loop.create_future(), loop.create_future()
        stop = trio.Event()
        trio.lowlevel.start_guest_run(
            trio_main,
            opened.set_result,
            stop,
            run_sync_soon_threadsafe=loop.call_soon_threadsafe,
            done_callback=done.set_result,
        )
        queue = await asyncio.wait_for(opened, 60)
        for name in METHODS:
            if inspect.iscoroutinefunction(getattr(Queue, name)):
                with pytest.raises(UsageError, match="await it in Trio"):
                    await getattr(queue, name)(*ARGUMENTS.get(name, ()), **KEYWORDS.get(name, {}))
        found.append((queue.job_ids(), runtime_of(queue).status.closing, queue.paused))
        stop.set()
        (await asyncio.wait_for(done, 60)).unwrap()

    asyncio.run(asyncio_main())
    assert found == [([], False, None)]


async def test_a_plain_handler_that_calls_the_queue_itself_fails_and_leaves_no_job() -> None:
    """A plain handler runs on the thread of the SDK."""
    service = Service(sdk=lambda: contextlib.nullcontext("sdk"))
    queues: list[Queue] = []

    @service.handler(idempotent=True, retry=NO_RETRY)
    def parent(sdk: str, number: int) -> None:
        queues[0].submit_nowait("child", number)

    @service.handler(retry=NO_RETRY)
    def child(sdk: str, number: int) -> int:
        return number

    async with service.open() as queue:
        queues.append(queue)
        receipt = await queue.submit(parent, 1)
        with pytest.raises(trio_jobs.JobFailed, match=r"queue\.from_thread"), deadline("the end of the job"):
            await queue.result(receipt.job_id)
        assert queue.job_ids() == [receipt.job_id]
        assert await queue.result((await queue.submit(child, 2)).job_id) == 2


async def test_what_belongs_to_the_loop_is_refused_in_another_loop() -> None:
    """A stream of events, the handle of the SDK and the steps of an async handler."""
    service = Service(sdk=lambda: contextlib.nullcontext("sdk"))

    @service.handler(retry=NO_RETRY)
    async def work(sdk: SdkHandle, number: int, job: AsyncJobContext) -> None:
        async def run_step() -> None:
            await job.step("a", trio.sleep, 0)

        calls: list[Callable[[], Any]] = [lambda: sdk.call(str), stream.__anext__, run_step]
        for call in calls:
            with pytest.raises(UsageError):
                await in_thread(partial(trio.run, call))
        assert await sdk.call(str.upper) == "SDK"
        assert await stream.__anext__()

    async with service.open() as queue:
        stream = queue.events(after=0)
        with deadline("the end of the job"):
            receipt = await queue.submit(work, 1)
            await queue.result(receipt.job_id)
        assert [attempt.outcome for attempt in queue.get(receipt.job_id).attempts or ()] == ["completed"]


# the methods for other threads


def test_from_thread_has_every_method_and_property_of_the_queue_with_the_same_signature() -> None:

    def members(facade: type) -> dict[str, Any]:
        classes = [class_ for class_ in facade.__mro__ if class_ is not object]
        return {name: member for class_ in classes for name, member in vars(class_).items() if not name.startswith("_")}

    own, others = members(Queue), members(FromThread)
    del own["from_thread"], own["backend"]  # the latter is for servers, which run in the loop
    assert others.keys() == own.keys()
    for name, member in own.items():
        other = others[name]
        assert isinstance(other, property) == isinstance(member, property), name
        if not isinstance(member, property):
            here, there = inspect.signature(member, eval_str=True), inspect.signature(other, eval_str=True)
            assert there.parameters == here.parameters, name
            assert not inspect.iscoroutinefunction(other), name
            if name != "events":  # an iterator in place of an asynchronous one
                assert there.return_annotation == here.return_annotation, name
        assert other.__doc__ is not None, name


@pytest.mark.parametrize("name", METHODS)
async def test_from_thread_does_what_the_method_of_the_queue_does(name: str) -> None:
    """The same result, or the same error."""

    async def outcome(call: Callable[[Queue], Awaitable[Any]]) -> Any:
        async with open_queue(plain_service(drain_timeout=0), seed=1) as queue:
            await queue.pause()  # so that both see the same states
            try:
                return type(await call(queue))
            except trio_jobs.TrioJobsError as error:
                return type(error), str(error)

    arguments, keywords = ARGUMENTS.get(name, ()), KEYWORDS.get(name, {})

    async def call_here(queue: Queue) -> Any:
        result = getattr(queue, name)(*arguments, **keywords)
        return await result if inspect.isawaitable(result) else result

    here = await outcome(call_here)
    there = await outcome(lambda queue: in_thread(lambda: getattr(queue.from_thread, name)(*arguments, **keywords)))
    if name == "events":
        assert (here, there) == (trio_jobs.EventStream, trio_jobs.EventIterator)
    else:
        assert here == there


async def test_a_thread_reads_the_properties_of_the_queue() -> None:
    async with plain_service().open() as queue:
        await queue.pause("inventory")
        threads = queue.from_thread
        assert (threads.epoch, threads.paused, threads.report) == (queue.epoch, "inventory", None)
    assert threads.report is queue.report is not None


async def test_a_thread_iterates_over_all_events_until_the_queue_has_stopped() -> None:
    seen: list[int] = []
    iterators: list[trio_jobs.EventIterator] = []

    def read(threads: FromThread, ready: Callable[[], None]) -> None:
        events = threads.events(after=0)
        iterators.append(events)
        for event in events:
            seen.append(event.seq)
            if event.seq == 1:
                ready()

    async with trio.open_nursery() as nursery:
        started, token = trio.Event(), trio.lowlevel.current_trio_token()
        async with plain_service().open() as queue:
            nursery.start_soon(in_thread, lambda: read(queue.from_thread, lambda: token.run_sync_soon(started.set)))
            with deadline("the first event in the thread"):
                await started.wait()
            for number in range(5):
                await queue.result((await queue.submit("work", number)).job_id)
            last = queue.statistics().seq
    assert seen == list(range(1, seen[-1] + 1))
    assert seen[-1] >= last
    [events] = iterators
    assert events.seq == seen[-1]
    assert repr(events) == f"<EventIterator after event {seen[-1]}>"
    assert await in_thread(lambda: list(events)) == []


async def test_a_worker_thread_of_trio_is_cancelled_with_the_task_that_waits_for_it() -> None:
    service = Service()

    @service.handler
    async def forever(number: int) -> None:
        await trio.sleep_forever()

    async with service.open() as queue:
        receipt = await queue.submit(forever, 1)
        with deadline("the end of the cancelled call"), trio.move_on_after(0.01) as scope:
            await trio.to_thread.run_sync(queue.from_thread.result, receipt.job_id)
        assert scope.cancelled_caught
        await queue.cancel(receipt.job_id)


async def test_a_worker_thread_of_another_trio_run_can_use_the_queue() -> None:
    async with plain_service().open() as queue:

        async def other_main() -> Any:
            receipt = await trio.to_thread.run_sync(queue.from_thread.submit, "work", 3)
            return await trio.to_thread.run_sync(queue.from_thread.result, receipt.job_id)

        assert await in_thread(lambda: trio.run(other_main)) == 3


async def test_a_task_of_another_trio_run_is_refused_since_its_loop_would_be_blocked() -> None:
    async with plain_service().open() as queue:

        async def other_main() -> None:
            queue.from_thread.submit("work", 3)

        with pytest.raises(UsageError, match=r"trio\.to_thread\.run_sync"):
            await in_thread(lambda: trio.run(other_main))
        assert queue.job_ids() == []
