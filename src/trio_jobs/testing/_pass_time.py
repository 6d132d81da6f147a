"""Advance a mock clock step by step."""

from __future__ import annotations

import trio
import trio.testing

__all__ = ["pass_time"]


async def pass_time(clock: trio.testing.MockClock, seconds: float) -> None:
    """Advance the clock by `seconds`, stopping at each deadline on the way.

    A single jump would make everything that is due on the way happen at the end of the jump: three consecutive sleeps
    of 1 s would take 1.5 s.

    Args:
        clock: The clock of the current Trio run.
        seconds: 0 or more.

    Cancelled:
        A part of the time has passed.
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
