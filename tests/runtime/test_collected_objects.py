"""Rules of the garbage collector: it does not visit finished jobs, and a job does not bring a full collection nearer.

A full collection stops the event loop. It visits each object that could be part of a reference cycle, also those that
modules consist of. One begins when enough objects have survived collections of young ones. Those begin when 700 more
objects were made than freed; all that is under way at that time survives, even if it is freed right after it.
"""

from __future__ import annotations

import contextlib
import gc
import itertools
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from trio_jobs import Service

JOBS = 200
#: Since Python 3.14, the collector visits each dict, and so those of labels
LABELS = {"company": "acme"} if sys.version_info < (3, 14) else None
COUNTED = 500  #: jobs after which the objects that Python keeps to use again, 80 lists, are few


def make_service() -> Service:
    service = Service(max_finished_jobs=10_000)

    @service.handler
    async def nothing(number: int) -> dict[str, int]:
        return {"number": number}

    return service


def tracked() -> int:
    """The number of objects that a full collection visits."""
    gc.collect()
    return len(gc.get_objects())


@contextlib.contextmanager
def no_collection() -> Iterator[None]:
    """Let no collection begin, so that the count goes on. It never falls below 0, so it starts at some thousands."""
    gc.disable()
    many = [[number] for number in range(5000)]
    try:
        yield
    finally:
        gc.enable()
        many.clear()


@pytest.mark.parametrize(("durable", "producers"), [(False, 1), (True, 1), (True, 20)])
async def test_a_finished_job_leaves_no_object_that_the_collector_counts(
    durable: bool, producers: int, tmp_path: Path
) -> None:
    async with make_service().open(journal=tmp_path / "jobs.db" if durable else None) as queue:
        keys = map(str, itertools.count())

        async def produce() -> None:
            for number in range(COUNTED // producers):
                receipt = await queue.submit("nothing", number, key=next(keys))
            await queue.result(receipt.job_id)

        async def run_jobs() -> None:
            async with trio.open_nursery() as nursery:
                for _ in range(producers):
                    nursery.start_soon(produce)

        await run_jobs()  # what is made once
        with no_collection():
            before = gc.get_count()[0]
            await run_jobs()
            made = gc.get_count()[0] - before
        assert made < COUNTED / 2


@pytest.mark.parametrize("durable", [False, True])
async def test_the_collector_visits_no_finished_job(durable: bool, tmp_path: Path) -> None:
    async with make_service().open(journal=tmp_path / "jobs.db" if durable else None) as queue:

        async def run_jobs(first: int) -> None:
            for number in range(first, first + JOBS):
                receipt = await queue.submit("nothing", number, key=f"A-{number}", labels=LABELS)
            await queue.result(receipt.job_id)

        await run_jobs(0)  # what is made once
        before = tracked()
        await run_jobs(JOBS)
        assert tracked() - before < JOBS / 2
