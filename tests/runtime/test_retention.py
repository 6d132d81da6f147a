"""What is forgotten, when, and what is remembered of it."""

from __future__ import annotations

import gc
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

import trio_jobs
from support.rig import NO_RETRY, busy_queue, ended, make_rig, until_state
from trio_jobs import JobNotFound, MemoryStore, Queue, Service, State
from trio_jobs._runtime.pruner import BATCH, LARGEST
from trio_jobs._runtime.queue import runtime_of
from trio_jobs.events import Completed, JobEvent
from trio_jobs.testing import Blocker


async def test_final_jobs_are_pruned_after_job_retention(autojump_clock: MockClock) -> None:
    rig = make_rig("trio", settings={"job_retention": 1000}, retry=NO_RETRY)
    rig.sdk.script("call", "ok", ValueError())
    async with rig.open() as queue:
        jobs = [await queue.submit("work", what) for what in "ab"]
        jobs.append(await queue.submit("work", "c", delay=100_000))
        await queue.cancel(jobs[2].job_id)
        await trio.sleep(900)
        assert len(queue.list()) == 3
        await trio.sleep(200)
        assert queue.list() == []
        for receipt in jobs:
            with pytest.raises(JobNotFound, match="never submitted here, or pruned since"):
                queue.get(receipt.job_id)


