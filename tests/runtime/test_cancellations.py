"""Cancellation at every point at which it can come: of a submit, of an attempt, of the exit of the block.

Not by luck. A scenario runs again and again, and each time one more step of the task in question goes by before its
scope is cancelled, until a run ends without noticing the cancel. Trio's instruments count the steps: a task is
scheduled once for each point at which it had to wait or pass a checkpoint, so cancelling before step n reaches each.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import attrs
import pytest
import trio
from trio.testing import MockClock

import trio_jobs
from support.rig import HostKind, make_rig, service_for
from trio_jobs import Queue, SdkHandle, State
from trio_jobs._engine.jobs import FINAL
from trio_jobs.testing import FakeSdk, FakeSession

#: No scenario here has more steps than this; a run that never ends uncancelled is a failure
MOST_STEPS = 400


class CancelAtStep(trio.abc.Instrument):
    """Cancels `scope` just before step `step` of the task that watches; step 0 is the one in which it begins to."""

    def __init__(self, step: int) -> None:
        self.step = step
        self.fired = False
        self.scope = trio.CancelScope()
        self._task: trio.lowlevel.Task | None = None

    def watch_this_task(self) -> None:
        self._task = trio.lowlevel.current_task()
        self.before_task_step(self._task)

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        if task is self._task:
            if self.step == 0:
                self.fired = True
                self.scope.cancel()
            self.step -= 1


def run_with_cancel_at(step: int, scenario: Callable[[CancelAtStep], Awaitable[None]], clock: MockClock) -> bool:
    """Run `scenario`, which cancels what it is about at `step`; had it so many steps?"""
    cancel = CancelAtStep(step)
    trio.run(scenario, cancel, clock=clock, instruments=[cancel])
    return cancel.fired


def at_every_step(scenario: Callable[[CancelAtStep], Awaitable[None]], clock: Callable[[], MockClock]) -> int:
    """Run `scenario` with the cancel at each of its steps; give their number."""
    for step in range(MOST_STEPS):
        if not run_with_cancel_at(step, scenario, clock()):
            return step
    raise AssertionError(f"after {MOST_STEPS} steps the scenario still does not end by itself")


def frozen() -> MockClock:
    return MockClock()


def jumping() -> MockClock:
    return MockClock(autojump_threshold=0)


def check_books(queue: Queue, sdk: FakeSdk, accepted: set[str]) -> None:
    """What must hold after every run, wherever the cancel came."""
    sdk.check()
    assert sdk.count("open") == sdk.count("close") >= 1
    assert queue.report is not None
    assert queue.report.sdk_closed
    jobs = {job.id: job for job in queue.list(limit=1000)}
    assert set(jobs) == accepted, "no ghost, and nobody lost"
    left = {job.job_id for job in queue.report.unfinished}
    for job in jobs.values():
        assert (job.state in FINAL) != (job.id in left), job
        assert job.state is not State.PROCESSING, job
        if job.state is State.COMPLETED:
            assert job.attempts
    statistics = queue.statistics()
    in_line = statistics.capacity - statistics.free
    assert in_line + statistics.waiting_jobs == statistics.jobs[State.PENDING], statistics
    assert statistics.waiting_callers == 0


# a submit


@attrs.define
class Submits:
    """A submit that is cancelled, beside others. full: the line is, so that it waits. key: it has one."""

    full: bool
    key: str | None

    async def __call__(self, cancel: CancelAtStep) -> None:
        rig = make_rig("trio", settings={"buffer": 2})
        accepted: set[str] = set()
        receipt: list[trio_jobs.Receipt] = []

        async def submit() -> None:
            with cancel.scope:
                cancel.watch_this_task()
                receipt.append(await queue.submit("work", "the one", key=self.key))
            assert bool(receipt) != cancel.scope.cancelled_caught, "accepted, or Cancelled: one of them"

        rig.sdk.script("call", *[lambda: trio.sleep(1)] * 3)
        async with rig.open() as queue:
            for n in range(3 if self.full else 0):
                accepted.add((await queue.submit("work", str(n))).job_id)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(submit)
                await trio.sleep(0.5)
                for n in range(2):
                    accepted.add((await queue.submit("work", f"after {n}")).job_id)
        accepted |= {r.job_id for r in receipt}
        check_books(queue, rig.sdk, accepted)
        assert all(job.state is State.COMPLETED for job in queue.list())
        assert queue.statistics().free == 2, "every place was given back"


@pytest.mark.parametrize("key", [None, "K"])
@pytest.mark.parametrize("full", [False, True], ids=["free line", "full line"])
def test_a_submit_cancelled_anywhere_is_accepted_or_leaves_no_job(full: bool, key: str | None) -> None:
    assert at_every_step(Submits(full, key), jumping) >= 2


def test_a_submit_for_later_cancelled_anywhere_is_accepted_or_not() -> None:
    async def scenario(cancel: CancelAtStep) -> None:
        rig = make_rig("trio")
        receipt: list[trio_jobs.Receipt] = []

        async def submit() -> None:
            with cancel.scope:
                cancel.watch_this_task()
                receipt.append(await queue.submit("work", "later", delay=5))

        async with rig.open() as queue:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(submit)
            await trio.sleep(6)
        check_books(queue, rig.sdk, {r.job_id for r in receipt})
        assert len(rig.sdk.calls()) == len(receipt)

    assert at_every_step(scenario, jumping) >= 1


def test_a_submit_of_many_cancelled_anywhere_is_all_or_nothing() -> None:
    async def scenario(cancel: CancelAtStep) -> None:
        rig = make_rig("trio", settings={"buffer": 3})
        receipts: list[trio_jobs.Receipt] = []
        accepted: set[str] = set()
        rig.sdk.script("call", *[lambda: trio.sleep(1)] * 3)

        async def submit() -> None:
            jobs = [trio_jobs.NewJob("work", f"many {n}", key=str(n)) for n in range(3)]
            with cancel.scope:
                cancel.watch_this_task()
                receipts.extend(await queue.submit_many(jobs))

        async with rig.open() as queue:
            for n in range(3):
                accepted.add((await queue.submit("work", str(n))).job_id)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(submit)
        assert len(receipts) in (0, 3)
        check_books(queue, rig.sdk, accepted | {r.job_id for r in receipts})
        assert queue.statistics().free == 3

    assert at_every_step(scenario, jumping) >= 3


# the block, while attempts run in it


@attrs.define
class Block:
    """A block whose owner submits jobs and waits for them, and whose own task is cancelled at some step: while it
    opens, submits, waits, or leaves."""

    kind: HostKind
    faults: list[str] = attrs.field(factory=list)

    async def __call__(self, cancel: CancelAtStep) -> None:
        rig = make_rig(self.kind, settings={"buffer": 2})
        rig.sdk.script("call", *[trio_jobs.Snooze(0) if fault == "Snooze" else ValueError() for fault in self.faults])
        queue: Queue | None = None
        accepted: set[str] = set()
        with cancel.scope:
            cancel.watch_this_task()
            async with rig.open() as queue:
                for n in range(3):
                    accepted.add((await queue.submit("work", str(n))).job_id)
        if queue is not None:
            check_books(queue, rig.sdk, accepted)
        else:
            assert rig.sdk.calls() == []
            rig.sdk.check(closed=self.kind == "trio")  # a thread may still be on its way to closing


def test_a_block_cancelled_anywhere_closes_the_sdk_once_and_accounts_for_every_job() -> None:
    assert at_every_step(Block("trio", ["Snooze", "error"]), jumping) >= 10


def test_a_block_before_a_thread_cancelled_anywhere_closes_the_sdk_once() -> None:
    assert at_every_step(Block("thread"), frozen) > 5


# an attempt


async def stop_at(cancel: CancelAtStep, service: trio_jobs.Service, sdk: FakeSdk, handler: Any) -> None:
    """Run one job, and cancel the whole block at some step of its handler's task."""
    accepted: set[str] = set()
    queue: Queue | None = None
    with cancel.scope:
        async with service.open(clock=trio_jobs.TrioClock()) as queue:
            accepted.add((await queue.submit(handler, "a")).job_id)
            await queue.result(next(iter(accepted)))
    assert queue is not None
    check_books(queue, sdk, accepted)
    [job] = queue.list()
    calls = sdk.count("call")
    if job.state is State.COMPLETED:
        assert calls == 3
    elif job.state is State.PENDING:
        assert calls == 0 or not (job.attempts or ())[-1].entered
    else:
        assert job.state is State.IN_DOUBT
        assert calls > 0 or (job.attempts or ())[-1].entered


