"""What a handler raises to decide about its own job: `Fail`, `Cancel`, `Snooze`, `RetryAfter`; and `SessionLost`.

They are not failures of the queue, so they do not share the base class of its errors.
"""

from __future__ import annotations

from typing import Final

from trio_jobs._validation import check_wait

__all__ = ["Cancel", "Fail", "RetryAfter", "SessionLost", "Snooze"]


class SessionLost(Exception):
    """Raised by a handler (or by `verify`): the SDK session is of no use any more; it is closed and a new one opened.

    To the job it is an error like others: retried as the policy says, after `verify` if the SDK was entered.
    """


class Fail(Exception):
    """Raised by a handler: this job must not be tried again, and nothing of it is half done."""


class Cancel(Exception):
    """Raised by a handler: this job shall end cancelled; nothing of it is half done."""


class Snooze(Exception):
    """Raised by a handler: not now; come back after `seconds`. Uses no retry; nothing is half done."""

    def __init__(self, seconds: float) -> None:
        self.seconds: Final = check_wait("Snooze(seconds)", seconds)
        super().__init__(f"snoozed for {seconds} s")


class RetryAfter(Exception):
    """Raised by a handler: this attempt failed, try again after `seconds`. Uses a retry; nothing is half done."""

    def __init__(self, seconds: float, why: str = "") -> None:
        self.seconds: Final = check_wait("RetryAfter(seconds)", seconds)
        super().__init__(why or f"retry asked for after {seconds} s")
