"""A Trio run that synchronous code drives step by step in the same thread: Trio's guest mode without a host loop.

The hard part is to distinguish a step that needs more time from one that waits for ever. In guest mode Trio waits for
I/O in a thread of its own, so both look the same from here.

The trick: Trio polls all I/O once before it starts to wait, and the clock is virtual and does not advance by itself. So
if a callback has returned through `run_sync_soon` (everything scheduled before it has then run), no task waits for I/O
and no other thread is alive, then no event can arrive any more. The step is stuck, and `Stuck` is raised without a
timeout. Real time is spent only where a thread or I/O could still wake a task: `timeout` seconds without any event.

A run must end before another one can start in this thread. So at its end the clock advances from deadline to deadline,
and an exception is raised in tasks that stay shielded for ever.
"""

from __future__ import annotations

import re
import threading
import time
import traceback
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from itertools import count
from queue import Empty, SimpleQueue
from typing import Any, Final

import outcome
import trio
import trio.testing

from trio_jobs.testing._exceptions import TaskAborted, is_only_cancelled, raise_unwrapped

__all__ = ["SteppedRun", "Stuck"]

#: Trio's worker threads: idle, or waiting for a guest run's I/O. One in use has a task that waits for it
_TRIOS_OWN: Final = re.compile(r"Trio thread \d+")

#: Seconds to wait for Trio's own thread, which always responds
_TRIO_TIMEOUT: Final = 60.0

#: How often tasks of a run that does not end are aborted; each time the innermost tasks of all branches
_MAX_ABORTS: Final = 100

#: How many deadlines the clock advances by at the end: a task may sleep in an endless loop
_MAX_JUMPS: Final = 10_000


class Stuck(AssertionError):
    """A step waits for an event that cannot arrive: no task can run, and virtual time does not pass by itself."""


