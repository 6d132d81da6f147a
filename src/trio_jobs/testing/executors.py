"""What every host must do (`_ports.SdkExecutor`), as one text that is run on each of them: P1, P2, P3, and what is
late, cancelled, poisoned or given up."""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, Final

import attrs
import outcome
import trio

from trio_jobs._errors import SdkCallStuck
from trio_jobs._ports import SdkExecutor
from trio_jobs.testing.fakes import Blocker, FakeSdk, FakeSession
from trio_jobs.testing.report import CheckReport, collect

__all__ = ["check_executor"]

PATIENCE: Final = 20.0  #: seconds for a thread to come where it is waited for

MakeHost = Callable[[Callable[[], Any], trio.Nursery], SdkExecutor]


class Planned(Exception):
    """What a check has an SDK raise."""


@attrs.define(eq=False)
class _Bench:
    """One host before a fake SDK. threaded: plain calls on a thread; else asynchronous ones in Trio. holds: all that
    were made, to be let go of whatever comes."""

    executor: SdkExecutor
    sdk: FakeSdk
    threaded: bool
    patience: float
    holds: list[Blocker] = attrs.field(factory=list)

    def hold(self, then: Any = None) -> Blocker:
        self.holds.append(Blocker(then, patience=self.patience))
        return self.holds[-1]

    async def call(self, what: str) -> outcome.Value[Any] | outcome.Error:
        if self.threaded:
            return await self.executor.call(lambda session: session.call(what))

        async def acall(session: FakeSession) -> Any:
            return await session.acall(what)

        return await self.executor.call(acall)

    async def reached(self, hold: Blocker) -> None:
        await (hold.reached() if self.threaded else hold.reached_in_trio())

    async def raised(self, do: Callable[[], Awaitable[Any]]) -> BaseException | None:
        try:
            await do()
        except (Exception, SystemExit, GeneratorExit) as error:
            return error
        return None


async def check_executor(
    make_executor: MakeHost, *, asynchronous: bool = False, patience: float = PATIENCE, raises: bool = True
) -> CheckReport:
    """Run every check on hosts of its own.

    make_executor: called with what opens the SDK (a function that gives a context manager; an async one if
    `asynchronous`) and a nursery for the host's tasks; gives a host that is not open. asynchronous: its calls are
    `async def` and run in the caller's task, so what stands in them is their affair; else they run where the SDK lives,
    one at a time. patience: seconds of real time to wait for a thread.

    In real time, since a host may have a thread. Raises `ConformanceError` with what was found, unless `raises` is
    False.
    """

    def check(rule: Callable[[_Bench], Awaitable[None]]) -> Callable[[], Awaitable[None]]:
        async def run() -> None:
            sdk = FakeSdk()
            raised: BaseException | None = None
            with trio.move_on_after(patience * 3) as scope:
                async with trio.open_nursery() as nursery:
                    factory = sdk.async_session if asynchronous else sdk.session
                    bench = _Bench(make_executor(factory, nursery), sdk, not asynchronous, patience)
                    try:
                        await rule(bench)
                    except Exception as error:
                        raised = error
                    finally:
                        for hold in bench.holds:
                            hold.let_go()
                    nursery.cancel_scope.cancel()
            if raised is not None:
                raise raised
            assert not scope.cancelled_caught, "it ends"

        return run

    rules = [*_RULES, *([] if asynchronous else _THREAD_RULES)]
    checks = [((rule.__doc__ or rule.__name__).splitlines()[0].rstrip("."), check(rule)) for rule in rules]
    left_out = ("calls that are inside while another comes: an asynchronous host has none",) if asynchronous else ()
    report = await collect("the host", checks, left_out)
    return report.check() if raises else report


async def _opens_calls_and_closes(bench: _Bench) -> None:
    """A session is opened, called and closed, on one thread, once (P2, P3)."""
    executor, sdk = bench.executor, bench.sdk
    _rule(
        not executor.is_open and not executor.inside and executor.session == 0,
        "a new host is closed, empty, at session 0",
    )
    await executor.open()
    _rule(executor.is_open and not executor.inside and executor.session == 1, "it is then open, at session 1")
    for n in range(5):
        _rule((await bench.call(f"call {n}")).unwrap() == f"call {n}", "a call gives back what it returns")
    _rule(await executor.close() is True, "close says that no session is open")
    _rule(not executor.is_open, "it is then closed")
    _rule(executor.take_close_problem() is None, "a close without trouble has no problem")
    await executor.stop()
    sdk.check()
    _rule(sdk.calls() == [f"call {n}" for n in range(5)], "each call is made once, in order")
    if bench.threaded:
        _rule(sdk.steps[0].thread != threading.get_ident(), "the SDK's thread is not Trio's")
    else:
        _rule(sdk.steps[0].thread == threading.get_ident(), "an asynchronous SDK lives in Trio's thread")


