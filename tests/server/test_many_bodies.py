"""Requests with bodies: many at once take bounded memory, and one that is cut off at any byte does nothing."""

from __future__ import annotations

import gc
import json
import os
import sys
from pathlib import Path
from typing import Final

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from support.http_client import Http, http_site
from support.processes import Process
from support.server import OWNER, descriptors, patient
from support.waiting import deadline
from trio_jobs._server import http_body

CHILD: Final = Path(__file__).with_name("many_bodies_child.py")
MIB: Final = 1024 * 1024
MANY: Final = 10_000
SIZE: Final = 64 * 1024


def resident() -> int:
    """The bytes of this process that are in memory."""
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


async def check_many(count: int, all_bodies: int, allowed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """allowed: bytes that the process may grow while the bodies are received."""
    monkeypatch.setattr(http_body, "WAIT", 600.0)
    monkeypatch.setattr(http_body, "BASE_TIME", 600.0)
    monkeypatch.setattr(http_body.BodyMemory.__init__, "__defaults__", (all_bodies,))
    many = patient(
        connections=3 * count, pending=3 * count, messages=MANY * 10, frames=MANY * 10, bytes=MANY * SIZE * 2
    )
    async with http_site(limits=many) as (b, http):
        head = http.encode("POST", "/v1/kinds/none/jobs", Content_Type="application/json", Content_Length=str(SIZE))
        command: list[str | Path] = [sys.executable, CHILD, str(b.port), str(count), str(SIZE), head.hex()]
        with Process(command, stdin=None) as child:
            await trio.to_thread.run_sync(child.out.line_with, "connected", 300.0)
            with deadline("the heads are received", 300.0):
                while descriptors() < count:
                    await wait_all_tasks_blocked()
                await wait_all_tasks_blocked(0.05)
            before = resident()
            child.write("go\n")
            sent = int(await trio.to_thread.run_sync(child.out.line, 300.0))
            assert sent > all_bodies
            grown = resident() - before
            child.write("go\n")
            statuses = json.loads(await trio.to_thread.run_sync(child.out.line, 300.0))
            assert statuses == {"404": count}
        assert grown < allowed, f"{grown / MIB:.0f} MiB"
        assert (await http("GET", "/v1/status")).status == 200


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
async def test_the_memory_of_many_bodies_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    await check_many(150, 2 * MIB, 6 * MIB, monkeypatch)


@pytest.mark.campaign
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
async def test_the_memory_of_ten_thousand_bodies_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """All of them together have 625 MiB."""
    await check_many(MANY, http_body.ALL_BODIES, 160 * MIB, monkeypatch)


@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
async def test_a_submit_that_is_cut_off_at_any_byte_does_nothing(chunked: bool) -> None:
    async with http_site() as (b, _):
        http = Http(await b.socket(), OWNER)
        sent = http.encode("POST", "/v1/kinds/double/jobs", 21, Idempotency_Key="cut")
        if chunked:
            head = http.encode(
                "POST", "/v1/kinds/double/jobs", Content_Type="application/json", Transfer_Encoding="chunked"
            )
            sent = head + b"1\r\n2\r\n1\r\n1\r\n0\r\n\r\n"
        for length in range(len(sent)):
            client = await b.socket()
            await client.send(sent[:length])
            if length % 2:
                client.reset()
            else:
                await client.stream.send_eof()
                assert b"HTTP/1.1 2" not in await client.read_all()
                await client.stream.aclose()
        await wait_all_tasks_blocked()
        assert b.queue.statistics().seq == 2  # those of the SDK's session
        assert (await http("POST", "/v1/kinds/double/jobs", 21, Prefer="wait=10")).json["result"] == 42
