"""Signals of the demo: the first one stops it in order, the second one ends the process at once.

Python runs the handler in the main thread, also if that is blocked in a write, so the second one does not depend on the
event loop.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any, Final

import attrs
import trio

__all__ = ["LEDGER_NOT_CLOSED", "StopSignals"]

LEDGER_NOT_CLOSED: Final = 70  #: the exit code of a process that has not closed the ledger
#: SIGBREAK is Ctrl-Break and the closed console of Windows
_NAMES: Final = ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK")
_NAMES_BY_NUMBER: Final = {getattr(signal, name): name for name in _NAMES if hasattr(signal, name)}


@attrs.define(eq=False)
class StopSignals:
    """The signals that were received."""

    received: int | None = None
    """The number of the first signal; None without one."""
    _stop: Callable[[], object] | None = None

    @property
    def exit_code(self) -> int | None:
        """128 and the number of the signal, as shells have it; None without one."""
        return None if self.received is None else 128 + self.received

    @contextlib.contextmanager
    def handled(self) -> Iterator[None]:
        """Handle the signals, in the main thread. One that comes while nothing can be stopped raises KeyboardInterrupt.

        A signal that the parent process had ignored stays ignored (`nohup`).
        """
        before: dict[Any, Any] = {}
        for number in _NAMES_BY_NUMBER:
            if signal.getsignal(number) is not signal.SIG_IGN:
                before[number] = signal.signal(number, self._handle)
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    @contextlib.contextmanager
    def calling(self, stop: Callable[[], object]) -> Iterator[None]:
        """Call `stop` in Trio at the first signal, also if it came before. To be entered in Trio, within `handled`."""
        token = trio.lowlevel.current_trio_token()

        def stop_soon() -> None:
            with contextlib.suppress(trio.RunFinishedError):
                token.run_sync_soon(stop)

        self._stop = stop_soon
        if self.received is not None:
            stop()
        try:
            yield
        finally:
            self._stop = None

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.received is None:
            self.received = number
            if self._stop is None:
                raise KeyboardInterrupt
            self._stop()
        elif _NAMES_BY_NUMBER[number] != "SIGHUP":  # a terminal that closes may send it after another one, and twice
            with contextlib.suppress(OSError):
                os.write(2, b"demo: ended at once\n" if self._stop is None else b"demo: the ledger is not closed\n")
            os._exit(LEDGER_NOT_CLOSED if self._stop is not None else 128 + number)
