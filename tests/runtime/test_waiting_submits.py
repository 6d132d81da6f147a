"""Many submits wait for the store at a time. Each gets its own outcome as soon as there is one; each wait ends when its
own time is over; none can be cancelled (P4)."""

from __future__ import annotations

import signal
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock, wait_all_tasks_blocked

import trio_jobs
from support.rig import make_rig
from support.stores import DyingStore, RefusingStore, SlowStore
from trio_jobs import MemoryStore, NewJob, OutcomeUnknown, Queue, Receipt, State, StoreError
from trio_jobs._engine.events import Submitted
from trio_jobs._runtime.pending_submits import PendingSubmits
from trio_jobs._runtime.queue import runtime_of
from trio_jobs.testing.store_check import submitted

TIMEOUT = 30.0  #: `commit_timeout` as it comes


@attrs.define
class Asked:
    """A submit, the answer it got, and when, on Trio's clock."""

    scope: trio.CancelScope = attrs.field(factory=trio.CancelScope)
    answer: trio_jobs.Receipt | StoreError | OutcomeUnknown | None = None
    at: float | None = None


@attrs.define
class Street:
    """Submits, in the order in which they came."""

    queue: Queue
    store: SlowStore
    nursery: trio.Nursery
    asked: list[Asked] = attrs.field(factory=list)

    async def submit(self, *, together: int = 1) -> Asked:
        asked = Asked()
        self.nursery.start_soon(self._submit, asked, together)
        await wait_all_tasks_blocked()
        self.asked.append(asked)
        return asked

    async def _submit(self, asked: Asked, together: int) -> None:
        with asked.scope:
            try:
                if together == 1:
                    asked.answer = await self.queue.submit("work", "a")
                else:
                    asked.answer = (await self.queue.submit_many([NewJob("work", "a")] * together))[-1]
            except (StoreError, OutcomeUnknown) as error:
                asked.answer = error
            asked.at = trio.current_time()

    async def keep(self, count: int | None = None) -> None:
        self.store.keep(count)
        await wait_all_tasks_blocked()

    def told(self) -> list[bool]:
        return [asked.answer is not None for asked in self.asked]


@asynccontextmanager
async def street(store: SlowStore) -> AsyncIterator[Street]:
    """A queue that has nothing to do but accept: it is paused. Whoever waits at the end gets his answer."""
    rig = make_rig("trio")
    async with rig.open(store=store) as queue:
        await queue.pause()
        async with trio.open_nursery() as nursery:
            try:
                yield Street(queue, store, nursery)
            finally:
                store.keep()


async def test_each_submit_returns_as_soon_as_its_own_job_is_committed(mock_clock: MockClock) -> None:
    async with street(SlowStore(Submitted)) as there:
        for _ in range(4):
            await there.submit()
        assert there.told() == [False, False, False, False]
        await there.keep(1)
        assert there.told() == [True, False, False, False]
        await there.keep(2)
        assert there.told() == [True, True, True, False]
        last = await there.submit()
        await there.keep(1)
        assert there.told() == [True, True, True, True, False]
        await there.keep()
        assert isinstance(last.answer, trio_jobs.Receipt)
    ids = [asked.answer.job_id for asked in there.asked if isinstance(asked.answer, trio_jobs.Receipt)]
    assert len(set(ids)) == 5


async def test_no_reader_sees_a_job_before_it_is_committed(mock_clock: MockClock) -> None:
    async with street(SlowStore(Submitted)) as there:
        asked = await there.submit()
        [job_id] = runtime_of(there.queue).event_log.projection.jobs
        with pytest.raises(trio_jobs.JobNotFound):
            there.queue.get(job_id)
        await there.keep()
        assert isinstance(asked.answer, trio_jobs.Receipt)
        assert there.queue.get(asked.answer.job_id).state == "pending"


async def test_submits_of_one_commit_return_together(mock_clock: MockClock) -> None:
    async with street(SlowStore(Submitted)) as there:
        await there.submit(together=3)
        await there.submit(together=2)
        await there.keep(2)
        assert there.told() == [False, False]
        await there.keep(1)
        assert there.told() == [True, False]
        await there.keep(2)
        assert there.told() == [True, True]


