"""A job that meets an idle queue joins the line before it is committed, so that its acceptance and its start share a
sync. What must stay true: the SDK is not touched before both are kept, nobody sees the job before, and a submit that is
refused after all leaves nothing behind."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

import trio_jobs
from support.rig import HostKind, Rig, make_rig
from support.stores import RefusingStore, SlowStore
from support.waiting import deadline
from trio_jobs import EndedBy, NewJob, Queue, Retry, State, StoreError
from trio_jobs._engine.events import Started, Submitted
from trio_jobs._runtime.queue import runtime_of
from trio_jobs.testing import FakeSession

both_orders = pytest.mark.parametrize("strict_order", [False, True])


@asynccontextmanager
async def submitting(
    queue: Queue, what: str = "a", **options: Any
) -> AsyncIterator[list[trio_jobs.Receipt | StoreError]]:
    """While a submit waits for the store. What is yielded has its answer once the block has been left."""
    answers: list[trio_jobs.Receipt | StoreError] = []

    async def submit() -> None:
        try:
            answers.append(await queue.submit("work", what, **options))
        except StoreError as error:
            answers.append(error)

    await wait_all_tasks_blocked()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(submit)
        await wait_all_tasks_blocked()
        assert not answers
        yield answers


class InTheStep(trio.abc.Instrument):
    """Calls `do` right after the task's step in which the submit was handed over, before the consumer has its turn."""

    def __init__(self, store: SlowStore, do: Callable[[], None]) -> None:
        self._store = store
        self._do = do
        self.done = False

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        if not self.done and self._store.handed_over(Submitted):
            self.done = True
            self._do()


async def goes_on(queue: Queue, rig: Rig) -> None:
    """Nothing is left of what was refused, and the next job is done."""
    assert queue.job_ids() == []
    assert queue.statistics().free == queue.statistics().capacity
    again = await queue.submit("work", "b", key="K")
    assert again.created
    assert await queue.result(again.job_id) == "b"
    assert rig.sdk.calls() == ["b"]


@both_orders
async def test_p6_a_job_is_admitted_before_its_commit_and_runs_and_is_seen_after_it(
    strict_order: bool, kind: HostKind, clock: MockClock
) -> None:
    rig, store = make_rig(kind, settings={"strict_order": strict_order}), SlowStore(Submitted)
    async with rig.open(store=store) as queue:
        async with submitting(queue) as answers:
            assert store.handed_over(Started)
            assert rig.sdk.calls() == []
            assert queue.job_ids() == []
            assert queue.statistics().jobs[State.PROCESSING] == 0
            store.keep()
        receipt = answers[0]
        assert isinstance(receipt, trio_jobs.Receipt)
        assert (receipt.created, receipt.position, receipt.state) == (True, 1, State.PENDING)
        assert await queue.result(receipt.job_id) == "a"
        assert queue.statistics().free == queue.statistics().capacity


async def test_the_first_of_several_jobs_submitted_together_is_admitted_early(autojump_clock: MockClock) -> None:
    rig, store = make_rig("trio"), SlowStore(Submitted)
    receipts: list[trio_jobs.Receipt] = []
    async with rig.open(store=store) as queue, trio.open_nursery() as nursery:
        await wait_all_tasks_blocked()

        @nursery.start_soon
        async def submit() -> None:
            receipts.extend(await queue.submit_many([NewJob("work", what) for what in "abc"]))

        await wait_all_tasks_blocked()
        assert store.handed_over(Started)
        store.keep()
        await wait_all_tasks_blocked()
        assert [receipt.position for receipt in receipts] == [1, 1, 2]
        await queue.result(receipts[-1].job_id)
        assert rig.sdk.calls() == ["a", "b", "c"]


async def test_an_idempotent_job_is_not_admitted_early_since_its_handler_does_not_wait(
    autojump_clock: MockClock,
) -> None:
    rig, store = make_rig("trio", idempotent=True), SlowStore(Submitted)
    async with rig.open(store=store) as queue:
        async with submitting(queue):
            assert not store.handed_over(Started)
            assert rig.sdk.calls() == []
            store.keep()
        await queue.drain()
    assert rig.sdk.calls() == ["a"]


@both_orders
async def test_a_job_that_would_pass_another_is_not_admitted_early(
    strict_order: bool, autojump_clock: MockClock
) -> None:
    rig, store = make_rig("trio", settings={"strict_order": strict_order}, idempotent=True), SlowStore(Submitted)

    @rig.service.handler(on_doubt="hold")
    async def once(session: FakeSession, what: str) -> None:
        await session.acall(what)

    async with rig.open(store=store) as queue:
        async with submitting(queue, "first"), trio.open_nursery() as nursery:
            nursery.start_soon(queue.submit, "once", "second")
            await wait_all_tasks_blocked()
            assert not store.handed_over(Started)
            store.keep()
        await queue.drain()
    assert rig.sdk.calls() == ["first", "second"]


async def test_a_submit_with_the_key_of_an_early_job_gets_it_as_pending(
    autojump_clock: MockClock,
) -> None:
    rig, store = make_rig("trio"), SlowStore(Submitted)
    async with (
        rig.open(store=store) as queue,
        submitting(queue, key="K") as first,
        submitting(queue, key="K") as second,
    ):
        store.keep()
        await wait_all_tasks_blocked()
        assert [(a.created, a.state) for a in (*first, *second) if isinstance(a, trio_jobs.Receipt)] == [
            (True, State.PENDING),
            (False, State.PENDING),
        ]


