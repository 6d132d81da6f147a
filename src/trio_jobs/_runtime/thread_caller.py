"""Calls from threads that do not run Trio into the event loop of a queue."""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable
from typing import ParamSpec, TypeVar

import trio

from trio_jobs._errors import QueueClosed, UsageError
from trio_jobs._runtime.runtime import Runtime

__all__ = ["ThreadCaller"]

P = ParamSpec("P")
T = TypeVar("T")


class ThreadCaller:
    """Calls functions in the thread of the event loop, and blocks the calling thread until they have returned."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    def _run(self, fn: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call a plain function in the thread of the event loop."""
        self._refuse_trio_thread()
        try:
            return trio.from_thread.run_sync(lambda: fn(*args, **kwargs), trio_token=self._runtime.token)
        except trio.RunFinishedError:
            raise _ended() from None

    def _wait(self, fn: Callable[P, Awaitable[T]], *args: P.args, **kwargs: P.kwargs) -> T:
        """Await an async function in the thread of the event loop.

        In a thread of `trio.to_thread.run_sync` it runs in the task that waits for the thread, so that it is cancelled
        with that task, and recognized as a part of a handler if that task is one.
        """
        self._refuse_trio_thread()
        caller, this_thread = self._runtime.caller, threading.get_ident()
        is_in_loop = True

        async def run() -> T | None:
            nonlocal is_in_loop
            is_in_loop = threading.get_ident() == caller.loop_thread.id
            if not is_in_loop:
                return None
            with caller.on_behalf_of(this_thread):
                return await fn(*args, **kwargs)

        if _is_worker():
            result = trio.from_thread.run(run)
            if is_in_loop:
                return result  # type: ignore[return-value] # it is that of fn
            is_in_loop = True
        try:
            return trio.from_thread.run(run, trio_token=self._runtime.token)  # type: ignore[return-value] # as above
        except (trio.RunFinishedError, trio.Cancelled):
            raise _ended() from None

    def _refuse_trio_thread(self) -> None:
        if threading.get_ident() == self._runtime.caller.loop_thread.id:
            try:
                self._runtime.token.run_sync_soon(_do_nothing)
            except trio.RunFinishedError:
                raise _ended() from None
            raise UsageError(
                "a method of queue.from_thread was called in the thread of the event loop, which it would block; "
                "use the method of the queue itself"
            )
        if trio.lowlevel.in_trio_task():
            raise UsageError(
                "a method of queue.from_thread was called in a Trio task, whose event loop it would block; call it "
                "with trio.to_thread.run_sync"
            )


def _is_worker() -> bool:
    """Whether this is a thread of `trio.to_thread.run_sync`."""
    try:
        trio.from_thread.check_cancelled()
    except RuntimeError:
        return False
    except trio.Cancelled:
        return True  # the call raises it too
    return True


def _do_nothing() -> None: ...


def _ended() -> QueueClosed:
    return QueueClosed("the event loop of the queue has ended")
