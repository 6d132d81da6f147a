"""Rules of pages of jobs: what a page costs does not depend on where it begins, nor on how many jobs do not match."""

from __future__ import annotations

import gc
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any, Literal

import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock

from support.rig import make_rig
from support.stores import SlowStore
from trio_jobs import InvalidCursor, Job, JobCounts, JobNotFound, Queue, Service, State, UsageError, events
from trio_jobs._runtime.queue import runtime_of

JOBS = 2000
PAGE = 20


@asynccontextmanager
async def paused_queue(jobs: int = JOBS, free: int = 0) -> AsyncIterator[tuple[Queue, list[str]]]:
    """A queue with pending jobs, every tenth of kind "rare", every other one by Ada."""
    service = Service(buffer=jobs + free, drain_timeout=0.0)

    @service.handler
    async def common(number: int) -> None: ...

    @service.handler
    async def rare(number: int) -> None: ...

    async with service.open() as queue:
        await queue.pause()
        yield (
            queue,
            [
                queue.submit_nowait(
                    "common" if n % 10 else "rare",
                    n,
                    key=f"A-{n}",
                    labels={"parity": "odd" if n % 2 else "even"},
                    by="ada" if n % 2 else None,
                ).job_id
                for n in range(jobs)
            ],
        )


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


ORDERS: tuple[Literal["oldest", "newest"], ...] = ("oldest", "newest")
FILTERS: list[dict[str, Any]] = [
    {},
    {"kind": "common"},
    {"state": "pending"},
    {"state": "pending", "kind": "rare"},
    {"states": ["pending", "failed"], "key_prefix": "A-"},
    {"key_prefix": "A-19"},
    {"labels": {"parity": "odd"}, "by": "ada"},
    {"since": datetime(2000, 1, 1, tzinfo=UTC), "may_have_acted": False},
]


@pytest.mark.parametrize("order", ["oldest", "newest"])
@pytest.mark.parametrize("filters", FILTERS, ids=str)
async def test_a_page_costs_the_same_wherever_it_begins(filters: dict[str, Any], order: Any) -> None:
    async with paused_queue() as (queue, _):
        costs = []
        page = queue.list(limit=PAGE, order=order, **filters)
        while page.next is not None:
            after, page = page.next, queue.list(limit=PAGE, order=order, after=page.next, **filters)
            costs.append(calls(lambda: queue.list(limit=PAGE, order=order, after=after, **filters)))  # noqa: B023 - called at once
        in_the_tail = 1200  # the newest jobs are looked at one by one
        assert max(costs, default=0) <= 20 * PAGE + in_the_tail


@pytest.mark.parametrize(
    "filters",
    [
        {"kind": "unknown"},
        {"state": "failed"},
        {"state": "pending", "kind": "unknown"},
        {"key_prefix": "B"},
        {"error_type": "OSError"},
        {"may_have_acted": True},
        {"labels": {"parity": "odd"}, "by": "bob"},
        {"until": datetime(2000, 1, 1, tzinfo=UTC)},
    ],
    ids=str,
)
async def test_a_page_that_matches_nothing_looks_at_no_job_but_the_newest(filters: dict[str, Any]) -> None:
    async with paused_queue() as (queue, _):
        assert queue.list(**filters) == []
        assert calls(lambda: queue.list(**filters)) < 2 * (JOBS - 1024) + 100


CHANGES = st.lists(st.tuples(st.integers(0, 49), st.sampled_from(["cancel", "retry", "submit"])), max_size=6)


