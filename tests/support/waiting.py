"""Waits with a deadline that says what did not happen.

A deadline is in seconds of real time, also under a virtual clock, which may not move at all. It is only there so that a
wrong test ends: a wait ends by its event, and no test depends on how long that takes. TRIO_JOBS_TEST_DEADLINE sets
another one, for tests that are expected to fail.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, TypeVar

import trio
from trio.testing import MockClock, wait_all_tasks_blocked

__all__ = ["DEADLINE", "deadline", "pass_time_until", "time_limit", "wait_until"]

T = TypeVar("T")

#: seconds: a machine under load starts a process in ten
DEADLINE: Final = float(os.environ.get("TRIO_JOBS_TEST_DEADLINE", "60"))


@contextmanager
def deadline(what: str, seconds: float = DEADLINE) -> Iterator[None]:
    """Raise `AssertionError` when the block, in Trio, has not ended after `seconds` of real time.

    Args:
        what: What the block waits for.
    """
    if not isinstance(trio.lowlevel.current_clock(), MockClock):
        with trio.move_on_after(seconds) as scope:
            yield
    else:
        scope = trio.CancelScope()
        with _timer(seconds, scope.cancel), scope:
            yield
    if scope.cancelled_caught:
        raise AssertionError(f"{what}: not within {seconds:g} s")


@contextmanager
def time_limit(name: str, seconds: float) -> Iterator[None]:
    """As `deadline`, around a whole test; the error shows where each task of Trio waits."""
    scope = trio.CancelScope()
    tasks = ""

    def expire() -> None:
        nonlocal tasks
        tasks = "\n".join(_where_tasks_wait(trio.lowlevel.current_root_task()))
        scope.cancel()

    with _timer(seconds, expire), scope:
        yield
    if scope.cancelled_caught:
        raise AssertionError(f"{name} did not end within {seconds:g} s; its tasks:\n{tasks}")


@contextmanager
def _timer(seconds: float, expire: Callable[[], None]) -> Iterator[None]:
    """Call `expire` in Trio after `seconds` of real time."""
    token = trio.lowlevel.current_trio_token()

    def notify() -> None:
        with contextlib.suppress(trio.RunFinishedError):
            token.run_sync_soon(expire)

    timer = threading.Timer(seconds, notify)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _where_tasks_wait(task: trio.lowlevel.Task | None, indent: str = "") -> Iterator[str]:
    if task is None:
        return
    frames = [frame for frame, _ in task.iter_await_frames()]
    lines = [f"{Path(f.f_code.co_filename).name}:{f.f_lineno} {f.f_code.co_name}" for f in frames]
    yield f"{indent}{task.name}: {' > '.join(lines[-4:])}"
    for nursery in task.child_nurseries:
        for child in nursery.child_tasks:
            yield from _where_tasks_wait(child, indent + "  ")


async def pass_time_until(clock: MockClock, holds: Callable[[], object], what: str) -> None:
    """Move a clock that stands still, step by step, until this is true: for what waits for its time again and again.

    Args:
        clock: Of this run of Trio.
        holds: Is asked before each step, of 0.02 s.
        what: The message of the `AssertionError` that is raised if it never is.
    """
    with deadline(what):
        while not holds():
            clock.jump(0.02)
            await wait_all_tasks_blocked(0.001)


def wait_until(holds: Callable[[], T], what: str, *, seconds: float = DEADLINE) -> T:
    """Ask `holds` until it returns something true, and return that; outside Trio, where no event can be awaited.

    Raises:
        AssertionError: It was not true within `seconds`; the message is `what` and the last answer.
    """
    until = time.monotonic() + seconds
    while not (answer := holds()):
        assert time.monotonic() < until, f"{what}: not within {seconds:g} s, it is {answer!r}"
        time.sleep(0.005)
    return answer
