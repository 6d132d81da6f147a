"""Signals for `serve`: the first drains, the second cancels, the third leaves at once.

A handler in Python runs in the main thread, between two of its steps; a loop that is blocked in a call would not hear
even the third. So a thread of our own hears them: the interpreter's C handler writes each signal's number to a socket
(`signal.set_wakeup_fd`), whatever the main thread does.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import trio

__all__ = ["AT_ONCE", "handle_signals"]

AT_ONCE: Final = 70  #: exit code: left without closing the SDK
_NAMES: Final = ("SIGINT", "SIGTERM", "SIGBREAK")


@contextmanager
def handle_signals(on_signal: Callable[[int], None]) -> Iterator[None]:
    """Within Trio, in the main thread: call `on_signal(count)` in Trio for the first two signals. The third ends the
    process."""
    wanted = [getattr(signal, name) for name in _NAMES if hasattr(signal, name)]
    token = trio.lowlevel.current_trio_token()
    reader, writer = socket.socketpair()
    writer.setblocking(False)
    over = threading.Event()
    before: dict[Any, Any] = {number: signal.signal(number, lambda *_: None) for number in wanted}
    before_fd = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
    thread = threading.Thread(
        target=_hear, args=(reader, token, over, on_signal, set(wanted)), name="trio-jobs signals", daemon=True
    )
    thread.start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(before_fd)
        for number, handler in before.items():
            signal.signal(number, handler)
        over.set()
        writer.close()
        thread.join()
        reader.close()


def _hear(
    reader: socket.socket,
    token: trio.lowlevel.TrioToken,
    over: threading.Event,
    on_signal: Callable[[int], None],
    wanted: set[int],
) -> None:
    count = 0
    while not over.is_set():
        for number in reader.recv(64):
            if number not in wanted:
                continue
            count += 1
            if count > 2:
                print("leaving at once; the SDK is not closed", file=sys.stderr, flush=True)
                os._exit(AT_ONCE)
            try:
                token.run_sync_soon(on_signal, count)
            except trio.RunFinishedError:
                return
