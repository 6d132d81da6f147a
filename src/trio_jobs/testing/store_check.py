"""The contract of a store (`_ports.Store`) as checks that run on any store."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Final

import msgspec
import trio
import trio.testing

from trio_jobs._engine import events as ev
from trio_jobs._engine.jobs import State
from trio_jobs._engine.key_tombstones import KeyTombstone, key_name
from trio_jobs._errors import StoreError
from trio_jobs._ports import Store
from trio_jobs.testing.report import CheckReport, collect

__all__ = ["check_store", "submitted"]

TIMEOUT: Final = 60.0  #: seconds for one check; long, so that a slow disk is no finding


async def check_store(make_store: Callable[[], Store], *, persistent: bool = True, raises: bool = True) -> CheckReport:
    """Check that a store keeps its contract, each rule with a new store.

    The checks run in real time, since a store may have a thread.

    Args:
        make_store: Returns an empty store that is not open, a new one each time.
        persistent: A store that is closed and opened again has its events. If false, what depends on that is left out.
        raises: Raise if there are findings. Otherwise the report has them.

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
    report = await collect(f"the store {make_store()!r}", checks, left_out)
    return report.check() if raises else report


def _expect(holds: bool, violation: str) -> None:
    """Raise `AssertionError` with `violation`, which says what happened, unless the rule holds."""
    if not holds:
        raise AssertionError(violation)


def submitted(seq: int, job: str | None = None, payload: bytes = b'{"n": 1}') -> ev.Submitted:
    """A `Submitted` event as a store receives it."""
    body = msgspec.Raw(payload)
    return ev.Submitted(seq=seq, at=1_700_000_000.25 + seq, job=job or f"job-{seq}", kind="k", payload=body, key="é")


def _completed(seq: int, job: str) -> ev.Completed:
    return ev.Completed(seq=seq, at=1_700_000_100.0, job=job, attempt=1, result=msgspec.Raw(b"null"))


def _opened(seq: int) -> ev.SessionOpened:
    return ev.SessionOpened(seq=seq, at=1.5, session=1)


