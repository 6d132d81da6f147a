"""A device on a pseudo-terminal: the pump of `examples/serial_doser.py`, which hangs, drops off and answers late.

It listens in a thread, so that a test sees what a real serial port does: an answer comes at any time, also when nobody
waits for it any more.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import final

from support.waiting import DEADLINE

__all__ = ["Pump"]


@final
class Pump:
    """The device. It remembers its doses, also while it is unplugged.

    Args:
        path: The name of its port, which exists while the pump is plugged in.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.doses: list[tuple[str, int]] = []  #: reference and millilitres, in order
        self.commands: list[str] = []  #: all that it has heard
        self.held = threading.Event()  #: it holds an answer back
        self.dropped = threading.Event()  #: it has gone off the line
        self._hold: str | None = None
        self._drop: str | None = None
        self._late: list[str] = []
        self._master = self._slave = -1
        self._thread: threading.Thread | None = None

    def hold(self, command: str) -> None:
        """Obey the next `command` and do not answer. The answer comes before that to the command after it."""
        self._hold = command

    def drop(self, command: str) -> None:
        """Obey the next `command`, and go off the line without an answer."""
        self._drop = command

    @contextlib.contextmanager
    def plugged(self) -> Iterator[Pump]:
        self.plug()
        try:
            yield self
        finally:
            if not self.dropped.is_set():
                self._unplug()
            self._join()

    def plug(self) -> None:
        import pty  # Windows has none
        import tty

        self._join()
        self.dropped.clear()
        self._master, self._slave = pty.openpty()
        tty.setraw(self._slave)
        self.path.symlink_to(os.ttyname(self._slave))
        self._thread = threading.Thread(target=self._listen, args=(self._master,), name="pump", daemon=True)
        self._thread.start()

    def _unplug(self) -> None:
        self.path.unlink()
        os.write(self._slave, b"END\n")  # ends the thread: to close the file does not end its read

    def _join(self) -> None:
        if self._thread is not None:
            self._thread.join(DEADLINE)
            assert not self._thread.is_alive()
            self._thread = None

    def _listen(self, master: int) -> None:
        rest = b""
        while True:
            *lines, rest = (rest + os.read(master, 1000)).split(b"\n")
            for line in lines:
                if line == b"END" or not self._hear(line.decode(), master):
                    os.close(master)
                    os.close(self._slave)
                    self.dropped.set()
                    return

    def _hear(self, line: str, master: int) -> bool:
        """Whether it stays on the line."""
        self.commands.append(line)
        command, *words = line.split()
        answer = self._answer(command, *words)
        if command == self._drop:
            self._drop = None
            self.path.unlink()
            return False
        if command == self._hold:
            self._hold = None
            self._late.append(answer)
            self.held.set()
        else:
            late, self._late = self._late, []
            os.write(master, "".join(f"{text}\n" for text in [*late, answer]).encode())
        return True

    def _answer(self, command: str, *words: str) -> str:
        if command == "DOSE":
            self.doses.append((words[0], int(words[1])))
            return "OK"
        if command == "DONE?":
            return "YES" if words[0] in dict(self.doses) else "NO"
        return " ".join([command, *words])  # SYNC
