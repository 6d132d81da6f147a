"""The time of one job by module: a timer samples the stack as often as the system's clock ticks.

The timer counts the work of the whole process, and the journal's thread works too. So with a journal a sample of Trio
while it polls for IO means nothing, since Trio may be asleep there: such samples are left out.

A sample belongs to the innermost frame of trio-jobs in it, so the work of Python, attrs or msgspec for a module counts
for that module. Frames of Trio and of the benchmark count for themselves. Sampling by a signal costs almost nothing, so
the profile is that of the queue in normal operation; cProfile would slow each call down and distort it.
"""

from __future__ import annotations

import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from types import FrameType

import trio

import trio_jobs
from benchmarks.peers.common import answer, warm
from benchmarks.peers.ours import service, submit

PACKAGE = str(Path(trio_jobs.__file__).parent)
TRIO = str(Path(trio.__file__).parent)
HERE = str(Path(__file__).parent)
EVERY = 0.001  # seconds of work; most systems tick every 1 to 4 ms, and then that is it

samples: Counter[str] = Counter()


def module(frame: FrameType | None) -> str:
    """The innermost module of ours in this stack; or Trio, or the benchmark."""
    while frame is not None:
        name = frame.f_code.co_filename
        if name.startswith(PACKAGE):
            return Path(name).relative_to(PACKAGE).with_suffix("").as_posix()
        if name.startswith(TRIO):
            return "Trio"
        if name.startswith(HERE):
            return "the benchmark itself"
        frame = frame.f_back
    return "elsewhere"


def sample(number: int, frame: FrameType | None) -> None:
    samples[module(frame)] += 1


def sample_work(number: int, frame: FrameType | None) -> None:
    if frame is None or frame.f_code.co_name != "get_events":
        sample(number, frame)


async def profile(jobs: int, folder: str | None, sampled: bool) -> dict[str, object]:
    """Of a job, the seconds that it took and those in which Trio's thread worked; samples by module."""
    with tempfile.TemporaryDirectory(dir=folder) as there:
        journal = None if folder is None else Path(there) / "jobs.db"
        async with service().open(journal=journal) as queue:
            await submit(queue, warm(jobs))
            if sampled:
                signal.signal(signal.SIGPROF, sample if journal is None else sample_work)
                signal.setitimer(signal.ITIMER_PROF, EVERY, EVERY)
            began, used = time.perf_counter(), time.thread_time()
            await submit(queue, jobs)
            took, used = time.perf_counter() - began, time.thread_time() - used
            if sampled:
                signal.setitimer(signal.ITIMER_PROF, 0)
    return {"seconds": took / jobs, "busy": used / jobs, "samples": samples}


def run(jobs: int, folder: str | None, sampled: bool) -> dict[str, object]:
    if sampled and not hasattr(signal, "setitimer"):
        sys.exit("this system has no interval timer")
    return trio.run(profile, jobs, folder, sampled)


if __name__ == "__main__":
    answer(profile=run)
