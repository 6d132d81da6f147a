"""The rules of `check_executor` about processes that are killed or die: those of executors whose SDK is in one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import trio

from trio_jobs._call_report import CallReport, RaisedError
from trio_jobs._interruption import Kills
from trio_jobs.testing._blocker import Blocker
from trio_jobs.testing._executor_fixture import FIRST, ExecutorFixture, expect, returned
from trio_jobs.testing._remote_sdk import RemoteSdk
from trio_jobs.testing._remote_session import Die

__all__ = ["KILL_RULES"]

LOOK: Final = 0.01  #: seconds between two looks at what nothing reports


def _parts(fixture: ExecutorFixture) -> tuple[Kills, RemoteSdk]:
    assert isinstance(fixture.executor, Kills)
    assert fixture.remote is not None
    return fixture.executor, fixture.remote


async def _end_blocked_call(fixture: ExecutorFixture, end: Callable[[], None]) -> RaisedError:
    """End a call that is blocked with `end`. Returns the error of its report."""
    report = await _end_call(fixture, end, returns=False)
    error = report.error
    expect(error is not None and report.entered, f"the call whose process has ended returned {report!r}")
    assert error is not None
    return error


async def _end_call(fixture: ExecutorFixture, end: Callable[[], None], *, returns: bool) -> CallReport:
    """End a call that is blocked, and then may return all the same. Returns its report."""
    _, remote = _parts(fixture)
    blocker = fixture.blocker()
    fixture.sdk.script("call", blocker)
    reports: list[CallReport] = []
    was_dead: list[bool] = []
    has_ended = trio.Event()

    async def call() -> None:
        reports.append(await fixture.call("blocked"))
        was_dead.append(remote.is_dead(remote.pids[-1]))
        has_ended.set()

    async with fixture.tasks() as nursery:
        nursery.start_soon(call)
        await blocker.reached()
        end()
        if returns:
            blocker.release()
        with trio.move_on_after(fixture.timeout):
            await has_ended.wait()
        expect(has_ended.is_set(), "the caller of the call still waits")
        expect(was_dead == [True], "a call ended while its process was alive (P1)")
    _lose(remote, blocker)
    return reports[0]


def _lose(remote: RemoteSdk, *blockers: Blocker) -> None:
    """What the fake SDK still does for a process that has ended is over."""
    remote.settle()
    for blocker in blockers:
        blocker.release()


async def _expect_a_new_session(fixture: ExecutorFixture, sessions: int) -> None:
    """Expect that the session is lost, and that the next one is in another process."""
    executor, sdk = fixture.executor, fixture.sdk
    kills, remote = _parts(fixture)
    expect(not executor.is_open and not executor.inside, "is_open or inside is True although the process has ended")
    refused = await fixture.raised(lambda: _expect_refused(fixture))
    expect(refused is None, f"a call after the end of the process: {refused}")
    expect(kills.has_lost_session, "has_lost_session is False although the process ended before the session was closed")
    problem = executor.take_close_problem()
    expect(problem is not None, "take_close_problem returned None for a session whose process has ended")
    expect(not kills.has_lost_session, "has_lost_session is still True after take_close_problem")
    await executor.open(FIRST)
    expect(executor.session == sessions, f"session {sessions} has the number {executor.session}")
    expect(len(set(remote.pids)) == sessions, f"the processes of the sessions are {remote.pids}")
    expect(returned(await fixture.call("x")) == "x", "the session after a lost one does not work")
    expect(await executor.close() is True, "close did not return True after a clean close")
    expect(executor.take_close_problem() is None, "the lost session was reported twice")
    await executor.stop()
    sdk.check()


async def _expect_refused(fixture: ExecutorFixture) -> None:
    """Expect that a call without a session does not enter."""
    calls = fixture.sdk.count("call")
    report = await fixture.call("late")
    expect(fixture.sdk.count("call") == calls, "it reached the SDK")
    expect(report.error is not None and not report.entered, f"it returned {report!r}, not an error before it entered")


async def _check_kill(fixture: ExecutorFixture) -> None:
    """A call that is killed ends when its process is dead, and the next session is in another one (P1, P11)."""
    kills, _ = _parts(fixture)
    await fixture.executor.open(FIRST)
    error = await _end_blocked_call(fixture, kills.kill)
    expect(error.killed and not error.died, f"the report of a call that was killed is {error!r}")
    await _expect_a_new_session(fixture, 2)


async def _check_late_return(fixture: ExecutorFixture) -> None:
    """A call that returns while its process is killed does not let the next one into that process (P1)."""
    kills, _ = _parts(fixture)
    await fixture.executor.open(FIRST)
    report = await _end_call(fixture, kills.kill, returns=True)
    killed = report.error is not None and report.error.killed
    expect(killed or report.result is not None, f"a call that returned while it was killed returned {report!r}")
    await _expect_a_new_session(fixture, 2)


async def _check_kill_without_a_call(fixture: ExecutorFixture) -> None:
    """Kill and abandon do nothing without a call inside: a call that has returned is not hit."""
    executor = fixture.executor
    kills, remote = _parts(fixture)
    kills.kill()
    await executor.open(FIRST)
    await fixture.call("x")
    kills.kill()
    executor.abandon()
    expect(executor.is_open, "the session is not open after a kill without a call inside")
    expect(returned(await fixture.call("y")) == "y", "after a kill without a call inside the session does not work")
    expect(len(set(remote.pids)) == 1, "the process was replaced after a kill without a call inside")
    expect(await executor.close() is True, "close did not return True after a clean close")
    await executor.stop()
    fixture.sdk.check()


async def _check_abandon(fixture: ExecutorFixture) -> None:
    """After abandon no caller waits, and the process of the call is dead."""
    await fixture.executor.open(FIRST)
    error = await _end_blocked_call(fixture, fixture.executor.abandon)
    expect(error.killed or error.stuck, f"the report of a call that was abandoned is {error!r}")
    await _expect_a_new_session(fixture, 2)


async def _check_death(fixture: ExecutorFixture) -> None:
    """A process that ends in a call, or between two calls, costs the session."""
    executor = fixture.executor
    _, remote = _parts(fixture)
    await executor.open(FIRST)
    fixture.sdk.script("call", Die())
    report = await fixture.call("die")
    expect(
        report.error is not None and report.error.died and not report.error.killed and report.entered,
        f"a call whose process has ended returned {report!r}",
    )
    remote.settle()
    executor.take_close_problem()
    await executor.open(FIRST)
    remote.kill(remote.pids[-1])
    with trio.move_on_after(fixture.timeout):
        while executor.is_open:  # noqa: ASYNC110 - an executor has no event for it
            await trio.sleep(LOOK)
    expect(not executor.is_open, "is_open is still True although the process has ended")
    expect(await executor.close() is True, "close did not return True although the process has ended")
    remote.settle()
    await _expect_a_new_session(fixture, 3)


async def _check_killed_opening(fixture: ExecutorFixture) -> None:
    """A cancelled open leaves no process, so that the next one can be opened at once (P3)."""
    executor, sdk, blocker = fixture.executor, fixture.sdk, fixture.blocker()
    _, remote = _parts(fixture)
    sdk.script("open", blocker)
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def _cancel() -> None:
                await blocker.reached()
                scope.cancel()

            await executor.open(FIRST)
    expect(scope.cancelled_caught, "open did not raise Cancelled")
    expect(not executor.is_open and not executor.inside, "the executor is open or busy after a cancelled open")
    expect(remote.is_dead(remote.pids[-1]), "the process of a cancelled open is alive")
    _lose(remote, blocker)
    expect(executor.session == 0, f"an open that was cancelled was given the session number {executor.session}")
    executor.take_close_problem()
    await executor.open(FIRST)
    expect(returned(await fixture.call("x")) == "x", "the session after a cancelled open does not work")
    expect(await executor.close() is True, "close did not return True after a clean close")
    await executor.stop()
    sdk.check()


async def _check_killed_close(fixture: ExecutorFixture) -> None:
    """A close that is given up leaves no process, and is a close problem (P3)."""
    executor, sdk, blocker = fixture.executor, fixture.sdk, fixture.blocker()
    _, remote = _parts(fixture)
    sdk.script("close", blocker)
    await executor.open(FIRST)
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def _cancel() -> None:
                await blocker.reached()
                scope.cancel()

            closed = await executor.close()
            expect(closed is True, f"close of a session whose process was killed returned {closed!r}")
            expect(remote.is_dead(remote.pids[-1]), "close returned True while the process is alive")
    _lose(remote, blocker)
    expect(executor.take_close_problem() is not None, "take_close_problem returned None for a close that was given up")
    await executor.open(FIRST)
    expect(await executor.close() is True, "close did not return True after a clean close")
    await executor.stop()
    sdk.check()


KILL_RULES: Final = (
    *(_check_kill, _check_late_return, _check_kill_without_a_call, _check_abandon, _check_death),
    *(_check_killed_opening, _check_killed_close),
)