def test_a_block_cancelled_at_each_step_of_an_attempt_in_the_loop_ends_it_honestly() -> None:
    async def scenario(cancel: CancelAtStep) -> None:
        sdk = FakeSdk()
        sdk.script("call", *[lambda: trio.sleep(1)] * 3)
        service = service_for(sdk, "trio")

        @service.handler(on_doubt="hold")
        async def work(session: FakeSession, what: str) -> None:
            cancel.watch_this_task()
            for _ in range(3):
                await session.acall(what)

        await stop_at(cancel, service, sdk, work)

    assert at_every_step(scenario, jumping) >= 3


def test_a_block_cancelled_at_each_step_of_an_attempt_that_calls_a_thread_ends_it_honestly() -> None:
    async def scenario(cancel: CancelAtStep) -> None:
        sdk = FakeSdk()
        service = service_for(sdk, "thread")

        @service.handler(on_doubt="hold")
        async def work(handle: SdkHandle, what: str) -> None:
            cancel.watch_this_task()
            for _ in range(3):
                await handle.call(FakeSession.call, what)

        await stop_at(cancel, service, sdk, work)

    assert at_every_step(scenario, frozen) >= 3


def test_a_block_cancelled_at_each_step_of_the_consumer_before_a_thread_ends_honestly() -> None:
    """The attempt is a plain handler: what is cancelled at each step is the block, while the consumer goes on."""

    async def scenario(cancel: CancelAtStep) -> None:
        sdk = FakeSdk()
        service = service_for(sdk, "thread")

        @service.handler(on_doubt="hold")
        def work(session: FakeSession, what: str) -> None:
            for _ in range(3):
                session.call(what)

        accepted: set[str] = set()
        queue: Queue | None = None

        async def watched() -> None:
            cancel.watch_this_task()
            for _ in range(6):
                await trio.lowlevel.checkpoint()

        with cancel.scope:
            async with service.open(clock=trio_jobs.TrioClock()) as queue, trio.open_nursery() as nursery:
                nursery.start_soon(watched)
                for n in range(3):
                    accepted.add((await queue.submit(work, str(n))).job_id)
        assert queue is not None
        check_books(queue, sdk, accepted)

    assert at_every_step(scenario, frozen) >= 6


