"""An executor with one OS thread, on which the SDK session is opened, called and closed.

The hard part is that a call cannot be stopped from outside. Python has no way to stop a thread; an exception injected
into one is raised only between two bytecodes, which a call that hangs in C never reaches. So this executor never starts
a second thread, and never starts a second call before the first has returned: the caller waits, or abandons the
executor. The thread is a daemon, so a process that has abandoned it can still exit.

For speed, a round trip uses one `SimpleQueue` into the thread and one of the `LoopCalls` out of it. The waiting task
is suspended and rescheduled directly, without an Event or a cancel scope for each call.

If the call of an abandoned thread returns after all, the thread discards the session and ends.

No object of the SDK leaves the thread (P2): what comes out of it are `CallReport`s and texts. Exceptions come out of
opening the SDK and of the calls of an `SdkHandle`, whose results are for Trio's thread by their nature. They are
stripped of the local variables of their frames first.
"""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable, Collection
from contextlib import AbstractContextManager
from functools import partial
from queue import SimpleQueue
from typing import Any, Final

import outcome
import trio

from trio_jobs._call_report import CallReport, stuck
from trio_jobs._engine.openings import Opening
from trio_jobs._errors import SdkCallStuck
from trio_jobs._exception_tree import clear_frames
from trio_jobs._executors.call_boundary import CallBoundary, interrupt_call
from trio_jobs._executors.discard import close_problem, exception_to_throw
from trio_jobs._executors.handle import SdkHandle
from trio_jobs._interruption import Interruption
from trio_jobs._loop_calls import LoopCalls
from trio_jobs._ports import Discard
from trio_jobs._sdk_call import SdkCall
from trio_jobs._validation import check_manager

__all__ = ["ThreadExecutor"]

CLOSE_GRACE: Final = 2.0  #: seconds for the close of a session after an error of Trio itself

Work = Callable[[], Any]
Factory = Callable[..., AbstractContextManager[Any]]


