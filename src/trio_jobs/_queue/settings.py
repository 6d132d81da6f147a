"""What a service may be told about its limits, checked where it is said."""

from __future__ import annotations

from typing import Literal

import attrs

from trio_jobs._errors import UsageError, check_seconds
from trio_jobs._handlers import check_number
from trio_jobs._retry import DEFAULT_RETRY, Retry

__all__ = ["OnStuck", "OnUnknown", "Settings"]

OnStuck = Literal["wait", "stop"]
OnUnknown = Literal["refuse", "hold"]


@attrs.frozen(kw_only=True)
class Settings:
    """The limits of a service. Seconds, unless said otherwise.

    buffer: places in the line, as in the service this one came from. max_waiting: jobs outside the line (scheduled,
    retrying, restored); about 100 MB at a payload of 150 bytes. open_timeout: for opening the SDK, retries included.
    open_retry: after an error in opening. drain_timeout: for the work that is finished before a stop. cancel_timeout:
    for the running attempt to end, once cancelled. close_timeout: for closing the SDK. commit_timeout: for a change to
    be kept, after which its caller gets `OutcomeUnknown`. on_stuck: "wait" for a stuck call to return, or "stop" the
    queue with `HostStuck`. strict_order: while the job at the head of the line is retrying, snoozed or in doubt, nobody
    passes it. min_interval: from the end of one call into the SDK to the start of the next. renew_after_jobs,
    renew_after_idle: attempts, and seconds without one, after which the session is closed and a new one opened; None
    for never. watchdog: how long the event loop may stand still before its stack is logged, None for no watchdog.
    keep_for, keep_jobs: final jobs are forgotten when they are older, or more. keep_keys: keys of forgotten jobs that
    are kept. unknown: open jobs in the store that no handler can take: "refuse" to open with `UnknownJobs`, or "hold"
    them out of the line.
    """

    buffer: int = 100
    max_waiting: int = 100_000
    open_timeout: float = 60.0
    open_retry: Retry = DEFAULT_RETRY
    drain_timeout: float = 30.0
    cancel_timeout: float = 5.0
    close_timeout: float = 10.0
    commit_timeout: float = 30.0
    on_stuck: OnStuck = "wait"
    strict_order: bool = False
    min_interval: float = 0.0
    renew_after_jobs: int | None = None
    renew_after_idle: float | None = None
    watchdog: float | None = 0.3
    keep_for: float = 7 * 86400.0
    keep_jobs: int = 100_000
    keep_keys: int = 100_000
    unknown: OnUnknown = "refuse"

    def __attrs_post_init__(self) -> None:
        check_number("buffer", self.buffer)
        for name in ("max_waiting", "keep_jobs", "keep_keys"):
            check_number(name, getattr(self, name), 0)
        for name in ("open_timeout", "close_timeout", "commit_timeout"):
            check_seconds(name, getattr(self, name), zero=False)
        for name in ("drain_timeout", "cancel_timeout", "keep_for", "min_interval"):
            check_seconds(name, getattr(self, name))
        if self.renew_after_jobs is not None:
            check_number("renew_after_jobs", self.renew_after_jobs)
        for name in ("renew_after_idle", "watchdog"):
            if getattr(self, name) is not None:
                check_seconds(name, getattr(self, name), zero=False)
        if self.on_stuck not in ("wait", "stop"):
            raise UsageError(f"on_stuck must be 'wait' or 'stop', not {self.on_stuck!r}")
        if self.unknown not in ("refuse", "hold"):
            raise UsageError(f"unknown must be 'refuse' or 'hold', not {self.unknown!r}")
        if not isinstance(self.open_retry, Retry):
            raise UsageError(f"open_retry must be a Retry, not {self.open_retry!r}")
