"""Streams over the wire (P8): no gaps over cuts, no delay by frozen clients, an end when the server stops."""

from __future__ import annotations

import random
import socket as socket_
import sys
import textwrap
from collections import deque
from typing import Any

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock

from support.processes import Process
from support.server import OWNER, Bench, Raw, bench, handshake, make_service, patient
from support.waiting import deadline
from trio_jobs import MemoryStore
from trio_jobs._engine import events as ev
from trio_jobs._runtime.queue import runtime_of
from trio_jobs._server.server import serve


class Follower:
    """Follows a stream over any number of connections, going on where the last one was cut."""

    def __init__(self, **filters: Any) -> None:
        self.filters = filters
        self.got: list[int] = []
        self.seq = 0
        self.epoch = ""

    async def follow(self, b: Bench, until: int, cut_after: int | None, rest: random.Random) -> bool:
        """True when event `until` has been passed; False when cut after so many bytes were read."""
        client = await b.raw()
        if not self.epoch:
            self.epoch = (await client.ask("server.hello"))["epoch"]
        answer = await client.ask("jobs.subscribe", subscription="s", after=self.seq, epoch=self.epoch, **self.filters)
        assert answer["seq"] == self.seq
        read = 0
        while self.seq < until:
            message = await client.next_notification()
            read += 1
            params = message["params"]
            assert params["subscription"] == "s"
            if message["method"] == "jobs.event":
                self.got.append(params["seq"])
            assert params["seq"] >= self.seq
            self.seq = params["seq"]
            if cut_after is not None and read >= cut_after:
                if rest.random() < 0.5:
                    client.reset()
                else:
                    await client.stream.aclose()
                return False
        await client.say_goodbye()
        return True


@settings(max_examples=15)
@given(
    st.lists(st.integers(1, 400), max_size=8),
    st.sampled_from([{}, {"kinds": ["double"]}, {"states": ["completed", "failed"]}]),
    st.integers(0, 2**32),
)
def test_p8_streams_joined_over_cuts_equal_the_events_of_the_queue(
    cuts: list[int], filters: dict[str, Any], seed: int
) -> None:
    async def main() -> None:
        chance = random.Random(seed)
        async with bench(make_service(buffer=500), limits=patient(messages=10**6, frames=10**6)) as b:
            follower = Follower(**filters)

            async def work() -> None:
                for i in range(300):
                    await b.queue.submit("double" if chance.random() < 0.7 else "wait", 0)
                    if i % 50 == 0:
                        await trio.sleep(0.001)

            async with trio.open_nursery() as nursery:
                nursery.start_soon(work)
                for cut in cuts:
                    if await follower.follow(b, 700, cut, chance):
                        break
            while b.queue.statistics().jobs["completed"] < 300:  # type: ignore[index]
                await trio.lowlevel.checkpoint()
            last = b.queue.statistics().seq
            assert await follower.follow(b, last, None, chance)
            journal = [event async for event in _until(b, last)]
            assert follower.got == [event.seq for event in journal if _fits(b, event, filters)]

    trio.run(main)


async def _until(b: Bench, last: int) -> Any:
    stream = b.queue.events(after=0)
    while stream.seq < last:
        yield await anext(stream)


def _fits(b: Bench, event: ev.Event, filters: dict[str, Any]) -> bool:
    if not filters:
        return True
    if not isinstance(event, ev.JobEvent):
        return False
    if "kinds" in filters:
        return b.queue.get(event.job).kind in filters["kinds"]
    return isinstance(event, ev.Completed | ev.Failed)


async def test_a_subscriber_to_dropped_events_is_refused_and_takes_a_snapshot() -> None:
    store = MemoryStore(stream=50)
    async with make_service(buffer=5000).open(store=store) as queue, serve(queue, port=0, tokens=[OWNER]) as server:
        b = Bench(queue, server)
        client = await b.raw()
        # fill the ring and the store's stream past the first events
        for i in range(2000):
            await queue.submit("double", i)
        while queue.statistics().jobs["completed"] < 2000:  # type: ignore[index]
            await trio.lowlevel.checkpoint()
        hello = await client.ask("server.hello")
        assert hello["oldest"] > 1000
        refused = await client.ask("jobs.subscribe", subscription="s", after=3, epoch=hello["epoch"])
        assert refused["error"]["code"] == -32010
        assert refused["error"]["data"]["oldest"] == hello["oldest"]
        answer = await client.ask("jobs.subscribe", subscription="s", snapshot=True)
        jobs = []
        while True:
            notification = (await client.next_notification())["params"]
            jobs += notification["jobs"]
            if notification["last"]:
                break
        assert len(jobs) == 2000
        assert all(job["seq"] <= answer["seq"] for job in jobs)
        await client.say_goodbye()


