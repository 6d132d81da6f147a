"""The pipes between a queue and the process of its SDK. The ends of the queue are used in Trio's thread only."""

from __future__ import annotations

import contextlib
import os
from typing import Final

import trio

__all__ = ["CHUNK", "Pipe", "ProcessPipes", "read_all", "read_some"]

CHUNK: Final = 65536
PIPE_BUF: Final = 512  #: bytes that every system writes into a pipe at once, or not at all (POSIX)


class Pipe:
    """A pipe of which the queue has one end and the process the other.

    Args:
        inbound: The process reads from it.
    """

    def __init__(self, *, inbound: bool) -> None:
        reads, writes = os.pipe()
        self.child, self.own = (reads, writes) if inbound else (writes, reads)
        os.set_blocking(self.own, False)
        self._open = {self.child, self.own}

    def close(self, fd: int | None = None) -> None:
        """Close one end, or both. A second call does nothing."""
        for end in [self.child, self.own] if fd is None else [fd]:
            if end in self._open:
                self._open.discard(end)
                if end == self.own:
                    trio.lowlevel.notify_closing(end)
                os.close(end)


class ProcessPipes:
    """All pipes of one process."""

    def __init__(self) -> None:
        self._all: list[Pipe] = []
        try:
            self.inbound = self._add(inbound=True)
            self.outbound = self._add(inbound=False)
            self.control = self._add(inbound=True)
            self.stack = self._add(inbound=False)
            self.output = self._add(inbound=False)
            self.errors = self._add(inbound=False)
        except BaseException:  # no descriptor is free, and the next try must find as many as this one
            self.close()
            raise

    def _add(self, *, inbound: bool) -> Pipe:
        self._all.append(Pipe(inbound=inbound))
        return self._all[-1]

    @property
    def inherited(self) -> tuple[int, ...]:
        """The ends that the process gets under the same numbers."""
        return self.inbound.child, self.outbound.child, self.control.child, self.stack.child

    def send_now(self, data: bytes) -> bool:
        """Write a message that fits into the pipe. Returns False if nothing was written, since it does not."""
        if len(data) > PIPE_BUF:
            return False
        try:
            os.write(self.inbound.own, data)  # all or nothing
        except BlockingIOError:
            return False
        except OSError:
            pass  # its end is noticed by the task that waits for it
        return True

    async def send(self, data: bytes) -> None:
        """Write a message. Data for a process that has ended are dropped.

        Cancelled:
            Part of the message may be written; the process must be killed.
        """
        view = memoryview(data)
        fd = self.inbound.own
        try:
            while view:
                try:
                    view = view[os.write(fd, view) :]
                except BlockingIOError:
                    await trio.lowlevel.wait_writable(fd)
        except (OSError, trio.ClosedResourceError):
            return  # its end is noticed by the task that waits for it

    def push(self, signal: bytes) -> None:
        """Write one byte for the thread of the process. It is dropped if the process does not read."""
        with contextlib.suppress(OSError):
            os.write(self.control.own, signal)

    def close_childs_ends(self) -> None:
        """Close the ends of the process, after it has been started."""
        for pipe in self._all:
            pipe.close(pipe.child)

    def close(self) -> None:
        for pipe in self._all:
            pipe.close()


async def read_some(pipe: Pipe) -> bytes:
    """Wait for data, and return them; no data if the process has closed its end.

    Cancelled:
        Nothing was read.
    """
    while True:
        try:
            return os.read(pipe.own, CHUNK)
        except BlockingIOError:
            await trio.lowlevel.wait_readable(pipe.own)


def read_all(pipe: Pipe, limit: int) -> bytes:
    """Return what can be read without waiting, at most about `limit` bytes."""
    data = b""
    with contextlib.suppress(OSError):
        while len(data) < limit and (more := os.read(pipe.own, CHUNK)):
            data += more
    return data
