"""A second queue on the store of a first, after a stop and after a crash: what a restart makes of what was kept."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

import trio_jobs
from support.rig import Rig, ended, make_rig, outcomes, until_state
from support.stores import SlowStore
from trio_jobs import Done, MemoryStore, NotDone, State, Unknown
from trio_jobs._engine.events import SessionOpened, Started
from trio_jobs._runtime import attempt_runner
from trio_jobs.testing import Blocker


async def as_after_a_crash(store: MemoryStore, copy: MemoryStore | None = None) -> MemoryStore:
    """What a store would hold if the process had died this moment: its events, without what a stop would add."""
    copy = MemoryStore() if copy is None else copy
    await copy.open(lambda events: None)
    for event in await store.events(0, 100_000):
        copy.append([event])
    await copy.aclose()
    return copy


async def crashed_while_held(rig: Rig, *others: str, **options: Any) -> tuple[MemoryStore, str]:
    """A store as a process leaves it that dies while a first job is in the SDK and `others` stand in the line."""
    store, hold = MemoryStore(), Blocker()
    rig.sdk.script("call", hold)
    with trio.CancelScope() as scope:
        async with rig.open(store=store) as queue:
            receipt = await queue.submit("work", "held", **options)
            await hold.reached_in_trio()
            for what in others:
                await queue.submit("work", what)
            crashed = await as_after_a_crash(store)
            scope.cancel()
            await trio.lowlevel.checkpoint()
    rig.sdk.steps.clear()
    return crashed, receipt.job_id


async def test_pending_jobs_continue_in_order_after_a_stop(autojump_clock: MockClock) -> None:
    store, rig, hold = MemoryStore(), make_rig("trio", idempotent=True, settings={"drain_timeout": 0}), Blocker()
    rig.sdk.script("call", "done before", hold)
    async with rig.open(store=store) as queue:
        done = await queue.submit("work", "done before", key="K")
        await queue.result(done.job_id)
        jobs = [(await queue.submit("work", str(n))).job_id for n in range(4)]
        await hold.reached_in_trio()
    assert queue.report is not None
    assert [left.state for left in queue.report.unfinished] == [State.PENDING] * 4
    rig.sdk.steps.clear()
    async with rig.open(store=store) as queue:
        assert (await queue.submit("work", "done before", key="K")).job_id == done.job_id
        assert await queue.result(done.job_id) == "done before"
        for job_id in jobs:
            await queue.result(job_id)
    assert rig.sdk.calls() == ["0", "1", "2", "3"]
    assert outcomes(queue.get(jobs[0])) == ["stopped", "completed"]


async def test_after_a_crash_an_entered_attempt_is_in_doubt(autojump_clock: MockClock) -> None:
    rig = make_rig("trio")
    store, held = await crashed_while_held(rig, "a", "b")
    async with rig.open(store=store) as queue:
        job = queue.get(held)
        assert (job.state, job.reason) == (State.IN_DOUBT, "crashed")
        assert outcomes(job) == ["crashed"]
        await queue.drain()
    assert rig.sdk.calls() == ["a", "b"], "what is in doubt is not tried again"


@pytest.mark.parametrize(
    ("answer", "state", "calls"),
    [(Done("found"), State.COMPLETED, 0), (NotDone(), State.COMPLETED, 1), (Unknown(), State.IN_DOUBT, 0)],
    ids=["done", "not done", "unknown"],
)
async def test_after_a_crash_verify_is_asked_first(
    answer: Any, state: State, calls: int, autojump_clock: MockClock
) -> None:
    rig = make_rig("trio", verifies=True)
    store, held = await crashed_while_held(rig)
    rig.sdk.script("verify", answer)
    async with rig.open(store=store) as queue:
        await until_state(queue, held, state)
        await trio.sleep(1)
        assert queue.get(held).state is state
    assert [step.operation for step in rig.sdk.steps] == ["open", "verify", *["call"] * calls, "close"]


async def test_after_a_crash_verify_waits_for_verify_delay(autojump_clock: MockClock) -> None:
    rig = make_rig("trio", verifies=True, verify_delay=40)
    store, held = await crashed_while_held(rig)
    rig.sdk.script("verify", Done("found"))
    async with rig.open(store=store) as queue:
        began = trio.current_time()
        assert await queue.result(held) == "found"
        assert trio.current_time() - began == 40


async def test_after_a_crash_an_idempotent_attempt_is_repeated_and_counts(autojump_clock: MockClock) -> None:
    rig = make_rig("trio", idempotent=True)
    store, held = await crashed_while_held(rig)
    async with rig.open(store=store) as queue:
        assert await queue.result(held) == "held"
    job = queue.get(held)
    assert outcomes(job) == ["crashed", "completed"]
    assert job.retries_used == 1


async def test_a_job_fails_as_poison_at_its_third_crash(autojump_clock: MockClock) -> None:
    rig = make_rig("trio", idempotent=True)
    store, held = await crashed_while_held(rig)
    for _ in range(2):
        hold = Blocker()
        rig.sdk.script("call", hold)
        with trio.CancelScope() as scope:
            async with rig.open(store=store) as queue:
                await hold.reached_in_trio()
                store = await as_after_a_crash(store)
                scope.cancel()
                await trio.lowlevel.checkpoint()
    async with rig.open(store=store) as queue:
        job = queue.get(held)
    assert (job.state, job.reason) == (State.FAILED, "poison")
    assert outcomes(job) == ["crashed"] * 3


async def test_the_first_attempts_of_an_idempotent_handler_wait_for_the_commit_of_their_start(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise a handler that kills the process at once would never be seen to have started."""
    monkeypatch.setattr(attempt_runner, "FIRST_ATTEMPTS", 3)
    rig, store = make_rig("trio", idempotent=True), SlowStore(Started)
    async with rig.open(store=store) as queue:
        for n in range(3):
            receipt = await queue.submit("work", str(n))
            await wait_all_tasks_blocked()
            assert rig.sdk.calls() == [str(m) for m in range(n)]
            store.keep(1)
            await queue.result(receipt.job_id)
        await queue.submit("work", "3")
        await wait_all_tasks_blocked()
        assert rig.sdk.calls() == ["0", "1", "2", "3"], "its start is not committed"
        store.keep()


