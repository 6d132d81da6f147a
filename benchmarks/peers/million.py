"""trio-jobs with a million jobs in one life: pruning goes on all the time, with the limits that a queue has by default.

The pauses of the event loop are seconds of the CPU time of its thread, so that other processes do not count.
"""

from __future__ import annotations

import contextlib
import logging
import resource  # not on Windows
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import trio

from benchmarks.peers.common import answer
from benchmarks.peers.memory import resident
from benchmarks.peers.ours import service, submit

LONG = 0.015  #: seconds from which a pause is counted
EARLY = 0.15  #: share of the jobs after which memory is read first: from there on a queue of a million prunes


class Turns(trio.abc.Instrument):
    """The turns of the event loop, each from one wait for IO to the next."""

    def __init__(self) -> None:
        self.longest = 0.0
        self.long = 0
        self._began: float | None = None

    def after_io_wait(self, timeout: float) -> None:
        self._began = time.thread_time()

    def before_io_wait(self, timeout: float) -> None:
        if self._began is not None:
            took = time.thread_time() - self._began
            self.longest = max(self.longest, took)
            self.long += took > LONG

    def skip(self) -> None:
        """Do not count this turn."""
        self._began = None


def cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


@contextlib.contextmanager
def folder_for(folder: str | None) -> Iterator[Path | None]:
    if folder is None:
        yield None
    else:
        with tempfile.TemporaryDirectory(dir=folder) as there:
            yield Path(there) / "jobs.db"


async def life(jobs: int, producers: int, kind: str, folder: str | None = None) -> dict[str, float]:
    """Jobs a second, and what they took: CPU in µs a job, memory in bytes after some and after all, pauses in seconds
    and their number, jobs that are kept, bytes of the journal and seconds to open it again."""
    with folder_for(folder) as journal:
        before = resident()
        async with service().open(journal=journal) as queue:
            turns = Turns()
            trio.lowlevel.add_instrument(turns)
            began, used = time.perf_counter(), cpu()

            async def run(share: float) -> int:
                async with trio.open_nursery() as nursery:
                    for _ in range(producers):
                        nursery.start_soon(submit, queue, round(jobs * share / producers), kind)
                turns.skip()  # to read the memory is no work of the queue
                return resident() - before

            early = await run(EARLY)
            late = await run(1 - EARLY)
            trio.lowlevel.remove_instrument(turns)
            told = {
                "rate": jobs / (time.perf_counter() - began),
                "cpu": (cpu() - used) / jobs * 1e6,
                "early": early,
                "late": late,
                "longest": turns.longest,
                "long": turns.long,
                "kept": sum(queue.statistics().jobs.values()),
                "file": 0 if journal is None else sum(part.stat().st_size for part in journal.parent.iterdir()),
            }
        if journal is not None:
            began = time.perf_counter()
            async with service().open(journal=journal):
                told["open"] = time.perf_counter() - began
        return told


if __name__ == "__main__":
    if sys.platform == "win32":
        sys.exit("this system does not tell how much CPU time a process took")
    logging.disable(logging.WARNING)
    answer(life=lambda jobs, producers, kind, folder=None: trio.run(life, jobs, producers, kind, folder))