class SteppedRun:
    """One Trio run.

    Args:
        clock: The clock of the run; it advances only when it is advanced.
        timeout: Seconds of real time to wait for threads and I/O.
    """

    def __init__(self, clock: trio.testing.MockClock, timeout: float) -> None:
        self.nursery: trio.Nursery
        """For background tasks. An exception in one of them is raised by the next `step`."""
        self._clock = clock
        self._timeout = timeout
        self._callbacks: deque[Callable[[], object]] = deque()
        self._thread_callbacks: SimpleQueue[Callable[[], object]] = SimpleQueue()
        self._outcome: outcome.Value[None] | outcome.Error | None = None
        self._background_error: BaseException | None = None
        self._main_task: trio.lowlevel.Task
        self._step_task: trio.lowlevel.Task | None = None  # the task that runs steps, while it waits for one
        self._result: outcome.Value[Any] | outcome.Error | None = None
        self._scope: trio.CancelScope | None = None
        self._idle_io = 0
        self._ending = False
        self.in_step = False
        """A step is in progress, so the caller is inside the run."""
        trio.lowlevel.start_guest_run(
            self._main,
            run_sync_soon_threadsafe=self._thread_callbacks.put,
            run_sync_soon_not_threadsafe=self._callbacks.append,
            done_callback=self._set_outcome,
            clock=clock,
        )
        self._token = trio.lowlevel.current_trio_token()
        self._pump(lambda: self._step_task is not None or self._outcome is not None, _TRIO_TIMEOUT)
        self._run_callbacks()
        self._idle_io = _waiting_for_io()

    def step(self, fn: Callable[[], Any], *, settle: Callable[[], Awaitable[None]] | None, last: bool = False) -> Any:
        """Call `fn` in a task of the run, await its result if it is awaitable, and return the result.

        Args:
            fn: The step.
            settle: Awaited after `fn`, to let all tasks run until all are blocked.
            last: Let virtual time pass by itself, and ignore earlier exceptions of background tasks.

        Raises:
            BaseException: What `fn` or a background task raised, without a group if it is one exception.
            Stuck: The step waits for an event that cannot arrive.
        """
        if not last:
            self._raise_background_error()
        task = self._step_task
        if task is None:
            raise Stuck("an earlier step did not end when it was cancelled")
        self._step_task = self._result = None
        self.in_step = True
        try:
            trio.lowlevel.reschedule(task, outcome.Value((fn, settle)))
            self._finish_step(last)
        finally:
            self.in_step = False
        result: outcome.Value[Any] | outcome.Error | None = self._result
        self._result = None
        if result is None or (isinstance(result, outcome.Value) and not last):
            self._raise_background_error()
        if result is None:
            assert self._outcome is not None
            self._outcome.unwrap()
            raise AssertionError("the run ended before its step returned")
        if isinstance(result, outcome.Error):
            raise_unwrapped(result.error)
        return result.unwrap()

    def end(self) -> None:
        """Cancel all tasks and end the run. Calling it twice has no effect.

        Raises:
            BaseException: What a task raised while it was cancelled.
            Stuck: A task did not end when it was cancelled.
        """
        if self._outcome is not None and self._step_task is None:
            return
        known, self._ending = self._background_error, True
        task, self._step_task = self._step_task, None
        if task is not None:
            trio.lowlevel.reschedule(task, outcome.Value(None))
        shielded = ""
        for aborts in range(_MAX_ABORTS):
            try:
                self._pump_to_end(lambda: self._outcome is not None)
                break
            except Stuck:
                if not aborts:
                    shielded = self._waiting_lines()
                for waiting in [task for task in _descendants(self._main_task) if _is_innermost(task)]:
                    trio.lowlevel.reschedule(waiting, outcome.Error(TaskAborted()))
        else:
            raise RuntimeError("a Trio run could not be ended; this thread cannot start another one")
        if shielded:
            raise Stuck(f"these tasks did not end when they were cancelled:\n{shielded}")
        if self._background_error is not known:
            self._raise_background_error()
        assert self._outcome is not None
        if isinstance(self._outcome, outcome.Error):
            raise_unwrapped(self._outcome.error)

    def _raise_background_error(self) -> None:
        if self._background_error is not None:
            raise_unwrapped(self._background_error)

    def _set_outcome(self, result: Any) -> None:
        self._outcome = result

    def _waiting_lines(self) -> str:
        shown = (_waiting_line(task) for task in _descendants(self._main_task))
        return "\n".join(filter(None, shown)) or "  (none of your tasks is left)"

    # inside the run

    async def _main(self) -> None:
        self._main_task = trio.lowlevel.current_task()
        try:
            async with trio.open_nursery() as self.nursery:
                await self._run_steps()
                self.nursery.cancel_scope.cancel()
            return
        except BaseException as error:
            self._background_error = error
        if not self._ending:
            await self._run_steps()  # the last step runs even so

    async def _run_steps(self) -> None:
        """Run steps until `end` is called."""
        while (step := await self._next_step()) is not None:
            fn, settle = step
            self._scope = trio.CancelScope()
            result: outcome.Value[Any] | outcome.Error | None = None
            with self._scope:
                result = await outcome.acapture(_called, fn)
                if settle is not None and isinstance(result, outcome.Value):
                    await settle()
            if isinstance(result, outcome.Error) and is_only_cancelled(result.error):
                # a background task raised, and the nursery raises that; or the step raised a Cancelled of its own
                await trio.lowlevel.checkpoint_if_cancelled()
            self._result = result

    async def _next_step(self) -> Any:
        self._step_task = trio.lowlevel.current_task()

        def abort(raise_cancel: Callable[[], None]) -> trio.lowlevel.Abort:
            self._step_task = None
            return trio.lowlevel.Abort.SUCCEEDED

        return await trio.lowlevel.wait_task_rescheduled(abort)

    # outside the run

    def _finish_step(self, last: bool) -> None:
        def is_done() -> bool:
            return self._step_task is not None or self._outcome is not None

        try:
            if last:
                self._pump_to_end(is_done)
            else:
                self._pump(is_done, self._timeout)
        except Stuck:
            waiting = self._waiting_lines()
            assert self._scope is not None
            self._scope.cancel()
            try:
                self._pump_to_end(is_done)
            except Stuck:
                self._result = None
            raise Stuck(
                "this step waits for an event that cannot arrive (virtual time passes only when a step advances it). "
                f"The tasks wait here:\n{waiting}"
            ) from None

    def _pump_to_end(self, is_done: Callable[[], bool]) -> None:
        """Pump, and advance the clock to the next deadline whenever no task can run."""
        for jumps in count():
            try:
                self._pump(is_done, min(self._timeout, 1.0))
            except Stuck:
                until_next = trio.lowlevel.current_statistics().seconds_to_next_deadline
                if not 0 < until_next < float("inf") or jumps == _MAX_JUMPS:
                    raise
                self._clock.jump(until_next)
                self._token.run_sync_soon(_nothing)
            else:
                return

    def _pump(self, is_done: Callable[[], bool], timeout: float) -> None:
        """Drive the run until `is_done` returns true. Raises `Stuck` if it cannot become true."""
        while not is_done():
            if self._callbacks:
                self._callbacks.popleft()()
                continue
            self._run_callbacks()
            if is_done():
                return
            if not self._can_wake_up():
                raise Stuck
            try:
                self._wait(timeout)()
            except Empty:
                raise Stuck from None

    def _run_callbacks(self) -> None:
        """Run all callbacks of Trio's loop until it waits."""
        returned = False

        def mark_returned() -> None:
            nonlocal returned
            returned = True

        self._token.run_sync_soon(mark_returned)
        while not returned or self._callbacks:
            if self._callbacks:
                self._callbacks.popleft()()
            else:
                self._wait(_TRIO_TIMEOUT)()

    def _wait(self, timeout: float) -> Callable[[], object]:
        """The next callback from another thread. Waits in slices: some platforms cannot interrupt a lock wait."""
        ends_at = time.monotonic() + timeout
        while True:
            left = ends_at - time.monotonic()
            try:
                return self._thread_callbacks.get(timeout=max(min(left, 0.5), 0.0))
            except Empty:
                if left <= 0.5:
                    raise

    def _can_wake_up(self) -> bool:
        """Whether another thread is alive, or a task waits for a thread or for I/O."""
        me = threading.current_thread()
        threads = [t for t in threading.enumerate() if t is not me and not _TRIOS_OWN.fullmatch(t.name)]
        return (
            bool(threads)
            or _waiting_for_io() > self._idle_io
            or any(_waits_for_thread(task) for task in _descendants(self._main_task))
        )


