"""Eventfds, with which one thread wakes another on Linux.

Writing to one takes less time than writing to a socket, and releases the interpreter lock: the thread that wakes needs
it at once.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any, Final

__all__ = ["open_eventfd", "read_eventfd", "write_eventfd"]


def open_eventfd() -> int | None:
    """Open an eventfd that does not block. None: the system has none, or the process no more file descriptors."""
    if sys.platform != "linux" or not hasattr(os, "eventfd"):
        return None
    try:
        return os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
    except OSError:
        return None


def _missing(*_: int) -> None:
    raise NotImplementedError("this system has no eventfds")


#: Reads an eventfd, which is then not readable. Raises `BlockingIOError` if it was not readable
read_eventfd: Final[Callable[[int], Any]] = getattr(os, "eventfd_read", _missing)
#: Adds a number to an eventfd, which is then readable
write_eventfd: Final[Callable[[int, int], Any]] = getattr(os, "eventfd_write", _missing)