async def test_a_stream_that_falls_behind_the_retained_events_gets_lagged_and_a_snapshot() -> None:
    async with (
        make_service(buffer=5000).open(store=MemoryStore(stream=50)) as queue,
        serve(queue, port=0, tokens=[OWNER], limits=patient()) as server,
    ):
        runtime_of(queue).feed._ring = deque(maxlen=20)
        client = await Bench(queue, server).raw()
        await client.ask("jobs.subscribe", subscription="s")
        for i in range(1500):  # without giving the feed or the pump a turn to keep up
            queue.submit_nowait("double", i)
        while queue.statistics().jobs["completed"] < 1500:  # type: ignore[index]
            await trio.lowlevel.checkpoint()
        seen: list[int] = []
        gaps: list[int] = []
        jobs: dict[str, int] = {}
        position = 0
        while position < queue.statistics().seq:
            notification = await client.next_notification()
            params = notification["params"]
            match notification["method"]:
                case "jobs.event":
                    seen.append(params["seq"])
                    position = params["seq"]
                case "jobs.lagged":
                    gaps += range(params["from"], params["to"] + 1)
                case "jobs.snapshot":
                    jobs.update({job["id"]: job["seq"] for job in params["jobs"]})
                case _:
                    position = params["seq"]
        await client.say_goodbye()
        assert gaps
        assert sorted(seen + gaps) == list(range(3, queue.statistics().seq + 1))
        assert seen == sorted(seen)
        assert len(jobs) == 1500


def small_window(port: int) -> socket_.socket:
    """A client whose kernel takes in as little as it may, so that not reading is felt at once."""
    s = socket_.socket()
    s.setsockopt(socket_.SOL_SOCKET, socket_.SO_RCVBUF, 4096)
    s.connect(("127.0.0.1", port))
    s.setblocking(False)
    return s


async def frozen_client(b: Bench) -> Raw:
    client = Raw(trio.SocketStream(trio.socket.from_stdlib_socket(small_window(b.port))))
    await client.send(handshake())
    await client.read_head()
    await client.ask("jobs.subscribe", subscription="s")
    return client


async def test_a_client_that_reads_nothing_is_reset_while_the_others_are_served(network_clock: MockClock) -> None:
    async with bench(make_service(buffer=100_000), limits=patient(write_timeout=0.5)) as b:
        frozen = await frozen_client(b)
        healthy = await b.raw()
        await healthy.ask("jobs.subscribe", subscription="s", states=["completed"])
        with deadline("the client that takes nothing is reset"):
            while b.server.connections > 1:
                for _ in range(200):
                    job = b.queue.submit_nowait("double", 1).job_id
                while (await healthy.next_notification())["params"].get("job") != job:
                    pass
                network_clock.jump(0.1)  # what is sent to the healthy one, it has read
        with pytest.raises((trio.BrokenResourceError, EOFError)):
            while True:
                await frozen.frame()
        await frozen.stream.aclose()
        healthy.reset()
        while b.queue.statistics().jobs["pending"]:  # type: ignore[index]
            await trio.lowlevel.checkpoint()


async def test_all_clients_get_1001_when_the_server_stops() -> None:
    codes: list[int] = []
    async with make_service().open() as queue, trio.open_nursery() as nursery:
        async with serve(queue, port=0, tokens=[OWNER]) as server:
            b = Bench(queue, server)
            clients = [await b.raw() for _ in range(50)]
            for client in clients:
                await client.ask("jobs.subscribe", subscription="s", snapshot=True)

            async def read(client: Raw) -> None:
                codes.append(await client.close_code())
                await client.stream.aclose()

            for client in clients:
                nursery.start_soon(read, client)
            await trio.testing.wait_all_tasks_blocked(0.01)
    assert codes == [1001] * 50


