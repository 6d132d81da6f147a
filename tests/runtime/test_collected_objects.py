"""Rules of the garbage collector: it does not visit finished jobs, so that a full collection takes no longer for them.

A full collection stops the event loop. It visits each object that could be part of a reference cycle.
"""

from __future__ import annotations

import gc
from pathlib import Path

import pytest

from trio_jobs import Service

JOBS = 200


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


@pytest.mark.parametrize("durable", [False, True])
async def test_the_collector_visits_no_finished_job(durable: bool, tmp_path: Path) -> None:
    async with make_service().open(journal=tmp_path / "jobs.db" if durable else None) as queue:

        async def run_jobs(first: int) -> None:
            for number in range(first, first + JOBS):
                receipt = await queue.submit("nothing", number, key=f"A-{number}", labels={"company": "acme"})
            await queue.result(receipt.job_id)

        await run_jobs(0)  # what is made once
        before = tracked()
        await run_jobs(JOBS)
        assert tracked() - before < JOBS / 2
