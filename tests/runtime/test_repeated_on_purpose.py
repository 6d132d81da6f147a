"""P12: nothing that may have acted runs again without a declaration of its handler, or a decision of a person."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from support.rig import IN_PROCESS, NO_RETRY, HostKind, Rig, ended, make_rig, outcomes, until_state
from trio_jobs import Done, Fail, JobMayHaveActed, NotDone, Queue, RetriedJobs, Retry, State, Unknown
from trio_jobs.testing import Blocker, CrashableStore

#: A declaration that permits no repetition after an error, and what the job becomes
AT_MOST_ONCE: list[tuple[dict[str, Any], State]] = [
    ({"on_doubt": "hold"}, State.IN_DOUBT),
    ({"on_doubt": "fail"}, State.FAILED),
]


@pytest.mark.parametrize(("declared", "state"), AT_MOST_ONCE, ids=["hold", "fail"])
async def test_p12_an_attempt_that_raised_is_not_repeated_by_on_doubt_alone(
    kind: HostKind, clock: MockClock, declared: dict[str, Any], state: State
) -> None:
    rig = make_rig(kind, **declared)
    rig.sdk.script("call", OSError("the answer is lost"))
    async with rig.open() as queue:
        receipt = await queue.submit("work", "book")
        job = await until_state(queue, receipt.job_id, state)
        other = await queue.submit("work", "other")
        await ended(queue, other.job_id)
        if kind == "trio":
            await trio.sleep(100)
        assert queue.get(receipt.job_id) == job
        assert job.may_have_acted
        assert outcomes(job) == ["error"]
    assert rig.sdk.calls() == ["book", "other"]


async def test_p12_retry_repeats_attempts_that_raised_and_nothing_else(kind: HostKind, clock: MockClock) -> None:
    rig = make_rig(kind, retry=Retry(1, waits=[0]))
    rig.sdk.script("call", OSError("the answer is lost"))
    async with rig.open() as queue:
        receipt = await queue.submit("work", "book")
        assert (await ended(queue, receipt.job_id)).state is State.COMPLETED
    assert rig.sdk.calls() == ["book", "book"]


@pytest.mark.parametrize("kind", ["trio", *IN_PROCESS], indirect=True)
async def test_p12_a_timeout_is_not_repeated_by_retry(kind: HostKind, autojump_clock: MockClock) -> None:
    rig = make_rig(kind, retry=Retry(), attempt_timeout=1)
    hold = Blocker()
    rig.sdk.script("call", hold)
    async with rig.open_jumping() as queue:
        receipt = await queue.submit("work", "book")
        job = await until_state(queue, receipt.job_id, "in_doubt")
        assert outcomes(job) == ["killed" if kind == "process" else "timed_out"]
    hold.release()
    assert rig.sdk.calls() == ["book"]


async def test_p12_on_doubt_retry_repeats_an_attempt_that_raised(kind: HostKind, autojump_clock: MockClock) -> None:
    rig = make_rig(kind, on_doubt="retry")
    rig.sdk.script("call", OSError("the answer is lost"))
    async with rig.open_jumping() as queue:
        receipt = await queue.submit("work", "book")
        assert (await ended(queue, receipt.job_id)).state is State.COMPLETED
    assert rig.sdk.calls() == ["book", "book"]


@pytest.mark.parametrize(
    ("answer", "state", "calls"),
    [(Done("voucher"), State.COMPLETED, 1), (NotDone(), State.COMPLETED, 2), (Unknown(), State.IN_DOUBT, 1)],
    ids=["done", "not done", "unknown"],
)
async def test_p12_verify_decides_about_an_attempt_that_raised_and_retry_beside_it_only_tunes(
    kind: HostKind, clock: MockClock, answer: Any, state: State, calls: int
) -> None:
    rig = make_rig(kind, verifies=True, retry=Retry(1, waits=[0]))
    rig.sdk.script("call", OSError("the answer is lost"))
    rig.sdk.script("verify", answer)
    async with rig.open() as queue:
        receipt = await queue.submit("work", "book")
        await until_state(queue, receipt.job_id, state)
        other = await queue.submit("work", "other")
        await ended(queue, other.job_id)  # verify was called before it
        assert queue.get(receipt.job_id).state is state
    assert rig.sdk.calls() == ["book"] * calls + ["other"]


async def test_p12_verify_alone_has_the_default_policy(kind: HostKind, autojump_clock: MockClock) -> None:
    rig = make_rig(kind, verifies=True, settings={"renew_after_error": False})
    rig.sdk.script("call", *(OSError("nothing was done") for _ in range(4)))
    rig.sdk.script("verify", *(NotDone() for _ in range(4)))
    async with rig.open_jumping() as queue:
        receipt = await queue.submit("work", "book")
        job = await ended(queue, receipt.job_id)
        starts = [attempt.started_at for attempt in job.attempts or ()]
        assert [(after - before).total_seconds() for before, after in pairwise(starts)] == [1, 2, 4]
        assert (job.state, job.reason, job.may_have_acted) == (State.FAILED, "not_done", False)


# a person retries

REFUSED = (
    "it may have done its work, and its handler has no verify; find out, and if the work is to be done again, "
    "retry the job with even_if_acted=True"
)


async def failed_after_acting(queue: Queue, rig: Rig, what: str = "book") -> str:
    """A failed job that may have acted."""
    rig.sdk.script("call", OSError("the answer is lost"))
    receipt = await queue.submit("work", what)
    job = await ended(queue, receipt.job_id)
    assert (job.state, job.may_have_acted) == (State.FAILED, True)
    return receipt.job_id


@pytest.mark.parametrize("declared", [{"retry": NO_RETRY}, {"on_doubt": "fail"}], ids=["retry", "on_doubt"])
async def test_p12_a_retry_of_what_may_have_acted_is_refused_unless_a_person_insists(
    kind: HostKind, clock: MockClock, declared: dict[str, Any]
) -> None:
    rig = make_rig(kind, **declared)
    async with rig.open() as queue:
        job_id = await failed_after_acting(queue, rig)
        before = queue.get(job_id)
        with pytest.raises(JobMayHaveActed) as caught:
            await queue.retry(job_id)
        assert str(caught.value) == f"job {job_id} is failed: {REFUSED}"
        assert (caught.value.job_id, caught.value.state) == (job_id, "failed")
        assert queue.get(job_id) == before
        await queue.retry(job_id, even_if_acted=True)
        job = await ended(queue, job_id)
        assert (job.state, job.run, job.may_have_acted) == (State.COMPLETED, 2, False)
    assert rig.sdk.calls() == ["book", "book"]


async def test_p12_the_permission_of_a_person_is_for_one_run(kind: HostKind, clock: MockClock) -> None:
    rig = make_rig(kind, retry=NO_RETRY)
    async with rig.open() as queue:
        job_id = await failed_after_acting(queue, rig)
        rig.sdk.script("call", OSError("again"))
        await queue.retry(job_id, even_if_acted=True)
        assert (await ended(queue, job_id)).state is State.FAILED
        with pytest.raises(JobMayHaveActed):
            await queue.retry(job_id)
    assert rig.sdk.calls() == ["book", "book"]


async def test_p12_a_cancelled_job_that_may_have_acted_is_not_retried_unasked(kind: HostKind, clock: MockClock) -> None:
    rig = make_rig(kind, retry=Retry(1, waits=[60]))
    rig.sdk.script("call", OSError("the answer is lost"))
    async with rig.open() as queue:
        receipt = await queue.submit("work", "book")
        await until_state(queue, receipt.job_id, "retrying")
        await queue.cancel(receipt.job_id)
        with pytest.raises(JobMayHaveActed):
            await queue.retry(receipt.job_id)
    assert rig.sdk.calls() == ["book"]


async def test_p12_on_doubt_retry_permits_a_person_to_retry(kind: HostKind, clock: MockClock) -> None:
    rig = make_rig(kind, retry=NO_RETRY, on_doubt="retry")
    async with rig.open() as queue:
        job_id = await failed_after_acting(queue, rig)
        await queue.retry(job_id)
        assert (await ended(queue, job_id)).state is State.COMPLETED
    assert rig.sdk.calls() == ["book", "book"]


@pytest.mark.parametrize("insists", [False, True], ids=["asked", "insisted"])
@pytest.mark.parametrize(
    ("answer", "becomes", "calls"),
    [(Done("voucher"), ("completed", "verified"), 1), (NotDone(), ("completed", "returned"), 2)],
    ids=["done", "not done"],
)
async def test_p12_a_retry_by_a_person_asks_verify_before_anything_is_done_again(
    kind: HostKind, clock: MockClock, answer: Any, becomes: tuple[str, str], calls: int, insists: bool
) -> None:
    rig = make_rig(kind, verifies=True, on_doubt="fail")
    rig.sdk.script("verify", Unknown(), answer)
    async with rig.open() as queue:
        job_id = await failed_after_acting(queue, rig)
        await queue.pause()
        assert await queue.retry(job_id, even_if_acted=insists) == "in_doubt"
        job = queue.get(job_id)
        assert (job.state, job.reason, job.run, job.may_have_acted) == (State.IN_DOUBT, "retried", 2, True)
        await queue.resume()
        job = await ended(queue, job_id)
        assert ((str(job.state), job.reason), job.run, job.may_have_acted) == (becomes, 2, False)
    assert rig.sdk.calls() == ["book"] * calls


async def test_p12_a_retry_that_verify_cannot_decide_follows_on_doubt(kind: HostKind, clock: MockClock) -> None:
    rig = make_rig(kind, verifies=True, on_doubt="fail")
    rig.sdk.script("verify", Unknown(), Unknown())
    async with rig.open() as queue:
        job_id = await failed_after_acting(queue, rig)
        await queue.retry(job_id)
        job = await ended(queue, job_id)
        assert (job.state, job.reason, job.may_have_acted) == (State.FAILED, "on_doubt", True)
    assert rig.sdk.calls() == ["book"]


async def test_p12_a_retry_waits_for_the_rest_of_verify_delay(kind: HostKind, autojump_clock: MockClock) -> None:
    rig = make_rig(kind, verifies=True, on_doubt="fail", verify_delay=10)
    rig.sdk.script("verify", Unknown(), Done("voucher"))
    async with rig.open_jumping() as queue:
        job_id = await failed_after_acting(queue, rig)  # verify was called 10 s after the attempt
        began = trio.current_time()
        await queue.retry(job_id)
        await ended(queue, job_id)
        assert trio.current_time() - began < 1


async def test_p12_a_retry_that_waits_for_verify_survives_a_restart(kind: HostKind, clock: MockClock) -> None:
    rig, storage = make_rig(kind, verifies=True, on_doubt="fail"), CrashableStore()
    rig.sdk.script("verify", Unknown(), NotDone())
    async with rig.open(store=storage.store()) as queue:
        job_id = await failed_after_acting(queue, rig)
        await queue.pause()
        await queue.retry(job_id)
    async with rig.open(store=storage.store(), seed=2) as queue:
        await queue.resume()
        job = await ended(queue, job_id)
        assert (job.state, job.run, job.retries_used) == (State.COMPLETED, 2, 0)
    assert rig.sdk.calls() == ["book", "book"]


async def test_p12_in_bulk_what_may_have_acted_is_left_and_named(kind: HostKind, clock: MockClock) -> None:
    rig = make_rig(kind, retry=NO_RETRY)
    async with rig.open() as queue:
        acted = [await failed_after_acting(queue, rig, what) for what in "ab"]
        rig.sdk.script("call", Fail("nothing was done"))
        other = await queue.submit("work", "c")
        await ended(queue, other.job_id)
        assert await queue.retry_many(limit=1) == RetriedJobs((other.job_id,), (acted[0],), (acted[0],))
        await ended(queue, other.job_id)
        assert await queue.retry_many() == RetriedJobs((), tuple(acted), tuple(acted))
        assert {queue.get(job_id).run for job_id in acted} == {1}
        assert (await queue.retry_many(even_if_acted=True, limit=1)).retried == (acted[0],)
    assert rig.sdk.calls() == ["a", "b", "c", "c", "a"]


@pytest.mark.parametrize(("on_doubt", "state"), [("hold", State.IN_DOUBT), ("fail", State.FAILED)])
async def test_p12_a_wait_for_a_retry_ends_in_doubt_if_the_next_process_does_not_permit_it(
    on_doubt: Any, state: State, kind: HostKind, autojump_clock: MockClock
) -> None:
    storage = CrashableStore()
    before = make_rig(kind, retry=Retry(1, waits=[60]))
    before.sdk.script("call", OSError("the answer is lost"))
    async with before.open_jumping(store=storage.store()) as queue:
        receipt = await queue.submit("work", "book")
        await until_state(queue, receipt.job_id, "retrying")
    after = make_rig(kind, on_doubt=on_doubt)
    async with after.open_jumping(store=storage.store(), seed=2) as queue:
        job = await until_state(queue, receipt.job_id, state)
        assert job.may_have_acted
        assert job.reason == ("not_permitted" if on_doubt == "hold" else "on_doubt")
    assert after.sdk.calls() == []
