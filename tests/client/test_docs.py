"""The programs of docs/clients.md do what the page says."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import trio

import trio_jobs
from support.processes import Process, run

PAGE = (Path(__file__).parents[2] / "docs" / "clients.md").read_text(encoding="utf-8")
TOKEN = trio_jobs.Token.random()


def program(heading: str, language: str) -> str:
    found = re.search(rf"## {heading}\n.*?```{language}\n(.*?)```", PAGE, re.DOTALL)
    assert found is not None, heading
    return found[1]


def make_service() -> trio_jobs.Service:
    service = trio_jobs.Service()

    @service.handler
    async def double(number: int) -> int:
        return number * 2

    return service


def names(source: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    exec(compile(source, "clients.md", "exec"), found)
    return found


async def test_the_trio_program_prints_result_and_event(capsys: pytest.CaptureFixture[str]) -> None:
    main = names(program("Trio", "python"))["main"]
    async with make_service().open() as queue, trio_jobs.serve(queue, port=0, tokens=[TOKEN]) as server:
        await main(server.url, TOKEN.secret)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "42"
    assert lines[1].endswith(" completed")


async def test_the_websockets_program_prints_three_events(capsys: pytest.CaptureFixture[str]) -> None:
    main = names(program("Python `websockets`", "python"))["main"]
    async with make_service().open() as queue, trio_jobs.serve(queue, port=0, tokens=[TOKEN]) as server:
        await trio.to_thread.run_sync(asyncio.run, main(server.url, TOKEN.secret))
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[1] for line in lines] == ["submitted", "started", "completed"]


def node_with_websocket() -> list[str] | None:
    """Node has a browser's WebSocket from 22 on, and from 20.10 when asked for."""
    node = shutil.which("node")
    for options in ([], ["--experimental-websocket"]) if node else ():
        done = run([str(node), *options, "-e", "new WebSocket('ws://x'); process.exit(0)"])
        if done.returncode == 0:
            return [str(node), *options]
    return None


async def test_the_browser_s_program_sees_the_snapshot_the_events_and_a_restart() -> None:
    node = node_with_websocket()
    if node is None:
        pytest.skip("no node with a WebSocket")
    # Node 20 reports no close of a connection that nobody accepts, so it connects again when there is a server
    wait = "setTimeout(follow, 1000 + 4000 * Math.random())"
    source = program("A browser", "js")
    assert wait in source
    source = source.replace(wait, "process.stdin.once('data', follow)")
    store = trio_jobs.MemoryStore()

    async def told(process: Process) -> str:
        return (await trio.to_thread.run_sync(process.out.line)).strip()

    async with make_service().open(store=store) as queue:
        async with trio_jobs.serve(queue, port=0, tokens=[TOKEN]) as server:
            first = await queue.submit("double", 1, key="one")
            await queue.result(first.job_id)
            prelude = (
                f"const url = {server.url!r}, token = {TOKEN.secret!r};\n"
                "const show = (job) => console.log(job.seq, job.id, job.state);\n"
            )
            process = Process([*node, "-e", prelude + source], stdin=None)
            assert (await told(process)).split()[1:] == [first.job_id, "completed"]
            port = server.port
            second = await queue.submit("double", 2)
            assert [(await told(process)).split()[2] for _ in range(3)] == ["pending", "processing", "completed"]
        third = await queue.submit("double", 3)
        await queue.result(third.job_id)
        async with trio_jobs.serve(queue, port=port, tokens=[TOKEN]):
            process.write("there is a server\n")
            lines = [await told(process) for _ in range(3)]
            assert [line.split()[1] for line in lines] == [third.job_id] * 3
            assert [line.split()[2] for line in lines] == ["pending", "processing", "completed"]
            assert second.job_id != third.job_id
            process.end()


def test_every_limit_and_code_that_the_page_names_is_so() -> None:
    from trio_jobs._client.stream import MAX_RECEIVED
    from trio_jobs._engine.json_limits import MAX_LENGTH
    from trio_jobs._server.limits import ServerLimits
    from trio_jobs._wire.codes import MAX_IN_FLIGHT, MAX_MESSAGE, MAX_PAGE_BYTES, CloseCode, ErrorCode

    limits = ServerLimits()
    assert (MAX_MESSAGE, MAX_IN_FLIGHT) == (2**20 + 2**16, 64)
    assert (limits.messages, limits.messages_per_second, limits.subscriptions, limits.ping) == (200, 100, 32, 20)
    for code in (1001, 1009, 4400, 4401, 4403, 4429):
        assert CloseCode(code)
        assert str(code) in PAGE
    assert ErrorCode(-32010) is ErrorCode.CANNOT_RESUME
    # a page of jobs, and a job with its result or payload, fit into what the clients accept
    assert "max_size=2**24" in PAGE
    assert max(MAX_PAGE_BYTES, MAX_LENGTH) < MAX_RECEIVED == 2**24


FAKE = """
const sockets = [];
const setTimeout = (again) => again();   // coming back takes no time here
class WebSocket {
  constructor() { this.sent = []; sockets.push(this); }
  send(text) { this.sent.push(JSON.parse(text).params); }
}
const url = "ws://nowhere/ws", token = "t", show = () => {};
const now = () => sockets[sockets.length - 1];
const asked = () => { const { subscription, ...rest } = now().sent[now().sent.length - 1]; return rest; };
const says = (message) => now().onmessage({ data: JSON.stringify(message) });
const tells = (method, params) => says({ method, params });
const page = (last) => tells("jobs.snapshot", { seq: 9, jobs: [], last });
const cut = (code) => { const before = sockets.length; now().onclose({ code });
  if (sockets.length > before) now().onopen(); return sockets.length > before; };
const told = [];
"""


def what_it_asks(story: str) -> list[Any]:
    node = shutil.which("node")
    if node is None:
        pytest.skip("no node")
    script = FAKE + program("A browser", "js") + "now().onopen();\n" + story + "console.log(JSON.stringify(told));"
    done = run([node, "-e", "{" + script + "}"])
    assert done.returncode == 0, done.stderr
    answer: list[Any] = json.loads(done.stdout)
    return answer


def test_the_browser_s_program_goes_on_only_behind_a_snapshot_that_is_whole() -> None:
    asked = what_it_asks("""
        says({ id: 1, result: { seq: 7, epoch: "e" } });
        page(false); cut(1006); told.push(asked());                       // pages are missing
        says({ id: 1, result: { seq: 8, epoch: "e" } });
        page(false); page(true); cut(1006); told.push(asked());
        tells("jobs.event", { seq: 10, job: "a" }); cut(1006); told.push(asked());
        tells("jobs.lagged", { from: 11, to: 20 }); page(false); cut(1006); told.push(asked());
        says({ id: 1, result: { seq: 21, epoch: "e" } }); page(true);
        tells("jobs.lagged", { from: 22, to: 30 }); page(true); cut(1006); told.push(asked());
        says({ id: 1, error: { code: -32010 } }); told.push(asked());
    """)
    snapshot = {"snapshot": True}
    behind = [{"after": seq, "epoch": "e"} for seq in (8, 10, 30)]
    assert asked == [snapshot, behind[0], behind[1], snapshot, behind[2], snapshot]


def test_the_browser_s_program_comes_back_where_that_may_help() -> None:
    codes = [1001, 1006, 4429, 4400, 4401, 4403]
    assert what_it_asks(f"for (const code of {codes}) told.push(cut(code));") == [True] * 3 + [False] * 3
