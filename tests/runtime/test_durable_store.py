"""What the queue does differently before a store that is durable: it waits until things are kept, and keeps what a
stop leaves."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

import trio_jobs
from support.rig import HostKind, make_rig, service_for, until_state
from support.stores import DyingStore, FailingStore, RefusingStore, SlowStore
from support.turns import Turns
from trio_jobs import EndedBy, MemoryStore, NewJob, SdkHandle, State, StoreError, UsageError
from trio_jobs._engine.events import Completed, Event, Paused, Scheduled, SdkEntered, SessionClosed, Started, Submitted
from trio_jobs._runtime import attempt_runner
from trio_jobs._runtime.queue import runtime_of
from trio_jobs.testing import Blocker, FakeSdk, FakeSession


async def test_a_batch_counts_its_slots_again_when_a_job_it_shares_a_key_with_is_refused(
    autojump_clock: MockClock,
) -> None:
    rig, store = make_rig("trio", settings={"buffer": 2}), RefusingStore(Scheduled)
    together: list[trio_jobs.Receipt] = []
    async with rig.open(store=store) as queue, trio.open_nursery() as nursery:
        await queue.pause()
        for what in ("x", "y"):
            await queue.submit("work", what)

        @nursery.start_soon
        async def submit_k() -> None:
            with pytest.raises(StoreError):
                await queue.submit("work", "k", key="K", delay=1000)

        await wait_all_tasks_blocked()

        @nursery.start_soon
        async def submit_them() -> None:
            together.extend(await queue.submit_many([NewJob("work", "k", key="K"), NewJob("work", "other")]))

        await wait_all_tasks_blocked()
        store.refuse()
        await queue.resume()
        await wait_all_tasks_blocked()
        assert [receipt.created for receipt in together] == [True, True]
        for receipt in together:
            await queue.result(receipt.job_id)
        assert queue.statistics().free == 2, "each had a place"


async def test_a_cancel_before_the_start_is_committed_makes_verify_unnecessary(autojump_clock: MockClock) -> None:
    rig, store = make_rig("trio", verifies=True, verify_first=True), SlowStore(Started)
    async with rig.open(store=store) as queue, trio.open_nursery() as nursery:
        receipt = await queue.submit("work", "a")
        await wait_all_tasks_blocked()
        nursery.start_soon(queue.cancel, receipt.job_id)
        await wait_all_tasks_blocked()
        store.keep()
        job = await until_state(queue, receipt.job_id, "cancelled")
        assert (job.attempts or ())[-1].entered is False
    assert rig.sdk.calls() == []


async def test_an_error_of_the_store_at_a_wait_is_raised_where_it_refused_no_event(autojump_clock: MockClock) -> None:
    class Forgetful(SlowStore):
        async def committed(self, seq: int) -> None:
            if seq > self.last_seq:
                raise StoreError("it does not know that number")

    store = Forgetful(Paused)
    async with make_rig("trio").open(store=store) as queue:
        with pytest.raises(StoreError, match="does not know"):
            await queue.pause()
        store.keep()


async def test_p4_a_submit_returns_when_its_job_is_committed_and_cannot_be_cancelled_before(
    kind: HostKind,
    clock: MockClock,
) -> None:
    rig, store = make_rig(kind), SlowStore(Submitted)
    async with rig.open(store=store) as queue:
        await queue.pause()
        receipts: list[trio_jobs.Receipt] = []
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:

                @nursery.start_soon
                async def _submit() -> None:
                    receipts.append(await queue.submit("work", "a"))

                await wait_all_tasks_blocked()
                assert not receipts
                scope.cancel()
                await trio.lowlevel.cancel_shielded_checkpoint()
                store.keep()
        assert len(receipts) == 1, "from the hand-over on it ends by returning"
        await queue.resume()
        assert await queue.result(receipts[0].job_id) == "a"


async def test_p4_a_change_returns_when_it_is_committed_and_cannot_be_cancelled_before(
    kind: HostKind,
    clock: MockClock,
) -> None:
    rig, store = make_rig(kind), SlowStore(Paused)
    async with rig.open(store=store) as queue:
        returned: list[str] = []
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:

                @nursery.start_soon
                async def _pause() -> None:
                    await queue.pause("month end")
                    returned.append("pause")

                await wait_all_tasks_blocked()
                assert not returned
                scope.cancel()
                await trio.lowlevel.cancel_shielded_checkpoint()
                store.keep()
        assert returned == ["pause"], "from the hand-over on it ends by returning"
        assert queue.paused is not None


async def test_p6_a_handler_starts_only_when_its_start_is_committed(kind: HostKind, clock: MockClock) -> None:
    rig, store = make_rig(kind), SlowStore(Started)
    async with rig.open(store=store) as queue:
        receipt = await queue.submit("work", "a")
        await wait_all_tasks_blocked()
        assert store.handed_over(Started)
        assert queue.get(receipt.job_id).state is State.PENDING, "nobody is told what may be taken back"
        assert rig.sdk.calls() == []
        store.keep()
        await queue.result(receipt.job_id)
    assert rig.sdk.calls() == ["a"]


async def test_an_idempotent_handler_does_not_wait_for_the_commit_of_its_start(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attempt_runner, "FIRST_ATTEMPTS", 0)
    rig, store = make_rig("trio", idempotent=True), SlowStore(Started, Completed)
    async with rig.open(store=store) as queue:
        receipt = await queue.submit("work", "a")
        await wait_all_tasks_blocked()
        assert rig.sdk.calls() == ["a"]
        store.keep()
        await queue.result(receipt.job_id)


async def test_a_pause_during_a_store_failure_remains_after_the_failure(
    autojump_clock: MockClock,
) -> None:
    """Found by the simulator: the next attempt had passed the gate, then waited for the disk, then began in a pause."""
    rig, store = make_rig("trio"), SlowStore(Completed)
    hold = Blocker()
    rig.sdk.script("call", hold)
    async with rig.open(store=store) as queue, trio.open_nursery() as nursery:
        await queue.submit("work", "a")
        last = await queue.submit("work", "b")
        await hold.reached_in_trio()
        store.trouble = "the disk is full"
        hold.release()
        await wait_all_tasks_blocked()
        assert rig.sdk.calls() == ["a"], "nothing begins while the store takes nothing"
        nursery.start_soon(queue.pause)
        await wait_all_tasks_blocked()
        store.trouble = None
        store.keep()
        await wait_all_tasks_blocked()
        assert rig.sdk.calls() == ["a"], "nor in a pause"
        await queue.resume()
        await queue.result(last.job_id)
    assert rig.sdk.calls() == ["a", "b"]


@pytest.mark.parametrize("why", [EndedBy.CANCEL, EndedBy.STOP])
async def test_a_job_cancelled_while_its_start_is_being_committed_never_runs(
    why: EndedBy, autojump_clock: MockClock
) -> None:
    rig, store = make_rig("trio", settings={"drain_timeout": 0}), SlowStore(Started)
    async with rig.open(store=store) as queue:
        receipt = await queue.submit("work", "a")
        await wait_all_tasks_blocked()
        assert store.handed_over(Started)
        if why is EndedBy.CANCEL:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(queue.cancel, receipt.job_id)
                await wait_all_tasks_blocked()
                store.keep()
            await until_state(queue, receipt.job_id, "cancelled")
        else:
            runtime_of(queue).sessions.stop()
            current = runtime_of(queue).slot.current
            assert current is not None
            current.cancel(EndedBy.STOP)
            store.keep()
    assert queue.get(receipt.job_id).state is (State.CANCELLED if why is EndedBy.CANCEL else State.PENDING)
    assert rig.sdk.calls() == []


async def test_a_stop_ends_the_wait_for_a_start_that_the_store_does_not_commit(autojump_clock: MockClock) -> None:
    rig, store = make_rig("trio", settings={"drain_timeout": 0}), SlowStore(Started)
    async with rig.open(store=store) as queue:
        await queue.submit("work", "a")
        await wait_all_tasks_blocked()
        runtime = runtime_of(queue)
        runtime.sessions.stop()
        current = runtime.slot.current
        assert current is not None
        current.cancel(EndedBy.STOP)
        with trio.move_on_after(1.0):
            await runtime.slot.wait_empty()
        ended_in_time = runtime.slot.current is None
        store.keep()
    assert ended_in_time
    assert rig.sdk.calls() == []


async def test_a_start_that_waits_for_a_store_that_fails_is_not_called(autojump_clock: MockClock) -> None:
    rig, store = make_rig("trio"), DyingStore(Started)
    with pytest.raises(StoreError, match="the disk is gone"):
        async with rig.open(store=store) as queue:
            await queue.submit("work", "a")
            await wait_all_tasks_blocked()
            store.report_broken(StoreError("the disk is gone"))
            await trio.sleep_forever()
    assert rig.sdk.calls() == []


async def test_the_first_call_of_an_async_handler_waits_for_the_commit_of_its_entry(mock_clock: MockClock) -> None:
    sdk, store = FakeSdk(), SlowStore(SdkEntered)
    service = service_for(sdk, "thread")

    @service.handler(on_doubt="hold")
    async def work(handle: SdkHandle, what: str, job: trio_jobs.AsyncJobContext) -> None:
        await handle.call(FakeSession.call, "booked")
        await job.step("mail", handle.call, FakeSession.call, "mailed")

    async with service.open(store=store, clock=trio_jobs.TrioClock()) as queue:
        receipt = await queue.submit(work, "a")
        while not store.handed_over(SdkEntered):
            await trio.lowlevel.checkpoint()
        assert sdk.calls() == []
        store.keep()
        await queue.result(receipt.job_id)
    assert sdk.calls() == ["booked", "mailed"]


async def test_a_stop_finishes_the_running_attempt_and_keeps_the_rest(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    rig, store, hold = make_rig("trio"), SlowStore(), Blocker("finished")
    rig.sdk.script("call", hold)
    with caplog.at_level(logging.WARNING):
        async with rig.open(store=store) as queue:
            jobs = [await queue.submit("work", what, key=what) for what in "abc"]
            await hold.reached_in_trio()
            trio.lowlevel.current_trio_token().run_sync_soon(hold.release)
    assert rig.sdk.calls() == ["a"]
    assert [queue.get(receipt.job_id).state for receipt in jobs] == [State.COMPLETED, State.PENDING, State.PENDING]
    assert "stopped with unfinished jobs (2, kept in the journal): b (pending), c (pending)" in caplog.text


async def test_submit_nowait_is_refused_before_a_durable_store(autojump_clock: MockClock) -> None:
    rig = make_rig("trio")
    async with rig.open(store=SlowStore()) as queue:
        with pytest.raises(UsageError, match="with a journal a submit must wait for its commit"):
            queue.submit_nowait("work", "a")


@pytest.mark.parametrize("refuses", [Started, Completed, SessionClosed, "aclose"])
async def test_p7_a_store_that_refuses_ends_the_block_with_its_error_and_the_sdk_is_closed(
    refuses: Any, kind: HostKind, clock: MockClock
) -> None:
    rig = make_rig(kind)
    with pytest.raises(StoreError, match=r"the disk is gone|the last commit failed"):
        async with rig.open(store=FailingStore(refuses)) as queue:
            await queue.submit("work", "a")
            if refuses in (Started, Completed):
                await trio.sleep_forever()
    assert queue.report is not None
    assert queue.report.sdk_closed
    rig.sdk.check()
    assert rig.sdk.count("close") == 1


async def test_p7_a_consumer_that_waits_for_a_failing_store_leaves_the_error_to_the_store(
    kind: HostKind,
    clock: MockClock,
) -> None:
    rig, store = make_rig(kind), DyingStore(Completed)
    hold = Blocker()
    rig.sdk.script("call", hold)
    with pytest.raises(StoreError, match="the disk is gone"):
        async with rig.open(store=store) as queue:
            await queue.submit("work", "a")
            await rig.reached(hold)
            store.trouble = "the disk does not answer"
            hold.release()
            await wait_all_tasks_blocked()  # the consumer is at the gate
            store.die()
            await wait_all_tasks_blocked()
            store.report_broken(StoreError("the disk is gone"))
            await trio.sleep_forever()
    rig.sdk.check()
    assert rig.sdk.count("close") == 1


async def test_a_store_that_cannot_be_opened_opens_no_sdk(autojump_clock: MockClock) -> None:
    class Unwilling(MemoryStore):
        async def open(self, *told: Any) -> Any:
            raise StoreError("locked by process 7")

    rig = make_rig("trio")
    with pytest.raises(StoreError, match="locked by process 7"):
        async with rig.open(store=Unwilling()):
            raise AssertionError("the block must not begin")
    assert rig.sdk.steps == []


async def test_no_session_is_opened_for_a_verify_while_the_queue_stops(autojump_clock: MockClock) -> None:
    rig, store, hold = make_rig("trio", verifies=True), SlowStore(), Blocker(trio_jobs.SessionLost())
    rig.sdk.script("call", hold)
    rig.sdk.script("verify", trio_jobs.Done("found"))
    async with rig.open(store=store) as queue:
        receipt = await queue.submit("work", "a")
        await hold.reached_in_trio()
        trio.lowlevel.current_trio_token().run_sync_soon(hold.release)
    assert queue.get(receipt.job_id).state is State.IN_DOUBT
    assert rig.sdk.count("open") == 1
    assert rig.sdk.count("verify") == 0
    async with rig.open(store=store) as queue:
        assert await queue.result(receipt.job_id) == "found"
    rig.sdk.check()


async def test_drain_returns_when_the_end_of_the_last_job_is_committed(autojump_clock: MockClock) -> None:
    rig, store = make_rig("trio"), SlowStore(Completed)
    async with rig.open(store=store) as queue, trio.open_nursery() as nursery:
        await queue.submit("work", "a")
        await wait_all_tasks_blocked()
        assert store.handed_over(Completed)
        drained = trio.Event()

        @nursery.start_soon
        async def drain() -> None:
            await queue.drain()
            drained.set()

        await wait_all_tasks_blocked()
        assert not drained.is_set()
        store.keep()
        await drained.wait()
        assert queue.statistics().jobs[State.COMPLETED] == 1


class RecordingStore(SlowStore):
    """Records each event that is appended, with the turn of the loop."""

    def __init__(self, turns: Turns) -> None:
        super().__init__(Started)
        self.turns = turns

    def append(self, events: Sequence[Event]) -> None:
        self.turns.record(events)
        super().append(events)


async def submitted_while_paused(queue: trio_jobs.Queue, jobs: int) -> str:
    """Submit so many jobs and return the id of the last one. The first one then waits for the commit of its start."""
    await queue.pause()
    receipts = [await queue.submit("work", str(number)) for number in range(jobs)]
    await queue.resume()
    await wait_all_tasks_blocked()
    return receipts[-1].job_id


async def test_the_next_start_is_appended_in_the_turn_of_the_loop_in_which_the_last_attempt_has_ended(
    autojump_clock: MockClock,
) -> None:
    turns = Turns()
    store = RecordingStore(turns)
    async with make_rig("trio").open(store=store) as queue:
        last = await submitted_while_paused(queue, 2)
        trio.lowlevel.add_instrument(turns)
        store.keep(1)
        await wait_all_tasks_blocked()
        trio.lowlevel.remove_instrument(turns)
        (ended,) = turns.of(Completed)
        _, started = turns.of(Started)
        assert started == ended
        store.keep()
        await queue.result(last)


async def test_other_tasks_run_between_jobs_whose_starts_are_committed_at_once(autojump_clock: MockClock) -> None:
    turns = Turns()
    store = RecordingStore(turns)
    async with make_rig("trio").open(store=store) as queue:
        last = await submitted_while_paused(queue, 20)
        trio.lowlevel.add_instrument(turns)
        store.keep()  # the first start was waited for; no other is
        await queue.result(last)
        trio.lowlevel.remove_instrument(turns)
    assert len(set(turns.of(Completed))) == 19, "the second job follows the first one, whose wait was a checkpoint"
