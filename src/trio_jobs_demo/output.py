"""Lines on standard output, which never stop the booking.

A reader that has gone (`| head`), a full disk or a closed terminal ends the output and nothing else. A reader that does
not read blocks a thread of its own, so that a signal still closes the ledger. That thread writes to the file itself:
in the buffer of standard output it would hold a lock, for which Python waits when it exits, or which it aborts for.
"""

from __future__ import annotations

import contextlib
import os
import queue
import sys
import threading
import time
from collections.abc import Callable
from typing import Any, Final

__all__ = ["Output"]

_PAUSE: Final = 0.05  #: seconds between two writes to an output that would block


class Output:
    """Prints lines in a thread of its own, in order. To be closed."""

    def __init__(self) -> None:
        self._lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="demo output", daemon=True)
        self._thread.start()

    def print(self, line: str) -> None:
        """Print a line, soon. Never raises OSError."""
        self._lines.put(line)

    def close(self, timeout: float | None = None) -> None:
        """Wait until everything is printed.

        Args:
            timeout: Seconds, after which the rest is given up. None: as long as it takes.
        """
        self._lines.put(None)
        self._thread.join(timeout)
        if self._thread.is_alive():
            _discard_output()

    def _run(self) -> None:
        print_line = _line_printer()
        is_broken = False
        while (line := self._lines.get()) is not None:
            if is_broken:
                continue
            try:
                print_line(line)
            except (OSError, ValueError):  # ValueError: it is closed
                is_broken = True
                _discard_output()


def _line_printer() -> Callable[[str], object]:
    """Return a function that prints a line on standard output without its buffer, and raises OSError or ValueError."""
    stdout = sys.stdout
    try:
        raw: Any = getattr(stdout.buffer, "raw", stdout.buffer)  # with -u Python has no buffer
        stdout.flush()
    except (AttributeError, OSError, ValueError):  # there is none, or no file: it was replaced
        return print

    def print_line(line: str) -> None:
        data = f"{line}{os.linesep}".encode(stdout.encoding, stdout.errors or "strict")
        while data:
            written = raw.write(data)
            if written is None:  # another process has made the file non-blocking
                time.sleep(_PAUSE)
            else:
                data = data[written:]

    return print_line


def _discard_output() -> None:
    """Let the interpreter's own flush at exit succeed: it would change the exit code."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, sys.stdout.fileno())
        os.close(null)
