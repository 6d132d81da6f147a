"""The commands that send a request to a server and print the answer."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any, Final

import attrs
import msgspec

from trio_jobs._cli.json_lines import json_line
from trio_jobs._cli.output import print_line
from trio_jobs._cli.token_file import decode_text
from trio_jobs._client.client import Client
from trio_jobs._engine.jobs import Job, State, escape
from trio_jobs._errors import UsageError

__all__ = ["COMMANDS", "decode_json", "print_answer"]

FAILED: Final = 1


def print_answer(value: Any, as_json: bool, text: str) -> bool:
    """Print `value` as a line of JSON, or `text`. Returns False if nobody can read it."""
    return print_line(json_line(value) if as_json else text)


def decode_json(source: str | bytes, what: str) -> Any:
    """Decode JSON. Raises `UsageError`, which names `what`."""
    try:
        return msgspec.json.decode(source if isinstance(source, str) else decode_text(source))
    except (msgspec.DecodeError, UnicodeError) as error:
        raise UsageError(f"the {what} is not JSON: {error}") from None
    except RecursionError:
        raise UsageError(f"the {what} is nested too deeply") from None


def raw_json(source: str | bytes, what: str) -> msgspec.Raw:
    """Check JSON, and return it with all digits of its numbers. Raises: as `decode_json`."""
    text = source if isinstance(source, str) else decode_text(source)
    decode_json(text, what)
    return msgspec.Raw(msgspec.json.format(text.encode(), indent=-1))


async def submit(client: Client, arguments: argparse.Namespace) -> int:
    if arguments.payload == "-" and sys.stdin is None:
        raise UsageError("the payload is to be read from standard input, which is closed")
    source = sys.stdin.buffer.read() if arguments.payload == "-" else arguments.payload
    payload = raw_json(source, "payload")
    receipt = await client.submit(
        arguments.kind,
        payload,
        key=arguments.key,
        delay=arguments.delay,
        deadline_after=arguments.deadline,
        wait=arguments.wait,
    )
    answer = {
        "job": receipt.job_id,
        "created": receipt.created,
        "position": receipt.position,
        "state": receipt.state,
    }
    known = "" if receipt.created else " (the existing job with this key)"
    print_answer(answer, arguments.json, f"{receipt.job_id} {receipt.state}{known}")
    return await result(client, argparse.Namespace(**vars(arguments), job=receipt.job_id)) if arguments.result else 0


async def show(client: Client, arguments: argparse.Namespace) -> int:
    job = await client.get(arguments.job)
    lines = [_line(job)]
    for attempt in job.attempts or ():
        error = "" if attempt.error is None else f": {attempt.error}"
        outcome = attempt.outcome or "running"
        lines.append(f"  attempt {attempt.number} of run {attempt.run}, {_time(attempt.started_at)}: {outcome}{error}")
    print_answer(job.to_dict(), arguments.json, "\n".join(escape(line) for line in lines))
    return 0


async def list_jobs(client: Client, arguments: argparse.Namespace) -> int:
    state = None if arguments.state is None else State(arguments.state)
    after, remaining = arguments.after, arguments.limit
    while remaining > 0:
        jobs = await client.list(state=state, kind=arguments.kind, after=after, limit=min(remaining, 500))
        for job in jobs:
            if not print_answer(job.to_dict(), arguments.json, escape(_line(job))):
                return 0
        if not jobs:  # a page may have fewer jobs than its limit although others follow
            break
        after, remaining = jobs[-1].id, remaining - len(jobs)
    return 0


async def result(client: Client, arguments: argparse.Namespace) -> int:
    value = await client.result(arguments.job, in_doubt="raise")
    print_answer(value, True, "")
    return 0


async def cancel(client: Client, arguments: argparse.Namespace) -> int:
    answer = await client.cancel(arguments.job)
    print_answer({"job": arguments.job, "answer": answer}, arguments.json, answer)
    return FAILED if answer == "too_late" else 0


async def retry(client: Client, arguments: argparse.Namespace) -> int:
    await client.retry(arguments.job, even_if_acted=arguments.even_if_acted)
    print_answer({"job": arguments.job}, arguments.json, "a new run has begun")
    return 0


async def resolve(client: Client, arguments: argparse.Namespace) -> int:
    value = None if arguments.result is None else raw_json(arguments.result, "result")
    await client.resolve(arguments.job, arguments.resolution, result=value)
    print_answer(
        {"job": arguments.job, "resolution": arguments.resolution}, arguments.json, f"resolved: {arguments.resolution}"
    )
    return 0


async def pause(client: Client, arguments: argparse.Namespace) -> int:
    await client.pause(arguments.reason)
    print_answer({"paused": True}, arguments.json, "paused: the running attempt continues, no other attempt starts")
    return 0


async def resume(client: Client, arguments: argparse.Namespace) -> int:
    await client.resume()
    print_answer({"paused": False}, arguments.json, "resumed")
    return 0


async def drain(client: Client, arguments: argparse.Namespace) -> int:
    await client.drain()
    print_answer({"drained": True}, arguments.json, "drained: no job is pending, processing, saving or retrying")
    return 0


async def undrain(client: Client, arguments: argparse.Namespace) -> int:
    await client.undrain()
    print_answer({"drained": False}, arguments.json, "the queue accepts jobs again")
    return 0


async def status(client: Client, arguments: argparse.Namespace) -> int:
    statistics, health = await client.statistics(), await client.health()
    jobs = ", ".join(f"{count} {state}" for state, count in statistics.jobs.items() if count) or "no jobs"
    condition = "healthy" if health.ok else "not healthy: " + ", ".join(health.problems)
    text = (
        f"{condition}\n{jobs}\n"
        f"{statistics.free} of {statistics.capacity} slots free, {statistics.waiting_callers} submits wait for a slot\n"
        f"SDK session {statistics.session}{', busy' if statistics.sdk_busy else ''}; "
        f"{statistics.connections} connections"
    )
    refused = ", ".join(f"{count} {reason}" for reason, count in (statistics.refusals or {}).items() if count)
    if refused:
        text += f"\nrefused since the start of the server: {refused}"
    answer = {**attrs.asdict(statistics), "ok": health.ok, "problems": health.problems}
    print_answer(answer, arguments.json, text)
    return 0 if health.ok else FAILED


def _line(job: Job) -> str:
    """One line about a job."""
    parts = [job.id, f"{job.state:<10}", job.kind]
    if job.key is not None:
        parts.append(f"key={job.key}")
    if job.attempt_count > 1:
        parts.append(f"attempt {job.attempt_count}")
    if job.reason:
        parts.append(job.reason)
    if job.error is not None:
        parts.append(str(job.error))
    return "  ".join(parts)


def _time(at: datetime) -> str:
    return at.strftime("%Y-%m-%d %H:%M:%S UTC")


COMMANDS: Final[dict[str, Callable[[Client, argparse.Namespace], Awaitable[int]]]] = {
    "submit": submit,
    "show": show,
    "list": list_jobs,
    "result": result,
    "cancel": cancel,
    "retry": retry,
    "resolve": resolve,
    "pause": pause,
    "resume": resume,
    "drain": drain,
    "undrain": undrain,
    "status": status,
}
