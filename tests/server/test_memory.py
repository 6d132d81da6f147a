"""Rules of the server's memory: what a connection takes has a limit, and is freed at its end without a collection."""

from __future__ import annotations

import gc
import tracemalloc
import weakref
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

import pytest
from trio.testing import wait_all_tasks_blocked

from support.server import Raw, bench, descriptors, make_service, patient
from support.waiting import deadline
from trio_jobs._engine.event_cursor import Filter
from trio_jobs._server.connection import Connection
from trio_jobs._server.event_bodies import EventBodies
from trio_jobs._server.pacing import Pacer
from trio_jobs._server.stream import GuardedStream
from trio_jobs._server.subscriber import Subscriber


@contextmanager
def without_collections() -> Iterator[list[object]]:
    """Disable the garbage collector. At the end, the list has the objects of this package that only it would free."""
    found: list[object] = []
    gc.collect()
    gc.disable()
    try:
        yield found
        gc.set_debug(gc.DEBUG_SAVEALL)
        gc.collect()
        found += [thing for thing in gc.garbage if type(thing).__module__.startswith("trio_jobs")]
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()


async def until_no_socket_is_left(before: int) -> None:
    with deadline("the server has closed its sockets"):
        while descriptors() > before:
            await wait_all_tasks_blocked()
    await wait_all_tasks_blocked()


async def goodbye(client: Raw) -> None:
    await client.say_goodbye()


async def reset(client: Raw) -> None:
    client.reset()


async def binary_message(client: Raw) -> None:
    await client.send(bytes(client.proto.send_data(b"\0")))
    await client.close_code()
    client.reset()


async def malformed_frame(client: Raw) -> None:
    await client.send(b"\xff" * 16)
    await client.read_all()
    await client.stream.aclose()


KEPT = (Connection, GuardedStream, Subscriber)
ENDS: dict[str, Callable[[Raw], Awaitable[None]]] = {
    "close frame": goodbye,
    "reset": reset,
    "binary message": binary_message,
    "malformed frame": malformed_frame,
}


@pytest.mark.parametrize("end", ENDS)
async def test_a_connection_that_has_ended_is_freed_without_a_collection(end: str) -> None:
    async with bench(limits=patient(close_timeout=1.0)) as b:
        before = descriptors()
        with without_collections() as found:
            client = await b.raw()
            await client.ask("jobs.subscribe", subscription="all")
            await client.ask("jobs.subscribe", subscription="snapshot", snapshot=True)
            await client.ask("jobs.subscribe", subscription="kinds", kinds=["double"])
            job = (await client.ask("jobs.submit", kind="double", payload=2))["job"]
            await client.ask("jobs.subscribe", subscription="job", jobs=[job])
            for method, params in (("jobs.get", {"job": "unknown"}), ("jobs.get", {}), ("jobs.list", {"limit": 9999})):
                assert "error" in await client.ask(method, **params)
            assert (await client.ask("jobs.result", job=job, wait=30))["result"] == 4
            kept = [weakref.ref(thing) for thing in gc.get_objects() if type(thing) in KEPT]
            assert len(kept) == 6
            await ENDS[end](client)
            await until_no_socket_is_left(before)
            assert [ref() for ref in kept] == [None] * 6
        assert found == []


@pytest.mark.parametrize(
    "request_", ["GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", "nonsense\r\n\r\n"]
)
async def test_a_plain_request_leaves_nothing_for_a_collection(request_: str) -> None:
    async with bench(limits=patient()) as b:
        before = descriptors()
        with without_collections() as found:
            client = await b.socket()
            await client.send(request_.encode())
            await client.read_all()
            await client.stream.aclose()
            await until_no_socket_is_left(before)
        assert found == []


async def test_a_refused_client_leaves_nothing_for_a_collection() -> None:
    async with bench(limits=patient()) as b:
        before = descriptors()
        with without_collections() as found:
            client = await b.raw(None)
            assert await client.close_code() == 4401
            client.reset()
            await until_no_socket_is_left(before)
        assert found == []


async def test_a_snapshot_takes_memory_for_a_page_and_not_for_all_jobs() -> None:
    async with make_service(buffer=20_000, drain_timeout=0.0).open() as queue:
        await queue.pause()
        for number in range(20_000):
            queue.submit_nowait("double", number)
        backend = queue.backend
        bodies, pacer = EventBodies(backend.events), Pacer()

        async def read_first_pages() -> int:
            subscribers = [
                Subscriber(
                    str(number), backend, bodies, pacer, Filter(), backend.events.seq, lambda subscriber, at_once: None
                )
                for number in range(32)
            ]
            tracemalloc.start()
            try:
                for subscriber in subscribers:
                    subscriber.begin_snapshot()
                    assert len(await subscriber.collect()) == 1  # the first page was read, and is not kept
                return tracemalloc.get_traced_memory()[0]
            finally:
                tracemalloc.stop()

        # the less of two times: other threads, and coverage, may take some memory meanwhile
        assert min(await read_first_pages(), await read_first_pages()) < 32 * 4096