@both_orders
async def test_p4_an_early_job_that_the_store_refuses_never_runs_and_leaves_nothing(
    strict_order: bool, autojump_clock: MockClock
) -> None:
    rig, store = make_rig("trio", settings={"strict_order": strict_order}), RefusingStore(Submitted)
    async with rig.open(store=store) as queue:
        async with submitting(queue, key="K") as answers:
            assert store.handed_over(Started)
            store.refuse()
        assert isinstance(answers[0], StoreError)
        await goes_on(queue, rig)


@both_orders
@pytest.mark.parametrize("is_open", [True, False])
async def test_p4_an_early_job_refused_on_its_way_to_the_consumer_never_runs(
    is_open: bool, strict_order: bool, autojump_clock: MockClock
) -> None:
    """is_open: whether the gate is when the consumer has its turn."""
    rig, store = make_rig("trio", settings={"strict_order": strict_order}), RefusingStore(Submitted)
    async with rig.open(store=store) as queue:

        def refuse() -> None:
            store.trouble = None if is_open else "the disk is full"
            store.refuse()

        await wait_all_tasks_blocked()
        in_the_step = InTheStep(store, refuse)
        trio.lowlevel.add_instrument(in_the_step)
        with pytest.raises(StoreError):
            await queue.submit("work", "a", key="K")
        trio.lowlevel.remove_instrument(in_the_step)
        assert in_the_step.done
        for _ in range(5):  # the consumer has its turns
            await trio.lowlevel.checkpoint()
        store.trouble = None
        await goes_on(queue, rig)


@pytest.mark.parametrize("is_refused", [False, True])
async def test_p4_an_early_job_that_meets_a_closed_gate_waits_in_the_queue(
    is_refused: bool, autojump_clock: MockClock
) -> None:
    rig, store = make_rig("trio"), RefusingStore(Submitted)
    async with rig.open(store=store) as queue, trio.open_nursery() as nursery:

        def close_the_gate() -> None:
            store.trouble = "slow"
            nursery.start_soon(queue.pause)

        in_the_step = InTheStep(store, close_the_gate)
        trio.lowlevel.add_instrument(in_the_step)
        async with submitting(queue, key="K") as answers:
            assert not store.handed_over(Started)
            assert queue.statistics().free == queue.statistics().capacity - 1
            store.trouble = None
            if is_refused:
                store.refuse()
            else:
                store.keep()
        trio.lowlevel.remove_instrument(in_the_step)
        await wait_all_tasks_blocked()
        assert rig.sdk.calls() == []
        if is_refused:
            await queue.resume()
            await goes_on(queue, rig)
            return
        receipt = answers[0]
        assert isinstance(receipt, trio_jobs.Receipt)
        assert queue.get(receipt.job_id).state is State.PENDING
        await queue.resume()
        assert await queue.result(receipt.job_id) == "a"
        assert rig.sdk.calls() == ["a"]


@pytest.mark.parametrize("is_refused", [False, True])
async def test_p5_a_stop_before_its_commit_gives_an_early_job_back(is_refused: bool, autojump_clock: MockClock) -> None:
    rig, store = make_rig("trio", settings={"drain_timeout": 0}), RefusingStore(Submitted)
    async with rig.open(store=store) as queue, submitting(queue, key="K") as answers:
        current = runtime_of(queue).slot.current
        assert current is not None
        runtime_of(queue).sessions.stop()
        current.cancel(EndedBy.STOP)
        await wait_all_tasks_blocked()
        assert runtime_of(queue).slot.current is None
        if is_refused:
            store.refuse()
        else:
            store.keep()
    assert rig.sdk.calls() == []
    assert queue.report is not None
    assert [job.state for job in queue.report.unfinished] == ([] if is_refused else [State.PENDING])
    assert isinstance(answers[0], StoreError if is_refused else trio_jobs.Receipt)


async def test_the_deadline_of_an_early_job_is_watched_from_its_admission(autojump_clock: MockClock) -> None:
    rig, store = make_rig("trio", retry=Retry(5, first=10, jitter=0)), SlowStore(Submitted)
    rig.sdk.script("call", OSError("not now"))
    async with rig.open(store=store) as queue:
        async with submitting(queue, deadline_after=5) as answers:
            assert store.handed_over(Started)
            store.keep()
        receipt = answers[0]
        assert isinstance(receipt, trio_jobs.Receipt)
        began = trio.current_time()
        with pytest.raises(trio_jobs.JobFailed, match="expired"):
            await queue.result(receipt.job_id)
        assert trio.current_time() - began == pytest.approx(5)


@pytest.mark.parametrize("idempotent", [False, True])
async def test_p5_a_drain_ends_when_the_last_submit_is_refused(idempotent: bool, autojump_clock: MockClock) -> None:
    """Nobody told it: it waited for ever."""
    rig, store = make_rig("trio", idempotent=idempotent), RefusingStore(Submitted)
    async with rig.open(store=store) as queue, submitting(queue), trio.open_nursery() as nursery:
        nursery.start_soon(queue.drain)
        await wait_all_tasks_blocked()
        store.refuse()
        with deadline("the drain ends"):
            while nursery.child_tasks:
                await trio.sleep(1)
