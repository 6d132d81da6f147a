"""One SDK executor with a fake SDK, as the rules of `check_executor` use it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any, Final

import attrs
import msgspec
import trio

from trio_jobs._call_report import CallReport
from trio_jobs._concurrency import bare_nursery
from trio_jobs._engine.openings import Opening
from trio_jobs._engine.sdk_call_error import SdkCallError
from trio_jobs._interruption import Interruption, Interrupts
from trio_jobs._ports import SdkExecutor
from trio_jobs._sdk_call import FunctionCall, HandlerCall
from trio_jobs._service import parts_of
from trio_jobs.testing import _remote_session
from trio_jobs.testing._blocker import Blocker
from trio_jobs.testing._remote_sdk import RemoteSdk
from trio_jobs.testing.fake_sdk import FakeSdk

__all__ = ["FIRST", "ExecutorFixture", "expect", "fixture_for", "returned"]

FIRST: Final = Opening("start", 1, unclean=False)
"""An opening of a session for executors that are used without a queue."""


@attrs.define(eq=False)
class ExecutorFixture:
    """One executor with a fake SDK."""

    executor: SdkExecutor
    sdk: FakeSdk
    threaded: bool  # plain calls on a thread; otherwise asynchronous calls in Trio
    timeout: float
    remote: RemoteSdk | None = None  # the SDK of an executor with a process
    blockers: list[Blocker] = attrs.field(factory=list)  # all are released at the end of the check

    def blocker(self, then: Any = None) -> Blocker:
        self.blockers.append(Blocker(then, timeout=self.timeout))
        return self.blockers[-1]

    async def call(self, what: str) -> CallReport:
        """Call the SDK; what it returns or raises is planned by its script."""
        if self.remote is not None:
            handler = parts_of(_remote_session.service).handlers["call"]
            payload = msgspec.Raw(msgspec.json.encode(what))
            return await self.executor.call(HandlerCall(handler, payload, None, renew=True))
        if self.threaded:
            return await self.executor.call(FunctionCall("check", lambda session: session.call(what)))
        return await self.executor.call(FunctionCall("check", lambda session: session.acall(what)))

    async def interrupt(self, number: int, fn: Callable[[Any], Any]) -> Interruption:
        """Interrupt a call with `fn`; of another process with `interrupt` of its service, which calls `fn` here."""
        assert isinstance(self.executor, Interrupts)
        if self.remote is None:
            return await self.executor.interrupt(number, fn)
        self.remote.on_interrupt = fn
        return await self.executor.interrupt(number, _remote_session.interrupt)

    def is_same(self, raised: BaseException | None, error: BaseException) -> bool:
        """Whether this is what the SDK raised, or from another process, its facts."""
        return raised is error if self.remote is None else self.is_a(raised, type(error))

    def is_a(self, raised: BaseException | None, class_: type[BaseException]) -> bool:
        """Whether this is an exception of the SDK of this class, or from another process, the facts of one."""
        if self.remote is None:
            return isinstance(raised, class_)
        return isinstance(raised, SdkCallError) and raised.class_name == class_.__name__

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

    async def end(self) -> None:
        """End the processes of an executor that broke a rule, so that none is left."""
        self.release()
        remote = self.remote
        if remote is None:
            return
        with trio.CancelScope(shield=True):
            with suppress(Exception):
                self.executor.abandon()
                await self.executor.stop()
            for pid in remote.pids:
                if not remote.is_dead(pid):
                    remote.kill(pid)
            await trio.to_thread.run_sync(remote.end)

    async def reached(self, blocker: Blocker) -> None:
        await (blocker.reached() if self.threaded else blocker.reached_in_trio())

    async def raised(self, do: Callable[[], Awaitable[Any]]) -> BaseException | None:
        try:
            await do()
        except (Exception, SystemExit, GeneratorExit) as error:
            return error
        return None


def fixture_for(
    make_executor: Callable[[Any], SdkExecutor], asynchronous: bool, remote: bool, timeout: float
) -> ExecutorFixture:
    """A new executor with a new SDK.

    Args:
        make_executor: Called with what opens the SDK.
        asynchronous: See `check_executor`.
        remote: See `check_executor`.
        timeout: See `check_executor`.
    """
    if remote:
        served = RemoteSdk()
        return ExecutorFixture(make_executor(_remote_session.service), served, True, timeout, served)
    sdk = FakeSdk()
    factory = sdk.async_session if asynchronous else sdk.session
    return ExecutorFixture(make_executor(factory), sdk, not asynchronous, timeout)


def expect(holds: bool, violation: str) -> None:
    """Raise `AssertionError` with `violation`, which says what happened, unless the rule holds."""
    if not holds:
        raise AssertionError(violation)


def returned(report: object) -> object:
    """Return the result of a call, or a text that says what the executor returned instead."""
    if isinstance(report, CallReport) and report.result is not None:
        return msgspec.json.decode(report.result)
    return f"(no result: {report!r:.300})"
