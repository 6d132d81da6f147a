"""The contract of an SDK executor (`_ports.SdkExecutor`) as checks that run on any executor: one call at a time (P1),
on one thread (P2), always closed (P3), also when calls are late, cancelled, abandoned or fail."""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, Final

import trio

from trio_jobs._call_report import CallReport
from trio_jobs._errors import SessionDiscarded
from trio_jobs._exception_tree import leaves
from trio_jobs._interruption import Interrupts, Kills
from trio_jobs._ports import Discard, SdkExecutor
from trio_jobs.testing import _remote_session
from trio_jobs.testing._executor_errors import PlannedError, UnusualError
from trio_jobs.testing._executor_fixture import FIRST, ExecutorFixture, expect, fixture_for, returned
from trio_jobs.testing._executor_interrupt_check import INTERRUPT_RULES
from trio_jobs.testing._executor_kill_check import KILL_RULES
from trio_jobs.testing._executor_thread_check import LOCAL_THREAD_RULES, THREAD_RULES
from trio_jobs.testing._quiet_log import quiet_log
from trio_jobs.testing._remote_session import MakeObject
from trio_jobs.testing._sdk_objects import SdkObjects
from trio_jobs.testing.fake_sdk import FakeSdk
from trio_jobs.testing.report import CheckReport, collect

__all__ = ["check_executor"]

TIMEOUT: Final = 20.0  #: seconds to wait for a thread to reach a point
DESTROY_TIMEOUT: Final = 2.0  #: seconds to wait for objects to be destroyed after the executor has stopped

MakeExecutor = Callable[[Any, trio.Nursery], SdkExecutor]


async def check_executor(
    make_executor: MakeExecutor,
    *,
    asynchronous: bool = False,
    remote: bool = False,
    timeout: float = TIMEOUT,
    raises: bool = True,
    log: bool = False,
) -> CheckReport:
    """Check that an SDK executor keeps its contract, each rule with a new executor.

    The checks run in real time, since an executor may have a thread.

    Args:
        make_executor: Called with a function that returns a context manager for an SDK session (an async one if
            `asynchronous`), and a nursery for the executor's tasks. Returns an executor that is not open.
            If `remote`, the first argument is a `Service` instead, a global of a module that any process can import.
        asynchronous: Calls are `async def` and run in the caller's task, so the rules about concurrent and abandoned
            calls are left out. Otherwise calls run where the SDK lives, one at a time.
        remote: The SDK lives in another process, which inherits the environment variables of this one. The executor
            opens the `sdk` of the service there, and makes each `HandlerCall` with the handler of the same kind. It
            conforms to `Kills`, and the rules about processes that are killed or die are checked too.
        timeout: Seconds of real time to wait for a thread; a check ends after three times that.
        raises: Raise if there are findings. Otherwise the report has them.
        log: Let the log records of trio-jobs reach the handlers of `logging`.

    Returns:
        The report.

    Raises:
        ConformanceError: The executor breaks a rule, and `raises` is true.

    Cancelled:
        The executor of the current check may be left open.
    """

    def check(rule: Callable[[ExecutorFixture], Awaitable[None]]) -> Callable[[], Awaitable[None]]:
        async def run() -> None:
            raised: BaseException | None = None
            with trio.move_on_after(timeout * 3) as scope:
                async with trio.open_nursery() as nursery:
                    fixture = fixture_for(lambda opens: make_executor(opens, nursery), asynchronous, remote, timeout)
                    try:
                        await rule(fixture)
                    except Exception as error:
                        raised = error
                    finally:
                        fixture.release()
                        await fixture.end()
                    nursery.cancel_scope.cancel()
            if raised is not None:
                raise raised
            assert not scope.cancelled_caught, f"the check did not end within {timeout * 3:g} s"

        return run

    async with trio.open_nursery() as nursery:
        sdk = FakeSdk()
        factory = sdk.async_session if asynchronous else sdk.session
        executor = make_executor(_remote_session.service if remote else factory, nursery)
        interrupts, kills = isinstance(executor, Interrupts), isinstance(executor, Kills)
        nursery.cancel_scope.cancel()
    rules: list[Callable[[ExecutorFixture], Awaitable[None]]] = [*_RULES]
    if not remote:
        rules += _LOCAL_RULES
    if not asynchronous:
        rules += THREAD_RULES if remote else (*THREAD_RULES, *LOCAL_THREAD_RULES)
    if interrupts:
        rules += INTERRUPT_RULES
    if remote and kills:
        rules += KILL_RULES
    checks = [((rule.__doc__ or rule.__name__).splitlines()[0].rstrip("."), check(rule)) for rule in rules]
    left_out = ["concurrent and abandoned calls: an asynchronous executor has none"] if asynchronous else []
    if not interrupts and not asynchronous:
        left_out.append("interruptions: the executor does not conform to trio_jobs.ports.Interrupts")
    if remote and not kills:
        left_out.append("kills: the executor does not conform to trio_jobs.ports.Kills")
    with quiet_log(log):
        report = await collect("the executor", checks, tuple(left_out))
    return report.check() if raises else report


