"""`fork_server.py MODULE ...` imports these modules, then runs a program for each line of its standard input (Linux).

A line is a JSON object: `module` and `arguments` of the program, which runs as by `python -m`; `path`, the folders that
come first on the import path; `env`, changes of the environment; `output`, a file for all that it prints; `timeout` in
seconds. The answer is a line with the exit code, or `null` after a timeout. Each program runs in a fork of this
process, so that the modules are not imported again.
"""

from __future__ import annotations

import ctypes
import importlib
import json
import os
import runpy
import select
import signal
import sys
from typing import Any

PR_SET_PDEATHSIG = 1


def main(modules: list[str]) -> None:
    libc = ctypes.CDLL(None)
    for module in modules:
        importlib.import_module(module)
    server = os.getpid()
    for line in sys.stdin:
        request = json.loads(line)
        child = os.fork()
        if child == 0:
            libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
            if os.getppid() != server:
                os.kill(os.getpid(), signal.SIGKILL)
            _become(request)
            return
        print(json.dumps(_wait(child, request["timeout"])), flush=True)


def _become(request: dict[str, Any]) -> None:
    """Run the program in this process."""
    os.setsid()  # a group of its own, which ends as a whole
    output = os.open(request["output"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for fd, number in ((nothing, 0), (output, 1), (output, 2)):
        os.dup2(fd, number)
    os.close(output)
    os.close(nothing)
    os.environ.update(request["env"])
    sys.path[:0] = request["path"]
    sys.argv[1:] = request["arguments"]
    runpy.run_module(request["module"], run_name="__main__", alter_sys=True)


def _wait(child: int, timeout: float) -> int | None:
    fd = os.pidfd_open(child)
    try:
        ended = bool(select.select([fd], [], [], timeout)[0])
    finally:
        os.close(fd)
    if not ended:
        os.killpg(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status) if ended else None


if __name__ == "__main__":
    main(sys.argv[1:])
