"""What the writer thread is to do, in order.

A `SimpleQueue` wakes the thread within `put`, while its caller holds the interpreter lock. If the thread wakes at once,
because its processor was not asleep or is that of the caller, it must wait for the lock, and the two switch back and
forth five times before the thread can go on. So the thread waits for an eventfd: the caller has released the lock while
it writes to one. Where the system has no eventfd, the thread waits in the `SimpleQueue`.
"""

from __future__ import annotations

import os
import select
import sys
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, Generic, TypeVar

from trio_jobs._eventfd import open_eventfd, write_eventfd

__all__ = ["WriterInbox"]

T = TypeVar("T")


class WriterInbox(Generic[T]):
    """A queue into one thread. All methods but `put` are called in that thread."""

    def __init__(self) -> None:
        self._items: SimpleQueue[T] = SimpleQueue()
        self._is_waiting = False  #: the thread waits for the eventfd, or is about to; set by the thread alone
        self._lock = threading.Lock()  #: held while the eventfd is written to or closed
        self._eventfd: int | None = None
        self._epoll: Any = None
        self._poll: Callable[[float | None, int], object] | None = None  #: waits for a write to the eventfd
        self._has_begun = False

    def put(self, item: T) -> None:
        """Add an item. Can be called in any thread, also after `close`."""
        self._items.put(item)
        if self._is_waiting:
            with self._lock:
                if self._eventfd is not None:
                    write_eventfd(self._eventfd, 1)

    def get(self, timeout: float | None = None) -> T:
        """Wait for an item and return it.

        Args:
            timeout: Seconds; None for ever.

        Raises:
            queue.Empty: There was none in that time.
        """
        if not self._has_begun:
            self._has_begun = True
            self._open()
        if self._poll is None:
            return self._items.get(timeout=timeout)
        while True:
            self._is_waiting = True
            # read after the flag is set: a thread that adds an item from now on wakes this one
            woken = self._items.empty() and self._poll(timeout, 1)
            self._is_waiting = False
            if not woken or not self._items.empty():  # else it was woken for an item that it has got before
                return self._items.get_nowait()

    def get_nowait(self) -> T:
        """Return the next item. Raises `queue.Empty`."""
        return self._items.get_nowait()

    def empty(self) -> bool:
        """Whether there is no item."""
        return self._items.empty()

    def close(self) -> None:
        """Close the eventfd, at the end of the thread."""
        with self._lock:
            eventfd, self._eventfd = self._eventfd, None
        if eventfd is not None:
            self._poll = None
            self._epoll.close()
            os.close(eventfd)

    def _open(self) -> None:
        eventfd = open_eventfd()
        if sys.platform != "linux" or eventfd is None:
            return
        try:
            self._epoll = select.epoll()
            # each write wakes the thread once, so the eventfd need not be read
            self._epoll.register(eventfd, select.EPOLLIN | select.EPOLLET)
        except OSError:  # the process has no more file descriptors: go on without it
            os.close(eventfd)
        else:
            self._poll, self._eventfd = self._epoll.poll, eventfd
