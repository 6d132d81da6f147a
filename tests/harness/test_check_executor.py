"""Rules of `check_executor`: both executors pass, and it finds executors that break the contract."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import pytest
import trio

from support.waiting import DEADLINE, deadline
from trio_jobs._call_report import RaisedError
from trio_jobs._engine.jobs import ErrorInfo
from trio_jobs._executors.call_boundary import interrupt_call
from trio_jobs._executors.thread import ThreadExecutor
from trio_jobs._executors.trio_task import TrioExecutor
from trio_jobs._executors.wrapping import WrappingExecutor
from trio_jobs._service import Service, parts_of
from trio_jobs.ports import CallReport, Discard, Interruption, SdkCall, SdkExecutor
from trio_jobs.testing import ConformanceError, check_executor, executor_check
from trio_jobs.testing.executor_check import TIMEOUT


async def test_the_thread_executor_keeps_the_contract() -> None:
    report = await check_executor(lambda open_sdk, nursery: ThreadExecutor(open_sdk))
    assert len(report.checked) == 19
    assert not report.left_out


async def test_the_trio_executor_keeps_the_contract() -> None:
    report = await check_executor(TrioExecutor, asynchronous=True)
    assert len(report.checked) == 11
    assert len(report.left_out) == 1


class AnyThreadExecutor(ThreadExecutor):
    """Makes each call on any free thread, as `trio.to_thread` does."""

    async def call(self, call: SdkCall) -> CallReport:
        report, _ = await trio.to_thread.run_sync(call.run, self._sdk)
        return report


class CountingExecutor(AnyThreadExecutor):
    """The same, but it knows that a call is inside."""

    calls = 0

    @property
    def inside(self) -> bool:
        return super().inside or self.calls > 0

    async def call(self, call: SdkCall) -> CallReport:
        self.calls += 1
        try:
            return await super().call(call)
        finally:
            self.calls -= 1


class ReusingExecutor(ThreadExecutor):
    """Accepts another call after `abandon`, while the abandoned one is still inside."""

    def abandon(self) -> None:
        super().abandon()
        self._abandoned = self._inside = False
        self.is_open = True


class UnclosedExecutor(ThreadExecutor):
    """Does not close the session. Its thread would do that when it ends, so it ends after the checks (`end`)."""

    async def close(self, discard: Discard | None = None) -> bool:
        self.is_open = False
        return True

    async def stop(self) -> None:
        await trio.lowlevel.checkpoint()

    async def end(self) -> None:
        await super().stop()


class WaitingExecutor(ThreadExecutor):
    """Lets a second call wait, shielded from cancellation, until the first has returned."""

    def __init__(self, factory: Any) -> None:
        super().__init__(factory)
        self._turn = trio.Lock()

    async def call(self, call: SdkCall) -> CallReport:
        with trio.CancelScope(shield=True):
            await self._turn.acquire()
        try:
            return await super().call(call)
        finally:
            self._turn.release()


class HastyExecutor(ThreadExecutor):
    """Interrupts the call that it has found inside, without keeping it from leaving."""

    async def interrupt(self, number: int, fn: Callable[[Any], Any]) -> Interruption:
        if self.call_inside != number:
            return Interruption(was_inside=False)
        self._boundary.interrupted = number
        await trio.to_thread.run_sync(fn, self._sdk)
        return Interruption(was_inside=True)


class LateExecutor(ThreadExecutor):
    """Interrupts whatever is inside."""

    async def interrupt(self, number: int, fn: Callable[[Any], Any]) -> Interruption:
        return await super().interrupt(self.call_inside or number, fn)


class SameThreadExecutor(ThreadExecutor):
    """Interrupts on Trio's thread."""

    async def interrupt(self, number: int, fn: Callable[[Any], Any]) -> Interruption:
        return interrupt_call(self._boundary, number, lambda: fn(self._sdk))


class KindExecutor(TrioExecutor):
    """Closes a session that is to be discarded as if nothing had gone wrong."""

    async def close(self, discard: Discard | None = None) -> bool:
        return await super().close()


