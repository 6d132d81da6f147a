"""Single key presses from a terminal."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import AsyncIterator, Iterator

import trio

__all__ = ["keys"]


async def keys() -> AsyncIterator[str]:
    """Yield each key that is pressed; none if standard input is not a terminal or the system has no cbreak mode.

    Cancelled:
        The mode of the terminal is restored.
    """
    try:
        import termios  # noqa: F401 - absent on Windows
    except ImportError:
        return
    if not sys.stdin.isatty():
        return
    with _single_keys():
        while True:
            await trio.lowlevel.wait_readable(sys.stdin)
            key = sys.stdin.read(1)
            if not key:
                return
            yield key


@contextlib.contextmanager
def _single_keys() -> Iterator[None]:
    import termios
    import tty

    before = termios.tcgetattr(sys.stdin)
    tty.setcbreak(sys.stdin)
    try:
        yield
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)