async def test_each_attempt_of_a_job_that_has_crashed_waits_for_the_commit_of_its_start(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attempt_runner, "FIRST_ATTEMPTS", 0)
    rig, slow = make_rig("trio", idempotent=True), SlowStore(Started)
    crashed, held = await crashed_while_held(rig)
    slow.keep()
    await as_after_a_crash(crashed, slow)
    slow.hold()
    async with rig.open(store=slow) as queue:
        await wait_all_tasks_blocked()
        assert rig.sdk.calls() == []
        slow.keep()
        assert await queue.result(held) == "held"


async def test_a_service_s_max_crashes_applies_to_the_restored_jobs_of_all_kinds(autojump_clock: MockClock) -> None:
    rig = make_rig("trio", idempotent=True, settings={"max_crashes": 1})
    store, held = await crashed_while_held(rig)
    async with rig.open(store=store) as queue:
        job = queue.get(held)
        assert (job.state, job.reason) == (State.FAILED, "poison")
        await queue.retry(held)
        assert await queue.result(held) == "held", "a person's retry begins to count anew"


async def test_a_requested_cancel_is_honoured_after_a_crash(autojump_clock: MockClock) -> None:
    rig = make_rig("trio", idempotent=True)
    store, hold = MemoryStore(), Blocker()

    async def stubborn() -> None:
        with trio.CancelScope(shield=True):
            await hold.ablock()

    rig.sdk.script("call", stubborn)
    async with rig.open(store=store) as queue:
        receipt = await queue.submit("work", "a")
        await hold.reached_in_trio()
        assert await queue.cancel(receipt.job_id) == "requested"
        crashed = await as_after_a_crash(store)
        hold.release()
    rig.sdk.steps.clear()
    async with rig.open(store=crashed) as queue:
        assert (await ended(queue, receipt.job_id)).state is State.CANCELLED
    assert rig.sdk.calls() == []


