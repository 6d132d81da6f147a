"""One call at a time into a thread and back, from Trio: through the thread executor, through Trio, and the least
possible.

The least, `bare`: one queue into a dedicated thread, one `run_sync_soon` out of it, and a direct wake-up of the waiting
task. The function returns its argument. The result is in calls per second; most of the time is the two thread switches
(`switch`).
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from queue import SimpleQueue
from typing import Any

import outcome
import trio

import trio_jobs
from benchmarks.peers.common import answer, rate, warm
from trio_jobs._executors.thread import ThreadExecutor
from trio_jobs._sdk_call import FunctionCall


def echo(sdk: object, number: int) -> int:
    return number


async def bare(jobs: int) -> float:
    inbox: SimpleQueue[tuple[trio.lowlevel.Task, Callable[..., Any], tuple[Any, ...]] | None] = SimpleQueue()
    token = trio.lowlevel.current_trio_token()

    def run() -> None:
        while (work := inbox.get()) is not None:
            task, fn, args = work
            token.run_sync_soon(trio.lowlevel.reschedule, task, outcome.capture(fn, *args))

    async def call(fn: Callable[..., Any], *args: Any) -> Any:
        inbox.put((trio.lowlevel.current_task(), fn, args))
        return await trio.lowlevel.wait_task_rescheduled(lambda _: trio.lowlevel.Abort.FAILED)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    rated = await timed(jobs, lambda number: call(echo, None, number))
    inbox.put(None)
    return rated


async def to_thread(jobs: int) -> float:
    limit = trio.CapacityLimiter(1)
    return await timed(jobs, lambda number: trio.to_thread.run_sync(echo, None, number, limiter=limit))


async def host(jobs: int) -> float:
    ours = ThreadExecutor(sdk)
    await ours.open(trio_jobs.Opening("start", 1, unclean=False))
    rated = await timed(jobs, lambda number: ours.call(FunctionCall("echo", lambda sdk: echo(sdk, number))))
    await ours.close()
    await ours.stop()
    return rated


async def timed(jobs: int, call: Callable[[int], Any]) -> float:
    for number in range(warm(jobs)):
        await call(number)
    began = time.perf_counter()
    for number in range(jobs):
        await call(number)
    return rate(jobs, began)


@contextlib.contextmanager
def sdk() -> Iterator[object]:
    yield object()


def service() -> trio_jobs.Service:
    made = trio_jobs.Service(sdk=sdk)

    @made.handler(on_doubt="hold")
    def plain(sdk: object, number: int) -> int:
        return number

    @made.handler(on_doubt="hold")
    async def through_the_handle(sdk: trio_jobs.SdkHandle, calls: int) -> float:
        return await timed(calls, lambda number: sdk.call(echo, number))

    return made


async def handle(jobs: int) -> float:
    """From inside one async handler."""
    async with service().open() as queue:
        receipt = await queue.submit("through_the_handle", jobs)
        rated: float = await queue.result(receipt.job_id)
        return rated


async def queue(jobs: int) -> float:
    """A whole job each, submitted and awaited one by one."""

    async def turn(number: int) -> None:
        await running.result((await running.submit("plain", number)).job_id)

    async with service().open() as running:
        return await timed(jobs, turn)


if __name__ == "__main__":
    answer(**{
        fn.__name__: (lambda jobs, fn=fn: trio.run(fn, jobs)) for fn in (bare, to_thread, host, handle, queue)
    })  # fmt: skip
