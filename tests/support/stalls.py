"""Stalls: the pauses of a loaded machine, at random moments of the tests.

With TRIO_JOBS_STALLS=SEED in the environment, these are paused now and then, each time for a few milliseconds,
rarely for half a second: Trio's loop before a step of a task, the task of the test above all, so that every thread and
process runs ahead of the test; the threads of an SDK and of a journal, before they report to the loop; a forked process
of an SDK, when it has received a message and before it sends one. A test that fails with a seed, and not without,
depends on the speed of the machine. What is paused follows from the seed and from the name of the test; threads and
processes need not meet in the same order when it is run again.

The pauses are sleeps, so they take no CPU. Together they take at most `MOST` seconds of each process of a test.
"""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Callable
from typing import Any, Final

import pytest
import trio
from trio._core import _run

from trio_jobs._loop_calls import LoopCalls
from trio_jobs._sdk_process.child import Link

__all__ = ["SEED", "Stalls"]

SEED: Final = os.environ.get("TRIO_JOBS_STALLS", "")
MOST: Final = 3.0  #: seconds, fewer than the shortest deadline of a test
SHORT: Final = (0.001, 0.004, 0.02, 0.05)  #: seconds
LONG: Final = (0.2, 0.5)  #: seconds
LONG_ONES: Final = 0.03  #: how many of the pauses are long
IN_TEST: Final = 0.3  #: how many of the steps of the task of the test are paused, and of the reports of a thread
IN_OTHERS: Final = 0.02  #: how many of the steps of other tasks are


class Stalls(trio.abc.Instrument):
    """The stalls of one test.

    Args:
        seed: Says when there is one.
        sleep: Pauses the calling thread for so many seconds.
    """

    def __init__(self, seed: str, sleep: Callable[[float], object] = time.sleep) -> None:
        self._chance = random.Random(seed)
        self._sleep = sleep
        self._left = MOST
        self._process = os.getpid()
        self._thread = threading.get_ident()

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self._pause(IN_TEST if _is_of_the_test(task) else IN_OTHERS)

    def install(self, patch: pytest.MonkeyPatch) -> None:
        """Pause runs of Trio that begin later, the threads that report to them, and processes that are forked."""
        setup, post, send, receive = _run.setup_runner, LoopCalls.post, Link.send, Link.receive

        def setup_stalled(clock: Any, instruments: Any, *args: Any, **kwargs: Any) -> Any:
            return setup(clock, [*instruments, self], *args, **kwargs)

        def post_late(calls: LoopCalls, fn: Callable[..., None], *args: Any) -> None:
            if threading.get_ident() != self._thread:
                self._pause(IN_TEST)
            post(calls, fn, *args)

        def send_late(link: Link, message: Any) -> None:
            self._pause_process()
            send(link, message)

        def receive_late(link: Link) -> Any:
            message = receive(link)
            self._pause_process()
            return message

        patch.setattr(_run, "setup_runner", setup_stalled)
        patch.setattr(LoopCalls, "post", post_late)
        patch.setattr(Link, "send", send_late)
        patch.setattr(Link, "receive", receive_late)

    def _pause_process(self) -> None:
        if os.getpid() != self._process:
            self._pause(IN_TEST)

    def _pause(self, how_often: float) -> None:
        if self._left > 0 and self._chance.random() < how_often:
            seconds = self._chance.choice(LONG if self._chance.random() < LONG_ONES else SHORT)
            self._left -= seconds
            self._sleep(seconds)


def _is_of_the_test(task: trio.lowlevel.Task) -> bool:
    """Whether the task runs the function of a test, after which pytest-trio names it, or what `trio.run` was given."""
    return task.name.startswith("<test ") or task is _run.GLOBAL_RUN_CONTEXT.runner.main_task
