"""Stalls: the pauses of a loaded machine. A test that fails with them, and not without, depends on its speed.

With TRIO_JOBS_STALLS in the environment, these are paused: Trio's loop before a step of a task, so that real time
passes, and every thread and process runs ahead of the test; other threads, such as that of an SDK or a journal, before
they report to the loop; a forked process of an SDK, when it has received a message and before it sends one. The value:

- `each`, `test`, `others`: the steps of all tasks, of the task of the test, of the other tasks. A step is paused the
  first times that a task waits at a place, for 10 ms.
- `threads`: what threads and processes of SDKs report, the first times that they report the same, for 10 ms.
- `files`: the loop is told 5 ms late that a connection or a pipe of another process is ready, and sees nothing of it
  before (Linux).
- `clock`: nothing, but Trio's clock of real time leaps by 0.25 s before a step, the first time that a task waits at a
  place, 16 times in all.
- a number, or any other word: a seed. Steps and reports are paused at random moments, the task of the test above all,
  for a few milliseconds, rarely for half a second. What is paused follows from the seed and from the name of the test;
  threads and processes need not meet in the same order when it is run again.

The pauses are sleeps, so they take no CPU. Together they take at most `MOST` seconds of each process of a test.
"""

from __future__ import annotations

import contextlib
import os
import random
import select
import socket
import stat
import threading
import time
from abc import abstractmethod
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final
from weakref import WeakKeyDictionary

import pytest
import trio
from trio._core import _run

from trio_jobs._loop_calls import LoopCalls
from trio_jobs._sdk_process.child import Link

__all__ = ["MOST", "STALLS", "FileStalls", "RandomStalls", "ReportStalls", "StepStalls", "make_stalls"]

STALLS: Final = os.environ.get("TRIO_JOBS_STALLS", "")
MOST: Final = 3.0  #: seconds, fewer than the shortest deadline of a test

# of the modes that pause what they name
ONE: Final = 0.01  #: seconds
TIMES: Final = 5  #: how often the same step, or report, is paused
LEAP: Final = 0.25  #: seconds that the clock leaps by
LEAPS: Final = 16  #: how often
LATE: Final = 0.005  #: seconds that the loop is told of a file late

# of a seed
SHORT: Final = (0.001, 0.004, 0.02, 0.05)  #: seconds
LONG: Final = (0.2, 0.5)  #: seconds
LONG_ONES: Final = 0.03  #: how many of the pauses are long
IN_TEST: Final = 0.3  #: how many of the steps of the task of the test are paused, and of the reports of a thread
IN_OTHERS: Final = 0.02  #: how many of the steps of other tasks are


class Stalls(trio.abc.Instrument):
    """The stalls of one test.

    Args:
        sleep: Pauses the calling thread for so many seconds.
    """

    def __init__(self, sleep: Callable[[float], object]) -> None:
        self._sleep = sleep
        self._left = MOST
        self._process = os.getpid()
        self._thread = threading.get_ident()

    @abstractmethod
    def of_step(self, task: trio.lowlevel.Task) -> float:
        """How long to pause before this step of `task`, in seconds."""

    @abstractmethod
    def of_report(self, report: object) -> float:
        """How long to pause before a thread or a process reports this, in seconds."""

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self._pause(self.of_step(task))

    def install(self, patch: pytest.MonkeyPatch) -> None:
        """Pause runs of Trio that begin later, the threads that report to them, and processes that are forked."""
        setup, post, send, receive = _run.setup_runner, LoopCalls.post, Link.send, Link.receive
        run_soon = trio.lowlevel.TrioToken.run_sync_soon

        def setup_stalled(clock: Any, instruments: Any, *args: Any, **kwargs: Any) -> Any:
            return setup(clock, [*instruments, self], *args, **kwargs)

        def post_late(calls: LoopCalls, fn: Callable[..., None], *args: Any) -> None:
            if threading.get_ident() != self._thread:
                self._pause(self.of_report(getattr(fn, "__qualname__", fn)))
            post(calls, fn, *args)

        def run_late(token: trio.lowlevel.TrioToken, fn: Callable[..., object], *args: Any, **kwargs: Any) -> None:
            if threading.get_ident() != self._thread:
                self._pause(self.of_report(getattr(fn, "__qualname__", fn)))
            run_soon(token, fn, *args, **kwargs)

        def send_late(link: Link, message: Any) -> None:
            if os.getpid() != self._process:
                self._pause(self.of_report(type(message)))
            send(link, message)

        def receive_late(link: Link) -> Any:
            message = receive(link)
            if os.getpid() != self._process:
                self._pause(self.of_report(type(message)))
            return message

        patch.setattr(_run, "setup_runner", setup_stalled)
        patch.setattr(LoopCalls, "post", post_late)
        patch.setattr(trio.lowlevel.TrioToken, "run_sync_soon", run_late)
        patch.setattr(Link, "send", send_late)
        patch.setattr(Link, "receive", receive_late)

    def _pause(self, seconds: float) -> None:
        if self._left > 0 and seconds > 0:
            self._left -= seconds
            self._sleep(seconds)


