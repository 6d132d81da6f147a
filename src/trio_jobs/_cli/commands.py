"""The commands that send a request to a server and print the answer."""

from __future__ import annotations

import argparse
from collections.abc import Awaitable, Callable
from typing import Any, Final, Literal

import attrs

from trio_jobs._cli import job_commands
from trio_jobs._cli.histories import activity, forget, history, time
from trio_jobs._cli.json_lines import json_line
from trio_jobs._cli.json_source import raw_json, read_payload
from trio_jobs._cli.output import print_error, print_line
from trio_jobs._cli.status import status
from trio_jobs._client.client import Client
from trio_jobs._engine.job_block import SUFFIX
from trio_jobs._engine.job_filter import ListConditions
from trio_jobs._engine.jobs import Job, escape

__all__ = ["COMMANDS", "print_answer"]

FAILED: Final = 1


def print_answer(value: Any, as_json: bool, text: str) -> bool:
    """Print `value` as a line of JSON, or `text`. Returns False if nobody can read it."""
    return print_line(json_line(value) if as_json else text)


async def submit(client: Client, arguments: argparse.Namespace) -> int:
    payload = read_payload(arguments.payload)
    receipt = await client.submit(
        arguments.kind,
        payload,
        key=arguments.key,
        delay=arguments.delay,
        deadline_after=arguments.deadline,
        wait=arguments.wait,
        labels=dict(arguments.label),
        correct=arguments.correct,
    )
    answer = {
        "job": receipt.job_id,
        "created": receipt.created,
        "position": receipt.position,
        "state": receipt.state,
    }
    known = "" if receipt.created else " (the existing job with this key)"
    print_answer(answer, arguments.json, f"{receipt.job_id} {receipt.state}{known}")
    return await result(client, argparse.Namespace(job=receipt.job_id, by_key=False)) if arguments.result else 0


async def show(client: Client, arguments: argparse.Namespace) -> int:
    job = await (client.find(arguments.kind, arguments.job) if arguments.by_key else client.get(arguments.job))
    lines = [_line(job, job.id)]
    if job.labels:
        lines.append("  " + ", ".join(f"{name}={value}" for name, value in job.labels.items()))
    for attempt in job.attempts or ():
        error = "" if attempt.error is None else f": {attempt.error}"
        outcome = attempt.outcome or "running"
        lines.append(f"  attempt {attempt.number} of run {attempt.run}, {time(attempt.started_at)}: {outcome}{error}")
    print_answer(job.to_dict(), arguments.json, "\n".join(escape(line) for line in lines))
    return 0


async def list_jobs(client: Client, arguments: argparse.Namespace) -> int:
    after, remaining = arguments.after, arguments.limit
    order: Literal["oldest", "newest"] = "oldest" if arguments.oldest else "newest"
    while remaining > 0:
        page = await client.list(after=after, limit=min(remaining, 500), order=order, **_conditions(arguments))
        for job in page:
            if not print_answer(job.to_dict(), arguments.json, escape(_line(job, job.id[-SUFFIX:]))):
                return 0
        if page.next is None:
            return 0
        after, remaining = page.next, remaining - len(page)
    if after is not None:
        print_error(f"there may be more jobs: repeat the command with --after {after}")
    return 0


async def count(client: Client, arguments: argparse.Namespace) -> int:
    counts = await client.count(arguments.group, **_conditions(arguments))
    lines = [f"{number:>8}  {value}" for value, number in (counts.groups or {}).items()]
    if counts.others:
        lines.append(f"{counts.others:>8}  with other values")
    lines.append(f"{counts.total:>8}  jobs")
    print_answer(attrs.asdict(counts), arguments.json, "\n".join(escape(line) for line in lines))
    return 0


