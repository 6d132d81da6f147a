"""What a handler raises to decide about its own job: `Fail`, `Cancel`, `Snooze`, `RetryAfter`; and `SessionLost`.

These are not failures of the queue, so they are no `TrioJobsError`. A handler that raises one of the first four vouches
that the attempt left nothing half done: `verify` is not called, and the job is not in doubt.
"""

from __future__ import annotations

from typing import Final

from trio_jobs._errors import Copyable
from trio_jobs._validation import check_wait

__all__ = ["Cancel", "Fail", "RetryAfter", "SessionLost", "Snooze"]


class SessionLost(Copyable):
    """Raised by a handler or by `verify`: the SDK session is unusable. The queue closes it and opens a new one.

    For the job this is an error like any other: `verify` is called if the attempt entered the SDK, then the retry
    policy applies.
    """


class Fail(Copyable):
    """Raised by a handler: the job fails without a retry. Nothing is half done."""


class Cancel(Copyable):
    """Raised by a handler: the job is cancelled. Nothing is half done."""


class Snooze(Copyable):
    """Raised by a handler: the job is started again later, without using a retry. Nothing is half done.

    A job can be snoozed 1,000 times in one run; then it fails.

    Args:
        seconds: The wait, 0 or more and at most 100 years.

    Raises:
        UsageError: `seconds` is out of its range.
    """

    seconds: Final[float]
    """The wait, in seconds."""

    def __init__(self, seconds: float) -> None:
        self.seconds = check_wait("Snooze(seconds)", seconds)
        super().__init__(f"snoozed for {seconds} s")


class RetryAfter(Copyable):
    """Raised by a handler: the attempt failed and is retried after a given wait. Uses a retry. Nothing is half done.

    Args:
        seconds: The wait, 0 or more and at most 100 years.
        why: The message of the job's error.

    Raises:
        UsageError: `seconds` is out of its range.
    """

    seconds: Final[float]
    """The wait, in seconds."""

    def __init__(self, seconds: float, why: str = "") -> None:
        self.seconds = check_wait("RetryAfter(seconds)", seconds)
        super().__init__(why or f"retry after {seconds} s")