async def test_a_cancelled_server_closes_with_1001() -> None:
    async with make_service().open() as queue, trio.open_nursery() as nursery:
        codes: list[int] = []

        async def read(client: Raw) -> None:
            codes.append(await client.close_code())
            await client.stream.aclose()

        with trio.CancelScope() as scope:
            async with serve(queue, port=0, tokens=[OWNER]) as server:
                nursery.start_soon(read, await Bench(queue, server).raw())
                await trio.testing.wait_all_tasks_blocked()
                scope.cancel()
                await trio.sleep_forever()
    assert codes == [1001]


async def test_the_block_s_own_error_is_raised_bare() -> None:
    async with make_service().open() as queue:
        with pytest.raises(ValueError, match="mine"):
            async with serve(queue, port=0, tokens=[OWNER]):
                raise ValueError("mine")


async def test_a_thousand_clients_get_1001(monkeypatch: pytest.MonkeyPatch) -> None:
    """The clients live in a process of their own: two thousand sockets in one would be its limit, not the server's.

    How long that takes, benchmarks/frozen.py tells.
    """
    monkeypatch.setattr("trio_jobs._server.server.STOP_TIMEOUT", 300.0)
    program = textwrap.dedent("""
        import asyncio, sys, websockets
        async def one(url, headers, ready):
            calm = {"open_timeout": None, "ping_interval": None}
            async with websockets.connect(url, subprotocols=["trio-jobs.v1"], additional_headers=headers, **calm) as s:
                ready()
                try:
                    while True: await s.recv()
                except websockets.ConnectionClosed as closed:
                    return closed.rcvd.code if closed.rcvd else None
        async def main():
            url, secret = sys.argv[1:]
            left = 1000
            def ready():
                nonlocal left
                left -= 1
                if not left: print("ready", flush=True)
            tasks = [asyncio.create_task(one(url, {"Authorization": "Bearer " + secret}, ready)) for _ in range(1000)]
            print(sorted(await asyncio.gather(*tasks)).count(1001), flush=True)
        asyncio.run(main())
    """)
    async with make_service().open() as queue:
        async with serve(queue, port=0, tokens=[OWNER], limits=patient()) as server:
            process = Process([sys.executable, "-c", program, server.url, OWNER.secret])
            assert await trio.to_thread.run_sync(process.out.line, 120) == "ready\n"
            assert server.connections == 1000
    done = await trio.to_thread.run_sync(process.finish)
    assert done.stdout == "1000\n", done.stderr


@pytest.mark.parametrize("own_job", [False, True])
async def test_frozen_clients_delay_no_other_client(own_job: bool) -> None:
    """Each event reaches every client that reads before the next is made, while those that do not read stay.

    How late, with a thousand of them, benchmarks/frozen.py tells.
    """
    service = make_service(buffer=1000)
    async with bench(service, limits=patient(write_timeout=3600.0)) as b:
        b.server._listeners[0].setsockopt(socket_.SOL_SOCKET, socket_.SO_SNDBUF, 4096)
        ice = [await frozen_client(b) for _ in range(10)]
        # more than the kernels take for who does not read
        for i in range(200):
            await b.queue.result((await b.queue.submit("double", i)).job_id)

        def connections_with_unsent() -> list[Any]:
            return [connection for connection in b.server._open if connection._ready]

        with deadline("what the clients that do not read have not taken"):
            while len(stalled := connections_with_unsent()) < len(ice):
                await trio.sleep(0.001)
        await b.queue.pause("so that the jobs can be watched before anything happens to them")
        jobs = [(await b.queue.submit("double", i)).job_id for i in range(40)]
        healthy = [await b.raw() for _ in jobs]
        for client, job in zip(healthy, jobs, strict=True):
            await client.ask("jobs.subscribe", subscription="s", **({"jobs": [job]} if own_job else {}))
        await b.queue.resume()
        for client, job in zip(healthy, jobs, strict=True):
            params: dict[str, Any] = {}
            while (params.get("type"), params.get("job")) != ("completed", job):
                params = (await client.next_notification())["params"]
        assert connections_with_unsent() == stalled
        assert b.server.connections == len(ice) + len(healthy)
        for client in healthy:
            await client.say_goodbye()
        for client in ice:
            client.reset()
