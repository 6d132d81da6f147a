"""The output of the process of an SDK, which is logged."""

from __future__ import annotations

from typing import Final

import trio

from trio_jobs._engine.jobs import escape
from trio_jobs._executors.process_pipes import Pipe, read_all, read_some
from trio_jobs._log import Log

__all__ = ["OutputLog"]

log: Final = Log("trio_jobs.sdk")

MAX_LINE: Final = 4096  #: bytes of a line of output that are logged
MAX_OUTPUT: Final = 256 * 1024  #: bytes of its output that are read after its end


class OutputLog:
    """Logs what the process writes, line by line."""

    def __init__(self, pipe: Pipe, name: str) -> None:
        self._pipe = pipe
        self._name = name
        self._rest = b""

    @trio.lowlevel.enable_ki_protection
    async def run(self) -> None:
        while data := await read_some(self._pipe):
            self._add(data)
            await trio.lowlevel.checkpoint()

    def finish(self) -> None:
        """Log what the process wrote before its end."""
        self._add(read_all(self._pipe, MAX_OUTPUT))
        if self._rest:
            self._log(self._rest)

    def _add(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            self._log(line)
        if len(self._rest) > MAX_LINE:
            self._log(self._rest)
            self._rest = b""

    def _log(self, line: bytes) -> None:
        log.info("%s: %s", self._name, escape(line[:MAX_LINE].decode("utf-8", "replace").rstrip()))