async def test_waits_continue_after_a_restart(autojump_clock: MockClock) -> None:
    rig = make_rig("trio")
    rig.sdk.script("call", trio_jobs.RetryAfter(100))
    store = MemoryStore()
    with trio.move_on_after(30):
        async with rig.open(store=store) as queue:
            retrying = await queue.submit("work", "retrying")
            scheduled = await queue.submit("work", "scheduled", delay=200)
            expiring = await queue.submit("work", "expiring", delay=400, deadline_after=500)
            await trio.sleep_forever()
    await trio.sleep(20)
    began = trio.current_time()
    async with rig.open(store=store) as queue:
        await queue.result(retrying.job_id)
        assert trio.current_time() - began == pytest.approx(50)
        await queue.result(scheduled.job_id)
        assert trio.current_time() - began == pytest.approx(150)
        await queue.result(expiring.job_id)
        assert trio.current_time() - began == pytest.approx(350)


async def test_a_job_that_expired_between_two_runs_fails_at_the_start(autojump_clock: MockClock) -> None:
    rig = make_rig("trio")
    store = MemoryStore()
    with trio.move_on_after(1):
        async with rig.open(store=store) as queue:
            receipt = await queue.submit("work", "a", delay=10, deadline_after=20)
            await trio.sleep_forever()
    await trio.sleep(100)
    async with rig.open(store=store) as queue:
        assert (await ended(queue, receipt.job_id)).reason == "expired"
    assert rig.sdk.calls() == []


async def test_a_verify_that_a_stop_cut_short_is_asked_again_by_the_next_start(autojump_clock: MockClock) -> None:
    rig = make_rig("trio", verifies=True, settings={"drain_timeout": 1})
    rig.sdk.script("call", ValueError("booked, then raised"))
    rig.sdk.script("verify", Blocker(), Done("found"))
    store = MemoryStore()
    async with rig.open(store=store) as queue:
        receipt = await queue.submit("work", "a")
    assert queue.get(receipt.job_id).state is State.IN_DOUBT
    async with rig.open(store=store) as queue:
        assert await queue.result(receipt.job_id) == "found"
    assert rig.sdk.count("call") == 1


async def test_an_earlier_attempt_that_acted_is_verified_before_the_next(autojump_clock: MockClock) -> None:
    rig = make_rig("trio", verifies=True, on_doubt="retry", verify_delay=10)
    rig.sdk.script("call", ValueError(), "second")
    rig.sdk.script("verify", Unknown(), NotDone())
    async with rig.open() as queue:
        receipt = await queue.submit("work", "a")
        assert await queue.result(receipt.job_id) == "second"
    operations = [step.operation for step in rig.sdk.steps]
    assert operations == ["open", "call", "close", "open", "verify", "verify", "call", "close"]


@pytest.mark.parametrize("answer", [Done("found after all"), Unknown()], ids=["done", "unknown"])
async def test_an_answer_of_verify_before_an_attempt_can_end_the_job(answer: Any, autojump_clock: MockClock) -> None:
    rig = make_rig("trio", verifies=True, verify_first=True)
    rig.sdk.script("verify", answer)
    async with rig.open() as queue:
        receipt = await queue.submit("work", "a")
        await until_state(queue, receipt.job_id, "completed" if isinstance(answer, Done) else "in_doubt")
    assert outcomes(queue.get(receipt.job_id)) == ["already_done" if isinstance(answer, Done) else "unverified"]
    assert rig.sdk.calls() == []


async def test_a_cancel_while_verify_runs_before_an_attempt_is_honoured(autojump_clock: MockClock) -> None:
    rig = make_rig("trio", verifies=True, verify_first=True)
    hold = Blocker(NotDone())
    rig.sdk.script("verify", hold)
    async with rig.open() as queue:
        receipt = await queue.submit("work", "a")
        await hold.reached_in_trio()
        assert await queue.cancel(receipt.job_id) == "requested"
        hold.release()
        job = await ended(queue, receipt.job_id)
    assert job.state is State.CANCELLED
    assert rig.sdk.calls() == []


async def test_a_stop_while_verify_runs_before_an_attempt_gives_the_job_back(autojump_clock: MockClock) -> None:
    rig = make_rig("trio", verifies=True, verify_first=True, settings={"drain_timeout": 1})
    rig.sdk.script("verify", Blocker())
    async with rig.open() as queue:
        receipt = await queue.submit("work", "a")
    job = queue.get(receipt.job_id)
    assert (job.state, outcomes(job)) == (State.PENDING, ["stopped"])


