"""Small utilities for Trio that several packages use."""

from __future__ import annotations

import functools
import signal
import threading
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from types import TracebackType
from typing import Final, ParamSpec, TypeVar, TypeVarTuple

import trio

from trio_jobs._errors import UsageError
from trio_jobs._exception_tree import contains, is_a, leaves, traceback_of

__all__ = [
    "NEVER",
    "Alarm",
    "LoopThread",
    "ProtectedNursery",
    "WakeUp",
    "bare_nursery",
    "is_cancellation",
    "must_propagate",
    "protected_manager",
    "raised_by_signal",
    "single_cause",
]

Arguments = ParamSpec("Arguments")
T = TypeVar("T")
Values = TypeVarTuple("Values")

NEVER: Final = float("inf")  #: a time on Trio's clock that is never reached


@asynccontextmanager
async def bare_nursery() -> AsyncIterator[trio.Nursery]:
    """A nursery that raises the exception of its body without a group.

    `trio.open_nursery` wraps the exception of its body in a group, also if no task of the nursery has failed. The tasks
    of this nursery must not raise; then the exception of the body propagates unchanged.
    """
    raised: BaseException | None = None
    async with trio.open_nursery() as nursery:
        try:
            yield nursery
        except BaseException as error:
            raised = error
    if raised is not None:
        try:
            raise raised
        finally:
            del raised  # no reference cycle through this frame


def protected_manager(
    function: Callable[Arguments, AsyncIterator[T]],
) -> Callable[Arguments, AbstractAsyncContextManager[T]]:
    """As `contextlib.asynccontextmanager`; Ctrl-C interrupts the entry and the exit at checkpoints alone.

    So do the nurseries of Trio. The tasks that the context manager starts must be protected themselves. A protection of
    the function alone would leave out the lines of contextlib around it: Ctrl-C between them would skip the exit.
    """
    make = asynccontextmanager(function)

    @functools.wraps(function)
    def protected(*args: Arguments.args, **kwargs: Arguments.kwargs) -> AbstractAsyncContextManager[T]:
        return _ProtectedManager(make(*args, **kwargs))

    return protected


class _ProtectedManager(AbstractAsyncContextManager[T]):
    def __init__(self, manager: AbstractAsyncContextManager[T]) -> None:
        self._manager = manager

    @trio.lowlevel.enable_ki_protection
    async def __aenter__(self) -> T:
        return await self._manager.__aenter__()

    @trio.lowlevel.enable_ki_protection
    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        return await self._manager.__aexit__(kind, error, traceback)


class ProtectedNursery:
    """A nursery for a library: Ctrl-C is not raised in the tasks that it starts, but in the task of the user.

    Args:
        nursery: Runs the tasks.
    """

    def __init__(self, nursery: trio.Nursery) -> None:
        self._nursery = nursery

    def start_soon(self, function: Callable[[*Values], Awaitable[object]], *args: *Values) -> None:
        self._nursery.start_soon(_protected_task, function, *args)


@trio.lowlevel.enable_ki_protection
async def _protected_task(function: Callable[[*Values], Awaitable[object]], *args: *Values) -> None:
    await function(*args)


def single_cause(error: BaseException) -> BaseException:
    """Return the first error within nested groups that is not a group itself."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def is_cancellation(error: BaseException) -> bool:
    """Whether the error is Cancelled, or a group of nothing else."""
    return all(is_a(leaf, trio.Cancelled) for leaf in leaves(error))


def raised_by_signal(error: BaseException) -> bool:
    """Whether a signal raised this KeyboardInterrupt, or one within this group. Call it where the error was caught.

    A library can raise KeyboardInterrupt too, which is then an error like any other. Python calls signal handlers in
    the main thread between two bytecodes, so an error that the handler of SIGINT raised (Trio's, if nobody has set
    another one) has the frame of the handler in its traceback. A handler that is not a Python function, such as that of
    Python itself, leaves no frame; with it, each KeyboardInterrupt of the main thread counts as raised by a signal.
    """
    interrupts = [leaf for leaf in leaves(error) if is_a(leaf, KeyboardInterrupt)]
    if not interrupts:
        return False
    handler = signal.getsignal(signal.SIGINT)
    if not callable(handler):  # signals are ignored, or end the process
        return False
    code = getattr(handler, "__code__", None)
    if code is None:
        return threading.current_thread() is threading.main_thread()
    frames = (frame for leaf in interrupts for frame, _ in traceback.walk_tb(traceback_of(leaf)))
    return any(frame.f_code is code for frame in frames)


def must_propagate(error: BaseException) -> bool:
    """Whether the error is not that of the code that raised it: it is, or its group contains, a Cancelled or Ctrl-C."""
    return contains(error, trio.Cancelled) or raised_by_signal(error)


class LoopThread:
    """The thread of the event loop in which an object was made."""

    __slots__ = ("id",)

    def __init__(self) -> None:
        self.id: Final = threading.get_ident()

    def check(self, what: str, instead: str) -> None:
        """Check that the caller runs in this thread.

        Args:
            what: What was called, for the message.
            instead: What to call in another thread, for the message.

        Raises:
            UsageError: The caller runs in another thread.
        """
        if threading.get_ident() != self.id:
            raise UsageError(
                f"{what} was called outside of the thread of its event loop, and has changed nothing; in other "
                f"threads, such as that of a plain handler, {instead}"
            )


class Alarm:
    """A timer for the earliest of several times. One task waits; any task can set a time."""

    def __init__(self) -> None:
        self._at = NEVER
        self._scope = trio.CancelScope()

    def set(self, at: float) -> None:
        """Wake the waiting task at this time, in seconds on Trio's clock, or at an earlier one that is set."""
        if at < self._at:
            self._at = self._scope.deadline = at

    async def wait(self) -> None:
        """Return at the earliest time that was set since the last call. The times that were set are then cleared.

        Cancelled:
            The earliest time stays set.
        """
        self._scope = trio.CancelScope(deadline=self._at)
        with self._scope:
            await trio.sleep_forever()
        self._at = NEVER


class WakeUp:
    """An event that resets itself when the wait returns. One task waits; any task can set it.

    Not a `trio.Event`, which is six more objects for each task that waits: thousands of readers and connections do, and
    each full collection of the garbage collector visits them.
    """

    __slots__ = ("_waiter", "is_set")

    def __init__(self) -> None:
        self.is_set = False
        self._waiter: trio.lowlevel.Task | None = None

    @trio.lowlevel.enable_ki_protection
    def set(self) -> None:
        self.is_set = True
        waiter, self._waiter = self._waiter, None
        if waiter is not None:
            trio.lowlevel.reschedule(waiter)

    def clear(self) -> None:
        self.is_set = False

    @trio.lowlevel.enable_ki_protection
    async def wait(self) -> None:
        """Return when `set` has been called since the last return or `clear`.

        Raises:
            trio.BusyResourceError: Another task waits. The wait of that task goes on.

        Cancelled:
            The event stays set if it was set.
        """
        if self.is_set:
            await trio.lowlevel.checkpoint()
        elif self._waiter is not None:
            raise trio.BusyResourceError("another task waits for the same; only one task at a time can")
        else:
            self._waiter = trio.lowlevel.current_task()
            await trio.lowlevel.wait_task_rescheduled(self._forget_waiter)
        self.is_set = False

    def _forget_waiter(self, _: object) -> trio.lowlevel.Abort:
        self._waiter = None
        return trio.lowlevel.Abort.SUCCEEDED