class ThreadExecutor:
    """An `SdkExecutor` with a thread of its own.

    Args:
        factory: Returns the context manager of a session. None for a service without an SDK; its SDK is then None.
        takes_opening: Whether `factory` takes an `Opening`.
    """

    def __init__(self, factory: Factory | None, *, takes_opening: bool = False) -> None:
        self.session = 0
        self._factory = factory
        self._takes_opening = takes_opening
        self._inbox: SimpleQueue[Work | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._thread_id: int | None = None
        self._loop_calls: LoopCalls | None = None
        self._has_called = False
        """Whether something was called in the thread since it was started."""
        self._waiter: trio.lowlevel.Task | None = None
        self._inside = False
        self.is_open = False
        self._close_problem: str | None = None
        self._boundary = CallBoundary()
        self._calls = 0
        self._call_inside: int | None = None
        self._interrupting = trio.CapacityLimiter(1)  # not the threads that the program shares
        # the next three are read and written on the SDK's thread only
        self._manager: AbstractContextManager[Any] | None = None
        self._sdk: Any = None
        self._error: BaseException | None = None  # what the last call raised, if the session may be discarded for it
        # written in the Trio thread, read on the SDK's thread after its call: true once no task waits for the call
        self._abandoned = False

    def __repr__(self) -> str:
        state = "abandoned" if self._abandoned else "open" if self.is_open else "closed"
        return f"<ThreadExecutor {state}{', a call is inside' if self._inside else ''}>"

    @property
    def inside(self) -> bool:
        return self._inside

    def is_inside(self, thread: int, tasks: Collection[object]) -> bool:
        return self._inside and self._thread_id == thread

    def take_close_problem(self) -> str | None:
        problem, self._close_problem = self._close_problem, None
        return problem

    async def open(self, opening: Opening) -> None:
        if self._thread is None:
            self._loop_calls = LoopCalls(trio.lowlevel.current_trio_token(), self._on_run_end)
            # a daemon: a call that never returns must not keep the process from exiting
            thread = threading.Thread(target=self._run, name="trio-jobs SDK", daemon=True)
            thread.start()  # raises RuntimeError where no thread can start; the next open tries again
            self._thread, self._thread_id = thread, thread.ident
        if self._factory is None:  # nothing to wait for; a wait for the thread would let virtual time advance
            await trio.lowlevel.checkpoint()
        else:
            opened = await self._round_trip(lambda: self._enter(opening), can_leave=True)
            if isinstance(opened, outcome.Error):
                raise opened.error
        self.session += 1
        self.is_open = True

    async def call(self, call: SdkCall) -> CallReport:
        if self._inside or self._abandoned:
            raise _refused()
        self._calls += 1
        number = self._call_inside = self._calls
        result = await self._round_trip(lambda: self._call(number, call))
        if isinstance(result, outcome.Error):
            return stuck()  # abandoned: `_call` does not raise
        report: CallReport = result.value
        return report

    @property
    def call_inside(self) -> int | None:
        return self._call_inside

    @property
    def interrupted_call(self) -> int:
        return self._boundary.interrupted

    async def interrupt(self, number: int, fn: Callable[[Any], Any]) -> Interruption:
        interrupt = partial(interrupt_call, self._boundary, number, lambda: fn(self._sdk))
        return await trio.to_thread.run_sync(interrupt, abandon_on_cancel=True, limiter=self._interrupting)

    def handle(self, enter: Callable[[], Awaitable[None]], leave: Callable[[], None]) -> SdkHandle:
        return SdkHandle(self, enter, leave)

    def abandon(self) -> None:
        if self._inside:
            self._abandoned = True
            self.is_open = False
            self._stop_loop_calls()
            waiter, self._waiter = self._waiter, None
            if waiter is not None:
                trio.lowlevel.reschedule(waiter, outcome.Value(outcome.Error(SdkCallStuck("the call did not return"))))

    async def close(self, discard: Discard | None = None) -> bool:
        if self._thread is None:
            return True
        if self._inside or self._abandoned:
            return False
        was_open = self.is_open
        self.is_open = False
        if was_open and self._factory is not None:
            closed = await self._round_trip(lambda: self._leave(discard), can_leave=True)
            if isinstance(closed, outcome.Error):
                return False  # abandoned: the close has not returned
            self._close_problem = closed.value
        return True

    async def stop(self) -> None:
        """End the thread if no call is inside. The caller has closed the session."""
        if self._thread is not None and not self._inside:
            self._inbox.put(None)
            self._thread = None
            self._stop_loop_calls()

    def _on_run_end(self) -> None:
        """Have the thread close the session when its call returns: where Trio has failed, nothing calls `close`."""
        thread, self._thread = self._thread, None
        self._inbox.put(None)
        if thread is not None and not self._inside:
            thread.join(CLOSE_GRACE)  # the process may be about to exit

    def _stop_loop_calls(self) -> None:
        """Remove the instrument. The return of an abandoned call is still reported, through `run_sync_soon`."""
        if self._loop_calls is not None:
            self._loop_calls.stop()
            self._has_called = False

    async def _round_trip(self, work: Work, *, can_leave: bool = False) -> outcome.Value[Any] | outcome.Error:
        if self._inside or self._abandoned:
            raise _refused()
        if not self._has_called:  # not in `open`: a service without an SDK may never call anything in the thread
            self._has_called = True
            if self._loop_calls is not None:
                self._loop_calls.start()
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
        self._call_inside = None
        if self._abandoned:
            self._inbox.put(None)  # the thread may have read the flag before it was set
        waiter, self._waiter = self._waiter, None
        if waiter is not None:
            trio.lowlevel.reschedule(waiter, outcome.Value(result))

    # the methods below run on the SDK's thread

    def _run(self) -> None:
        assert self._loop_calls is not None
        while (work := self._inbox.get()) is not None:
            result = _captured(work)
            try:
                self._loop_calls.post(self._returned, result)
            except trio.RunFinishedError:
                break
            if self._abandoned:
                break
            del work, result  # do not keep a job's objects alive until the next call
        # a session that is still open is closed on the thread that opened it, whatever ended the loop
        self._leave(Discard("its call was abandoned") if self._abandoned else None)

    def _enter(self, opening: Opening) -> None:
        assert self._factory is not None
        manager = self._factory(opening) if self._takes_opening else self._factory()
        check_manager("sdk", manager)
        self._sdk = manager.__enter__()
        self._manager = manager

    def _call(self, number: int, call: SdkCall) -> CallReport:
        self._forget_error()
        self._boundary.enter(number)
        report, self._error = call.run(self._sdk)
        self._boundary.leave(number)
        return report

    def _forget_error(self) -> None:
        error, self._error = self._error, None
        if error is not None:
            clear_frames(error)

    def _leave(self, discard: Discard | None) -> str | None:
        """Close the session. Returns the close problem."""
        manager, self._manager, self._sdk = self._manager, None, None
        if manager is None:
            self._forget_error()
            return None
        thrown = None if discard is None else exception_to_throw(discard, self._error)
        try:
            if thrown is None:
                manager.__exit__(None, None, None)
            else:
                manager.__exit__(type(thrown), thrown, thrown.__traceback__)
        except BaseException as raised:
            problem = close_problem(raised, thrown)
            clear_frames(raised)
            return problem
        finally:
            self._forget_error()
            del manager, thrown  # the frame may outlive the call, since that of an exception refers to it
        return None


def _refused() -> SdkCallStuck:
    return SdkCallStuck("a call is inside the SDK; nothing else can enter it")  # P1


def _captured(work: Work) -> outcome.Value[Any] | outcome.Error:
    """As `outcome.capture`, which reads `__traceback__`: a property of that name could raise, and end the thread.

    An error goes to Trio's thread, so its frames are cleared, which hold what the SDK made while it was being opened.
    """
    try:
        return outcome.Value(work())
    except BaseException as error:
        clear_frames(error)
        return outcome.Error(error)
