"""Verify on request: for a failed, cancelled or in_doubt job, by the consumer, in a session that can tell."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from support.rig import HostKind, Rig, busy_queue, ended, make_rig, until
from support.waiting import deadline
from trio_jobs import (
    Done,
    Fail,
    InvalidState,
    JobNotFound,
    NotDone,
    Queue,
    QueueClosed,
    State,
    Unknown,
    UsageError,
)
from trio_jobs.testing import Blocker


async def failed_after_acting(queue: Queue, rig: Rig, what: str = "book") -> str:
    rig.sdk.script("call", OSError("the answer is lost"))
    rig.sdk.script("verify", Unknown())
    receipt = await queue.submit("work", what, key=what)
    job = await ended(queue, receipt.job_id)
    assert (job.state, job.may_have_acted) == (State.FAILED, True)
    return receipt.job_id


async def test_in_strict_order_too_a_person_gets_the_answer_of_verify(autojump_clock: MockClock) -> None:
    rig = make_rig("trio", verifies=True, on_doubt="fail", settings={"strict_order": True})
    async with rig.open() as queue:
        job_id = await failed_after_acting(queue, rig)
        rig.sdk.script("verify", Done("voucher"))
        with trio.fail_after(3600):
            assert await queue.verify(job_id) == "done"
        other = await queue.submit("work", "other")
        assert (await ended(queue, other.job_id)).state is State.COMPLETED


async def test_a_failed_job_is_completed_if_its_work_is_found_done(kind: HostKind, clock: MockClock) -> None:
    rig = make_rig(kind, verifies=True, on_doubt="fail")
    async with rig.open() as queue:
        job_id = await failed_after_acting(queue, rig)
        rig.sdk.script("verify", Done("voucher"))
        assert await queue.verify(job_id, by="ada", note="the ledger is back") == "done"
        job = queue.get(job_id)
        assert (job.state, job.reason, job.run, job.may_have_acted) == (State.COMPLETED, "verified", 1, False)
        assert await queue.result(job_id) == "voucher"
        assert [(a.action, a.by, a.note, a.detail) for a in job.actions] == [
            ("verify", "ada", "the ledger is back", "done")
        ]
        other = await queue.submit("work", "other")
        assert (await ended(queue, other.job_id)).state is State.COMPLETED
    assert rig.sdk.calls() == ["book", "other"]


async def test_unknown_and_not_done_leave_a_failed_job_failed(autojump_clock: MockClock) -> None:
    rig = make_rig("trio", verifies=True, on_doubt="fail")
    async with rig.open() as queue:
        job_id = await failed_after_acting(queue, rig)
        rig.sdk.script("verify", Unknown(), ValueError("a wrong answer"), NotDone())
        assert await queue.verify(job_id) == "unknown"
        assert await queue.verify(job_id) == "unknown", "an exception is no answer"
        assert queue.get(job_id).may_have_acted
        assert await queue.verify(job_id) == "not_done"
        job = queue.get(job_id)
        assert (job.state, job.may_have_acted) == (State.FAILED, False)


async def test_verify_is_asked_in_another_session_than_the_one_of_the_attempt(autojump_clock: MockClock) -> None:
    rig = make_rig("trio", verifies=True, on_doubt="fail")
    async with rig.open() as queue:
        job_id = await failed_after_acting(queue, rig)
        rig.sdk.script("verify", ValueError("a session of its own is needed"), Done())
        await queue.verify(job_id)
        before = queue.statistics().session
        assert await queue.verify(job_id) == "done"
        assert queue.statistics().session == before + 1, "a session in which verify raised is replaced"


async def test_a_job_in_doubt_is_asked_about_again(autojump_clock: MockClock) -> None:
    rig = make_rig("trio", verifies=True)
    rig.sdk.script("call", OSError("the answer is lost"))
    rig.sdk.script("verify", Unknown(), Unknown(), Done(7))
    async with rig.open() as queue:
        receipt = await queue.submit("work", "book")
        await trio.sleep(1)  # the queue itself has asked
        assert await queue.verify(receipt.job_id, by="ada") == "unknown"
        assert queue.get(receipt.job_id).state is State.IN_DOUBT
        assert await queue.verify(receipt.job_id) == "done"
        job = queue.get(receipt.job_id)
        assert (job.state, job.actions[0].action) == (State.COMPLETED, "verify")
    assert rig.sdk.calls() == ["book"]


@pytest.mark.parametrize("strict", [False, True], ids=["", "strict order"])
async def test_the_request_waits_until_verify_delay_has_passed_since_the_attempt(
    autojump_clock: MockClock, strict: bool
) -> None:
    """P12: before that, verify could answer NotDone about work that is done, which would be repeated."""
    rig = make_rig("trio", verifies=True, verify_delay=30, settings={"strict_order": strict})
    rig.sdk.script("call", OSError("the answer is lost"))
    rig.sdk.script("verify", Done(7))
    async with rig.open() as queue:
        receipt = await queue.submit("work", "book")
        began = trio.current_time()
        await trio.sleep(10)
        assert queue.get(receipt.job_id).state is State.IN_DOUBT
        assert await queue.verify(receipt.job_id, by="ada") == "done"
        assert trio.current_time() >= began + 30


async def test_in_strict_order_the_job_in_doubt_that_blocks_the_queue_is_asked_about_again(
    autojump_clock: MockClock,
) -> None:
    rig = make_rig("trio", verifies=True, settings={"strict_order": True})
    rig.sdk.script("call", OSError("the answer is lost"))
    rig.sdk.script("verify", Unknown(), NotDone())
    async with rig.open() as queue:
        receipt = await queue.submit("work", "book")
        other = await queue.submit("work", "other")
        await trio.sleep(10)
        assert queue.get(other.job_id).state is State.PENDING
        assert await queue.verify(receipt.job_id) == "not_done"
        await ended(queue, other.job_id)
        assert queue.get(receipt.job_id).state is State.COMPLETED
    assert rig.sdk.calls() == ["book", "book", "other"]


async def test_the_request_waits_for_the_running_attempt(autojump_clock: MockClock) -> None:
    """P1: one call at a time."""
    rig = make_rig("trio", verifies=True, on_doubt="fail")
    async with rig.open() as queue:
        job_id = await failed_after_acting(queue, rig)
        hold = Blocker("running")
        rig.sdk.script("call", hold)
        rig.sdk.script("verify", Done())
        running = await queue.submit("work", "running")
        await hold.reached_in_trio()
        with trio.move_on_after(5) as scope:
            await queue.verify(job_id)
        assert scope.cancelled_caught
        hold.release()
        await ended(queue, running.job_id)
        await until(queue, job_id, lambda job: job.state is State.COMPLETED)


async def test_two_people_who_ask_at_once_get_the_same_answer(autojump_clock: MockClock) -> None:
    rig = make_rig("trio", verifies=True, on_doubt="fail")
    async with rig.open() as queue:
        job_id = await failed_after_acting(queue, rig)
        rig.sdk.script("verify", NotDone())
        answers: list[str] = []

        async def ask() -> None:
            answers.append(await queue.verify(job_id))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            nursery.start_soon(ask)
        assert answers == ["not_done", "not_done"]


async def test_a_retry_replaces_a_request_that_was_not_answered(autojump_clock: MockClock) -> None:
    rig = make_rig("trio", verifies=True, on_doubt="fail")
    async with rig.open() as queue:
        job_id = await failed_after_acting(queue, rig)
        hold = Blocker("running")
        rig.sdk.script("call", hold)
        await queue.submit("work", "running")
        await hold.reached_in_trio()
        errors: list[Exception] = []

        async def ask() -> None:
            try:
                await queue.verify(job_id)
            except InvalidState as error:
                errors.append(error)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            await wait_all_tasks_blocked()
            rig.sdk.script("verify", Done())
            await queue.retry(job_id)
        assert "it was changed before verify was called" in str(errors[0])
        hold.release()
        assert (await ended(queue, job_id)).state is State.COMPLETED
    assert rig.sdk.calls() == ["book", "running"], "verify was called once, and has found the work done"


@pytest.mark.parametrize("how", ["forgotten", "pruned"])
async def test_a_job_that_is_removed_before_verify_is_called_ends_the_wait(autojump_clock: MockClock, how: str) -> None:
    rig = make_rig("trio", verifies=True, on_doubt="fail", settings={"job_retention": 100.0})
    async with rig.open() as queue:
        job_id = await failed_after_acting(queue, rig)
        hold = Blocker("running")
        rig.sdk.script("call", hold)
        await queue.submit("work", "running")
        await hold.reached_in_trio()
        errors: list[Exception] = []

        async def ask() -> None:
            try:
                await queue.verify(job_id)
            except (InvalidState, JobNotFound) as error:
                errors.append(error)

        with trio.fail_after(10_000):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(ask)
                await wait_all_tasks_blocked()
                if how == "forgotten":
                    await queue.forget(job_id)
                else:
                    await trio.sleep(1000)
                    assert job_id not in queue.job_ids()
                    hold.release()
        assert type(errors[0]) is (InvalidState if how == "forgotten" else JobNotFound)
        hold.release()
        other = await queue.submit("work", "other")
        await ended(queue, other.job_id)
        statistics = queue.statistics()
        assert statistics.free == statistics.capacity, "its slot is free"


async def test_verify_is_refused_where_it_makes_no_sense(autojump_clock: MockClock) -> None:
    rig = make_rig("trio", verifies=True, on_doubt="fail")
    async with busy_queue(rig) as (queue, _, running):
        waiting = await queue.submit("work", "waiting")
        for job_id in (running, waiting.job_id):
            with pytest.raises(InvalidState, match="failed, cancelled and in_doubt jobs only"):
                await queue.verify(job_id)
        await queue.cancel(waiting.job_id)
        await queue.pause("month end")
        with pytest.raises(UsageError, match=r"paused \(month end\).*resume it first"):
            await queue.verify(waiting.job_id)
        with pytest.raises(JobNotFound):
            await queue.verify("0" * 36)
    without = make_rig("trio")
    without.sdk.script("call", Fail())
    async with without.open() as queue:
        receipt = await queue.submit("work", "book")
        await ended(queue, receipt.job_id)
        with pytest.raises(UsageError, match="has no verify"):
            await queue.verify(receipt.job_id)


async def test_a_stop_ends_the_wait_for_an_answer(autojump_clock: MockClock) -> None:
    rig = make_rig("trio", verifies=True, on_doubt="fail")
    stopped = trio.Event()
    async with trio.open_nursery() as nursery:
        async with rig.open() as queue:
            job_id = await failed_after_acting(queue, rig)
            hold = Blocker("running")
            rig.sdk.script("call", hold)
            await queue.submit("work", "running")
            await hold.reached_in_trio()

            async def ask() -> None:
                with pytest.raises(QueueClosed):
                    await queue.verify(job_id)
                stopped.set()

            nursery.start_soon(ask)
            await wait_all_tasks_blocked()
        with trio.fail_after(60):
            await stopped.wait()


async def test_p5_a_verify_of_a_job_in_doubt_that_waits_for_its_turn_in_strict_order_loses_neither(
    kind: HostKind, clock: MockClock
) -> None:
    """Its doubt began with a retry, so it does not block the queue, and waits in the channel as others do."""
    rig, hold = make_rig(kind, verifies=True, on_doubt="fail", settings={"strict_order": True}), Blocker()
    rig.sdk.script("call", OSError("the answer is lost"), hold)
    rig.sdk.script("verify", Unknown(), NotDone())
    answers: list[str] = []
    async with rig.open() as queue:
        job_id = (await queue.submit("work", "book")).job_id
        assert (await ended(queue, job_id)).state is State.FAILED
        await queue.submit("work", "busy")
        await rig.reached(hold)
        assert await queue.retry(job_id, even_if_acted=True) == "in_doubt"

        async def verify() -> None:
            answers.append(await queue.verify(job_id))

        with deadline("the answer of verify"):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(verify)
                await wait_all_tasks_blocked()
                hold.release()
        assert answers == ["not_done"]
        assert (await ended(queue, job_id)).state is State.COMPLETED
    assert rig.sdk.calls() == ["book", "busy", "book"]
