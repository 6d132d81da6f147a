"""The contract of a store (`_ports.Store`) as checks that run on any store."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import trio
import trio.testing

from trio_jobs._engine import events as ev
from trio_jobs._engine.jobs import State
from trio_jobs._engine.key_tombstones import KeyTombstone, key_name
from trio_jobs._errors import StoreError
from trio_jobs._ports import Store
from trio_jobs.testing._quiet_log import quiet_log
from trio_jobs.testing._store_events import bodies, completed, expect, numbers, opened, started, submitted
from trio_jobs.testing._store_prune_check import PRUNE_RULES
from trio_jobs.testing.report import CheckReport, collect

__all__ = ["check_store", "submitted"]

TIMEOUT: Final = 60.0  #: seconds for one check; long, so that a slow disk is no finding


async def check_store(
    make_store: Callable[[], Store], *, persistent: bool = True, raises: bool = True, log: bool = False
) -> CheckReport:
    """Check that a store keeps its contract, each rule with a new store.

    The checks run in real time, since a store may have a thread.

    Args:
        make_store: Returns an empty store that is not open, a new one each time.
        persistent: A store that is closed and opened again has its events. If false, what depends on that is left out.
        raises: Raise if there are findings. Otherwise the report has them.
        log: Let the log records of trio-jobs reach the handlers of `logging`.

    Returns:
        The report.

    Raises:
        ConformanceError: The store breaks a rule, and `raises` is true.

    Cancelled:
        The store of the current check may be left open.
    """

    def check(rule: Callable[[Store, bool], Awaitable[None]]) -> Callable[[], Awaitable[None]]:
        async def run() -> None:
            with trio.fail_after(TIMEOUT):
                await rule(make_store(), persistent)

        return run

    checks = [((rule.__doc__ or rule.__name__).splitlines()[0].rstrip("."), check(rule)) for rule in _RULES]
    left_out = () if persistent else ("that the events are there when the store is opened again: not persistent",)
    with quiet_log(log):
        report = await collect(f"the store {make_store()!r}", checks, left_out)
    return report.check() if raises else report


async def _check_restore(store: Store, persistent: bool) -> None:
    """Events are acknowledged in order, and the events of jobs are restored."""
    committed: list[ev.Event] = []
    restored = list(await store.open(committed.extend))
    expect(not restored, f"a new store restored {len(restored)} events")
    expect(
        store.last_seq == 0 and store.oldest == 1,
        f"a new store has last_seq {store.last_seq} and oldest {store.oldest}, not 0 and 1",
    )
    expect(bool(store.epoch), "a new store has no epoch")
    expect(store.trouble is None, f"a new store reports trouble: {store.trouble}")
    events: list[ev.Event] = [submitted(1, "a"), submitted(2, "b"), opened(3), completed(4, "a")]
    store.append(events[:2])
    store.append(events[2:])
    await store.committed(4)
    expect(bodies(committed) == bodies(events), f"events 1 to 4 were acknowledged as {numbers(committed)}")
    epoch = store.epoch
    await store.aclose()
    if not persistent:
        return
    restored = list(await store.open(committed.extend))
    of_jobs = [event for event in restored if isinstance(event, ev.JobEvent)]
    expect(
        bodies(of_jobs) == bodies([events[0], events[1], events[3]]),
        f"the events of jobs [1, 2, 4] were restored as {numbers(of_jobs)}",
    )
    expect(numbers(restored) == sorted(numbers(restored)), f"events were restored out of order: {numbers(restored)}")
    expect(store.last_seq == 4, f"after a restart last_seq is {store.last_seq}, not 4")
    expect(store.epoch == epoch, "the epoch changed at a restart")
    await store.aclose()


async def _check_acknowledgements(store: Store, persistent: bool) -> None:
    """Each event is acknowledged once, in order, before `committed` returns."""
    acknowledged: list[int] = []

    def on_commit(events: Sequence[ev.Event]) -> None:
        acknowledged.extend(event.seq for event in events)

    await store.open(on_commit)
    for seq in range(1, 501):
        store.append([submitted(seq)])
        if seq % 50 == 0:
            await store.committed(seq)
            expect(acknowledged[-1] >= seq, f"committed({seq}) returned before on_commit was called with event {seq}")
            expect(store.last_seq >= seq, f"committed({seq}) returned while last_seq was {store.last_seq}")
    await store.aclose()
    expect(
        acknowledged == list(range(1, 501)),
        f"of 500 events {len(acknowledged)} acknowledgements came, with {len(set(acknowledged))} different numbers, "
        f"{'in' if acknowledged == sorted(acknowledged) else 'out of'} order",
    )


async def _check_second_open(store: Store, persistent: bool) -> None:
    """A store that is open cannot be opened again."""
    await store.open(lambda events: None)
    try:
        await store.open(lambda events: None)
    except StoreError:
        pass
    else:
        raise AssertionError("a store that was open could be opened a second time")
    store.append([submitted(1)])
    await store.committed(1)
    await store.aclose()


async def _check_closed(store: Store, persistent: bool) -> None:
    """A closed store accepts no events; it can be closed twice."""
    await store.open(lambda events: None)
    await store.aclose()
    await store.aclose()
    try:
        store.append([submitted(1)])
    except StoreError:
        return
    raise AssertionError("a closed store accepted an event")


async def _check_pages(store: Store, persistent: bool) -> None:
    """Pages of events have no gap."""
    await store.open(lambda events: None)
    events = [submitted(seq) if seq % 3 else opened(seq) for seq in range(1, 61)]
    store.append(events)
    await store.committed(60)
    first, last, behind = await store.events(0, 10), await store.events(55, 10), await store.events(60, 10)
    expect(bodies(first) == bodies(events[:10]), f"the page of events 1 to 10 is {numbers(first)}")
    expect(bodies(last) == bodies(events[55:]), f"the page of events 56 to 60 is {numbers(last)}")
    expect(not list(behind), f"the page behind the last event is {numbers(behind)}")
    await store.aclose()


async def _check_job_events(store: Store, persistent: bool) -> None:
    """The events of one job are returned in order, also where those of other jobs were pruned in between."""
    await store.open(lambda events: None)
    events = [submitted(1, "a"), submitted(2, "b"), opened(3), started(4, "a"), completed(5, "b"), completed(6, "a")]
    store.append(events)
    await store.committed(6)
    found = await store.job_events("a", 1, 6)
    expect(numbers(found) == [1, 4, 6], f"of the events 1, 4 and 6 of job 'a' {numbers(found)} were returned")
    expect(bodies(found) == bodies([events[0], events[3], events[5]]), "the events of job 'a' were changed")
    found = await store.job_events("a", 1, 4)
    expect(numbers(found) == [1, 4], f"up to event 4 the events {numbers(found)} of job 'a' were returned, not 1 and 4")
    await store.prune({"b": (2, 5)})
    found = await store.job_events("a", 1, 6)
    expect(numbers(found) == [1, 4, 6], f"after job 'b' was pruned {numbers(found)} were returned, not 1, 4 and 6")
    await store.aclose()


async def _check_forgotten_job(store: Store, persistent: bool) -> None:
    """No event of a forgotten job is returned any more, and those behind its last one are."""
    await store.open(lambda events: None)
    store.append([submitted(1, "a"), submitted(2, "b"), completed(3, "a"), submitted(4, "c"), opened(5)])
    await store.committed(5)
    key = KeyTombstone(key_name("k", "é"), "a", "digest", State.COMPLETED, 1_700_000_000.5)
    await store.forget({"a": (1, 3)}, [key])
    expect(store.oldest == 4, f"after a job was forgotten whose last event is 3, oldest is {store.oldest}, not 4")
    rest = numbers(await store.events(3, 10))
    expect(rest == [4, 5], f"behind the last event of a forgotten job there are {rest}, not 4 and 5")
    try:
        await store.events(0, 10)
    except StoreError:
        pass
    else:
        raise AssertionError("events before the last one of a forgotten job can be read")
    store.append([ev.Forgotten(seq=6, at=1.0, jobs=("b",))])
    await store.committed(6)
    await store.aclose()
    if persistent:
        events = list(await store.open(lambda events: None))
        restored = {e.job for e in events if isinstance(e, ev.JobEvent)}
        expect(restored == {"b", "c"}, f"after job 'a' was forgotten {sorted(restored)} were restored, not 'b' and 'c'")
        decided = [e for e in events if isinstance(e, ev.Forgotten)]
        expect(numbers(decided) == [6], "a Forgotten whose job is kept was not restored, or one whose job is gone was")
        expect(list(store.keys()) == [key], "the tombstone of the forgotten job's key is not kept")
        await store.aclose()


async def _check_late_wait(store: Store, persistent: bool) -> None:
    """`committed` returns after `on_commit` was called, however late it is called."""
    acknowledged: list[ev.Event] = []
    await store.open(acknowledged.extend)
    for turns in range(20):
        store.append([submitted(turns + 1)])
        for _ in range(turns):
            await trio.lowlevel.checkpoint()
        await store.committed(turns + 1)
        expect(
            len(acknowledged) == turns + 1,
            f"committed({turns + 1}), called {turns} checkpoints after append, returned before on_commit was called",
        )
    await store.aclose()


async def _check_cancelled_wait(store: Store, persistent: bool) -> None:
    """Cancelling `committed` does not take the events back."""
    acknowledged: list[ev.Event] = []
    await store.open(acknowledged.extend)
    with trio.CancelScope() as scope:
        scope.cancel()
        store.append([submitted(1)])
        await store.committed(1)
    store.append([submitted(2)])
    await store.committed(2)
    expect(numbers(acknowledged) == [1, 2], f"events 1 and 2 were acknowledged as {numbers(acknowledged)}")
    await store.aclose()


async def _check_numbering(store: Store, persistent: bool) -> None:
    """Event numbers continue after a restart, and a close commits what was appended."""
    if not persistent:
        return
    for life in range(3):
        restored = list(await store.open(lambda events: None))
        expect(len(restored) == 2 * life, f"after {life} restarts {len(restored)} events were restored, not {2 * life}")
        store.append([submitted(store.last_seq + 1), submitted(store.last_seq + 2)])
        await store.aclose()


_RULES = (
    _check_restore,
    _check_acknowledgements,
    _check_second_open,
    _check_closed,
    _check_pages,
    _check_job_events,
    _check_forgotten_job,
    *PRUNE_RULES,
    _check_late_wait,
    _check_cancelled_wait,
    _check_numbering,
)
