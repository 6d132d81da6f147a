"""The caller of a method of the queue: its thread, its task, and whether the queue itself waits for it.

Two mistakes of a caller would do harm without an error. In another thread, a method would change the queue while the
event loop changes it; a submit would even record its job before it raised. And a handler that waits for its own queue
would wait forever, since there is one consumer, which waits for the handler. So every method checks its thread before
it does anything, and every wait for the consumer checks first that the consumer does not wait for the caller.

The consumer waits for all that runs in its task or in a task of a nursery within it (async handlers and verify), and
for the call that is inside the executor (plain handlers and verify, the SDK's factory). Other waits for the same
consumer cannot be recognized: those in a thread or a process that a handler has started and waits for.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final

import trio
from trio.lowlevel import in_trio_task

from trio_jobs._concurrency import LoopThread
from trio_jobs._errors import UsageError
from trio_jobs._ports import RecognizesCallers, SdkExecutor

__all__ = ["CallerCheck"]

_thread_of_caller: Final[ContextVar[int | None]] = ContextVar("_thread_of_caller", default=None)
"""The thread that waits for a call of `FromThread`, which runs in the thread of the event loop."""


class CallerCheck:
    """Checks the callers of one queue. It is made in the thread of the event loop."""

    def __init__(self, executor: SdkExecutor) -> None:
        self.loop_thread: Final = LoopThread()
        self.consumer: trio.lowlevel.Task | None = None
        """The task of the consumer; None before it has started."""
        self._executor: Final = executor if isinstance(executor, RecognizesCallers) else None

    def __repr__(self) -> str:
        return f"<CallerCheck of thread {self.loop_thread.id}>"

    def check_thread(self) -> None:
        """Check that the caller runs in the thread of the event loop.

        Raises:
            UsageError: It runs in another thread.
        """
        self.loop_thread.check("a method of a queue", "use the method of queue.from_thread")

    def check_task(self) -> None:
        """Check that the caller is a Trio task in the thread of the event loop.

        Raises:
            UsageError: It runs in another thread, or is a coroutine of another library, such as asyncio.
        """
        if threading.get_ident() != self.loop_thread.id:  # compared here, as every submit is checked
            self.check_thread()
        if not in_trio_task():
            raise UsageError(
                "a method of a queue was awaited outside of a Trio task, and has changed nothing; await it in Trio"
            )

    @contextmanager
    def on_behalf_of(self, thread: int) -> Iterator[None]:
        """Within the block, this task makes a call for another thread, which waits for it."""
        token = _thread_of_caller.set(thread)
        try:
            yield
        finally:
            _thread_of_caller.reset(token)

    def refuse_wait(self, what: str, instead: str) -> None:
        """Check that a wait for the consumer can end.

        Args:
            what: The wait, for the message.
            instead: What the caller can do, for the message.

        Raises:
            UsageError: The consumer waits for the caller.
        """
        tasks = _with_ancestors(trio.lowlevel.current_task())
        is_own = self.consumer in tasks
        if not is_own and self._executor is not None:
            is_own = self._executor.is_inside(_thread_of_caller.get() or self.loop_thread.id, tasks)
        if is_own:
            raise UsageError(
                f"{what} would never end: a handler, verify or SDK factory of the same queue called it, and the queue "
                f"has one consumer, which waits for that function to return; {instead}"
            )


def _with_ancestors(task: trio.lowlevel.Task | None) -> list[trio.lowlevel.Task]:
    tasks = []
    while task is not None:
        tasks.append(task)
        task = None if task.parent_nursery is None else task.parent_nursery.parent_task
    return tasks
