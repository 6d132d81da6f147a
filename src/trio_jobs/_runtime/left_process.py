"""What is left of the process of an SDK whose queue was killed: that process, and what it had started in its group.

On Linux the kernel kills the process itself together with its queue, but a moment after the queue's locks are free; and
programs that the SDK has started live on. So the next holder of the seat ends them before it opens the SDK. Process ids
are given again, so a process is one of these only if the system says when it was started (`/proc`), and its group and
session are those of the process of the SDK. Elsewhere nothing is ended.
"""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Final, Self, final

import attrs

from trio_jobs._file_lock import start_of_process

__all__ = ["LeftProcess"]

PROC: Final = Path("/proc")


@final
@attrs.frozen
class LeftProcess:
    """The process of an SDK, as a lock file names it."""

    pid: int
    """Its id, and that of its group and its session."""
    started: str
    """When it started: see `start_of_process`."""

    @classmethod
    def of(cls, pid: int) -> Self | None:
        """The facts of a process that runs; None where the system does not say them."""
        started = start_of_process(pid)
        return None if started is None else cls(pid, started)

    @classmethod
    def read(cls, text: bytes) -> Self | None:
        """The process in the text of a lock file; None without one."""
        try:
            fields = json.loads(text)
            return cls(int(fields["process"]), str(fields["process_started"]))
        except (ValueError, KeyError, TypeError):
            return None

    def kill(self) -> list[int]:
        """Kill what is left. Returns the ids of the processes that have not ended yet."""
        left = self._alive()
        for pid in left:
            try:
                os.kill(pid, signal.SIGKILL)
            except (ProcessLookupError, PermissionError):  # the second is a program of another user
                continue
        return left

    def _alive(self) -> list[int]:
        boot, _, tick = self.started.partition("/")
        found = start_of_process(self.pid)
        if not (found is None or found == self.started) or not tick.isdecimal():
            return []  # another process has its id now, so that the group has ended
        here = start_of_process(os.getpid())
        if here is None or here.partition("/")[0] != boot or self.pid <= 1:
            return []
        return [int(path.name) for path in PROC.iterdir() if path.name.isdecimal() and self._is_member(path, int(tick))]

    def _is_member(self, path: Path, tick: int) -> bool:
        try:
            stat = (path / "stat").read_text(encoding="utf-8", errors="replace")
        except OSError:  # it has ended
            return False
        state, _, group, session, *rest = stat.rpartition(")")[2].split()
        ours = int(group) == int(session) == self.pid and int(rest[15]) >= tick
        return ours and state not in "ZX"
