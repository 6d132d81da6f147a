"""Handlers that do what a handler should not, beside the table in `trio_jobs.testing.BAD_HANDLERS`."""

from __future__ import annotations

import signal
import sys
import textwrap
from typing import Any

import attrs
import pytest
import trio
from trio.testing import MockClock

import trio_jobs
from support.processes import run
from support.rig import NO_RETRY, HostKind, ended, last, make_rig, service_for, until
from trio_jobs import Outcome, State
from trio_jobs._runtime.queue import runtime_of
from trio_jobs.testing import FakeSdk, FakeSession


class Odd(BaseException):
    """Neither an Exception nor one that Python itself raises."""


class Mute(Exception):
    def __str__(self) -> str:
        raise ValueError("no words")


@pytest.mark.parametrize(
    ("error", "type_"),
    [
        (SystemExit(3), "SystemExit"),
        (GeneratorExit(), "GeneratorExit"),
        (Odd(), "Odd"),
        (StopIteration("over"), "StopIteration"),
        (ExceptionGroup("two", [ValueError(), TypeError()]), "ExceptionGroup"),
        (Mute(), "Mute"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_a_bad_plain_handler_is_classified_and_the_next_job_completes(
    error: BaseException, type_: str, mock_clock: MockClock
) -> None:
    rig = make_rig("thread", retry=NO_RETRY)
    rig.sdk.script("call", error, "the next")
    async with rig.open() as queue:
        receipt = await queue.submit("work", "bad")
        following = await queue.submit("work", "following")
        assert await queue.result(following.job_id) == "the next"
    job = queue.get(receipt.job_id)
    assert job.state is State.FAILED
    assert job.error is not None
    assert job.error.type == type_
    rig.sdk.check()


async def test_a_base_exception_is_retried_only_if_the_policy_names_it(autojump_clock: MockClock) -> None:
    rig = make_rig("trio", retry=trio_jobs.Retry(1, on=(Exception, Odd)))
    rig.sdk.script("call", Odd(), "second", SystemExit(1))
    async with rig.open() as queue:
        first = await queue.submit("work", "a")
        assert await queue.result(first.job_id) == "second"
        second = await queue.submit("work", "b")
        assert (await ended(queue, second.job_id)).state is State.FAILED


async def test_a_retry_policy_that_raises_allows_no_retry(autojump_clock: MockClock) -> None:
    def broken(error: BaseException) -> bool:
        raise ValueError

    rig = make_rig("trio", retry=trio_jobs.Retry(on=broken))
    rig.sdk.script("call", ValueError(), "the next")
    async with rig.open() as queue:
        assert (await ended(queue, (await queue.submit("work", "a")).job_id)).state is State.FAILED
        assert await queue.result((await queue.submit("work", "b")).job_id) == "the next"


@pytest.mark.parametrize("code", [17, -(2**70), "E\ud800", "x" * 500], ids=["number", "huge", "surrogate", "long"])
async def test_the_code_of_an_sdk_error_is_kept_as_json(code: int | str, autojump_clock: MockClock) -> None:
    error = ValueError("bad \ud800 text")
    error.code = code  # type: ignore[attr-defined]
    rig = make_rig("trio", retry=NO_RETRY)
    rig.sdk.script("call", error)
    async with rig.open() as queue:
        job = await ended(queue, (await queue.submit("work", "a")).job_id)
    assert job.error is not None
    assert job.error.message == "bad \\ud800 text"
    expected = {17: 17, -(2**70): str(-(2**70)), "E\ud800": "E\\ud800"}
    assert job.error.code == expected.get(code, "x" * 100)


@pytest.mark.parametrize(
    "value", [object(), "x" * (1024 * 1024), {1, 2}.__iter__()], ids=["no json", "huge", "iterator"]
)
async def test_a_result_that_cannot_be_kept_leaves_the_job_completed(value: Any, autojump_clock: MockClock) -> None:
    rig = make_rig("trio")
    rig.sdk.script("call", value)
    async with rig.open() as queue:
        receipt = await queue.submit("work", "a")
        job = await ended(queue, receipt.job_id)
        assert job.state is State.COMPLETED
        assert job.result_problem is not None
        with pytest.raises(trio_jobs.ResultUnavailable, match="completed, its result was not kept"):
            await queue.result(receipt.job_id)


async def test_a_payload_type_that_breaks_at_the_attempt_fails_the_job(autojump_clock: MockClock) -> None:
    broken: list[str] = []

    @attrs.define
    class Moody:
        n: int

        def __attrs_post_init__(self) -> None:
            if broken:
                raise ValueError("not today")

    sdk = FakeSdk()
    service = service_for(sdk, "trio")

    @service.handler(payload_type=Moody, retry=NO_RETRY)
    async def work(session: FakeSession, what: Any) -> None: ...

    async with service.open(clock=trio_jobs.TrioClock()) as queue:
        receipt = await queue.submit(work, Moody(1))
        broken.append("now")
        job = await ended(queue, receipt.job_id)
    assert job.state is State.FAILED
    assert not last(job).entered, "the handler was not called"


_KEYBOARD = """
    import signal, sys, threading, trio, trio_jobs
    service = trio_jobs.Service()

    @service.handler
    async def in_trio(what: str) -> None:
        signal.raise_signal(signal.SIGINT)

    @service.handler
    async def in_a_group(what: str) -> None:
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt as interrupt:
            raise BaseExceptionGroup("", [ValueError(), interrupt])

    queues = []
    async def main():
        async with service.open() as queue:
            queues.append(queue)
            await queue.submit(sys.argv[1], "x")
            await trio.sleep_forever()
    try:
        trio.run(main)
    except BaseException as error:
        print(type(error).__name__)
    [left] = queues[0].report.unfinished
    print(left.state, queues[0].report.sdk_closed)
"""


@pytest.mark.parametrize(
    ("handler", "raised", "state"),
    [
        ("in_trio", "KeyboardInterrupt", "pending"),
        ("in_a_group", "BaseExceptionGroup", "pending"),
    ],
)
def test_ctrl_c_in_a_handler_ends_the_queue_and_gives_the_job_back(handler: str, raised: str, state: str) -> None:
    code = textwrap.dedent(_KEYBOARD)
    done = run([sys.executable, "-c", code, handler])
    assert done.stdout.split("\n")[:2] == [raised, f"{state} True"], done


@pytest.mark.parametrize(
    "raised",
    [KeyboardInterrupt("mine"), BaseExceptionGroup("", [ValueError(), KeyboardInterrupt("mine")])],
    ids=["alone", "in a group"],
)
async def test_a_keyboard_interrupt_of_a_library_is_an_error_of_the_attempt(
    raised: BaseException, kind: HostKind, clock: MockClock
) -> None:
    """No signal was received, so nobody wants the queue to end; a job given back would end the next process too."""
    rig = make_rig(kind, retry=NO_RETRY)
    rig.sdk.script("call", raised)
    async with rig.open() as queue:
        job = await ended(queue, (await queue.submit("work", "a")).job_id)
        following = await ended(queue, (await queue.submit("work", "b")).job_id)
    assert (job.state, following.state) == (State.FAILED, State.COMPLETED)
    assert (last(job).outcome, job.may_have_acted) == (Outcome.ERROR, True)
    error = last(job).error
    assert error is not None
    assert error.type == type(raised).__name__


async def test_a_keyboard_interrupt_of_a_library_in_verify_counts_as_unknown(kind: HostKind, clock: MockClock) -> None:
    rig = make_rig(kind, verifies=True)
    rig.sdk.script("call", ValueError())
    rig.sdk.script("verify", KeyboardInterrupt())
    async with rig.open() as queue:
        receipt = await queue.submit("work", "a")
        job = await until(queue, receipt.job_id, lambda job: job.state is State.IN_DOUBT)
    assert job.reason == "error"
    rig.sdk.check()


async def test_a_keyboard_interrupt_of_a_library_in_an_opening_is_a_failed_opening(
    kind: HostKind, clock: MockClock
) -> None:
    rig = make_rig(kind, settings={"open_retry": NO_RETRY})
    rig.sdk.script("open", KeyboardInterrupt("mine"))
    with pytest.raises(trio_jobs.SdkOpenFailed, match="KeyboardInterrupt: mine"):
        async with rig.open():
            raise AssertionError
    rig.sdk.check()


async def test_a_job_cancelled_as_it_completes_is_completed(autojump_clock: MockClock) -> None:
    rig = make_rig("trio")

    async def finish() -> str:
        await queue.cancel(receipt.job_id)
        return "just done"

    rig.sdk.script("call", finish)
    async with rig.open() as queue:
        receipt = await queue.submit("work", "a")
        job = await until(queue, receipt.job_id, lambda job: job.is_final)
    assert job.state is State.COMPLETED


@pytest.mark.parametrize("where", ["handler", "verify"])
async def test_ctrl_c_in_a_call_ends_the_block_and_the_report_names_the_job(
    where: str, autojump_clock: MockClock
) -> None:
    rig = make_rig("trio", verifies=True)

    async def ctrl_c() -> None:
        signal.raise_signal(signal.SIGINT)

    rig.sdk.script("call", ctrl_c if where == "handler" else ValueError())
    rig.sdk.script("verify", ctrl_c)
    with pytest.raises(KeyboardInterrupt):
        async with rig.open() as queue:
            await queue.submit("work", "a")
            await trio.sleep_forever()
    assert queue.report is not None
    [left] = queue.report.unfinished
    assert left.state is State.IN_DOUBT
    rig.sdk.check()


@pytest.mark.parametrize("where", ["call", "verify"])
async def test_a_consumer_that_is_cancelled_from_within_reports_its_job(where: Any, autojump_clock: MockClock) -> None:
    """Nothing in the queue does that while an attempt is under way; if it happened, it would pass for a stop."""
    rig = make_rig("trio", verifies=True)

    async def cancel_the_consumer() -> None:
        supervisor: Any = runtime_of(queue).reactions._fail.__self__  # type: ignore[attr-defined]
        supervisor._consumer_scope.cancel()
        await trio.lowlevel.checkpoint()

    if where == "verify":
        rig.sdk.script("call", ValueError())
    rig.sdk.script(where, cancel_the_consumer)
    async with rig.open() as queue:
        receipt = await queue.submit("work", "a")
        with trio.move_on_after(5):
            await trio.sleep_forever()
    job = queue.get(receipt.job_id)
    assert job.state is State.IN_DOUBT
    assert queue.report is not None
    assert [left.job_id for left in queue.report.unfinished] == [receipt.job_id]
    rig.sdk.check()
