"""`trio-jobs status`: whether the queue works, what waits for a person, and how full it is."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from datetime import datetime
from typing import Final

import attrs

from trio_jobs._cli.histories import time
from trio_jobs._cli.json_lines import json_line
from trio_jobs._cli.output import print_line
from trio_jobs._client.client import Client
from trio_jobs._engine.job_block import SUFFIX
from trio_jobs._engine.jobs import escape
from trio_jobs._engine.json_values import json_value, moment
from trio_jobs._engine.status import Health, Statistics
from trio_jobs._runtime.clock import SystemClock

__all__ = ["age", "status", "troubles"]

NOT_HEALTHY: Final = 1


async def status(client: Client, arguments: argparse.Namespace) -> int:
    statistics, health = await client.statistics(), await client.health()
    if arguments.json:
        print_line(json_line({**attrs.asdict(statistics), **json_value(health)}))
    else:
        print_line("\n".join(escape(line) for line in _lines(statistics, health, moment(SystemClock().now()))))
    return 0 if health.ok else NOT_HEALTHY


def _lines(statistics: Statistics, health: Health, now: datetime) -> Iterator[str]:
    yield "healthy" if health.ok else "not healthy: " + ", ".join(health.problems)
    yield from troubles(health, now)
    yield ", ".join(f"{count} {state}" for state, count in statistics.jobs.items() if count) or "no jobs"
    yield (
        f"{statistics.free} of {statistics.capacity} slots free, {statistics.waiting_callers} submits wait for a slot"
    )
    if health.oldest_waiting is not None and health.waiting_since is not None:
        yield f"job {health.oldest_waiting[-SUFFIX:]} has waited for {age(health.waiting_since, now)}, the longest"
    busy = ", busy" if statistics.sdk_busy else ""
    yield f"SDK session {statistics.session}{busy}; {statistics.connections} connections"
    refused = ", ".join(f"{count} {reason}" for reason, count in (statistics.refusals or {}).items() if count)
    if refused:
        yield f"refused since the start of the server: {refused}"


def troubles(health: Health, now: datetime) -> Iterator[str]:
    """What keeps the queue from working, and what waits for a person: one line for each.

    Args:
        health: The health of the queue.
        now: UTC, by the clock of this machine.
    """
    if health.in_doubt:
        since = "" if health.in_doubt_since is None else f", the oldest for {age(health.in_doubt_since, now)}"
        yield f"{health.in_doubt} in doubt{since}: list them with --state in_doubt, and resolve each"
    paused = health.paused
    if paused is not None:
        by = "" if paused.by is None else f" by {paused.by}"
        until = "" if paused.until is None else f" until {time(paused.until)}"
        yield f"paused since {time(paused.since)}{by}{until}" + (f": {paused.reason}" if paused.reason else "")
    close = health.last_close
    if close is not None and close.failed:
        problem = "" if close.problem is None else f": {close.problem}"
        yield f"the last close of the SDK failed (session {close.session}, {time(close.at)}){problem}"
    if "sessions_failing" in health.problems:
        yield f"{health.failed_sessions} SDK sessions in a row have ended because of an error"
    if health.held_by is not None and health.held_since is not None:
        yield f"job {health.held_by[-SUFFIX:]} has blocked the others for {age(health.held_since, now)}"
    if health.without_handler:
        yield f"{health.without_handler} open jobs have no handler here"
    if health.store is not None:
        yield f"the store: {health.store}"


def age(since: datetime, now: datetime) -> str:
    """The time between the two, in the largest unit that gives 1 or more."""
    seconds = max((now - since).total_seconds(), 0.0)
    for unit, size in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}" if seconds >= 10 * size else f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s"