async def test_a_queue_that_was_paused_stays_paused(autojump_clock: MockClock) -> None:
    rig = make_rig("trio", settings={"drain_timeout": 1})
    store = MemoryStore()
    async with rig.open(store=store) as queue:
        await queue.pause("stocktaking", by="ann")
        await queue.pause("again")
        receipt = await queue.submit("work", "a")
    async with rig.open(store=store) as queue:
        assert queue.paused == "stocktaking"
        await wait_all_tasks_blocked()
        assert queue.get(receipt.job_id).state is State.PENDING
        await queue.resume(by="ann")
        await queue.resume()
        assert await queue.result(receipt.job_id) == "a"
        assert queue.paused is None


async def test_a_pause_acts_before_the_next_start_and_deadlines_pass(autojump_clock: MockClock) -> None:
    rig = make_rig("trio")
    rig.sdk.script("call", lambda: trio.sleep(10))
    async with rig.open() as queue:
        first = await queue.submit("work", "under way")
        second = await queue.submit("work", "expires", deadline_after=50)
        await until_state(queue, first.job_id, "processing")
        await queue.pause()
        assert queue.paused == ""
        await queue.result(first.job_id)
        await trio.sleep(100)
        assert queue.get(second.job_id).reason == "expired"
        third = queue.submit_nowait("work", "later")
        await wait_all_tasks_blocked()
        assert queue.get(third.job_id).state is State.PENDING
        await queue.resume()
    assert rig.sdk.calls() == ["under way", "later"]


async def test_a_store_is_used_by_one_queue_at_a_time(autojump_clock: MockClock) -> None:
    rig, store = make_rig("trio"), MemoryStore()
    async with rig.open(store=store):
        with pytest.raises(trio_jobs.StoreError, match="in use by another queue"):
            async with rig.open(store=store):
                raise AssertionError("the block must not begin")
    with pytest.raises(trio_jobs.StoreError, match="this store is closed"):
        store.append([])


async def test_a_verify_of_an_in_doubt_job_that_a_stop_cut_short_is_asked_again_by_the_next_start(
    autojump_clock: MockClock,
) -> None:
    rig = make_rig("trio", verifies=True, attempt_timeout=5, settings={"drain_timeout": 0})
    rig.sdk.script("call", Blocker())
    verify = Blocker()
    rig.sdk.script("verify", verify, Done("found"))
    store = MemoryStore()
    async with rig.open(store=store) as queue:
        receipt = await queue.submit("work", "a")
        await verify.reached_in_trio()
    assert queue.get(receipt.job_id).state is State.IN_DOUBT
    async with rig.open(store=store) as queue:
        assert await queue.result(receipt.job_id) == "found"
    assert rig.sdk.count("verify") == 2


async def test_verify_is_not_asked_about_a_job_that_was_resolved_in_a_pause(
    autojump_clock: MockClock,
) -> None:
    rig = make_rig("trio", verifies=True, attempt_timeout=5)
    rig.sdk.script("call", Blocker())
    async with rig.open() as queue:
        receipt = await queue.submit("work", "a")
        await until_state(queue, receipt.job_id, "processing")
        await queue.pause()
        await until_state(queue, receipt.job_id, "in_doubt")
        await queue.resolve(receipt.job_id, "done")
        await queue.resume()
        assert await queue.result((await queue.submit("work", "b")).job_id) == "b"
    assert rig.sdk.count("verify") == 0


async def test_the_feed_begins_after_a_restart_at_the_last_event_of_the_store(autojump_clock: MockClock) -> None:
    """Also before the opening of the SDK is committed: otherwise no subscriber could resume until then."""
    rig, store = make_rig("trio"), SlowStore()
    async with rig.open(store=store) as queue:
        await queue.result((await queue.submit("work", "before")).job_id)
    last = store.last_seq
    assert last >= 3
    again = SlowStore(SessionOpened)
    again.keep()
    await as_after_a_crash(store, again)
    again.hold()
    async with rig.open(store=again) as queue:
        assert again.handed_over(SessionOpened)
        events = queue.backend.events
        assert events.seq == last + 1, "the record that the SDK is about to be opened"
        assert events.oldest == 1
        stream = queue.events(after=last + 1)
        again.keep()
        assert (await anext(stream)).seq == last + 2
