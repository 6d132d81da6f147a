"""An executor for an asynchronous SDK: a task of its own holds the session open, and calls run in the caller's task.

An async context manager may contain a nursery, which must be exited by the task that entered it. So one task opens the
session, waits for the request to close it, and closes it. If a task inside the session crashes, that task ends: the
session is lost, `is_open` becomes False, and the next `open` opens a new one.

Handlers of an asynchronous SDK get the SDK itself, not a handle that awaits `enter`. Their attempts therefore count as
entered from their start (`Handler.enters_at_start`).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection
from contextlib import AbstractAsyncContextManager
from typing import Any

import outcome
import trio

from trio_jobs._call_report import CallReport
from trio_jobs._concurrency import must_propagate
from trio_jobs._engine.openings import Opening
from trio_jobs._errors import SdkCallStuck
from trio_jobs._exception_tree import clear_frames, holding
from trio_jobs._executors.discard import close_problem, exception_to_throw
from trio_jobs._ports import Discard
from trio_jobs._sdk_call import SdkCall
from trio_jobs._validation import check_manager

__all__ = ["TrioExecutor"]

AsyncFactory = Callable[..., AbstractAsyncContextManager[Any]]


class TrioExecutor:
    """An `SdkExecutor` that opens each session in a task of its own.

    Args:
        factory: Returns the async context manager of a session.
        nursery: Runs the tasks of the sessions.
        takes_opening: Whether `factory` takes an `Opening`.
    """

    def __init__(self, factory: AsyncFactory, nursery: trio.Nursery, *, takes_opening: bool = False) -> None:
        self.session = 0
        self._factory = factory
        self._takes_opening = takes_opening
        self._nursery = nursery
        self._sdk: Any = None
        self.is_open = False
        self._task: trio.lowlevel.Task | None = None
        """The task of the newest session."""
        self._scope = trio.CancelScope(shield=True)
        self._close_asked = trio.Event()
        self._ended = trio.Event()
        self._ended.set()
        self._close_problem: str | None = None
        self._discard: Discard | None = None
        self._error: BaseException | None = None
        """What the last call raised, if the session may be discarded for it."""

    def __repr__(self) -> str:
        return f"<TrioExecutor {'open' if self.is_open else 'closed'}>"

    @property
    def inside(self) -> bool:
        return not self.is_open and not self._ended.is_set()

    def is_inside(self, thread: int, tasks: Collection[object]) -> bool:
        return self.inside and self._task in tasks

    def take_close_problem(self) -> str | None:
        problem, self._close_problem = self._close_problem, None
        return problem

    async def open(self, opening: Opening) -> None:
        await self._ended.wait()
        self._close_asked = trio.Event()
        self._ended = trio.Event()
        opened: outcome.Maybe[None] | None = None
        finished = trio.Event()

        def report(result: outcome.Maybe[None]) -> None:
            nonlocal opened
            if opened is None:
                opened = result
                finished.set()

        self._scope = trio.CancelScope(shield=True)
        self._nursery.start_soon(self._session, opening, self._scope, report)
        try:
            await finished.wait()
        except trio.Cancelled:
            self._scope.cancel()
            raise
        assert opened is not None
        opened.unwrap()
        self.session += 1

    async def call(self, call: SdkCall) -> CallReport:
        """Await an asynchronous call in the caller's task. Cancelled and Ctrl-C propagate."""
        self._error = None
        try:
            value = await _unprotected(call, self._sdk)
        except BaseException as error:
            passing = holding(error, trio.Cancelled)
            if passing is error:
                raise
            if passing is not None:
                raise passing from None
            if must_propagate(error):
                raise
            report, self._error = call.raised(error)
            return report
        return call.returned(value)

    def handle(self, enter: Callable[[], Awaitable[None]], leave: Callable[[], None]) -> Any:
        return self._sdk

    def abandon(self) -> None:
        """Cancel the session. A session that ignores the cancellation keeps the queue's nursery open."""
        self.is_open = False
        self._scope.cancel()

    async def close(self, discard: Discard | None = None) -> bool:
        self.is_open = False
        self._discard = discard
        self._close_asked.set()
        await self._ended.wait()
        return True

    async def stop(self) -> None:
        """Do nothing: `close` has ended the task."""

    @trio.lowlevel.enable_ki_protection
    async def _session(
        self, opening: Opening, scope: trio.CancelScope, report: Callable[[outcome.Maybe[None]], None]
    ) -> None:
        opened = False
        self._task = trio.lowlevel.current_task()
        thrown: BaseException | None = None
        failure: BaseException | None = None
        try:
            with scope:
                try:
                    manager = self._factory(opening) if self._takes_opening else self._factory()
                    check_manager("async_sdk", manager)
                    async with manager as sdk:
                        self._sdk = sdk
                        self.is_open = opened = True
                        report(outcome.Value(None))
                        await self._close_asked.wait()
                        discard, self._discard = self._discard, None
                        if discard is not None:
                            thrown = exception_to_throw(discard, self._error)
                            raise thrown
                except BaseException as error:
                    # kept here: Trio reads the class of what passes a scope, and a class can make that raise
                    passing = holding(error, trio.Cancelled)
                    if passing is not None:
                        raise passing from None
                    if must_propagate(error):
                        raise
                    failure = error
        except BaseException as error:
            if must_propagate(error):
                raise
            failure = error
        finally:
            self.is_open = False
            self._sdk = self._task = self._error = None
            self._ended.set()
            if failure is not None and opened:
                self._close_problem = close_problem(failure, thrown)
            elif failure is not None:
                report(outcome.Error(failure))
            elif not opened:  # abandoned while it opened
                report(outcome.Error(SdkCallStuck("opening the SDK was abandoned")))
            if failure is not None:
                clear_frames(failure)
            if thrown is not None:
                clear_frames(thrown)
            del failure, thrown  # no reference cycle through this frame


@trio.lowlevel.disable_ki_protection
async def _unprotected(call: SdkCall, sdk: Any) -> Any:
    """Await a call. Ctrl-C can interrupt it, although the consumer that awaits it is protected."""
    return await call.invoke(sdk)
