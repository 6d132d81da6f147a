"""The feed (P8): every matching event after the one named, in order, once; or a plain word that it cannot be had."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import msgspec
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from trio_jobs import MemoryStore, Service
from trio_jobs._engine import events as ev
from trio_jobs._engine.event_cursor import Cursor, Filter
from trio_jobs._engine.fold import begin
from trio_jobs._engine.jobs import JobRecord, State
from trio_jobs._engine.transitions import STATE_AFTER
from trio_jobs._errors import Lagged
from trio_jobs._event_stream import EventStream
from trio_jobs._runtime import feed as module
from trio_jobs._runtime.feed import RING, Feed


class Kept:
    """A store that has some of the events."""

    durable = False
    epoch = "e"

    def __init__(self) -> None:
        self.events_: list[ev.Event] = []
        self.oldest = 1
        self.reads = 0

    @property
    def last_seq(self) -> int:
        return self.events_[-1].seq if self.events_ else 0

    async def events(self, after: int, limit: int) -> Sequence[ev.Event]:
        self.reads += 1
        await trio.lowlevel.checkpoint()
        return self.events_[after : after + limit]


KINDS = {f"j{i}": f"kind{i % 2}" for i in range(100)}


def record_of(job: str) -> JobRecord | None:
    kind = KINDS.get(job)
    return None if kind is None else begin(ev.Submitted(seq=1, at=0.0, job=job, kind=kind, payload=msgspec.Raw(b"1")))


def make(store: Kept | None = None) -> tuple[Feed, Kept]:
    store = Kept() if store is None else store
    return Feed(store, record_of), store  # type: ignore[arg-type] # only what a feed needs of a store


def started(seq: int, job: str) -> ev.Started:
    return ev.Started(seq=seq, at=float(seq), job=job, attempt=1)


def publish(feed: Feed, store: Kept, jobs: Sequence[str]) -> None:
    first = store.last_seq + 1
    events = [started(first + i, job) for i, job in enumerate(jobs)]
    store.events_.extend(events)
    feed.publish(events)


async def take_until(subscription: EventStream, seq: int) -> list[int]:
    got: list[int] = []
    async for event in subscription:
        got.append(event.seq)
        if event.seq >= seq:
            break
    return got


async def test_a_reader_that_sleeps_is_woken_by_its_first_event() -> None:
    feed, store = make()
    got: list[int] = []

    async def read() -> None:
        got.extend(await take_until(EventStream(feed, 0), 2))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        nursery.start_soon(feed.run)
        await trio.testing.wait_all_tasks_blocked()
        publish(feed, store, ["a", "b"])
        await trio.testing.wait_all_tasks_blocked()
        assert got == [1, 2]
        nursery.cancel_scope.cancel()


async def notified(clock: trio.testing.MockClock, costs: Sequence[float], gap: float) -> list[tuple[float, float]]:
    """When a reader was notified, and of what time the first event was that it had not been notified of.

    Args:
        costs: The seconds that it takes the reader to run, each time that it is notified. Then it takes none.
        gap: The seconds between two events, of which there are 200.
    """
    feed, store = make()
    told: list[tuple[float, float]] = []
    published: list[float] = []
    left = iter(costs)

    def notice() -> None:
        if published:
            told.append((trio.current_time(), published[0]))
            published.clear()
        clock.jump(next(left, 0.0))

    cursor = Cursor(feed, 0, Filter(), notice)
    cursor.attach()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(feed.run)
        for _ in range(200):
            published.append(trio.current_time())
            publish(feed, store, ["a"])
            await trio.sleep(gap)
        await trio.sleep(1)
        nursery.cancel_scope.cancel()
    assert not published, "each event was notified"
    return told


async def test_readers_that_cost_nothing_are_notified_of_each_event_at_once(
    autojump_clock: trio.testing.MockClock,
) -> None:
    told = await notified(autojump_clock, [], 0.001)
    assert len(told) == 200
    assert all(at == of for at, of in told)


async def test_a_few_notifications_that_cost_little_go_out_at_once(autojump_clock: trio.testing.MockClock) -> None:
    told = await notified(autojump_clock, [0.0004] * 4, 0.002)
    assert all(at == of for at, of in told[:4])


@pytest.mark.parametrize("cost", [0.0002, 0.001, 0.002])
async def test_notifying_takes_a_tenth_of_the_time_at_most(cost: float, autojump_clock: trio.testing.MockClock) -> None:
    told = await notified(autojump_clock, [cost] * 10_000, 0.001)
    took = told[-1][0] - told[0][0]
    assert len(told) > 2
    assert cost * (len(told) - 1) <= module.SHARE * (took + module.BURST) + cost


@pytest.mark.parametrize("cost", [0.002, 0.02, 3.0])
async def test_a_notification_is_delayed_by_25_ms_at_most(cost: float, autojump_clock: trio.testing.MockClock) -> None:
    told = await notified(autojump_clock, [cost] * 10, 0.001)
    assert max(at - of for at, of in told) <= cost + module.LONGEST + 1e-9


async def test_each_page_that_a_reader_reads_is_part_of_what_notifying_took(
    autojump_clock: trio.testing.MockClock,
) -> None:
    feed, store = make()
    pages = 10
    times: list[float] = []
    all_read = trio.Event()

    async def read() -> None:
        async for event in EventStream(feed, 0):
            if event.seq % module.PAGE == 0:
                autojump_clock.jump(0.001)  # what it takes to handle a page
            if event.seq == pages * module.PAGE:
                all_read.set()
            if event.seq >= pages * module.PAGE:
                times.append(trio.current_time())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(feed.run)
        nursery.start_soon(read)
        await trio.testing.wait_all_tasks_blocked()
        publish(feed, store, ["a"] * pages * module.PAGE)
        await all_read.wait()
        publish(feed, store, ["a"])
        await trio.sleep(1)
        nursery.cancel_scope.cancel()
    first, second = times
    assert second - first >= module.LONGEST - 1e-9, "ten pages were a tenth of 100 ms"


async def test_many_readers_are_woken_with_pauses_in_which_a_reader_can_leave() -> None:
    feed, store = make()
    told: list[int] = []
    cursors = [Cursor(feed, 0, Filter(), lambda i=i: told.append(i)) for i in range(3)]  # type: ignore[misc]
    for cursor in cursors:
        cursor.weight = module.AT_ONCE
        cursor.attach()
    publish(feed, store, ["a"])
    assert repr(feed) == "<Feed at event 1, 3 readers>"

    async with trio.open_nursery() as nursery:
        nursery.start_soon(feed.run_once)
        await trio.lowlevel.checkpoint()
        await trio.lowlevel.checkpoint()
        before = list(told)
        cursors[2].detach()
    assert before
    assert 2 not in told[len(before) :]
    for cursor in cursors[:2]:
        cursor.detach()


@pytest.mark.parametrize("events", [1, 31, 200, 4000])
async def test_the_readers_woken_in_one_turn_of_the_loop_have_a_bounded_number_of_events(events: int) -> None:
    """A reader handles all new events in one step, so a thousand readers of a burst stop the loop for long."""
    feed, store = make()
    woken = [0]
    cursors = [Cursor(feed, 0, Filter(), lambda: woken.append(woken.pop() + 1)) for _ in range(100)]
    for cursor in cursors:
        cursor.attach()
    publish(feed, store, ["a"] * events)

    class Turns(trio.abc.Instrument):
        def after_io_wait(self, timeout: float) -> None:
            woken.append(0)

    turns = Turns()
    trio.lowlevel.add_instrument(turns)
    await feed.run_once()
    trio.lowlevel.remove_instrument(turns)
    assert sum(woken) == len(cursors)
    assert max(woken) <= module.AT_ONCE
    assert max(woken) == 1 or max(woken) * events <= 2 * module.AT_ONCE * module.EVENTS_AT_ONCE
    for cursor in cursors:
        cursor.detach()


async def test_an_event_of_one_job_wakes_only_its_readers() -> None:
    feed, store = make()
    cursors = [Cursor(feed, 0, Filter([f"j{i}"]), lambda: None) for i in range(50)]
    for cursor in cursors:
        cursor.attach()
        assert cursor.read_nowait() == ()
    publish(feed, store, ["j7"])
    assert feed.affected_readers() == [cursors[7]]
    assert [event.seq for event in cursors[7].read_nowait() or ()] == [1]
    publish(feed, store, ["j8", "j7"])
    assert feed.affected_readers() == [cursors[8], cursors[7]]
    # what lay before its own event is not looked at again
    assert [event.seq for event in cursors[7].read_nowait() or ()] == [3]
    assert cursors[0].position == 3
    for cursor in cursors:
        cursor.detach()
    assert (feed.readers, feed._by_job, feed._broad) == (0, {}, {})


async def test_readers_of_jobs_read_the_store_when_the_ring_has_overflowed() -> None:
    feed, store = make()
    cursor = Cursor(feed, 0, Filter(["j1"]), lambda: None)
    cursor.attach()
    cursor.read_nowait()
    publish(feed, store, ["j1"] + ["j2"] * (RING + 10))
    assert feed.affected_readers() == [cursor]
    assert cursor.read_nowait() is None
    assert next(event.seq for event in await cursor.read()) == 1


async def test_a_reader_that_fell_off_the_ring_continues_from_the_store_in_pages() -> None:
    feed, store = make()
    publish(feed, store, ["a"] * (RING + 1000))
    subscription = EventStream(feed, 0)
    assert await take_until(subscription, RING + 1000) == list(range(1, RING + 1001))
    assert store.reads == 5


async def test_a_reader_whose_events_are_gone_gets_lagged_and_continues_behind_the_gap() -> None:
    feed, store = make()
    publish(feed, store, ["a"] * (RING + 1000))
    store.oldest = 500
    subscription = EventStream(feed, 3)
    with pytest.raises(Lagged) as caught:
        await anext(subscription)
    assert (caught.value.after, caught.value.oldest) == (3, 500)
    assert (await anext(subscription)).seq == 500


async def test_a_filter_by_kind_gives_lagged_for_events_of_a_pruned_job() -> None:
    feed, store = make()
    publish(feed, store, ["j0", "gone", "j2"])
    subscription = EventStream(feed, 0, Filter(kinds=["kind0"]))
    assert (await anext(subscription)).seq == 1
    with pytest.raises(Lagged):
        await anext(subscription)
    publish(feed, store, ["j4"])
    assert (await anext(subscription)).seq == 4


async def test_readers_end_when_the_feed_is_closed_and_all_is_read() -> None:
    feed, store = make()
    got: list[int] = []

    async def read() -> None:
        got.extend([event.seq async for event in EventStream(feed, 0)])

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        await trio.testing.wait_all_tasks_blocked()
        publish(feed, store, ["a", "b"])
        feed.close()
    assert got == [1, 2]
    assert feed.readers == 0


async def test_a_cancelled_reader_loses_nothing() -> None:
    feed, store = make()
    subscription = EventStream(feed, 0)
    publish(feed, store, ["a", "b"])
    assert (await anext(subscription)).seq == 1
    with trio.CancelScope() as scope:
        scope.cancel()
        await anext(subscription)
    assert scope.cancelled_caught
    assert (await anext(subscription)).seq == 2
    with trio.move_on_after(0):
        await anext(subscription)
    assert feed.readers == 0


def fits(event: ev.JobEvent, wanted: Filter, kind: str) -> bool:
    return (
        (wanted.jobs is None or event.job in wanted.jobs)
        and (wanted.kinds is None or kind in wanted.kinds)
        and (wanted.states is None or STATE_AFTER.get(type(event)) in wanted.states)
    )


some_jobs = st.lists(st.sampled_from(["j0", "j1", "j2", "j3"]), max_size=8)
some_filters = st.builds(
    Filter,
    st.none() | st.sets(st.sampled_from(["j0", "j1", "j9"]), min_size=1),
    st.none() | st.sets(st.sampled_from(["kind0", "kind1"]), min_size=1),
    st.none() | st.frozensets(st.sampled_from([State.PROCESSING, State.PENDING]), min_size=1),
)


@given(
    st.lists(st.one_of(some_jobs, st.integers(0, 4)), max_size=30),
    st.lists(some_filters, min_size=5, max_size=5),
    st.integers(2, 12),
)
def test_each_reader_gets_its_events_in_order_once_at_any_pace_and_filter(
    steps: list[list[str] | int], filters: list[Filter], ring: int
) -> None:
    """A step publishes, or lets one of the readers read. The ring is small, so that readers fall off it."""

    async def main() -> None:
        feed, store = make()
        feed._ring = deque(maxlen=ring)
        got: list[list[int]] = [[] for _ in filters]
        ready: set[int] = set(range(5))
        cursors = [Cursor(feed, 0, wanted, lambda i=i: ready.add(i)) for i, wanted in enumerate(filters)]  # type: ignore[misc]
        for cursor in cursors:
            cursor.attach()

        async def read(i: int) -> None:
            ready.discard(i)
            while events := await cursors[i].read():
                for event in events:
                    if given_back := event.seq % 5 == 0 and event is not events[0]:
                        cursors[i].unread(event)
                        break
                    got[i] += [event.seq] if cursors[i].wants(event) else []
                if not given_back and cursors[i].idle:
                    break

        for step in steps:
            if isinstance(step, int):
                if step in ready:
                    await read(step)
                await feed.run_once()
            elif step:
                publish(feed, store, step)
        await feed.run_once()
        for i in list(ready):
            await read(i)
        for i, wanted in enumerate(filters):
            expected = [
                event.seq
                for event in store.events_
                if isinstance(event, ev.JobEvent) and fits(event, wanted, KINDS.get(event.job, ""))
            ]
            assert got[i] == expected
            assert cursors[i].position == feed.seq

    trio.run(main)


async def test_a_filter_selects_the_events_of_the_queue_itself() -> None:
    service = Service()

    @service.handler
    async def double(number: int) -> int:
        return number * 2

    @service.handler
    async def halve(number: int) -> int:
        return number // 2

    async with service.open(store=MemoryStore()) as queue:
        ids = [(await queue.submit(kind, 4)).job_id for kind in (double, halve, double)]
        for job_id in ids:
            await queue.result(job_id)
        completed = queue.events(after=0, kinds=["double"], states=["completed"])
        one = queue.events(after=0, jobs=[ids[1]])
    assert [event.job async for event in completed if isinstance(event, ev.JobEvent)] == [ids[0], ids[2]]
    assert [type(event) async for event in one] == [ev.Submitted, ev.Started, ev.Completed]
    assert queue.epoch