class RandomStalls(Stalls):
    """The stalls of a seed."""

    def __init__(self, seed: str, sleep: Callable[[float], object] = time.sleep) -> None:
        super().__init__(sleep)
        self._chance = random.Random(seed)

    def of_step(self, task: trio.lowlevel.Task) -> float:
        return self._seconds(IN_TEST if _is_of_the_test(task) else IN_OTHERS)

    def of_report(self, report: object) -> float:
        return self._seconds(IN_TEST)

    def _seconds(self, how_often: float) -> float:
        if self._chance.random() >= how_often:
            return 0.0
        return self._chance.choice(LONG if self._chance.random() < LONG_ONES else SHORT)


class StepStalls(Stalls):
    """`each`, `test` and `others`."""

    times = TIMES  #: how often a task is paused at the same place

    def __init__(self, mode: str, sleep: Callable[[float], object] = time.sleep) -> None:
        super().__init__(sleep)
        self._mode = mode
        self._paused: Counter[object] = Counter()

    def of_step(self, task: trio.lowlevel.Task) -> float:
        if self._left <= 0 or self._mode == ("others" if _is_of_the_test(task) else "test"):
            return 0.0
        place = hash(tuple((frame.f_code, line) for frame, line in task.iter_await_frames()))  # keeps no objects
        self._paused[place] += 1
        return ONE if self._paused[place] <= self.times else 0.0

    def of_report(self, report: object) -> float:
        return 0.0


class ReportStalls(Stalls):
    """`threads`."""

    def __init__(self, sleep: Callable[[float], object] = time.sleep) -> None:
        super().__init__(sleep)
        self._paused: Counter[object] = Counter()

    def of_step(self, task: trio.lowlevel.Task) -> float:
        return 0.0

    def of_report(self, report: object) -> float:
        self._paused[report] += 1
        return ONE if self._paused[report] <= TIMES else 0.0


class ClockStalls(StepStalls):
    """`clock`."""

    times = 1

    def __init__(self) -> None:
        super().__init__("each", self._leap)
        self._left = LEAPS * ONE
        self._passed = 0.0

    def install(self, patch: pytest.MonkeyPatch) -> None:
        super().install(patch)
        current_time = _run.SystemClock.current_time
        patch.setattr(_run.SystemClock, "current_time", lambda clock: current_time(clock) + self._passed)

    def _leap(self, seconds: float) -> None:
        self._passed += LEAP


class FileStalls(Stalls):
    """`files`. What is ready is held back, while the loop believes that nothing is: it can jump its clock."""

    def __init__(self, late: float = LATE) -> None:
        super().__init__(time.sleep)
        self.late = late
        self._held: WeakKeyDictionary[Any, list[tuple[float, int, int]]] = WeakKeyDictionary()
        """What is held of each run of Trio: since when, a file descriptor, and what it is ready for."""

    def of_step(self, task: trio.lowlevel.Task) -> float:
        return 0.0

    def of_report(self, report: object) -> float:
        return 0.0

    def install(self, patch: pytest.MonkeyPatch) -> None:
        if not hasattr(select, "epoll"):
            return
        from trio._core._io_epoll import EpollIOManager

        get_events = EpollIOManager.get_events

        def get_events_late(manager: Any, timeout: float) -> Any:
            held = self._held.setdefault(manager, [])
            until = time.monotonic() + timeout
            while True:
                wait = min(until, held[0][0] + self.late if held else until) - time.monotonic()
                due = self._hold(held, get_events(manager, max(wait, 0.0)))
                if due or time.monotonic() >= until:
                    return due

        patch.setattr(EpollIOManager, "get_events", get_events_late)

    def _hold(self, held: list[tuple[float, int, int]], events: Any) -> list[tuple[int, int]]:
        """Hold `events`, and return those that are due."""
        now = time.monotonic()
        due = []
        for fd, flags in events:
            if self._left <= 0 or not _comes_from_afar(fd):
                due.append((fd, flags))
            else:
                self._left -= LATE
                held.append((now, fd, flags))
        while held and held[0][0] + self.late <= now:
            due.append(held.pop(0)[1:])
        return due


def _comes_from_afar(fd: int) -> bool:
    """Whether this is a connection over the network or a pipe from another process. What this process writes into a
    pipe is there at once."""
    file = os.fstat(fd)
    if stat.S_ISSOCK(file.st_mode):
        shared = socket.socket(fileno=fd)  # not of a copy: a test may have used up all descriptors
        shared.detach()
        return shared.family in (socket.AF_INET, socket.AF_INET6)
    ends = 0
    for path in Path("/proc/self/fd").iterdir() if stat.S_ISFIFO(file.st_mode) else ():
        with contextlib.suppress(OSError):  # that of the folder itself
            ends += os.path.samestat(path.stat(), file)
    return ends == 1


def make_stalls(test: str, mode: str = STALLS) -> Stalls:
    """The stalls of the test with this name; `mode` is not empty."""
    match mode:
        case "each" | "test" | "others":
            return StepStalls(mode)
        case "clock":
            return ClockStalls()
        case "threads":
            return ReportStalls()
        case "files":
            return FileStalls()
    return RandomStalls(f"{mode} {test}")


def _is_of_the_test(task: trio.lowlevel.Task) -> bool:
    """Whether the task runs the function of a test, after which pytest-trio names it, or what `trio.run` was given."""
    return task.name.startswith("<test ") or task is _run.GLOBAL_RUN_CONTEXT.runner.main_task
