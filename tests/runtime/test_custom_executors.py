"""`Service(executor=...)`: an executor of the user's own owns the SDK session."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager
from typing import Any

import pytest
import trio
import trio.testing

import trio_jobs
from support.rig import NO_RETRY
from trio_jobs import JobFailed, Opening, Outcome, SdkHandle, SdkOpenFailed, Service, UsageError
from trio_jobs._executors.thread import ThreadExecutor
from trio_jobs.ports import CallReport, Discard, SdkCall, SdkExecutor
from trio_jobs.testing import FakeSdk, FakeSession, check_executor


class LoggingExecutor:
    """Logs what the queue asks of it, and lets a `ThreadExecutor` do it."""

    def __init__(self, factory: Callable[[], AbstractContextManager[Any]], log: list[str]) -> None:
        self._inner = ThreadExecutor(factory)
        self._log = log

    @property
    def session(self) -> int:
        return self._inner.session

    @property
    def is_open(self) -> bool:
        return self._inner.is_open

    @property
    def inside(self) -> bool:
        return self._inner.inside

    def take_close_problem(self) -> str | None:
        return self._inner.take_close_problem()

    async def open(self, opening: Opening) -> None:
        self._log.append("open")
        await self._inner.open(opening)

    async def call(self, call: SdkCall) -> CallReport:
        self._log.append("call")
        return await self._inner.call(call)

    def handle(self, enter: Callable[[], Awaitable[None]], leave: Callable[[], None]) -> SdkHandle:
        async def enter_and_log() -> None:
            await enter()
            self._log.append("enter")

        def leave_and_log() -> None:
            self._log.append("leave")
            leave()

        return self._inner.handle(enter_and_log, leave_and_log)

    def abandon(self) -> None:
        self._log.append("abandon")
        self._inner.abandon()

    async def close(self, discard: Discard | None = None) -> bool:
        self._log.append("close")
        return await self._inner.close(discard)

    async def stop(self) -> None:
        self._log.append("stop")
        await self._inner.stop()


class Broken(Exception):
    """What a test raises on purpose."""


def service_with(sdk: FakeSdk, log: list[str], **settings: Any) -> Service:
    service = Service(executor=lambda nursery: LoggingExecutor(sdk.session, log), **settings)

    @service.handler(retry=NO_RETRY)
    def plain(session: FakeSession, what: str) -> Any:
        return session.call(what)

    @service.handler(retry=NO_RETRY)
    async def in_trio(handle: SdkHandle, what: str) -> Any:
        return await handle.call(FakeSession.call, what)

    return service


async def test_a_plain_handler_runs_in_the_executors_call() -> None:
    sdk, log = FakeSdk(), list[str]()
    async with service_with(sdk, log).open() as queue:
        assert await queue.result((await queue.submit("plain", "a")).job_id) == "a"
    assert log == ["open", "call", "close", "stop"]
    sdk.check()


async def test_an_async_handler_gets_the_executors_handle_which_enters_before_each_call() -> None:
    sdk, log = FakeSdk(), list[str]()
    async with service_with(sdk, log).open() as queue:
        job_id = (await queue.submit("in_trio", "a")).job_id
        assert await queue.result(job_id) == "a"
        assert (queue.get(job_id).attempts or ())[0].entered
    assert log == ["open", "enter", "leave", "close", "stop"]
    sdk.check()


async def test_each_open_has_an_executor_of_its_own() -> None:
    sdk, log = FakeSdk(), list[str]()
    service = service_with(sdk, log)
    for _ in range(2):
        async with service.open():
            pass
    assert log == ["open", "close", "stop"] * 2


async def test_an_executor_that_delegates_conforms() -> None:
    report = await check_executor(lambda factory, nursery: LoggingExecutor(factory, []))
    assert len(report.checked) == 15


async def test_an_error_of_a_call_is_the_attempts_error() -> None:
    sdk, log = FakeSdk(), list[str]()
    sdk.script("call", Broken("no paper"))
    async with service_with(sdk, log).open() as queue:
        job_id = (await queue.submit("plain", "a")).job_id
        with pytest.raises(JobFailed, match="Broken: no paper"):
            await queue.result(job_id)
        assert (queue.get(job_id).attempts or ())[0].outcome is Outcome.ERROR


async def test_an_error_of_opening_comes_out_as_sdk_open_failed() -> None:
    sdk, log = FakeSdk(), list[str]()
    sdk.script("open", Broken("no licence"))
    with pytest.raises(SdkOpenFailed, match="Broken: no licence") as caught:
        async with service_with(sdk, log, open_retry=NO_RETRY).open():
            raise AssertionError("not reached")
    assert isinstance(caught.value.__cause__, Broken)


async def test_an_error_that_call_raises_itself_is_the_attempts_error_too() -> None:
    class Raising(LoggingExecutor):
        async def call(self, call: SdkCall) -> CallReport:
            raise Broken("the pipe is closed")

    sdk = FakeSdk()
    service = Service(executor=lambda nursery: Raising(sdk.session, []))

    @service.handler(retry=NO_RETRY)
    def plain(session: FakeSession, what: str) -> Any: ...

    async with service.open() as queue:
        with pytest.raises(JobFailed, match="the pipe is closed"):
            await queue.result((await queue.submit(plain, "a")).job_id)
    sdk.check()


async def test_an_error_of_the_function_comes_out_of_open_unchanged() -> None:
    def make(nursery: trio.Nursery) -> SdkExecutor:
        raise Broken("no such machine")

    with pytest.raises(Broken, match="no such machine"):
        async with Service(executor=make).open():
            raise AssertionError("not reached")


async def test_an_object_that_is_no_executor_is_refused_at_open() -> None:
    def make(nursery: trio.Nursery) -> Any:
        return object()

    with pytest.raises(
        UsageError,
        match=r"which is not a trio_jobs.ports.SdkExecutor: it has no abandon, call, close, .*take_close_problem$",
    ):
        async with Service(executor=make).open():
            raise AssertionError("not reached")


def test_an_executor_itself_is_refused_since_each_open_needs_one_of_its_own() -> None:
    executor: Any = LoggingExecutor(FakeSdk().session, [])
    with pytest.raises(UsageError, match=r"returns a new executor, since each open needs one of its own; .* already"):
        Service(executor=executor)


async def test_the_function_gets_the_nursery_in_which_an_executor_can_run_tasks() -> None:
    started: list[str] = []

    def make(nursery: trio.Nursery) -> SdkExecutor:
        async def watch() -> None:
            started.append("task")

        nursery.start_soon(watch)
        return LoggingExecutor(FakeSdk().session, [])

    async with Service(executor=make).open():
        await trio.testing.wait_all_tasks_blocked()
    assert started == ["task"]


async def test_a_service_with_an_executor_gives_its_handlers_an_sdk() -> None:
    service = Service(executor=lambda nursery: LoggingExecutor(FakeSdk().session, []))
    with pytest.raises(trio_jobs.InvalidHandler, match=r"must take \(sdk, payload\) or \(sdk, payload, job\)"):

        @service.handler
        def without_sdk(payload: int) -> None: ...
