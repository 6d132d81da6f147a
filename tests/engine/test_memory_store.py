"""The memory store: what it returns, in which order, and when it raises."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import pytest
from engine_bench import PAYLOAD, Bench, error

from support.moments import without_moments
from trio_jobs._engine import events as ev
from trio_jobs._engine.jobs import EndedBy, JobRecord, State
from trio_jobs._engine.key_tombstones import KeyTombstone
from trio_jobs._errors import StoreError
from trio_jobs._runtime.event_log import EventLog
from trio_jobs._stores.memory import MemoryStore


def submitted(seq: int, job: str) -> ev.Submitted:
    return ev.Submitted(seq=seq, at=float(seq), job=job, kind="kind", payload=PAYLOAD)


def started(seq: int, job: str) -> ev.Started:
    return ev.Started(seq=seq, at=float(seq), job=job, attempt=1)


def replayed(records: Iterable[JobRecord]) -> list[JobRecord]:
    return [*map(without_moments, records)]


class Committed:
    """What the store has reported as committed."""

    def __init__(self) -> None:
        self.events: list[ev.Event] = []

    def __call__(self, events: Sequence[ev.Event]) -> None:
        self.events.extend(events)


async def opened(stream: int = 10_000) -> tuple[MemoryStore, Committed]:
    store, committed = MemoryStore(stream=stream), Committed()
    assert list(await store.open(committed)) == []
    return store, committed


async def test_an_event_is_committed_before_append_returns() -> None:
    store, committed = await opened()
    events = [submitted(1, "a"), submitted(2, "b"), started(3, "a")]
    store.append(events[:2])
    assert committed.events == events[:2]
    assert store.last_seq == 2
    store.append(events[2:])
    assert committed.events == events
    await store.committed(3)


async def test_a_new_store_is_empty() -> None:
    store, _ = await opened()
    assert (store.last_seq, store.oldest) == (0, 1)
    assert list(await store.events(0, 10)) == []
    assert not store.durable


async def test_a_reopened_store_returns_every_event_in_order() -> None:
    store, _ = await opened()
    events: list[ev.Event] = [submitted(1, "a"), submitted(2, "b"), started(3, "b"), started(4, "a")]
    store.append(events)
    await store.aclose()
    assert list(await store.open(Committed())) == events
    assert store.last_seq == 4


async def test_pruned_events_are_not_returned() -> None:
    store, _ = await opened()
    store.append([submitted(1, "a"), submitted(2, "b"), started(3, "a")])
    await store.prune({"a": (1, 3), "never known": (2, 2)})
    await store.aclose()
    assert list(await store.open(Committed())) == [submitted(2, "b")]
    assert store.last_seq == 3


async def test_of_the_queue_events_the_last_pause_and_the_last_of_the_session_are_returned() -> None:
    store, _ = await opened()
    pause, again = ev.Paused(seq=2, at=2.0, reason="x"), ev.Paused(seq=4, at=4.0, reason="y")
    opened_again = ev.SessionOpened(seq=6, at=1.0, session=2)
    store.append([ev.SessionOpened(seq=1, at=1.0, session=1), pause, ev.Resumed(seq=3, at=3.0), again])
    store.append([submitted(5, "a"), opened_again, ev.Stuck(seq=7, at=5.0, culprit="a")])
    await store.aclose()
    assert list(await store.open(Committed())) == [again, submitted(5, "a"), opened_again]


async def test_a_page_of_events_has_no_gap_and_at_most_limit() -> None:
    store, _ = await opened()
    events: list[ev.Event] = [submitted(seq, f"job {seq}") for seq in range(1, 8)]
    store.append(events)
    assert list(await store.events(0, 3)) == events[:3]
    assert list(await store.events(3, 100)) == events[3:]
    assert list(await store.events(7, 100)) == []
    assert list(await store.events(99, 100)) == []


async def test_reading_before_the_oldest_event_raises() -> None:
    store, _ = await opened(stream=3)
    events: list[ev.Event] = [submitted(seq, f"job {seq}") for seq in range(1, 8)]
    store.append(events)
    assert store.oldest == 5
    assert list(await store.events(4, 100)) == events[4:]
    with pytest.raises(StoreError, match="events before 5 are gone, 4 was asked for"):
        await store.events(3, 100)
    assert repr(store) == "<MemoryStore events 5 to 7>"


async def test_the_events_of_a_job_outlive_the_stream() -> None:
    store, _ = await opened(stream=1)
    store.append([submitted(1, "a"), submitted(2, "b")])
    await store.aclose()
    assert list(await store.open(Committed())) == [submitted(1, "a"), submitted(2, "b")]


async def test_two_queues_cannot_share_a_store() -> None:
    store, _ = await opened()
    with pytest.raises(StoreError, match="in use by another queue; close that one first"):
        await store.open(Committed())


async def test_a_closed_store_accepts_nothing_and_can_be_closed_twice() -> None:
    store, committed = await opened()
    await store.aclose()
    await store.aclose()
    with pytest.raises(StoreError, match="closed"):
        store.append([submitted(1, "a")])
    assert committed.events == []
    assert store.last_seq == 0


async def test_a_store_that_does_not_reopen_keeps_only_the_stream() -> None:
    store, committed = MemoryStore(stream=2, reopens=False), Committed()
    assert list(await store.open(committed)) == []
    store.append([submitted(1, "a"), submitted(2, "b"), submitted(3, "c")])
    assert [event.seq for event in await store.events(1, 10)] == [2, 3]
    await store.prune({"a": (1, 1)}, [KeyTombstone(b"name", "a", "digest", State.COMPLETED, 1.0)])
    assert list(store.keys()) == []
    assert len(committed.events) == 3
    await store.aclose()
    with pytest.raises(StoreError, match="reopens=True"):
        await store.open(committed)


# the event log over it


class Listener:
    """Conforms to `LogListener`."""

    def __init__(self) -> None:
        self.committed: list[list[int]] = []

    def on_committed(self, events: Sequence[ev.Event]) -> None:
        self.committed.append([event.seq for event in events])

    def on_rejected(self, submit: ev.Submitted) -> None:
        raise AssertionError("a memory store rejects nothing")

    def on_broken(self, error: StoreError) -> None:
        raise AssertionError("a memory store does not break")


async def test_a_restored_event_log_has_the_same_projection() -> None:
    store = MemoryStore()
    event_log = EventLog(store, lambda: 0.0)
    await event_log.open(Listener())
    bench = Bench()
    bench.attempt(error(entered=True))
    bench.start(entered=True)
    event_log.append(bench.events)
    event_log.append([ev.Paused(seq=event_log.next_seq, at=1.0), submitted(event_log.next_seq + 1, "other")])
    await store.aclose()
    again = EventLog(store, lambda: 0.0)
    await again.open(Listener())
    assert replayed(again.projection.jobs.values()) == replayed(event_log.projection.jobs.values())
    assert again.projection.jobs["job"] == bench.job
    processing = [log.projection.by_state[State.PROCESSING] for log in (again, event_log)]
    assert replayed(processing[0]) == replayed(processing[1])
    assert again.projection.paused == event_log.projection.paused
    assert again.next_seq == event_log.next_seq == again.committed_seq + 1


async def test_an_event_log_without_its_pruned_jobs_continues_the_numbers() -> None:
    store = MemoryStore()
    event_log = EventLog(store, lambda: 0.0)
    await event_log.open(Listener())
    event_log.append([submitted(1, "a"), submitted(2, "b"), submitted(3, "c")])
    await store.prune({"a": (1, 1), "c": (3, 3)})
    await store.aclose()
    again = EventLog(store, lambda: 0.0)
    await again.open(Listener())
    assert list(again.projection.jobs) == ["b"]
    again.append([submitted(4, "d")])
    assert again.committed_seq == 4


async def test_committed_events_are_reported_to_the_listener_group_by_group() -> None:
    event_log = EventLog(MemoryStore(), lambda: 0.0)
    listener = Listener()
    await event_log.open(listener)
    event_log.append([submitted(1, "a"), started(2, "a")])
    event_log.append([])
    event_log.append([ev.Overdue(seq=3, at=3.0, job="a", attempt=1, limit=EndedBy.DEADLINE)])
    assert listener.committed == [[1, 2], [3]]
    assert (event_log.projection.seq, event_log.committed_seq) == (3, 3)


async def test_an_event_log_closes_its_store_once_and_only_if_it_opened_it() -> None:
    store = MemoryStore()
    first, second = EventLog(store, lambda: 0.0), EventLog(store, lambda: 0.0)
    await first.open(Listener())
    with pytest.raises(StoreError, match="in use"):
        await second.open(Listener())
    await second.aclose()
    first.append([submitted(1, "a")])
    await first.aclose()
    await second.open(Listener())
    await first.aclose()
    second.append([submitted(2, "b")])
    assert list(second.projection.jobs) == ["a", "b"]