class SilentExecutor(TrioExecutor):
    """Does not report the exception of a close."""

    def take_close_problem(self) -> str | None:
        return None


def broken_rules(error: ConformanceError) -> str:
    return "\n".join(finding.rule for finding in error.report.findings)


async def test_an_executor_that_calls_on_other_threads_is_found() -> None:
    with pytest.raises(ConformanceError) as caught:
        await check_executor(lambda open_sdk, nursery: AnyThreadExecutor(open_sdk), timeout=0.3)
    assert "on one thread" in broken_rules(caught.value)
    assert "while a call is inside, nothing else enters" in broken_rules(caught.value).lower()


async def test_a_finding_about_a_second_call_does_not_wait_for_the_first() -> None:
    with deadline("the finding"), pytest.raises(ConformanceError) as caught:  # far below the limit of a check
        await check_executor(lambda open_sdk, nursery: CountingExecutor(open_sdk), timeout=300)
    assert "a second call was accepted while a call was inside: the SDK received ['call']" in str(caught.value)
    assert "the caller of the abandoned call still waits" in str(caught.value)


async def test_an_executor_may_let_a_second_call_wait() -> None:
    await check_executor(lambda open_sdk, nursery: WaitingExecutor(open_sdk), timeout=DEADLINE)


async def test_an_executor_that_accepts_a_call_beside_an_abandoned_one_is_found() -> None:
    with pytest.raises(ConformanceError) as caught:
        await check_executor(lambda open_sdk, nursery: ReusingExecutor(open_sdk))
    assert broken_rules(caught.value).startswith("After abandon")


@pytest.mark.parametrize(
    ("broken", "violation", "timeout"),
    [
        (HastyExecutor, "a call left while it was interrupted: the next one could be hit", TIMEOUT),
        (LateExecutor, "an interruption of a call that has left was made in the next call", TIMEOUT),
        (SameThreadExecutor, "the function was called on Trio's thread", 1.0),  # which passes: it blocks Trio's thread
    ],
    ids=lambda given: getattr(given, "__name__", ""),
)
async def test_an_executor_whose_interruptions_may_hit_another_call_is_found(
    broken: type[ThreadExecutor], violation: str, timeout: float
) -> None:
    with pytest.raises(ConformanceError) as caught:
        await check_executor(lambda open_sdk, nursery: broken(open_sdk), timeout=timeout)
    assert violation in str(caught.value)


class UninterruptibleExecutor:
    """A `ThreadExecutor` without the methods of `Interrupts`."""

    def __init__(self, factory: Any) -> None:
        self._inner = ThreadExecutor(factory)

    def __getattr__(self, name: str) -> Any:
        if name in ("call_inside", "interrupted_call", "interrupt"):
            raise AttributeError(name)
        return getattr(self._inner, name)


async def test_the_rules_of_interruptions_are_left_out_for_an_executor_that_cannot_interrupt() -> None:
    report = await check_executor(lambda open_sdk, nursery: UninterruptibleExecutor(open_sdk), timeout=DEADLINE)
    assert report.left_out == ("interruptions: the executor does not conform to trio_jobs.ports.Interrupts",)


async def test_an_executor_that_does_not_close_is_found() -> None:
    made: list[UnclosedExecutor] = []

    def make(open_sdk: Any, nursery: trio.Nursery) -> UnclosedExecutor:
        made.append(UnclosedExecutor(open_sdk))
        return made[-1]

    with pytest.raises(ConformanceError) as caught:
        await check_executor(make, timeout=0.3)
    for executor in made:
        await executor.end()
    assert "(P2, P3)" in broken_rules(caught.value)


async def test_an_executor_that_does_not_report_a_failed_close_is_found() -> None:
    with pytest.raises(ConformanceError) as caught:
        await check_executor(SilentExecutor, asynchronous=True)
    assert broken_rules(caught.value).startswith(
        "An exception from closing the SDK is reported once, and the session counts as closed"
    )


