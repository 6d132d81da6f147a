"""The instructions of a process, counted by valgrind.

The counters of a processor would be faster, but virtual machines do not have them.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from typing import Final

from benchmarks.environment import ROOT, NotHere

__all__ = ["instructions"]

TOOL: Final = (
    # threads take turns, or how often two of them wait for each other depends on what else the machine does
    "valgrind", "--tool=cachegrind", "--fair-sched=try", "--cache-sim=no", "--cachegrind-out-file=/dev/null",
)  # fmt: skip


def instructions(command: Sequence[str], environment: Mapping[str, str], timeout: float) -> int:
    """Run a command in the folder of the project, and return how many instructions it takes.

    Args:
        command: A Python and its arguments.
        environment: Of the process.
        timeout: Seconds; valgrind takes fifty times as long as the process alone.

    Raises:
        NotHere: valgrind is not installed, or the command has failed.
    """
    if shutil.which("valgrind") is None:
        raise NotHere("valgrind is not installed")
    environment = {**environment, "PYTHONHASHSEED": "0", "PYTHONDEVMODE": ""}
    try:
        done = subprocess.run(
            [*TOOL, *command], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=timeout
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NotHere(str(error)) from None
    counted = re.search(r"I\s+refs:\s+([\d,]+)", done.stderr)
    if done.returncode or counted is None:
        raise NotHere((done.stderr.strip().splitlines() or ["it failed without a word"])[-1][:200])
    return int(counted[1].replace(",", ""))
