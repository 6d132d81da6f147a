"""P12: nothing that may have acted runs again without a declaration of its handler, or a decision of a person."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from support.rig import HostKind, ended, make_rig, outcomes, until_state
from trio_jobs import Done, NotDone, Retry, State, Unknown
from trio_jobs.testing import Blocker

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


async def test_p12_a_timeout_is_not_repeated_by_retry(autojump_clock: MockClock) -> None:
    rig = make_rig("trio", retry=Retry(), attempt_timeout=1)
    hold = Blocker()
    rig.sdk.script("call", hold)
    async with rig.open() as queue:
        receipt = await queue.submit("work", "book")
        job = await until_state(queue, receipt.job_id, "in_doubt")
        assert outcomes(job) == ["timed_out"]
    assert rig.sdk.calls() == ["book"]


async def test_p12_on_doubt_retry_repeats_an_attempt_that_raised(autojump_clock: MockClock) -> None:
    rig = make_rig("trio", on_doubt="retry")
    rig.sdk.script("call", OSError("the answer is lost"))
    async with rig.open() as queue:
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


async def test_p12_verify_alone_has_the_default_policy(autojump_clock: MockClock) -> None:
    rig = make_rig("trio", verifies=True, settings={"renew_after_error": False})
    rig.sdk.script("call", *(OSError("nothing was done") for _ in range(4)))
    rig.sdk.script("verify", *(NotDone() for _ in range(4)))
    async with rig.open() as queue:
        receipt = await queue.submit("work", "book")
        job = await ended(queue, receipt.job_id)
        starts = [attempt.started_at for attempt in job.attempts or ()]
        assert [(after - before).total_seconds() for before, after in pairwise(starts)] == [1, 2, 4]
        assert (job.state, job.reason, job.may_have_acted) == (State.FAILED, "not_done", False)