class PruneSizes(MemoryStore):
    """Notes how many jobs each prune removes. A prune takes 1 s, in which jobs end."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes: list[int] = []
        self.pairs = 0

    async def prune(self, jobs: Any, keys: Any = (), stale: Any = ()) -> None:
        self.sizes.append(len(jobs))
        self.pairs += sum(type(one) is tuple for one in gc.get_referents(jobs))
        await trio.sleep(1.0)
        await super().prune(jobs, keys, stale)


async def test_a_queue_that_is_always_full_of_finished_jobs_removes_whole_batches(autojump_clock: MockClock) -> None:
    """Each prune searches the store; a few jobs at a time would cost as much as a batch."""
    store = PruneSizes()
    async with make_rig("trio", settings={"max_finished_jobs": 10}).open(store=store) as queue:
        for n in range(3 * BATCH):
            await queue.result((await queue.submit("work", "a")).job_id)
            if n % 100 == 0:
                await trio.sleep(0.3)
        assert store.sizes == [BATCH] * len(store.sizes)
        assert store.pairs == 0, "the collector would count an object of each job while it is removed"
        assert 10 <= len(queue.job_ids()) < 10 + BATCH + 100
        await trio.sleep(60)
        assert len(queue.job_ids()) == 10


async def test_jobs_that_end_faster_than_batches_are_removed_are_removed_in_larger_ones(
    autojump_clock: MockClock,
) -> None:
    store = PruneSizes()  # a prune takes a second, in which three batches of jobs end
    async with make_rig("trio", settings={"max_finished_jobs": 10}).open(store=store) as queue:
        for ended in (BATCH + 10, 3 * BATCH, LARGEST + BATCH):
            for _ in range(ended):
                await queue.result((await queue.submit("work", "a")).job_id)
            await trio.sleep(1.0)
        await trio.sleep(120)
        assert store.sizes[0] == BATCH
        assert BATCH < max(store.sizes) <= LARGEST
        assert len(queue.job_ids()) == 10


async def test_open_jobs_are_never_pruned(autojump_clock: MockClock) -> None:
    rig = make_rig("trio", attempt_timeout=5, settings={"job_retention": 0, "max_finished_jobs": 0})
    rig.sdk.script("call", Blocker())
    async with rig.open() as queue:
        doubt = await queue.submit("work", "a")
        later = await queue.submit("work", "b", delay=10_000)
        await trio.sleep(5_000)
        assert queue.get(doubt.job_id).state is State.IN_DOUBT
        assert queue.get(later.job_id).state is State.SCHEDULED


async def test_the_oldest_final_jobs_are_pruned_first(autojump_clock: MockClock) -> None:
    rig = make_rig("trio", settings={"max_finished_jobs": 3})
    async with rig.open() as queue:
        jobs = [await queue.submit("work", str(n)) for n in range(6)]
        await trio.sleep(61)
        assert [job.id for job in queue.list()] == [receipt.job_id for receipt in jobs[3:]]


async def test_a_large_excess_of_final_jobs_is_pruned_at_once(autojump_clock: MockClock) -> None:
    rig = make_rig("trio", settings={"max_finished_jobs": 10})
    async with rig.open() as queue:
        for _ in range(BATCH + 10):
            receipt = await queue.submit("work", "a")
            await queue.result(receipt.job_id)
        began = trio.current_time()
        await wait_all_tasks_blocked()
        assert len(queue.list(limit=1000)) <= 10
        assert trio.current_time() - began < 1


async def test_a_failed_prune_is_logged_and_harms_nothing(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    class Stubborn(trio_jobs.MemoryStore):
        async def prune(self, *args: object) -> None:
            await trio.lowlevel.checkpoint()
            raise trio_jobs.StoreError("the disk is full")

    rig = make_rig("trio", settings={"job_retention": 10})
    async with rig.open(store=Stubborn()) as queue:
        await queue.submit("work", "a", key="a")
        await trio.sleep(100)
        assert queue.list() == []
        assert "could not be removed from the store: the disk is full" in caplog.text
        assert not (await queue.submit("work", "a", key="a")).created
        assert await queue.result((await queue.submit("work", "b")).job_id) == "b"


async def test_the_key_of_a_pruned_job_stays_known(autojump_clock: MockClock) -> None:
    rig = make_rig("trio", settings={"job_retention": 10}, retry=NO_RETRY)
    rig.sdk.script("call", "ok", ValueError())
    async with rig.open() as queue:
        jobs = [await queue.submit("work", what, key=what) for what in "ab"]
        await trio.sleep(100)
        assert queue.list() == []
        again = await queue.submit("work", "a", key="a")
        assert again == trio_jobs.Receipt(jobs[0].job_id, False, 0, State.COMPLETED)
        assert (await queue.submit("work", "b", key="b")).state is State.FAILED
        with pytest.raises(trio_jobs.KeyConflict):
            await queue.submit("work", "other", key="a")
    assert rig.sdk.calls() == ["a", "b"]


async def test_the_oldest_keys_of_pruned_jobs_are_dropped_beyond_max_keys(autojump_clock: MockClock) -> None:
    rig = make_rig("trio", settings={"job_retention": 10, "max_keys": 2})
    async with rig.open() as queue:
        for what in "abc":
            await queue.submit("work", what, key=what)
        await trio.sleep(100)
        assert not (await queue.submit("work", "c", key="c")).created
        assert not (await queue.submit("work", "b", key="b")).created
        assert (await queue.submit("work", "a", key="a")).created


async def test_the_key_of_a_pruned_job_is_dropped_after_key_retention(autojump_clock: MockClock) -> None:
    rig = make_rig("trio", settings={"job_retention": 10, "key_retention": 1000})
    async with rig.open() as queue:
        first = await queue.submit("work", "a", key="a")
        await trio.sleep(900)
        assert (await queue.submit("work", "a", key="a")).job_id == first.job_id
        await trio.sleep(300)
        assert (await queue.submit("work", "a", key="a")).created


async def test_jobs_are_kept_by_the_state_they_ended_in(autojump_clock: MockClock) -> None:
    rig = make_rig("trio", settings={"job_retention": {"failed": 5000, "completed": 100}}, retry=NO_RETRY)
    rig.sdk.script("call", "ok", ValueError())
    async with rig.open() as queue:
        for what in "ab":
            await queue.submit("work", what)
        await queue.cancel((await queue.submit("work", "c", delay=100_000)).job_id)
        await trio.sleep(200)
        assert [job.state for job in queue.list()] == [State.FAILED, State.CANCELLED], "unnamed ones: for a week"
        await trio.sleep(5000)
        assert [job.state for job in queue.list()] == [State.CANCELLED]


async def test_many_failed_jobs_do_not_displace_completed_jobs(autojump_clock: MockClock) -> None:
    rig = make_rig("trio", settings={"max_finished_jobs": {State.FAILED: 2}}, retry=NO_RETRY)
    rig.sdk.script("call", "ok", *[ValueError()] * 10)
    async with rig.open() as queue:
        for n in range(11):
            await queue.submit("work", str(n))
        await trio.sleep(61)
        assert [job.state for job in queue.list()] == [State.COMPLETED, State.FAILED, State.FAILED]


async def test_a_caller_of_result_gets_it_before_the_job_is_pruned(autojump_clock: MockClock) -> None:
    rig = make_rig("trio", settings={"job_retention": 0, "max_finished_jobs": 0})
    async with busy_queue(rig) as (queue, hold, first):
        hold.release()
        assert await queue.result(first) == "first"


async def test_a_job_retried_by_an_operator_is_open_again_and_kept(autojump_clock: MockClock) -> None:
    rig = make_rig("trio", settings={"job_retention": 100}, retry=NO_RETRY)
    rig.sdk.script("call", ValueError(), trio_jobs.Snooze(1000))
    async with rig.open() as queue:
        receipt = await queue.submit("work", "a", deadline_after=50)
        await ended(queue, receipt.job_id)
        await trio.sleep(60)
        await queue.retry(receipt.job_id, by="ann", even_if_acted=True)
        assert queue.get(receipt.job_id).deadline_at is None, "else it would expire before it begins"
        await until_state(queue, receipt.job_id, "scheduled")
        await trio.sleep(500)
        assert queue.get(receipt.job_id).run == 2


async def test_a_retry_within_its_deadline_still_expires_at_it(autojump_clock: MockClock) -> None:
    rig = make_rig("trio", retry=NO_RETRY)
    rig.sdk.script("call", ValueError(), Blocker())
    async with rig.open() as queue:
        receipt = await queue.submit("work", "a", deadline_after=50)
        await ended(queue, receipt.job_id)
        blocker = await queue.submit("work", "blocker")
        await until_state(queue, blocker.job_id, "processing")
        await queue.retry(receipt.job_id, even_if_acted=True)
        await trio.sleep(51)
        assert queue.get(receipt.job_id).reason == "expired"
        await queue.cancel(blocker.job_id)


def short_lived() -> Service:
    service = Service(job_retention=0.0, watchdog=None)

    @service.handler
    async def double(n: int) -> int:
        return 2 * n

    @service.handler
    async def triple(n: int) -> int:
        return 3 * n

    return service


async def pruned(queue: Queue, jobs: int, *, keys: bool = False) -> list[str]:
    """The ids of that many jobs, which have ended and are pruned; every other one is of kind "double"."""
    receipts = [
        await queue.submit("double" if n % 2 else "triple", n, key=f"K-{n}" if keys else None) for n in range(jobs)
    ]
    for receipt in receipts:
        await queue.result(receipt.job_id)
    while await runtime_of(queue).pruner.run_once():
        pass
    assert not queue.job_ids()
    return [receipt.job_id for receipt in receipts]


async def test_a_reader_of_one_kind_receives_the_events_of_jobs_that_were_pruned_before_it_read_them() -> None:
    async with short_lived().open() as queue:
        ids = await pruned(queue, 6, keys=True)
        stream = queue.events(after=0, kinds=["double"])
        received = [await anext(stream)]
        while received[-1].seq < queue.statistics().seq:
            received.append(await anext(stream))
        assert {event.job for event in received if isinstance(event, JobEvent)} == {*ids[1::2]}
        assert {event.key for event in received if isinstance(event, Completed)} == {"K-1", "K-3", "K-5"}


async def test_of_pruned_jobs_only_those_with_recent_events_are_known_to_the_feed() -> None:
    async with short_lived().open() as queue:
        feed = runtime_of(queue).feed
        feed.set_ring_size(8)
        ids = [job for _ in range(20) for job in await pruned(queue, 2)]
        known = [job for job in ids if feed.identity_of(job) is not None]
        assert ids[-1] in known
        assert len(known) <= 9
