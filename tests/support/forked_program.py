"""Python programs as forks of a process that has imported the package (Linux).

To start an interpreter and to import the package takes a third of a second of CPU, and the tests start hundreds of
programs; a fork takes a hundredth. What a fork does not have is the start of the interpreter: a program whose
environment or options change that is started. So is one of a test in which imports, or signals during them, are the
point.
"""

from __future__ import annotations

import atexit
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any, Final

__all__ = ["Forked", "can_fork", "fork_program"]

SERVER: Final = Path(__file__).with_name("program_server.py")
LAUNCHER: Final = Path(__file__).with_name("launcher.py")
#: not as a file, after which the interpreter flushes the output before it ends, other than after `python -m`
START: Final = "import runpy, sys; del sys.argv[0]; runpy.run_path(sys.argv[0], run_name='__main__')"
#: what the programs import
MODULES: Final = (
    *("trio_jobs._cli.main", "trio_jobs._cli.serve", "trio_jobs._cli.watch", "trio_jobs._cli.commands"),
    *("trio_jobs_demo.demo_run", "trio_jobs_demo.csv_report", "trio_jobs_demo.samples", "trio_jobs_demo.summary"),
    *("rich.live", "sqlite3", "ssl"),
)
#: variables that the interpreter reads when it starts
OF_INTERPRETER: Final = ("PYTHON", "LC_", "LANG", "TZ")


class _Server:
    """The process that forks. It ends with the process of the tests."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            launcher = [sys.executable, "-I", "-S", str(LAUNCHER), str(os.getpid())]
            command = [*launcher, sys.executable, "-c", START, str(SERVER), *MODULES]
            self._process = subprocess.Popen(command, stdin=theirs.fileno())
        atexit.register(self._end)

    def ask(self, request: dict[str, Any], files: Sequence[int] = ()) -> int:
        data = json.dumps(request).encode()
        with self._lock:
            if files:
                socket.send_fds(self._socket, [data], files)
            else:
                self._socket.send(data)
            answer = self._socket.recv(100)
        assert answer, "the process that forks programs has ended"
        number: int = json.loads(answer)
        return number

    def _end(self) -> None:
        self._socket.close()
        self._process.wait()


_servers: list[_Server] = []


class Forked:
    """What `processes.Process` uses of a `subprocess.Popen`."""

    def __init__(self, server: _Server, pid: int, files: Sequence[IO[str] | None]) -> None:
        self.pid = pid
        self.stdin, self.stdout, self.stderr = files
        self._server = server
        self._fd = os.pidfd_open(pid)
        self._returncode: int | None = None
        self._lock = threading.Lock()

    def poll(self) -> int | None:
        with self._lock:
            if self._returncode is None and self._has_ended(0):
                self._returncode = self._server.ask({"reap": self.pid})
                os.close(self._fd)
            return self._returncode

    def wait(self, timeout: float) -> int:
        if self._returncode is None and not self._has_ended(timeout):
            raise subprocess.TimeoutExpired("a forked program", timeout)
        code = self.poll()
        assert code is not None
        return code

    def send_signal(self, number: int) -> None:
        with self._lock:
            if self._returncode is None:
                signal.pidfd_send_signal(self._fd, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def _has_ended(self, timeout: float) -> bool:
        waiting = select.poll()
        waiting.register(self._fd, select.POLLIN)
        return bool(waiting.poll(timeout * 1000))


def can_fork(command: Sequence[str], env: Mapping[str, str] | None) -> bool:
    """Whether a fork is as good as a start of this command."""
    if not sys.platform.startswith("linux") or command[0] != sys.executable:
        return False
    first = command[2] if command[1] == "-u" else command[1]
    if first != "-m" and not first.endswith(".py"):
        return False
    if not _servers and threading.current_thread() is not threading.main_thread():
        return False  # the kernel ends a child with the thread that started it
    return env is None or _read_at_start(env) == _read_at_start(os.environ)


def _read_at_start(env: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in env.items() if name.startswith(OF_INTERPRETER)}


def fork_program(
    command: Sequence[str],
    *,
    cwd: Path | None,
    env: Mapping[str, str] | None,
    stdin: bool,
    terminal: int | None,
    group: bool,
) -> Forked:
    """Run `command`, for which `can_fork` is true.

    Args:
        cwd, env: As in `subprocess.Popen`.
        stdin: With a pipe as standard input, else it is empty.
        terminal: A file descriptor in place of all three standard files.
        group: In a session of its own.
    """
    if not _servers:
        _servers.append(_Server())
    ours: list[IO[str] | None] = [None, None, None]
    if terminal is not None:
        theirs = [os.dup(terminal) for _ in range(3)]
    else:
        if stdin:
            read, write = os.pipe()
            ours[0] = os.fdopen(write, "w", encoding="utf-8", errors="replace")
        else:
            read = os.open(os.devnull, os.O_RDONLY)
        theirs = [read]
        for number in (1, 2):
            read, write = os.pipe()
            ours[number] = os.fdopen(read, encoding="utf-8", errors="replace")
            theirs.append(write)
    request = {
        "words": list(command[1:]),
        "cwd": str(cwd or Path.cwd()),
        "env": dict(os.environ if env is None else env),
        "group": group,
    }
    try:
        pid = _servers[0].ask(request, theirs)
    finally:
        for file in theirs:
            os.close(file)
    return Forked(_servers[0], pid, ours)