async def _closes_once(bench: _Bench) -> None:
    """Closing and stopping twice is harmless, and closes once (P3)."""
    executor, sdk = bench.executor, bench.sdk
    _rule(await executor.close() is True, "what was never open is closed")
    await executor.open()
    await executor.close()
    _rule(await executor.close() is True, "the second close says the same")
    await executor.stop()
    await executor.stop()
    _rule(sdk.count("close") == 1, "the session was closed once")


async def _opens_anew(bench: _Bench) -> None:
    """A host can be opened again after a close: a new session, with a new number."""
    executor, sdk = bench.executor, bench.sdk
    for number in (1, 2, 3):
        await executor.open()
        _rule(executor.session == number, f"this is session {number}")
        _rule((await bench.call("x")).unwrap() == "x", "which can be used")
        _rule(await executor.close(), "and closed")
    await executor.stop()
    sdk.check()
    _rule(sdk.count("open") == sdk.count("close") == 3, "each open has its close")


async def _passes_on_what_opening_raises(bench: _Bench) -> None:
    """What opening raises comes out of open, and the host can be opened again."""
    executor, sdk = bench.executor, bench.sdk
    for error in (Planned("busy"), SystemExit(3)):
        sdk.script("open", error)
        _rule(await bench.raised(executor.open) is error, f"a {type(error).__name__} from opening comes out of open")
        _rule(not executor.is_open and not executor.inside, "the host is then closed and empty")
        _rule(executor.session == 0, "a session that was not opened has no number")
    await executor.open()
    _rule(executor.is_open and executor.session == 1, "the next open opens")
    await executor.close()
    await executor.stop()


async def _tells_what_closing_raises(bench: _Bench) -> None:
    """What closing raises is told once, and the session counts as closed."""
    executor, sdk = bench.executor, bench.sdk
    sdk.script("close", Planned("would not"))
    await executor.open()
    _rule(await executor.close() is True, "there is no open session any more")
    problem = executor.take_close_problem()
    _rule(problem is not None and "Planned" in problem, "the problem names what was raised")
    _rule(executor.take_close_problem() is None, "it is told once")
    await executor.open()
    _rule((await bench.call("x")).unwrap() == "x", "the next session is a good one")
    await executor.close()
    await executor.stop()


async def _lives_on_after_any_error(bench: _Bench) -> None:
    """What a call raises comes back as a value, whatever it is, and the host lives on."""
    executor, sdk = bench.executor, bench.sdk
    await executor.open()
    odd: list[BaseException] = [Planned(), SystemExit(1), GeneratorExit(), StopAsyncIteration(), Odd()]
    for error in [*odd, BaseExceptionGroup("", [Odd()])]:
        sdk.script("call", error)
        result = await bench.call("bad")
        _rule(isinstance(result, outcome.Error) and result.error is error, f"{error!r} comes back as it was raised")
        _rule((await bench.call("next")).unwrap() == "next", f"after {error!r} the next call is made")
    await executor.close()
    await executor.stop()
    sdk.check()


async def _an_open_that_is_cancelled_leaves_no_session(bench: _Bench) -> None:
    """An open that is cancelled leaves no session, at the latest when its opening has returned (P3)."""
    executor, sdk, hold = bench.executor, bench.sdk, bench.hold()
    sdk.script("open", hold)
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def _cancel() -> None:
                await bench.reached(hold)
                scope.cancel()

            await executor.open()
    _rule(scope.cancelled_caught, "Cancelled comes out of open")
    _rule(not executor.is_open, "no session is open")
    closing = bench.hold()
    sdk.script("close", closing)
    if bench.threaded:
        _rule(executor.inside, "the opening cannot be broken off: it is still inside")
        hold.let_go()
        await closing.reached()
        closing.let_go()
    else:
        closing.let_go()
        with trio.CancelScope(shield=True):
            await executor.close()
        _rule(not executor.inside, "its task has ended")
    _rule(sdk.count("close") <= 1 and sdk.most_inside == 1, "what was opened is closed once")


async def _gives_what_an_async_handler_needs(bench: _Bench) -> None:
    """The handle of an async handler enters before each call and leaves after it."""
    executor, told = bench.executor, []

    async def enter() -> None:
        told.append("enter")
        await trio.lowlevel.checkpoint()

    await executor.open()
    handle = executor.handle(enter, lambda: told.append("leave"))
    if bench.threaded:
        _rule(await handle.call(lambda session: session.call("x")) == "x", "a call gives back what it returns")
        _rule(told == ["enter", "leave"], "enter comes before it, leave after it")
        bench.sdk.script("call", Planned())
        error = await bench.raised(lambda: handle.call(lambda session: session.call("bad")))
        _rule(isinstance(error, Planned), "a call raises what it raises")
        _rule(told == ["enter", "leave"] * 2, "leave comes after an error too")
    else:
        _rule(await handle.acall("x") == "x", "it is the SDK itself")
    await executor.close()
    await executor.stop()