async def _check_restore(store: Store, persistent: bool) -> None:
    """Events are acknowledged in order, and the events of jobs are restored."""
    committed: list[ev.Event] = []
    restored = list(await store.open(committed.extend))
    _expect(not restored, f"a new store restored {len(restored)} events")
    _expect(
        store.last_seq == 0 and store.oldest == 1,
        f"a new store has last_seq {store.last_seq} and oldest {store.oldest}, not 0 and 1",
    )
    _expect(bool(store.epoch), "a new store has no epoch")
    _expect(store.trouble is None, f"a new store reports trouble: {store.trouble}")
    events: list[ev.Event] = [submitted(1, "a"), submitted(2, "b"), _opened(3), _completed(4, "a")]
    store.append(events[:2])
    store.append(events[2:])
    await store.committed(4)
    _expect(_bodies(committed) == _bodies(events), f"events 1 to 4 were acknowledged as {_numbers(committed)}")
    epoch = store.epoch
    await store.aclose()
    if not persistent:
        return
    restored = list(await store.open(committed.extend))
    of_jobs = [event for event in restored if isinstance(event, ev.JobEvent)]
    _expect(
        _bodies(of_jobs) == _bodies([events[0], events[1], events[3]]),
        f"the events of jobs [1, 2, 4] were restored as {_numbers(of_jobs)}",
    )
    _expect(
        _numbers(restored) == sorted(_numbers(restored)), f"events were restored out of order: {_numbers(restored)}"
    )
    _expect(store.last_seq == 4, f"after a restart last_seq is {store.last_seq}, not 4")
    _expect(store.epoch == epoch, "the epoch changed at a restart")
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
            _expect(acknowledged[-1] >= seq, f"committed({seq}) returned before on_commit was called with event {seq}")
            _expect(store.last_seq >= seq, f"committed({seq}) returned while last_seq was {store.last_seq}")
    await store.aclose()
    _expect(
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
    events = [submitted(seq) if seq % 3 else _opened(seq) for seq in range(1, 61)]
    store.append(events)
    await store.committed(60)
    first, last, behind = await store.events(0, 10), await store.events(55, 10), await store.events(60, 10)
    _expect(_bodies(first) == _bodies(events[:10]), f"the page of events 1 to 10 is {_numbers(first)}")
    _expect(_bodies(last) == _bodies(events[55:]), f"the page of events 56 to 60 is {_numbers(last)}")
    _expect(not list(behind), f"the page behind the last event is {_numbers(behind)}")
    await store.aclose()


async def _check_prune(store: Store, persistent: bool) -> None:
    """A pruned job is gone, and `oldest` says from where on the events are complete."""
    await store.open(lambda events: None)
    events: list[ev.Event] = [submitted(1, "a"), submitted(2, "b"), _completed(3, "a")]
    events += [submitted(seq) for seq in range(4, 8)]
    store.append([*events, ev.Paused(seq=8, at=1.0), _opened(9)])
    await store.committed(9)
    await store.prune({"a": (1, 3)})
    oldest = store.oldest
    if oldest > 1:
        try:
            await store.events(oldest - 2, 10)
        except StoreError:
            pass
        else:
            raise AssertionError(f"events({oldest - 2}, 10) returned although oldest is {oldest}")
    rest = _numbers(await store.events(oldest - 1, 100))
    _expect(rest == list(range(oldest, 10)), f"oldest is {oldest} of 9 events, and the events from there on are {rest}")
    await store.aclose()
    if persistent:
        restored = list(await store.open(lambda events: None))
        jobs = {e.job for e in restored if isinstance(e, ev.JobEvent)}
        expected = {"b", "job-4", "job-5", "job-6", "job-7"}
        _expect(jobs == expected, f"after job 'a' was pruned {sorted(jobs)} were restored, not {sorted(expected)}")
        _expect(any(isinstance(e, ev.Paused) for e in restored), "the pause was not restored")
        _expect(store.last_seq == 9, f"after a restart last_seq is {store.last_seq}, not 9")
        _expect(store.oldest >= oldest, f"at a restart oldest went back from {oldest} to {store.oldest}")
        await store.aclose()


async def _check_key_tombstones(store: Store, persistent: bool) -> None:
    """The tombstones of pruned jobs' keys are kept until they are stale."""
    await store.open(lambda events: None)
    _expect(not list(store.keys()), f"a new store has {len(list(store.keys()))} key tombstones")
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
        _expect(_numbers(restored) == [4], f"events {_numbers(restored)} were restored, of which only 4 is not pruned")
        tombstones = list(store.keys())
        _expect(
            tombstones == [two, three],
            f"the key tombstones are of {[key.job for key in tombstones]}, not of ['job-2', 'job-3']",
        )
        await store.prune({}, [], [two, three])
        await store.aclose()
        await store.open(lambda events: None)
        _expect(not list(store.keys()), f"{len(list(store.keys()))} stale key tombstones were restored")
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
        events += [_opened(seq), ev.Paused(seq=seq + 1, at=1.0), _completed(seq + 2, f"j{n}")]
        spans[f"j{n}"] = (n + 1, seq + 2)
    store.append(events)
    await store.committed(events[-1].seq)
    await store.prune({f"j{n}": spans[f"j{n}"] for n in range(0, 120, 2)})
    left = await _reopened(store)
    of_jobs = [event.job for event in left if isinstance(event, ev.JobEvent)]
    expected = sorted([f"j{n}" for n in range(1, 120, 2)] * 2)
    _expect(
        sorted(of_jobs) == expected,
        f"after 60 of 120 jobs were pruned, {len(of_jobs)} events of {len(set(of_jobs))} jobs are left, not 120 of 60",
    )
    await store.prune({f"j{n}": spans[f"j{n}"] for n in range(1, 120, 2)})
    left = await _reopened(store)
    pause = events[-2].seq
    _expect(
        _numbers(left) == [pause], f"of all jobs pruned the events {_numbers(left)} are left, not the pause [{pause}]"
    )
    last = store.last_seq
    store.append([ev.Resumed(seq=last + 1, at=2.0), submitted(last + 2, "last")])
    await store.committed(last + 2)
    await store.prune({"last": (last + 2, last + 2)})
    left = await _reopened(store)
    _expect(_numbers(left) == [last + 1], f"the events {_numbers(left)} are left, not the last resume [{last + 1}]")
    # a pause that one prune retains, and a job of the next prune that was submitted before it
    events = [submitted(last + 3, "short"), submitted(last + 4, "long"), ev.Paused(seq=last + 5, at=3.0)]
    events += [_completed(last + 6, "short"), _completed(last + 7, "long")]
    store.append(events)
    await store.committed(last + 7)
    await store.prune({"short": (last + 3, last + 6)})
    await store.prune({"long": (last + 4, last + 7)})
    store.append([ev.Resumed(seq=last + 8, at=4.0), submitted(last + 9, "late")])
    await store.committed(last + 9)
    await store.prune({"late": (last + 9, last + 9)})
    left = await _reopened(store)
    _expect(
        _numbers(left) == [last + 8],
        f"the events {_numbers(left)} are left, not the resume [{last + 8}] which ends the retained pause",
    )
    await store.aclose()


async def _reopened(store: Store) -> list[ev.Event]:
    await store.aclose()
    return list(await store.open(lambda events: None))


async def _check_late_wait(store: Store, persistent: bool) -> None:
    """`committed` returns after `on_commit` was called, however late it is called."""
    acknowledged: list[ev.Event] = []
    await store.open(acknowledged.extend)
    for turns in range(20):
        store.append([submitted(turns + 1)])
        for _ in range(turns):
            await trio.lowlevel.checkpoint()
        await store.committed(turns + 1)
        _expect(
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
    _expect(_numbers(acknowledged) == [1, 2], f"events 1 and 2 were acknowledged as {_numbers(acknowledged)}")
    await store.aclose()


async def _check_numbering(store: Store, persistent: bool) -> None:
    """Event numbers continue after a restart, and a close commits what was appended."""
    if not persistent:
        return
    for life in range(3):
        restored = list(await store.open(lambda events: None))
        _expect(
            len(restored) == 2 * life, f"after {life} restarts {len(restored)} events were restored, not {2 * life}"
        )
        store.append([submitted(store.last_seq + 1), submitted(store.last_seq + 2)])
        await store.aclose()


_RULES = (
    _check_restore,
    _check_acknowledgements,
    _check_second_open,
    _check_closed,
    _check_pages,
    _check_prune,
    _check_key_tombstones,
    _check_interleaved_prune,
    _check_late_wait,
    _check_cancelled_wait,
    _check_numbering,
)


def _numbers(events: Iterable[ev.Event]) -> list[int]:
    return [event.seq for event in events]


def _bodies(events: Sequence[ev.Event]) -> list[bytes]:
    """The events as JSON: `msgspec.Raw` values are not equal to each other even if their bytes are."""
    return [msgspec.json.encode(event) for event in events]
