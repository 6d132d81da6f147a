"""Alarms: a thread waits until a time that another thread moves on, and does not run while it is moved on.

A thread that wakes needs the interpreter lock, also if only to find that it has to wait longer. A busy event loop
releases that lock for a microsecond in each of its turns. The thread is woken each time, and comes too late, up to
thousands of times. On Linux it waits for a timer of the kernel instead, which is moved on without it.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable
from typing import Final, Protocol

__all__ = ["Alarm", "PlainAlarm", "TimerAlarm", "open_alarm"]

AT_ONCE: Final = 1e-9  #: seconds; a timer of the kernel that is set to 0 is stopped
NANOSECONDS: Final = 10**9


class Alarm(Protocol):
    """One thread waits for it and closes it; any thread may set it, also after it is closed."""

    def set(self, seconds: float) -> None:
        """Let the wait end in so many seconds from now. While a thread waits, its end may not become earlier."""

    def ring(self) -> None:
        """End the wait at once, or the next one if no thread waits."""

    def wait(self) -> None:
        """Wait until the time that was set last."""

    def close(self) -> None:
        """Give back what the alarm holds of the system."""


class PlainAlarm:
    """An alarm whose thread wakes at each time that was set, and waits on if the time has been moved on."""

    def __init__(self) -> None:
        self._at = 0.0
        self._has_rung = threading.Event()

    def set(self, seconds: float) -> None:
        self._at = time.monotonic() + seconds

    def ring(self) -> None:
        self._has_rung.set()

    def wait(self) -> None:
        while (left := self._at - time.monotonic()) > 0 and not self._has_rung.wait(left):
            pass
        self._has_rung.clear()

    def close(self) -> None:
        pass


class TimerAlarm:
    """An alarm with a timer of the kernel, see timerfd_create(2).

    Args:
        timer: The file descriptor of the timer, which the alarm closes.
        set_timer: Lets the timer expire in so many seconds from now.
    """

    def __init__(self, timer: int, set_timer: Callable[[int, float], object]) -> None:
        self._timer: int | None = timer
        self._set_timer = set_timer
        self._lock = threading.Lock()  #: held while the timer is set or closed: its number may be used again then

    def set(self, seconds: float) -> None:
        with self._lock:
            if self._timer is not None:
                self._set_timer(self._timer, max(seconds, AT_ONCE))

    def ring(self) -> None:
        self.set(AT_ONCE)

    def wait(self) -> None:
        assert self._timer is not None, "closed by this thread"
        os.read(self._timer, 8)

    def close(self) -> None:
        with self._lock:
            if self._timer is not None:
                os.close(self._timer)
                self._timer = None


def open_alarm() -> Alarm:
    """Open an alarm: a `TimerAlarm` where the system has timers, and the process a file descriptor left for one."""
    if sys.platform != "linux":
        return PlainAlarm()
    try:
        return _open_timer()
    except (OSError, AttributeError):  # an AttributeError: a C library without timers
        return PlainAlarm()


if sys.version_info >= (3, 13):

    def _open_timer() -> TimerAlarm:
        return TimerAlarm(
            os.timerfd_create(time.CLOCK_MONOTONIC), lambda timer, seconds: os.timerfd_settime(timer, initial=seconds)
        )

else:

    def _open_timer() -> TimerAlarm:
        """The same by the C library. Its calls take a microsecond, so they keep the interpreter lock."""
        import ctypes

        libc = ctypes.PyDLL(None, use_errno=True)
        settime = libc.timerfd_settime
        timer = libc.timerfd_create(time.CLOCK_MONOTONIC, os.O_CLOEXEC)
        if timer < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create")

        def set_timer(timer: int, seconds: float) -> None:
            whole, rest = divmod(round(seconds * NANOSECONDS), NANOSECONDS)
            settime(timer, 0, (ctypes.c_long * 4)(0, 0, whole, rest), None)  # struct itimerspec: its interval first

        return TimerAlarm(timer, set_timer)
