"""Programs that run one after another in forks of processes that have imported what all of them import."""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final, Protocol

from support import processes
from support.processes import DidNotEnd, Process
from support.waiting import DEADLINE

__all__ = ["Run", "run_module", "warm_processes"]

SERVER: Final = Path(__file__).with_name("fork_server.py")


class Run(Protocol):
    """Runs a program as `python -m module arguments` does. It can be called in any thread."""

    def __call__(
        self, module: str, arguments: Sequence[str], *, path: Sequence[str], env: Mapping[str, str], timeout: float
    ) -> subprocess.CompletedProcess[str]:
        """Run the program to its end.

        Args:
            path: Folders that come first on the import path.
            env: Changes of the environment.
            timeout: Seconds after which it is killed.

        Raises:
            DidNotEnd: It was killed.
        """


def run_module(
    module: str, arguments: Sequence[str], *, path: Sequence[str], env: Mapping[str, str], timeout: float
) -> subprocess.CompletedProcess[str]:
    """A `Run` that starts a new process. The path is inherited by the children of the program."""
    environment = {**os.environ, **env, "PYTHONPATH": os.pathsep.join(path)}
    return processes.run([sys.executable, "-m", module, *arguments], env=environment, timeout=timeout)


@contextmanager
def warm_processes(modules: Sequence[str], count: int) -> Iterator[Run]:
    """Yield a `Run` that forks processes which have imported `modules`; at most `count` programs run at a time.

    Where there is no Linux, it starts new processes.
    """
    if not sys.platform.startswith("linux"):
        yield run_module
        return
    idle: queue.SimpleQueue[Process] = queue.SimpleQueue()

    def run(
        module: str, arguments: Sequence[str], *, path: Sequence[str], env: Mapping[str, str], timeout: float
    ) -> subprocess.CompletedProcess[str]:
        server = idle.get()
        try:
            with TemporaryDirectory(prefix="trio-jobs-fork-") as folder:
                output = Path(folder, "output")
                request = {
                    "module": module,
                    "arguments": list(arguments),
                    "path": list(path),
                    "env": {**env, "PYTHONPATH": os.pathsep.join(path)},
                    "output": str(output),
                    "timeout": timeout,
                }
                server.write(json.dumps(request) + "\n")
                code = json.loads(server.out.line(timeout + DEADLINE))
                text = output.read_text(encoding="utf-8", errors="replace")
        finally:
            idle.put(server)
        if code is None:
            raise DidNotEnd(f"{' '.join([module, *arguments])} did not end within {timeout:g} s; it printed:\n{text}")
        return subprocess.CompletedProcess(module, code, text, "")

    with ExitStack() as stack:
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        for _ in range(count):
            command = [sys.executable, str(SERVER), *modules]
            idle.put(stack.enter_context(Process(command, env=environment, stdin=None, in_thread=True)))
        yield run