async def _called(fn: Callable[[], Any]) -> Any:
    result = fn()
    return await result if isinstance(result, Awaitable) else result


def _nothing() -> None:
    pass


def _waiting_for_io() -> int:
    """How many tasks wait for I/O; the names of the statistics depend on the operating system."""
    numbers = trio.lowlevel.current_statistics().io_statistics
    names = ("tasks_waiting_read", "tasks_waiting_write", "tasks_waiting_overlapped", "tasks_waiting")
    return sum(getattr(numbers, name, 0) for name in names)


def _descendants(task: trio.lowlevel.Task) -> Iterator[trio.lowlevel.Task]:
    """The task and its descendants, in the order in which they were started."""
    yield task
    for nursery in task.child_nurseries:
        for child in sorted(nursery.child_tasks, key=_age):
            yield from _descendants(child)


def _age(task: trio.lowlevel.Task) -> int:
    return getattr(task, "_counter", 0)


def _is_innermost(task: trio.lowlevel.Task) -> bool:
    return not any(nursery.child_tasks for nursery in task.child_nurseries)


def _waits_for_thread(task: trio.lowlevel.Task) -> bool:
    """Whether the task is in `trio.to_thread.run_sync`."""
    return any(frame.f_globals.get("__name__") == "trio._threads" for frame, _ in task.iter_await_frames())


def _waiting_line(task: trio.lowlevel.Task) -> str:
    """The task's name and the lines in which it waits, without those of Trio and of this module."""
    frames = [
        (frame, line)
        for frame, line in task.iter_await_frames()
        if not frame.f_globals.get("__name__", "").startswith(("trio.", "outcome.", __name__))
    ]
    lines = traceback.StackSummary.extract(iter(frames)).format()[-3:]
    return "".join([f"  {task.name}\n", *lines]).rstrip() if lines else ""