async def _lets_nothing_in_beside_a_call(bench: _Bench) -> None:
    """While a call is inside nothing enters: no call, no close, no second session (P1)."""
    executor, sdk, hold = bench.executor, bench.sdk, bench.hold("first")
    sdk.script("call", hold)
    await executor.open()
    answers: list[Any] = []

    async def first() -> None:
        answers.append(await bench.call("first"))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(first)
        await hold.reached()
        _rule(executor.inside, "it says that a call is inside")
        for name, do in (("call", lambda: bench.call("second")), ("open", executor.open)):
            with trio.move_on_after(0.05):  # refused at once, or waiting: both let nothing in
                _rule(await bench.raised(do) is not None, f"a second {name} is refused or waits")
        with trio.move_on_after(0.05):
            _rule(await executor.close() is False, "a close under a call does not claim to have closed")
        _rule(sdk.most_inside == 1 and sdk.count("close") == 0 and sdk.count("open") == 1, "and nothing has entered")
        hold.let_go()
    _rule(answers[0].unwrap() == "first", "the first call is not disturbed by any of that")
    _rule(await executor.close() is True, "then it can be closed")
    await executor.stop()


async def _waits_for_a_cancelled_call(bench: _Bench) -> None:
    """A call is waited for even when its caller is cancelled, and its result is given back."""
    executor, sdk, hold = bench.executor, bench.sdk, bench.hold("late")
    sdk.script("call", hold)
    await executor.open()
    with trio.CancelScope() as scope:
        scope.cancel()
        trio.lowlevel.current_trio_token().run_sync_soon(hold.let_go)
        result = await bench.call("x")
        _rule(result.unwrap() == "late", "the result is there, and the call was no checkpoint after it")
    _rule(not executor.inside, "nothing is inside any more")
    await executor.close()
    await executor.stop()
    sdk.check()


async def _gives_up_a_call_that_hangs(bench: _Bench) -> None:
    """After abandon nobody waits, nothing else enters, and the session is closed when the call has returned."""
    executor, sdk, hold, closing = bench.executor, bench.sdk, bench.hold(), bench.hold()
    sdk.script("call", hold)
    sdk.script("close", closing)
    await executor.open()
    answers: list[Any] = []

    async def hang() -> None:
        answers.append(await bench.call("x"))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(hang)
        await hold.reached()
        executor.abandon()
    _rule(
        isinstance(answers[0], outcome.Error) and isinstance(answers[0].error, SdkCallStuck),
        "who waited gets SdkCallStuck",
    )
    _rule(not executor.is_open, "the host is not usable any more")
    _rule(await executor.close() is False, "its session is not closed, and it says so")
    late = await bench.raised(lambda: bench.call("another"))
    _rule(late is not None and sdk.count("call") == 1, "nothing enters it any more (P1)")
    hold.let_go()
    await closing.reached()
    threads = {step.thread for step in sdk.steps}
    _rule(len(threads) == 1, "the late close happens on the thread of the call (P2)")
    closing.let_go()
    await executor.stop()


async def _stands_a_lost_session(bench: _Bench) -> None:
    """A session that fails at every call, and at its close, can be closed and followed by another."""
    executor, sdk = bench.executor, bench.sdk
    await executor.open()
    for _ in range(3):
        sdk.script("call", ConnectionError("gone"))
        _rule(isinstance(await bench.call("x"), outcome.Error), "its error is given back")
    sdk.script("close", ConnectionError("gone"))
    _rule(await executor.close() is True, "it counts as closed")
    with suppress(Exception):
        executor.take_close_problem()
    await executor.open()
    _rule((await bench.call("x")).unwrap() == "x", "the next session works")
    await executor.close()
    await executor.stop()


class Odd(BaseException):
    """Neither an Exception nor one that Python itself raises."""


_RULES: Final = (
    _opens_calls_and_closes,
    _closes_once,
    _opens_anew,
    _passes_on_what_opening_raises,
    _tells_what_closing_raises,
    _lives_on_after_any_error,
    _an_open_that_is_cancelled_leaves_no_session,
    _gives_what_an_async_handler_needs,
    _stands_a_lost_session,
)
_THREAD_RULES: Final = (
    _lets_nothing_in_beside_a_call,
    _waits_for_a_cancelled_call,
    _gives_up_a_call_that_hangs,
)


def _rule(holds: bool, rule: str) -> None:
    if not holds:
        raise AssertionError(rule)
