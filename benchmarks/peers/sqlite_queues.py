"""litequeue and persist-queue: queues in an SQLite file, one process, synchronous=FULL like trio-jobs.

litequeue has synchronous=NORMAL, with which a power cut loses acknowledged data; it is set to FULL here through its own
connection. The ack queue of persist-queue keeps SQLite's default, FULL. Neither runs jobs: the loop does put, get and
done, one job after another.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.peers.common import answer, rate


def litequeue(jobs: int, folder: str) -> float:
    from litequeue import LiteQueue

    with tempfile.TemporaryDirectory(dir=folder) as there:
        queue: Any = LiteQueue(Path(there) / "lite.db")
        queue.conn.execute("PRAGMA synchronous = FULL")
        began = time.perf_counter()
        for number in range(jobs):
            queue.put(str(number))
            queue.done(queue.pop().message_id)
        rated = rate(jobs, began)
        queue.close()
        return rated


def persistqueue(jobs: int, folder: str) -> float:
    from persistqueue import SQLiteAckQueue

    with tempfile.TemporaryDirectory(dir=folder) as there:
        queue = SQLiteAckQueue(there, auto_commit=True, multithreading=True)
        assert queue._putter.execute("PRAGMA synchronous").fetchone() == (2,)
        began = time.perf_counter()
        for number in range(jobs):
            queue.put(number)
            queue.ack(queue.get())
        rated = rate(jobs, began)
        queue.close()
        return rated


if __name__ == "__main__":
    answer(litequeue=litequeue, persistqueue=persistqueue)
