"""Virtual time that waits for the process of an SDK, as `trio_jobs.testing` has it for threads.

While a process does what its queue has asked for, the clock does not jump. It jumps while an operation of the SDK is
blocked in a `Blocker`, which is in the process of the test. When a process is killed while an operation is blocked, the
clock waits for its death.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import wraps
from typing import Any

import pytest
import trio

from trio_jobs._executors.process import ProcessExecutor
from trio_jobs._executors.process_child import SdkProcess
from trio_jobs.testing._virtual_time import ThreadActivity, working_for

__all__ = ["around_thread", "virtual_time_of_processes"]


class _Time:
    """The virtual time of one queue."""

    def __init__(self) -> None:
        self.activity = ThreadActivity(trio.lowlevel.current_clock())
        self.blocked: list[_OperationActivity] = []

    def is_killed(self) -> None:
        """What is blocked is active again, until the executor has noticed the death of the process."""
        for operations in [*self.blocked]:
            operations.begin()
            operations.is_dead = True


class _OperationActivity(ThreadActivity):
    """For a thread that does the operations of a process: not active while it is blocked."""

    def __init__(self, time: _Time) -> None:
        self.token = time.activity.token
        self.is_dead = False
        self._time = time

    def begin(self) -> None:
        if not self.is_dead:
            self._time.blocked.remove(self)
            self._time.activity.begin()

    def end(self) -> None:
        if not self.is_dead:
            self._time.blocked.append(self)
            self._time.activity.end()


_current: list[_Time] = []


def around_thread() -> AbstractContextManager[object]:
    """For `RemoteSdk.around_thread`."""
    return working_for(_OperationActivity(_current[-1])) if _current else nullcontext()


@contextmanager
def virtual_time_of_processes() -> Iterator[None]:
    """In the block, virtual time waits for the process of an SDK. There is one queue at a time."""
    time = _Time()

    def in_real_time(fn: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        @wraps(fn)
        async def run(*args: Any) -> Any:
            with time.activity.running():
                return await fn(*args)

        return run

    kill: Callable[[SdkProcess], None] = vars(SdkProcess)["_kill_group"]

    def kill_group(process: SdkProcess) -> None:
        time.is_killed()
        kill(process)

    _current.append(time)
    with pytest.MonkeyPatch.context() as patch:
        for name in ("open", "call", "interrupt", "close", "stop"):
            patch.setattr(ProcessExecutor, name, in_real_time(getattr(ProcessExecutor, name)))
        patch.setattr(SdkProcess, "_kill_group", kill_group)
        try:
            yield
        finally:
            _current.remove(time)
