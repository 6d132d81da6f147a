"""strict_order: while the job at the head is retrying, snoozed or in doubt, nobody passes it."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from test_restart import as_after_a_crash, crashed_while_held
from trio.testing import MockClock, wait_all_tasks_blocked

import trio_jobs
from support.rig import NO_RETRY, Rig, ended, make_rig, until_state
from trio_jobs import Done, MemoryStore, NotDone, Snooze, State, Unknown
from trio_jobs.testing import Blocker


def strict(**rules: Any) -> Rig:
    return make_rig("trio", settings={"strict_order": True, "drain_timeout": 1000}, **rules)


@pytest.mark.parametrize("fault", [ValueError(), Snooze(5), trio_jobs.RetryAfter(5)], ids=repr)
async def test_no_job_passes_one_that_is_retrying(fault: Exception, autojump_clock: MockClock) -> None:
    rig = strict()
    rig.sdk.script("call", fault, fault)
    async with rig.open() as queue:
        for what in "abc":
            await queue.submit("work", what)
    assert rig.sdk.calls() == ["a", "a", "a", "b", "c"]


async def test_no_job_passes_one_in_doubt_until_it_is_resolved(autojump_clock: MockClock) -> None:
    rig = strict(attempt_timeout=5)
    rig.sdk.script("call", Blocker())
    async with rig.open() as queue:
        doubt = await queue.submit("work", "a")
        other = await queue.submit("work", "b")
        await trio.sleep(100)
        assert queue.get(doubt.job_id).state is State.IN_DOUBT
        assert queue.get(other.job_id).state is State.PENDING
        await queue.resolve(doubt.job_id, "not_done")
        await queue.result(other.job_id)
    assert rig.sdk.calls() == ["a", "a", "b"]


async def test_cancelling_a_blocking_job_lets_the_others_pass(autojump_clock: MockClock) -> None:
    rig = strict()
    rig.sdk.script("call", Snooze(1000))
    async with rig.open() as queue:
        held = await queue.submit("work", "a")
        await queue.submit("work", "b")
        await until_state(queue, held.job_id, "scheduled")
        await trio.sleep(10)
        assert await queue.cancel(held.job_id) == "cancelled"
        await wait_all_tasks_blocked()
        assert rig.sdk.calls() == ["a", "b"]


async def test_a_blocking_job_cancelled_as_it_becomes_due_does_no_harm(autojump_clock: MockClock) -> None:
    rig = strict()
    rig.sdk.script("call", Snooze(10))
    async with rig.open() as queue:
        held = await queue.submit("work", "a")
        await queue.submit("work", "b")
        await until_state(queue, held.job_id, "scheduled")
        await trio.sleep(10)
        assert await queue.cancel(held.job_id) in ("cancelled", "requested", "too_late")


async def test_a_blocking_job_expires_at_its_deadline(autojump_clock: MockClock) -> None:
    rig = strict()
    rig.sdk.script("call", Snooze(1000))
    async with rig.open() as queue:
        held = await queue.submit("work", "a", deadline_after=50)
        other = await queue.submit("work", "b")
        await queue.result(other.job_id)
        assert queue.get(held.job_id).reason == "expired"


@pytest.mark.parametrize("verify_delay", [0, 7])
@pytest.mark.parametrize("answer", [Done("found"), NotDone(), Unknown()], ids=repr)
async def test_verify_resolves_an_in_doubt_job_before_another_starts(
    answer: Any, verify_delay: float, autojump_clock: MockClock
) -> None:
    rig = strict(verifies=True, attempt_timeout=5, verify_delay=verify_delay, on_doubt="retry")
    rig.sdk.script("call", Blocker())
    rig.sdk.script("verify", answer)
    async with rig.open() as queue:
        for what in "ab":
            await queue.submit("work", what)
    assert rig.sdk.calls() == (["a", "b"] if isinstance(answer, Done) else ["a", "a", "b"])
    assert queue.report is not None
    assert queue.report.unfinished == ()


async def test_a_blocking_job_blocks_after_a_restart(autojump_clock: MockClock) -> None:
    rig = strict()
    rig.sdk.script("call", Snooze(100))
    store = MemoryStore()
    with trio.move_on_after(10):
        async with rig.open(store=store) as queue:
            for what in "ab":
                await queue.submit("work", what)
            await trio.sleep_forever()
    began = trio.current_time()
    async with rig.open(store=store):
        pass
    assert rig.sdk.calls() == ["a", "a", "b"]
    assert trio.current_time() - began == 90


async def test_a_crashed_job_is_verified_before_another_starts(autojump_clock: MockClock) -> None:
    rig = strict(verifies=True)
    store, held = await crashed_while_held(rig, "a")
    rig.sdk.script("verify", NotDone())
    async with rig.open(store=store) as queue:
        await ended(queue, held)
    assert [(step.operation, step.what) for step in rig.sdk.steps] == [
        ("open", "open"), ("verify", "work"), ("call", "held"), ("call", "a"), ("close", "close"),
    ]  # fmt: skip


async def test_a_crashed_job_without_verify_blocks_the_queue(autojump_clock: MockClock) -> None:
    rig = strict(retry=NO_RETRY)
    store, held = await crashed_while_held(rig, "a")
    store = await as_after_a_crash(store)
    async with rig.open(store=store) as queue:
        await trio.sleep(100)
        assert rig.sdk.calls() == []
        await queue.resolve(held, "done")
        await queue.drain()
    assert rig.sdk.calls() == ["a"]
