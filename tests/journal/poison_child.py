"""A process that one of its jobs kills: `poison_child.py JOURNAL KIND HOW MAX_CRASHES BEFORE`.

It submits BEFORE jobs, then the job that kills the process, then one more, all of KIND and with keys, so that each life
submits the same jobs. HOW: "exit" (`os._exit`) or "kill" (SIGKILL, or what the system has in its place). When all jobs
are final it prints the state, the reason and the number of attempts of the killing job, and how many others completed.
"""

from __future__ import annotations

import os
import signal
import sys
from contextlib import contextmanager, suppress
from os import _exit as exit_at_once

import trio

import trio_jobs
from trio_jobs import AsyncJobContext, JobContext, NewJob, NotDone, SdkHandle, Service, State

journal, kind, how, max_crashes, before = sys.argv[1:]
COUNT = int(before)


def die() -> None:
    if how == "kill":
        os.kill(os.getpid(), getattr(signal, "SIGKILL", signal.SIGTERM))
    exit_at_once(9)


@contextmanager
def open_sdk():  # type: ignore[no-untyped-def] # a generator
    yield "the SDK"


def call(sdk: object, n: int) -> int:
    if n == COUNT:
        die()
    return n


service = Service(sdk=open_sdk, watchdog=None, buffer=COUNT + 2, max_crashes=int(max_crashes))


@service.handler(idempotent=True)
def plain(sdk: str, n: int) -> int:
    return call(sdk, n)


@service.handler(idempotent=True)
async def without_the_sdk(sdk: SdkHandle, n: int) -> int:
    return call(None, n)


@service.handler(verify=lambda sdk, job: NotDone())
def verified(sdk: str, n: int) -> int:
    return call(sdk, n)


def ask(sdk: str, job: JobContext) -> NotDone:
    call(sdk, int(job.key or 0))
    return NotDone()


@service.handler(verify=ask)
def killed_by_verify(sdk: str, n: int) -> int:
    if n == COUNT:
        raise ValueError(n)
    return n


@service.handler(idempotent=True)
async def in_a_step(sdk: SdkHandle, n: int, job: AsyncJobContext) -> int:
    result: int = await job.step("act", sdk.call, call, n)
    return result


async def main() -> None:
    async with service.open(journal=journal) as queue:
        receipts = await queue.submit_many([NewJob(kind, n, key=str(n)) for n in range(COUNT + 2)])
        for receipt in receipts:
            with suppress(trio_jobs.JobFailed):
                await queue.result(receipt.job_id)
        job = queue.get(receipts[COUNT].job_id)
        completed = queue.statistics().jobs[State.COMPLETED]
        print(job.state, job.reason, job.attempt_count, completed, flush=True)


trio.run(main)
