"""Timers of threads: a thread waits until a time that another thread moves on, and does not run while it is moved on.

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

__all__ = ["KernelTimer", "PlainTimer", "ThreadTimer", "open_timer"]

AT_ONCE: Final = 1e-9  #: seconds; a timer of the kernel that is set to 0 is stopped
NANOSECONDS: Final = 10**9


class ThreadTimer(Protocol):
    """One thread waits for it and closes it; any thread may set it, also after it is closed."""

    def set(self, seconds: float) -> None:
        """Let the wait end in so many seconds from now. While a thread waits, its end may not become earlier."""

    def expire(self) -> None:
        """End the wait at once, or the next one if no thread waits."""

    def wait(self) -> None:
        """Wait until the time that was set last."""

    def close(self) -> None:
        """Give back what the timer holds of the system."""


class PlainTimer:
    """A timer whose thread wakes at each time that was set, and waits on if the time has been moved on."""

    def __init__(self) -> None:
        self._at = 0.0
        self._is_expired = threading.Event()

    def set(self, seconds: float) -> None:
        self._at = time.monotonic() + seconds

    def expire(self) -> None:
        self._is_expired.set()

    def wait(self) -> None:
        while (left := self._at - time.monotonic()) > 0 and not self._is_expired.wait(left):
            pass
        self._is_expired.clear()

    def close(self) -> None:
        pass


class KernelTimer:
    """A timer of the kernel, see timerfd_create(2).

    Args:
        descriptor: The file descriptor of the timer, which is closed with it.
        set_timer: Lets the timer of a descriptor expire in so many seconds from now.
    """

    def __init__(self, descriptor: int, set_timer: Callable[[int, float], object]) -> None:
        self._descriptor: int | None = descriptor
        self._set_timer = set_timer
        self._lock = threading.Lock()  #: held while the timer is set or closed: the number may be another file's then

    def set(self, seconds: float) -> None:
        with self._lock:
            if self._descriptor is not None:
                self._set_timer(self._descriptor, max(seconds, AT_ONCE))

    def expire(self) -> None:
        self.set(AT_ONCE)

    def wait(self) -> None:
        assert self._descriptor is not None, "closed by this thread"
        os.read(self._descriptor, 8)

    def close(self) -> None:
        with self._lock:
            if self._descriptor is not None:
                os.close(self._descriptor)
                self._descriptor = None


def open_timer() -> ThreadTimer:
    """Open a timer: a `KernelTimer` where the system has timers, and the process a file descriptor left for one."""
    if sys.platform != "linux":
        return PlainTimer()
    try:
        return _open_kernel_timer()
    except (OSError, AttributeError):  # an AttributeError: a C library without timers
        return PlainTimer()


if sys.version_info >= (3, 13):

    def _open_kernel_timer() -> KernelTimer:
        return KernelTimer(
            os.timerfd_create(time.CLOCK_MONOTONIC), lambda timer, seconds: os.timerfd_settime(timer, initial=seconds)
        )

else:

    def _open_kernel_timer() -> KernelTimer:
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

        return KernelTimer(timer, set_timer)
