"""The simulator: the whole queue in one thread, in virtual time, on a disk that can lose what was not synced.

    python -m sim --seed 7          one schedule, with its timeline
    python -m sim --schedules 10000 many, from seed 0 (or --from SEED)

What is real: the queue with all its loops, the engine, the SQLite store with its journal and its recovery, both hosts.
What is made up: time, the disk's misfortunes, the SDK, the people who use it, and the machine, which may die at any
step of Trio's scheduler; the next one starts on the same disk and goes on in the same history. Afterwards `oracle`
compares what was on the disk, what the SDK saw and what people were told with what was promised.
"""

from sim.run import Schedule, simulate
from sim.timeline import Moment, Timeline, Violation

__all__ = ["Moment", "Schedule", "Timeline", "Violation", "simulate"]
