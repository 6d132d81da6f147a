"""Waits for dates and for seconds.

A task can only sleep on Trio's clock. A date follows the wall clock, which may be set at any time; and the machine may
be suspended, which Trio's clock does not count. So a longer wait is made of shorter ones, after which the clocks are
read again.
"""

from __future__ import annotations

from typing import Final

import trio

from trio_jobs._engine.jobs import JobRecord, State, Wait
from trio_jobs._engine.retry import Rules
from trio_jobs._ports import Clock

__all__ = ["LOOK_EVERY", "restore_waits", "seconds_to_deadline", "seconds_to_due", "sleep_until"]

LOOK_EVERY: Final = 60.0  #: seconds after which a wait reads the clocks again

#: The reasons of waits whose seconds the handler chose. The other waits are at most `Retry.max_wait`
_CHOSEN: Final = frozenset({"retry_after", "snooze"})


def seconds_to_due(record: JobRecord, clock: Clock) -> float:
    """The seconds until a scheduled or retrying job is due, below 0 when it was due."""
    if record.due_wait is not None and record.due_wait.end is not None:
        return record.due_wait.end - clock.elapsed()
    assert record.due_at is not None
    return record.due_at - clock.now()


def seconds_to_deadline(record: JobRecord, clock: Clock) -> float:
    """The seconds until the job expires, below 0 when its deadline has passed."""
    if record.deadline_wait is not None and record.deadline_wait.end is not None:
        return record.deadline_wait.end - clock.elapsed()
    assert record.deadline_at is not None
    return record.deadline_at - clock.now()


async def sleep_until(clock: Clock, end: float) -> None:
    """Sleep until `end` on the clock of elapsed seconds. Returns at once if it has passed.

    Cancelled:
        Less time has passed.
    """
    while (left := end - clock.elapsed()) > 0:  # noqa: ASYNC110 - it waits for a clock, which has no events
        await trio.sleep(min(left, LOOK_EVERY))


def restore_waits(record: JobRecord, rules: Rules, clock: Clock) -> None:
    """Continue the waits in seconds of a job that an earlier process has recorded.

    How long ago they began is known by the wall clock only, which may be another one now. So what is left of a wait is
    at most all of its seconds, and at most the longest wait of the retry policy.
    """
    now, elapsed = clock.now(), clock.elapsed()
    due, deadline = record.due_wait, record.deadline_wait
    if due is not None and record.due_at is not None:
        longest = due.seconds
        if record.state is State.RETRYING and record.reason not in _CHOSEN:
            longest = min(longest, rules.retry.max_wait)
        record.due_wait = Wait(due.seconds, elapsed + min(max(record.due_at - now, 0.0), longest))
    if deadline is not None and record.deadline_at is not None:
        left = min(max(record.deadline_at - now, 0.0), deadline.seconds)
        record.deadline_wait = Wait(deadline.seconds, elapsed + left)
