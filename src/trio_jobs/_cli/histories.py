"""`trio-jobs history` and `trio-jobs activity`: what has happened to a job, and what operators did."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from datetime import datetime

from trio_jobs._cli.json_lines import json_line
from trio_jobs._cli.output import print_error, print_line
from trio_jobs._client.client import Client
from trio_jobs._engine.events import Event
from trio_jobs._engine.job_block import SUFFIX
from trio_jobs._engine.job_history import JobHistory
from trio_jobs._engine.jobs import escape
from trio_jobs._engine.operator_actions import OperatorAction

__all__ = ["activity", "forget", "history", "time"]

PAGE = 500  #: actions that are requested at once


async def history(client: Client, arguments: argparse.Namespace) -> int:
    job: str = arguments.job
    if arguments.by_key:
        job = (await client.find(arguments.kind, job)).id
    found = await client.history(job)
    if arguments.json:
        print_line(json_line(found.to_dict()))
    else:
        print_line("\n".join(escape(line) for line in _lines(found)))
    return 0


def _lines(found: JobHistory) -> Iterator[str]:
    yield found.job_id
    if not found.complete:
        yield "the first events are not kept"
    for run in found.runs:
        yield f"run {run.number}"
        for event in run.events:
            yield f"  {time(event.occurred_at)}  {_text(event)}"


def _text(event: Event) -> str:
    """What the event says, in one line."""
    parts = [event.type]
    if attempt := getattr(event, "attempt", 0):
        parts.append(f"attempt {attempt}")
    for name in ("step", "reason", "error", "problem"):
        value = getattr(event, name, None)
        if value:
            parts.append(str(value))
    if (by := getattr(event, "by", None)) is not None:
        parts.append(f"by {by}")
    if (note := getattr(event, "note", None)) is not None:
        parts.append(f"note: {note}")
    return "  ".join(parts)


async def forget(client: Client, arguments: argparse.Namespace) -> int:
    job: str = arguments.job
    if arguments.by_key:
        job = (await client.find(arguments.kind, job)).id
    await client.forget(job, note=arguments.note)
    print_line(json_line({"job": job}) if arguments.json else "forgotten: its data is removed, its key stays known")
    return 0


async def activity(client: Client, arguments: argparse.Namespace) -> int:
    before, remaining = arguments.before, arguments.limit
    while remaining > 0:
        page = await client.activity(before=before, limit=min(remaining, PAGE), by=arguments.by)
        for action in page:
            if not print_line(json_line(action.to_dict()) if arguments.json else escape(_action(action))):
                return 0
        if len(page) < min(remaining, PAGE):
            return 0
        before, remaining = page[-1].seq, remaining - len(page)
    print_error(f"there may be older actions: repeat the command with --before {before}")
    return 0


def _action(action: OperatorAction) -> str:
    parts = [time(action.at), action.by or "-", f"{action.action} {action.detail}".rstrip()]
    if action.job is not None:
        parts.append(action.job[-SUFFIX:])
    if action.key is not None:
        parts.append(f"key={action.key}")
    if action.note is not None:
        parts.append(action.note)
    return "  ".join(parts)


def time(at: datetime) -> str:
    """A time as the commands show it."""
    return at.strftime("%Y-%m-%d %H:%M:%S UTC")
