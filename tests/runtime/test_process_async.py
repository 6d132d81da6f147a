"""Async handlers with the SDK in a process of its own: they run in Trio, and `sdk.call` calls functions by name."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from trio.testing import MockClock

import trio_jobs
from support import process_ledger
from support.forked_sdk import fork_sdk_processes
from support.process_ledger import Ledger, do_call
from support.process_queues import LIMIT, answer_before_the_kill, let_time_pass_when, result_of, use_seat
from support.rig import until_state
from support.waiting import deadline
from trio_jobs import JobFailed, Outcome, UsageError
from trio_jobs._executors.remote_call import RemoteCall

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the process executor does not work on Windows yet")


@pytest.fixture(autouse=True)
def ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Path:
    """The file of the SDK."""
    if request.node.get_closest_marker("started") is None:
        fork_sdk_processes(monkeypatch)
    return use_seat(tmp_path, monkeypatch)


async def test_a_function_is_called_in_the_process_and_plain_data_arrive_as_they_are(ledger: Path) -> None:
    async with process_ledger.async_service.open() as queue:
        equal, same_types, pid = await result_of(queue, "call_it", "values")
        assert equal
        assert same_types
        assert pid != os.getpid()
        receipt = await queue.submit("call_it", "step")
        with deadline("the result", LIMIT):
            assert await queue.result(receipt.job_id) == [None, {"post": None}]
    assert ledger.read_text() == f"{receipt.job_id}\n"


async def test_what_a_function_raises_arrives_with_its_classes_and_its_code() -> None:
    """So that `Retry(on=)` finds them. The session is dirty."""
    async with process_ledger.async_service.open() as queue:
        with pytest.raises(JobFailed, match="Busy: paper jam"):
            await result_of(queue, "call_it", "raise")
        first, _ = queue.list()[0].attempts or ()  # it was retried, since Retry(on=Busy) names its class
        assert first.error is not None
        assert first.error.type == "SdkCallError"
        assert first.error.message == "Busy: paper jam"
        assert first.error.code == "E42"
        assert await result_of(queue, "call_it", "opening") == ["error", 3]


@pytest.mark.parametrize(("what", "outcome"), [("fail", Outcome.FAIL), ("retry", Outcome.RETRY_AFTER)])
async def test_what_a_function_asks_of_the_queue_arrives_as_it_is(what: str, outcome: Outcome) -> None:
    async with process_ledger.async_service.open() as queue:
        with pytest.raises(JobFailed):
            await result_of(queue, "call_it", what)
        assert (queue.list()[0].attempts or ())[0].outcome is outcome
        assert await result_of(queue, "call_it", "opening") == ["start", 1], "nothing is half done"


async def test_an_sdk_object_that_a_function_returns_is_an_error_that_says_what_to_return() -> None:
    async with process_ledger.async_service.open() as queue:
        with pytest.raises(JobFailed, match=r"do_call returned cannot cross to another process: .* contains Ledger"):
            await result_of(queue, "call_it", "object")


async def test_p11_a_call_of_an_async_handler_that_hangs_is_killed_and_its_stack_is_kept(
    ledger: Path, mock_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer_before_the_kill(monkeypatch, "stack")
    async with process_ledger.async_service.open() as queue:
        receipt = await queue.submit("book_and_hang", "hang")
        await let_time_pass_when(mock_clock, ledger.with_name("hangs"))
        with deadline("verify", LIMIT):
            assert await queue.result(receipt.job_id) == ["killed", 2]
        [attempt] = queue.get(receipt.job_id).attempts or ()
        assert attempt.outcome is Outcome.KILLED
        assert attempt.error is not None
        assert attempt.error.type == "SdkProcessKilled"
        assert "hold_the_interpreter" in (attempt.error.traceback or "")
    assert ledger.read_text() == f"{receipt.job_id}\n"


async def test_a_process_that_dies_in_a_call_of_an_async_handler_counts_as_a_crash() -> None:
    async with process_ledger.async_service.open() as queue:
        receipt = await queue.submit("call_it", "abort")
        with deadline("the job", LIMIT):
            await until_state(queue, receipt.job_id, "in_doubt")
        [attempt] = queue.get(receipt.job_id).attempts or ()
        assert attempt.outcome is Outcome.DIED
        assert attempt.error is not None
        assert "SIGABRT" in attempt.error.message
        assert await result_of(queue, "call_it", "opening") == ["killed", 2]


@pytest.mark.parametrize("how", ["", "fails"])
async def test_a_step_of_an_async_handler_is_finished_when_the_process_has_saved(
    how: str, monkeypatch: pytest.MonkeyPatch, mock_clock: MockClock
) -> None:
    monkeypatch.setenv("LEDGER_SAVES", how)
    async with process_ledger.saving_service.open() as queue:
        receipt = await queue.submit("post_async", "a")
        with deadline("the result", LIMIT):
            assert await queue.result(receipt.job_id) == [receipt.job_id]


def local() -> Callable[..., Any]:
    def within_a_function(ledger: Ledger) -> None: ...

    return within_a_function


@pytest.mark.parametrize(
    "fn",
    [lambda ledger: None, functools.partial(do_call, what="a"), local(), "text".upper, str.upper],
    ids=["lambda", "partial", "local", "bound", "of a class"],
)
def test_a_function_that_the_process_cannot_find_is_refused_before_the_sdk_is_entered(fn: Any) -> None:
    with pytest.raises(UsageError, match=r"cannot find .*sdk.call takes a function of a module"):
        RemoteCall(fn, (), "__mp_main__")


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        (trio_jobs.Retry(), "contains Retry"),
        ({"a": [{1, 2}]}, "contains set"),
        (2**64, "cannot cross"),
        (datetime(2026, 3, 1), "without a time zone"),  # which is the point
        (float, "contains type"),
        ("\ud800", "cannot cross"),
        ("x" * 17_000_000, "at most"),
    ],
    ids=lambda value: f"{value!r:.20}",
)
def test_an_argument_that_would_arrive_as_something_else_is_refused(value: Any, problem: str) -> None:
    with pytest.raises(UsageError, match=problem):
        RemoteCall(do_call, (value,), "__mp_main__")
