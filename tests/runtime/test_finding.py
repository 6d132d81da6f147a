"""Rules of finding one job: by its key, and by the end of its id as it is shown."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
from trio.testing import MockClock

import trio_jobs
from support.rig import make_rig
from support.stores import SlowStore
from trio_jobs import AmbiguousJob, JobNotFound, Queue, Service, UnknownKind, UsageError, events
from trio_jobs._runtime.queue import runtime_of


def shop() -> Service:
    service = Service(drain_timeout=0.0)

    @service.handler
    async def post(number: int) -> int:
        return number

    @service.handler
    async def send(number: int) -> int:
        return number

    return service


@asynccontextmanager
async def paused_shop(**kwargs: Any) -> AsyncIterator[Queue]:
    async with shop().open(**kwargs) as queue:
        await queue.pause()
        yield queue


async def test_a_job_is_found_by_its_kind_and_its_key() -> None:
    service = shop()

    @service.handler
    async def scan(number: int) -> None: ...

    async with service.open() as queue:
        job_id = (await queue.submit("post", 1, key="A-1")).job_id
        scanned = (await queue.submit("scan", 1, key="A-1")).job_id
        other = (await queue.submit("send", 2, key="A-2")).job_id
        assert queue.find("post", "A-1") == queue.get(job_id)
        assert queue.find(scan, "A-1").id == scanned
        assert queue.find(None, "A-2").id == other
        for kind, key in (("send", "A-1"), ("unknown", "A-1"), ("post", "A"), (None, "A-10")):
            with pytest.raises(JobNotFound, match=f"no job with key '{key}'") as caught:
                queue.find(kind, key)
            assert (caught.value.job_id, caught.value.key) == ("", key)


async def test_a_key_of_several_kinds_needs_the_kind_and_names_the_jobs() -> None:
    async with paused_shop() as queue:
        jobs = [(await queue.submit(kind, 1, key="A-1")).job_id for kind in ("send", "post")]
        with pytest.raises(AmbiguousJob, match="the kind of the job") as caught:
            queue.find(None, "A-1")
        assert (caught.value.given, caught.value.job_ids) == ("A-1", tuple(jobs))
        assert queue.find("post", "A-1").id == jobs[1]


async def test_the_key_of_a_pruned_job_names_the_job_that_had_it(autojump_clock: MockClock) -> None:
    rig = make_rig("trio", settings={"job_retention": 0.0})
    async with rig.open() as queue:
        job_id = (await queue.submit("work", "x", key="A-1")).job_id
        await queue.result(job_id)
        await trio.sleep(120)
        with pytest.raises(JobNotFound, match=f"key 'A-1' belongs to job {job_id}, which is pruned") as caught:
            queue.find("work", "A-1")
        assert caught.value.job_id == job_id


@pytest.mark.parametrize("key", ["", "x" * 501, 7, None])
async def test_a_key_to_find_is_a_key(key: Any) -> None:
    async with paused_shop() as queue:
        with pytest.raises(UsageError, match="a key is a text of 1 to 500 characters"):
            queue.find("post", key)
        with pytest.raises(UnknownKind):
            queue.find(print, "A-1")


async def test_p6_a_key_and_an_id_find_no_job_before_its_submit_is_committed() -> None:
    store = SlowStore(events.Submitted)
    async with paused_shop(store=store) as queue, trio.open_nursery() as nursery:
        nursery.start_soon(lambda: queue.submit("post", 1, key="A-1"))
        await trio.testing.wait_all_tasks_blocked()
        (job_id,) = runtime_of(queue).event_log.projection.jobs
        with store.kept_at_the_end():
            with pytest.raises(JobNotFound, match="no job with key"):
                queue.find("post", "A-1")
            with pytest.raises(JobNotFound):
                queue.get(job_id[-8:])
        assert queue.find("post", "A-1").id == queue.get(job_id[-8:]).id == job_id


@pytest.mark.parametrize("length", [6, 7, 8, 9, 12, 13, 20, 35])
async def test_every_method_that_takes_one_job_takes_the_end_of_its_id(length: int) -> None:
    async with shop().open() as queue:
        done = (await queue.submit("post", 5)).job_id
        await queue.result(done)
        await queue.pause()
        jobs = [(await queue.submit("post", n)).job_id for n in range(3)]
        end = [job_id[-length:] for job_id in jobs]
        assert queue.get(end[0]).id == jobs[0]
        assert queue.get(end[0].upper()).id == jobs[0]
        assert await queue.result(done[-length:]) == 5
        assert queue.progress(end[0]) is None
        stream = queue.events(jobs=[end[1]])
        assert await queue.cancel(end[1]) == "cancelled"
        assert (await anext(stream)).job == jobs[1]  # type: ignore[attr-defined] # an event of a job
        await queue.retry(end[1])
        assert queue.get(jobs[1]).run == 2
        with pytest.raises(trio_jobs.InvalidState, match=jobs[2]):
            await queue.resolve(end[2], "done")


async def test_fewer_than_six_characters_find_no_job() -> None:
    async with paused_shop() as queue:
        job_id = (await queue.submit("post", 1)).job_id
        with pytest.raises(JobNotFound, match="at least its last 6 characters"):
            queue.get(job_id[-5:])
        with pytest.raises(JobNotFound, match=r"never submitted here, or pruned since\)$"):
            queue.get("x" + job_id[-11:])


async def test_an_end_of_several_ids_is_refused_with_the_candidates(monkeypatch: pytest.MonkeyPatch) -> None:
    ids = iter(f"00000000-0000-7000-8000-{n:06}abcdef" for n in range(30))
    monkeypatch.setattr("trio_jobs._runtime.submission.uuid7", lambda now, chance: next(ids))
    async with paused_shop() as queue:
        jobs = [(await queue.submit("post", n)).job_id for n in range(30)]
        for call in (queue.get, queue.cancel, queue.retry, queue.result):
            with pytest.raises(AmbiguousJob, match="give more of the id") as caught:
                result: Any = call("abcdef")
                await result
            assert caught.value.job_ids == tuple(jobs[:20]), "at most 20, in the order of their submits"
        assert queue.get("000029abcdef").id == jobs[29]
        assert all(queue.get(job_id).state == "pending" for job_id in jobs)


async def test_jobs_are_found_among_thousands_and_after_others_are_pruned(autojump_clock: MockClock) -> None:
    rig = make_rig("trio", settings={"buffer": 3000, "job_retention": {"cancelled": 0.0}, "drain_timeout": 0.0})
    async with rig.open() as queue:
        await queue.pause()
        jobs = [queue.submit_nowait("work", str(n), key=f"A-{n}").job_id for n in range(2500)]
        assert all(queue.get(job_id[-8:]).id == job_id for job_id in jobs[::7])
        for job_id in jobs[:2000]:
            if int(job_id[-1], 16) % 4:
                await queue.cancel(job_id)
        await trio.sleep(300)
        assert [job.id for job in queue.list(limit=500, order="newest")] == jobs[:1999:-1]
        assert all(queue.get(job_id[-8:]).id == job_id for job_id in queue.job_ids()[::3])
        assert queue.find("work", "A-2400").id == jobs[2400]
