"""The contract of an SDK executor (`_ports.SdkExecutor`) as checks that run on any executor: one call at a time (P1),
on one thread (P2), always closed (P3), also when calls are late, cancelled, abandoned or fail."""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, Final

import outcome
import trio

from trio_jobs._errors import SdkCallStuck
from trio_jobs._ports import SdkExecutor
from trio_jobs.testing._executor_fixture import ExecutorFixture, PlannedError, UnusualError
from trio_jobs.testing.fake_sdk import FakeSdk
from trio_jobs.testing.report import CheckReport, collect

__all__ = ["check_executor"]

TIMEOUT: Final = 20.0  #: seconds to wait for a thread to reach a point
ABANDON_TIMEOUT: Final = 5.0  #: seconds within which the caller of an abandoned call must continue

MakeExecutor = Callable[[Callable[[], Any], trio.Nursery], SdkExecutor]


async def check_executor(
    make_executor: MakeExecutor, *, asynchronous: bool = False, timeout: float = TIMEOUT, raises: bool = True
) -> CheckReport:
    """Check that an SDK executor keeps its contract, each rule with a new executor.

    The checks run in real time, since an executor may have a thread.

    Args:
        make_executor: Called with a function that returns a context manager for an SDK session (an async one if
            `asynchronous`), and a nursery for the executor's tasks. Returns an executor that is not open.
        asynchronous: Calls are `async def` and run in the caller's task, so the rules about concurrent and abandoned
            calls are left out. Otherwise calls run where the SDK lives, one at a time.
        timeout: Seconds of real time to wait for a thread; a check ends after three times that.
        raises: Raise if there are findings. Otherwise the report has them.

    Returns:
        The report.

    Raises:
        ConformanceError: The executor breaks a rule, and `raises` is true.

    Cancelled:
        The executor of the current check may be left open.
    """

    def check(rule: Callable[[ExecutorFixture], Awaitable[None]]) -> Callable[[], Awaitable[None]]:
        async def run() -> None:
            sdk = FakeSdk()
            raised: BaseException | None = None
            with trio.move_on_after(timeout * 3) as scope:
                async with trio.open_nursery() as nursery:
                    factory = sdk.async_session if asynchronous else sdk.session
                    fixture = ExecutorFixture(make_executor(factory, nursery), sdk, not asynchronous, timeout)
                    try:
                        await rule(fixture)
                    except Exception as error:
                        raised = error
                    finally:
                        fixture.release()
                    nursery.cancel_scope.cancel()
            if raised is not None:
                raise raised
            assert not scope.cancelled_caught, f"the check did not end within {timeout * 3:g} s"

        return run

    rules = [*_RULES, *([] if asynchronous else _THREAD_RULES)]
    checks = [((rule.__doc__ or rule.__name__).splitlines()[0].rstrip("."), check(rule)) for rule in rules]
    left_out = ("concurrent and abandoned calls: an asynchronous executor has none",) if asynchronous else ()
    report = await collect("the executor", checks, left_out)
    return report.check() if raises else report


def _expect(holds: bool, violation: str) -> None:
    """Raise `AssertionError` with `violation`, which says what happened, unless the rule holds."""
    if not holds:
        raise AssertionError(violation)


async def _check_open_call_close(fixture: ExecutorFixture) -> None:
    """A session is opened, called and closed on one thread (P2, P3)."""
    executor, sdk = fixture.executor, fixture.sdk
    _expect(
        not executor.is_open and not executor.inside and executor.session == 0,
        f"a new executor has is_open {executor.is_open}, inside {executor.inside} and session {executor.session}, "
        "not False, False and 0",
    )
    await executor.open()
    _expect(
        executor.is_open and not executor.inside and executor.session == 1,
        f"after open, is_open is {executor.is_open}, inside {executor.inside} and session {executor.session}, "
        "not True, False and 1",
    )
    for n in range(5):
        result = (await fixture.call(f"call {n}")).unwrap()
        _expect(result == f"call {n}", f"the executor returned {result!r} for a call that returned 'call {n}'")
    _expect(await executor.close() is True, "close did not return True after a clean close")
    _expect(not executor.is_open, "is_open is still True after close")
    problem = executor.take_close_problem()
    _expect(problem is None, f"take_close_problem returned {problem!r} after a clean close")
    await executor.stop()
    sdk.check()
    expected = [f"call {n}" for n in range(5)]
    _expect(sdk.calls() == expected, f"the SDK received {sdk.calls()}, not {expected}")
    in_trio = sdk.steps[0].thread == threading.get_ident()
    if fixture.threaded:
        _expect(not in_trio, "the SDK was opened on Trio's thread")
    else:
        _expect(in_trio, "an asynchronous SDK was opened outside Trio's thread")


async def _check_repeated_close(fixture: ExecutorFixture) -> None:
    """Close and stop can be called twice; the session is closed once (P3)."""
    executor, sdk = fixture.executor, fixture.sdk
    _expect(await executor.close() is True, "close of an executor that was never opened did not return True")
    await executor.open()
    await executor.close()
    _expect(await executor.close() is True, "the second close did not return True")
    await executor.stop()
    await executor.stop()
    _expect(sdk.count("close") == 1, f"the session was closed {sdk.count('close')} times")


