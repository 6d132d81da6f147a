"""Reschedule, run now and claim."""

from __future__ import annotations

from datetime import timedelta

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from support.rig import busy_queue, ended, make_rig, until_state
from trio_jobs import InvalidState, JobChanged, JobClaimed, Queue, QueueFull, Retry, State, UsageError
from trio_jobs._engine.json_values import moment
from trio_jobs._runtime.queue import runtime_of
from trio_jobs.testing import CrashableStore


def now(queue: Queue) -> float:
    return runtime_of(queue).clock.now()


async def test_a_pending_job_is_postponed_and_frees_its_slot(autojump_clock: MockClock) -> None:
    rig = make_rig("trio", settings={"buffer": 1})
    async with busy_queue(rig) as (queue, hold, _):
        receipt = await queue.submit("work", "a")
        await queue.reschedule(receipt.job_id, delay=100, by="ada", note="not today")
        assert queue.get(receipt.job_id).state is State.SCHEDULED
        other = await queue.submit("work", "b", wait=0)
        hold.release()
        assert (await ended(queue, other.job_id)).state is State.COMPLETED
        started = trio.current_time()
        job = await ended(queue, receipt.job_id)
        assert trio.current_time() - started == pytest.approx(100)
        assert [(a.action, a.by, a.note) for a in job.actions] == [("reschedule", "ada", "not today")]
    assert rig.sdk.calls() == ["first", "b", "a"]


async def test_a_scheduled_job_is_moved_to_a_date_and_back(autojump_clock: MockClock) -> None:
    rig = make_rig("trio")
    async with rig.open() as queue:
        receipt = await queue.submit("work", "a", delay=1000)
        await queue.reschedule(receipt.job_id, due_at=moment(now(queue) + 5000))
        await trio.sleep(2000)
        assert queue.get(receipt.job_id).state is State.SCHEDULED
        await queue.reschedule(receipt.job_id, delay=10)
        started = trio.current_time()
        await ended(queue, receipt.job_id)
        assert trio.current_time() - started == pytest.approx(10)


@pytest.mark.parametrize("strict", [False, True], ids=["", "strict order"])
async def test_a_retrying_job_starts_now_or_later_on_request(autojump_clock: MockClock, strict: bool) -> None:
    rig = make_rig("trio", idempotent=True, retry=Retry(2, waits=[1000]), settings={"strict_order": strict})
    rig.sdk.script("call", OSError("busy"), OSError("busy"))
    async with rig.open() as queue:
        receipt = await queue.submit("work", "a")
        await until_state(queue, receipt.job_id, "retrying")
        await queue.run_now(receipt.job_id, by="ada")
        await wait_all_tasks_blocked()
        assert queue.get(receipt.job_id).attempt_count == 2
        await queue.reschedule(receipt.job_id, delay=50)
        started = trio.current_time()
        job = await ended(queue, receipt.job_id)
        assert (job.state, job.retries_used) == (State.COMPLETED, 2)
        assert trio.current_time() - started == pytest.approx(50)


async def test_a_job_that_starts_now_comes_behind_the_jobs_that_wait_already(autojump_clock: MockClock) -> None:
    rig = make_rig("trio", settings={"buffer": 1})
    async with busy_queue(rig) as (queue, hold, _):
        await queue.submit("work", "in the channel")
        later = await queue.submit("work", "later", delay=1000)
        due = await queue.submit("work", "due", delay=1)
        await trio.sleep(2)
        await queue.run_now(later.job_id)
        hold.release()
        await ended(queue, later.job_id)
        await ended(queue, due.job_id)
    assert rig.sdk.calls() == ["first", "in the channel", "due", "later"]


async def test_a_rescheduled_job_of_a_journal_is_due_at_its_new_time_after_a_restart(
    autojump_clock: MockClock,
) -> None:
    rig, storage = make_rig("trio"), CrashableStore()
    async with rig.open(store=storage.store()) as queue:
        receipt = await queue.submit("work", "a", delay=1000)
        await queue.reschedule(receipt.job_id, delay=100)
    async with rig.open(store=storage.store(), seed=2) as queue:
        started = trio.current_time()
        await ended(queue, receipt.job_id)
        assert trio.current_time() - started == pytest.approx(100)


async def test_a_time_that_makes_no_sense_is_refused(autojump_clock: MockClock) -> None:
    rig = make_rig("trio", settings={"max_waiting": 1})
    async with busy_queue(rig) as (queue, _, running):
        waiting = await queue.submit("work", "a", deadline_after=100)
        past = moment(now(queue)) - timedelta(seconds=1)
        for kwargs, message in (
            ({}, "give due_at or delay"),
            ({"due_at": past}, "use run_now"),
            ({"delay": 0}, "use run_now"),
            ({"delay": 1, "due_at": past}, "give due_at or delay"),
            ({"delay": 100}, "expires before that"),
        ):
            with pytest.raises(UsageError, match=message):
                await queue.reschedule(waiting.job_id, **kwargs)
        for operation in (queue.run_now(running), queue.reschedule(running, delay=1)):
            with pytest.raises(InvalidState):
                await operation
        await queue.submit("work", "later", delay=1000)
        with pytest.raises(QueueFull):
            await queue.reschedule(waiting.job_id, delay=1)
        with pytest.raises(JobChanged):
            await queue.run_now(waiting.job_id, if_seq=1)


async def test_a_claim_does_not_delay_the_job(autojump_clock: MockClock) -> None:
    """Also a claim between the commit of a wait and its end."""
    rig = make_rig("trio", idempotent=True, retry=Retry(1, waits=[10]))
    rig.sdk.script("call", OSError("busy"))
    async with rig.open() as queue:
        scheduled = await queue.submit("work", "a", delay=5)
        await queue.claim(scheduled.job_id, by="ada")
        await trio.sleep(7)
        assert queue.get(scheduled.job_id).state is State.RETRYING
        await queue.claim(scheduled.job_id, by="ada", note="calling the bank")
        await trio.sleep(9)
        assert queue.get(scheduled.job_id).state is State.COMPLETED


async def test_a_claim_lasts_15_minutes_and_shows_who_works_on_the_job(autojump_clock: MockClock) -> None:
    rig = make_rig("trio")
    async with busy_queue(rig) as (queue, _, _):
        receipt = await queue.submit("work", "a")
        await queue.claim(receipt.job_id, by="ada", note="calling the customer")
        job = queue.get(receipt.job_id)
        assert job.claimed_by == "ada"
        assert job.claimed_until == moment(now(queue) + 900)
        with pytest.raises(JobClaimed, match="ada has claimed it"):
            await queue.claim(receipt.job_id, by="bob")
        with pytest.raises(JobClaimed):
            await queue.release_claim(receipt.job_id, by="bob")
        await queue.release_claim(receipt.job_id, by="ada")
        assert queue.get(receipt.job_id).claimed_by is None
        await queue.claim(receipt.job_id, by="bob", seconds=60)
        await trio.sleep(60)
        await queue.claim(receipt.job_id, by="ada")
        for seconds, message in ((0, "seconds"), (100_000, "at most 86400 seconds")):
            with pytest.raises(UsageError, match=message):
                await queue.claim(receipt.job_id, by="ada", seconds=seconds)