async def _check_open_call_close(fixture: ExecutorFixture) -> None:
    """A session is opened, called and closed on one thread (P2, P3)."""
    executor, sdk = fixture.executor, fixture.sdk
    expect(
        not executor.is_open and not executor.inside and executor.session == 0,
        f"a new executor has is_open {executor.is_open}, inside {executor.inside} and session {executor.session}, "
        "not False, False and 0",
    )
    await executor.open(FIRST)
    expect(
        executor.is_open and not executor.inside and executor.session == 1,
        f"after open, is_open is {executor.is_open}, inside {executor.inside} and session {executor.session}, "
        "not True, False and 1",
    )
    for n in range(5):
        result = returned(await fixture.call(f"call {n}"))
        expect(result == f"call {n}", f"the executor returned {result!r} for a call that returned 'call {n}'")
    expect(await executor.close() is True, "close did not return True after a clean close")
    expect(not executor.is_open, "is_open is still True after close")
    problem = executor.take_close_problem()
    expect(problem is None, f"take_close_problem returned {problem!r} after a clean close")
    await executor.stop()
    sdk.check()
    expected = [f"call {n}" for n in range(5)]
    expect(sdk.calls() == expected, f"the SDK received {sdk.calls()}, not {expected}")
    in_trio = sdk.steps[0].thread == threading.get_ident()
    if fixture.threaded:
        expect(not in_trio, "the SDK was opened on Trio's thread")
    else:
        expect(in_trio, "an asynchronous SDK was opened outside Trio's thread")


async def _check_repeated_close(fixture: ExecutorFixture) -> None:
    """Close and stop can be called twice; the session is closed once (P3)."""
    executor, sdk = fixture.executor, fixture.sdk
    expect(await executor.close() is True, "close of an executor that was never opened did not return True")
    await executor.open(FIRST)
    await executor.close()
    expect(await executor.close() is True, "the second close did not return True")
    await executor.stop()
    await executor.stop()
    expect(sdk.count("close") == 1, f"the session was closed {sdk.count('close')} times")


async def _check_reopen(fixture: ExecutorFixture) -> None:
    """After a close the executor can be opened again, with a new session number."""
    executor, sdk = fixture.executor, fixture.sdk
    for number in (1, 2, 3):
        await executor.open(FIRST)
        expect(executor.session == number, f"session {number} has the number {executor.session}")
        expect(returned(await fixture.call("x")) == "x", f"session {number} does not return the result of a call")
        expect(await executor.close(), f"session {number} was not closed")
    await executor.stop()
    sdk.check()
    opened, closed = sdk.count("open"), sdk.count("close")
    expect(opened == closed == 3, f"the SDK was opened {opened} and closed {closed} times, not 3 and 3")