@settings(max_examples=30)
@given(
    st.lists(st.tuples(st.integers(1, 7), CHANGES), max_size=30),
    st.sampled_from([{}, {"state": "pending"}, {"states": ["cancelled", "pending"]}, {"kind": "rare"}, {"by": "ada"}]),
    st.sampled_from(["oldest", "newest"]),
)
async def test_whatever_happens_between_pages_a_job_that_always_matches_is_listed_once(
    pages: list[tuple[int, list[tuple[int, str]]]], filters: dict[str, Any], order: Any
) -> None:
    async with paused_queue(50, free=200) as (queue, jobs):

        def matching() -> set[str]:
            return {job.id for job in queue.list(limit=1000, **filters)}

        always, ever = matching(), matching()
        found: list[str] = []
        page = None
        for size, changes in [*pages, *([(7, [])] * 40)]:
            page = queue.list(limit=size, order=order, after=None if page is None else page.next, **filters)
            found += [job.id for job in page]
            if page.next is None:
                break
            for number, change in changes:
                if change == "submit":
                    queue.submit_nowait("common", number, by="ada")
                elif change == "cancel":
                    await queue.cancel(jobs[number])
                elif queue.get(jobs[number]).state is State.CANCELLED:
                    await queue.retry(jobs[number])
                always &= matching()
                ever |= matching()
        assert page is not None
        assert page.next is None
        assert len(found) == len(set(found))
        assert always <= set(found) <= ever
        seqs = [int(queue.get(job_id).payload or b"0") for job_id in found if job_id in jobs]
        assert seqs == sorted(seqs, reverse=order == "newest"), "in the order of the submits"


async def test_a_page_that_finds_little_ends_early_and_the_next_one_continues(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trio_jobs._engine.job_table.LOOK", 1)
    async with paused_queue(6000) as (queue, jobs):
        for order in ORDERS:
            found: list[Job] = []
            steps, page = 0, queue.list(key_prefix="A-3000", order=order)
            while page.next is not None:
                found += page
                steps += 1
                page = queue.list(key_prefix="A-3000", order=order, after=page.next)
            assert [job.id for job in [*found, *page]] == [jobs[3000]]
            assert steps >= 2


async def test_a_list_continues_behind_a_job_that_is_named_by_its_id() -> None:
    async with paused_queue(20) as (queue, jobs):
        assert [job.id for job in queue.list(after=jobs[4], limit=3)] == jobs[5:8]
        assert [job.id for job in queue.list(after=jobs[4], limit=3, order="newest")] == [jobs[3], jobs[2], jobs[1]]
        await queue.cancel(jobs[4])
        assert [job.id for job in queue.list(after=jobs[4], state="pending", limit=1)] == [jobs[5]]


async def test_a_cursor_outlives_the_job_at_which_its_page_ended(autojump_clock: MockClock) -> None:
    rig = make_rig("trio", settings={"job_retention": {"cancelled": 0, "completed": 10_000, "failed": 10_000}})
    async with rig.open() as queue:
        await queue.pause("")
        jobs = [(await queue.submit("work", str(n))).job_id for n in range(4)]
        page = queue.list(limit=2)
        await queue.cancel(jobs[1])
        await trio.sleep(120)
        with pytest.raises(JobNotFound):
            queue.get(jobs[1])
        assert [job.id for job in queue.list(after=page.next)] == jobs[2:]
        await queue.resume()


CURSOR_OF: dict[str, Any] = {"limit": 2, "kind": "common", "order": "newest"}


@pytest.mark.parametrize(
    "other",
    [{"kind": "rare"}, {"kind": None}, {"order": "oldest"}, {"state": "pending"}, {"by": "ada"}, {"key_prefix": "A"}],
    ids=str,
)
async def test_a_cursor_of_another_list_is_refused(other: dict[str, Any]) -> None:
    async with paused_queue(20) as (queue, _):
        page = queue.list(**CURSOR_OF)
        assert queue.list(**CURSOR_OF | {"limit": 9}, after=page.next), "the limit may differ"
        with pytest.raises(InvalidCursor, match="with the same conditions and order"):
            queue.list(**CURSOR_OF | other, after=page.next)


async def test_a_cursor_of_another_history_is_refused() -> None:
    async with paused_queue(20) as (queue, _):
        cursor = queue.list(limit=2).next
    async with paused_queue(20) as (queue, _):
        with pytest.raises(InvalidCursor):
            queue.list(after=cursor)


@settings(max_examples=30)
@given(at=st.integers(0, 24), text=st.text(max_size=2))
async def test_a_changed_cursor_is_refused(at: int, text: str) -> None:
    async with paused_queue(5) as (queue, _):
        cursor = queue.list(limit=2).next
        assert cursor is not None
        changed = cursor[:at] + text + cursor[at + 1 :]
        if changed != cursor and not changed.startswith(cursor):
            with pytest.raises((InvalidCursor, JobNotFound)):
                queue.list(after=changed)


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        ({"order": "random"}, "the order is 'oldest' or 'newest'"),
        ({"state": "failed", "states": ["failed"]}, "give state or states, not both"),
        ({"states": "failed"}, "use state for one"),
        ({"states": ["lost"]}, "there is no state 'lost'"),
        ({"key_prefix": ""}, "key_prefix is a text of 1 to 500"),
        ({"error_type": 7}, "error_type is a text of 1 to 200"),
        ({"may_have_acted": "yes"}, "may_have_acted is True, False or None"),
        ({"labels": {f"n{n}": "v" for n in range(9)}}, "at most 8 labels, not 9"),
        ({"labels": "company"}, "labels are a mapping"),
        ({"since": datetime(2026, 1, 1)}, "since must be an aware datetime"),
        ({"until": 7}, "until must be an aware datetime"),
        ({"kinds": ["a"]}, "did you mean 'kind'"),
    ],
    ids=str,
)
async def test_an_invalid_condition_says_what_it_must_be(bad: dict[str, Any], says: str) -> None:
    async with paused_queue(1) as (queue, _):
        with pytest.raises(UsageError, match=says):
            queue.list(**bad)


