"""Single keys from a terminal, where there is one and it can be asked for them."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import AsyncIterator, Iterator

import trio

__all__ = ["keys"]


async def keys() -> AsyncIterator[str]:
    """Each key as it is pressed; none where standard input is no terminal or the system has no cbreak mode.

    Cancelled: the terminal is as it was before.
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
