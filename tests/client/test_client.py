"""The Python client against a real server; a proxy between them cuts, or the server is started anew."""

from __future__ import annotations

import itertools
import random
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from math import inf
from typing import Any

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock

import trio_jobs
from support.proxy import Proxy
from support.waiting import deadline
from trio_jobs import Gap, MemoryStore, Service, Snapshot, State, Token, TrioClock, events
from trio_jobs._client import reconnect

OWNER = Token("owner-" + "0" * 20, "ann", "control")
WATCHER = Token("watcher-" + "0" * 20, "wes", "watch")


def make_service(**changes: Any) -> Service:
    service = Service(buffer=1000, **changes)

    @service.handler
    async def double(number: int) -> int:
        return number * 2

    @service.handler
    async def fail(why: str) -> None:
        raise trio_jobs.Fail(why)

    @service.handler
    async def forever(name: str) -> None:
        await trio.sleep_forever()

    return service


@asynccontextmanager
async def served(service: Service | None = None, **changes: Any) -> AsyncIterator[tuple[trio_jobs.Queue, str]]:
    limits = trio_jobs.ServerLimits(messages=10**6, messages_per_second=10**6)
    arguments = {"port": 0, "tokens": [OWNER, WATCHER], "limits": limits, **changes}
    store = arguments.pop("store", None)
    async with (service or make_service()).open(store=store) as queue, trio_jobs.serve(queue, **arguments) as server:
        yield queue, server.url


async def test_a_job_is_submitted_and_its_result_comes_back() -> None:
    async with served() as (_, url), trio_jobs.connect(url, token=OWNER.secret) as client:
        receipt = await client.submit("double", 21, key="k")
        assert receipt.created
        assert await client.result(receipt.job_id) == 42
        assert not (await client.submit("double", 21, key="k")).created
        job = await client.get(receipt.job_id)
        assert (job.state, job.payload, job.by) == (State.COMPLETED, b"21", "ann")
        assert [found.id for found in await client.list(state=State.COMPLETED)] == [receipt.job_id]
        assert (await client.statistics()).jobs[State.COMPLETED] == 1
        assert (await client.hello()).name == "ann"
        assert client.epoch


async def test_the_queue_s_own_exceptions_come_back() -> None:
    async with served() as (_, url), trio_jobs.connect(url, token=OWNER.secret) as client:
        with pytest.raises(trio_jobs.JobNotFound):
            await client.get("none")
        with pytest.raises(trio_jobs.UsageError):
            await client.submit("double", "text")
        failed = await client.submit("fail", "because")
        with pytest.raises(trio_jobs.JobFailed, match="because"):
            await client.result(failed.job_id)
        await client.submit("double", 1, key="k")
        with pytest.raises(trio_jobs.KeyConflict):
            await client.submit("double", 2, key="k")
        running = await client.submit("forever", "x")
        later = await client.submit("double", 1)
        assert await client.cancel(later.job_id) == "cancelled"
        with pytest.raises(trio_jobs.JobCancelled):
            await client.result(later.job_id)
        with pytest.raises(trio_jobs.InvalidState):
            await client.retry(running.job_id)
        assert await client.retry(failed.job_id) in ("pending", "processing", "failed"), "a new run, or its end"
        assert await client.cancel(running.job_id) == "requested"


async def test_times_are_aware_and_delays_are_seconds() -> None:
    async with served() as (_, url), trio_jobs.connect(url, token=OWNER.secret) as client:
        later = await client.submit("double", 1, delay=3600, deadline_at=datetime.now(UTC) + timedelta(hours=2))
        assert later.state is State.SCHEDULED
        with pytest.raises(trio_jobs.UsageError):
            await client.submit("double", 1, due_at=datetime(2030, 1, 1))
        with pytest.raises(trio_jobs.UsageError):
            await client.submit("double", 1, due_at=datetime.now(UTC), delay=1)


async def test_seconds_do_not_depend_on_the_clock_of_the_client(mock_clock: MockClock) -> None:
    """The clock of the server is years behind that of this process. The seconds count from the call on, and in this
    test none passes until the server has it."""
    clock = TrioClock(epoch=1_000_000_000.0)
    async with (
        make_service().open(clock=clock) as queue,
        trio_jobs.serve(queue, port=0, tokens=None) as server,
        trio_jobs.connect(server.url) as client,
    ):
        delayed = queue.get((await client.submit("double", 1, delay=60)).job_id)
        expiring = queue.get((await client.submit("double", 1, delay=60, deadline_after=90)).job_id)
        assert delayed.due_at is not None
        assert (delayed.due_at - delayed.submitted_at).total_seconds() == 60
        assert expiring.deadline_at is not None
        assert (expiring.deadline_at - expiring.submitted_at).total_seconds() == 90
        with pytest.raises(trio_jobs.UsageError, match="the deadline must be in the future"):
            await client.submit("double", 1, deadline_after=0)
        for wrong in (-1.0, float("nan"), float("inf"), 1e12):
            with pytest.raises(trio_jobs.UsageError, match="delay"):
                await client.submit("double", 1, delay=wrong)


