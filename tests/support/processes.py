"""Child processes for tests: each ends with its test, every wait has a deadline, and no pipe can fill up.

On Linux the kernel also kills a child when the process of the tests ends, however that ends (`launcher.py`). The kernel
follows the thread that started the child, so a `Process` starts in the main thread only. A thread reads each pipe, so a
child never blocks on its output.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, Final

from support.forked_program import Forked, can_fork, fork_program
from support.waiting import DEADLINE

__all__ = ["DidNotEnd", "Output", "Process", "alive", "end_processes", "run"]

LAUNCHER: Final = Path(__file__).with_name("launcher.py")

_alive: set[Process] = set()


class DidNotEnd(AssertionError):
    """A child did not end in time."""


class Output:
    """One output of a child. Waits raise `AssertionError` that says what did not come, and what came."""

    def __init__(self, owner: str, file: IO[str]) -> None:
        self.text = ""  #: all that was printed so far
        self._owner = owner
        self._file = file
        self._lines: deque[str] = deque()
        self._at_end = False
        self._changed = threading.Condition()
        self._reader = threading.Thread(target=self._read, name=f"reader of {owner}", daemon=True)
        self._reader.start()

    def line(self, timeout: float = DEADLINE) -> str:
        """The next line, "" at the end."""
        return self._next("another line", time.monotonic() + timeout, timeout)

    def line_with(self, text: str, timeout: float = DEADLINE) -> str:
        """The next line that contains `text`; the lines before it are skipped."""
        until = time.monotonic() + timeout
        while line := self._next(f"a line with {text!r}", until, timeout):
            if text in line:
                return line
        raise AssertionError(f"{self._owner} ended and did not print {text!r}; it printed:\n{self.text}")

    def lines(self, timeout: float = DEADLINE) -> Iterator[str]:
        """All lines to the end, each within `timeout` seconds."""
        while line := self.line(timeout):
            yield line

    def rest(self, timeout: float = DEADLINE) -> str:
        """Everything that was not read yet, to the end."""
        with self._changed:
            assert self._changed.wait_for(lambda: self._at_end, timeout), (
                f"{self._owner} did not close its output within {timeout:g} s; it printed:\n{self.text}"
            )
            rest = "".join(self._lines)
            self._lines.clear()
            return rest

    def close(self) -> None:
        """After the end of the child."""
        self._reader.join(10)
        assert not self._reader.is_alive(), f"a child of {self._owner} still has its output open"
        self._file.close()

    def _next(self, what: str, until: float, timeout: float) -> str:
        with self._changed:
            ready = self._changed.wait_for(lambda: self._lines or self._at_end, max(0.0, until - time.monotonic()))
            assert ready, f"{self._owner} did not print {what} within {timeout:g} s; it printed:\n{self.text}"
            return self._lines.popleft() if self._lines else ""

    def _read(self) -> None:
        for line in self._file:
            self._add(line)
        self._add("", at_end=True)

    def _add(self, line: str, *, at_end: bool = False) -> None:
        with self._changed:
            self.text += line
            if line:
                self._lines.append(line)
            self._at_end = at_end
            self._changed.notify_all()


class Process:
    """A child process that ends with the test, or with the `with` block.

    Args:
        command: The program and its arguments.
        cwd, env: As in `subprocess.Popen`.
        stdin: Text for the standard input, which is then closed; None for an input that stays open (`write`).
        terminal: A file descriptor in place of all three standard files; `out` and `err` do not exist then.
        in_thread: Start it in another thread than the main thread, which must then live longer than the child.
        group: Give it a process group of its own, which `kill` and `end` kill: for a shell, and what it starts.
        forked: A Python program may be a fork (`forked_program.py`), which is the same to a test in which the start of
            the interpreter and the imports are not the point.
    """

    def __init__(
        self,
        command: Sequence[str | Path],
        *,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
        stdin: str | None = "",
        terminal: int | None = None,
        in_thread: bool = False,
        group: bool = False,
        forked: bool = False,
    ) -> None:
        main = threading.current_thread() is threading.main_thread()
        assert main or in_thread, "the kernel ends a child with the thread that started it"
        words = [str(part) for part in command]
        self.name = " ".join(words)[:200]
        self._group = group and sys.platform != "win32"
        self._popen: subprocess.Popen[str] | Forked
        if forked and can_fork(words, env):
            self._popen = fork_program(words, cwd=cwd, env=env, stdin=stdin != "", terminal=terminal, group=self._group)
        else:
            pipe: int = subprocess.PIPE if terminal is None else terminal
            options: dict[str, Any] = {"cwd": cwd, "env": env, "text": True, "encoding": "utf-8", "errors": "replace"}
            self._popen = subprocess.Popen(
                _launched(words),
                start_new_session=self._group,
                stdin=subprocess.DEVNULL if terminal is None and stdin == "" else pipe,
                stdout=pipe,
                stderr=pipe,
                **options,
            )
        self.pid = self._popen.pid
        _alive.add(self)
        if self._popen.stdout is not None and self._popen.stderr is not None:
            self.out = Output(self.name, self._popen.stdout)
            self.err = Output(self.name, self._popen.stderr)
        if stdin and terminal is None:
            threading.Thread(target=self._write_and_close, args=(stdin,), daemon=True).start()

    def __enter__(self) -> Process:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.end()

    def __repr__(self) -> str:
        return f"<Process {self.pid} {self.name}>"

    @property
    def returncode(self) -> int | None:
        """None while the process runs."""
        return self._popen.poll()

    def write(self, text: str) -> None:
        """Write to the standard input, which must be open (`stdin=None`)."""
        assert self._popen.stdin is not None
        self._popen.stdin.write(text)
        self._popen.stdin.flush()

    def send_signal(self, number: int) -> None:
        self._popen.send_signal(number)

    def kill(self) -> None:
        if self._group and sys.platform != "win32":
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)
        self._popen.kill()

    def wait(self, timeout: float = DEADLINE) -> int:
        """The exit code."""
        try:
            return self._popen.wait(timeout)
        except subprocess.TimeoutExpired:
            raise DidNotEnd(f"{self.name} did not end within {timeout:g} s{self._printed()}") from None

    def finish(self, timeout: float = DEADLINE) -> subprocess.CompletedProcess[str]:
        """Wait for the end. The result has what was printed and not read yet."""
        code = self.wait(timeout)
        done = subprocess.CompletedProcess(self.name, code, self.out.rest(timeout), self.err.rest(timeout))
        self.end()
        return done

    def end(self) -> None:
        """Kill the process if it still runs. Calling it twice is harmless."""
        if self not in _alive:
            return
        self.kill()
        self._popen.wait(30)
        _alive.discard(self)
        if self._popen.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                self._popen.stdin.close()
        if self._popen.stdout is not None:
            self.out.close()
            self.err.close()

    def _write_and_close(self, text: str) -> None:
        assert self._popen.stdin is not None
        try:
            self._popen.stdin.write(text)
            self._popen.stdin.close()
        except OSError:  # it ended, and did not read all
            pass

    def _printed(self) -> str:
        return f"; it printed:\n{self.out.text}\n{self.err.text}" if self._popen.stdout is not None else ""


def run(
    command: Sequence[str | Path],
    *,
    timeout: float = DEADLINE,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    given: str = "",
    check: bool = False,
    forked: bool = False,
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end, in any thread.

    Args:
        timeout: Seconds after which the command is killed and `DidNotEnd` is raised.
        given: The standard input.
        check: Fail unless the exit code is 0.
        forked: As in `Process`.
    """
    with Process(command, cwd=cwd, env=env, stdin=given, in_thread=True, forked=forked) as process:
        done = process.finish(timeout)
    assert not check or done.returncode == 0, f"{process.name} ended with {done.returncode}:\n{done.stderr}"
    return done


def alive() -> frozenset[Process]:
    """The children that were not ended yet."""
    return frozenset(_alive)


def end_processes(keep: Collection[Process] = ()) -> None:
    """End all children but those in `keep`."""
    for process in alive() - frozenset(keep):
        process.end()


def _launched(command: list[str]) -> list[str]:
    if not sys.platform.startswith("linux"):
        return command
    return [sys.executable, "-I", "-S", str(LAUNCHER), str(os.getpid()), *command]


atexit.register(end_processes)
