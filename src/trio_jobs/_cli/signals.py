"""Signals of `serve`: the first one stops, the second one cancels, the third one exits at once.

The hard part is the third signal while the event loop is blocked in a call: Python runs signal handlers in the main
thread, between two bytecodes. The trick is `signal.set_wakeup_fd`: the C handler of the interpreter writes the number
of each signal to a socket, whatever the main thread does, and a thread of its own reads that socket.
"""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import trio

from trio_jobs._cli.exit_codes import ExitCode
from trio_jobs._cli.output import print_last

__all__ = ["handle_signals"]

_NAMES: Final = ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK")


@contextmanager
def handle_signals(on_signal: Callable[[int], None]) -> Iterator[None]:
    """Call `on_signal(count)` in Trio for the first two signals; the third one ends the process.

    To be entered in Trio, in the main thread.
    """
    numbers = [getattr(signal, name) for name in _NAMES if hasattr(signal, name)]
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:  # as nohup sets it
        numbers.remove(signal.SIGHUP)
    token = trio.lowlevel.current_trio_token()
    reader, writer = socket.socketpair()
    writer.setblocking(False)
    closed = threading.Event()
    thread = threading.Thread(
        target=_read_signals,
        args=(reader, token, closed, on_signal, set(numbers)),
        name="trio-jobs signals",
        daemon=True,
    )
    try:
        thread.start()
    except RuntimeError:  # the system has no more threads: signals keep their handlers
        reader.close()
        writer.close()
        raise
    before: dict[Any, Any] = {number: signal.signal(number, lambda *_: None) for number in numbers}
    before_fd = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
    try:
        yield
    finally:
        signal.set_wakeup_fd(before_fd)
        for number, handler in before.items():
            signal.signal(number, handler)
        closed.set()
        writer.close()
        thread.join()
        reader.close()


def _read_signals(
    reader: socket.socket,
    token: trio.lowlevel.TrioToken,
    closed: threading.Event,
    on_signal: Callable[[int], None],
    numbers: set[int],
) -> None:
    count = 0
    while not closed.is_set():
        for number in reader.recv(64):
            if number not in numbers:
                continue
            count += 1
            if count > 2:
                try:
                    print_last("exiting at once; the SDK is not closed")
                finally:
                    os._exit(ExitCode.SDK_NOT_CLOSED)
            try:
                token.run_sync_soon(on_signal, count)
            except trio.RunFinishedError:
                return
