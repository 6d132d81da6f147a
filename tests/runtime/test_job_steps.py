"""job.step: what is done is not done again."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

import trio_jobs
from support.recording_sdk import RecordingSdk, RecordingThreadSdk, Wrong
from support.rig import open_queue, outcomes, until_state
from trio_jobs import (
    AsyncJobContext,
    Done,
    JobContext,
    MemoryStore,
    NotDone,
    Retry,
    RetryAfter,
    SdkCallRefused,
    Service,
    State,
    Unknown,
    UsageError,
)
from trio_jobs._runtime.queue import runtime_of
from trio_jobs.testing import Blocker

ONCE_MORE = Retry(1, waits=[0])


def async_service(sdk: RecordingSdk, **rules: Any) -> Service:
    """Its handler does the steps "a" and "b"; their results are the step's name and how often the SDK was called."""
    service = sdk.service()

    async def post(sdk: RecordingSdk, name: str, seconds: float = 0) -> list[Any]:
        return [await sdk.call(name, seconds), len(sdk.calls)]

    @service.handler(retry=ONCE_MORE, **rules)
    async def work(sdk: RecordingSdk, seconds: float, job: AsyncJobContext) -> list[Any]:
        return [await job.step("a", post, sdk, "a"), await job.step("b", post, sdk, "b", seconds)]

    return service


def plain_service(sdk: RecordingThreadSdk, **rules: Any) -> Service:
    service = Service(sdk=sdk.session)

    @service.handler(retry=ONCE_MORE, **rules)
    def work(sdk: RecordingThreadSdk, what: str, job: JobContext) -> list[str]:
        return [job.step(name, sdk.call, name) for name in "ab"]

    return service


# a retry goes on where the last attempt stopped


async def test_a_finished_step_of_an_async_handler_is_not_done_again(autojump_clock: MockClock) -> None:
    sdk = RecordingSdk()
    sdk.fails("b", RetryAfter(1))
    async with open_queue(async_service(sdk)) as queue:
        receipt = await queue.submit("work", 0)
        assert await queue.result(receipt.job_id) == [["a", 1], ["b", 3]]
        job = queue.get(receipt.job_id)
    assert sdk.calls == ["a", "b", "b"]
    assert (job.steps, job.open_step) == (("a", "b"), None)


async def test_a_finished_step_of_a_plain_handler_is_not_done_again() -> None:
    sdk = RecordingThreadSdk()
    sdk.does("b", RetryAfter(0))
    async with plain_service(sdk).open() as queue:
        assert await queue.result((await queue.submit("work", "x")).job_id) == ["a", "b"]
    assert sdk.calls == ["a", "b", "b"]


async def test_an_operator_s_retry_does_not_repeat_finished_steps(autojump_clock: MockClock) -> None:
    sdk = RecordingSdk()
    sdk.fails("b", trio_jobs.Fail())
    async with open_queue(async_service(sdk)) as queue:
        receipt = await queue.submit("work", 0)
        await until_state(queue, receipt.job_id, "failed")
        await queue.retry(receipt.job_id)
        await queue.result(receipt.job_id)
    assert sdk.calls == ["a", "b", "b"]


async def test_finished_steps_are_remembered_across_a_restart(autojump_clock: MockClock) -> None:
    sdk, store = RecordingSdk(), MemoryStore()
    sdk.fails("b", RetryAfter(100))
    service = async_service(sdk)
    with trio.move_on_after(5):
        async with open_queue(service, store=store) as queue:
            receipt = await queue.submit("work", 0)
            await trio.sleep_forever()
    async with open_queue(service, store=store) as queue:
        assert queue.get(receipt.job_id).steps == ("a",)
        assert await queue.result(receipt.job_id) == [["a", 1], ["b", 3]]
    assert sdk.calls == ["a", "b", "b"]


async def test_a_step_returns_its_result_as_json_gives_it_from_the_first_time_on(autojump_clock: MockClock) -> None:
    service = Service()
    seen = []

    async def pair() -> tuple[int, None]:
        return 1, None

    @service.handler
    async def work(what: str, job: AsyncJobContext) -> None:
        seen.append(await job.step("pair", pair))
        if job.attempt == 1:
            raise trio_jobs.RetryAfter(1)
        seen.append(job.steps)

    async with open_queue(service) as queue:
        await queue.result((await queue.submit(work, "x")).job_id)
    assert seen == [[1, None], [1, None], {"pair": [1, None]}]


# an open step


async def test_a_step_that_raised_leaves_its_job_in_doubt_without_verify(autojump_clock: MockClock) -> None:
    sdk = RecordingSdk()
    sdk.fails("b", Wrong())
    async with open_queue(async_service(sdk)) as queue:
        receipt = await queue.submit("work", 0)
        job = await until_state(queue, receipt.job_id, "in_doubt")
    assert (job.steps, job.open_step, job.reason) == (("a",), "b", "open_step")
    assert sdk.calls == ["a", "b"]


