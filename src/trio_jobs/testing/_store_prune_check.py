"""The rules of `check_store` about pruning."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import trio

from trio_jobs._engine import events as ev
from trio_jobs._engine.jobs import State
from trio_jobs._engine.key_tombstones import KeyTombstone, key_name
from trio_jobs._errors import StoreError
from trio_jobs._ports import Store
from trio_jobs.testing._store_events import completed, expect, numbers, opened, submitted

__all__ = ["PRUNE_RULES"]


async def _check_prune(store: Store, persistent: bool) -> None:
    """A pruned job is gone, and `oldest` says from where on the events are complete."""
    await store.open(lambda events: None)
    events: list[ev.Event] = [submitted(1, "a"), submitted(2, "b"), completed(3, "a")]
    events += [submitted(seq) for seq in range(4, 8)]
    store.append([*events, ev.Paused(seq=8, at=1.0), opened(9)])
    await store.committed(9)
    await _expect_complete(store)
    await store.prune({"a": (1, 3)})
    oldest = store.oldest
    await _expect_complete(store)
    await store.aclose()
    if persistent:
        restored = list(await store.open(lambda events: None))
        jobs = {e.job for e in restored if isinstance(e, ev.JobEvent)}
        expected = {"b", "job-4", "job-5", "job-6", "job-7"}
        expect(jobs == expected, f"after job 'a' was pruned {sorted(jobs)} were restored, not {sorted(expected)}")
        expect(any(isinstance(e, ev.Paused) for e in restored), "the pause was not restored")
        expect(any(isinstance(e, ev.SessionOpened) for e in restored), "the last event of the session was not restored")
        expect(store.last_seq == 9, f"after a restart last_seq is {store.last_seq}, not 9")
        expect(store.oldest >= oldest, f"at a restart oldest went back from {oldest} to {store.oldest}")
        await _expect_complete(store)
        await store.prune({"b": (2, 2), **{f"job-{seq}": (seq, seq) for seq in range(4, 8)}})
        await _expect_complete(store)
        await store.aclose()


async def _expect_complete(store: Store) -> None:
    """`events` returns all events from `oldest` on, and refuses to read before it."""
    oldest, last = store.oldest, store.last_seq
    if oldest > 1:
        try:
            await store.events(oldest - 2, 10)
        except StoreError:
            pass
        else:
            raise AssertionError(f"events({oldest - 2}, 10) returned although oldest is {oldest}")
    try:
        rest = numbers(await store.events(oldest - 1, 100))
    except StoreError as error:
        raise AssertionError(f"events({oldest - 1}, 100) raised although oldest is {oldest}: {error}") from error
    expect(
        rest == list(range(oldest, last + 1)),
        f"oldest is {oldest} of {last} events, and the events from there on are {rest}",
    )


async def _check_cancelled_prune(store: Store, persistent: bool) -> None:
    """A prune that is cancelled, or beside which events are appended, removes each job completely or not at all."""
    await store.open(lambda events: None)
    ended: set[str] = set()
    last = 0
    for checkpoints in range(5):  # after which the prune is cancelled
        names = [f"j{checkpoints}-{n}" for n in range(20)]
        spans = {name: (last + 1 + n, last + 21 + n) for n, name in enumerate(names)}
        store.append([submitted(span[0], name) for name, span in spans.items()])
        store.append([completed(span[1], name) for name, span in spans.items()])
        last += 40
        await store.committed(last)
        keys = [
            KeyTombstone(key_name("kind", name), name, "digest", State.COMPLETED, 1_700_000_000.5 + span[0])
            for name, span in spans.items()
        ]
        async with trio.open_nursery() as nursery:
            scope = trio.CancelScope()
            nursery.start_soon(_prune_in, scope, store, spans, keys)
            for _ in range(checkpoints):
                await trio.lowlevel.checkpoint()
                last += 1
                store.append([submitted(last)])
            scope.cancel()
        ended |= spans.keys()
    await store.aclose()
    if not persistent:
        return
    found: dict[str, int] = {}
    for event in await store.open(lambda events: None):
        if isinstance(event, ev.JobEvent):
            found[event.job] = found.get(event.job, 0) + 1
    halves = sorted(job for job in ended if found.get(job) == 1)
    expect(not halves, f"after a cancelled prune one of two events is left of the jobs {halves}")
    removed = sorted(ended - found.keys())
    kept = sorted(key.job for key in list(store.keys()))
    expect(removed == kept, f"cancelled prunes removed the jobs {removed}, and there are tombstones of {kept}")
    beside = len(found.keys() - ended)
    expect(beside == 10, f"10 jobs were appended beside prunes, and {beside} of them are restored")
    await store.aclose()


async def _prune_in(
    scope: trio.CancelScope, store: Store, spans: Mapping[str, tuple[int, int]], keys: Sequence[KeyTombstone]
) -> None:
    with scope:
        await store.prune(spans, keys)


async def _check_key_tombstones(store: Store, persistent: bool) -> None:
    """The tombstones of pruned jobs' keys are kept until they are stale."""
    await store.open(lambda events: None)
    expect(not list(store.keys()), f"a new store has {len(list(store.keys()))} key tombstones")
    store.append([submitted(seq) for seq in range(1, 5)])
    await store.committed(4)
    one, two, three = (
        KeyTombstone(key_name("kind", text), f"job-{n}", "digest", state, 1_700_000_000.5 + n)
        for n, (text, state) in enumerate(
            [("A-1", State.COMPLETED), ("ключ \ud800", State.FAILED), ("", State.CANCELLED)], 1
        )
    )
    await store.prune({"job-1": (1, 1), "job-2": (2, 2)}, [one, two])
    await store.prune({"job-3": (3, 3)}, [three], [one])
    await store.prune({}, [], [one])
    await store.aclose()
    if persistent:
        restored = list(await store.open(lambda events: None))
        expect(numbers(restored) == [4], f"events {numbers(restored)} were restored, of which only 4 is not pruned")
        tombstones = list(store.keys())
        expect(
            tombstones == [two, three],
            f"the key tombstones are of {[key.job for key in tombstones]}, not of ['job-2', 'job-3']",
        )
        await store.prune({}, [], [two, three])
        await store.aclose()
        await store.open(lambda events: None)
        expect(not list(store.keys()), f"{len(list(store.keys()))} stale key tombstones were restored")
        await store.aclose()