async def test_an_executor_that_does_not_throw_the_exception_is_found() -> None:
    with pytest.raises(ConformanceError, match="was raised in the context manager of a session discarded because"):
        await check_executor(KindExecutor, asynchronous=True)


class SharingExecutor(ThreadExecutor):
    """Lets the exceptions of calls out of the SDK's thread."""

    async def call(self, call: SdkCall) -> CallReport:
        report = await super().call(call)
        self.shared, self._error = self._error, None
        return report

    async def stop(self) -> None:
        self.shared = None
        await super().stop()


async def test_an_executor_whose_exceptions_are_destroyed_in_trios_thread_is_found() -> None:
    with pytest.raises(ConformanceError, match="were destroyed on another thread: 4 of 9"):
        await check_executor(lambda open_sdk, nursery: SharingExecutor(open_sdk), timeout=2)


class DirectExecutor(ThreadExecutor):
    """Makes each call in Trio's thread, at once."""

    async def call(self, call: SdkCall) -> CallReport:
        return call.run(self._sdk).report


async def test_an_executor_whose_calls_are_no_checkpoints_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    check_rules(monkeypatch, "_check_checkpoint")
    with pytest.raises(ConformanceError, match="a call has returned in the same turn of the loop"):
        await check_executor(lambda open_sdk, nursery: DirectExecutor(open_sdk), timeout=5)


async def test_raises_false_returns_the_report() -> None:
    report = await check_executor(SilentExecutor, asynchronous=True, raises=False)
    assert not report.ok
    assert "which does not name the PlannedError that the SDK's close raised" in str(report)
    assert "the executor: 11 checks, 2 findings" in str(report)


# an SDK in another process


def make_process_executor(service: Service, nursery: trio.Nursery) -> SdkExecutor:
    return parts_of(service).make_executor(nursery)


def check_rules(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    """Let `check_executor` check only these rules: in a process, each of them starts some."""
    for rules in ("_RULES", "_LOCAL_RULES", "THREAD_RULES", "LOCAL_THREAD_RULES", "INTERRUPT_RULES", "KILL_RULES"):
        kept = tuple(rule for rule in getattr(executor_check, rules) if rule.__name__ in names)
        monkeypatch.setattr(executor_check, rules, kept)


@pytest.mark.skipif(sys.platform == "win32", reason="the process executor does not work on Windows yet")
@pytest.mark.parametrize(
    "rules",
    [
        pytest.param(None, id="all", marks=pytest.mark.campaign),
        pytest.param(("_check_concurrent_call", "_check_late_return"), id="two"),
    ],
)
async def test_the_process_executor_keeps_the_contract(
    rules: tuple[str, ...] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    if rules is not None:
        check_rules(monkeypatch, *rules)
    report = await check_executor(make_process_executor, remote=True)
    assert len(report.checked) == (24 if rules is None else len(rules))
    assert not report.left_out


class LingeringExecutor(WrappingExecutor):
    """Reports a call as over before its process is dead."""

    has_lost_session = waits_for_queue = False

    def __init__(self, inner: SdkExecutor, nursery: trio.Nursery) -> None:
        super().__init__(inner)
        self.nursery = nursery
        self.killed = trio.Event()

    async def call(self, call: SdkCall) -> CallReport:
        self.nursery.start_soon(super().call, call)
        await self.killed.wait()
        return CallReport(error=RaisedError(ErrorInfo("SdkProcessKilled", "it was killed"), killed=True))

    def kill(self) -> None:
        self.killed.set()


@pytest.mark.campaign
async def test_an_executor_that_does_not_wait_for_the_death_of_a_process_is_found(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    check_rules(monkeypatch, "_check_kill")
    with pytest.raises(ConformanceError, match="a call ended while its process was alive"):
        await check_executor(
            lambda service, nursery: LingeringExecutor(make_process_executor(service, nursery), nursery),
            remote=True,
            timeout=5,
        )
