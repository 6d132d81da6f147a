"""The rules of `check_executor` about interruptions: those of executors that conform to `Interrupts`."""

from __future__ import annotations

import threading
from typing import Any, Final

import trio
import trio.testing

from trio_jobs._call_report import CallReport
from trio_jobs._interruption import Interruption, Interrupts
from trio_jobs.testing._executor_fixture import FIRST, ExecutorFixture, expect, returned

__all__ = ["INTERRUPT_RULES"]

LEAVE_TIME: Final = 0.05  #: seconds in which a call that may leave would have left


class _Calls:
    """Blocked calls of a fixture, and interruptions of them."""

    def __init__(self, fixture: ExecutorFixture, nursery: trio.Nursery) -> None:
        assert isinstance(fixture.executor, Interrupts)
        self.executor: Interrupts = fixture.executor
        self.reports: dict[str, CallReport] = {}
        self.hits: list[tuple[int, int]] = []  # the number that was to be interrupted, and the thread
        self._ends: dict[str, trio.Event] = {}
        self._fixture = fixture
        self._nursery = nursery

    async def block(self, what: str) -> tuple[int, Any]:
        """Start a call that blocks. Returns its number and its blocker."""
        blocker = self._fixture.blocker(what)
        self._fixture.sdk.script("call", blocker)
        self._nursery.start_soon(self.call, what)
        await blocker.reached()
        number = self.executor.call_inside
        expect(number is not None, "call_inside is None while a call is inside")
        assert number is not None
        return number, blocker

    async def call(self, what: str) -> None:
        self._ends[what] = trio.Event()
        self.reports[what] = await self._fixture.call(what)
        self._ends[what].set()

    async def ended(self, what: str) -> CallReport:
        with trio.move_on_after(self._fixture.timeout):
            await self._ends[what].wait()
        expect(what in self.reports, f"the call {what!r} did not end after it was released")
        return self.reports[what]

    async def interrupt(self, number: int) -> Interruption:
        return await self._fixture.interrupt(number, lambda session: self.hits.append((number, threading.get_ident())))

    async def expect_no_hit(self, number: int, moment: str) -> None:
        """Expect that call `number`, which has left, can no longer be interrupted."""
        hits = len(self.hits)
        interruption = await self.interrupt(number)
        expect(len(self.hits) == hits, f"an interruption of a call that has left was made {moment}")
        expect(not interruption.was_inside, f"interrupt returned was_inside=True {moment}")
        expect(self.executor.interrupted_call != number, f"interrupted_call is the number of a call that left {moment}")


async def _check_interruption(fixture: ExecutorFixture) -> None:
    """An interruption is made once, on another thread than the SDK's, while its call is inside."""
    executor = fixture.executor
    await executor.open(FIRST)
    async with fixture.tasks() as nursery:
        calls = _Calls(fixture, nursery)
        expect(calls.executor.call_inside is None, "call_inside is not None although no call was made")
        number, blocker = await calls.block("first")
        interruption = await calls.interrupt(number)
        expect(interruption == Interruption(True), f"interrupt returned {interruption!r} while the call was inside")
        expect(len(calls.hits) == 1, f"the function was called {len(calls.hits)} times")
        expect(calls.hits[0][1] != fixture.sdk.steps[0].thread, "the function was called on the SDK's own thread")
        expect(calls.hits[0][1] != threading.get_ident(), "the function was called on Trio's thread")
        expect(
            calls.executor.interrupted_call == number,
            f"interrupted_call is {calls.executor.interrupted_call}, not {number}, the number of the call",
        )
        blocker.release()
        report = await calls.ended("first")
        expect(returned(report) == "first", f"the interrupted call returned 'first', and the executor {report!r}")
        expect(calls.executor.call_inside is None, "call_inside is not None after the call has returned")
        second, blocker = await calls.block("second")
        expect(second > number, f"call {second} follows call {number}")
        blocker.release()
        await calls.ended("second")
    expect(await executor.close() is True, "close did not return True after an interruption")
    await executor.stop()


