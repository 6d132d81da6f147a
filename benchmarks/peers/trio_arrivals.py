"""Arrivals for contestants that run in Trio."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator

import trio

from benchmarks.peers.common import ARRIVAL, generator


async def arriving(count: int, per_second: float) -> AsyncIterator[float]:
    """Yield the time of each arrival as soon as the loop reads it."""
    with generator(count, per_second) as process:
        assert process.stdout is not None
        pipe, data = process.stdout.fileno(), b""
        os.set_blocking(pipe, False)
        left = count
        while left:
            await trio.lowlevel.wait_readable(pipe)
            data += os.read(pipe, 65536)
            whole = len(data) - len(data) % ARRIVAL.size
            for (at,) in ARRIVAL.iter_unpack(data[:whole]):
                yield at
            left -= whole // ARRIVAL.size
            data = data[whole:]
