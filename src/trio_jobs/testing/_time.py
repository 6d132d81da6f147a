"""Virtual time, moved by hand."""

from __future__ import annotations

import trio
import trio.testing

__all__ = ["pass_time"]


async def pass_time(clock: trio.testing.MockClock, seconds: float) -> None:
    """Let `seconds` go by on the run's clock, stopping at each deadline on the way.

    A single jump would make everything that is due on the way happen at its end: three waits of a second, one after
    another, would take one and a half. Cancelled: some of it has gone by.
    """
    left = seconds
    while True:
        await trio.testing.wait_all_tasks_blocked()
        until_next = trio.lowlevel.current_statistics().seconds_to_next_deadline
        if until_next > left:
            break
        until_next = max(until_next, 0.0)
        clock.jump(until_next)
        left -= until_next
    clock.jump(max(left, 0.0))
    await trio.testing.wait_all_tasks_blocked()
