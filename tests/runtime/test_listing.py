"""Rules of pages of jobs: what a page costs does not depend on where it begins, nor on how many jobs do not match."""

from __future__ import annotations

import gc
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_jobs import Queue, Service, State
from trio_jobs._engine.jobs import Job
from trio_jobs._runtime.queue import runtime_of

JOBS = 2000
PAGE = 20


@asynccontextmanager
async def paused_queue(jobs: int = JOBS) -> AsyncIterator[tuple[Queue, list[str]]]:
    """A queue with pending jobs, every tenth of kind "rare"."""
    service = Service(buffer=jobs, drain_timeout=0.0)

    @service.handler
    async def common(number: int) -> None: ...

    @service.handler
    async def rare(number: int) -> None: ...

    async with service.open() as queue:
        await queue.pause()
        yield queue, [queue.submit_nowait("common" if n % 10 else "rare", n).job_id for n in range(jobs)]


def calls(do: Any) -> int:
    """The number of Python functions called and generators resumed."""
    count = 0

    def profile(frame: Any, event: str, arg: Any) -> None:
        nonlocal count
        count += event == "call"

    gc.disable()  # a collection calls functions of other packages
    sys.setprofile(profile)
    try:
        do()
    finally:
        sys.setprofile(None)
        gc.enable()
    return count


@pytest.mark.parametrize(
    "filters", [{}, {"kind": "common"}, {"state": "pending"}, {"state": "pending", "kind": "rare"}]
)
async def test_a_page_costs_the_same_wherever_it_begins(filters: dict[str, Any]) -> None:
    async with paused_queue() as (queue, jobs):
        first = calls(lambda: queue.list(limit=PAGE, **filters))
        for place in (100, 1000, 1900):
            page = queue.list(limit=PAGE, after=jobs[place], **filters)
            assert len(page) == (PAGE if filters.get("kind") != "rare" else min(PAGE, (JOBS - 1 - place) // 10))
            assert calls(lambda: queue.list(limit=PAGE, after=jobs[place], **filters)) <= first + 20  # noqa: B023


@pytest.mark.parametrize("filters", [{"kind": "unknown"}, {"state": "failed"}, {"state": "pending", "kind": "unknown"}])
async def test_a_page_that_matches_nothing_looks_at_no_job(filters: dict[str, Any]) -> None:
    async with paused_queue() as (queue, _):
        assert queue.list(**filters) == []
        assert calls(lambda: queue.list(**filters)) < 30


@given(
    st.lists(st.integers(1, 7), min_size=1, max_size=40),
    st.sampled_from([None, State.PENDING, State.CANCELLED]),
    st.sampled_from([None, "common", "rare", "unknown"]),
    st.sets(st.integers(0, 49), max_size=20),
)
async def test_pages_of_any_sizes_contain_each_job_that_matches_once(
    sizes: list[int], state: State | None, kind: str | None, cancelled: set[int]
) -> None:
    async with paused_queue(50) as (queue, jobs):
        for number in sorted(cancelled, key=lambda number: (number * 7) % 50):
            await queue.cancel(jobs[number])
        queries = runtime_of(queue).queries
        everything = queue.list(state=state, kind=kind, limit=1000)
        found: list[Job] = []

        def take(job: Job) -> bool:
            found.append(job)
            return True

        place, more = 0, True
        for size in [*sizes, *([7] * 10)]:
            place, more = queries.page(state, kind, place, size, take, brief=False)
        assert not more
        assert found == everything
        assert all((state is None or job.state is state) and (kind is None or job.kind == kind) for job in found)


@given(st.integers(1, 30), st.none() | st.sets(st.sampled_from(["common", "rare", "unknown"])), st.integers(0, 49))
async def test_a_snapshot_in_steps_contains_each_job_that_it_begins_with_once(
    limit: int, kinds: set[str] | None, until: int
) -> None:
    async with paused_queue(50) as (queue, jobs):
        queries = runtime_of(queue).queries
        last = queue.get(jobs[until]).seq
        found: list[str] = []

        def take(job: Job) -> bool:
            found.append(job.id)
            return True

        place = 0
        while place < last:
            place = queries.snapshot(place, last, kinds, None, limit, take)
        assert found == [job for job in jobs[: until + 1] if kinds is None or queue.get(job).kind in kinds]