# counts


async def test_jobs_are_counted_by_the_same_conditions_and_by_groups() -> None:
    async with paused_queue(200) as (queue, jobs):
        for job_id in jobs[:30]:
            await queue.cancel(job_id)
        assert await queue.count() == JobCounts(200)
        assert await queue.count("state") == JobCounts(200, {"pending": 170, "cancelled": 30})
        assert await queue.count("kind", state="cancelled") == JobCounts(30, {"common": 27, "rare": 3})
        assert await queue.count("label:parity", key_prefix="A-1") == JobCounts(111, {"odd": 56, "even": 55})
        assert await queue.count("label:unknown") == JobCounts(200, {})
        assert await queue.count("error_type", by="bob") == JobCounts(0, {})
        for wrong in ("by", "label", "label:", "state:x", ""):
            with pytest.raises(UsageError):
                await queue.count(wrong)


async def test_a_count_has_at_most_a_thousand_groups_and_says_how_many_jobs_are_in_others() -> None:
    service = Service(buffer=1200, drain_timeout=0.0)

    @service.handler
    async def work(number: int) -> None: ...

    async with service.open() as queue:
        await queue.pause()
        for number in range(1200):
            queue.submit_nowait("work", number, labels={"number": str(max(number, 100))})
        counts = await queue.count("label:number")
        assert counts.groups is not None
        assert (counts.total, len(counts.groups), counts.others) == (1200, 1000, 99 + 1)
        assert next(iter(counts.groups.items())) == ("100", 101)


# the committed view


@settings(max_examples=30)
@given(data=st.data(), order=st.sampled_from(["oldest", "newest"]))
async def test_p6_lists_and_counts_show_committed_events_only(data: Any, order: Any) -> None:
    """Half of the cancels are not committed yet: their jobs are listed and counted as they were."""
    store = SlowStore(events.Cancelled)
    service = Service(buffer=40, drain_timeout=0.0)

    @service.handler
    async def work(number: int) -> None: ...

    async with service.open(store=store) as queue, trio.open_nursery() as nursery:
        await queue.pause()
        jobs = [(await queue.submit("work", n, key=f"k{n}")).job_id for n in range(20)]
        with store.kept_at_the_end():
            kept = data.draw(st.integers(0, 8))
            for number in data.draw(st.permutations(range(20)))[:8]:
                nursery.start_soon(queue.cancel, jobs[number])
                await trio.testing.wait_all_tasks_blocked()
            store.keep(kept)
            states = {job_id: queue.get(job_id).state for job_id in jobs}
            for state in ("pending", "cancelled"):
                expected = [job_id for job_id in jobs if states[job_id] == state]
                if order == "newest":
                    expected.reverse()
                assert [job.id for job in queue.list(state=state, order=order)] == expected
                found: list[Job] = []
                page = queue.list(state=state, order=order, limit=3)
                while page.next is not None:
                    found += page
                    page = queue.list(state=state, order=order, limit=3, after=page.next)
                assert [job.id for job in [*found, *page]] == expected
                assert (await queue.count(state=state)).total == len(expected)
            counted = (await queue.count("state")).groups
            assert counted == {state: n for state, n in Counter(states.values()).most_common() if n}


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
