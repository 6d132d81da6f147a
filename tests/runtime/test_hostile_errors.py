"""An exception of any class fails what raised it, and nothing else: the queue goes on."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock

import trio_jobs
from support.hostile_errors import HOSTILE, Unsplit
from support.rig import NO_RETRY, ended, last, open_queue
from support.waiting import deadline
from trio_jobs import Service, State
from trio_jobs._engine.error_info import describe

EACH = pytest.mark.parametrize("make", HOSTILE.values(), ids=HOSTILE)
STORES = pytest.mark.parametrize("durable", [False, True], ids=["memory", "journal"])


@EACH
@STORES
async def test_an_error_of_a_handler_or_of_verify_fails_its_job_only(
    make: Callable[[], BaseException], durable: bool, tmp_path: Path
) -> None:
    def work(number: int) -> int:
        if number == 0:
            raise make()
        return number

    def verify(job: Any) -> trio_jobs.Verdict:
        raise make()

    service = Service(drain_timeout=0, cancel_timeout=0.1)
    service.handler(retry=NO_RETRY)(work)
    service.handler(kind="verified", payload_type=int, retry=NO_RETRY, verify=verify, on_doubt="fail")(
        lambda number: work(number)
    )
    async with service.open(journal=tmp_path / "j.db" if durable else None) as queue:
        for kind in ("work", "verified"):
            receipt = await queue.submit(kind, 0)
            with deadline("the job to fail"), pytest.raises(trio_jobs.JobFailed):
                await queue.result(receipt.job_id)
            job = queue.get(receipt.job_id)
            assert job.error is not None
            assert last(job).outcome == "error"
            assert job.to_dict()["error"]["type"] == job.error.type
            assert await queue.result((await queue.submit(kind, 7)).job_id) == 7


@EACH
async def test_an_error_of_an_async_handler_fails_its_job_only(
    make: Callable[[], BaseException], autojump_clock: MockClock
) -> None:
    service = Service()

    async def verify(job: Any) -> trio_jobs.Verdict:
        raise make()

    @service.handler(retry=NO_RETRY, attempt_timeout=5, verify=verify, verify_first=True, on_doubt="retry")
    async def work(number: int) -> int:
        if number == 0:
            raise make()
        return number

    async with open_queue(service) as queue:
        failed = await ended(queue, (await queue.submit("work", 0, deadline_after=60)).job_id)
        assert (failed.state, last(failed).outcome) == (State.FAILED, "error")
        assert failed.error is not None
        assert failed.error.type == describe(make()).type
        with deadline("the next job"):
            assert await queue.result((await queue.submit("work", 7)).job_id) == 7


@EACH
async def test_an_error_that_replaces_a_cancellation_does_not_end_the_queue(
    make: Callable[[], BaseException], autojump_clock: MockClock
) -> None:
    service = Service()

    @service.handler(retry=NO_RETRY, attempt_timeout=5)
    async def work(number: int) -> int:
        if number == 7:
            return number
        try:
            await trio.sleep_forever()
        except BaseException as cancelled:
            if number == 0:
                raise make() from None
            raise Unsplit("both", [cancelled, make()]) from None
        raise AssertionError

    async with open_queue(service) as queue:
        for number in (0, 1):
            job = await ended(queue, (await queue.submit("work", number)).job_id)
            assert last(job).outcome == "timed_out"
            error = last(job).error
            assert error is not None
            assert number or error.type == describe(make()).type
            with deadline("the next job"):
                assert await queue.result((await queue.submit("work", 7)).job_id) == 7


@EACH
async def test_an_error_of_opening_or_closing_an_async_sdk_is_reported(make: Callable[[], BaseException]) -> None:
    closes = False

    @contextlib.asynccontextmanager
    async def sdk() -> AsyncIterator[int]:
        if not closes:
            raise make()
        yield 1
        raise make()

    service = Service(async_sdk=sdk, open_retry=NO_RETRY)
    with pytest.raises(trio_jobs.SdkOpenFailed, match=r"the SDK could not be opened \(tries: 1\): \w"):
        async with service.open():
            raise AssertionError
    closes = True
    async with service.open() as queue:
        pass
    assert queue.report is not None
    assert queue.report.sdk_problem


@EACH
async def test_an_error_of_opening_the_sdk_is_reported(make: Callable[[], BaseException]) -> None:
    def sdk() -> Any:
        raise make()

    with (
        deadline("the end of the opening"),
        pytest.raises(trio_jobs.SdkOpenFailed, match=r"the SDK could not be opened \(tries: 1\): \w"),
    ):
        async with Service(sdk=sdk, open_retry=NO_RETRY).open():
            raise AssertionError


@EACH
async def test_an_error_of_closing_the_sdk_is_reported(make: Callable[[], BaseException]) -> None:
    @contextlib.contextmanager
    def sdk() -> Iterator[int]:
        yield 1
        raise make()

    async with Service(sdk=sdk).open() as queue:
        pass
    assert queue.report is not None
    assert queue.report.sdk_problem


@EACH
async def test_an_error_of_a_hook_is_logged(
    make: Callable[[], BaseException], caplog: pytest.LogCaptureFixture, autojump_clock: MockClock
) -> None:
    service = Service()

    @service.handler(retry=NO_RETRY)
    async def work(number: int) -> None:
        raise ValueError

    called = trio.Event()

    def failed(job: trio_jobs.Job) -> None:
        called.set()
        raise make()

    service.on("failed", failed)
    with caplog.at_level(logging.ERROR):
        async with open_queue(service) as queue:
            job = await ended(queue, (await queue.submit("work", 1)).job_id)
            await called.wait()
            assert job.state is State.FAILED
            assert (await ended(queue, (await queue.submit("work", 2)).job_id)).state is State.FAILED
    assert any("the hook for failed raised" in message for message in caplog.messages)


class Later(trio_jobs.Snooze):
    def __init__(self) -> None:
        """Does not call the base class, so there are no seconds."""


class Whenever(trio_jobs.RetryAfter):
    seconds = property(lambda self: 1 / 0)  # type: ignore[misc] # what a subclass may do

    def __init__(self) -> None:
        """See above."""


@pytest.mark.parametrize("directive", [Later, Whenever])
async def test_a_directive_without_its_seconds_is_an_error_like_any_other(
    directive: type[Exception], autojump_clock: MockClock
) -> None:
    service = Service()

    @service.handler(retry=NO_RETRY)
    async def work(number: int) -> None:
        raise directive

    async with open_queue(service) as queue:
        job = await ended(queue, (await queue.submit("work", 1)).job_id)
        assert (job.state, last(job).outcome) == (State.FAILED, "error")
        assert job.error is not None
        assert job.error.type == directive.__name__


@pytest.mark.parametrize(
    ("errors", "outcome"),
    [
        ([trio_jobs.Fail("a"), trio_jobs.Fail("b")], "fail"),
        ([trio_jobs.Snooze(5), trio_jobs.Fail("b")], "fail"),
        ([trio_jobs.Snooze(5), trio_jobs.Cancel("b")], "cancel"),
        ([trio_jobs.Fail("a"), ValueError()], "error"),
        ([ExceptionGroup("", [trio_jobs.Fail("a")])], "fail"),
    ],
)
async def test_a_group_vouches_only_if_each_error_in_it_does(
    errors: list[Exception], outcome: str, autojump_clock: MockClock
) -> None:
    service = Service()

    @service.handler(retry=NO_RETRY)
    async def work(number: int) -> None:
        raise ExceptionGroup("several", errors)

    async with open_queue(service) as queue:
        job = await ended(queue, (await queue.submit("work", 1)).job_id)
        assert last(job).outcome == outcome
