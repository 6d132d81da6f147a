"""Rules of the stop of a server: all clients get close code 1001 before the first connection is taken apart."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing
from trio.testing import MockClock

import support
from support.processes import Process
from support.server import OWNER, Bench, Raw, bench, make_service, patient
from support.waiting import deadline, pass_time_until
from trio_jobs._server import server as server_module
from trio_jobs._server.server import serve
from trio_jobs._server.stream import GuardedStream

CLIENTS = 30
MANY = 3000
PROGRAM = Path(support.__file__).with_name("many_clients.py")


class Order(trio.abc.Instrument):
    """The order of the close frames and of the ends of tasks of connections."""

    def __init__(self) -> None:
        self.events: list[str] = []

    def task_exited(self, task: trio.lowlevel.Task) -> None:
        if "Connection._" in task.name or "Server._serve" in task.name:
            self.events.append("task ended")


async def answer_the_close_frame(client: Raw, codes: list[int]) -> None:
    codes.append(await client.close_code())
    _, request = client.request("jobs.submit", kind="double", payload=1)
    await client.send(request)
    await client.send(client.proto.close(1001))
    await client.read_all()
    await client.stream.aclose()


@pytest.mark.parametrize("busy", [False, True])
async def test_all_close_frames_are_sent_before_any_connection_ends(
    busy: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A connection is busy while a write to its client is in progress, and always over TLS."""
    monkeypatch.setattr(server_module, "BATCH", 1)
    order, codes = Order(), list[int]()
    at_once, later = GuardedStream.send_last_nowait, GuardedStream.send_last

    def send_last_nowait(self: GuardedStream, data: bytes) -> bool:
        if busy and len(order.events) % 2:
            order.events.append("close frame that waits")
            return False
        sent = at_once(self, data)
        order.events.append("close frame")
        return sent

    async def send_last(self: GuardedStream, data: bytes) -> None:
        await later(self, data)
        order.events.append("close frame")

    monkeypatch.setattr(GuardedStream, "send_last_nowait", send_last_nowait)
    monkeypatch.setattr(GuardedStream, "send_last", send_last)
    async with trio.open_nursery() as nursery:
        async with bench(limits=patient()) as b:
            for _ in range(CLIENTS):
                client = await b.raw()
                await client.ask("jobs.subscribe", subscription="all")
                nursery.start_soon(answer_the_close_frame, client, codes)
            await trio.testing.wait_all_tasks_blocked()
            trio.lowlevel.add_instrument(order)
        trio.lowlevel.remove_instrument(order)
        jobs = b.queue.statistics().jobs
    assert codes == [1001] * CLIENTS
    assert order.events.count("close frame") == CLIENTS
    frames = [number for number, event in enumerate(order.events) if event == "close frame"]
    assert order.events.index("task ended") > frames[-1]
    assert sum(jobs.values()) == 0, "a request that follows the close frame is not executed"


async def test_clients_that_do_not_answer_are_disconnected_after_the_close_timeout(mock_clock: MockClock) -> None:
    codes = list[int]()

    async def let_the_time_pass() -> None:
        """Step by step: a connection that is reset before its client has read loses the code."""
        await pass_time_until(mock_clock, lambda: b.server.connections == 0, "the end of all connections")

    async def read_to_the_end(client: Raw) -> None:
        codes.append(await client.close_code())
        assert await client.read_all() == b""
        await client.stream.aclose()

    async with trio.open_nursery() as nursery, bench(limits=patient(close_timeout=1.0)) as b:
        for _ in range(5):
            client = await b.raw()
            await client.ask("server.hello")
            nursery.start_soon(read_to_the_end, client)
        nursery.start_soon(let_the_time_pass)
    assert codes == [1001] * 5


async def test_a_connection_whose_close_raises_ends_alone_and_leaves_its_place(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    close, closed = trio.aclose_forcefully, trio.Event()

    async def fail(transport: trio.abc.AsyncResource) -> None:
        await close(transport)
        closed.set()
        raise LookupError("planned")

    async with bench(limits=patient(connections=1, close_timeout=0.1)) as b:
        with monkeypatch.context() as patched:
            patched.setattr(trio, "aclose_forcefully", fail)
            first = await b.raw()
            await first.stream.aclose()
            with deadline("the close of the first client"):
                await closed.wait()
        assert "a connection failed" in caplog.text
        second = await b.raw()
        await second.ask("server.hello")
        await second.stream.aclose()


async def test_a_connection_whose_close_is_cancelled_leaves_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    """`bench` looks at the places after the stop, which has cancelled the close."""
    monkeypatch.setattr(server_module, "STOP_TIMEOUT", 0.01)
    close, closing = trio.aclose_forcefully, trio.Event()

    async def hang(transport: trio.abc.AsyncResource) -> None:
        await close(transport)
        closing.set()
        await trio.sleep_forever()

    async with bench(limits=patient(close_timeout=0.01)) as b:
        monkeypatch.setattr(trio, "aclose_forcefully", hang)
        client = await b.raw()
        await client.stream.aclose()
        with deadline("the close of the connection"):
            await closing.wait()


async def test_a_client_whose_handshake_was_answered_last_gets_1001_too() -> None:
    """The answer can arrive before the task of the connection continues; Trio runs tasks in a random order."""
    codes = list[int]()
    async with make_service().open() as queue:
        for _ in range(20):
            async with trio.open_nursery() as nursery:
                async with serve(queue, port=0, tokens=[OWNER], limits=patient()) as server:
                    client = await Bench(queue, server).raw()
                    nursery.start_soon(answer_the_close_frame, client, codes)
    assert codes == [1001] * 20


@pytest.mark.campaign
@pytest.mark.skipif(sys.platform == "win32", reason="the server has at most 500 connections")
async def test_three_thousand_clients_get_1001() -> None:
    import resource

    limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limit[1] < MANY + 500:
        pytest.skip(f"a process may have {limit[1]} open files here, and {MANY + 500} are needed")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(limit[0], MANY + 500), limit[1]))
    try:
        async with make_service().open() as queue:
            async with serve(queue, port=0, tokens=[OWNER]) as server:
                process = Process([sys.executable, str(PROGRAM), str(server.port), str(MANY), OWNER.secret])
                assert await trio.to_thread.run_sync(process.out.line, 120) == "ready\n"
                assert server.connections == server.subscriptions == MANY
                begun = time.monotonic()
        done = await trio.to_thread.run_sync(process.finish)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limit)
    told: dict[str, Any] = json.loads(done.stdout)
    assert told["codes"] == {"1001": MANY}, done.stderr
    print(f"the last of {MANY} clients was told after {told['last'] - begun:.2f} s")
