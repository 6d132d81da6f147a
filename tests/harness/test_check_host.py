"""Both hosts do what check_executor says; hosts that do not are found."""

from __future__ import annotations

from typing import Any

import outcome
import pytest
import trio

from trio_jobs._executors.thread import ThreadExecutor
from trio_jobs._executors.trio_task import TrioExecutor
from trio_jobs.testing import ConformanceError, check_executor


async def test_the_thread_host_does_what_a_host_must() -> None:
    report = await check_executor(lambda open_sdk, nursery: ThreadExecutor(open_sdk))
    assert len(report.checked) == 12
    assert not report.left_out


async def test_the_in_trio_host_does_what_a_host_must() -> None:
    report = await check_executor(TrioExecutor, asynchronous=True)
    assert len(report.checked) == 9
    assert len(report.left_out) == 1


class Elsewhere(ThreadExecutor):
    """Calls on whichever thread is free: what `to_thread` does."""

    async def call(self, fn: Any, *args: Any) -> Any:
        try:
            return outcome.Value(await trio.to_thread.run_sync(fn, self._sdk, *args))
        except BaseException as error:
            return outcome.Error(error)


class Impatient(ThreadExecutor):
    """Lets a second call in beside one that was given up, on a thread of its own."""

    def abandon(self) -> None:
        super().abandon()
        self._abandoned = self._inside = False
        self._is_open = True


class Leaky(ThreadExecutor):
    """Forgets to close."""

    async def close(self) -> bool:
        self._is_open = False
        return True


class Swallowing(TrioExecutor):
    """Keeps what closing raises to itself."""

    def take_close_problem(self) -> str | None:
        return None


def named(error: ConformanceError) -> str:
    return "\n".join(finding.rule for finding in error.report.findings)


async def test_a_host_that_calls_on_other_threads_is_found() -> None:
    with pytest.raises(ConformanceError) as caught:
        await check_executor(lambda open_sdk, nursery: Elsewhere(open_sdk), patience=0.3)
    assert "on one thread" in named(caught.value)
    assert "while a call is inside nothing enters" in named(caught.value).lower()


async def test_a_host_that_lets_calls_in_beside_one_that_was_given_up_is_found() -> None:
    with pytest.raises(ConformanceError) as caught:
        await check_executor(lambda open_sdk, nursery: Impatient(open_sdk), patience=0.3)
    assert named(caught.value).startswith("After abandon")


async def test_a_host_that_forgets_to_close_is_found() -> None:
    with pytest.raises(ConformanceError) as caught:
        await check_executor(lambda open_sdk, nursery: Leaky(open_sdk), patience=0.3)
    assert "(P2, P3)" in named(caught.value)


async def test_a_host_that_hides_what_closing_raises_is_found() -> None:
    with pytest.raises(ConformanceError) as caught:
        await check_executor(Swallowing, asynchronous=True)
    assert named(caught.value) == "What closing raises is told once, and the session counts as closed"


async def test_a_report_can_be_had_without_an_error() -> None:
    report = await check_executor(Swallowing, asynchronous=True, raises=False)
    assert not report.ok
    assert "the host: 9 checks, 1 finding" in str(report)
