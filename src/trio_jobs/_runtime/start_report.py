"""What the log says at the start of a queue about what an earlier one has left: a pause, doubts, a failed close."""

from __future__ import annotations

from typing import Final

from trio_jobs._engine.jobs import escape
from trio_jobs._engine.status import Health
from trio_jobs._log import Log

__all__ = ["log_condition"]

log: Final = Log("trio_jobs.queue")


def log_condition(health: Health) -> None:
    """Log what keeps the queue from working, and what waits for a person. Nothing where all is well."""
    paused, close = health.paused, health.last_close
    if paused is not None:
        log.warning(
            "the queue is paused since %s%s%s%s; resume() ends that",
            paused.since.isoformat(timespec="seconds"),
            "" if paused.by is None else f" by {escape(paused.by)}",
            "" if paused.until is None else f" until {paused.until.isoformat(timespec='seconds')}",
            f": {paused.reason}" if paused.reason else "",
        )
    if health.in_doubt:
        since = "" if health.in_doubt_since is None else health.in_doubt_since.isoformat(timespec="seconds")
        log.warning("jobs in doubt: %d, the oldest since %s; resolve them", health.in_doubt, since)
    if close is not None and close.failed:
        log.warning("the last close of the SDK failed (%s): %s", close.at.isoformat(timespec="seconds"), close.problem)
