"""One call at a time into a thread or a process and back, from Trio: through the executors, through Trio, and the least
possible.

The least, `bare`: one queue into a dedicated thread, one `run_sync_soon` out of it, and a direct wake-up of the waiting
task. The function returns its argument. The result is in calls per second; most of the time is the two thread switches
(`switch`).

For a process, `pipe` is the least: a message of 60 bytes into a pipe, the same out of another, waited for by Trio.
"""

from __future__ import annotations

import contextlib
import functools
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from queue import SimpleQueue
from typing import Any

import msgspec
import outcome
import trio

import trio_jobs
from benchmarks.peers.common import answer, rate, warm
from trio_jobs._executors.thread import ThreadExecutor
from trio_jobs._sdk_call import FunctionCall, HandlerCall
from trio_jobs._service import parts_of
from trio_jobs.ports import SdkExecutor


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


async def executor(jobs: int) -> float:
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


apart = trio_jobs.Service(sdk=sdk, executor="process", seat_lock=None)


@apart.handler(on_doubt="hold")
def plain(sdk: object, number: int) -> int:
    return number


async def pipe(jobs: int) -> float:
    inbound, outbound = os.pipe(), os.pipe()
    program = f"import os\nwhile data := os.read({inbound[0]}, 65536): os.write({outbound[1]}, data)"
    process = subprocess.Popen([sys.executable, "-c", program], pass_fds=(inbound[0], outbound[1]))
    os.close(inbound[0])
    os.close(outbound[1])

    async def call(number: int) -> bytes:
        os.write(inbound[1], bytes(60))
        await trio.lowlevel.wait_readable(outbound[0])  # also if it is readable: a call must let other tasks run
        return os.read(outbound[0], 65536)

    rated = await timed(jobs, call)
    os.close(inbound[1])
    process.wait()
    return rated


def executor_of(where: str, nursery: trio.Nursery) -> SdkExecutor:
    return ThreadExecutor(sdk) if where == "thread" else parts_of(apart).make_executor(nursery)


async def handler(jobs: int, where: str) -> float:
    """A plain handler on a thread or in a process, as the queue calls it."""
    declared = parts_of(apart).handlers["plain"]
    async with trio.open_nursery() as nursery:
        ours = executor_of(where, nursery)
        await ours.open(trio_jobs.Opening("start", 1, unclean=False))
        payload = msgspec.Raw(b"5")
        rated = await timed(jobs, lambda number: ours.call(HandlerCall(declared, payload, None, renew=True)))
        await ours.close()
        await ours.stop()
    return rated


async def session(jobs: int, where: str) -> float:
    """Openings of a session a second, each on a new thread or in a new process."""
    began = time.perf_counter()
    for _ in range(jobs):
        async with trio.open_nursery() as nursery:
            ours = executor_of(where, nursery)
            await ours.open(trio_jobs.Opening("start", 1, unclean=False))
            await ours.close()
            await ours.stop()
    return rate(jobs, began)


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
        fn.__name__: (lambda jobs, *, fn=fn, **options: trio.run(functools.partial(fn, jobs, **options)))
        for fn in (bare, to_thread, executor, handle, queue, pipe, handler, session)
    })  # fmt: skip
