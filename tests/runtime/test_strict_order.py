"""strict_order: nobody passes the job at the head of the line. Proven by the SDK's own record of its calls."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

import trio_jobs
from support.recording_sdk import RecordingSdk, Wrong
from support.rig import open_queue, outcomes, until_state
from trio_jobs import Done, MemoryStore, NotDone, Queue, Retry, RetryAfter, Service, Snooze, State, TrioClock, Unknown


def strict_service(sdk: RecordingSdk, **settings: Any) -> Service:
    """Kinds: "work"; "doubtful", which is cut off after 2 seconds; "asked", the same with a verify that answers what
    `sdk.script["verify"]` holds."""
    service = sdk.service(strict_order=True, **settings)

    @service.handler(retry=Retry(3, waits=[10]))
    async def work(sdk: RecordingSdk, what: str) -> str:
        return await sdk.call(what, 1)

    @service.handler(attempt_timeout=2, retry=Retry(3, waits=[10]))
    async def doubtful(sdk: RecordingSdk, what: str) -> str:
        return await sdk.call(what, 3)

    return service


async def submit_all(queue: Queue, *whats: str) -> list[str]:
    return [(await queue.submit("work", what)).job_id for what in whats]


async def test_jobs_run_in_the_order_of_their_submits(autojump_clock: MockClock) -> None:
    sdk = RecordingSdk()
    async with open_queue(strict_service(sdk)) as queue:
        await submit_all(queue, "a", "b", "c")
    assert sdk.calls == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("errors", "times"),
    [
        ([Wrong(), Wrong()], [0, 11, 22]),
        ([Snooze(5), Snooze(7)], [0, 6, 14]),
        ([RetryAfter(0.5), Wrong()], [0, 1.5, 12.5]),
    ],
    ids=["retrying", "snoozed", "mixed"],
)
async def test_no_job_passes_one_that_is_retrying_or_snoozed(
    errors: list[Exception], times: list[float], autojump_clock: MockClock
) -> None:
    sdk = RecordingSdk()
    sdk.fails("a", *errors)
    async with open_queue(strict_service(sdk)) as queue:
        ids = await submit_all(queue, "a", "b", "c")
        for job_id in ids:
            await queue.result(job_id)
    assert sdk.calls == ["a", "a", "a", "b", "c"]
    assert [at for at, what in sdk.record if what == "a"] == times


async def test_without_strict_order_other_jobs_pass(autojump_clock: MockClock) -> None:
    sdk = RecordingSdk()
    sdk.fails("a", Wrong())
    service = sdk.service()

    @service.handler(retry=Retry(1, waits=[10]))
    async def work(sdk: RecordingSdk, what: str) -> str:
        return await sdk.call(what)

    async with open_queue(service) as queue:
        await submit_all(queue, "a", "b")
    assert sdk.calls == ["a", "b", "a"]


async def test_no_job_passes_one_in_doubt(autojump_clock: MockClock) -> None:
    sdk = RecordingSdk()
    async with open_queue(strict_service(sdk, drain_timeout=0)) as queue:
        doubtful = await queue.submit("doubtful", "a")
        await submit_all(queue, "b", "c")
        await until_state(queue, doubtful.job_id, "in_doubt")
        await trio.sleep(1000)
        assert sdk.calls == ["a"]


Release = Callable[[Queue, str], Awaitable[Any]]


@pytest.mark.parametrize(
    ("release", "state", "calls"),
    [
        (lambda queue, job: queue.resolve(job, "done"), "completed", ["a", "b"]),
        (lambda queue, job: queue.resolve(job, "failed"), "failed", ["a", "b"]),
        (lambda queue, job: queue.resolve(job, "not_done"), "in_doubt", ["a", "a"]),
    ],
    ids=["done", "failed", "not_done"],
)
async def test_resolving_the_first_job_starts_the_next_at_once(
    release: Release, state: str, calls: list[str], autojump_clock: MockClock
) -> None:
    sdk = RecordingSdk()
    async with open_queue(strict_service(sdk, drain_timeout=0)) as queue:
        doubtful = await queue.submit("doubtful", "a")
        await submit_all(queue, "b")
        await trio.sleep(50)
        await release(queue, doubtful.job_id)
        await wait_all_tasks_blocked()
        assert sdk.record[-1][0] == 50
        await trio.sleep(5)
        assert queue.get(doubtful.job_id).state == state
    assert sdk.calls == calls


@pytest.mark.parametrize("error", [Wrong(), Snooze(100)], ids=["retrying", "snoozed"])
async def test_cancelling_the_first_job_starts_the_next_at_once(error: Exception, autojump_clock: MockClock) -> None:
    sdk = RecordingSdk()
    sdk.fails("a", error)
    async with open_queue(strict_service(sdk)) as queue:
        ids = await submit_all(queue, "a", "b")
        await trio.sleep(2)
        assert sdk.calls == ["a"]
        await queue.cancel(ids[0])
        await queue.result(ids[1])
        assert sdk.record[-1] == (2, "b")


@pytest.mark.parametrize("error", [Wrong(), Snooze(100)], ids=["retrying", "snoozed"])
async def test_the_next_job_starts_when_the_first_expires(error: Exception, autojump_clock: MockClock) -> None:
    sdk = RecordingSdk()
    sdk.fails("a", error)
    async with open_queue(strict_service(sdk)) as queue:
        first = await queue.submit("work", "a", deadline_after=4)
        second = await queue.submit("work", "b")
        await queue.result(second.job_id)
        assert queue.get(first.job_id).reason == "expired"
    assert (4, "b") in sdk.record


async def test_a_scheduled_job_is_passed_since_it_was_never_first(autojump_clock: MockClock) -> None:
    sdk = RecordingSdk()
    async with open_queue(strict_service(sdk)) as queue:
        later = await queue.submit("work", "later", delay=5)
        await submit_all(queue, "a", "b")
        await queue.result(later.job_id)
    assert sdk.calls == ["a", "b", "later"]


async def test_a_job_retried_by_an_operator_joins_the_end(autojump_clock: MockClock) -> None:
    sdk = RecordingSdk()
    sdk.fails("a", trio_jobs.Fail())
    async with open_queue(strict_service(sdk)) as queue:
        ids = await submit_all(queue, "a", "b", "c")
        await until_state(queue, ids[0], "failed")
        await queue.retry(ids[0])
    assert sdk.calls == ["a", "b", "c", "a"]


# verify


def make_asked(sdk: RecordingSdk, *answers: Any, verify_delay: float = 0, **settings: Any) -> Service:
    """A service with a kind "asked", cut off after 2 seconds, whose verify gives these answers one after another."""
    left = list(answers)
    service = strict_service(sdk, **settings)

    async def verify(sdk: RecordingSdk, job: trio_jobs.AsyncJobContext) -> Any:
        await sdk.call("verify")
        return left.pop(0)

    @service.handler(attempt_timeout=2, retry=Retry(3, waits=[10]), verify=verify, verify_delay=verify_delay)
    async def asked(sdk: RecordingSdk, what: str) -> str:
        return await sdk.call(what, 1 if sdk.calls.count(what) else 3)

    return service


@pytest.mark.parametrize("verify_delay", [0, 20])
async def test_verify_is_asked_before_the_next_job_starts(verify_delay: float, autojump_clock: MockClock) -> None:
    sdk = RecordingSdk()
    async with open_queue(make_asked(sdk, NotDone(), verify_delay=verify_delay)) as queue:
        first = await queue.submit("asked", "a")
        await submit_all(queue, "b")
        await queue.result(first.job_id)
    assert sdk.record[1:-1] == [
        (0, "a"),
        (2, "close"),
        (2 + verify_delay, "open"),
        (2 + verify_delay, "verify"),
        (12 + verify_delay, "a"),
        (13 + verify_delay, "b"),
    ]


@pytest.mark.parametrize("verify_delay", [0, 20])
async def test_a_job_that_verify_calls_done_is_not_repeated(verify_delay: float, autojump_clock: MockClock) -> None:
    sdk = RecordingSdk()
    async with open_queue(make_asked(sdk, Done(7), verify_delay=verify_delay)) as queue:
        first = await queue.submit("asked", "a")
        await submit_all(queue, "b")
        assert await queue.result(first.job_id) == 7
    assert sdk.calls == ["a", "verify", "b"]


@pytest.mark.parametrize("verify_delay", [0, 20])
async def test_a_verify_that_returns_unknown_blocks_the_queue(verify_delay: float, autojump_clock: MockClock) -> None:
    sdk = RecordingSdk()
    service = make_asked(sdk, Unknown(), verify_delay=verify_delay, drain_timeout=0)
    async with open_queue(service) as queue:
        first = await queue.submit("asked", "a")
        await submit_all(queue, "b")
        await trio.sleep(1000)
        assert queue.get(first.job_id).state is State.IN_DOUBT
        assert sdk.calls == ["a", "verify"]
        await queue.resolve(first.job_id, "done")
        await trio.sleep(1)
    assert sdk.calls == ["a", "verify", "b"]


@pytest.mark.parametrize(
    ("resolution", "calls"),
    [("done", ["a", "b"]), ("failed", ["a", "b"]), ("not_done", ["a", "a", "b"])],
)
async def test_a_resolve_during_the_verify_delay_acts_at_once(
    resolution: Any, calls: list[str], autojump_clock: MockClock
) -> None:
    sdk = RecordingSdk()
    async with open_queue(make_asked(sdk, verify_delay=100)) as queue:
        first = await queue.submit("asked", "a")
        await submit_all(queue, "b")
        await trio.sleep(5)
        await queue.resolve(first.job_id, resolution)
        await wait_all_tasks_blocked()
        assert sdk.record[-1][0] == 5
    assert sdk.calls == calls
    assert outcomes(queue.get(first.job_id))[0] == "timed_out"


async def test_a_verify_waits_for_the_end_of_a_pause(autojump_clock: MockClock) -> None:
    sdk = RecordingSdk()
    async with open_queue(make_asked(sdk, Done())) as queue:
        first = await queue.submit("asked", "a")
        await wait_all_tasks_blocked()
        await queue.pause()
        await trio.sleep(50)
        assert queue.get(first.job_id).state is State.IN_DOUBT
        await queue.resume()
        await queue.result(first.job_id)
    assert (50, "verify") in sdk.record


# restart


@pytest.mark.parametrize("error", [Wrong(), Snooze(30)], ids=["retrying", "snoozed"])
async def test_after_a_restart_no_job_passes_one_that_is_retrying_or_snoozed(
    error: Exception, autojump_clock: MockClock
) -> None:
    sdk, store = RecordingSdk(), MemoryStore()
    sdk.fails("a", error)
    service = strict_service(sdk, drain_timeout=0)
    async with open_queue(service, store=store) as queue:
        await submit_all(queue, "a", "b", "c")
        await trio.sleep(5)
    async with open_queue(service, store=store) as queue:
        await submit_all(queue, "d")
        await trio.sleep(100)
    assert sdk.calls == ["a", "a", "b", "c", "d"]


async def test_a_restart_keeps_the_order_of_the_queue(autojump_clock: MockClock) -> None:
    sdk, store = RecordingSdk(), MemoryStore()
    service = strict_service(sdk, drain_timeout=0, cancel_timeout=0)
    names = [str(n) for n in range(20)]
    async with open_queue(service, store=store) as queue:
        await queue.pause()
        await submit_all(queue, *names)
    for _ in range(3):
        async with open_queue(service, store=store) as queue:
            pass
    async with open_queue(service, store=store) as queue:
        await queue.resume()
        await trio.sleep(100)
    assert sdk.calls == names


async def test_after_a_restart_a_job_retried_by_an_operator_does_not_pass_the_first(
    autojump_clock: MockClock,
) -> None:
    """It was submitted first, and has been tried, as the one at the head has."""
    sdk, store = RecordingSdk(), MemoryStore()
    sdk.fails("a", trio_jobs.Fail())
    sdk.fails("b", Snooze(30))
    service = strict_service(sdk, drain_timeout=0)
    async with open_queue(service, store=store) as queue:
        first, _ = await submit_all(queue, "a", "b")
        await until_state(queue, first, "failed")
        await queue.retry(first)
        await trio.sleep(5)
    assert sdk.calls == ["a", "b"]
    async with open_queue(service, store=store) as queue:
        await trio.sleep(100)
    assert sdk.calls == ["a", "b", "b", "a"]


async def test_after_a_restart_no_job_passes_one_in_doubt(autojump_clock: MockClock) -> None:
    sdk, store = RecordingSdk(), MemoryStore()
    service = strict_service(sdk, drain_timeout=0)
    async with open_queue(service, store=store) as queue:
        first = await queue.submit("doubtful", "a")
        await submit_all(queue, "b")
        await trio.sleep(5)
    async with open_queue(service, store=store) as queue:
        await trio.sleep(100)
        assert sdk.calls == ["a"]
        await queue.resolve(first.job_id, "done")
        await trio.sleep(5)
    assert sdk.calls == ["a", "b"]


@pytest.mark.parametrize("verify_delay", [0, 20])
async def test_after_a_restart_verify_is_asked_before_any_job_starts(
    verify_delay: float, autojump_clock: MockClock
) -> None:
    """The stop cut the attempt off; only the next start can ask."""
    sdk, store = RecordingSdk(), MemoryStore()
    service = make_asked(sdk, NotDone(), verify_delay=verify_delay, drain_timeout=0)
    async with open_queue(service, store=store) as queue:
        first = await queue.submit("asked", "a")
        await submit_all(queue, "b")
        await trio.sleep(1)
    assert queue.get(first.job_id).state is State.IN_DOUBT
    async with open_queue(service, store=store) as queue:
        await queue.result(first.job_id)
        await trio.sleep(5)
    assert sdk.calls == ["a", "verify", "a", "b"]


async def test_after_a_restart_several_retrying_jobs_continue_in_order(autojump_clock: MockClock) -> None:
    """They were put off by a service that let others pass; the one that is strict takes them one by one."""
    sdk, store = RecordingSdk(), MemoryStore()
    for name in "abc":
        sdk.fails(name, Snooze(5))

    def service(*, strict: bool) -> Service:
        made = sdk.service(strict_order=strict, drain_timeout=0)

        @made.handler(on_doubt="hold")
        async def work(sdk: RecordingSdk, what: str) -> str:
            return await sdk.call(what)

        return made

    async with open_queue(service(strict=False), store=store) as queue:
        await submit_all(queue, "a", "b", "c")
        await trio.sleep(1)
    sdk.record.clear()
    async with open_queue(service(strict=True), store=store) as queue:
        await submit_all(queue, "d")
        await trio.sleep(100)
    assert sdk.calls == ["a", "b", "c", "d"]


async def test_after_a_restart_more_jobs_than_slots_come_before_every_new_one(
    autojump_clock: MockClock,
) -> None:
    sdk, store = RecordingSdk(), MemoryStore()
    old, new = list("abcdefgh"), list("uvwxyz")

    def service(buffer: int) -> Service:
        made = sdk.service(strict_order=True, drain_timeout=0, buffer=buffer)

        @made.handler(on_doubt="hold")
        async def work(sdk: RecordingSdk, what: str) -> str:
            return await sdk.call(what)

        return made

    async with open_queue(service(10), store=store) as queue:
        await queue.pause()
        await submit_all(queue, *old)
    sdk.record.clear()
    async with open_queue(service(2), store=store, seed=2) as queue, trio.open_nursery() as nursery:
        for name in new:
            nursery.start_soon(queue.submit, "work", name)
            await wait_all_tasks_blocked()
        await queue.resume()
        await trio.sleep(1000)
    assert sdk.calls[: len(old)] == old
    assert sorted(sdk.calls[len(old) :]) == new  # these were submitted side by side


# health


async def test_health_names_the_job_that_blocks_the_queue_and_since_when(autojump_clock: MockClock) -> None:
    sdk = RecordingSdk()
    sdk.fails("a", Snooze(30))
    async with open_queue(strict_service(sdk)) as queue:
        assert queue.health().held_by is None
        [first] = await submit_all(queue, "a")
        await trio.sleep(10)
        health = queue.health()
        assert health.held_by == first
        assert health.held_since == datetime.fromtimestamp(TrioClock().epoch + 1, UTC)
        assert health.ok
        await queue.result(first)
        await wait_all_tasks_blocked()
        assert (queue.health().held_by, queue.health().held_since) == (None, None)
        [second] = await submit_all(queue, "b")
        await trio.sleep(0.5)
        assert queue.get(second).state is State.PROCESSING
        assert queue.health().held_by is None, "it is its turn, and holds nobody up who could go on"