# a waiting caller


def test_a_wait_for_a_result_cancelled_anywhere_lets_the_job_go_on() -> None:
    async def scenario(cancel: CancelAtStep) -> None:
        rig = make_rig("trio")
        rig.sdk.script("call", lambda: trio.sleep(1))

        async def wait(job_id: str) -> None:
            with cancel.scope:
                cancel.watch_this_task()
                await queue.result(job_id)

        async with rig.open() as queue:
            receipt = await queue.submit("work", "a")
            async with trio.open_nursery() as nursery:
                nursery.start_soon(wait, receipt.job_id)
        assert queue.get(receipt.job_id).state is State.COMPLETED

    assert at_every_step(scenario, jumping) >= 2


def test_a_reader_cancelled_anywhere_misses_nothing() -> None:
    async def scenario(cancel: CancelAtStep) -> None:
        rig = make_rig("trio")
        seen: list[int] = []

        async def read() -> None:
            with cancel.scope:
                cancel.watch_this_task()
                async for event in stream:
                    seen.append(event.seq)  # noqa: PERF401 - what was seen before the cancel counts

        async with rig.open() as queue:
            stream = queue.events(after=0)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(read)
                for n in range(3):
                    await queue.result((await queue.submit("work", str(n))).job_id)
                nursery.start_soon(queue.drain)
                await trio.sleep(1)
                nursery.cancel_scope.cancel()
        seen.extend([event.seq async for event in stream])
        assert seen == list(range(1, queue.statistics().seq + 1))

    assert at_every_step(scenario, jumping) >= 3


@pytest.mark.parametrize("what", ["cancel", "resolve", "retry", "pause"])
def test_an_operation_is_recorded_even_if_its_caller_is_cancelled(what: str) -> None:
    async def scenario(cancel: CancelAtStep) -> None:
        rig = make_rig("trio", attempt_timeout=1, retry=trio_jobs.Retry(0))
        faults: dict[str, Any] = {"resolve": trio.sleep_forever, "retry": ValueError()}
        if what in faults:
            rig.sdk.script("call", faults[what])

        async def say() -> None:
            with cancel.scope:
                cancel.watch_this_task()
                if what == "cancel":
                    await queue.cancel(receipt.job_id)
                elif what == "resolve":
                    await queue.resolve(receipt.job_id, "done")
                elif what == "retry":
                    await queue.retry(receipt.job_id, even_if_acted=True)
                else:
                    await queue.pause("lunch")

        async with rig.open() as queue:
            receipt = await queue.submit("work", "a", delay=3 if what in ("cancel", "pause") else None)
            await trio.sleep(2)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(say)
            if what == "pause":
                assert queue.paused == "lunch"
                await queue.resume()
        expected = State.CANCELLED if what == "cancel" else State.SCHEDULED if what == "pause" else State.COMPLETED
        assert queue.get(receipt.job_id).state is expected

    assert at_every_step(scenario, jumping) >= 1
