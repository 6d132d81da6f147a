"""Many at once, from other threads, and the hooks that tell people."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

import trio_jobs
from support.rig import NO_RETRY, busy_queue, ended, make_rig, pass_time, until_state
from trio_jobs import Job, NewJob, QueueClosed, QueueFull, RetriedJobs, State, UsageError
from trio_jobs.testing import Blocker

# many at once


async def test_a_batch_is_submitted_in_order_as_one_change(autojump_clock: MockClock) -> None:
    rig = make_rig("trio")
    async with busy_queue(rig) as (queue, _, _first):
        receipts = await queue.submit_many(
            [NewJob("work", "a"), NewJob("work", "later", delay=5), NewJob("work", "b", key="K")], by="ann"
        )
        assert [receipt.position for receipt in receipts] == [1, 0, 2]
        assert [queue.get(receipt.job_id).by for receipt in receipts] == ["ann"] * 3
        assert await queue.submit_many([]) == []
        await trio.sleep(10)
    assert rig.sdk.calls() == ["first", "a", "b", "later"]


async def test_jobs_with_one_key_in_a_batch_are_one_job(autojump_clock: MockClock) -> None:
    rig = make_rig("trio", settings={"buffer": 1})
    async with rig.open() as queue:
        first, second = await queue.submit_many([NewJob("work", "a", key="K")] * 2)
        assert first.job_id == second.job_id
        assert (first.created, second.created) == (True, False)
        [again] = await queue.submit_many([NewJob("work", "a", key="K")])
        assert (again.job_id, again.created) == (first.job_id, False)
        with pytest.raises(trio_jobs.KeyConflict):
            await queue.submit_many([NewJob("work", "b", key="L"), NewJob("work", "c", key="L")])
        with pytest.raises(trio_jobs.KeyConflict):
            await queue.submit_many([NewJob("work", "other", key="K")])
    assert rig.sdk.calls() == ["a"]


async def test_a_batch_larger_than_the_queue_is_refused(autojump_clock: MockClock) -> None:
    rig = make_rig("trio", settings={"buffer": 2, "max_waiting": 2})
    async with rig.open() as queue:
        with pytest.raises(UsageError, match="3 jobs cannot have a slot each in a channel of 2"):
            await queue.submit_many([NewJob("work", str(n)) for n in range(3)])
        with pytest.raises(QueueFull):
            await queue.submit_many([NewJob("work", str(n), delay=5) for n in range(3)])
        assert queue.list() == []
        assert queue.statistics().free == 2


async def test_two_batches_do_not_wait_for_each_other_s_slots(autojump_clock: MockClock) -> None:
    rig = make_rig("trio", settings={"buffer": 3})
    async with busy_queue(rig) as (queue, hold, _first):
        await queue.submit("work", "in the line")
        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(queue.submit_many, [NewJob("work", "x") for _ in range(3)])
            await wait_all_tasks_blocked()
            hold.release()
    assert len(rig.sdk.calls()) == 11
    assert queue.statistics().free == 3


async def test_a_batch_that_waits_gets_queue_closed(autojump_clock: MockClock) -> None:
    rig = make_rig("trio", settings={"buffer": 2})
    told: list[str] = []

    async def submit() -> None:
        with pytest.raises(QueueClosed):
            await queue.submit_many([NewJob("work", "x"), NewJob("work", "y")])
        told.append("closed")

    async with busy_queue(rig) as (queue, hold, _first):
        await queue.submit("work", "in the line")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(submit)
            await wait_all_tasks_blocked()
            queue.close_to_submits()
        hold.release()
    assert told == ["closed"]
    assert queue.statistics().free == 2
    with pytest.raises(QueueClosed):
        await queue.submit_many([])


async def test_a_key_accepted_while_a_batch_waited_is_not_accepted_twice(autojump_clock: MockClock) -> None:
    rig = make_rig("trio", settings={"buffer": 1})
    receipts: list[trio_jobs.Receipt] = []

    async def submit() -> None:
        receipts.extend(await queue.submit_many([NewJob("work", "a", key="K")]))

    async with busy_queue(rig) as (queue, hold, _first):
        await queue.submit("work", "in the line")
        async with trio.open_nursery() as nursery:
            for _ in range(2):
                nursery.start_soon(submit)
            await wait_all_tasks_blocked()
            hold.release()
    assert sorted(receipt.created for receipt in receipts) == [False, True]
    assert rig.sdk.calls() == ["first", "in the line", "a"]
    assert queue.statistics().free == 1


async def test_cancel_many_cancels_the_jobs_that_match(autojump_clock: MockClock) -> None:
    rig = make_rig("trio")
    async with busy_queue(rig) as (queue, _, first):
        old = await queue.submit("work", "old", delay=10_000)
        await trio.sleep(100)
        new = [await queue.submit("work", str(n)) for n in range(3)]
        assert await queue.cancel_many(kind="other") == ()
        assert await queue.cancel_many(error_type="ValueError") == ()
        assert await queue.cancel_many(state="completed") == ()
        assert await queue.cancel_many(older_than=50, state="scheduled", by="ann") == (old.job_id,)
        assert await queue.cancel_many(state="pending", limit=1) == (new[0].job_id,)
        assert await queue.cancel_many() == (first, new[1].job_id, new[2].job_id)
        with pytest.raises(UsageError, match="limit must be at most 1000"):
            await queue.cancel_many(limit=1001)


async def test_retry_many_retries_the_jobs_that_match(autojump_clock: MockClock) -> None:
    rig = make_rig("trio", retry=NO_RETRY)
    rig.sdk.script("call", ValueError(), TypeError(), trio_jobs.Cancel("no"))
    async with rig.open() as queue:
        jobs = [(await queue.submit("work", what)).job_id for what in "abc"]
        for job_id in jobs:
            await ended(queue, job_id)
        assert (await queue.retry_many(error_type="TypeError", even_if_acted=True)).retried == (jobs[1],)
        assert await queue.retry_many(by="ann", even_if_acted=True) == RetriedJobs((jobs[0], jobs[2]), (), (jobs[0],))
        assert await queue.retry_many(state="completed") == RetriedJobs((), ())
        await queue.drain()
        with pytest.raises(QueueClosed):
            await queue.retry_many()
    assert queue.report is not None
    assert queue.report.jobs[State.COMPLETED] == 3


# from other threads


async def test_other_threads_can_use_the_queue(mock_clock: MockClock) -> None:
    rig = make_rig("thread", retry=NO_RETRY)
    rig.sdk.script("call", "done", ValueError("no"))

    def use(door: Any) -> str:
        receipt = door.submit("work", "a", key="K")
        assert door.result(receipt.job_id) == "done"
        assert door.get(receipt.job_id).state is State.COMPLETED
        assert door.cancel(receipt.job_id) == "too_late"
        failing = door.submit("work", "b")
        with pytest.raises(trio_jobs.JobFailed):
            door.result(failing.job_id)
        return str(receipt.job_id)

    async with rig.open() as queue:
        job_id = await trio.to_thread.run_sync(use, queue.from_thread)
    assert queue.get(job_id).key == "K"
    with pytest.raises(trio_jobs.UsageError):
        queue.from_thread.get(job_id)


def test_other_threads_get_queue_closed_after_the_loop_has_ended() -> None:
    doors: list[Any] = []

    async def main() -> None:
        async with make_rig("thread").open() as queue:
            doors.append(queue.from_thread)

    trio.run(main)
    with pytest.raises(QueueClosed, match="the event loop of the queue has ended"):
        doors[0].get("x")


# hooks


async def test_hooks_run_for_failed_and_in_doubt_jobs(autojump_clock: MockClock) -> None:
    rig = make_rig("trio", retry=NO_RETRY, attempt_timeout=5)
    rig.sdk.script("call", ValueError(), Blocker(), "fine")
    told: list[tuple[str, State]] = []

    async def on_doubt(job: Job) -> None:
        await trio.sleep(1)
        told.append(("in_doubt", job.state))

    rig.service.on("failed", lambda job: told.append(("failed", job.state)))
    rig.service.on("in_doubt", on_doubt)
    async with rig.open() as queue:
        for what in "abc":
            await queue.submit("work", what)
        await trio.sleep(10)
    assert told == [("failed", State.FAILED), ("in_doubt", State.IN_DOUBT)]


async def test_a_hook_that_raises_or_hangs_is_logged_and_affects_no_job(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    rig = make_rig("trio", retry=NO_RETRY)
    rig.sdk.script("call", ValueError(), ValueError())
    told: list[str] = []

    async def hang(job: Job) -> None:
        await trio.sleep_forever()

    def fail(job: Job) -> None:
        raise RuntimeError("the mail server is down")

    rig.service.on("failed", hang)
    rig.service.on("failed", fail)
    rig.service.on("failed", lambda job: told.append(job.id))
    async with rig.open() as queue:
        jobs = [(await queue.submit("work", what)).job_id for what in "abc"]
        await trio.sleep(100)
        assert told == jobs[:2]
        assert await queue.result(jobs[2]) == "c"
    assert "the hook for failed did not return within 30 s" in caplog.text
    assert "the mail server is down" in caplog.text


async def test_the_stuck_hook_runs_for_a_stuck_call(mock_clock: MockClock) -> None:
    rig = make_rig("thread", attempt_timeout=5, stuck_after=5)
    hold = Blocker("late")
    rig.sdk.script("call", hold)
    told: list[str] = []
    rig.service.on("stuck", lambda job: told.append(f"stuck {job.inside}"))
    rig.service.on("in_doubt", lambda job: told.append(f"in_doubt {job.inside}"))
    async with rig.open() as queue:
        receipt = await queue.submit("work", "a")
        await hold.reached()
        await pass_time(mock_clock, 5)
        await pass_time(mock_clock, 5)
        assert sorted(told) == ["in_doubt True", "stuck True"]
        hold.release()
        await queue.result(receipt.job_id)


async def test_the_stuck_hook_runs_for_a_stuck_verify_which_is_awaited(
    mock_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    rig = make_rig("thread", verifies=True, attempt_timeout=5, stuck_after=5, verify_timeout=5)
    call, verify = Blocker(), Blocker(trio_jobs.Done("found"))
    rig.sdk.script("call", call)
    rig.sdk.script("verify", verify)
    call.then = ValueError()
    async with rig.open() as queue:
        receipt = await queue.submit("work", "a")
        await call.reached()
        call.release()
        await verify.reached()
        await pass_time(mock_clock, 5)
        assert queue.health().problems == ("overdue",)
        await pass_time(mock_clock, 5)
        assert queue.health().problems == ("stuck",)
        verify.release()
        await until_state(queue, receipt.job_id, "in_doubt")
    assert "verify did not answer within 5 s" in caplog.text