async def _check_failing_open(fixture: ExecutorFixture) -> None:
    """An exception from opening the SDK propagates from open, and open can be called again."""
    executor, sdk = fixture.executor, fixture.sdk
    for error in (PlannedError("busy"), SystemExit(3)):
        sdk.script("open", error)
        raised = await fixture.raised(lambda: executor.open(FIRST))
        expect(fixture.is_same(raised, error), f"open raised {raised!r} where the SDK raised {error!r}")
        expect(not executor.is_open and not executor.inside, "the executor is open or busy after an open that failed")
        expect(executor.session == 0, f"an open that failed was given the session number {executor.session}")
    await executor.open(FIRST)
    expect(executor.is_open and executor.session == 1, "the open after two failed ones did not open session 1")
    await executor.close()
    sdk.script("open", PlannedError("busy"))
    await fixture.raised(lambda: executor.open(FIRST))
    await executor.stop()
    sdk.check()


async def _check_failing_close(fixture: ExecutorFixture) -> None:
    """An exception from closing the SDK is reported once, and the session counts as closed."""
    executor, sdk = fixture.executor, fixture.sdk
    sdk.script("close", PlannedError("cannot close"))
    await executor.open(FIRST)
    expect(await executor.close() is True, "close did not return True after the SDK's close raised")
    problem = executor.take_close_problem()
    expect(
        problem is not None and "PlannedError" in problem,
        f"take_close_problem returned {problem!r}, which does not name the PlannedError that the SDK's close raised",
    )
    expect(executor.take_close_problem() is None, "take_close_problem returned the same problem twice")
    await executor.open(FIRST)
    expect(returned(await fixture.call("x")) == "x", "the session after a failed close does not work")
    await executor.close()
    await executor.stop()


async def _check_discard(fixture: ExecutorFixture) -> None:
    """The exception because of which a session is discarded is raised in its context manager (P6)."""
    executor, sdk = fixture.executor, fixture.sdk
    for reason, error in (("PlannedError", PlannedError("half done")), ("attempt_timeout", None)):
        await executor.open(FIRST)
        if error is not None:
            sdk.script("call", error)
            await fixture.call("bad")
        expect(
            await executor.close(Discard(reason, by_last_call=error is not None)) is True,
            "close did not return True after a discard",
        )
        thrown = sdk.thrown[-1] if sdk.thrown else None
        expected = SessionDiscarded if error is None else PlannedError
        expect(
            isinstance(thrown, expected),
            f"{thrown!r} was raised in the context manager of a session discarded because of {error or reason!r}",
        )
        problem = executor.take_close_problem()
        expect(problem is None, f"take_close_problem returned {problem!r}, the exception that was thrown")
    sdk.script("close", OSError("cannot roll back"))
    await executor.open(FIRST)
    await executor.close(Discard("attempt_timeout"))
    problem = executor.take_close_problem()
    expect(
        problem is not None and "cannot roll back" in problem,
        f"take_close_problem returned {problem!r}, which does not name what closing a discarded session raised",
    )
    await executor.open(FIRST)
    await executor.close()
    expect(len(sdk.thrown) == 3, "an exception was raised in the context manager of a session that was closed")
    await executor.stop()
    sdk.check()


async def _check_failing_call(fixture: ExecutorFixture) -> None:
    """An exception from a call is returned as data, whatever its type, and the session stays usable."""
    executor, sdk = fixture.executor, fixture.sdk
    await executor.open(FIRST)
    errors: list[BaseException] = [
        PlannedError(), SystemExit(1), GeneratorExit(), StopAsyncIteration(), UnusualError(),
    ]  # fmt: skip
    for error in [*errors, BaseExceptionGroup("", [UnusualError()])]:
        sdk.script("call", error)
        report = await fixture.call("bad")
        expect(
            isinstance(report, CallReport)
            and report.error is not None
            and report.error.info.type == type(next(leaves(error))).__name__,
            f"a call that raised {error!r} returned {report!r}",
        )
        expect(returned(await fixture.call("next")) == "next", f"after {error!r} the next call does not work")
    await executor.close()
    await executor.stop()
    sdk.check()


