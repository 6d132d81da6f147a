"""A host that owns one OS thread, on which the SDK session is opened, called and closed, and nothing else ever is.

The hard part is that a call cannot be ended from outside. Python has no way to stop a thread; an exception injected
into one arrives only between two bytecodes, which a call that hangs in C never reaches. So this host never starts a
second thread and never lets a second call in while one is inside: whoever wants to go on waits, or gives the whole
host up (`abandon`). The thread is a daemon, so a process that has given it up can still end.

The trick for speed: one `SimpleQueue` into the thread and one `run_sync_soon` out of it, the least a round trip can
cost; the waiting task is put to sleep and woken by hand, without an Event or a cancel scope for each call.

An abandoned thread still does what is right when its call returns after all: it closes the session, then ends.
"""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager
from queue import SimpleQueue
from typing import Any, final

import outcome
import trio

from trio_jobs._errors import SdkCallStuck

__all__ = ["SdkHandle", "ThreadExecutor"]

Work = Callable[[], Any]
Factory = Callable[[], AbstractContextManager[Any]]


class ThreadExecutor:
    """Conforms to `SdkExecutor`. `factory` gives a context manager; None hosts plain handlers of a service without an
    SDK."""

    def __init__(self, factory: Factory | None) -> None:
        self.session = 0
        self._factory = factory
        self._inbox: SimpleQueue[Work | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._token: trio.lowlevel.TrioToken | None = None
        self._waiter: trio.lowlevel.Task | None = None
        self._inside = False
        self._is_open = False
        self._close_problem: str | None = None
        # read and written on the SDK's thread alone
        self._manager: AbstractContextManager[Any] | None = None
        self._sdk: Any = None
        # written in Trio's thread, read on the SDK's after its call: true once nobody waits for it any more
        self._abandoned = False

    def __repr__(self) -> str:
        state = "abandoned" if self._abandoned else "open" if self._is_open else "closed"
        return f"<ThreadExecutor {state}{', a call is inside' if self._inside else ''}>"

    @property
    def is_open(self) -> bool:
        return self._is_open

    @property
    def inside(self) -> bool:
        return self._inside

    def take_close_problem(self) -> str | None:
        problem, self._close_problem = self._close_problem, None
        return problem

    async def open(self) -> None:
        if self._thread is None:
            self._token = trio.lowlevel.current_trio_token()
            # a daemon: a call that never returns must not keep the process from ending
            self._thread = threading.Thread(target=self._run, name="trio-jobs SDK", daemon=True)
            self._thread.start()
        if self._factory is None:  # then nothing is to be waited for, and virtual time does not run away meanwhile
            await trio.lowlevel.checkpoint()
        else:
            opened = await self._round_trip(self._enter, can_leave=True)
            if isinstance(opened, outcome.Error):
                raise opened.error
        self.session += 1
        self._is_open = True

    async def call(self, fn: Callable[..., Any], *args: Any) -> outcome.Value[Any] | outcome.Error:
        return await self._round_trip(lambda: fn(self._sdk, *args))

    def handle(self, enter: Callable[[], Awaitable[None]], leave: Callable[[], None]) -> SdkHandle:
        return SdkHandle(self, enter, leave)

    def abandon(self) -> None:
        if self._inside:
            self._abandoned = True
            self._is_open = False
            waiter, self._waiter = self._waiter, None
            if waiter is not None:
                trio.lowlevel.reschedule(waiter, outcome.Value(outcome.Error(SdkCallStuck("the call did not return"))))

    async def close(self) -> bool:
        if self._thread is None:
            return True
        if self._inside or self._abandoned:
            return False
        was_open = self._is_open
        self._is_open = False
        if was_open and self._factory is not None:
            closed = await self._round_trip(self._leave, can_leave=True)
            if isinstance(closed, outcome.Error):
                self._close_problem = f"{type(closed.error).__name__}: {closed.error}"
        return True

    async def stop(self) -> None:
        """End the thread, if nothing is inside. Closing is done before."""
        if self._thread is not None and not self._inside:
            self._inbox.put(None)
            self._thread = None

    async def _round_trip(self, work: Work, *, can_leave: bool = False) -> outcome.Value[Any] | outcome.Error:
        if self._inside or self._abandoned:
            raise SdkCallStuck("a call is inside the SDK; nothing else may enter")  # P1
        self._inside = True
        self._waiter = trio.lowlevel.current_task()

        def abort(raise_cancel: object) -> trio.lowlevel.Abort:
            if not can_leave:
                return trio.lowlevel.Abort.FAILED
            self._waiter = None
            self._abandoned = True
            return trio.lowlevel.Abort.SUCCEEDED

        self._inbox.put(work)
        result: outcome.Value[Any] | outcome.Error = await trio.lowlevel.wait_task_rescheduled(abort)
        return result

    def _returned(self, result: outcome.Value[Any] | outcome.Error) -> None:
        self._inside = False
        if self._abandoned:
            self._inbox.put(None)  # in case the thread looked before it was abandoned
        waiter, self._waiter = self._waiter, None
        if waiter is not None:
            trio.lowlevel.reschedule(waiter, outcome.Value(result))

    # from here on: the SDK's thread

    def _run(self) -> None:
        assert self._token is not None
        while (work := self._inbox.get()) is not None:
            result = outcome.capture(work)
            try:
                self._token.run_sync_soon(self._returned, result)
            except trio.RunFinishedError:
                break
            if self._abandoned:
                break
            del work, result  # nothing of a job is kept while the thread waits for the next
        # whatever ended the loop, a session that is still open is closed here, where it was opened
        outcome.capture(self._leave)

    def _enter(self) -> None:
        assert self._factory is not None
        manager = self._factory()
        self._sdk = manager.__enter__()
        self._manager = manager

    def _leave(self) -> None:
        manager, self._manager, self._sdk = self._manager, None, None
        if manager is not None:
            manager.__exit__(None, None, None)


@final
class SdkHandle:
    """What an async handler is handed for an SDK that lives on a thread. It belongs to one attempt and ends with it."""

    def __init__(
        self, executor: ThreadExecutor, enter: Callable[[], Awaitable[None]], leave: Callable[[], None]
    ) -> None:
        self._executor = executor
        self._enter = enter
        self._leave = leave
        self._turn = trio.Lock()

    async def call(self, fn: Callable[..., Any], *args: Any) -> Any:
        """Run `fn(sdk, *args)` on the SDK's thread; give back what it returns, raise what it raises.

        One call at a time: others of the same handler wait for their turn, in order. Raises `SdkCallRefused` once
        the attempt is over or about to be.

        Cancelled while it waits for its turn: the call was not made. Once it is made, **a cancel does not break it
        off**: this waits until it has returned and is then Cancelled, the result lost.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        async with self._turn:
            await self._enter()
            result = await self._executor.call(fn, *args)
            self._leave()
        await trio.lowlevel.checkpoint_if_cancelled()
        if isinstance(result, outcome.Error) and isinstance(result.error, StopIteration):
            # which a coroutine cannot raise: Python would turn it into a RuntimeError without a word of its origin
            raise RuntimeError("the SDK call raised StopIteration") from result.error
        return result.unwrap()
