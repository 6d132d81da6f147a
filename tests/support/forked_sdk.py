"""The process of an SDK as a fork of the process of the tests, which has imported all that it needs (Linux).

To start an interpreter and to import the package takes a third of a second of CPU; a fork takes a few hundredths. What
runs in it is the program of a process that is started, `trio_jobs._sdk_process.child`, from its first line on, with the
same pipes, in a session of its own. Only the start of an interpreter is left out, so tests of the start, of what the
module of a service does when it is imported, and of the end of a queue by SIGKILL must not use this.
"""

from __future__ import annotations

import contextlib
import gc
import io
import os
import signal
import sys
import traceback
import warnings
from collections.abc import Sequence
from os import _exit
from typing import NoReturn

import pytest
from trio._core._run import GLOBAL_RUN_CONTEXT

from support import dying
from trio_jobs._executors import process_child
from trio_jobs._executors.process_pipes import ProcessPipes
from trio_jobs._sdk_process import child

__all__ = ["fork_sdk_processes"]


def fork_sdk_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Until the end of the test, processes of SDKs are forks, where the system can do that."""
    if sys.platform == "linux":
        monkeypatch.setattr(process_child, "start_process", _start)


class _Forked:
    """What an `SdkProcess` uses of a `subprocess.Popen`."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None

    def send_signal(self, number: int) -> None:
        if self.returncode is None:
            os.kill(self.pid, number)

    def wait(self) -> int:
        if self.returncode is None:
            self.returncode = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        return self.returncode


def _start(pipes: ProcessPipes) -> _Forked:
    parent = os.getpid()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # there are threads, and the fork uses none of their locks
        pid = os.fork()
    if pid == 0:
        _run(pipes.output.child, pipes.errors.child, pipes.inherited, parent)
    pipes.close_childs_ends()
    return _Forked(pid)


def _run(output: int, errors: int, inherited: Sequence[int], parent: int) -> NoReturn:
    code = 1
    try:
        _leave_the_tests(output, errors, inherited)
        sys.argv[:] = ["-c", *map(str, (*inherited, parent))]
        dying.install()
        child.main()
        code = 0
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(OSError):
            sys.stdout.flush()
        _exit(code)  # nothing of the tests may run here


def _leave_the_tests(output: int, errors: int, inherited: Sequence[int]) -> None:
    """Become what a process is that has just been started, apart from its modules."""
    os.setsid()
    nothing = os.open(os.devnull, os.O_RDONLY)
    for fd, number in ((nothing, 0), (output, 1), (errors, 2)):
        os.dup2(fd, number)
    first = 3
    for fd in sorted(inherited):
        os.closerange(first, fd)
        first = fd + 1
    os.closerange(first, os.sysconf("SC_OPEN_MAX"))
    gc.freeze()  # an object of the tests that is collected here would close a descriptor with the number of its own
    GLOBAL_RUN_CONTEXT.__dict__.clear()  # here no Trio runs
    signal.set_wakeup_fd(-1)
    for name in signal.valid_signals():
        if callable(signal.getsignal(name)):
            signal.signal(name, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_REAL, 0)
    sys.stdin = open(0, encoding="utf-8")  # noqa: SIM115
    sys.stdout = _unbuffered(1)
    sys.stderr = _unbuffered(2)


def _unbuffered(fd: int) -> io.TextIOWrapper:
    return io.TextIOWrapper(open(fd, "wb", 0), encoding="utf-8", errors="backslashreplace", write_through=True)
