"""The demo in a terminal of 80 columns, and of odd sizes. A real pseudo-terminal."""

from __future__ import annotations

import csv
import os
import re
import select
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from support.processes import Process
from support.waiting import DEADLINE
from trio_jobs_demo.display import cells

pytestmark = pytest.mark.skipif(os.name != "posix", reason="needs a pseudo-terminal: run it on Linux or macOS")

COMMAND = [sys.executable, "-m", "trio_jobs_demo"]


class Terminal:
    """A pseudo-terminal, and everything that was written to it."""

    def __init__(self, columns: int, rows: int = 50) -> None:
        import fcntl
        import struct
        import termios

        self._ours, self.theirs = os.openpty()
        fcntl.ioctl(self.theirs, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self._text = bytearray()
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def wait_for(self, text: str) -> None:
        with self._changed:
            came = self._changed.wait_for(lambda: text.encode() in self._text, DEADLINE)
            assert came, f"no {text!r} within {DEADLINE:g} s; the last lines are {self.lines()[-5:]}"

    def write(self, text: str) -> None:
        os.write(self._ours, text.encode())

    def lines(self) -> list[str]:
        """All that was written, without control sequences: the table in each of its states, then the summary."""
        return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]|\r", "", self._text.decode(errors="replace")).split("\n")

    def close(self) -> None:
        os.close(self.theirs)
        self._thread.join(60)  # it ends when no process has the terminal open
        os.close(self._ours)

    def _read(self) -> None:
        while True:
            try:
                data = os.read(self._ours, 65536)
            except OSError:  # EIO: the other side is closed
                return
            with self._changed:
                self._text += data
                self._changed.notify_all()


@contextmanager
def terminal(columns: int = 80) -> Iterator[Terminal]:
    opened = Terminal(columns)
    try:
        yield opened
    finally:
        opened.close()


def environment(**changes: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES", "NO_COLOR")}
    return {**kept, "TERM": "xterm-256color", **changes}


@pytest.mark.parametrize("options", [(), ("--plain",)], ids=["table", "lines"])
def test_in_80_columns_each_booked_row_has_its_amount_and_currency(tmp_path: Path, options: tuple[str, ...]) -> None:
    command = [*COMMAND, "--book", str(tmp_path / "book.db"), *options]
    with terminal() as screen:
        with Process(command, env=environment(), terminal=screen.theirs, forked=True) as process:
            assert process.wait() == 0
    lines = screen.lines()
    assert not any("Traceback" in line for line in lines)
    rows = {line for line in lines if re.match(r"booked \d+ ", line)}
    assert len(rows) == 28
    for row in rows:
        assert cells(row) == 80
        assert re.search(r" \d{4}-\d\d-\d\d  +-?[\d,.]+ [A-Z]{3}$", row)
    assert "31 files: 28 booked, 1 duplicate, 1 nothing to book, 1 refused" in lines


@pytest.mark.parametrize("columns", [0, 1, 20, 200])
def test_a_terminal_of_any_width_is_used(tmp_path: Path, columns: int) -> None:
    with terminal(columns) as screen:
        with Process(
            [*COMMAND, "--book", str(tmp_path / "book.db")], env=environment(), terminal=screen.theirs, forked=True
        ) as process:
            assert process.wait() == 0
    assert any(line.startswith("ledger closed") for line in screen.lines())


def test_ctrl_c_in_the_table_ends_with_the_summary(tmp_path: Path) -> None:
    command = [*COMMAND, "--book", str(tmp_path / "book.db"), "--min-interval", "0.2"]
    with terminal() as screen:
        with Process(command, env=environment(), terminal=screen.theirs, forked=True) as process:
            screen.wait_for("booked 2 ")
            process.send_signal(signal.SIGINT)
            assert process.wait() == 130
    lines = screen.lines()
    summary = next(line for line in lines if line.startswith("31 files: "))
    assert sum(int(count) for count in re.findall(r" (\d+) ", summary)) == 31
    assert not any("Traceback" in line for line in lines)
    assert any(line.startswith("ledger closed") for line in lines)


def test_the_key_p_pauses_and_resumes(tmp_path: Path) -> None:
    command = [*COMMAND, "--book", str(tmp_path / "book.db"), "--min-interval", "0.1"]
    with terminal() as screen:
        with Process(command, env=environment(), terminal=screen.theirs, forked=True) as process:
            screen.wait_for("booked 2 ")
            screen.write("p")
            screen.wait_for("paused, p resumes")
            booked = max(int(count) for count in re.findall(r"booked (\d+) ", "\n".join(screen.lines())))
            screen.write("p")
            screen.wait_for(f"booked {booked + 2} ")  # one more may have been under way
            process.send_signal(signal.SIGINT)
            assert process.wait() == 130


def test_a_terminal_that_is_closed_does_not_break_the_booking_off(tmp_path: Path) -> None:
    report = tmp_path / "report.csv"
    command = [*COMMAND, "--book", str(tmp_path / "book.db"), "--csv", str(report), "--min-interval", "0.05"]
    ours, theirs = os.openpty()
    with Process(command, env=environment(COLUMNS="80", LINES="50"), terminal=theirs, forked=True) as process:
        seen = b""
        while b"booked 2 " not in seen:
            ready, _, _ = select.select([ours], [], [], DEADLINE)
            assert ready, "no second booked row"
            seen += os.read(ours, 65536)
        os.close(theirs)
        os.close(ours)
        assert process.wait() == 0
    with report.open(encoding="utf-8", newline="") as file:
        assert [row["status"] for row in csv.DictReader(file)].count("booked") == 28