def _conditions(arguments: argparse.Namespace) -> ListConditions:
    return ListConditions(
        states=arguments.state,
        kind=arguments.kind,
        key_prefix=arguments.key_prefix,
        error_type=arguments.error,
        may_have_acted=arguments.may_have_acted,
        labels=dict(arguments.label),
        by=arguments.by,
        since=arguments.since,
        until=arguments.until,
    )


async def _job_id(client: Client, arguments: argparse.Namespace) -> str:
    """The id of the job that the arguments name."""
    job: str = arguments.job
    return (await client.find(arguments.kind, job)).id if arguments.by_key else job


async def result(client: Client, arguments: argparse.Namespace) -> int:
    value = await client.result(await _job_id(client, arguments), in_doubt="raise")
    print_answer(value, True, "")
    return 0


async def cancel(client: Client, arguments: argparse.Namespace) -> int:
    job_id = await _job_id(client, arguments)
    answer = await client.cancel(job_id, note=arguments.note)
    print_answer({"job": job_id, "answer": answer}, arguments.json, answer)
    return FAILED if answer == "too_late" else 0


async def retry(client: Client, arguments: argparse.Namespace) -> int:
    job_id = await _job_id(client, arguments)
    state = await client.retry(job_id, even_if_acted=arguments.even_if_acted, note=arguments.note)
    begun = "a new run has begun" + (", with the question whether the job is done" if state == "in_doubt" else "")
    print_answer({"job": job_id, "state": state}, arguments.json, begun)
    return 0


async def resolve(client: Client, arguments: argparse.Namespace) -> int:
    value = None if arguments.result is None else raw_json(arguments.result, "result")
    job_id = await _job_id(client, arguments)
    await client.resolve(job_id, arguments.resolution, result=value, note=arguments.note)
    answer = {"job": job_id, "resolution": arguments.resolution}
    print_answer(answer, arguments.json, f"resolved: {arguments.resolution}")
    return 0


async def kinds(client: Client, arguments: argparse.Namespace) -> int:
    for kind, schema in (await client.kinds()).items():
        if not print_answer({"kind": kind, "schema": schema}, arguments.json, escape(kind)):
            return 0
    return 0


async def pause(client: Client, arguments: argparse.Namespace) -> int:
    await client.pause(arguments.reason, until=arguments.until)
    print_answer({"paused": True}, arguments.json, "paused: the running attempt continues, no other attempt starts")
    return 0


async def resume(client: Client, arguments: argparse.Namespace) -> int:
    await client.resume(note=arguments.note)
    print_answer({"paused": False}, arguments.json, "resumed")
    return 0


async def drain(client: Client, arguments: argparse.Namespace) -> int:
    await client.drain(note=arguments.note)
    print_answer({"drained": True}, arguments.json, "drained: no job is pending, processing, saving or retrying")
    return 0


async def undrain(client: Client, arguments: argparse.Namespace) -> int:
    await client.undrain(note=arguments.note)
    print_answer({"drained": False}, arguments.json, "the queue accepts jobs again")
    return 0


def _line(job: Job, name: str) -> str:
    """One line about a job, which begins with this name of it."""
    parts = [name, f"{job.state:<10}", job.kind]
    if job.key is not None:
        parts.append(f"key={job.key}")
    if job.attempt_count > 1:
        parts.append(f"attempt {job.attempt_count}")
    if job.reason:
        parts.append(job.reason)
    if job.error is not None:
        parts.append(str(job.error))
    return "  ".join(parts)


COMMANDS: Final[dict[str, Callable[[Client, argparse.Namespace], Awaitable[int]]]] = {
    "submit": submit,
    "show": show,
    "history": history,
    "activity": activity,
    "forget": forget,
    "list": list_jobs,
    "count": count,
    "result": result,
    "cancel": cancel,
    "retry": retry,
    "resolve": resolve,
    "pause": pause,
    "resume": resume,
    "drain": drain,
    "undrain": undrain,
    "status": status,
    "kinds": kinds,
    **job_commands.COMMANDS,
}
