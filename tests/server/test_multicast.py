"""Subscribers at the same event (P8): many get the same bytes, and each still gets every event in order, once."""

from __future__ import annotations

import socket
from collections.abc import Sequence

import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from support.server import OWNER, Bench, Raw, bench, handshake, make_service, patient
from trio_jobs._engine import events as ev
from trio_jobs._runtime.queue import runtime_of

PATIENT = patient(messages=10**6, frames=10**6)


def publish(b: Bench, count: int) -> None:
    """Events of nobody's job, told to the feed's readers at once."""
    feed = runtime_of(b.queue).feed
    feed.publish([ev.Due(seq=feed.seq + i, at=1.5, job="nobody's") for i in range(1, count + 1)])


async def narrow_client(b: Bench) -> Raw:
    """Neither side's kernel keeps more than a few kilobytes."""
    s = socket.socket()
    s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
    s.connect(("127.0.0.1", b.port))
    s.setblocking(False)
    client = Raw(trio.SocketStream(trio.socket.from_stdlib_socket(s)))
    await client.send(handshake(OWNER))
    await client.read_head()
    return client


async def settled(b: Bench) -> None:
    await runtime_of(b.queue).feed.run_once()
    await trio.testing.wait_all_tasks_blocked()


async def test_subscribers_with_the_same_filter_share_one_reader_and_each_gets_all_events() -> None:
    async with bench() as b:
        clients = [await b.raw() for _ in range(5)]
        for client in clients:
            await client.ask("jobs.subscribe", subscription="s")
        await settled(b)
        assert (runtime_of(b.queue).feed.readers, len(b.server.shared_events.of("control").multicasts)) == (
            2,
            5,
        )
        for _ in range(3):
            publish(b, 2)
            await settled(b)
        for client in clients:
            assert [(await client.next_notification())["params"]["seq"] for _ in range(6)] == list(range(3, 9))
            assert client.notifications == []
        assert len(b.server.shared_events.of("control").multicasts) == 5
        for client in clients:
            await client.say_goodbye()
    assert len(b.server.shared_events.of("control").multicasts) == 0
    assert b.server.shared_events.of("control").multicasts._multicasts == {}


async def test_subscribers_with_another_filter_or_certain_jobs_share_no_multicast() -> None:
    async with bench(metrics=False) as b:
        client = await b.raw()
        await client.ask("jobs.subscribe", subscription="a")
        await client.ask("jobs.subscribe", subscription="b")
        await client.ask("jobs.subscribe", subscription="c", kinds=["double"])
        await client.ask("jobs.subscribe", subscription="d", jobs=["x"])
        await settled(b)
        assert (len(b.server.shared_events.of("control").multicasts._multicasts), runtime_of(b.queue).feed.readers) == (
            3,
            4,
        )
        await client.ask("jobs.unsubscribe", subscription="a")
        assert len(b.server.shared_events.of("control").multicasts._multicasts) == 2
        receipt = await b.queue.submit("double", 1)
        await b.queue.result(receipt.job_id)
        told = [await client.next_notification() for _ in range(6)]
        assert [t["params"]["seq"] for t in told if t["params"]["subscription"] == "b"] == [3, 4, 5]
        assert [t["params"]["seq"] for t in told if t["params"]["subscription"] == "c"] == [3, 4, 5]
        await client.say_goodbye()


async def test_a_client_that_reads_nothing_leaves_the_multicast_and_returns_when_it_has_caught_up() -> None:
    async with bench(limits=PATIENT, metrics=False) as b:
        b.server._listeners[0].setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        frozen, healthy = await narrow_client(b), await b.raw()
        for client in (frozen, healthy):
            await client.ask("jobs.subscribe", subscription="s")
        await settled(b)
        assert len(b.server.shared_events.of("control").multicasts) == 2
        for _ in range(300):
            publish(b, 1)
            await runtime_of(b.queue).feed.run_once()
            assert (await healthy.next_notification())["params"]["seq"] == runtime_of(b.queue).feed.seq
        assert len(b.server.shared_events.of("control").multicasts) == 1
        seqs = [(await frozen.next_notification())["params"]["seq"] for _ in range(300)]
        assert seqs == list(range(3, 303))
        await settled(b)
        publish(b, 1)
        await settled(b)
        assert len(b.server.shared_events.of("control").multicasts) == 2
        for client in (frozen, healthy):
            assert (await client.next_notification())["params"]["seq"] == 303
            await client.say_goodbye()


async def test_a_burst_larger_than_one_write_is_sent_whole() -> None:
    async with bench(limits=PATIENT) as b:
        clients = [await b.raw() for _ in range(3)]
        for client in clients:
            await client.ask("jobs.subscribe", subscription="s")
        await settled(b)
        publish(b, 2000)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(settled, b)
            for client in clients:
                assert [(await client.next_notification())["params"]["seq"] for _ in range(2000)] == list(
                    range(3, 2003)
                )
                await client.say_goodbye()


async def test_a_multicast_that_fell_off_the_ring_ends_and_each_client_continues_from_the_store() -> None:
    async with bench(make_service(buffer=5000), limits=PATIENT, metrics=False) as b:
        clients = [await b.raw() for _ in range(3)]
        for client in clients:
            await client.ask("jobs.subscribe", subscription="s")
        await settled(b)
        for i in range(2000):  # without giving the feed a turn
            b.queue.submit_nowait("double", i)
        while b.queue.statistics().jobs["completed"] < 2000:  # type: ignore[index]
            await trio.lowlevel.checkpoint()
        last = b.queue.statistics().seq
        for client in clients:
            assert [(await client.next_notification())["params"]["seq"] for _ in range(last - 2)] == list(
                range(3, last + 1)
            )
            await client.say_goodbye()


steps = st.one_of(
    st.tuples(st.just("publish"), st.integers(1, 250)),
    st.tuples(st.just("read"), st.integers(0, 3)),
    st.tuples(st.just("ask"), st.integers(0, 3)),
    st.tuples(st.just("settle"), st.just(0)),
)


@settings(max_examples=20)
@given(st.lists(steps, max_size=40))
def test_a_client_that_falls_behind_and_returns_gets_every_event_in_order_once(
    plan: Sequence[tuple[str, int]],
) -> None:
    """Four clients behind narrow sockets, who read, ask and stop reading as they please."""

    async def main() -> None:
        async with bench(limits=PATIENT) as b:
            b.server._listeners[0].setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
            clients = [await narrow_client(b) for _ in range(4)]
            got: list[list[int]] = [[] for _ in clients]
            for client in clients:
                await client.ask("jobs.subscribe", subscription="s")

            async def read(i: int) -> None:
                seq = got[i][-1] if got[i] else 2
                while seq < runtime_of(b.queue).feed.seq:
                    told = await clients[i].next_notification()
                    seq = told["params"]["seq"]
                    if told["method"] == "jobs.event":
                        got[i].append(seq)

            for what, number in plan:
                match what:
                    case "publish":
                        publish(b, number)
                        await runtime_of(b.queue).feed.run_once()
                    case "read":
                        await runtime_of(b.queue).feed.run_once()
                        await read(number)
                    case "ask":
                        assert (await clients[number].ask("server.hello"))["name"] == "ann"
                    case _:
                        await settled(b)
            publish(b, 1)
            await settled(b)
            for i, client in enumerate(clients):
                await read(i)
                assert got[i] == list(range(3, runtime_of(b.queue).feed.seq + 1))
                await client.say_goodbye()

    trio.run(main)
