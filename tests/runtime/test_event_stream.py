"""P8, inside the process: a reader sees every committed event it asked for, in order, once, or is told that it
cannot."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

import trio_jobs
from support.rig import HostKind, make_rig
from trio_jobs import EventStream, Lagged, MemoryStore
from trio_jobs._engine.events import Event
from trio_jobs._runtime.feed import PAGE, RING
from trio_jobs._runtime.queue import runtime_of


async def read_all(stream: EventStream) -> list[Event]:
    return [event async for event in stream]


async def test_p8_a_reader_sees_every_event_in_order_until_the_queue_has_stopped(
    kind: HostKind, autojump_clock: MockClock
) -> None:
    rig = make_rig(kind)
    seen: list[list[Event]] = []

    async def read(stream: EventStream) -> None:
        seen.append(await read_all(stream))

    async with trio.open_nursery() as nursery, rig.open_jumping() as queue:
        nursery.start_soon(read, queue.events())
        nursery.start_soon(read, queue.events(after=0))
        for n in range(10):
            await queue.submit("work", str(n))
    from_now, from_the_start = sorted(seen, key=len)
    assert [event.seq for event in from_the_start] == list(range(1, queue.statistics().seq + 1))
    assert from_now == from_the_start[2:], "all but the opening of the SDK, which came before"


async def test_p8_readers_of_a_job_see_its_events_alone(kind: HostKind, clock: MockClock) -> None:
    rig = make_rig(kind)
    async with rig.open() as queue:
        jobs = [await queue.submit("work", what) for what in "ab"]
        stream = queue.events(after=0, jobs={jobs[1].job_id})
    names = [type(event).__name__ for event in await read_all(stream)]
    assert names == ["Submitted", "Started", "Completed"]


async def test_p8_a_stream_opened_after_the_stop_ends_at_once(kind: HostKind, clock: MockClock) -> None:
    rig = make_rig(kind)
    async with rig.open() as queue:
        pass
    assert await read_all(queue.events()) == []
    assert len(await read_all(queue.events(after=2))) == 1


async def test_p8_readers_get_a_whole_burst_in_few_wake_ups(autojump_clock: MockClock) -> None:
    rig = make_rig("trio", settings={"buffer": 1000})
    seen: list[int] = []
    woken = 0

    async def read(stream: EventStream) -> None:
        nonlocal woken
        wake = stream._cursor.on_available

        def count() -> None:
            nonlocal woken
            woken += 1
            wake()

        stream._cursor.on_available = count
        noticed = 0
        async for event in stream:
            seen.append(event.seq)
            if woken > noticed:
                noticed = woken
                autojump_clock.jump(0.001)  # what it takes to wake the reader

    async with trio.open_nursery() as nursery, rig.open() as queue:
        nursery.start_soon(read, queue.events(after=0))
        await wait_all_tasks_blocked()
        for n in range(500):
            await queue.submit("work", str(n))
        await queue.drain()
    assert seen == list(range(1, len(seen) + 1))
    assert len(seen) == 4 + 3 * 500, "and the opening, the session, the drain"
    assert woken < 20


async def test_p8_a_slow_reader_delays_no_other_and_continues_from_the_store(autojump_clock: MockClock) -> None:
    rig = make_rig("trio", settings={"buffer": 1000})
    store = MemoryStore(stream=3 * RING)
    async with rig.open(store=store) as queue:
        slow = queue.events(after=0)
        assert (await anext(slow)).seq == 1
        while queue.statistics().seq < 2 * RING:
            await queue.result((await queue.submit("work", "a")).job_id)
        rest = 0
        expected = 2
        while expected <= 2 * RING:
            assert (await anext(slow)).seq == expected
            expected += 1
            rest += 1
        assert rest > RING + PAGE
        assert slow.seq == 2 * RING


async def test_p8_a_reader_whose_events_are_gone_gets_lagged_and_can_continue_behind_the_gap(
    autojump_clock: MockClock,
) -> None:
    rig = make_rig("trio")
    store = MemoryStore(stream=100)
    async with rig.open(store=store) as queue:
        slow = queue.events(after=0)
        while queue.statistics().seq < RING + 500:
            await queue.result((await queue.submit("work", "a")).job_id)
        last = queue.statistics().seq
        with pytest.raises(Lagged) as caught:
            await anext(slow)
        assert (caught.value.after, caught.value.oldest) == (0, last - 99)
        assert str(caught.value) == (
            f"events 1 to {last - 100} are not retained any more; read the jobs again, then continue after {last - 100}"
        )
        assert (await anext(slow)).seq == last - 99


@pytest.mark.parametrize("wanted", [True, False])
@pytest.mark.parametrize("ring", [10, RING])
async def test_other_tasks_run_while_a_reader_reads_what_it_has_missed(
    autojump_clock: MockClock, wanted: bool, ring: int
) -> None:
    """From the store or from the ring; also if none of the events that it reads is one of those that it follows."""
    rig = make_rig("trio", settings={"buffer": 1000})
    turns = 0

    async def count_turns() -> None:
        nonlocal turns
        while True:
            await trio.lowlevel.checkpoint()
            turns += 1

    async with rig.open_jumping() as queue:
        runtime_of(queue).feed.set_ring_size(ring)
        await queue.pause()
        for n in range(9 * PAGE // 2):
            await queue.submit("work", str(n))
        last = await queue.submit("work", "last")
        stream = queue.events(after=0, jobs=None if wanted else {last.job_id})
        async with trio.open_nursery() as nursery:
            nursery.start_soon(count_turns)
            await trio.lowlevel.checkpoint()
            turns = 0
            async for event in stream:
                if event.seq >= 4 * PAGE:
                    break
            assert turns >= 3
            nursery.cancel_scope.cancel()
        await queue.resume()


async def test_p8_a_reader_in_a_cancelled_scope_reads_nothing(kind: HostKind, clock: MockClock) -> None:
    rig = make_rig(kind)
    async with rig.open() as queue:
        stream = queue.events(after=0)
        with trio.CancelScope() as scope:
            scope.cancel()
            await anext(stream)
        assert scope.cancelled_caught
        assert (await anext(stream)).seq == 1


async def test_p8_a_reader_that_sleeps_and_is_cancelled_is_forgotten(kind: HostKind, autojump_clock: MockClock) -> None:
    rig = make_rig(kind)
    async with rig.open_jumping() as queue:
        stream = queue.events()
        with trio.move_on_after(1):
            await anext(stream)
        assert runtime_of(queue).feed.readers == 0
        receipt = await queue.submit("work", "a")
        event = await anext(stream)
        assert getattr(event, "job", None) == receipt.job_id


async def test_a_second_reader_of_a_stream_is_refused_and_the_first_one_goes_on(autojump_clock: MockClock) -> None:
    got: list[Event] = []

    async def read() -> None:
        got.append(await anext(stream))

    async with make_rig("trio").open_jumping() as queue:
        stream = queue.events()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(read)
            await wait_all_tasks_blocked()
            for _ in range(2):
                with pytest.raises(trio.BusyResourceError, match="make one for each task"):
                    await anext(stream)
            await queue.submit("work", "a")
            with trio.fail_after(5):
                while not got:
                    await trio.sleep(1)
            nursery.cancel_scope.cancel()
    assert [type(event).__name__ for event in got] == ["Submitted"]


async def test_the_store_refuses_events_that_it_has_dropped() -> None:
    store = MemoryStore(stream=2)
    assert (store.oldest, store.last_seq) == (1, 0)
    await store.open(lambda events: None)
    for seq in range(1, 6):
        store.append([trio_jobs._engine.events.SessionOpened(seq=seq, at=0.0, session=1)])
    assert (store.oldest, store.last_seq) == (4, 5)
    with pytest.raises(trio_jobs.StoreError, match="events before 4 are gone, 2 was asked for"):
        await store.events(1, 10)
    assert [event.seq for event in await store.events(3, 10)] == [4, 5]
    assert [event.seq for event in await store.events(3, 1)] == [4]
    assert list(await store.events(5, 10)) == []
    assert repr(store) == "<MemoryStore events 4 to 5>"
