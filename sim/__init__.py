"""The simulator: the whole queue in one thread, in virtual time, on a disk that loses unsynced writes.

    python -m sim --seed 7             run one schedule and print its timeline
    python -m sim --schedules 10000    run many schedules, from seed 0 (or --from SEED)

Real are the queue with all its tasks, the engine, the SQLite store with its journal and recovery, and both executors.
Simulated are time, the faults of the disk, the SDK, the clients, and the machine, which can die at any step of Trio's
scheduler; the next machine continues with the same disk. Afterwards `oracle` checks the events on the disk, the calls
into the SDK and what clients received against the promises.
"""

from sim.run import Schedule, simulate
from sim.timeline import Moment, Timeline, Violation

__all__ = ["Moment", "Schedule", "Timeline", "Violation", "simulate"]
