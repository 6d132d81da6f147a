"""`trio-jobs watch` in a terminal: a pseudo-terminal that is read as a person would see it."""

from __future__ import annotations

import os
import select
import signal
import sys
from pathlib import Path

import pytest

from support.processes import Process
from support.shell import Shell
from support.waiting import DEADLINE

if sys.platform == "win32":
    pytest.skip("no pseudo-terminals", allow_module_level=True)

pty = pytest.importorskip("pty")
pytest.importorskip("rich")


class Terminal:
    """What a command writes to its terminal, 100 columns wide."""

    def __init__(self, command: list[str], shell: Shell) -> None:
        ours, theirs = pty.openpty()
        self._fd = ours
        self.seen = ""
        environment = shell.environment | {"TERM": "xterm-256color", "COLUMNS": "100", "LINES": "30"}
        self.process = Process(command, cwd=shell.folder, env=environment, terminal=theirs, forked=True)
        os.close(theirs)

    def shows(self, *texts: str) -> None:
        """Read on until each of them has been written since the last call."""
        fresh = ""
        while not all(text in fresh for text in texts):
            assert select.select([self._fd], [], [], DEADLINE)[0], f"it does not show {texts}: {self.seen}"
            try:
                got = os.read(self._fd, 4096).decode(errors="replace")
            except OSError:  # the other end is closed: Linux says so with EIO
                got = ""
            assert got, f"it ended before it showed {texts}: {self.seen}"
            fresh += got
            self.seen += got

    def close(self) -> None:
        self.process.end()
        os.close(self._fd)


def test_watching_in_a_terminal_is_a_table_that_lives(tmp_path: Path) -> None:
    shell = Shell(tmp_path)
    done = shell.json("submit", "double", "21", "--key", "before")["job"]
    shell.run("result", done)
    terminal = Terminal([*shell.command("watch"), "--url", shell.url], shell)
    try:
        terminal.shows("before", done[-8:], "completed")  # as things were
        shell.json("submit", "fail", '"no\\u001b]0;title\\u0007 money"', "--key", "later")
        terminal.shows("later", "failed", "1 failed so far", "no\\x1b]0;title\\x07 money")
        assert "\x1b]0" not in terminal.seen
        assert '{"' not in terminal.seen
        terminal.process.send_signal(signal.SIGINT)
        assert terminal.process.wait() == 130
    finally:
        terminal.close()
        shell.stop(signal.SIGTERM)
