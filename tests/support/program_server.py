"""`program_server.py MODULE ...` imports these modules, then forks a process for each program it is asked for (Linux).

Requests come through the socket that is its standard input, one in a packet, each answered by one line of JSON:
`{"words", "cwd", "env", "group"}` with the three standard files of the program attached starts a program as
`python WORDS` does, and the answer is its process id; `{"reap"}` with the id of a process that has ended is answered by
its exit code.
"""

from __future__ import annotations

import ctypes
import importlib
import io
import json
import os
import runpy
import signal
import socket
import sys
from pathlib import Path
from typing import Any

PR_SET_PDEATHSIG = 1


def main(modules: list[str]) -> None:
    libc = ctypes.CDLL(None)
    requests = socket.socket(fileno=os.dup(0))
    for module in modules:
        importlib.import_module(module)
    server = os.getpid()
    while True:
        data, files, _, _ = socket.recv_fds(requests, 1 << 20, 3)
        if not data:
            return
        request = json.loads(data)
        if "reap" in request:
            answer = os.waitstatus_to_exitcode(os.waitpid(request["reap"], 0)[1])
        else:
            answer = os.fork()
            if answer == 0:
                libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
                if os.getppid() != server:
                    os.kill(os.getpid(), signal.SIGKILL)
                requests.close()
                _become(request, files)
                return
            for file in files:
                os.close(file)
        requests.send(json.dumps(answer).encode())


def _become(request: dict[str, Any], files: list[int]) -> None:
    """Run the program in this process."""
    if request["group"]:
        os.setsid()
    for number, file in enumerate(files):
        os.dup2(file, number)
    os.closerange(3, max(files) + 1)
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["env"])
    words: list[str] = request["words"]
    unbuffered = words[0] == "-u"
    first, *arguments = words[1:] if unbuffered else words
    sys.stdin = sys.__stdin__ = os.fdopen(0, encoding=sys.stdin.encoding, closefd=False)  # type: ignore[misc] # as below
    sys.stdout = sys.__stdout__ = _text(1, sys.stdout, unbuffered)  # type: ignore[misc] # here it is for all
    sys.stderr = sys.__stderr__ = _text(2, sys.stderr, unbuffered)  # type: ignore[misc] # here it is for all
    if first == "-m":
        module, *sys.argv[1:] = arguments
        sys.path[0] = request["cwd"]
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    else:
        sys.argv[:] = [first, *arguments]
        sys.path[0] = str(Path(first).parent)
        runpy.run_path(first, run_name="__main__")


def _text(number: int, like: Any, unbuffered: bool) -> io.TextIOWrapper:
    file = os.fdopen(number, "wb", 0 if unbuffered else -1, closefd=False)
    lines = number == 2 or os.isatty(number)
    return io.TextIOWrapper(file, like.encoding, like.errors, line_buffering=lines, write_through=unbuffered)


if __name__ == "__main__":
    main(sys.argv[1:])
