"""A Trio run that synchronous code drives, step by step, in its own thread: Trio's guest mode without a host loop.

The hard part is to tell a step that needs a moment from one that waits for ever. In guest mode Trio waits for I/O in
a thread of its own, so "nothing happens" looks the same in both cases. What is known: before Trio goes to wait it has
looked at all I/O once, and time is virtual and stands still. So when a callback has come back through Trio's own
door (which proves that everything before it has been dealt with), nobody waits for I/O, and no thread runs that could
call, then nothing can come any more, and the step is stuck: said at once, without a timeout. Only where a thread or I/O
could still bring something is there real time to wait: `patience` seconds without any sign of life.

A run that is over must be over: Trio cannot begin another one in this thread before. So at its end time runs freely
(from deadline to deadline), and tasks that hide behind a shield for ever are thrown out of it by hand.
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

from trio_jobs.testing._bare import ThrownOut, only_cancelled, raise_bare

__all__ = ["Guest", "Stuck"]

#: Trio's worker threads: idle, or the one in which a guest run waits for I/O. Who uses one is known by who waits for it
_TRIOS_OWN: Final = re.compile(r"Trio thread \d+")

#: Seconds for Trio's own thread to answer, which it always does
_FOR_TRIO: Final = 60.0

#: How often a run that does not end is helped along; each time frees the innermost tasks of all branches
_MOST_FREED: Final = 100

#: How often time is moved on at the end, to the next deadline each time: something may sleep, over and over, for ever
_MOST_JUMPS: Final = 10_000


class Stuck(AssertionError):
    """Something waits for what cannot come: no task can go on, and time, which is virtual, stands still."""


class Guest:
    """One run. patience: seconds of real time to wait for threads and I/O. clock: its time; it moves when somebody
    moves it.

    nursery: where what runs beside the steps lives; what crashes there comes out of the next `step`.
    """

    def __init__(self, clock: trio.testing.MockClock, patience: float) -> None:
        self.nursery: trio.Nursery
        self._clock = clock
        self._patience = patience
        self._soon: deque[Callable[[], object]] = deque()
        self._from_threads: SimpleQueue[Callable[[], object]] = SimpleQueue()
        self._over: outcome.Value[None] | outcome.Error | None = None
        self._crash: BaseException | None = None
        self._main_task: trio.lowlevel.Task
        self._conductor: trio.lowlevel.Task | None = None
        self._result: outcome.Value[Any] | outcome.Error | None = None
        self._scope: trio.CancelScope | None = None
        self._io_at_rest = 0
        self._ending = False
        self.in_step = False
        """A step is under way: whoever calls now is inside the run."""
        trio.lowlevel.start_guest_run(
            self._main,
            run_sync_soon_threadsafe=self._from_threads.put,
            run_sync_soon_not_threadsafe=self._soon.append,
            done_callback=self._set_over,
            clock=clock,
        )
        self._token = trio.lowlevel.current_trio_token()
        self._pump(lambda: self._conductor is not None or self._over is not None, _FOR_TRIO)
        self._come_to_rest()
        self._io_at_rest = _waiting_for_io()

    def step(self, fn: Callable[[], Any], *, settle: Callable[[], Awaitable[None]] | None, last: bool = False) -> Any:
        """Run `fn`, and await what it gives if that can be awaited, as a task of the run; give back its result.

        settle: awaited then, to let all tasks go on until none can. last: time runs by itself, and what has crashed
        before does not matter. Raises what `fn` raises; what has crashed beside it, bare if it is one error; `Stuck`.
        """
        if not last:
            self._raise_crash()
        task = self._conductor
        if task is None:
            raise Stuck("an earlier step did not end, not even when it was cancelled")
        self._conductor = self._result = None
        self.in_step = True
        try:
            trio.lowlevel.reschedule(task, outcome.Value((fn, settle)))
            self._finish_step(last)
        finally:
            self.in_step = False
        result: outcome.Value[Any] | outcome.Error | None = self._result
        self._result = None
        if result is None or (isinstance(result, outcome.Value) and not last):
            self._raise_crash()
        if result is None:
            assert self._over is not None
            self._over.unwrap()
            raise AssertionError("the run is over, and a step has no result")
        if isinstance(result, outcome.Error):
            raise_bare(result.error)
        return result.unwrap()

    def end(self) -> None:
        """Cancel what still runs, and end the run. Raises what that came to. Ending twice is harmless."""
        if self._over is not None and self._conductor is None:
            return
        known, self._ending = self._crash, True
        task, self._conductor = self._conductor, None
        if task is not None:
            trio.lowlevel.reschedule(task, outcome.Value(None))
        shielded = ""
        for freed in range(_MOST_FREED):
            try:
                self._pump_to_end(lambda: self._over is not None)
                break
            except Stuck:
                if not freed:
                    shielded = self._where_all_wait()
                for waiting in [task for task in _below(self._main_task) if _is_innermost(task)]:
                    trio.lowlevel.reschedule(waiting, outcome.Error(ThrownOut()))
        else:
            raise RuntimeError("a run of Trio could not be ended; no other can begin in this thread")
        if shielded:
            raise Stuck(f"these did not end when they were cancelled:\n{shielded}")
        if self._crash is not known:
            self._raise_crash()
        assert self._over is not None
        if isinstance(self._over, outcome.Error):
            raise_bare(self._over.error)

    def _raise_crash(self) -> None:
        if self._crash is not None:
            raise_bare(self._crash)

    def _set_over(self, result: Any) -> None:
        self._over = result

    def _where_all_wait(self) -> str:
        told = (_where_it_waits(task) for task in _below(self._main_task))
        return "\n".join(filter(None, told)) or "  (no task of yours is left)"

    # in the run

    async def _main(self) -> None:
        self._main_task = trio.lowlevel.current_task()
        try:
            async with trio.open_nursery() as self.nursery:
                await self._conduct()
                self.nursery.cancel_scope.cancel()
            return
        except BaseException as error:
            self._crash = error
        if not self._ending:
            await self._conduct()  # what is to be done at the end is done all the same

    async def _conduct(self) -> None:
        """Do steps, until there is none."""
        while (work := await self._next()) is not None:
            fn, settle = work
            self._scope = trio.CancelScope()
            result: outcome.Value[Any] | outcome.Error | None = None
            with self._scope:
                result = await outcome.acapture(_called, fn)
                if settle is not None and isinstance(result, outcome.Value):
                    await settle()
            if isinstance(result, outcome.Error) and only_cancelled(result.error):
                # something beside it crashed, which comes out of the nursery; or its own Cancelled
                await trio.lowlevel.checkpoint_if_cancelled()
            self._result = result

    async def _next(self) -> Any:
        self._conductor = trio.lowlevel.current_task()

        def abort(raise_cancel: Callable[[], None]) -> trio.lowlevel.Abort:
            self._conductor = None
            return trio.lowlevel.Abort.SUCCEEDED

        return await trio.lowlevel.wait_task_rescheduled(abort)

    # the host

    def _finish_step(self, last: bool) -> None:
        def is_done() -> bool:
            return self._conductor is not None or self._over is not None

        try:
            if last:
                self._pump_to_end(is_done)
            else:
                self._pump(is_done, self._patience)
        except Stuck:
            waiting = self._where_all_wait()
            assert self._scope is not None
            self._scope.cancel()
            try:
                self._pump_to_end(is_done)
            except Stuck:
                self._result = None
            raise Stuck(
                "this step waits for what cannot come (time stands still unless a step moves it). "
                f"Where tasks wait:\n{waiting}"
            ) from None

    def _pump_to_end(self, is_done: Callable[[], bool]) -> None:
        """Pump, and move time on wherever nothing else can go on."""
        for jumps in count():
            try:
                self._pump(is_done, min(self._patience, 1.0))
            except Stuck:
                until_next = trio.lowlevel.current_statistics().seconds_to_next_deadline
                if not 0 < until_next < float("inf") or jumps == _MOST_JUMPS:
                    raise
                self._clock.jump(until_next)
                self._token.run_sync_soon(_nothing)
            else:
                return

    def _pump(self, is_done: Callable[[], bool], patience: float) -> None:
        """Let the run go on until `is_done`. Raises `Stuck` when it cannot be."""
        while not is_done():
            if self._soon:
                self._soon.popleft()()
                continue
            self._come_to_rest()
            if is_done():
                return
            if not self._may_something_come():
                raise Stuck
            try:
                self._wait(patience)()
            except Empty:
                raise Stuck from None

    def _come_to_rest(self) -> None:
        """Deal with all that is on its way from Trio's own side, until it goes to wait."""
        answered = False

        def answer() -> None:
            nonlocal answered
            answered = True

        self._token.run_sync_soon(answer)
        while not answered or self._soon:
            if self._soon:
                self._soon.popleft()()
            else:
                self._wait(_FOR_TRIO)()

    def _wait(self, patience: float) -> Callable[[], object]:
        """What comes next from another thread. In slices, since a wait for a lock cannot be interrupted everywhere."""
        ends_at = time.monotonic() + patience
        while True:
            left = ends_at - time.monotonic()
            try:
                return self._from_threads.get(timeout=max(min(left, 0.5), 0.0))
            except Empty:
                if left <= 0.5:
                    raise

    def _may_something_come(self) -> bool:
        """Is there a thread that could call, or does a task wait for a thread or for I/O?"""
        me = threading.current_thread()
        threads = [t for t in threading.enumerate() if t is not me and not _TRIOS_OWN.fullmatch(t.name)]
        return (
            bool(threads)
            or _waiting_for_io() > self._io_at_rest
            or any(_waits_for_thread(task) for task in _below(self._main_task))
        )


