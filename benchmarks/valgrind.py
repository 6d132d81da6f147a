"""The instructions of a process, counted by valgrind.

The counters of a processor would be faster, but virtual machines do not have them.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping, Sequence
from typing import Final

from benchmarks.environment import NotHere

__all__ = ["ENVIRONMENT", "counting", "instructions"]

#: Added to that of a process whose instructions are counted
ENVIRONMENT: Final[Mapping[str, str]] = {"PYTHONHASHSEED": "0", "PYTHONDEVMODE": ""}
_TOOL: Final = (
    # threads take turns, or how often two of them wait for each other depends on what else the machine does
    "valgrind", "--tool=cachegrind", "--fair-sched=try", "--cache-sim=no", "--cachegrind-out-file=/dev/null",
)  # fmt: skip


def counting(command: Sequence[str]) -> list[str]:
    """The command that runs `command` and counts its instructions, which takes fifty times as long.

    Raises:
        NotHere: valgrind is not installed.
    """
    if shutil.which("valgrind") is None:
        raise NotHere("valgrind is not installed")
    return [*_TOOL, *command]


def instructions(report: str) -> int:
    """The number of instructions in what valgrind has written to stderr."""
    counted = re.search(r"I\s+refs:\s+([\d,]+)", report)
    assert counted is not None, report
    return int(counted[1].replace(",", ""))