async def test_a_full_line_is_waited_for_or_refused() -> None:
    service = Service(buffer=1)

    @service.handler
    async def nothing(number: int) -> None:
        pass

    async with served(service) as (_, url), trio_jobs.connect(url, token=OWNER.secret) as client:
        await client.pause("full")
        await client.submit("nothing", 1)
        with pytest.raises(trio_jobs.QueueFull):
            for _ in range(3):
                await client.submit("nothing", 3, wait=0)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.submit, "nothing", 4)
            await client.resume()
        await client.drain()
        with pytest.raises(trio_jobs.QueueClosed):
            await client.submit("nothing", 5)
        with pytest.raises(trio_jobs.UsageError, match="undrain"):
            await client.resume()
        await client.undrain()
        assert (await client.health()).ok


async def test_a_wrong_token_is_told_before_the_block_begins() -> None:
    async with served() as (_, url):
        with pytest.raises(trio_jobs.PermissionDenied):
            async with trio_jobs.connect(url, token="x" * 30):
                pass
        async with trio_jobs.connect(url, token=WATCHER.secret) as client:
            with pytest.raises(trio_jobs.PermissionDenied, match="token of scope operate"):
                await client.submit("double", 1)


async def test_no_server_is_told_within_the_time_for_it() -> None:
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        port = nobody.getsockname()[1]
    with pytest.raises(trio_jobs.ConnectionFailed, match="no server answers"):
        async with trio_jobs.connect(f"ws://127.0.0.1:{port}/ws", connect_timeout=0.2):
            pass


async def test_the_block_s_own_error_comes_out_bare() -> None:
    async with served() as (_, url):
        with pytest.raises(ValueError, match="mine"):
            async with trio_jobs.connect(url, token=OWNER.secret):
                raise ValueError("mine")


async def test_updates_are_what_happens_from_the_block_s_beginning() -> None:
    async with served() as (_, url), trio_jobs.connect(url, token=OWNER.secret) as client:
        async with client.subscribe(states=[State.COMPLETED]) as subscription:
            ids = [(await client.submit("double", i)).job_id for i in range(3)]
            got = [await anext(subscription) for _ in range(3)]
            assert [update.job for update in got if isinstance(update, events.Completed)] == ids
            assert subscription.epoch == client.epoch
            assert subscription.seq == got[-1].seq  # type: ignore[union-attr]
        async with client.subscribe(after=0, epoch=client.epoch, jobs=[ids[1]]) as subscription:
            types = [(await anext(subscription)).type for _ in range(3)]  # type: ignore[union-attr]
            assert types == ["submitted", "started", "completed"]
        with pytest.raises(trio_jobs.UsageError):
            async with client.subscribe(jobs=[]):
                pass


async def test_a_snapshot_comes_first_and_the_stream_behind_it() -> None:
    async with served() as (queue, url), trio_jobs.connect(url, token=OWNER.secret) as client:
        for i in range(700):
            await queue.submit("double", i)
        async with client.subscribe(snapshot=True) as subscription:
            known: dict[str, State] = {}
            while not known or any(state is not State.COMPLETED for state in known.values()) or len(known) < 700:
                match await anext(subscription):
                    case Snapshot() as page:
                        if page.first:
                            known.clear()
                        known.update((job.id, job.state) for job in page.jobs)
                    case events.JobEvent() as event if event.state:
                        known[event.job] = event.state


async def test_a_slow_reader_holds_up_neither_the_client_nor_itself() -> None:
    """More comes than the buffer holds; it is fetched again once it is wanted."""
    async with (
        served() as (queue, url),
        trio_jobs.connect(url, token=OWNER.secret) as client,
        client.subscribe(after=0) as subscription,
    ):
        for i in range(900):
            await queue.submit("double", i)
        while (await client.statistics()).jobs[State.COMPLETED] < 900:
            pass
        last = (await client.hello()).seq
        seqs: list[int] = []
        while not seqs or seqs[-1] < last:
            update = await anext(subscription)
            assert isinstance(update, events.Event)
            seqs.append(update.seq)
            assert len(subscription._receiver) <= 1001
        assert seqs == list(range(1, last + 1))


