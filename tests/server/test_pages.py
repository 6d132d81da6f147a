"""Rules of pages of jobs: lists and snapshots have limits of jobs, of bytes and of time."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import attrs
import msgspec
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock

from support.server import Bench, Raw, bench, make_service, patient
from support.waiting import deadline
from trio_jobs import Fail, Service
from trio_jobs._engine.events import Submitted
from trio_jobs._engine.fold import begin
from trio_jobs._engine.jobs import Attempt, ErrorInfo, Job, State, view
from trio_jobs._server import pacing
from trio_jobs._server.pacing import Pacer
from trio_jobs._wire.codes import MAX_HISTORY_BYTES, MAX_PAGE_BYTES
from trio_jobs._wire.conversion import job_to_wire
from trio_jobs._wire.job_lists import ListResult
from trio_jobs._wire.methods import Snapshot
from trio_jobs._wire.pages import JobPage, ListOut, SnapshotOut

LONG = "x" * 1024
NOW = datetime(2026, 1, 1, tzinfo=UTC)
JOB = view(begin(Submitted(seq=1, at=0.0, job="j", kind="k", payload=msgspec.Raw(b"1"), digest="d")), brief=True)


def failed(message: str) -> Job:
    return attrs.evolve(JOB, state=State.FAILED, error=ErrorInfo("ValueError", message))


async def frames(client: Raw, last: Any) -> list[bytes]:
    """The text frames up to the one for which `last` is true."""
    received = []
    with deadline("the last frame"):
        while True:
            _, payload = await client.frame()
            received.append(payload)
            if last(json.loads(payload)):
                return received


async def with_failed_jobs(b: Bench, count: int) -> list[str]:
    jobs = [b.queue.submit_nowait("refuse", LONG).job_id for _ in range(count)]
    with deadline("all jobs have failed"):
        async for event in b.queue.events(after=0):
            if event.seq >= 3 * count:
                return jobs
    raise AssertionError


def long_service() -> Service:
    service = make_service(buffer=1000)

    @service.handler
    async def refuse(why: str) -> None:
        raise Fail(why)

    return service


@pytest.mark.parametrize(
    "filters", [{}, {"state": "failed"}, {"kind": "refuse"}, {"state": "failed", "kind": "refuse"}]
)
async def test_pages_of_long_jobs_are_small_and_contain_each_job_once(filters: dict[str, str]) -> None:
    async with bench(long_service(), limits=patient()) as b:
        jobs = await with_failed_jobs(b, 450)
        client = await b.raw()
        found: list[str] = []
        more, pages = True, 0
        while more:
            after = {"after": found[-1]} if found else {}
            await client.send(client.request("jobs.list", limit=500, **filters, **after)[1])
            [frame] = await frames(client, lambda message: "id" in message)
            assert len(frame) < MAX_PAGE_BYTES + 1000
            page = json.loads(frame)["result"]
            found += [job["id"] for job in page["jobs"]]
            more, pages = page["more"], pages + 1
        assert found == jobs
        assert pages > 1
        await client.say_goodbye()


@pytest.mark.parametrize("filters", [{}, {"states": ["failed"]}, {"kinds": ["refuse", "double"]}, {"jobs": None}])
async def test_a_snapshot_of_long_jobs_has_small_pages_and_each_job_once(filters: dict[str, Any]) -> None:
    async with bench(long_service(), limits=patient()) as b:
        jobs = await with_failed_jobs(b, 450)
        client = await b.raw()
        filters = {"jobs": jobs} if "jobs" in filters else filters
        await client.ask("jobs.subscribe", subscription="mine", snapshot=True, **filters)
        received = await frames(client, lambda message: message["params"].get("last", False))
        assert max(map(len, received)) < MAX_PAGE_BYTES + 1000
        pages = [json.loads(frame)["params"] for frame in received]
        assert sorted(job["id"] for page in pages for job in page["jobs"]) == sorted(jobs)
        assert len(pages) > 1
        await client.say_goodbye()


async def test_a_snapshot_that_matches_nothing_has_one_empty_page() -> None:
    async with bench(long_service(), limits=patient()) as b:
        await with_failed_jobs(b, 300)
        client = await b.raw()
        for number, filters in enumerate(({"states": ["in_doubt"]}, {"kinds": ["other"]}, {"jobs": ["unknown"]})):
            await client.ask("jobs.subscribe", subscription=str(number), snapshot=True, **filters)
            page = (await client.next_notification())["params"]
            assert (page["jobs"], page["last"]) == ([], True)
            assert (await client.next_notification())["method"] == "jobs.position"
        await client.say_goodbye()


@given(st.lists(st.integers(0, MAX_PAGE_BYTES * 2), max_size=12), st.integers(1, 10))
def test_a_page_has_at_most_its_jobs_and_its_bytes_and_its_first_job_whatever_that_has(
    sizes: list[int], most: int
) -> None:
    page = JobPage(most)
    taken = 0
    while page.room and taken < len(sizes) and page.take(failed("x" * sizes[taken])):
        taken += 1
    assert len(page.jobs) == taken <= most
    assert taken == 1 or sum(len(bytes(job)) for job in page.jobs) <= MAX_PAGE_BYTES
    if sizes:
        assert taken >= 1
        assert taken == min(len(sizes), most) or page.room == 0


def test_pages_are_encoded_as_the_methods_declare_them() -> None:
    page = JobPage(5)
    page.take(JOB)
    page.take(failed("it broke"))
    jobs = [job_to_wire(JOB), job_to_wire(failed("it broke"))]
    listed = msgspec.json.decode(msgspec.json.encode(ListOut(7, page.jobs, True)), type=ListResult)
    assert listed == ListResult(7, jobs, True)
    snapshot = msgspec.json.decode(msgspec.json.encode(SnapshotOut("s", 7, page.jobs, True)), type=Snapshot)
    assert snapshot == Snapshot("s", 7, jobs, True)


def test_an_answer_has_the_newest_attempts_of_a_job_with_many() -> None:
    error = ErrorInfo("ValueError", "m", None, "t" * 16 * 1024)
    attempts = tuple(
        Attempt(
            number=number, run=1, started_at=NOW, ended_at=NOW, outcome=None, ended_by=None, error=error,
            entered=False, late=False, overdue=False,
        )
        for number in range(1, 1001)
    )  # fmt: skip
    sent = job_to_wire(attrs.evolve(JOB, attempts=attempts, attempt_count=1000), history=True)
    assert sent.history is not None
    numbers = [attempt.number for attempt in sent.history]
    assert numbers == [*range(numbers[0], 1001)]
    assert 20 < len(numbers) < 40
    assert len(msgspec.json.encode(sent)) < MAX_HISTORY_BYTES + 1000
    assert sent.attempts == 1000


async def test_the_message_of_an_error_is_short_whatever_the_client_has_sent() -> None:
    async with bench(limits=patient()) as b:
        client = await b.raw()
        for params in ({"x" * 100_000: 1}, {"job": "x" * 100_000}, {"job": 5, "y" * 100_000: "z"}):
            error = (await client.ask("jobs.get", **params))["error"]
            assert len(error["message"]) <= 1000
        await client.say_goodbye()


# pacing


class Busy:
    """Steps that take a given time."""

    def __init__(self) -> None:
        self.now = 0.0
        self.ran: list[tuple[str, float]] = []

    def step(self, name: str, took: float) -> str:
        self.now += took
        self.ran.append((name, trio.current_time()))
        return name


async def test_pages_take_at_most_their_share_of_the_event_loop(autojump_clock: MockClock) -> None:
    busy = Busy()
    pacer = Pacer(lambda: busy.now)
    begun = trio.current_time()
    for _ in range(1000):
        await pacer.run(lambda: busy.step("page", 0.001))
    took = trio.current_time() - begun
    assert took >= (1.0 - pacing.BURST) / pacing.SHARE - 0.01
    assert took <= 1.0 / pacing.SHARE


async def test_a_few_pages_after_a_pause_do_not_wait(autojump_clock: MockClock) -> None:
    busy = Busy()
    pacer = Pacer(lambda: busy.now)
    for _ in range(3):
        begun = trio.current_time()
        for _ in range(50):
            await pacer.run(lambda: busy.step("page", 0.001))
        assert trio.current_time() == begun
        await trio.sleep(1.0)


async def test_connections_take_turns_at_their_pages(autojump_clock: MockClock) -> None:
    busy = Busy()
    pacer = Pacer(lambda: busy.now)

    async def pages(name: str) -> None:
        for _ in range(10):
            await pacer.run(lambda: busy.step(name, 0.1))

    async with trio.open_nursery() as nursery:
        for name in "abc":
            nursery.start_soon(pages, name)
    order = [name for name, _ in busy.ran]
    assert all(len(set(order[at : at + 3])) == 3 for at in range(0, 30, 3))


async def test_a_step_that_raises_or_is_cancelled_gives_the_turn_to_the_next(autojump_clock: MockClock) -> None:
    busy = Busy()
    pacer = Pacer(lambda: busy.now)

    def broken() -> None:
        busy.now += 10.0
        raise KeyError

    with pytest.raises(KeyError):
        await pacer.run(broken)
    with trio.move_on_after(1.0) as scope:
        await pacer.run(lambda: busy.step("cancelled", 0.1))
    assert scope.cancelled_caught
    assert await pacer.run(lambda: busy.step("next", 0.1)) == "next"
    [(name, at)] = busy.ran
    assert name == "next"
    assert at == pytest.approx((10.0 - pacing.BURST) / pacing.SHARE, abs=0.01)
