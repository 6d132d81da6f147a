"""Steps and progress: what a handler may ask of its job."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

import trio_jobs
from support.rig import NO_RETRY, ended, pass_time, service_for, until_state
from trio_jobs import AsyncJobContext, JobContext, Progress, Retry, SdkHandle, State
from trio_jobs._runtime.queue import runtime_of
from trio_jobs.testing import Blocker, FakeSdk, FakeSession


async def test_a_finished_step_is_not_done_again(mock_clock: MockClock) -> None:
    sdk = FakeSdk()
    sdk.script("call", {"voucher": 7}, ValueError("the mail was refused"))
    service = service_for(sdk, "thread")

    @service.handler(retry=Retry(1, waits=[0]))
    def work(session: FakeSession, what: str, job: JobContext) -> Any:
        voucher = job.step("book", session.call, "book")
        assert job.steps == {"book": {"voucher": 7}}
        session.call("mail")
        return voucher

    async with service.open(clock=trio_jobs.TrioClock()) as queue:
        receipt = await queue.submit(work, "a")
        assert await queue.result(receipt.job_id) == {"voucher": 7}
    assert sdk.calls() == ["book", "mail", "mail"]
    assert queue.get(receipt.job_id).steps == ("book",)


async def test_a_finished_step_of_an_async_handler_is_not_done_again(mock_clock: MockClock) -> None:
    sdk = FakeSdk()
    sdk.script("call", "voucher", ValueError())
    service = service_for(sdk, "thread")

    @service.handler(retry=Retry(1, waits=[0]))
    async def work(handle: SdkHandle, what: str, job: AsyncJobContext) -> Any:
        voucher = await job.step("book", handle.call, FakeSession.call, "book")
        await handle.call(FakeSession.call, "mail")
        return voucher

    async with service.open(clock=trio_jobs.TrioClock()) as queue:
        assert await queue.result((await queue.submit(work, "a")).job_id) == "voucher"
    assert sdk.calls() == ["book", "mail", "mail"]


async def test_verify_gets_the_name_of_a_step_that_did_not_end(mock_clock: MockClock) -> None:
    sdk = FakeSdk()
    sdk.script("call", ValueError("booked, then raised"))
    service = service_for(sdk, "thread")
    asked: list[str | None] = []

    def verify(session: FakeSession, job: JobContext) -> Any:
        asked.append(job.open_step)
        return trio_jobs.Done("found")

    @service.handler(verify=verify)
    def work(session: FakeSession, what: str, job: JobContext) -> None:
        job.step("book", session.call, "book")

    async with service.open(clock=trio_jobs.TrioClock()) as queue:
        assert await queue.result((await queue.submit(work, "a")).job_id) == "found"
    assert asked == ["book"]


async def test_a_job_with_an_unfinished_step_is_in_doubt_without_verify(mock_clock: MockClock) -> None:
    sdk = FakeSdk()
    sdk.script("call", ValueError())
    service = service_for(sdk, "thread")

    @service.handler(retry=Retry())
    def work(session: FakeSession, what: str, job: JobContext) -> None:
        job.step("book", session.call, "book")

    async with service.open(clock=trio_jobs.TrioClock()) as queue:
        receipt = await queue.submit(work, "a")
        job = await until_state(queue, receipt.job_id, "in_doubt")
    assert job.open_step == "book"
    assert job.reason == "open_step"


@pytest.mark.parametrize(
    ("name", "result", "message"),
    [
        ("", 1, "a step's name is a text of 1 to 200 characters, not ''"),
        ("x" * 201, 1, f"a step's name is a text of 1 to 200 characters, not '{'x' * 99}"),
        ("book", object(), "the result of step 'book' cannot be kept: not JSON"),
    ],
    ids=["no name", "a long name", "no json"],
)
async def test_an_invalid_step_is_refused(name: str, result: Any, message: str, mock_clock: MockClock) -> None:
    service = trio_jobs.Service()

    @service.handler(retry=NO_RETRY)
    def work(what: str, job: JobContext) -> None:
        job.step(name, lambda: result)

    async with service.open(clock=trio_jobs.TrioClock()) as queue:
        receipt = await queue.submit(work, "a")
        job = await until_state(queue, receipt.job_id, "in_doubt" if name == "book" else "failed")
    error = (job.attempts or ())[0].error
    assert error is not None
    assert error.message.startswith(message)


async def test_a_job_has_at_most_the_allowed_number_of_steps(mock_clock: MockClock) -> None:
    service = trio_jobs.Service()

    @service.handler(retry=NO_RETRY)
    async def work(what: str, job: AsyncJobContext) -> None:
        for n in range(1001):
            await job.step(str(n), trio.lowlevel.checkpoint)

    async with service.open(clock=trio_jobs.TrioClock()) as queue:
        job = await ended(queue, (await queue.submit(work, "a")).job_id)
    assert len(job.steps or ()) == 1000
    assert job.error is not None
    assert job.error.message == "a job has at most 1000 steps"


async def test_a_finished_attempt_starts_no_step(mock_clock: MockClock) -> None:
    service = trio_jobs.Service()
    kept: list[AsyncJobContext] = []
    refused: list[str] = []

    @service.handler(attempt_timeout=5)
    async def work(what: str, job: AsyncJobContext) -> None:
        kept.append(job)
        try:
            await job.step("endless", trio.sleep_forever)
        finally:
            with trio.CancelScope(shield=True):
                with pytest.raises(trio_jobs.SdkCallRefused) as caught:
                    await job.step("another", trio.lowlevel.checkpoint)
                refused.append(str(caught.value))

    async with service.open(clock=trio_jobs.TrioClock()) as queue:
        receipt = await queue.submit(work, "a")
        await until_state(queue, receipt.job_id, "processing")
        await pass_time(mock_clock, 5)
        await until_state(queue, receipt.job_id, "in_doubt")
        with pytest.raises(trio_jobs.SdkCallRefused, match="begins no more steps"):
            await kept[0].step("late", trio.lowlevel.checkpoint)
        with pytest.raises(trio_jobs.SdkCallRefused, match="nothing of it can be recorded"):
            await runtime_of(queue).recorder.finish_step(kept[0]._running, "late", trio_jobs._engine.handlers.NULL)
    assert refused == ["this attempt is over, or about to be; it begins no more steps"]


async def test_a_step_of_a_job_that_was_resolved_meanwhile_is_not_recorded(mock_clock: MockClock) -> None:
    sdk = FakeSdk()
    hold = Blocker("booked")
    sdk.script("call", hold)
    service = service_for(sdk, "thread")

    @service.handler(attempt_timeout=5, stuck_after=5, on_doubt="hold")
    def work(session: FakeSession, what: str, job: JobContext) -> None:
        job.step("book", session.call, "book")

    async with service.open(clock=trio_jobs.TrioClock()) as queue:
        receipt = await queue.submit(work, "a")
        await hold.reached()
        await pass_time(mock_clock, 10)
        await queue.resolve(receipt.job_id, "failed")
        hold.release()
        await runtime_of(queue).slot.wait_empty()
    assert queue.get(receipt.job_id).state is State.FAILED
    sdk.check()


def test_a_step_after_the_event_loop_has_ended_is_refused() -> None:
    sdk = FakeSdk()
    hold, told = Blocker(), Blocker()
    sdk.script("call", hold)
    service = service_for(sdk, "thread", drain_timeout=0, cancel_timeout=0)
    refused: list[str] = []

    @service.handler(on_doubt="hold")
    def work(session: FakeSession, what: str, job: JobContext) -> None:
        session.call("long")
        job.progress(1)
        try:
            job.step("book", session.call, "book")
        except trio_jobs.SdkCallRefused as error:
            refused.append(str(error))
        told.block()

    async def main() -> None:
        async with service.open() as queue:
            await queue.submit(work, "a")
            await hold.reached()

    trio.run(main)
    hold.release()
    trio.run(told.reached)
    assert refused == ["the event loop has ended; no step can be recorded"]
    assert sdk.calls() == ["long"]
    told.release()


# progress


async def test_progress_is_published_at_most_five_times_a_second_and_the_newest_wins(autojump_clock: MockClock) -> None:
    sdk = FakeSdk()
    service = service_for(sdk, "trio")
    told: list[tuple[float, Progress]] = []

    @service.handler(on_doubt="hold")
    async def work(session: FakeSession, what: str, job: AsyncJobContext) -> None:
        for n in range(100):
            job.progress(n, 100, f"page {n}\x1b" + "x" * 300)
            await trio.sleep(0.01)
        job.progress(100)
        await trio.sleep(1)

    async with service.open(clock=trio_jobs.TrioClock()) as queue:
        queue.backend.progress_listeners.add(lambda progress: told.append((trio.current_time(), progress)))
        receipt = await queue.submit(work, "a")
        await trio.sleep(1.9)
        now = queue.progress(receipt.job_id)
        assert now == Progress(receipt.job_id, 100.0, None, "")
        await queue.result(receipt.job_id)
        assert queue.progress(receipt.job_id) is None
    assert 5 <= len(told) <= 8
    first = told[0][1]
    assert first.message.startswith("page 0\\x1b")
    assert len(first.message) == 200


async def test_progress_of_a_finished_attempt_is_not_published(autojump_clock: MockClock) -> None:
    sdk = FakeSdk()
    service = service_for(sdk, "trio")
    kept: list[AsyncJobContext] = []

    @service.handler(on_doubt="hold")
    async def work(session: FakeSession, what: str, job: AsyncJobContext) -> None:
        kept.append(job)

    async with service.open(clock=trio_jobs.TrioClock()) as queue:
        receipt = await queue.submit(work, "a")
        await queue.result(receipt.job_id)
        kept[0].progress(1)
        await wait_all_tasks_blocked()
        await trio.sleep(1)
        assert queue.progress(receipt.job_id) is None
