"""The rules of `check_executor` about short, concurrent, cancelled and abandoned calls, for executors with a thread."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, Final

import trio

from trio_jobs._call_report import CallReport
from trio_jobs.testing._executor_fixture import FIRST, ExecutorFixture, expect, returned

__all__ = ["LOCAL_THREAD_RULES", "THREAD_RULES"]

ABANDON_TIMEOUT: Final = 5.0  #: seconds within which the caller of an abandoned call must continue


async def _check_concurrent_call(fixture: ExecutorFixture) -> None:
    """While a call is inside, nothing else enters: no call, no close, no second session (P1)."""
    executor, sdk, blocker = fixture.executor, fixture.sdk, fixture.blocker("first")
    sdk.script("call", blocker)
    await executor.open(FIRST)
    results: list[Any] = []

    async def first() -> None:
        results.append(await fixture.call("first"))

    async def refused_or_waiting(name: str, do: Callable[[], Awaitable[Any]]) -> None:
        """Nothing enters the SDK in either case. An executor may let a call wait that cannot be cancelled."""
        ended = trio.Event()
        value: Any = None

        async def attempt() -> None:
            nonlocal value
            with suppress(Exception):
                value = await do()
            ended.set()

        nursery.start_soon(attempt)
        with trio.move_on_after(0.05):
            await ended.wait()
        entered = [step.operation for step in sdk.steps[2:]]
        expect(not entered, f"a second {name} was accepted while a call was inside: the SDK received {entered}")
        expect(value is not True, f"{name} returned True while a call was inside")
        is_report = isinstance(value, CallReport) and value.error is None
        expect(not is_report, f"a second {name} returned {value!r} while a call was inside")

    async with fixture.tasks() as nursery:
        nursery.start_soon(first)
        await blocker.reached()
        expect(executor.inside, "inside is False while a call is inside")
        await refused_or_waiting("call", lambda: fixture.call("second"))
        await refused_or_waiting("open", lambda: executor.open(FIRST))
        await refused_or_waiting("close", executor.close)
        blocker.release()
    expect(sdk.max_concurrent == 1, f"{sdk.max_concurrent} calls were in the SDK at once")
    expect(returned(results[0]) == "first", "the result of the first call was lost")
    expect(executor.is_open, "the session of a call was ended by a second call, open or close")
    expect(await executor.close() is True, "close did not return True after the call had returned")
    await executor.stop()


class _Turn(trio.abc.Instrument):
    is_over = False

    def before_io_wait(self, timeout: float) -> None:
        self.is_over = True


async def _check_checkpoint(fixture: ExecutorFixture) -> None:
    """A call is a checkpoint, however short it is."""
    turn = _Turn()
    await fixture.executor.open(FIRST)
    trio.lowlevel.add_instrument(turn)
    try:
        returned(await fixture.call("short"))
    finally:
        trio.lowlevel.remove_instrument(turn)
    expect(turn.is_over, "a call has returned in the same turn of the loop, so many calls would let no other task run")
    await fixture.executor.close()
    await fixture.executor.stop()


async def _check_cancelled_call(fixture: ExecutorFixture) -> None:
    """A call whose caller is cancelled is waited for, and its result is returned."""
    executor, sdk, blocker = fixture.executor, fixture.sdk, fixture.blocker("late")
    sdk.script("call", blocker)
    await executor.open(FIRST)
    with trio.CancelScope() as scope:
        scope.cancel()
        trio.lowlevel.current_trio_token().run_sync_soon(blocker.release)
        report = await fixture.call("x")
        expect(returned(report) == "late", f"the call returned 'late', and the executor {report!r}")
    expect(not scope.cancelled_caught, "the call raised Cancelled instead of returning its result")
    expect(not executor.inside, "inside is still True after the call has returned")
    await executor.close()
    await executor.stop()
    sdk.check()


async def _check_abandoned_call(fixture: ExecutorFixture) -> None:
    """After abandon no caller waits, nothing else enters, and the session is closed when the call has returned."""
    executor, sdk, blocker, closing = fixture.executor, fixture.sdk, fixture.blocker(), fixture.blocker()
    sdk.script("call", blocker)
    sdk.script("close", closing)
    await executor.open(FIRST)
    results: list[Any] = []

    returned = trio.Event()

    async def call() -> None:
        results.append(await fixture.call("x"))
        returned.set()

    async with fixture.tasks() as nursery:
        nursery.start_soon(call)
        await blocker.reached()
        executor.abandon()
        with trio.move_on_after(min(fixture.timeout, ABANDON_TIMEOUT)):
            await returned.wait()
        expect(returned.is_set(), "the caller of the abandoned call still waits")
    expect(
        isinstance(results[0], CallReport) and results[0].error is not None and results[0].error.stuck,
        f"the caller of the abandoned call received {results[0]!r}, not the report of a stuck call",
    )
    expect(not executor.is_open, "is_open is still True after abandon")
    expect(await executor.close() is False, "close returned True though the abandoned call is still inside")
    late = await fixture.raised(lambda: fixture.call("another"))
    expect(late is not None and sdk.count("call") == 1, "another call was accepted after abandon (P1)")
    blocker.release()
    await closing.reached()
    threads = {step.thread for step in sdk.steps}
    expect(len(threads) == 1, f"the session was opened, called and closed on {len(threads)} threads (P2)")
    closing.release()
    await executor.stop()


THREAD_RULES: Final = (_check_checkpoint, _check_concurrent_call, _check_cancelled_call)
LOCAL_THREAD_RULES: Final = (_check_abandoned_call,)  # a thread cannot be ended