@given(pauses=st.lists(st.integers(0, 40), min_size=1, max_size=6), kept=st.integers(0, 6), after=st.integers(0, 29))
def test_each_submit_ends_at_its_own_commit_timeout(pauses: list[int], kept: int, after: int) -> None:
    """pauses: seconds before each submit; the first `kept` are kept `after` seconds behind the last of them."""

    async def main() -> None:
        clock = trio.lowlevel.current_clock()
        assert isinstance(clock, MockClock)
        async with street(SlowStore(Submitted)) as there:
            came = []
            for pause in pauses:
                clock.jump(pause)
                await wait_all_tasks_blocked()
                came.append(trio.current_time())
                await there.submit()
            clock.jump(after)
            await wait_all_tasks_blocked()
            now = trio.current_time()
            await there.keep(kept)
            for _ in range(31):
                clock.jump(1)
                await wait_all_tasks_blocked()
            for number, (asked, since) in enumerate(zip(there.asked, came, strict=True)):
                if since + TIMEOUT <= now:
                    assert isinstance(asked.answer, OutcomeUnknown)
                elif number < kept:
                    assert isinstance(asked.answer, trio_jobs.Receipt)
                    assert asked.at == now
                else:
                    assert isinstance(asked.answer, OutcomeUnknown)
                    assert asked.at == since + TIMEOUT
        assert len(there.queue.list()) == len(pauses)  # unknown to those who were given up, and accepted all the same

    trio.run(main, clock=MockClock())


@pytest.mark.parametrize("which", range(3))
async def test_p4_no_submit_can_be_cancelled_while_it_waits_for_the_commit(which: int, mock_clock: MockClock) -> None:
    async with street(SlowStore(Submitted)) as there:
        for _ in range(3):
            await there.submit()
        there.asked[which].scope.cancel()
        await wait_all_tasks_blocked()
        assert there.told() == [False, False, False]
        await there.keep()
        assert all(isinstance(asked.answer, trio_jobs.Receipt) for asked in there.asked)
        assert not there.asked[which].scope.cancelled_caught


async def test_all_waiting_submits_get_the_refusal_of_the_store(mock_clock: MockClock) -> None:
    store = RefusingStore(Submitted)
    async with street(store) as there:
        for _ in range(3):
            await there.submit()
        store.refuse()
        await wait_all_tasks_blocked()
        for asked in there.asked:
            assert isinstance(asked.answer, StoreError)
        again = await there.submit()
        assert isinstance(again.answer, trio_jobs.Receipt)
    assert there.queue.statistics().free == 99


async def test_all_waiting_submits_get_the_failure_of_the_store(autojump_clock: MockClock) -> None:
    store = DyingStore(Submitted)
    with pytest.raises(StoreError, match="the disk is gone"):
        async with street(store) as there:
            for _ in range(3):
                await there.submit()
            store.report_broken(StoreError("the disk is gone"))
            with trio.CancelScope(shield=True):  # before the queue stops
                await wait_all_tasks_blocked()
            assert all(isinstance(asked.answer, OutcomeUnknown) for asked in there.asked)


async def test_a_submit_that_finds_the_store_failed_does_not_wait(mock_clock: MockClock) -> None:
    """The store has failed between the check and the append."""
    async with street(SlowStore(Submitted)) as there:
        runtime_of(there.queue).admission.pending.end()
        asked = await there.submit()
        assert isinstance(asked.answer, OutcomeUnknown)


async def test_the_end_of_a_queue_whose_store_does_not_answer_wakes_all_waiting_submits(
    autojump_clock: MockClock,
) -> None:
    store = SlowStore(Submitted)
    answers: list[float] = []

    async def submit(queue: Queue) -> None:
        with pytest.raises(OutcomeUnknown):
            await queue.submit("work", "a")
        answers.append(trio.current_time())

    async with trio.open_nursery() as nursery:
        async with make_rig("trio", settings={"commit_timeout": 7.0}).open(store=store) as queue:
            for _ in range(3):
                nursery.start_soon(submit, queue)
            await trio.sleep(1.0)
        ended = trio.current_time()
    assert answers == [answers[0]] * 3
    assert answers[0] <= ended