async def test_a_step_that_is_cut_off_is_open_and_verify_gets_its_name(autojump_clock: MockClock) -> None:
    sdk, asked = RecordingSdk(), []

    async def verify(sdk: RecordingSdk, job: AsyncJobContext) -> NotDone:
        asked.append((job.open_step, job.steps))
        return NotDone()

    async with open_queue(async_service(sdk, attempt_timeout=2, verify=verify)) as queue:
        receipt = await queue.submit("work", 5)
        await until_state(queue, receipt.job_id, "failed")
        job = queue.get(receipt.job_id)
    assert asked == [("b", {"a": ["a", 1]})] * 2
    assert sdk.calls == ["a", "b", "b"], "NotDone lets the open step be done again, and no other"
    assert outcomes(job) == ["timed_out", "timed_out"]


async def test_verify_of_a_plain_handler_sees_the_open_step() -> None:
    sdk, asked = RecordingThreadSdk(), []
    sdk.does("b", Wrong())

    def verify(sdk: RecordingThreadSdk, job: JobContext) -> NotDone:
        asked.append((job.open_step, job.steps))
        return NotDone()

    async with plain_service(sdk, verify=verify).open() as queue:
        assert await queue.result((await queue.submit("work", "x")).job_id) == ["a", "b"]
    assert asked == [("b", {"a": "a"})]
    assert sdk.calls == ["a", "b", "b"]


async def test_a_job_that_verify_calls_done_ends_with_its_open_step(autojump_clock: MockClock) -> None:
    sdk = RecordingSdk()
    sdk.fails("b", Wrong())

    async def verify(sdk: RecordingSdk, job: AsyncJobContext) -> Done:
        return Done([job.open_step])

    async with open_queue(async_service(sdk, verify=verify)) as queue:
        receipt = await queue.submit("work", 0)
        assert await queue.result(receipt.job_id) == ["b"]
        assert queue.get(receipt.job_id).reason == "verified"


async def test_an_operator_s_not_done_lets_the_open_step_run_again(autojump_clock: MockClock) -> None:
    sdk = RecordingSdk()
    sdk.fails("b", Wrong())
    async with open_queue(async_service(sdk)) as queue:
        receipt = await queue.submit("work", 0)
        await until_state(queue, receipt.job_id, "in_doubt")
        await queue.resolve(receipt.job_id, "not_done")
        await queue.result(receipt.job_id)
    assert sdk.calls == ["a", "b", "b"]


async def test_a_verify_that_returns_unknown_keeps_the_step_open(autojump_clock: MockClock) -> None:
    sdk = RecordingSdk()
    sdk.fails("b", Wrong())

    async def verify(sdk: RecordingSdk, job: AsyncJobContext) -> Unknown:
        return Unknown()

    async with open_queue(async_service(sdk, verify=verify)) as queue:
        receipt = await queue.submit("work", 0)
        job = await until_state(queue, receipt.job_id, "in_doubt")
        assert job.open_step == "b"


async def test_a_stop_in_a_step_leaves_it_open_in_the_store(autojump_clock: MockClock) -> None:
    sdk, store, asked = RecordingSdk(), MemoryStore(), []

    async def verify(sdk: RecordingSdk, job: AsyncJobContext) -> Done:
        asked.append(job.open_step)
        return Done("ok")

    service = async_service(sdk, verify=verify)
    with trio.move_on_after(1):
        async with open_queue(service, store=store) as queue:
            receipt = await queue.submit("work", 50)
            await trio.sleep_forever()
    async with open_queue(service, store=store) as queue:
        assert await queue.result(receipt.job_id) == "ok"
    assert asked == ["b"]


async def test_a_handler_that_vouches_closes_its_open_step(autojump_clock: MockClock) -> None:
    sdk = RecordingSdk()
    sdk.fails("b", RetryAfter(1))
    async with open_queue(async_service(sdk)) as queue:
        receipt = await queue.submit("work", 0)
        job = await until_state(queue, receipt.job_id, "retrying")
        assert job.open_step is None


# what cannot be a step


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("", 1, "a step's name is a text of 1 to 200 characters"),
        ("x" * 201, 1, "a step's name is a text of 1 to 200 characters"),
        (7, 1, "a step's name is a text of 1 to 200 characters"),
        ("step", object(), "the result of step 'step' cannot be kept: not JSON"),
        ("step", "x" * 2_000_000, "the result of step 'step' cannot be kept: it is 2000002 bytes"),
    ],
    ids=["empty", "long", "number", "not json", "large"],
)
async def test_a_step_result_that_cannot_be_kept_raises_with_the_reason(
    name: Any, value: Any, says: str, autojump_clock: MockClock
) -> None:
    service, said = Service(), list[str]()

    async def give() -> Any:
        return value

    @service.handler
    async def work(what: str, job: AsyncJobContext) -> None:
        try:
            await job.step(name, give)
        except UsageError as error:
            said.append(str(error))

    async with open_queue(service) as queue:
        await queue.result((await queue.submit(work, "x")).job_id)
    assert len(said) == 1
    assert says in said[0]


async def test_a_step_whose_result_cannot_be_kept_is_open(autojump_clock: MockClock) -> None:
    service = Service()

    async def give() -> Any:
        return object()

    @service.handler
    async def work(what: str, job: AsyncJobContext) -> None:
        await job.step("odd", give)

    async with open_queue(service) as queue:
        receipt = await queue.submit(work, "x")
        job = await until_state(queue, receipt.job_id, "in_doubt")
        assert job.open_step == "odd"