async def _check_interleaved_prune(store: Store, persistent: bool) -> None:
    """Jobs are pruned whole and alone, even where their events are interleaved."""
    if not persistent:
        return
    await store.open(lambda events: None)
    # 120 jobs that were all submitted before the first one ended, with events of the queue in between
    events: list[ev.Event] = [submitted(n + 1, f"j{n}") for n in range(120)]
    spans: dict[str, tuple[int, int]] = {}
    for n in reversed(range(120)):
        seq = events[-1].seq + 1
        events += [opened(seq), ev.Paused(seq=seq + 1, at=1.0), completed(seq + 2, f"j{n}")]
        spans[f"j{n}"] = (n + 1, seq + 2)
    store.append(events)
    await store.committed(events[-1].seq)
    await store.prune({f"j{n}": spans[f"j{n}"] for n in range(0, 120, 2)})
    left = await _reopened(store)
    of_jobs = [event.job for event in left if isinstance(event, ev.JobEvent)]
    expected = sorted([f"j{n}" for n in range(1, 120, 2)] * 2)
    expect(
        sorted(of_jobs) == expected,
        f"after 60 of 120 jobs were pruned, {len(of_jobs)} events of {len(set(of_jobs))} jobs are left, not 120 of 60",
    )
    await store.prune({f"j{n}": spans[f"j{n}"] for n in range(1, 120, 2)})
    left = await _reopened(store)
    session, pause = events[-3].seq, events[-2].seq
    expect(
        numbers(left) == [session, pause],
        f"of all jobs pruned the events {numbers(left)} are left, not the last of the session and the pause "
        f"{[session, pause]}",
    )
    last = store.last_seq
    store.append([ev.Resumed(seq=last + 1, at=2.0), submitted(last + 2, "last")])
    await store.committed(last + 2)
    await store.prune({"last": (last + 2, last + 2)})
    left = await _reopened(store)
    expect(
        numbers(left) == [session, last + 1],
        f"the events {numbers(left)} are left, not the last of the session and the last resume {[session, last + 1]}",
    )
    # a pause that one prune retains, and a job of the next prune that was submitted before it
    events = [submitted(last + 3, "short"), submitted(last + 4, "long"), ev.Paused(seq=last + 5, at=3.0)]
    events += [completed(last + 6, "short"), completed(last + 7, "long")]
    store.append(events)
    await store.committed(last + 7)
    await store.prune({"short": (last + 3, last + 6)})
    await store.prune({"long": (last + 4, last + 7)})
    store.append([ev.Resumed(seq=last + 8, at=4.0), submitted(last + 9, "late")])
    store.append([ev.SessionOpening(seq=last + 10, at=4.0, session=1, reason="start"), completed(last + 11, "late")])
    await store.committed(last + 11)
    await store.prune({"late": (last + 9, last + 11)})
    left = await _reopened(store)
    expect(
        numbers(left) == [last + 8, last + 10],
        f"the events {numbers(left)} are left, not the resume and the opening {[last + 8, last + 10]}, which take the "
        "place of the retained pause and the retained event of the session",
    )
    await store.aclose()


async def _reopened(store: Store) -> list[ev.Event]:
    await store.aclose()
    return list(await store.open(lambda events: None))


PRUNE_RULES: Final = (_check_prune, _check_cancelled_prune, _check_key_tombstones, _check_interleaved_prune)