async def _check_objects(fixture: ExecutorFixture) -> None:
    """What the SDK made is destroyed on the session's thread: results, and the frames of exceptions (P2)."""
    executor, sdk, remote = fixture.executor, fixture.sdk, fixture.remote
    objects = SdkObjects() if remote is None else remote.objects

    def make() -> Any:
        return objects.make() if remote is None else MakeObject(fails=False)

    def fail() -> Any:
        if remote is not None:
            return MakeObject(fails=True)
        made = objects.make()
        raise PlannedError(f"with an object on thread {made.home}")

    sdk.script("open", fail)
    expect(
        fixture.is_a(await fixture.raised(lambda: executor.open(FIRST)), PlannedError),
        "open did not raise what the SDK raised",
    )
    for discards in (False, True):
        await executor.open(FIRST)
        sdk.script("call", make, fail, make, fail)
        for _ in range(4):
            await fixture.call("x")
        await executor.close(Discard("PlannedError", by_last_call=True) if discards else None)
    await executor.stop()
    await objects.check(min(fixture.timeout, DESTROY_TIMEOUT))


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

            await executor.open(FIRST)
    expect(scope.cancelled_caught, "open did not raise Cancelled")
    expect(not executor.is_open, "the executor is open after a cancelled open")
    closing = fixture.blocker()
    sdk.script("close", closing)
    if fixture.threaded:
        expect(executor.inside, "inside is False while the SDK's opening is still running")
        blocker.release()
        await closing.reached()
        closing.release()
    else:
        closing.release()
        with trio.CancelScope(shield=True):
            await executor.close()
        expect(not executor.inside, "inside is still True after close")
    closes = sdk.count("close")
    expect(closes <= 1, f"the session was closed {closes} times")
    expect(sdk.max_concurrent == 1, f"{sdk.max_concurrent} calls were in the SDK at once")


async def _check_handle(fixture: ExecutorFixture) -> None:
    """The handle of an async handler calls `enter` before each call and `leave` after it."""
    executor, calls = fixture.executor, []

    async def enter() -> None:
        calls.append("enter")
        await trio.lowlevel.checkpoint()

    await executor.open(FIRST)
    handle = executor.handle(enter, lambda: calls.append("leave"))
    if fixture.threaded:
        result = await handle.call(_remote_session.call_x)
        expect(result == "x", f"the handle returned {result!r} for a call that returned 'x'")
        expect(calls == ["enter", "leave"], f"around one call the handle called {calls}, not enter and leave")
        fixture.sdk.script("call", PlannedError())
        error = await fixture.raised(lambda: handle.call(_remote_session.call_x))
        expect(fixture.is_a(error, PlannedError), f"the handle raised {error!r} where the SDK raised PlannedError")
        expect(calls == ["enter", "leave"] * 2, f"around two calls, the second failing, the handle called {calls}")
    else:
        expect(await handle.acall("x") == "x", "the handle of an asynchronous executor is not the session")
    await executor.close()
    await executor.stop()


async def _check_lost_session(fixture: ExecutorFixture) -> None:
    """A session that fails at every call, and at its close, can be closed and replaced."""
    executor, sdk = fixture.executor, fixture.sdk
    await executor.open(FIRST)
    for _ in range(3):
        sdk.script("call", ConnectionError("gone"))
        expect((await fixture.call("x")).error is not None, "the error of a call was not returned")
    sdk.script("close", ConnectionError("gone"))
    expect(await executor.close() is True, "close did not return True after the SDK's close raised")
    with suppress(Exception):
        executor.take_close_problem()
    await executor.open(FIRST)
    expect(returned(await fixture.call("x")) == "x", "the session after a lost one does not work")
    await executor.close()
    await executor.stop()


_RULES: Final = (
    *(_check_open_call_close, _check_repeated_close, _check_reopen),
    *(_check_failing_open, _check_failing_close, _check_discard, _check_failing_call, _check_objects),
    *(_check_handle, _check_lost_session),
)
_LOCAL_RULES: Final = (_check_cancelled_open,)