async def _called(fn: Callable[[], Any]) -> Any:
    result = fn()
    return await result if isinstance(result, Awaitable) else result


def _nothing() -> None:
    pass


def _waiting_for_io() -> int:
    """How many tasks wait for I/O; the names of the numbers are the operating system's."""
    numbers = trio.lowlevel.current_statistics().io_statistics
    names = ("tasks_waiting_read", "tasks_waiting_write", "tasks_waiting_overlapped", "tasks_waiting")
    return sum(getattr(numbers, name, 0) for name in names)


def _below(task: trio.lowlevel.Task) -> Iterator[trio.lowlevel.Task]:
    """The task and all that it waits for, in the order in which they were started."""
    yield task
    for nursery in task.child_nurseries:
        for child in sorted(nursery.child_tasks, key=_age):
            yield from _below(child)


def _age(task: trio.lowlevel.Task) -> int:
    return getattr(task, "_counter", 0)


def _is_innermost(task: trio.lowlevel.Task) -> bool:
    return not any(nursery.child_tasks for nursery in task.child_nurseries)


def _waits_for_thread(task: trio.lowlevel.Task) -> bool:
    """Is it in `trio.to_thread.run_sync`?"""
    return any(frame.f_globals.get("__name__") == "trio._threads" for frame, _ in task.iter_await_frames())


def _where_it_waits(task: trio.lowlevel.Task) -> str:
    """Its name and the lines it waits in, those of Trio and of this room left out."""
    frames = [
        (frame, line)
        for frame, line in task.iter_await_frames()
        if not frame.f_globals.get("__name__", "").startswith(("trio.", "outcome.", __name__))
    ]
    lines = traceback.StackSummary.extract(iter(frames)).format()[-3:]
    return "".join([f"  {task.name}\n", *lines]).rstrip() if lines else ""