@settings(max_examples=10)
@given(st.lists(st.integers(50, 60_000), max_size=6), st.integers(0, 2**32))
def test_updates_survive_cuts_anywhere_without_gap_or_duplicate(cuts: list[int], seed: int) -> None:
    async def main() -> None:
        reconnect.FIRST_WAIT = 0.001  # cuts within one handshake after the other would each double the wait
        chance = random.Random(seed)
        proxy = Proxy()
        async with served() as (queue, url), trio.open_nursery() as nursery:
            proxy.target = int(url.split(":")[2].split("/")[0])
            nursery.start_soon(proxy.run)
            async with trio_jobs.connect(proxy.url, token=OWNER.secret) as client:
                async with client.subscribe() as subscription:
                    begun = subscription.seq or queue.statistics().seq

                    async def work() -> None:
                        for i in range(400):
                            await queue.submit("double", i)
                            if chance.random() < 0.05:
                                await trio.sleep(0.001)
                        await queue.submit("fail", "the end")

                    nursery.start_soon(work)
                    left = iter(cuts)
                    seqs: list[int] = []
                    with deadline("the last job has failed"):
                        while True:
                            if proxy.budget == float("inf"):
                                proxy.budget = next(left, float("inf"))
                            update = await anext(subscription)
                            if isinstance(update, events.Event):
                                seqs.append(update.seq)
                                if isinstance(update, events.Failed):
                                    break
                            else:
                                assert not isinstance(update, Gap)
                    assert seqs == list(range(begun + 1, seqs[-1] + 1))
                    assert client.reconnects <= proxy.cuts
            nursery.cancel_scope.cancel()

    first_wait = reconnect.FIRST_WAIT
    try:
        trio.run(main)
    finally:
        reconnect.FIRST_WAIT = first_wait


async def test_updates_go_on_over_a_restart_of_the_server_with_the_same_history() -> None:
    store, proxy = MemoryStore(), Proxy()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(proxy.run)
        async with served(store=store) as (queue, url):
            proxy.target = int(url.split(":")[2].split("/")[0])
            scope = trio.CancelScope()
            seqs: list[int] = []
            done = trio.Event()

            async def follow() -> None:
                async with (
                    trio_jobs.connect(proxy.url, token=OWNER.secret) as client,
                    client.subscribe(after=0) as subscription,
                ):
                    done.set()
                    async for update in subscription:
                        assert isinstance(update, events.Event)
                        seqs.append(update.seq)
                        if isinstance(update, events.Submitted) and update.key == "last":
                            scope.cancel()
                            return

            nursery.start_soon(follow)
            await done.wait()
            await queue.result((await queue.submit("double", 1)).job_id)
        async with served(store=store) as (queue, url):
            proxy.target = int(url.split(":")[2].split("/")[0])
            await queue.submit("double", 2, key="last")
            with scope, deadline("the event of the last job"):
                await trio.sleep_forever()
            assert seqs == list(range(1, seqs[-1] + 1))
        nursery.cancel_scope.cancel()


async def test_a_lost_history_is_told_and_followed_by_a_snapshot() -> None:
    proxy = Proxy()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(proxy.run)
        async with trio.open_nursery() as inner:
            stop = trio.Event()
            ready = trio.Event()

            async def first_life() -> None:
                async with served() as (queue, url):
                    proxy.target = int(url.split(":")[2].split("/")[0])
                    for i in range(5):
                        await queue.submit("double", i)
                    ready.set()
                    await stop.wait()

            inner.start_soon(first_life)
            await ready.wait()
            async with trio_jobs.connect(proxy.url, token=OWNER.secret) as client:
                async with client.subscribe(after=0) as subscription:
                    for _ in range(3):
                        await anext(subscription)
                    stop.set()
                    async with served() as (queue, url):
                        proxy.target = int(url.split(":")[2].split("/")[0])
                        await queue.submit("double", 7)
                        with deadline("a Gap, a snapshot and the job behind it"):
                            while not isinstance(update := await anext(subscription), Gap):
                                pass
                            assert update.new_history
                            assert update.epoch == queue.epoch == subscription.epoch
                            page = await anext(subscription)
                            assert isinstance(page, Snapshot)
                            assert (page.first, page.last, len(page.jobs)) == (True, True, 1)
                            job = (await client.submit("double", 8)).job_id
                            while not (isinstance(u := await anext(subscription), events.JobEvent) and u.job == job):
                                pass
        nursery.cancel_scope.cancel()