async def test_a_job_has_at_most_a_thousand_steps(autojump_clock: MockClock) -> None:
    service = Service()

    async def nothing() -> None:
        pass

    @service.handler(retry=Retry(0))
    async def work(what: str, job: AsyncJobContext) -> None:
        for n in range(1001):
            await job.step(str(n), nothing)

    async with open_queue(service) as queue:
        receipt = await queue.submit(work, "x")
        with pytest.raises(trio_jobs.JobFailed, match="at most 1000 steps"):
            await queue.result(receipt.job_id)
        assert len(queue.get(receipt.job_id).steps or ()) == 1000


# after the end


async def test_a_step_is_refused_when_the_attempt_is_over(autojump_clock: MockClock) -> None:
    service, kept, done = Service(), list[AsyncJobContext](), list[str]()

    async def act() -> None:
        done.append("may_have_acted")

    @service.handler
    async def work(what: str, job: AsyncJobContext) -> None:
        kept.append(job)

    async with open_queue(service) as queue:
        receipt = await queue.submit(work, "x")
        await queue.result(receipt.job_id)
        await wait_all_tasks_blocked()
        with pytest.raises(SdkCallRefused):
            await kept[0].step("late", act)
        assert queue.get(receipt.job_id).steps == ()
    assert done == []


async def test_a_step_after_the_limit_of_a_plain_handler_is_refused_and_the_limit_ended_it(
    mock_clock: MockClock,
) -> None:
    sdk, hold = RecordingThreadSdk(), Blocker()
    sdk.does("a", hold)
    async with open_queue(plain_service(sdk, attempt_timeout=10)) as queue:
        receipt = await queue.submit("work", "x")
        await hold.reached()
        await wait_all_tasks_blocked()
        mock_clock.jump(11)
        hold.release()
        with pytest.raises(trio_jobs.JobInDoubt):
            await queue.result(receipt.job_id, in_doubt="raise")
        job = queue.get(receipt.job_id)
        await queue.resolve(receipt.job_id, "failed")
    assert sdk.calls == ["a"], "the second step was not begun"
    assert job.steps == ("a",), "the first was done, and that is kept"
    [attempt] = job.attempts or ()
    assert (attempt.outcome, attempt.ended_by) == ("timed_out", "attempt_timeout")


async def test_a_step_that_ends_after_its_job_was_resolved_is_not_recorded(mock_clock: MockClock) -> None:
    sdk, hold = RecordingThreadSdk(), Blocker()
    sdk.does("a", hold)
    async with open_queue(plain_service(sdk, attempt_timeout=10, stuck_after=5)) as queue:
        receipt = await queue.submit("work", "x")
        await hold.reached()
        await wait_all_tasks_blocked()
        mock_clock.jump(10)
        await wait_all_tasks_blocked()
        mock_clock.jump(5)
        with pytest.raises(trio_jobs.JobInDoubt):
            await queue.result(receipt.job_id, in_doubt="raise")
        job = queue.get(receipt.job_id)
        assert job.inside
        await queue.resolve(receipt.job_id, "failed")
        hold.release()
        await runtime_of(queue).slot.wait_empty()
        assert queue.get(receipt.job_id).state is State.FAILED
        assert queue.get(receipt.job_id).steps == ()
    assert sdk.calls == ["a"]


async def test_a_handler_can_read_its_job_the_deadline_and_a_cancel_request(autojump_clock: MockClock) -> None:
    service, seen = Service(), list[Any]()

    @service.handler
    async def work(what: str, job: AsyncJobContext) -> None:
        seen.append((job.id, job.kind, job.key, job.attempt, job.run, job.cancel_requested))
        seen.append(job.deadline)
        try:
            await trio.sleep_forever()
        finally:
            seen.append(job.cancel_requested)

    async with open_queue(service) as queue:
        receipt = await queue.submit(work, "x", key="k", deadline_after=50)
        await wait_all_tasks_blocked()
        assert await queue.cancel(receipt.job_id) == "requested"
        await until_state(queue, receipt.job_id, "cancelled")
        deadline = queue.get(receipt.job_id).deadline_at
    assert seen == [(receipt.job_id, "work", "k", 1, 1, False), deadline, True]


async def test_a_long_call_of_a_plain_handler_can_see_a_cancel_request() -> None:
    sdk, hold, seen = RecordingThreadSdk(), Blocker(), list[bool]()
    sdk.does("held", hold)
    service = Service(sdk=sdk.session)

    @service.handler(on_doubt="hold")
    def work(sdk: RecordingThreadSdk, what: str, job: JobContext) -> None:
        seen.append(job.cancel_requested)
        sdk.call(what)
        seen.append(job.cancel_requested)

    async with service.open() as queue:
        receipt = await queue.submit(work, "held")
        await hold.reached()
        await queue.cancel(receipt.job_id)
        hold.release()
        await queue.result(receipt.job_id)
    assert seen == [False, True]
