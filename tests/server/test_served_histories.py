"""`jobs.history` and `queue.activity` over the wire, and the commands that show them."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio

import trio_jobs
from support.server import OWNER, WATCHER, bench, make_service
from trio_jobs import PermissionDenied, Queue, events
from trio_jobs._cli.arguments import parser
from trio_jobs._cli.commands import COMMANDS
from trio_jobs._wire import history_pages as histories


@asynccontextmanager
async def served(secret: str) -> AsyncIterator[tuple[Queue, trio_jobs.Client]]:
    async with (
        bench(make_service(drain_timeout=0.0), metrics=False) as b,
        trio_jobs.connect(f"ws://127.0.0.1:{b.port}/ws", token=secret) as client,
    ):
        yield b.queue, client


async def acted(queue: Queue) -> str:
    """A job that failed, was retried and failed again."""
    job_id = (await queue.submit("fail", "no account", key="A-1")).job_id
    with pytest.raises(trio_jobs.JobFailed):
        await queue.result(job_id)
    await queue.pause("month end", by="Bob")
    await queue.resume(by="Bob")
    await queue.retry(job_id, by="Ada", note="opened it")
    with pytest.raises(trio_jobs.JobFailed):
        await queue.result(job_id)
    return job_id


async def test_a_client_gets_the_history_of_the_queue_page_by_page(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(histories, "MAX_PAGE_BYTES", 1)  # each event is a page
    async with served(OWNER.secret) as (queue, client):
        job_id = await acted(queue)
        here, there = await queue.history(job_id), await client.history(job_id[-8:])
        assert (there.job_id, there.complete) == (job_id, True)
        assert [(run.number, [event.seq for event in run.events]) for run in there.runs] == [
            (run.number, [event.seq for event in run.events]) for run in here.runs
        ]
        begin, again = there.runs[0].events[0], there.runs[1].events[0]
        assert isinstance(begin, events.Submitted)
        assert isinstance(again, events.RunRestarted)
        assert bytes(begin.payload) == b'"no account"', "an operator sees what was submitted"  # type: ignore[arg-type]
        assert (again.by, again.note, again.key) == ("Ada", "opened it", "A-1")


async def test_a_watcher_gets_a_history_without_payloads_people_and_notes() -> None:
    async with served(WATCHER.secret) as (queue, client):
        found = await client.history(await acted(queue))
        assert [run.number for run in found.runs] == [1, 2]
        assert {getattr(event, "by", None) for event in found.events} == {None}
        assert {getattr(event, "note", None) for event in found.events} == {None}
        assert "payload" not in json.dumps(found.to_dict())
        with pytest.raises(PermissionDenied):
            await client.activity()


async def test_a_client_gets_the_activity_of_the_queue() -> None:
    async with served(OWNER.secret) as (queue, client):
        await acted(queue)
        everything = queue.activity()
        assert [one.action for one in everything] == ["retry", "resume", "pause"]
        assert await client.activity() == everything
        assert await client.activity(limit=1) == everything[:1]
        assert await client.activity(before=everything[0].seq, by="Bob") == everything[1:]


async def test_the_client_records_its_notes_under_the_name_of_its_token() -> None:
    async with served(OWNER.secret) as (queue, client):
        await client.pause("month end")
        await client.resume(note="done")
        job_id = (await client.submit("wait", 1, delay=60)).job_id
        await client.cancel(job_id, note="a duplicate")
        with trio.move_on_after(0.0):
            await client.drain(note="moving")
        await client.undrain(note="not yet")
        assert [(one.action, one.by, one.note) for one in reversed(queue.activity()) if one.action != "drain"] == [
            ("pause", OWNER.name, "month end"),
            ("resume", OWNER.name, "done"),
            ("cancel", OWNER.name, "a duplicate"),
            *[("undrain", OWNER.name, "not yet") for one in queue.activity() if one.action == "undrain"],
        ]
        assert (await client.get(job_id)).actions == queue.get(job_id).actions
        [listed] = await client.list()
        assert listed.actions == queue.get(job_id).actions


async def command(client: trio_jobs.Client, capsys: Any, *words: str) -> list[str]:
    capsys.readouterr()
    assert await COMMANDS[words[0]](client, parser().parse_args(words)) == 0
    lines: list[str] = capsys.readouterr().out.splitlines()
    return lines


async def test_the_command_history_shows_each_run_with_who_and_why(capsys: pytest.CaptureFixture[str]) -> None:
    async with served(OWNER.secret) as (queue, client):
        job_id = await acted(queue)
        lines = await command(client, capsys, "history", "--key", "A-1")
        assert lines[0] == job_id
        assert [line for line in lines if not line.startswith("  ")][1:] == ["run 1", "run 2"]
        assert any(line.endswith("retried  by Ada  note: opened it") for line in lines)
        [line] = await command(client, capsys, "history", job_id, "--json")
        assert [run["run"] for run in json.loads(line)["runs"]] == [1, 2]


async def test_the_command_activity_shows_who_did_what(capsys: pytest.CaptureFixture[str]) -> None:
    async with served(OWNER.secret) as (queue, client):
        job_id = await acted(queue)
        lines = await command(client, capsys, "activity")
        assert [line.split("  ")[1:] for line in lines] == [
            ["Ada", "retry", job_id[-8:], "key=A-1", "opened it"],
            ["Bob", "resume"],
            ["Bob", "pause", "month end"],
        ]
        assert await command(client, capsys, "activity", "--by", "Bob", "--limit", "1") == lines[1:2]
        [line] = await command(client, capsys, "activity", "--by", "Ada", "--json")
        assert json.loads(line)["note"] == "opened it"