async def _check_interrupted_boundaries(fixture: ExecutorFixture) -> None:
    """An interruption reaches no other call: not after its call, not in the next one or a close, and none leaves it."""
    executor, closing = fixture.executor, fixture.blocker()
    fixture.sdk.script("close", closing)
    await executor.open(FIRST)
    async with fixture.tasks() as nursery:
        calls = _Calls(fixture, nursery)
        first, blocker = await calls.block("first")
        blocker.release()
        await calls.ended("first")
        await calls.expect_no_hit(first, "after the call")
        second, blocker = await calls.block("second")
        await calls.expect_no_hit(first, "in the next call")
        await _leave_while_interrupted(fixture, calls, second, blocker)
        nursery.start_soon(executor.close)
        await closing.reached()
        expect(calls.executor.call_inside is None, "call_inside is not None while the session is closed")
        await calls.expect_no_hit(first, "while the session was closed")
        closing.release()
    await executor.stop()


async def _leave_while_interrupted(fixture: ExecutorFixture, calls: _Calls, number: int, blocker: Any) -> None:
    """The call returns during an interruption: it must not leave before the interruption has ended."""
    reached, release = trio.Event(), threading.Event()
    token = trio.lowlevel.current_trio_token()

    def linger(session: object) -> None:
        token.run_sync_soon(reached.set)
        release.wait(fixture.timeout)

    async with fixture.tasks() as nursery:
        nursery.start_soon(fixture.interrupt, number, linger)
        try:
            with trio.move_on_after(fixture.timeout):
                await reached.wait()
            expect(reached.is_set(), "the function was not called although the call is inside")
            blocker.release()
            await trio.sleep(LEAVE_TIME)
            expect("second" not in calls.reports, "a call left while it was interrupted: the next one could be hit")
            expect(fixture.executor.inside, "inside is False while a call is interrupted")
        finally:
            release.set()
    await calls.ended("second")


async def _check_early_interruption(fixture: ExecutorFixture) -> None:
    """An interruption of a call that has not begun waits for it."""
    executor = fixture.executor
    await executor.open(FIRST)
    for n in range(20):
        async with fixture.tasks() as nursery:
            calls = _Calls(fixture, nursery)
            blocker = fixture.blocker(str(n))
            fixture.sdk.script("call", blocker)
            nursery.start_soon(calls.call, str(n))
            await trio.testing.wait_all_tasks_blocked()  # in Trio: the thread may be anywhere
            number = calls.executor.call_inside
            assert number is not None
            interruption = await calls.interrupt(number)
            expect(interruption.was_inside, "an interruption of a call that had just been passed to the SDK was lost")
            blocker.release()
    await executor.close()
    await executor.stop()


async def _check_failed_interruption(fixture: ExecutorFixture) -> None:
    """What an interruption raises is returned as text, and the call is not affected."""
    executor = fixture.executor
    await executor.open(FIRST)
    async with fixture.tasks() as nursery:
        calls = _Calls(fixture, nursery)
        for error in (OSError("no such port"), SystemExit("no such port")):
            what = type(error).__name__
            number, blocker = await calls.block(what)

            def fail(session: object, error: BaseException = error) -> None:
                raise error

            interruption = await fixture.interrupt(number, fail)
            expect(
                interruption.problem is not None and "no such port" in interruption.problem,
                f"interrupt returned {interruption!r}, which does not say what the function raised",
            )
            blocker.release()
            report = await calls.ended(what)
            expect(returned(report) == what, f"the call returned {what!r}, and the executor {report!r}")
    expect(await executor.close() is True, "close did not return True after an interruption that raised")
    await executor.stop()


INTERRUPT_RULES: Final = (
    *(_check_interruption, _check_interrupted_boundaries),
    *(_check_early_interruption, _check_failed_interruption),
)
