"""What every store must do, as one text that is run on each of them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

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

PATIENCE = 60.0  #: seconds for one check; a slow disk is no failure


async def check_store(make_store: Callable[[], Store], *, keeps: bool = True, raises: bool = True) -> CheckReport:
    """Run every check on stores of its own. `make_store` gives an empty one, not open, each time it is called.

    keeps: closed and opened again, a store gives back what it held. Raises `ConformanceError` with what was found,
    unless `raises` is False; then the report tells. In real time, since a store may have a thread.
    """

    def check(rule: Callable[[Store, bool], Awaitable[None]]) -> Callable[[], Awaitable[None]]:
        async def run() -> None:
            with trio.fail_after(PATIENCE):
                await rule(make_store(), keeps)

        return run

    checks = [(rule.__name__.strip("_").replace("_", " "), check(rule)) for rule in _RULES]
    left_out = () if keeps else ("that it gives back what it held when it is opened again: said to keep nothing",)
    report = await collect(f"the store {make_store()!r}", checks, left_out)
    return report.check() if raises else report


def submitted(seq: int, job: str | None = None, payload: bytes = b'{"n": 1}') -> ev.Submitted:
    """An event as stores get them."""
    body = msgspec.Raw(payload)
    return ev.Submitted(seq=seq, at=1_700_000_000.25 + seq, job=job or f"job-{seq}", kind="k", payload=body, key="é")


def _completed(seq: int, job: str) -> ev.Completed:
    return ev.Completed(seq=seq, at=1_700_000_100.0, job=job, attempt=1, result=msgspec.Raw(b"null"))


def _opened(seq: int) -> ev.SessionOpened:
    return ev.SessionOpened(seq=seq, at=1.5, session=1)


async def _gives_back_in_order(store: Store, keeps: bool) -> None:
    told: list[ev.Event] = []
    _rule(not list(await store.open(told.extend)), "a new store is empty")
    _rule(store.last_seq == 0 and store.oldest == 1, "the first event will be number 1")
    _rule(bool(store.epoch), "the history has a name")
    _rule(store.trouble is None, "nothing is wrong with it")
    events: list[ev.Event] = [submitted(1, "a"), submitted(2, "b"), _opened(3), _completed(4, "a")]
    store.append(events[:2])
    store.append(events[2:])
    await store.committed(4)
    _rule(_bodies(told) == _bodies(events), "what is committed is told, in order")
    epoch = store.epoch
    await store.aclose()
    if not keeps:
        return
    restored = list(await store.open(told.extend))
    of_jobs = [event for event in restored if isinstance(event, ev.JobEvent)]
    _rule(_bodies(of_jobs) == _bodies([events[0], events[1], events[3]]), "it gives back jobs")
    _rule([e.seq for e in restored] == sorted(e.seq for e in restored), "in order")
    _rule(store.last_seq == 4, "and knows the last number")
    _rule(store.epoch == epoch, "the history has kept its name")
    await store.aclose()


async def _tells_each_event_once(store: Store, keeps: bool) -> None:
    told: list[int] = []

    def on_commit(events: Sequence[ev.Event]) -> None:
        told.extend(event.seq for event in events)

    await store.open(on_commit)
    for seq in range(1, 501):
        store.append([submitted(seq)])
        if seq % 50 == 0:
            await store.committed(seq)
            _rule(told[-1] >= seq, "who is told that it is committed comes after the listener")
            _rule(store.last_seq >= seq, "and finds the number moved on")
    await store.aclose()
    _rule(told == list(range(1, 501)), "each once, in order, without a gap")


async def _refuses_a_second_opener(store: Store, keeps: bool) -> None:
    await store.open(lambda events: None)
    try:
        await store.open(lambda events: None)
    except StoreError:
        pass
    else:
        raise AssertionError("a store that is open cannot be opened")
    store.append([submitted(1)])
    await store.committed(1)
    await store.aclose()


async def _refuses_after_close(store: Store, keeps: bool) -> None:
    await store.open(lambda events: None)
    await store.aclose()
    await store.aclose()
    try:
        store.append([submitted(1)])
    except StoreError:
        return
    raise AssertionError("a closed store takes nothing")


async def _pages_without_a_gap(store: Store, keeps: bool) -> None:
    await store.open(lambda events: None)
    events = [submitted(seq) if seq % 3 else _opened(seq) for seq in range(1, 61)]
    store.append(events)
    await store.committed(60)
    _rule(_bodies(await store.events(0, 10)) == _bodies(events[:10]), "the first page")
    _rule(_bodies(await store.events(55, 10)) == _bodies(events[55:]), "the last page")
    _rule(not list(await store.events(60, 10)), "nothing behind the last")
    await store.aclose()


async def _prunes_and_says_so(store: Store, keeps: bool) -> None:
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
            raise AssertionError("who asks for what is gone is told so")
    _rule([e.seq for e in await store.events(oldest - 1, 100)] == list(range(oldest, 10)), "the rest is there")
    await store.aclose()
    if keeps:
        restored = list(await store.open(lambda events: None))
        jobs = {e.job for e in restored if isinstance(e, ev.JobEvent)}
        _rule(jobs == {"b", "job-4", "job-5", "job-6", "job-7"}, "a pruned job is gone, the others are not")
        _rule(any(isinstance(e, ev.Paused) for e in restored), "a pause is kept")
        _rule(store.last_seq == 9 and store.oldest >= oldest, "numbers go on")
        await store.aclose()


async def _keeps_the_keys_of_what_it_prunes(store: Store, keeps: bool) -> None:
    await store.open(lambda events: None)
    _rule(not list(store.keys()), "a new store knows no keys")
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
    if keeps:
        restored = list(await store.open(lambda events: None))
        _rule([event.seq for event in restored] == [4], "the jobs are pruned")
        _rule(list(store.keys()) == [two, three], "their keys are kept, in order, but for those that are stale")
        await store.prune({}, [], [two, three])
        await store.aclose()
        await store.open(lambda events: None)
        _rule(not list(store.keys()), "and let go of when they are")
        await store.aclose()


async def _prunes_whole_jobs_however_they_lie(store: Store, keeps: bool) -> None:
    if not keeps:
        return
    await store.open(lambda events: None)
    # 120 jobs that all began before the first one ended, and events of the queue itself in between
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
    _rule(sorted(of_jobs) == sorted([f"j{n}" for n in range(1, 120, 2)] * 2), "who is not pruned is whole")
    await store.prune({f"j{n}": spans[f"j{n}"] for n in range(1, 120, 2)})
    left = await _reopened(store)
    _rule([event.seq for event in left] == [events[-2].seq], "in the end the last pause is left")
    last = store.last_seq
    store.append([ev.Resumed(seq=last + 1, at=2.0), submitted(last + 2, "last")])
    await store.committed(last + 2)
    await store.prune({"last": (last + 2, last + 2)})
    left = await _reopened(store)
    _rule([event.seq for event in left] == [last + 1], "or the resume that came after it")
    # a pause that one batch spares, and a job of the next batch that began before it
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
    _rule([event.seq for event in left] == [last + 8], "a pause that was spared once goes when it is over")
    await store.aclose()


async def _reopened(store: Store) -> list[ev.Event]:
    await store.aclose()
    return list(await store.open(lambda events: None))


async def _tells_who_asks_late(store: Store, keeps: bool) -> None:
    told: list[ev.Event] = []
    await store.open(told.extend)
    for turns in range(20):
        store.append([submitted(turns + 1)])
        for _ in range(turns):
            await trio.lowlevel.checkpoint()
        await store.committed(turns + 1)
        _rule(len(told) == turns + 1, f"who asks {turns} turns of Trio's loop late comes after the listener too")
    await store.aclose()


async def _survives_a_cancelled_wait(store: Store, keeps: bool) -> None:
    told: list[ev.Event] = []
    await store.open(told.extend)
    with trio.CancelScope() as scope:
        scope.cancel()
        store.append([submitted(1)])
        await store.committed(1)
    store.append([submitted(2)])
    await store.committed(2)
    _rule([event.seq for event in told] == [1, 2], "a cancelled wait takes nothing back")
    await store.aclose()


async def _counts_on(store: Store, keeps: bool) -> None:
    if not keeps:
        return
    for life in range(3):
        restored = list(await store.open(lambda events: None))
        _rule(len(restored) == 2 * life, "each life adds its own")
        store.append([submitted(store.last_seq + 1), submitted(store.last_seq + 2)])
        await store.aclose()  # which commits what was handed over


_RULES = (
    _gives_back_in_order,
    _tells_each_event_once,
    _refuses_a_second_opener,
    _refuses_after_close,
    _pages_without_a_gap,
    _prunes_and_says_so,
    _keeps_the_keys_of_what_it_prunes,
    _prunes_whole_jobs_however_they_lie,
    _tells_who_asks_late,
    _survives_a_cancelled_wait,
    _counts_on,
)


def _bodies(events: Sequence[ev.Event]) -> list[bytes]:
    """What is in them: pieces of raw JSON are not equal to each other, even where they say the same."""
    return [msgspec.json.encode(event) for event in events]


def _rule(holds: bool, rule: str) -> None:
    if not holds:
        raise AssertionError(rule)