async def _check_reopen(fixture: ExecutorFixture) -> None:
    """After a close the executor can be opened again, with a new session number."""
    executor, sdk = fixture.executor, fixture.sdk
    for number in (1, 2, 3):
        await executor.open()
        _expect(executor.session == number, f"session {number} has the number {executor.session}")
        _expect((await fixture.call("x")).unwrap() == "x", f"session {number} does not return the result of a call")
        _expect(await executor.close(), f"session {number} was not closed")
    await executor.stop()
    sdk.check()
    opened, closed = sdk.count("open"), sdk.count("close")
    _expect(opened == closed == 3, f"the SDK was opened {opened} and closed {closed} times, not 3 and 3")


async def _check_failing_open(fixture: ExecutorFixture) -> None:
    """An exception from opening the SDK propagates from open, and open can be called again."""
    executor, sdk = fixture.executor, fixture.sdk
    for error in (PlannedError("busy"), SystemExit(3)):
        sdk.script("open", error)
        raised = await fixture.raised(executor.open)
        _expect(raised is error, f"open raised {raised!r} where the SDK raised {error!r}")
        _expect(not executor.is_open and not executor.inside, "the executor is open or busy after an open that failed")
        _expect(executor.session == 0, f"an open that failed was given the session number {executor.session}")
    await executor.open()
    _expect(executor.is_open and executor.session == 1, "the open after two failed ones did not open session 1")
    await executor.close()
    sdk.script("open", PlannedError("busy"))
    await fixture.raised(executor.open)
    await executor.stop()
    sdk.check()


async def _check_failing_close(fixture: ExecutorFixture) -> None:
    """An exception from closing the SDK is reported once, and the session counts as closed."""
    executor, sdk = fixture.executor, fixture.sdk
    sdk.script("close", PlannedError("cannot close"))
    await executor.open()
    _expect(await executor.close() is True, "close did not return True after the SDK's close raised")
    problem = executor.take_close_problem()
    _expect(
        problem is not None and "PlannedError" in problem,
        f"take_close_problem returned {problem!r}, which does not name the PlannedError that the SDK's close raised",
    )
    _expect(executor.take_close_problem() is None, "take_close_problem returned the same problem twice")
    await executor.open()
    _expect((await fixture.call("x")).unwrap() == "x", "the session after a failed close does not work")
    await executor.close()
    await executor.stop()


async def _check_failing_call(fixture: ExecutorFixture) -> None:
    """An exception from a call is returned as a value, whatever its type, and the session stays usable."""
    executor, sdk = fixture.executor, fixture.sdk
    await executor.open()
    errors: list[BaseException] = [
        PlannedError(), SystemExit(1), GeneratorExit(), StopAsyncIteration(), UnusualError(),
    ]  # fmt: skip
    for error in [*errors, BaseExceptionGroup("", [UnusualError()])]:
        sdk.script("call", error)
        result = await fixture.call("bad")
        _expect(
            isinstance(result, outcome.Error) and result.error is error,
            f"a call that raised {error!r} returned {result!r}",
        )
        _expect((await fixture.call("next")).unwrap() == "next", f"after {error!r} the next call does not work")
    await executor.close()
    await executor.stop()
    sdk.check()


async def _check_cancelled_open(fixture: ExecutorFixture) -> None:
    """A cancelled open leaves no open session, at the latest when the SDK's opening has returned (P3)."""
    executor, sdk, blocker = fixture.executor, fixture.sdk, fixture.blocker()
    sdk.script("open", blocker)
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def _cancel() -> None:
                await fixture.reached(blocker)
                scope.cancel()

            await executor.open()
    _expect(scope.cancelled_caught, "open did not raise Cancelled")
    _expect(not executor.is_open, "the executor is open after a cancelled open")
    closing = fixture.blocker()
    sdk.script("close", closing)
    if fixture.threaded:
        _expect(executor.inside, "inside is False while the SDK's opening is still running")
        blocker.release()
        await closing.reached()
        closing.release()
    else:
        closing.release()
        with trio.CancelScope(shield=True):
            await executor.close()
        _expect(not executor.inside, "inside is still True after close")
    closes = sdk.count("close")
    _expect(closes <= 1, f"the session was closed {closes} times")
    _expect(sdk.max_concurrent == 1, f"{sdk.max_concurrent} calls were in the SDK at once")


