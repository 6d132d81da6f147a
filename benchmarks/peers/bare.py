"""The limits: a minimal queue in Trio, and the speed of the disk.

`memory`: a memory channel, a cancel scope around each call, one record for each job with its state. It checks no
payload and has no keys, history, retries or guarantees. `with_events`: also an event for each job that its submitter could
wait for, and one subscriber in the process that receives every change of state.
"""

from __future__ import annotations

import os
import sqlite3
import tempfile
import time
from pathlib import Path

import trio

from benchmarks.peers.common import PAUSE, answer, rate, warm
from benchmarks.peers.trio_arrivals import arriving

CAPACITY = 100  # that of the queue's channel
ROW = b"x" * 150


class Record:
    """A job and its state."""

    __slots__ = ("done", "number", "state")

    def __init__(self, number: int) -> None:
        self.number = number
        self.state = "pending"
        self.done: trio.Event | None = None


async def handler(number: int) -> None:
    pass


async def memory(jobs: int) -> float:
    records: dict[int, Record] = {}

    async def consume(receive: trio.MemoryReceiveChannel[Record]) -> None:
        async for record in receive:
            record.state = "processing"
            with trio.CancelScope():
                await handler(record.number)
            record.state = "completed"

    async def go(count: int, start: int) -> None:
        send, receive = trio.open_memory_channel[Record](CAPACITY)
        async with trio.open_nursery() as nursery, send:
            nursery.start_soon(consume, receive)
            for number in range(start, start + count):
                record = records[number] = Record(number)
                await send.send(record)

    await go(warm(jobs), jobs)
    began = time.perf_counter()
    await go(jobs, 0)
    return rate(jobs, began)


async def with_events(jobs: int) -> float:
    records: dict[int, Record] = {}

    async def consume(
        receive: trio.MemoryReceiveChannel[Record], sender: trio.MemorySendChannel[tuple[int, str]]
    ) -> None:
        async with sender:
            async for record in receive:
                record.state = "processing"
                sender.send_nowait((record.number, "processing"))
                with trio.CancelScope():
                    await handler(record.number)
                record.state = "completed"
                assert record.done is not None
                record.done.set()
                sender.send_nowait((record.number, "completed"))

    async def subscribe(receiver: trio.MemoryReceiveChannel[tuple[int, str]]) -> None:
        async for _ in receiver:
            pass

    async def go(count: int, start: int) -> None:
        send, receive = trio.open_memory_channel[Record](CAPACITY)
        sender, receiver = trio.open_memory_channel[tuple[int, str]](1 << 30)
        async with trio.open_nursery() as nursery, send, sender:
            nursery.start_soon(consume, receive, sender.clone())
            nursery.start_soon(subscribe, receiver)
            for number in range(start, start + count):
                record = records[number] = Record(number)
                record.done = trio.Event()
                sender.send_nowait((number, "pending"))
                await send.send(record)

    await go(warm(jobs), jobs)
    began = time.perf_counter()
    await go(jobs, 0)
    return rate(jobs, began)


async def latency(count: int, per_second: float | None) -> dict[str, list[float]]:
    """Seconds from the moment a job was due to be submitted until its handler starts."""
    due = [0.0] * count
    started = [0.0] * count
    send, receive = trio.open_memory_channel[int](CAPACITY)

    async def consume() -> None:
        async for number in receive:
            with trio.CancelScope():
                started[number] = time.perf_counter()
                await handler(number)

    async with trio.open_nursery() as nursery, send:
        nursery.start_soon(consume)
        if per_second is None:
            for number in range(count):
                await trio.sleep(PAUSE)
                due[number] = time.perf_counter()
                await send.send(number)
        else:
            number = 0
            async for at in arriving(count, per_second):
                due[number] = at
                await send.send(number)
                number += 1
    return {"starts": [after - before for before, after in zip(due, started, strict=True)]}


def fsync(jobs: int, folder: str) -> float:
    """One write of 150 bytes and one fsync for each job in sequence: the limit of the disk."""
    with tempfile.TemporaryFile(dir=folder) as file:
        began = time.perf_counter()
        for _ in range(jobs):
            file.write(ROW)
            file.flush()
            os.fsync(file.fileno())
        return rate(jobs, began)


def sqlite(jobs: int, folder: str) -> float:
    """Two commits for each job (accepted, done) in a plain table, with WAL and synchronous=FULL."""
    with tempfile.TemporaryDirectory(dir=folder) as there:
        db = sqlite3.connect(Path(there) / "bare.db", isolation_level=None)
        db.execute("PRAGMA locking_mode=EXCLUSIVE")
        db.execute("PRAGMA journal_mode=WAL")
        db.execute("PRAGMA synchronous=FULL")
        db.execute("CREATE TABLE jobs (id INTEGER PRIMARY KEY, state TEXT, payload BLOB)")
        began = time.perf_counter()
        for number in range(jobs):
            db.execute("INSERT INTO jobs VALUES (?, 'pending', ?)", (number, ROW))
            db.execute("UPDATE jobs SET state = 'completed' WHERE id = ?", (number,))
        rated = rate(jobs, began)
        db.close()
        return rated


if __name__ == "__main__":
    answer(
        memory=lambda jobs: trio.run(memory, jobs),
        with_events=lambda jobs: trio.run(with_events, jobs),
        latency=lambda jobs, per_second: trio.run(latency, jobs, per_second),
        fsync=fsync,
        sqlite=sqlite,
    )
