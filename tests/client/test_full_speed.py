"""A client that asks as fast as it can is served at the pace of the server: nothing is refused, and every call ends."""

from __future__ import annotations

import logging
import sqlite3
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import trio

import trio_jobs
from support.server import OWNER, WATCHER
from support.waiting import deadline
from trio_jobs import ServerLimits, Service, State

QUICK = ServerLimits(messages=100, messages_per_second=2000.0, frames=10_000, frames_per_second=10_000.0)


def make_service(**settings: Any) -> Service:
    service = Service(**settings)

    @service.handler(idempotent=True)
    async def double(number: int) -> int:
        return number * 2

    @service.handler(idempotent=True)
    async def forever(number: int) -> None:
        await trio.sleep_forever()

    return service


@pytest.fixture(autouse=True)
def nothing_is_refused(caplog: pytest.LogCaptureFixture) -> Any:
    yield
    assert [r.getMessage() for r in caplog.records if r.name.startswith("trio_jobs.server")] == []


async def test_a_thousand_submits_in_a_row_and_a_thousand_at_once_are_all_answered(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """With the limits of a server as they are by default, and a journal."""
    caplog.set_level(logging.INFO, "trio_jobs.server")
    journal, jobs = tmp_path / "jobs.db", set()

    async def in_a_row(url: str) -> None:
        async with trio_jobs.connect(url, token=OWNER.secret) as client:
            for i in range(1000):
                jobs.add((await client.submit("double", i, key=f"a{i}")).job_id)
            assert client.reconnects == 0

    async def at_once(url: str) -> None:
        async def submit(number: int) -> None:
            jobs.add((await client.submit("double", number)).job_id)

        async with trio_jobs.connect(url, token=OWNER.secret) as client:
            async with trio.open_nursery() as nursery:
                for i in range(1000):
                    nursery.start_soon(submit, i)
            assert client.reconnects == 0

    with deadline("2,000 submits"):
        async with (
            make_service().open(journal=journal) as queue,
            trio_jobs.serve(queue, port=0, tokens=[OWNER]) as server,
        ):
            caplog.clear()
            began = trio.current_time()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(in_a_row, server.url)
                nursery.start_soon(at_once, server.url)
            assert trio.current_time() - began >= 7.9  # 200 at once, then 100 a second
            for job in jobs:
                await queue.result(job)
            assert queue.statistics().jobs[State.COMPLETED] == len(jobs) == 2000
    with closing(sqlite3.connect(journal)) as connection:
        assert connection.execute("select count(*) > 2000 from sqlite_master, events").fetchone()[0]


@pytest.mark.parametrize("token", [OWNER, WATCHER], ids=["control", "watch"])
async def test_more_calls_than_the_burst_are_answered_at_the_rate(token: trio_jobs.Token) -> None:
    async with make_service().open() as queue, trio_jobs.serve(queue, port=0, tokens=[OWNER, WATCHER]) as server:
        count = 260 if token is OWNER else 60
        with deadline("all answers"):
            async with trio_jobs.connect(server.url, token=token.secret) as client, trio.open_nursery() as nursery:
                for _ in range(count):
                    nursery.start_soon(client.statistics)
                nursery.start_soon(client.list)
            assert client.reconnects == 0


async def test_a_thousand_results_are_awaited_while_the_client_does_other_things() -> None:
    async with (
        make_service(buffer=1000).open() as queue,
        trio_jobs.serve(queue, port=0, tokens=[OWNER], limits=QUICK) as server,
        trio_jobs.connect(server.url, token=OWNER.secret) as client,
    ):
        results: list[int] = []

        async def wait(job_id: str) -> None:
            results.append(await client.result(job_id))

        await client.pause("not yet")
        receipts = [await queue.submit("double", i) for i in range(500)]
        with deadline("all results"):
            async with trio.open_nursery() as nursery:
                for receipt in receipts:
                    nursery.start_soon(wait, receipt.job_id)
                await trio.testing.wait_all_tasks_blocked(0.01)
                receipt = await client.submit("double", 1000)
                assert (await client.get(receipt.job_id)).state is State.PENDING
                await client.resume()
        assert sorted(results) == [2 * i for i in range(500)]


async def test_submits_that_wait_for_a_slot_keep_no_other_call_waiting() -> None:
    async with (
        make_service(buffer=5).open() as queue,
        trio_jobs.serve(queue, port=0, tokens=[OWNER], limits=QUICK) as server,
        trio_jobs.connect(server.url, token=OWNER.secret) as client,
    ):
        await client.pause("full")
        with deadline("all submits"):
            async with trio.open_nursery() as nursery:
                for i in range(200):
                    nursery.start_soon(client.submit, "double", i)
                await trio.testing.wait_all_tasks_blocked(0.01)
                assert (await client.statistics()).free == 0
                with pytest.raises(trio_jobs.QueueFull):
                    await client.submit("double", 1, wait=0)
                with pytest.raises(trio_jobs.QueueFull):
                    await client.submit("double", 1, wait=0.1)
                await client.resume()
        await client.drain()
        assert (await client.statistics()).jobs[State.COMPLETED] == 200


async def test_a_cancelled_submit_that_waits_for_a_slot_is_not_accepted_later() -> None:
    async with (
        make_service(buffer=1).open() as queue,
        trio_jobs.serve(queue, port=0, tokens=[OWNER], limits=QUICK) as server,
        trio_jobs.connect(server.url, token=OWNER.secret) as client,
    ):
        await client.pause("full")
        await client.submit("double", 1)
        async with trio.open_nursery() as nursery:
            for i in range(50):
                nursery.start_soon(client.submit, "double", i)
            with deadline("the submits wait for a slot"):
                while queue.statistics().waiting_callers == 0:
                    await client.hello()
            nursery.cancel_scope.cancel()
        with deadline("the submits have stopped waiting"):
            while queue.statistics().waiting_callers:
                await client.hello()
        await client.resume()
        await client.drain()
        assert (await client.statistics()).jobs[State.COMPLETED] == 1


async def test_subscriptions_come_and_go_at_the_limit_and_one_too_many_is_an_error() -> None:
    limits = ServerLimits(subscriptions=2)
    async with (
        make_service().open() as queue,
        trio_jobs.serve(queue, port=0, tokens=[OWNER], limits=limits) as server,
        trio_jobs.connect(server.url, token=OWNER.secret) as client,
        client.subscribe(),
    ):
        with deadline("all subscriptions"):
            for _ in range(20):
                async with client.subscribe():
                    pass
            async with client.subscribe():
                with pytest.raises(trio_jobs.TooManyRequests, match="at most 2 subscriptions") as caught:
                    async with client.subscribe():
                        pass
        assert caught.value.limit == "subscriptions"


@pytest.mark.parametrize("stops", [1, 3])
async def test_all_calls_end_when_the_server_restarts_while_a_thousand_are_outstanding(stops: int) -> None:
    """Those with a key are done once; those without are done at most once, and say what is not known."""
    outcomes: Counter[str] = Counter()
    jobs: set[str] = set()
    all_ended = trio.Event()

    async def submit(client: trio_jobs.Client, number: int) -> None:
        try:
            receipt = await client.submit("double", number, key=f"k{number}" if number % 2 else None)
        except trio_jobs.OutcomeUnknown:
            assert number % 2 == 0
            outcomes["unknown"] += 1
        else:
            outcomes["done"] += 1
            jobs.add(receipt.job_id)
        if outcomes.total() == 1000:
            all_ended.set()

    async def serve(queue: trio_jobs.Queue, task_status: trio.TaskStatus[str]) -> None:
        limits = ServerLimits(messages=50, messages_per_second=2000.0)
        port = 0
        for life in range(stops + 1):
            events = queue.events()
            async with trio_jobs.serve(queue, port=port, tokens=[OWNER], limits=limits) as server:
                if life == 0:
                    port = server.port
                    task_status.started(server.url)
                if life == stops:
                    await all_ended.wait()
                else:
                    for _ in range(200):
                        await anext(events)

    with deadline("all calls end"):
        async with make_service(buffer=1000).open() as queue, trio.open_nursery() as nursery:
            url = await nursery.start(serve, queue)
            async with trio_jobs.connect(url, token=OWNER.secret) as client, trio.open_nursery() as calls:
                for i in range(1000):
                    calls.start_soon(submit, client, i)
            assert client.reconnects >= stops
            await queue.drain()
            known = queue.statistics().jobs[State.COMPLETED]
    assert outcomes.total() == 1000
    assert len(jobs) == outcomes["done"]
    assert len(jobs) <= known <= len(jobs) + outcomes["unknown"]