async def test_idempotent_requests_are_repeated_after_a_cut_and_others_raise() -> None:
    proxy = Proxy()
    async with served() as (queue, url), trio.open_nursery() as nursery:
        proxy.target = int(url.split(":")[2].split("/")[0])
        nursery.start_soon(proxy.run)
        async with trio_jobs.connect(proxy.url, token=OWNER.secret) as client:
            running = await client.submit("forever", "x")
            for cut in itertools.count(1):
                async with trio.open_nursery() as inner:
                    got: list[Any] = []

                    async def ask(got: list[Any] = got) -> None:
                        try:
                            got.append(await client.result(running.job_id))
                        except trio_jobs.JobCancelled:
                            got.append("cancelled")

                    inner.start_soon(ask)
                    await trio.testing.wait_all_tasks_blocked(0.02)
                    proxy.cut()
                    assert (await client.submit("double", 1, key=f"k{cut}")).created
                    if cut == 2:
                        await client.cancel(running.job_id)
                    else:
                        inner.cancel_scope.cancel()
                if cut == 2:
                    break
            assert got == ["cancelled"]
            assert client.reconnects == 2
            await queue.pause("")
            proxy.budget = 0
            with pytest.raises(trio_jobs.OutcomeUnknown, match="may or may not"):
                await client.submit("double", 1)
            await queue.resume()
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("reset", [False, True])
async def test_a_connection_that_is_closed_during_its_handshake_is_tried_again_at_once(
    reset: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a server does that is stopping; without a word, so that only the end of the stream tells."""
    monkeypatch.setattr(reconnect, "DIAL_TIMEOUT", inf)
    listener = (await trio.open_tcp_listeners(0, host="127.0.0.1"))[0]
    tries = 0
    tried = trio.Event()

    async def close(stream: trio.SocketStream) -> None:
        nonlocal tries
        tries += 1
        if tries == 4:
            tried.set()
        await stream.receive_some()
        if reset:
            stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")

    async def connect() -> None:
        url = f"ws://127.0.0.1:{listener.socket.getsockname()[1]}/ws"
        async with trio_jobs.connect(url, token=OWNER.secret, connect_timeout=inf):
            raise AssertionError("nobody is there")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, close, [listener])
        nursery.start_soon(connect)
        with deadline("the fourth try"):
            await tried.wait()
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def through_a_proxy(reconnect_timeout: float) -> AsyncIterator[tuple[trio_jobs.Client, Proxy]]:
    async with served() as (_, url), trio.open_nursery() as nursery:
        proxy = Proxy()
        proxy.target = int(url.split(":")[2].split("/")[0])
        nursery.start_soon(proxy.run)
        async with trio_jobs.connect(proxy.url, token=OWNER.secret, reconnect_timeout=reconnect_timeout) as client:
            yield client, proxy
        nursery.cancel_scope.cancel()


async def outage(client: trio_jobs.Client, proxy: Proxy) -> int:
    """No connection lives, none can be made, and the client knows. Gives where the server is."""
    server, proxy.target = proxy.target, 1
    proxy.cut()
    while client._session.current is not None:
        await client._session._changed.wait()
    return server


async def test_a_question_in_an_outage_raises_once_patience_is_at_its_end() -> None:
    async with through_a_proxy(0.05) as (client, proxy):
        server = await outage(client, proxy)
        with pytest.raises(trio_jobs.ConnectionFailed, match="no server answers"):
            await client.statistics()
        proxy.target = server
        await client._session.session(10)
        assert (await client.health()).ok


async def test_a_question_is_held_back_for_as_long_as_patience_lasts() -> None:
    async with through_a_proxy(60) as (client, proxy), trio.open_nursery() as nursery:
        server = await outage(client, proxy)
        nursery.start_soon(client.pause, "asked in the outage")
        await client._session._changed.wait()  # one more try has failed
        proxy.target = server
        await client._session.session(10)
    assert client.reconnects >= 1


async def test_updates_opened_in_an_outage_raise_bare_and_the_client_goes_on() -> None:
    async with through_a_proxy(0.05) as (client, proxy):
        server = await outage(client, proxy)
        with pytest.raises(trio_jobs.ConnectionFailed, match="no server answers"):
            async with client.subscribe():
                pass
        proxy.target = server
        await client._session.session(10)
        async with client.subscribe(kinds=["double"]) as subscription:
            await client.submit("double", 1)
            assert (await anext(subscription)).type == "submitted"  # type: ignore[union-attr]


async def test_a_stream_that_has_begun_outlives_patience() -> None:
    async with through_a_proxy(0.05) as (client, proxy), client.subscribe(kinds=["double"]) as subscription:
        server = await outage(client, proxy)
        client._router.start(subscription._receiver)  # as where a session was lost before the stream had begun on it
        with pytest.raises(trio_jobs.ConnectionFailed):
            await client.statistics()
        proxy.target = server
        await client._session.session(10)
        receipt = await client.submit("double", 1)
        assert (await anext(subscription)).job == receipt.job_id  # type: ignore[union-attr]