async def _check_handle(fixture: ExecutorFixture) -> None:
    """The handle of an async handler calls `enter` before each call and `leave` after it."""
    executor, calls = fixture.executor, []

    async def enter() -> None:
        calls.append("enter")
        await trio.lowlevel.checkpoint()

    await executor.open()
    handle = executor.handle(enter, lambda: calls.append("leave"))
    if fixture.threaded:
        result = await handle.call(lambda session: session.call("x"))
        _expect(result == "x", f"the handle returned {result!r} for a call that returned 'x'")
        _expect(calls == ["enter", "leave"], f"around one call the handle called {calls}, not enter and leave")
        fixture.sdk.script("call", PlannedError())
        error = await fixture.raised(lambda: handle.call(lambda session: session.call("bad")))
        _expect(isinstance(error, PlannedError), f"the handle raised {error!r} where the SDK raised PlannedError")
        _expect(calls == ["enter", "leave"] * 2, f"around two calls, the second failing, the handle called {calls}")
    else:
        _expect(await handle.acall("x") == "x", "the handle of an asynchronous executor is not the session")
    await executor.close()
    await executor.stop()


async def _check_lost_session(fixture: ExecutorFixture) -> None:
    """A session that fails at every call, and at its close, can be closed and replaced."""
    executor, sdk = fixture.executor, fixture.sdk
    await executor.open()
    for _ in range(3):
        sdk.script("call", ConnectionError("gone"))
        _expect(isinstance(await fixture.call("x"), outcome.Error), "the error of a call was not returned")
    sdk.script("close", ConnectionError("gone"))
    _expect(await executor.close() is True, "close did not return True after the SDK's close raised")
    with suppress(Exception):
        executor.take_close_problem()
    await executor.open()
    _expect((await fixture.call("x")).unwrap() == "x", "the session after a lost one does not work")
    await executor.close()
    await executor.stop()


async def _check_concurrent_call(fixture: ExecutorFixture) -> None:
    """While a call is inside, nothing else enters: no call, no close, no second session (P1)."""
    executor, sdk, blocker = fixture.executor, fixture.sdk, fixture.blocker("first")
    sdk.script("call", blocker)
    await executor.open()
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
        _expect(not entered, f"a second {name} was accepted while a call was inside: the SDK received {entered}")
        _expect(value is not True, f"{name} returned True while a call was inside")
        _expect(not isinstance(value, outcome.Value), f"a second {name} returned {value!r} while a call was inside")

    async with fixture.tasks() as nursery:
        nursery.start_soon(first)
        await blocker.reached()
        _expect(executor.inside, "inside is False while a call is inside")
        await refused_or_waiting("call", lambda: fixture.call("second"))
        await refused_or_waiting("open", executor.open)
        await refused_or_waiting("close", executor.close)
        blocker.release()
    _expect(sdk.max_concurrent == 1, f"{sdk.max_concurrent} calls were in the SDK at once")
    _expect(results[0].unwrap() == "first", "the result of the first call was lost")
    _expect(await executor.close() is True, "close did not return True after the call had returned")
    await executor.stop()


async def _check_cancelled_call(fixture: ExecutorFixture) -> None:
    """A call whose caller is cancelled is waited for, and its result is returned."""
    executor, sdk, blocker = fixture.executor, fixture.sdk, fixture.blocker("late")
    sdk.script("call", blocker)
    await executor.open()
    with trio.CancelScope() as scope:
        scope.cancel()
        trio.lowlevel.current_trio_token().run_sync_soon(blocker.release)
        result = await fixture.call("x")
        _expect(result.unwrap() == "late", f"the call returned 'late', and the executor {result!r}")
    _expect(not scope.cancelled_caught, "the call raised Cancelled instead of returning its result")
    _expect(not executor.inside, "inside is still True after the call has returned")
    await executor.close()
    await executor.stop()
    sdk.check()


async def _check_abandoned_call(fixture: ExecutorFixture) -> None:
    """After abandon no caller waits, nothing else enters, and the session is closed when the call has returned."""
    executor, sdk, blocker, closing = fixture.executor, fixture.sdk, fixture.blocker(), fixture.blocker()
    sdk.script("call", blocker)
    sdk.script("close", closing)
    await executor.open()
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
        _expect(returned.is_set(), "the caller of the abandoned call still waits")
    _expect(
        isinstance(results[0], outcome.Error) and isinstance(results[0].error, SdkCallStuck),
        f"the caller of the abandoned call received {results[0]!r}, not SdkCallStuck",
    )
    _expect(not executor.is_open, "is_open is still True after abandon")
    _expect(await executor.close() is False, "close returned True though the abandoned call is still inside")
    late = await fixture.raised(lambda: fixture.call("another"))
    _expect(late is not None and sdk.count("call") == 1, "another call was accepted after abandon (P1)")
    blocker.release()
    await closing.reached()
    threads = {step.thread for step in sdk.steps}
    _expect(len(threads) == 1, f"the session was opened, called and closed on {len(threads)} threads (P2)")
    closing.release()
    await executor.stop()


_RULES: Final = (
    *(_check_open_call_close, _check_repeated_close, _check_reopen),
    *(_check_failing_open, _check_failing_close, _check_failing_call),
    *(_check_cancelled_open, _check_handle, _check_lost_session),
)
_THREAD_RULES: Final = (_check_concurrent_call, _check_cancelled_call, _check_abandoned_call)
