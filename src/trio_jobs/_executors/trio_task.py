"""A host for an SDK that is asynchronous itself: its session lives in a Trio task, its calls in the caller's.

An async context manager may hold a nursery, and a nursery must be left by the task that entered it. So one task of
the session's own opens it, waits for the word to close, and closes it. If the session's own tasks crash meanwhile, that
task ends: the session is lost, `is_open` says so, and the next open begins a new one.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import outcome
import trio

from trio_jobs._errors import SdkCallStuck

__all__ = ["TrioExecutor"]

AsyncFactory = Callable[[], AbstractAsyncContextManager[Any]]


class TrioExecutor:
    """Conforms to `SdkExecutor`. `factory` gives an async context manager. Sessions run in `nursery`."""

    def __init__(self, factory: AsyncFactory, nursery: trio.Nursery) -> None:
        self.session = 0
        self._factory = factory
        self._nursery = nursery
        self._sdk: Any = None
        self._is_open = False
        self._scope = trio.CancelScope(shield=True)
        self._close_asked = trio.Event()
        self._ended = trio.Event()
        self._ended.set()
        self._close_problem: str | None = None

    def __repr__(self) -> str:
        return f"<TrioExecutor {'open' if self._is_open else 'closed'}>"

    @property
    def is_open(self) -> bool:
        return self._is_open

    @property
    def inside(self) -> bool:
        return not self._is_open and not self._ended.is_set()

    def take_close_problem(self) -> str | None:
        problem, self._close_problem = self._close_problem, None
        return problem

    async def open(self) -> None:
        await self._ended.wait()
        self._close_asked = trio.Event()
        self._ended = trio.Event()
        opened: outcome.Maybe[None] | None = None
        answer = trio.Event()

        def tell(result: outcome.Maybe[None]) -> None:
            nonlocal opened
            if opened is None:
                opened = result
                answer.set()

        self._scope = trio.CancelScope(shield=True)
        self._nursery.start_soon(self._session, self._scope, tell)
        try:
            await answer.wait()
        except trio.Cancelled:
            self._scope.cancel()
            raise
        assert opened is not None
        opened.unwrap()
        self.session += 1

    async def call(self, fn: Callable[..., Any], *args: Any) -> outcome.Value[Any] | outcome.Error:
        """Here `fn` is an async function and runs in the caller's task: what it makes of Cancelled is its affair."""
        result: outcome.Value[Any] | outcome.Error = await outcome.acapture(fn, self._sdk, *args)
        return result

    def handle(self, enter: Callable[[], Awaitable[None]], leave: Callable[[], None]) -> Any:
        return self._sdk

    def abandon(self) -> None:
        """Cancel the session: what does not let itself be cancelled keeps the queue's nursery, and so the queue,
        waiting."""
        self._is_open = False
        self._scope.cancel()

    async def close(self) -> bool:
        self._is_open = False
        self._close_asked.set()
        await self._ended.wait()
        return True

    async def stop(self) -> None:
        """Nothing is left after `close`."""

    async def _session(self, scope: trio.CancelScope, tell: Callable[[outcome.Maybe[None]], None]) -> None:
        told = False
        try:
            with scope:
                async with self._factory() as sdk:
                    self._sdk = sdk
                    self._is_open = told = True
                    tell(outcome.Value(None))
                    await self._close_asked.wait()
        except (Exception, SystemExit, GeneratorExit) as error:
            if told:
                self._close_problem = f"{type(error).__name__}: {error}"
            else:
                tell(outcome.Error(error))
        finally:
            self._is_open = False
            self._sdk = None
            self._ended.set()
            if not told:  # it was abandoned while it opened; after an error this says nothing any more
                tell(outcome.Error(SdkCallStuck("its opening was given up")))
