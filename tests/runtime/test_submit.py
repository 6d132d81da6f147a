"""Submitting: keys, places, who comes first, and what is answered when there is no room."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

import trio_jobs
from support.rig import NO_RETRY, HostKind, busy_queue, ended, make_rig, until_state
from trio_jobs import KeyConflict, QueueClosed, QueueFull, State
from trio_jobs._runtime.queue import runtime_of
from trio_jobs.testing import Blocker

# keys


async def test_the_same_key_and_payload_give_the_same_job(kind: HostKind, clock: MockClock) -> None:
    rig = make_rig(kind)
    async with rig.open() as queue:
        first = await queue.submit("work", "a", key="K")
        second = await queue.submit("work", "a", key="K")
        assert second.job_id == first.job_id
        assert first.created
        assert not second.created
        await queue.result(first.job_id)
        third = await queue.submit("work", "a", key="K")
        assert (third.created, third.position, third.state) == (False, 0, State.COMPLETED)
        assert queue.submit_nowait("work", "a", key="K").job_id == first.job_id
    assert rig.sdk.calls() == ["a"]


async def test_the_same_key_with_another_payload_is_refused(kind: HostKind, clock: MockClock) -> None:
    rig = make_rig(kind)
    async with rig.open() as queue:
        first = await queue.submit("work", "a", key="K")
        with pytest.raises(KeyConflict, match=f"already belongs to job {first.job_id}, which has another payload"):
            await queue.submit("work", "b", key="K")
        with pytest.raises(KeyConflict):
            queue.submit_nowait("work", "b", key="K")
    assert rig.sdk.calls() == ["a"]


async def test_keys_are_per_kind(kind: HostKind, clock: MockClock) -> None:
    rig = make_rig(kind, kinds=("work", "other"))
    async with rig.open() as queue:
        first = await queue.submit("work", "a", key="K")
        second = await queue.submit("other", "b", key="K")
        assert second.created
        assert second.job_id != first.job_id


async def test_failed_and_cancelled_jobs_keep_their_keys(autojump_clock: MockClock) -> None:
    rig = make_rig("trio", retry=NO_RETRY)
    rig.sdk.script("call", ValueError())
    async with rig.open() as queue:
        first = await queue.submit("work", "a", key="K")
        await ended(queue, first.job_id)
        again = await queue.submit("work", "a", key="K")
        assert (again.created, again.state) == (False, State.FAILED)


async def test_a_known_key_answers_even_when_the_queue_is_full(kind: HostKind, clock: MockClock) -> None:
    rig = make_rig(kind, settings={"buffer": 1})
    async with busy_queue(rig) as (queue, _, _first):
        first = await queue.submit("work", "a", key="K")
        assert queue.statistics().free == 0
        again = await queue.submit("work", "a", key="K", wait=0)
        assert (again.job_id, again.created, again.position) == (first.job_id, False, 1)


async def test_a_submit_whose_key_was_accepted_while_it_waited_passes_its_slot_on(
    kind: HostKind, clock: MockClock
) -> None:
    rig = make_rig(kind, settings={"buffer": 1})
    receipts: list[trio_jobs.Receipt] = []

    async def submit() -> None:
        receipts.append(await queue.submit("work", "a", key="K"))

    async with busy_queue(rig) as (queue, hold, _first):
        await queue.submit("work", "in the line")
        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(submit)
                await wait_all_tasks_blocked()
            hold.release()
        assert len({receipt.job_id for receipt in receipts}) == 1
        assert [receipt.created for receipt in receipts].count(True) == 1
    assert queue.statistics().free == 1
    assert rig.sdk.calls() == ["first", "in the line", "a"]


async def test_a_key_conflict_after_a_wait_releases_the_slot(kind: HostKind, clock: MockClock) -> None:
    """Found by the simulator."""
    rig = make_rig(kind, settings={"buffer": 1})

    async def conflict() -> None:
        with pytest.raises(KeyConflict):
            await queue.submit("work", "b", key="K")

    async with busy_queue(rig) as (queue, hold, _first):
        await queue.submit("work", "in the line")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(partial(queue.submit, "work", "a", key="K"))
            await wait_all_tasks_blocked()
            nursery.start_soon(conflict)
            await wait_all_tasks_blocked()
            hold.release()
    assert queue.statistics().free == 1


# positions


async def test_positions_count_from_the_next_to_be_taken(kind: HostKind, clock: MockClock) -> None:
    rig = make_rig(kind)
    async with busy_queue(rig) as (queue, _, first):
        assert [(await queue.submit("work", str(n), key=str(n))).position for n in range(3)] == [1, 2, 3]
        assert (await queue.submit("work", "1", key="1")).position == 2
        assert queue.get(first).state is State.PROCESSING


async def test_a_job_that_the_waiting_consumer_takes_has_the_first_position(kind: HostKind, clock: MockClock) -> None:
    rig = make_rig(kind)
    async with rig.open() as queue:
        await wait_all_tasks_blocked()
        first = queue.submit_nowait("work", "a", key="a")
        second = queue.submit_nowait("work", "b", key="b")
        assert (first.position, second.position) == (1, 2)
        assert first.state is second.state is State.PENDING
        assert queue.submit_nowait("work", "b", key="b").position == 2


async def test_a_running_scheduled_or_final_job_has_no_position(autojump_clock: MockClock) -> None:
    rig = make_rig("trio")
    async with busy_queue(rig) as (queue, _, _first):
        later = await queue.submit("work", "later", delay=10, key="L")
        assert (later.position, later.state) == (0, State.SCHEDULED)
        over = await queue.submit("work", "over", key="O")
        await queue.cancel(over.job_id)
        again = await queue.submit("work", "over", key="O")
        assert (again.position, again.state) == (0, State.CANCELLED)


# room


async def test_queue_full_has_the_size_of_the_queue(kind: HostKind, clock: MockClock) -> None:
    rig = make_rig(kind, settings={"buffer": 2})
    async with busy_queue(rig) as (queue, _, _first):
        for n in range(2):
            await queue.submit("work", str(n))
        async with trio.open_nursery() as nursery:
            for n in range(3):
                nursery.start_soon(queue.submit, "work", f"waiting {n}")
            await wait_all_tasks_blocked()
            with pytest.raises(QueueFull) as caught:
                await queue.submit("work", "no", wait=0)
            assert (caught.value.capacity, caught.value.waiting, caught.value.retry_after) == (2, 3, 0.1)
            assert str(caught.value) == "all 2 places are taken and 3 callers wait; try again in about 0.1 s"
            nursery.cancel_scope.cancel()
        assert queue.statistics().waiting_callers == 0


async def test_retry_after_is_estimated_from_how_long_attempts_took(autojump_clock: MockClock) -> None:
    rig = make_rig("trio", settings={"buffer": 1})
    rig.sdk.script("call", lambda: trio.sleep(8), Blocker())
    hold = rig.sdk._scripts["call"][1]
    async with rig.open() as queue:
        await queue.result((await queue.submit("work", "8 s")).job_id)
        assert queue.statistics().mean_run == 8
        await queue.submit("work", "held")
        await hold.reached_in_trio()
        await queue.submit("work", "in the line")
        with pytest.raises(QueueFull) as caught:
            await queue.submit("work", "no", wait=0)
        assert caught.value.retry_after == 8
        hold.release()


async def test_wait_limits_the_wait_for_a_slot(autojump_clock: MockClock) -> None:
    rig = make_rig("trio", settings={"buffer": 1})
    async with busy_queue(rig) as (queue, hold, _first):
        await queue.submit("work", "a")
        began = trio.current_time()
        with pytest.raises(QueueFull):
            await queue.submit("work", "no", wait=7)
        assert trio.current_time() - began == 7
        async with trio.open_nursery() as nursery:
            nursery.start_soon(lambda: queue.submit("work", "yes", wait=7))
            await trio.sleep(3)
            hold.release()
    assert rig.sdk.calls() == ["first", "a", "yes"]


async def test_waiting_submits_get_slots_in_the_order_of_their_calls(kind: HostKind, clock: MockClock) -> None:
    rig = make_rig(kind, settings={"buffer": 1})
    async with busy_queue(rig) as (queue, hold, _first), trio.open_nursery() as nursery:
        for n in range(8):
            nursery.start_soon(queue.submit, "work", str(n))
            await wait_all_tasks_blocked()
        hold.release()
    assert rig.sdk.calls() == ["first", *map(str, range(8))]
    assert queue.statistics().free == 1


async def test_no_submit_overtakes_a_waiting_one(kind: HostKind, clock: MockClock) -> None:
    rig = make_rig(kind, settings={"buffer": 1})
    async with busy_queue(rig) as (queue, hold, first):
        second = Blocker("a")
        rig.sdk.script("call", second)
        await queue.submit("work", "a")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(queue.submit, "work", "b")
            await wait_all_tasks_blocked()
            hold.release()
            await ended(queue, first)
            with pytest.raises(QueueFull):
                queue.submit_nowait("work", "no")
            second.release()
    assert rig.sdk.calls() == ["first", "a", "b"]


async def test_requeued_jobs_take_at_most_every_second_slot_before_new_jobs(autojump_clock: MockClock) -> None:
    rig = make_rig("trio", settings={"buffer": 1})
    hold = Blocker()
    rig.sdk.script("call", *[trio_jobs.Snooze(10)] * 3, hold)
    async with rig.open() as queue, trio.open_nursery() as nursery:
        for n in range(3):
            receipt = await queue.submit("work", f"back {n}")
            await until_state(queue, receipt.job_id, "scheduled")
        await queue.submit("work", "held")
        await hold.reached_in_trio()
        await queue.submit("work", "in the line")
        for n in range(5):
            nursery.start_soon(queue.submit, "work", f"new {n}")
            await wait_all_tasks_blocked()
        await trio.sleep(11)  # the three are due again, and wait for a place as well
        assert queue.statistics().waiting_jobs == 3
        assert queue.statistics().waiting_callers == 5
        hold.release()
    assert rig.sdk.calls()[5:] == ["back 0", "new 0", "back 1", "new 1", "back 2", "new 2", "new 3", "new 4"]


async def test_requeued_jobs_are_ordered_by_due_at_then_seq(autojump_clock: MockClock) -> None:
    rig = make_rig("trio", settings={"buffer": 1})
    async with busy_queue(rig) as (queue, hold, _first):
        for what, delay in (("c", 9), ("b1", 8), ("a", 7), ("b2", 8)):
            await queue.submit("work", what, delay=delay)
        await queue.submit("work", "in the line")
        await trio.sleep(20)
        hold.release()
    assert rig.sdk.calls() == ["first", "in the line", "a", "b1", "b2", "c"]


async def test_a_cancelled_job_leaves_the_queue_and_its_slot_is_passed_on(kind: HostKind, clock: MockClock) -> None:
    rig = make_rig(kind, settings={"buffer": 2})
    async with busy_queue(rig) as (queue, _, _first):
        doomed = await queue.submit("work", "doomed", key="d")
        kept = await queue.submit("work", "kept", key="k")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(queue.submit, "work", "new")
            await wait_all_tasks_blocked()
            assert await queue.cancel(doomed.job_id, by="ann") == "cancelled"
        assert await queue.cancel(doomed.job_id) == "cancelled"
        assert (await queue.submit("work", "kept", key="k")).position == 1
        assert queue.get(doomed.job_id).state is State.CANCELLED
        assert queue.get(kept.job_id).state is State.PENDING
        assert queue.statistics().free == 0
    assert rig.sdk.calls() == ["first", "kept", "new"]
    assert queue.statistics().free == 2


async def test_a_job_cancelled_on_its_way_to_the_consumer_does_not_run(kind: HostKind, clock: MockClock) -> None:
    rig = make_rig(kind, settings={"buffer": 1})
    async with rig.open() as queue:
        await wait_all_tasks_blocked()
        doomed = queue.submit_nowait("work", "doomed")
        assert await queue.cancel(doomed.job_id) == "cancelled"
        await wait_all_tasks_blocked()
        assert queue.statistics().free == 1
    assert rig.sdk.calls() == []


async def test_jobs_that_change_state_while_they_wait_outside_are_skipped(autojump_clock: MockClock) -> None:
    rig = make_rig("trio", settings={"buffer": 1})
    async with busy_queue(rig) as (queue, hold, _first):
        await queue.submit("work", "in the line")
        scheduled = await queue.submit("work", "never", delay=50)
        waiting = await queue.submit("work", "nor this", delay=1)
        await trio.sleep(2)
        assert queue.statistics().waiting_jobs == 1
        for receipt in (scheduled, waiting):
            assert await queue.cancel(receipt.job_id) == "cancelled"
        await trio.sleep(100)
        hold.release()
    assert rig.sdk.calls() == ["first", "in the line"]
    assert queue.statistics().free == 1


# later


@pytest.mark.parametrize("how", ["delay", "due_at"])
async def test_a_scheduled_job_starts_when_it_is_due(how: str, autojump_clock: MockClock) -> None:
    rig = make_rig("trio")
    async with rig.open() as queue:
        now = datetime.fromtimestamp(trio_jobs.TrioClock().now(), UTC)
        when: dict[str, Any] = {"delay": 500} if how == "delay" else {"due_at": now + timedelta(seconds=500)}
        receipt = await queue.submit("work", "later", **when)
        assert receipt.state is State.SCHEDULED
        began = trio.current_time()
        await queue.result(receipt.job_id)
        assert trio.current_time() - began == pytest.approx(500)


async def test_a_job_due_in_the_past_is_due_now(autojump_clock: MockClock) -> None:
    rig = make_rig("trio")
    async with rig.open() as queue:
        receipt = await queue.submit("work", "a", due_at=datetime(1990, 1, 1, tzinfo=UTC))
        assert (receipt.state, receipt.position) == (State.PENDING, 1)


async def test_a_scheduled_job_expires_at_its_deadline_and_can_be_cancelled(autojump_clock: MockClock) -> None:
    rig = make_rig("trio")
    async with busy_queue(rig) as (queue, hold, _first):
        for n in range(2):
            await queue.submit("work", str(n), delay=5, deadline_after=7 + n)
        await queue.submit("work", "in time", deadline_after=500)
        await trio.sleep(100)
        hold.release()
    assert rig.sdk.calls() == ["first", "in time"]
    assert queue.report is not None
    assert queue.report.jobs[State.FAILED] == 2


# closing


async def test_a_closed_queue_accepts_no_jobs(kind: HostKind, clock: MockClock) -> None:
    rig = make_rig(kind)
    async with rig.open() as queue:
        known = await queue.submit("work", "a", key="K")
        await queue.drain()
        assert "closed" in repr(queue)
        for _ in range(2):
            with pytest.raises(QueueClosed, match="accepts no new jobs"):
                await queue.submit("work", "b")
            with pytest.raises(QueueClosed):
                queue.submit_nowait("work", "b")
        with pytest.raises(QueueClosed):
            await queue.retry(known.job_id)
        assert (await queue.submit("work", "a", key="K")).job_id == known.job_id
        queue.close_to_submits()
    with pytest.raises(QueueClosed):
        await queue.submit("work", "b")


async def test_submits_that_wait_for_a_slot_get_queue_closed(kind: HostKind, clock: MockClock) -> None:
    rig = make_rig(kind, settings={"buffer": 1})
    told: list[str] = []

    async def submit(n: int) -> None:
        with pytest.raises(QueueClosed):
            await queue.submit("work", f"waiting {n}", key=str(n))
        told.append(str(n))

    async with busy_queue(rig) as (queue, hold, _first):
        await queue.submit("work", "a")
        async with trio.open_nursery() as nursery:
            for n in range(3):
                nursery.start_soon(submit, n)
            await wait_all_tasks_blocked()
            queue.close_to_submits()
        assert sorted(told) == ["0", "1", "2"]
        assert queue.statistics().free == 0
        hold.release()
    assert rig.sdk.calls() == ["first", "a"]
    assert queue.statistics().free == 1


async def test_drain_waits_for_what_is_pending_processing_and_retrying(autojump_clock: MockClock) -> None:
    rig = make_rig("trio")
    rig.sdk.script("call", ValueError(), lambda: trio.sleep(3))
    async with rig.open() as queue:
        for n in range(3):
            await queue.submit("work", str(n))
        await queue.submit("work", "scheduled", delay=1000)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(queue.drain)
            nursery.start_soon(queue.drain)
        assert queue.statistics().jobs[State.COMPLETED] == 3
        assert queue.statistics().jobs[State.SCHEDULED] == 1


async def test_drain_does_not_wait_for_in_doubt_jobs(autojump_clock: MockClock) -> None:
    rig = make_rig("trio", attempt_timeout=1)
    rig.sdk.script("call", Blocker())
    async with rig.open() as queue:
        await queue.submit("work", "a")
        await queue.drain()
        assert queue.health().in_doubt == 1


async def test_a_stop_ends_the_waits_of_drain_and_result(autojump_clock: MockClock) -> None:
    rig = make_rig("trio", settings={"drain_timeout": 1})
    rig.sdk.script("call", Blocker())
    told: list[str] = []

    async def drain() -> None:
        with pytest.raises(QueueClosed, match="before it was drained"):
            await queue.drain()
        told.append("drain")

    async def wait(job_id: str) -> None:
        with pytest.raises(QueueClosed, match=r"the queue has stopped; job \S+ is pending"):
            await queue.result(job_id)
        told.append("result")

    async with trio.open_nursery() as nursery, rig.open() as queue:
        await queue.submit("work", "held")
        receipt = await queue.submit("work", "behind it")
        nursery.start_soon(wait, receipt.job_id)
        nursery.start_soon(drain)
        await wait_all_tasks_blocked()
    assert sorted(told) == ["drain", "result"]
    with pytest.raises(QueueClosed):
        await queue.result(receipt.job_id)


# looking


async def test_jobs_are_listed_by_state_kind_and_page(autojump_clock: MockClock) -> None:
    rig = make_rig("trio")
    async with busy_queue(rig) as (queue, _, first):
        ids = [first] + [(await queue.submit("work", str(n))).job_id for n in range(5)]
        assert [job.id for job in queue.list()] == ids
        assert [job.id for job in queue.list(limit=2)] == ids[:2]
        assert [job.id for job in queue.list(after=ids[1], limit=2)] == ids[2:4]
        assert [job.id for job in queue.list(state="processing")] == [first]
        assert [job.id for job in queue.list(state=State.PENDING, after=ids[2])] == ids[3:]
        assert queue.list(kind="other") == []
        assert repr(queue) == "<Queue 5 pending, 1 processing, 95 slots free>"
        assert queue.get(first).payload == b'"first"'


async def test_a_job_returned_by_get_does_not_change(autojump_clock: MockClock) -> None:
    rig = make_rig("trio")
    async with busy_queue(rig) as (queue, hold, first):
        seen = queue.get(first)
        hold.release()
        await queue.result(first)
        assert seen.state is State.PROCESSING
        assert queue.get(first).state is State.COMPLETED


class SteppingClock(trio_jobs.TrioClock):
    """A wall clock that goes on by `step` seconds at each look, and can be put forward."""

    def __init__(self, step: float = 0.0) -> None:
        super().__init__()
        self.step = step
        self.ahead = 0.0

    def now(self) -> float:
        self.ahead += self.step
        return super().now() + self.ahead


async def test_a_job_that_becomes_due_during_its_submit_is_pending(autojump_clock: MockClock) -> None:
    rig = make_rig("trio")
    clock = SteppingClock(step=1)
    async with rig.service.open(clock=clock) as queue:
        due_at = datetime.fromtimestamp(clock.now() + 1.5, UTC)
        receipt = await queue.submit("work", "a", due_at=due_at)
        assert (receipt.state, receipt.position) == (State.PENDING, 0)
        assert await queue.result(receipt.job_id) == "a"


async def test_a_job_whose_deadline_passed_when_the_clock_jumped_is_not_started(autojump_clock: MockClock) -> None:
    rig, wall = make_rig("trio"), SteppingClock()
    hold = Blocker()
    rig.sdk.script("call", hold)
    async with rig.service.open(clock=wall) as queue:
        await queue.submit("work", "first")
        await hold.reached_in_trio()
        late = await queue.submit("work", "late", deadline_at=datetime.fromtimestamp(wall.now() + 100, UTC))
        wall.ahead = 1000
        hold.release()
        job = await ended(queue, late.job_id)
        assert job.reason == "expired"
        assert job.attempts == ()
    assert rig.sdk.calls() == ["first"]


async def test_a_due_date_is_met_though_the_wall_clock_jumped(autojump_clock: MockClock) -> None:
    rig, wall = make_rig("trio"), SteppingClock()
    async with busy_queue(rig) as (queue, _, _first):
        runtime = runtime_of(queue)
        runtime.submissions._clock = runtime.scheduler._clock = wall
        doomed = await queue.submit("work", "doomed", deadline_at=datetime.fromtimestamp(wall.now() + 10_000, UTC))
        wall.ahead = 20_000
        await trio.sleep(61)
        assert queue.get(doomed.job_id).reason == "expired", "noticed within a minute"


async def test_the_repr_of_a_queue_shows_its_counts(autojump_clock: MockClock) -> None:
    rig = make_rig("trio", settings={"buffer": 5})
    async with busy_queue(rig) as (queue, _, _first):
        await queue.submit("work", "a")
        assert repr(runtime_of(queue).channel) == "<JobChannel 1 waiting, 4 of 5 free>"