async def test_the_task_that_ends_waits_does_not_run_for_each_submit(mock_clock: MockClock) -> None:
    steps = 0

    class Steps(trio.abc.Instrument):
        def before_task_step(self, task: trio.lowlevel.Task) -> None:
            nonlocal steps
            steps += task.name == "ends waits"

    pending = PendingSubmits(MemoryStore(), TIMEOUT)

    async def submit(seq: int) -> None:
        event = submitted(seq)
        one = pending.add(event, Any)  # type: ignore[arg-type] # the submission is not looked at
        nursery.start_soon(pending.receipt, one)
        await wait_all_tasks_blocked()
        pending.pop(event.job).receipt = Receipt(event.job, True, 1, State.PENDING, None)
        one.wake()
        await wait_all_tasks_blocked()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(pending.run, name="ends waits")
        trio.lowlevel.add_instrument(Steps())
        for seq in range(1, 21):
            await submit(seq)
            mock_clock.jump(1.0)
        assert steps == 2, "its start, and the first submit"
        nursery.cancel_scope.cancel()
    assert len(pending) == 0


async def test_a_store_can_refuse_a_submit_while_it_appends_it(autojump_clock: MockClock) -> None:
    class AtOnce(RefusingStore):
        def append(self, events: Any) -> None:
            super().append(events)
            if self.handed_over(Submitted):
                self.refuse()

    rig = make_rig("trio")
    async with rig.open(store=AtOnce(Submitted)) as queue:
        await wait_all_tasks_blocked()
        with pytest.raises(StoreError):
            await queue.submit("work", "a", key="K")
        assert queue.statistics().free == 100
        assert await queue.result((await queue.submit("work", "b", key="K")).job_id) == "b"


@pytest.mark.parametrize("which", [1, 2, 3])
async def test_a_bug_after_an_acceptance_is_raised_to_all_waiting_submits(which: int, tmp_path: Path) -> None:
    outcomes: list[object] = []
    calls = 0

    async def submit() -> None:
        try:
            outcomes.append(await queue.submit("work", "a"))
        except OutcomeUnknown as error:
            outcomes.append(error)

    def join(*args: Any, **options: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == which:
            raise RuntimeError("a bug")
        return really(*args, **options)

    with pytest.raises(StoreError, match="a bug"):
        async with make_rig("trio").open(journal=tmp_path / "jobs.db") as queue, trio.open_nursery() as nursery:
            await queue.pause()
            admission = runtime_of(queue).admission
            really, admission._send = admission._send, join  # type: ignore[method-assign]
            for _ in range(3):
                nursery.start_soon(submit)
    assert len(outcomes) == 3
    assert sum(isinstance(outcome, OutcomeUnknown) for outcome in outcomes) >= 4 - which


def falls_asleep(queue: Queue) -> None:
    """Ctrl-C between the moment from which the caller may be woken and that in which it waits for that."""

    class Sleepers(deque[Any]):
        def append(self, one: object) -> None:
            super().append(one)
            signal.raise_signal(signal.SIGINT)

    pending = runtime_of(queue).admission.pending
    pending._sleepers = Sleepers(pending._sleepers)


def test_p4_ctrl_c_in_one_waiting_submit_harms_no_other() -> None:
    answers: list[object] = []
    interrupted: list[float] = []

    async def other(queue: Queue) -> None:
        try:
            answers.append(await queue.submit("work", "a"))
        except OutcomeUnknown as error:
            answers.append(error)

    async def main() -> None:
        store = SlowStore(Submitted)
        async with make_rig("trio").open(store=store) as queue, trio.open_nursery() as nursery:
            await queue.pause()
            nursery.start_soon(other, queue)
            await wait_all_tasks_blocked()
            falls_asleep(queue)
            nursery.start_soon(_at, 1.0, other, queue)
            nursery.start_soon(_at, 100.0, store.keep)
            try:
                await queue.submit("work", "mine")
                await trio.sleep(200)
            except (KeyboardInterrupt, OutcomeUnknown):
                interrupted.append(trio.current_time())
            before = trio.current_time()
            try:
                await trio.sleep(1000)
            except KeyboardInterrupt:
                interrupted.append(trio.current_time())
            else:
                assert trio.current_time() == before + 1000, "woken by what another wait was about"

    trio.run(main, clock=MockClock(autojump_threshold=0))
    assert interrupted
    assert [type(answer) for answer in answers] == [OutcomeUnknown] * 2


async def _at(seconds: float, do: Callable[..., Any], *args: Any) -> None:
    await trio.sleep(seconds)
    if (wait := do(*args)) is not None:
        await wait
