"""Correct: a failed or cancelled job starts again with another payload, under its key, unless it may have acted."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from support.rig import HostKind, Rig, busy_queue, ended, make_rig
from trio_jobs import (
    Fail,
    InvalidPayload,
    InvalidState,
    JobChanged,
    JobMayHaveActed,
    JobNotFound,
    KeyConflict,
    NotDone,
    Queue,
    QueueClosed,
    Retry,
    Service,
    State,
    Unknown,
    UsageError,
)
from trio_jobs.events import Corrected
from trio_jobs.testing import CrashableStore


async def failed(queue: Queue, rig: Rig, what: str = "wrong", key: str | None = "A-1") -> str:
    """The id of a job that has failed, and has done nothing."""
    rig.sdk.script("call", Fail("the tax id is wrong"))
    receipt = await queue.submit("work", what, key=key)
    assert (await ended(queue, receipt.job_id)).state is State.FAILED
    return receipt.job_id


async def failed_after_acting(queue: Queue, rig: Rig) -> str:
    rig.sdk.script("call", OSError("the answer is lost"))
    rig.sdk.script("verify", Unknown())
    receipt = await queue.submit("work", "wrong", key="A-1")
    job = await ended(queue, receipt.job_id)
    assert (job.state, job.may_have_acted) == (State.FAILED, True)
    return receipt.job_id


async def test_a_corrected_submit_starts_the_failed_job_again_under_its_key(kind: HostKind, clock: MockClock) -> None:
    rig = make_rig(kind)
    async with rig.open() as queue:
        job_id = await failed(queue, rig)
        receipt = await queue.submit("work", "right", key="A-1", correct=True, by="ada")
        assert (receipt.job_id, receipt.created) == (job_id, False)
        job = await ended(queue, job_id)
        assert (job.state, job.run, job.payload) == (State.COMPLETED, 2, b'"right"')
        assert job.earlier_payloads == {1: b'"wrong"'}
        assert [(action.action, action.by) for action in job.actions] == [("correct", "ada")]
        assert (await queue.submit("work", "right", key="A-1")).job_id == job_id, "the key stands for the new payload"
        with pytest.raises(KeyConflict):
            await queue.submit("work", "wrong", key="A-1")
    assert rig.sdk.calls() == ["wrong", "right"]


async def test_a_conflict_says_whether_the_job_can_be_corrected(autojump_clock: MockClock) -> None:
    rig = make_rig("trio", verifies=True, on_doubt="fail")
    async with rig.open() as queue:
        job_id = await failed(queue, rig)
        with pytest.raises(KeyConflict, match=r"that job is failed: submit it with correct=True") as caught:
            await queue.submit("work", "right", key="A-1")
        assert caught.value.job_id == job_id
        await queue.submit("work", "right", key="A-1", correct=True)
        await ended(queue, job_id)
        with pytest.raises(KeyConflict, match=r"another payload$"):
            await queue.submit("work", "other", key="A-1")
        with pytest.raises(KeyConflict, match="its work is done; submit the other payload with another key"):
            await queue.submit("work", "other", key="A-1", correct=True)


async def test_p12_what_may_have_acted_is_corrected_only_after_verify_says_not_done(
    kind: HostKind, clock: MockClock
) -> None:
    rig = make_rig(kind, verifies=True, on_doubt="fail")
    async with rig.open() as queue:
        job_id = await failed_after_acting(queue, rig)
        with pytest.raises(KeyConflict, match="verify it, and correct it if the answer is not_done"):
            await queue.submit("work", "right", key="A-1", correct=True)
        with pytest.raises(JobMayHaveActed):
            await queue.correct(job_id, "right")
        rig.sdk.script("verify", NotDone())
        assert await queue.verify(job_id) == "not_done"
        await queue.correct(job_id, "right", by="ada", note="new tax id")
        assert (await ended(queue, job_id)).state is State.COMPLETED
    assert rig.sdk.calls() == ["wrong", "right"]


async def test_an_open_job_is_not_corrected(autojump_clock: MockClock) -> None:
    rig = make_rig("trio")
    async with busy_queue(rig) as (queue, _, running):
        waiting = await queue.submit("work", "wrong", key="A-1")
        for job_id in (running, waiting.job_id):
            with pytest.raises(InvalidState, match="cancel it first"):
                await queue.correct(job_id, "right")
        with pytest.raises(KeyConflict, match="cancel it first"):
            await queue.submit("work", "right", key="A-1", correct=True)
        await queue.cancel(waiting.job_id)
        await queue.submit("work", "right", key="A-1", correct=True)
        assert queue.get(waiting.job_id).state is State.PENDING


async def test_of_two_people_who_correct_at_once_the_second_one_is_refused(autojump_clock: MockClock) -> None:
    """Also if the correction of the first one has failed meanwhile, so that another one is possible."""
    rig = make_rig("trio")
    async with rig.open() as queue:
        job_id = await failed(queue, rig)
        seen = queue.get(job_id).seq
        rig.sdk.script("call", Fail("still wrong"))
        await queue.correct(job_id, "ada's", by="ada", if_seq=seen)
        assert (await ended(queue, job_id)).state is State.FAILED
        with pytest.raises(JobChanged, match="look at it again") as caught:
            await queue.correct(job_id, "bob's", by="bob", if_seq=seen)
        assert (caught.value.if_seq, caught.value.seq) == (seen, queue.get(job_id).seq)
        assert queue.get(job_id).payload == b'"ada\'s"'
        for operation in (queue.retry, queue.cancel):
            with pytest.raises(JobChanged):
                await operation(job_id, if_seq=seen)


async def test_a_correction_that_is_repeated_changes_nothing(autojump_clock: MockClock) -> None:
    """A client repeats a request whose answer was lost."""
    rig = make_rig("trio")
    async with rig.open() as queue:
        job_id = await failed(queue, rig)
        seen = queue.get(job_id).seq
        first = await queue.correct(job_id, "right", if_seq=seen)
        assert (await queue.correct(job_id, "right", if_seq=seen)).job_id == first.job_id
        await ended(queue, job_id)
        await queue.correct(job_id, "right", if_seq=seen)
        assert queue.get(job_id).run == 2
    assert rig.sdk.calls() == ["wrong", "right"]


async def test_a_correction_with_the_same_payload_is_a_retry(autojump_clock: MockClock) -> None:
    rig = make_rig("trio")
    async with rig.open() as queue:
        job_id = await failed(queue, rig)
        with pytest.raises(UsageError, match="use retry"):
            await queue.correct(job_id, "wrong")
        receipt = await queue.submit("work", "wrong", key="A-1", correct=True)
        assert (receipt.job_id, receipt.state) == (job_id, State.FAILED), "the same payload is the same job"


async def test_a_correction_is_checked_like_a_submit(autojump_clock: MockClock) -> None:
    service = Service()

    @service.handler
    async def post(amount: int) -> None:
        raise Fail

    async with service.open() as queue:
        receipt = await queue.submit(post, 1, key="A-1")
        await ended(queue, receipt.job_id)
        with pytest.raises(InvalidPayload):
            await queue.correct(receipt.job_id, "one")
        with pytest.raises(UsageError, match="give key"):
            await queue.submit(post, 2, correct=True)
        with pytest.raises(JobNotFound):
            await queue.correct("0" * 36, 2)
        assert (await queue.submit(post, 1, key="new", correct=True)).created, "an unknown key is a new job"
        await queue.drain()
        with pytest.raises(QueueClosed):
            await queue.correct(receipt.job_id, 2)


async def test_a_job_without_a_key_is_corrected_by_its_id(autojump_clock: MockClock) -> None:
    rig = make_rig("trio")
    async with rig.open() as queue:
        job_id = await failed(queue, rig, key=None)
        await queue.correct(job_id[-8:], "right")
        assert (await ended(queue, job_id)).state is State.COMPLETED


async def test_a_correction_takes_the_due_date_and_the_deadline_of_its_submit(autojump_clock: MockClock) -> None:
    rig = make_rig("trio")
    async with rig.open() as queue:
        job_id = await failed(queue, rig)
        await queue.submit("work", "right", key="A-1", correct=True, delay=10, deadline_after=100)
        job = queue.get(job_id)
        assert (job.state, job.payload) == (State.SCHEDULED, b'"right"')
        assert job.deadline_at is not None
        started = trio.current_time()
        assert (await ended(queue, job_id)).state is State.COMPLETED
        assert trio.current_time() - started == pytest.approx(10)


async def test_a_corrected_job_of_a_journal_runs_with_the_new_payload_after_a_restart(
    autojump_clock: MockClock,
) -> None:
    rig, storage = make_rig("trio"), CrashableStore()
    async with rig.open(store=storage.store()) as queue:
        job_id = await failed(queue, rig)
        await queue.pause()
        await queue.submit("work", "right", key="A-1", correct=True)
    async with rig.open(store=storage.store(), seed=2) as queue:
        assert queue.get(job_id).earlier_payloads == {1: b'"wrong"'}
        with pytest.raises(KeyConflict):
            await queue.submit("work", "wrong", key="A-1")
        await queue.resume()
        assert (await ended(queue, job_id)).payload == b'"right"'
        events = [event async for event in until_final(queue, job_id)]
    assert [bytes(event.payload) for event in events if isinstance(event, Corrected)] == [b'"right"']  # type: ignore[arg-type] # never UNSET here
    assert rig.sdk.calls() == ["wrong", "right"]


async def until_final(queue: Queue, job_id: str) -> Any:
    async for event in queue.events(after=0, jobs=[job_id]):
        yield event
        if event.type == "completed":
            return


async def test_a_correction_of_a_forgotten_job_that_did_nothing_is_a_new_job(autojump_clock: MockClock) -> None:
    rig = make_rig("trio", verifies=True, on_doubt="fail", settings={"job_retention": 10})
    async with rig.open() as queue:
        old = await failed(queue, rig)
        acted = queue
        rig.sdk.script("call", OSError("the answer is lost"))
        rig.sdk.script("verify", Unknown())
        other = await queue.submit("work", "wrong", key="A-2")
        assert (await ended(acted, other.job_id)).may_have_acted
        await trio.sleep(1000)
        for job_id in (old, other.job_id):
            with pytest.raises(JobNotFound):
                queue.get(job_id)
        with pytest.raises(KeyConflict, match="correct=True"):
            await queue.submit("work", "right", key="A-1")
        receipt = await queue.submit("work", "right", key="A-1", correct=True)
        assert receipt.created
        assert receipt.job_id != old
        with pytest.raises(KeyConflict):
            await queue.submit("work", "right", key="A-2", correct=True)
        assert queue.find("work", "A-1").id == receipt.job_id
        assert (await queue.submit("work", "right", key="A-1")).job_id == receipt.job_id


async def test_a_correction_gets_a_new_retry_budget(autojump_clock: MockClock) -> None:
    rig = make_rig("trio", idempotent=True, retry=Retry(1, waits=[1]))
    rig.sdk.script("call", OSError("1"), OSError("2"), OSError("3"))
    async with rig.open() as queue:
        receipt = await queue.submit("work", "wrong", key="A-1")
        await ended(queue, receipt.job_id)
        await queue.correct(receipt.job_id, "right")
        await wait_all_tasks_blocked()
        job = await ended(queue, receipt.job_id)
        assert (job.state, job.retries_used, job.attempt_count) == (State.COMPLETED, 1, 4)


async def test_corrections_are_available_from_threads(autojump_clock: MockClock) -> None:
    rig = make_rig("trio")
    async with rig.open() as queue:
        job_id = await failed(queue, rig)
        await trio.to_thread.run_sync(lambda: queue.from_thread.correct(job_id, "right", by="ada"))
        assert (await ended(queue, job_id)).state is State.COMPLETED
