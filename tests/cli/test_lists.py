"""Rules of the commands that find, list and count jobs: in the process, against a server on a socket."""

from __future__ import annotations

import json
import shlex
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import pytest

import trio_jobs
from support.server import OWNER, bench, make_service
from trio_jobs import AmbiguousJob, JobNotFound, Queue
from trio_jobs._cli.arguments import parser
from trio_jobs._cli.commands import COMMANDS

Command = Callable[..., Awaitable[tuple[int, list[str], str]]]


@asynccontextmanager
async def desk(capsys: pytest.CaptureFixture[str]) -> AsyncIterator[tuple[Queue, Command]]:
    """A paused queue, and a function that executes a command: its exit code, its lines and its standard error."""
    async with (
        bench(make_service(drain_timeout=0.0), metrics=False) as b,
        trio_jobs.connect(f"ws://127.0.0.1:{b.port}/ws", token=OWNER.secret) as client,
    ):

        async def command(*words: str) -> tuple[int, list[str], str]:
            capsys.readouterr()
            code = await COMMANDS[words[0]](client, parser().parse_args(words))
            shown = capsys.readouterr()
            return code, shown.out.splitlines(), shown.err

        await b.queue.pause()
        yield b.queue, command


async def test_a_list_shows_the_newest_submits_first_with_the_end_of_their_ids(capsys: Any) -> None:
    async with desk(capsys) as (queue, command):
        jobs = [(await queue.submit("double", n, key=f"A-{n}")).job_id for n in range(4)]
        _, lines, _ = await command("list")
        assert [line.split()[0] for line in lines] == [job_id[-8:] for job_id in reversed(jobs)]
        _, lines, _ = await command("list", "--oldest", "--json")
        assert [json.loads(line)["id"] for line in lines] == jobs


async def test_a_list_that_ends_at_its_limit_prints_how_to_continue(capsys: Any) -> None:
    async with desk(capsys) as (queue, command):
        jobs = [(await queue.submit("double", n)).job_id for n in range(5)]
        _, lines, err = await command("list", "--limit", "2")
        assert [line.split()[0] for line in lines] == [jobs[4][-8:], jobs[3][-8:]]
        assert err.startswith("there may be more jobs: repeat the command with --after c1.")
        _, lines, err = await command("list", "--after", err.split()[-1])
        assert [line.split()[0] for line in lines] == [jobs[2][-8:], jobs[1][-8:], jobs[0][-8:]]
        assert err == ""


async def test_every_condition_of_a_list_and_a_count_is_an_option(capsys: Any) -> None:
    async with desk(capsys) as (queue, command):
        labels = {"company": "acme", "year": "2026"}
        job_id = (await queue.submit("double", 1, key="A-1", labels=labels, by="ada")).job_id
        await queue.submit("double", 2, key="B-1", labels={"company": "other"}, by="bob")
        await queue.submit("wait", 1)
        for options in (
            ["--key-prefix", "A-"],
            ["--label", "company=acme", "--label", "year=2026"],
            ["--by", "ada", "--kind", "double", "--state", "pending", "--state", "failed"],
            ["--key-prefix", "A", "--no-may-have-acted", "--since", "2h", "--until", "9999-01-01"],
        ):
            _, lines, _ = await command("list", *options)
            assert [line.split()[0] for line in lines] == [job_id[-8:]], options
            assert (await command("count", *options))[1] == ["       1  jobs"]
        for options in (["--error", "OSError"], ["--may-have-acted"], ["--until", "2000-01-01T00:00Z"]):
            assert await command("list", *options) == (0, [], "")
        _, lines, _ = await command("count", "--group", "label:company")
        assert lines == ["       1  acme", "       1  other", "       3  jobs"]
        _, (line,), _ = await command("count", "--group", "kind", "--json")
        assert json.loads(line) == {"total": 3, "groups": {"double": 2, "wait": 1}, "others": 0}


async def test_every_command_for_one_job_takes_its_key_or_the_end_of_its_id(capsys: Any) -> None:
    async with desk(capsys) as (queue, command):
        job_id = (await queue.submit("double", 1, key="A-1", labels={"company": "acme"})).job_id
        for words in (["A-1", "--key"], ["--key", "A-1", "--kind", "double"], [job_id[-8:]], [job_id[-6:]]):
            _, lines, _ = await command("show", *words)
            assert lines[0].startswith(job_id)
            assert lines[1] == "  company=acme"
        _, (line,), _ = await command("cancel", "--key", "A-1", "--json")
        assert json.loads(line) == {"job": job_id, "answer": "cancelled"}
        await command("retry", job_id[-8:])
        assert queue.get(job_id).run == 2
        with pytest.raises(trio_jobs.InvalidState, match=job_id):
            await command("resolve", "--key", "A-1", "done", "--result", "7")
        await queue.resume()
        assert (await command("result", "--key", "A-1"))[1] == ["2"]
        other = (await queue.submit("wait", 0, key="A-1")).job_id
        with pytest.raises(AmbiguousJob, match=other):
            await command("show", "--key", "A-1")
        with pytest.raises(JobNotFound, match="no job with key 'A-9'"):
            await command("cancel", "--key", "A-9")


async def test_a_submit_has_labels(capsys: Any) -> None:
    async with desk(capsys) as (queue, command):
        _, (line,), _ = await command("submit", "double", "1", "--label", "company=acme", "--label", "a=b=c")
        assert queue.get(line.split()[0]).labels == {"company": "acme", "a": "b=c"}


@pytest.mark.parametrize("option", ["--since", "--until"])
@pytest.mark.parametrize("bad", ["soon", "", "2h30m", "-1h", "2026-13-01", "999999999999d"])
def test_a_date_is_iso_8601_or_a_time_ago(option: str, bad: str, capsys: Any) -> None:
    with pytest.raises(SystemExit):
        parser().parse_args(["list", f"{option}={bad}"])
    assert (
        "it must be a date such as 2026-11-29 or 2026-11-29T08:30, or a time ago such as 7d" in capsys.readouterr().err
    )


def test_a_time_ago_counts_from_now_and_a_date_is_local_unless_it_says_otherwise() -> None:
    arguments = parser().parse_args(["list", "--since", "1.5h", "--until", "2026-11-29T08:30"])
    assert 5400 <= (datetime.now(UTC) - arguments.since).total_seconds() < 5700
    assert arguments.until == datetime(2026, 11, 29, 8, 30).astimezone()
    assert parser().parse_args(["list", "--since", "2026-11-29T08:30Z"]).since == datetime(
        2026, 11, 29, 8, 30, tzinfo=UTC
    )


@pytest.mark.parametrize("bad", ["company", "=acme", "company=", ""])
def test_a_label_is_a_name_and_a_value(bad: str, capsys: Any) -> None:
    with pytest.raises(SystemExit):
        parser().parse_args(["list", f"--label={bad}"])
    assert "it must be NAME=VALUE" in capsys.readouterr().err


@pytest.mark.parametrize(
    "command", ["submit", "show", "list", "count", "watch", "cancel", "retry", "resolve", "result"]
)
def test_the_help_of_a_command_for_jobs_has_an_example_that_it_accepts(command: str, capsys: Any) -> None:
    with pytest.raises(SystemExit):
        parser().parse_args([command, "--help"])
    shown = " ".join(capsys.readouterr().out.split())
    example = shown.partition("example: trio-jobs ")[2]
    assert example.startswith(command)
    assert parser().parse_args(shlex.split(example)).command == command
