"""The commands that correct, verify, move and claim jobs, and those for many jobs."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

import attrs
import msgspec

from trio_jobs._cli.json_lines import json_line
from trio_jobs._cli.json_source import decode_json, raw_json, read_payload
from trio_jobs._cli.output import print_line
from trio_jobs._cli.token_file import decode_text
from trio_jobs._client.client import Client
from trio_jobs._engine.job_conditions import JobConditions, RetriedJobs
from trio_jobs._engine.new_job import NewJob
from trio_jobs._errors import UsageError
from trio_jobs._wire.commands import NewJob as SentJob

__all__ = ["COMMANDS"]


async def correct(client: Client, arguments: argparse.Namespace) -> int:
    payload = read_payload(arguments.payload)
    job_id = await _job_id(client, arguments)
    await client.correct(job_id, payload, note=arguments.note, if_seq=arguments.if_seq)
    _print({"job": job_id}, arguments, "a new run has begun, with the new payload")
    return 0


async def verify(client: Client, arguments: argparse.Namespace) -> int:
    job_id = await _job_id(client, arguments)
    answer = await client.verify(job_id, note=arguments.note)
    _print({"job": job_id, "answer": answer}, arguments, answer)
    return 0


async def reschedule(client: Client, arguments: argparse.Namespace) -> int:
    job_id = await _job_id(client, arguments)
    note, if_seq = arguments.note, arguments.if_seq
    if arguments.now:
        await client.run_now(job_id, note=note, if_seq=if_seq)
    else:
        await client.reschedule(job_id, due_at=arguments.at, delay=arguments.delay, note=note, if_seq=if_seq)
    job = await client.get(job_id)
    due = "at once" if job.due_at is None or arguments.now else job.due_at.strftime("%Y-%m-%d %H:%M:%S UTC")
    _print({"job": job_id, "state": job.state}, arguments, f"the job is due {due}")
    return 0


async def claim(client: Client, arguments: argparse.Namespace) -> int:
    job_id, take_over, note = await _job_id(client, arguments), arguments.take_over, arguments.note
    if arguments.release:
        await client.release_claim(job_id, take_over=take_over, note=note)
    else:
        await client.claim(job_id, seconds=arguments.seconds, take_over=take_over, note=note)
    _print({"job": job_id, "claimed": not arguments.release}, arguments, "released" if arguments.release else "claimed")
    return 0


async def submit_many(client: Client, arguments: argparse.Namespace) -> int:
    lines = _read_jobs(arguments.file)
    try:
        receipts = await client.submit_many([*lines.values()], wait=arguments.wait)
    except UsageError as error:
        line = dict(enumerate(lines)).get(-1 if error.index is None else error.index)
        if line is not None:
            error.args = (f"line {line}: {str(error).removeprefix(f'jobs[{error.index}]: ')}",)
        raise
    for receipt in receipts:
        known = "" if receipt.created else " (the existing job with this key)"
        answer = {"job": receipt.job_id, "created": receipt.created, "state": receipt.state}
        if not _print(answer, arguments, f"{receipt.job_id} {receipt.state}{known}"):
            break
    return 0


def _read_jobs(file: str) -> dict[int, NewJob]:
    """Read the jobs of a file of JSON lines, by the numbers of their lines.

    Raises:
        UsageError: A line is no job. Its number is named.
    """
    if file == "-" and sys.stdin is None:
        raise UsageError("the jobs are to be read from standard input, which is closed")
    try:
        lines = decode_text(sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()).splitlines()
    except (OSError, UnicodeError) as error:
        raise UsageError(f"{file}: {error}") from None
    jobs: dict[int, NewJob] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        decode_json(line, f"line {number}")
        try:
            one = msgspec.json.decode(line, type=SentJob)
        except msgspec.ValidationError as error:
            raise UsageError(f"line {number} is no job: {error}") from None
        payload: Any = (
            None if one.payload is msgspec.UNSET else raw_json(bytes(one.payload), f"payload of line {number}")
        )
        if one.due_at is not None or one.deadline_at is not None:
            raise UsageError(f"line {number}: give delay and deadline_after, in seconds, instead of dates")
        jobs[number] = NewJob(
            one.kind, payload, one.key, delay=one.delay, deadline_after=one.deadline_after, labels=one.labels
        )
    if not jobs:
        raise UsageError(f"{file} has no jobs")
    return jobs


async def cancel_many(client: Client, arguments: argparse.Namespace) -> int:
    dry_run = arguments.dry_run
    jobs = await client.cancel_many(dry_run=dry_run, note=arguments.note, **_conditions(arguments))
    text = f"{len(jobs)} match: they would be cancelled" if dry_run else f"{len(jobs)} cancelled"
    _print({"jobs": jobs, "dry_run": dry_run}, arguments, text)
    return 0


async def retry_many(client: Client, arguments: argparse.Namespace) -> int:
    done = await client.retry_many(
        even_if_acted=arguments.even_if_acted,
        dry_run=arguments.dry_run,
        note=arguments.note,
        **_conditions(arguments),
    )
    text = _describe(done, dry_run=arguments.dry_run)
    _print({**attrs.asdict(done), "dry_run": arguments.dry_run}, arguments, text)
    return 0


def _describe(done: RetriedJobs, *, dry_run: bool) -> str:
    """What a retry of many jobs did, such as "37 match, 4 may have acted: verify will be asked first"."""
    matches = len(done.retried) + len(done.refused)
    text = f"{matches} match" if dry_run else f"{len(done.retried)} retried"
    verified, refused = len(done.verified_first), len(done.refused)
    acted = len(done.may_have_acted)
    parts = []
    if verified:
        which = "" if verified == acted else f" about {verified}"
        parts.append(f"verify {'will be' if dry_run else 'is'} asked first{which}")
    if refused:
        parts.append(f"{refused} {'will be' if dry_run else 'are'} left as they are, since there is no verify")
    return f"{text}, {acted} may have acted: {'; '.join(parts)}" if acted and parts else text


def _conditions(arguments: argparse.Namespace) -> JobConditions:
    states = arguments.state or []
    if len(states) > 1:
        raise UsageError("give one --state, or none for every state in which it is possible")
    return JobConditions(
        ids=arguments.ids,
        state=states[0] if states else None,
        kind=arguments.kind,
        key_prefix=arguments.key_prefix,
        error_type=arguments.error,
        may_have_acted=arguments.may_have_acted,
        labels=dict(arguments.label),
        submitter=arguments.by,
        since=arguments.since,
        until=arguments.until,
        limit=arguments.limit,
    )


async def _job_id(client: Client, arguments: argparse.Namespace) -> str:
    job: str = arguments.job
    return (await client.find(arguments.kind, job)).id if arguments.by_key else job


def _print(value: Any, arguments: argparse.Namespace, text: str) -> bool:
    return print_line(json_line(value) if arguments.json else text)


COMMANDS: Final[dict[str, Callable[[Client, argparse.Namespace], Awaitable[int]]]] = {
    "correct": correct,
    "verify": verify,
    "reschedule": reschedule,
    "claim": claim,
    "submit-many": submit_many,
    "cancel-many": cancel_many,
    "retry-many": retry_many,
}
