"""The checked settings of a service. They are documented in `Service`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, Literal, TypeVar

import attrs

from trio_jobs._engine.jobs import FINAL, State
from trio_jobs._engine.retry import DEFAULT_RETRY, Retry, Which, is_which
from trio_jobs._errors import UsageError
from trio_jobs._validation import check_number, check_seconds

__all__ = [
    "JOB_RETENTION",
    "KEY_RETENTION",
    "MAX_FINISHED_JOBS",
    "MAX_KEYS",
    "OnOpenFailed",
    "OnStuck",
    "OnUnhandled",
    "SeatLockPath",
    "Settings",
]

OnStuck = Literal["wait", "stop"]
OnOpenFailed = Literal["wait", "stop"]
OnUnhandled = Literal["refuse", "hold"]
SeatLockPath = str | Path | Literal[True] | None

JOB_RETENTION: Final = 7 * 86400.0
"""Seconds: one week."""

MAX_FINISHED_JOBS: Final = 100_000

KEY_RETENTION: Final = 400 * 86400.0
"""Seconds: 400 days."""

MAX_KEYS: Final = {False: 100_000, True: 1_000_000}
"""The default of `max_keys`, by whether the store is durable.

A tombstone takes about 300 bytes: 30 MB in memory, 300 MB with a journal that sees 2,500 keys a day for 400 days.
"""

MAX_GROUP: Final = 1000  #: jobs that one save completes: their events are one commit

N = TypeVar("N", int, float)


def _by_state(name: str, given: Any, default: N, check: Callable[[str, Any], N]) -> Mapping[State, N]:
    """Convert a setting, either one value for all final states or a mapping by final state, to a complete mapping."""
    states = [state for state in State if state in FINAL]
    if not isinstance(given, Mapping):
        return MappingProxyType(dict.fromkeys(states, check(name, given)))
    for state in given:
        if state not in FINAL:
            raise UsageError(f"{name} is set by final state ({', '.join(states)}), not by {state!r:.100}")
    return MappingProxyType({state: check(f"{name}[{str(state)!r}]", given.get(state, default)) for state in states})


def _ages(given: float | Mapping[str, float]) -> Mapping[State, float]:
    return _by_state("job_retention", given, JOB_RETENTION, check_seconds)


def _counts(given: int | Mapping[str, int]) -> Mapping[State, int]:
    return _by_state("max_finished_jobs", given, MAX_FINISHED_JOBS, lambda name, value: check_number(name, value, 0))


@attrs.frozen(kw_only=True)
class Settings:
    """The settings of a service, checked. Times are in seconds. `Service` has the same names and defaults."""

    interrupt: Callable[[Any], Any] | None = None
    alive: Callable[[Any], Any] | None = None
    check_after: float = 60.0
    pump: Callable[[Any], Any] | None = None
    pump_every: float = 1.0
    buffer: int = 100
    max_waiting: int = 100_000
    open_timeout: float = 60.0
    open_retry: Retry = DEFAULT_RETRY
    drain_timeout: float = 30.0
    cancel_timeout: float = 5.0
    close_timeout: float = 10.0
    commit_timeout: float = 30.0
    on_stuck: OnStuck = "wait"
    save: Callable[[Any], Any] | None = None
    save_after_jobs: int = 1
    save_after: float = 1.0
    save_timeout: float = 30.0
    strict_order: bool = False
    min_interval: float = 0.0
    max_crashes: int = 3
    renew_after_jobs: int | None = None
    renew_after_idle: float | None = None
    renew_after_error: bool | Which = True
    on_open_failed: OnOpenFailed = "wait"
    seat_lock: SeatLockPath = True
    watchdog: float | None = 0.3
    job_retention: Mapping[State, float] = attrs.field(default=JOB_RETENTION, converter=_ages)
    max_finished_jobs: Mapping[State, int] = attrs.field(default=MAX_FINISHED_JOBS, converter=_counts)
    key_retention: float = KEY_RETENTION
    max_keys: int | None = None
    unhandled_jobs: OnUnhandled = "refuse"

    def __attrs_post_init__(self) -> None:
        check_number("buffer", self.buffer)
        check_number("max_waiting", self.max_waiting, 0)
        check_number("max_crashes", self.max_crashes)
        if self.max_keys is not None:
            check_number("max_keys", self.max_keys, 0)
        for name in ("open_timeout", "close_timeout", "commit_timeout", "save_timeout", "pump_every"):
            check_seconds(name, getattr(self, name), zero=False)
        check_number("save_after_jobs", self.save_after_jobs)
        if self.save_after_jobs > MAX_GROUP:
            raise UsageError(f"save_after_jobs must be at most {MAX_GROUP}, not {self.save_after_jobs}")
        for name in ("save_after", "check_after", "drain_timeout", "cancel_timeout", "key_retention", "min_interval"):
            check_seconds(name, getattr(self, name))
        if self.renew_after_jobs is not None:
            check_number("renew_after_jobs", self.renew_after_jobs)
        for name in ("renew_after_idle", "watchdog"):
            if getattr(self, name) is not None:
                check_seconds(name, getattr(self, name), zero=False)
        if not isinstance(self.strict_order, bool):
            raise UsageError(f"strict_order must be True or False, not {self.strict_order!r:.100}")
        if self.strict_order and self.save_after_jobs > 1:
            raise UsageError(
                "strict_order needs save_after_jobs=1: the next job starts when this one is final, and a group of "
                f"{self.save_after_jobs} would never be full"
            )
        if not isinstance(self.renew_after_error, bool) and not is_which(self.renew_after_error):
            raise UsageError(
                "renew_after_error must be True, False, an error class, a tuple of them, or a function of the error, "
                f"not {self.renew_after_error!r:.100}"
            )
        if self.on_open_failed not in ("wait", "stop"):
            raise UsageError(f"on_open_failed must be 'wait' or 'stop', not {self.on_open_failed!r:.100}")
        if self.seat_lock is not True and self.seat_lock is not None and not isinstance(self.seat_lock, (str, Path)):
            raise UsageError(f"seat_lock must be True, a path, or None for no lock, not {self.seat_lock!r:.100}")
        if (isinstance(self.seat_lock, str) and not self.seat_lock) or "\0" in str(self.seat_lock):
            raise UsageError(f"seat_lock must be the path of a file, not {self.seat_lock!r:.100}")
        if self.on_stuck not in ("wait", "stop"):
            raise UsageError(f"on_stuck must be 'wait' or 'stop', not {self.on_stuck!r:.100}")
        if self.unhandled_jobs not in ("refuse", "hold"):
            raise UsageError(f"unhandled_jobs must be 'refuse' or 'hold', not {self.unhandled_jobs!r:.100}")
        if not isinstance(self.open_retry, Retry):
            raise UsageError(f"open_retry must be a Retry, not {self.open_retry!r:.100}")
