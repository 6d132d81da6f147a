"""What a service may be told about its limits, checked where it is said."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final, Literal, TypeVar

import attrs

from trio_jobs._engine.jobs import FINAL, State
from trio_jobs._engine.retry import DEFAULT_RETRY, Retry
from trio_jobs._errors import UsageError
from trio_jobs._validation import check_number, check_seconds

__all__ = ["MAX_KEYS", "OnStuck", "OnUnhandled", "Settings"]

OnStuck = Literal["wait", "stop"]
OnUnhandled = Literal["refuse", "hold"]

WEEK: Final = 7 * 86400.0
MAX_FINISHED_JOBS: Final = 100_000
#: Keys of forgotten jobs in memory (some 30 MB); with a journal (some 300 MB, if there are ever so many): 2,500 a day
#: for the 400 days that are its default
MAX_KEYS: Final = {False: 100_000, True: 1_000_000}

N = TypeVar("N", int, float)


def _by_state(name: str, given: Any, default: N, check: Callable[[str, Any], N]) -> Mapping[State, N]:
    """A setting that is one value for all final states, or one for each that is named."""
    states = [state for state in State if state in FINAL]
    if not isinstance(given, Mapping):
        return MappingProxyType(dict.fromkeys(states, check(name, given)))
    for state in given:
        if state not in FINAL:
            raise UsageError(f"{name} is about jobs that have ended, so by {', '.join(states)}; not by {state!r:.100}")
    return MappingProxyType({state: check(f"{name}[{str(state)!r}]", given.get(state, default)) for state in states})


def _ages(given: float | Mapping[str, float]) -> Mapping[State, float]:
    return _by_state("job_retention", given, WEEK, check_seconds)


def _counts(given: int | Mapping[str, int]) -> Mapping[State, int]:
    return _by_state("max_finished_jobs", given, MAX_FINISHED_JOBS, lambda name, value: check_number(name, value, 0))


@attrs.frozen(kw_only=True)
class Settings:
    """The limits of a service. Seconds, unless said otherwise.

    buffer: places in the line, as in the service this one came from. max_waiting: jobs outside the line (scheduled,
    retrying, restored); about 100 MB at a payload of 150 bytes. open_timeout: for opening the SDK, retries included.
    open_retry: after an error in opening. drain_timeout: for the work that is finished before a stop. cancel_timeout:
    for the running attempt to end, once cancelled. close_timeout: for closing the SDK. commit_timeout: for a change to
    be kept, after which its caller gets `OutcomeUnknown`. on_stuck: "wait" for a stuck call to return, or "stop" the
    queue with `SdkCallStuck`. strict_order: while the job at the head of the line is retrying, snoozed or in doubt,
    nobody passes it. min_interval: from the end of one call into the SDK to the start of the next. renew_after_jobs,
    renew_after_idle: attempts, and seconds without one, after which the session is closed and a new one opened; None
    for never. watchdog: how long the event loop may stand still before its stack is logged, None for no watchdog.
    job_retention, max_finished_jobs: final jobs are forgotten when they are older, or when more have ended in the same
    state. One value for all of them, or a dictionary by `completed`, `failed`, `cancelled`; those it does not name keep
    the default. key_retention, max_keys: the same for the keys of forgotten jobs, with which a second submit still gets
    the first one's receipt; max_keys None for 100,000 in memory and 1,000,000 with a journal. unknown: open jobs in the
    store that no handler can take: "refuse" to open with `UnhandledJobs`, or "hold" them out of the line.
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
    job_retention: Mapping[State, float] = attrs.field(default=WEEK, converter=_ages)
    max_finished_jobs: Mapping[State, int] = attrs.field(default=MAX_FINISHED_JOBS, converter=_counts)
    key_retention: float = 400 * 86400.0
    max_keys: int | None = None
    unknown: OnUnhandled = "refuse"

    def __attrs_post_init__(self) -> None:
        check_number("buffer", self.buffer)
        check_number("max_waiting", self.max_waiting, 0)
        if self.max_keys is not None:
            check_number("max_keys", self.max_keys, 0)
        for name in ("open_timeout", "close_timeout", "commit_timeout"):
            check_seconds(name, getattr(self, name), zero=False)
        for name in ("drain_timeout", "cancel_timeout", "key_retention", "min_interval"):
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
