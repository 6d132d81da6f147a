"""The process of an SDK, played by the test, which sends its messages in the order in which they are to arrive.

The messages of a process come from two of its threads, so real processes send them in one order or the other. Where a
fault needs one order, the test must choose it. The system has a process too, which does nothing but can be killed.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from trio_jobs._call_report import CallReport
from trio_jobs._engine.openings import Opening
from trio_jobs._executors import process, process_child
from trio_jobs._executors import process_messages as pm
from trio_jobs._executors.process import ProcessExecutor
from trio_jobs._executors.process_child import SdkProcess
from trio_jobs._executors.process_pipes import ProcessPipes
from trio_jobs._sdk_call import FunctionCall

__all__ = ["ScriptedProcess", "scripted_process"]

_SETUP: Final = pm.Setup("", None, "", None, [], [], [], None)


class ScriptedProcess:
    """One process, and the executor that uses it. What is awaited returns when nothing happens any more."""

    process: SdkProcess
    """What the executor has made of it."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self.executor = ProcessExecutor(_SETUP, nursery)
        self.reports: list[CallReport] = []
        """Of the calls that have returned."""
        self._nursery = nursery
        self._popen: subprocess.Popen[bytes] | None = None
        self._outbound = -1

    async def open(self) -> None:
        """Start the process, and open a session."""
        self._nursery.start_soon(self.executor.open, Opening("start", 1, False))
        await wait_all_tasks_blocked()
        await self.send(pm.Ready(None))
        await self.send(pm.SessionOpened(None))
        assert self.executor.is_open

    async def call(self) -> None:
        """The queue makes a call."""

        async def call() -> None:
            self.reports.append(await self.executor.call(FunctionCall("alive", bool)))

        self._nursery.start_soon(call, name=CALL)
        await wait_all_tasks_blocked()

    def write(self, *messages: Any) -> None:
        """The process sends these messages in one piece, and nobody has read them when this returns."""
        os.write(self._outbound, b"".join(pm.encode(message) for message in messages))

    async def send(self, *messages: Any) -> None:
        """The process sends these messages in one piece."""
        self.write(*messages)
        await wait_all_tasks_blocked()

    def kill(self) -> None:
        """The process ends, and nobody has noticed it when this returns."""
        assert self._popen is not None
        self._popen.kill()
        os.waitid(os.P_PID, self._popen.pid, os.WEXITED | os.WNOWAIT)

    def start(self, pipes: ProcessPipes) -> subprocess.Popen[bytes]:
        """Takes the place of `start_process`."""
        self._outbound = os.dup(pipes.outbound.child)
        before = signal.signal(signal.SIGUSR2, signal.SIG_IGN)  # inherited: a request for its stack would end it
        try:
            self._popen = subprocess.Popen(["sleep", "600"], start_new_session=True)
        finally:
            signal.signal(signal.SIGUSR2, before)
            pipes.close_childs_ends()
        return self._popen

    def make(self, nursery: trio.Nursery, on_end: Callable[[SdkProcess, str], None]) -> SdkProcess:
        """Takes the place of `SdkProcess`."""
        self.process = SdkProcess(nursery, on_end)
        return self.process

    def end(self) -> None:
        if self._popen is not None:
            self._popen.kill()
            os.close(self._outbound)


CALL: Final = "a call of the scripted process"
"""The name of the task of a call."""


@contextmanager
def scripted_process(monkeypatch: pytest.MonkeyPatch, nursery: trio.Nursery) -> Iterator[ScriptedProcess]:
    """The process that an executor starts is this one. It ends with the block."""
    scripted = ScriptedProcess(nursery)
    monkeypatch.setattr(process_child, "start_process", scripted.start)
    monkeypatch.setattr(process, "SdkProcess", scripted.make)
    try:
        yield scripted
    finally:
        scripted.end()
