"""One SDK executor with a fake SDK, as the rules of `check_executor` use it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Final

import attrs
import msgspec
import trio

from trio_jobs._call_report import CallReport
from trio_jobs._concurrency import bare_nursery
from trio_jobs._engine.openings import Opening
from trio_jobs._ports import SdkExecutor
from trio_jobs._sdk_call import FunctionCall
from trio_jobs.testing.fake_sdk import Blocker, FakeSdk

__all__ = ["FIRST", "ExecutorFixture", "PlannedError", "UnusualError", "expect", "returned"]

FIRST: Final = Opening("start", 1, unclean=False)
"""An opening of a session for executors that are used without a queue."""


class PlannedError(Exception):
    """What the fake SDK raises in a check."""


class UnusualError(BaseException):
    """Neither an `Exception` nor one that Python raises."""


@attrs.define(eq=False)
class ExecutorFixture:
    """One executor with a fake SDK."""

    executor: SdkExecutor
    sdk: FakeSdk
    threaded: bool  # plain calls on a thread; otherwise asynchronous calls in Trio
    timeout: float
    blockers: list[Blocker] = attrs.field(factory=list)  # all are released at the end of the check

    def blocker(self, then: Any = None) -> Blocker:
        self.blockers.append(Blocker(then, timeout=self.timeout))
        return self.blockers[-1]

    async def call(self, what: str) -> CallReport:
        """Call the SDK; what it returns or raises is planned by its script."""
        if self.threaded:
            return await self.executor.call(FunctionCall("check", lambda session: session.call(what)))
        return await self.executor.call(FunctionCall("check", lambda session: session.acall(what)))

    @asynccontextmanager
    async def tasks(self) -> AsyncIterator[trio.Nursery]:
        """A nursery for calls that are blocked. If the rule is broken, they are released before they are waited for."""
        async with bare_nursery() as nursery:
            try:
                yield nursery
            except BaseException:
                self.release()
                raise

    def release(self) -> None:
        for blocker in self.blockers:
            blocker.release()

    async def reached(self, blocker: Blocker) -> None:
        await (blocker.reached() if self.threaded else blocker.reached_in_trio())

    async def raised(self, do: Callable[[], Awaitable[Any]]) -> BaseException | None:
        try:
            await do()
        except (Exception, SystemExit, GeneratorExit) as error:
            return error
        return None


def expect(holds: bool, violation: str) -> None:
    """Raise `AssertionError` with `violation`, which says what happened, unless the rule holds."""
    if not holds:
        raise AssertionError(violation)


def returned(report: object) -> object:
    """Return the result of a call, or a text that says what the executor returned instead."""
    if isinstance(report, CallReport) and report.result is not None:
        return msgspec.json.decode(report.result)
    return f"(no result: {report!r:.300})"
