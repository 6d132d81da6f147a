"""Single key presses from a terminal."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import AsyncIterator, Iterator

import trio

__all__ = ["keys"]


async def keys() -> AsyncIterator[str]:
    """Yield each key that is pressed.

    None if standard input is not a terminal of which this process is in the foreground, or if the system has no cbreak
    mode. The end of the terminal ends the keys.

    Cancelled:
        The mode of the terminal is restored.
    """
    try:
        import termios  # noqa: F401 - absent on Windows
    except ImportError:
        return
    if not sys.stdin.isatty() or not _is_in_foreground():
        return
    with _single_keys():
        while True:
            await trio.lowlevel.wait_readable(sys.stdin)
            try:
                key = os.read(sys.stdin.fileno(), 1)
            except OSError:  # EIO: the terminal was closed
                return
            if not key:
                return
            yield key.decode(errors="replace")


def _is_in_foreground() -> bool:
    """The system stops a process in the background that changes the mode of its terminal."""
    try:
        return os.tcgetpgrp(sys.stdin.fileno()) == os.getpgrp()
    except OSError:  # it is no controlling terminal, so there is no background
        return True


@contextlib.contextmanager
def _single_keys() -> Iterator[None]:
    import termios
    import tty

    before = termios.tcgetattr(sys.stdin)
    tty.setcbreak(sys.stdin)
    try:
        yield
    finally:
        with contextlib.suppress(termios.error):  # the terminal was closed
            termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)
