"""Openings: what the factory of an SDK is given, and the record that is committed before the factory is called."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock, wait_all_tasks_blocked

import trio_jobs
from support.rig import NO_RETRY
from support.stores import SlowStore
from support.waiting import deadline
from trio_jobs import (
    JobFailed,
    MemoryStore,
    Opening,
    Retry,
    SdkOpenFailed,
    Service,
    SessionLost,
    SqliteStore,
    UsageError,
    events,
)
from trio_jobs._engine.projection import Projection
from trio_jobs.testing import CrashableStore


class Busy(Exception):
    """What a test raises on purpose."""


class Ledger:
    """An SDK whose openings are recorded, and whose opening and closing can fail.

    Args:
        open_errors: Raised by the openings, one each; None for one that succeeds.
        close_errors: Raised by the closes, likewise.
    """

    def __init__(
        self, open_errors: Sequence[Exception | None] = (), close_errors: Sequence[Exception | None] = ()
    ) -> None:
        self.openings: list[Opening] = []
        self._open_errors = list(open_errors)
        self._close_errors = list(close_errors)

    @contextlib.contextmanager
    def session(self, opening: Opening) -> Iterator[Ledger]:
        self.openings.append(opening)
        if self._open_errors and (error := self._open_errors.pop(0)) is not None:
            raise error
        try:
            yield self
        finally:
            if self._close_errors and (error := self._close_errors.pop(0)) is not None:
                raise error

    @contextlib.asynccontextmanager
    async def async_session(self, opening: Opening) -> AsyncIterator[Ledger]:
        with self.session(opening):
            yield self


def service_for(ledger: Ledger, kind: str = "thread", **settings: Any) -> Service:
    sdk = {"sdk": ledger.session} if kind == "thread" else {"async_sdk": ledger.async_session}
    service = Service(**sdk, **{"open_retry": NO_RETRY, **settings})
    service.handler(kind="work", idempotent=True, retry=NO_RETRY)(work if kind == "thread" else awork)
    return service


def work(ledger: Ledger, what: str) -> str:
    if what == "fail":
        raise Busy(what)
    if what == "lost":
        raise SessionLost("the cable is out")
    return what


async def awork(ledger: Ledger, what: str) -> str:
    return work(ledger, what)


async def read_events(store: Any) -> list[trio_jobs.events.Event]:
    return list(await store.events(0, 1000))


def names(found: Sequence[object]) -> list[str]:
    return [type(event).__name__ for event in found]


# the argument


def two(opening: Opening, path: str) -> Any: ...


def keyword(*, opening: Opening) -> Any: ...


def other(path: Path) -> Any: ...


class OpensPath:
    def __init__(self, path):  # type: ignore[no-untyped-def]  # as in code without annotations
        raise NotImplementedError


@pytest.mark.parametrize("name", ["sdk", "async_sdk"])
@pytest.mark.parametrize(
    ("factory", "says"),
    [
        (two, r"it has 2 parameters \(opening, path\)"),
        (keyword, r"it has keyword-only parameters without a default \(opening\)"),
        (other, "its parameter 'path' is not for an Opening"),
        (OpensPath, "its parameter 'path' is not for an Opening"),
    ],
)
def test_a_factory_that_takes_anything_else_than_an_opening_is_refused_at_once(
    name: str, factory: Any, says: str
) -> None:
    with pytest.raises(UsageError, match=f"^{name} must be a function .* with one for an Opening: {says}"):
        Service(**{name: factory})


def optional(given: list[object], opening: Opening | None = None) -> Any:
    given.append(opening)
    return contextlib.nullcontext("sdk")


def default_of_something_else(given: list[object], path: str = "book.db") -> Any:
    given.append(path)
    return contextlib.nullcontext("sdk")


def variadic(given: list[object], *args: object) -> Any:
    given.append(args)
    return contextlib.nullcontext("sdk")


FIRST = Opening("start", 1, unclean=False)


@pytest.mark.parametrize(
    ("factory", "gets"), [(optional, FIRST), (default_of_something_else, "book.db"), (variadic, ())]
)
async def test_a_parameter_with_a_default_gets_the_opening_only_if_it_is_called_opening(
    factory: Callable[..., Any], gets: object
) -> None:
    given: list[object] = []
    async with Service(sdk=functools.partial(factory, given)).open():
        pass
    assert given == [gets]


# its fields


@pytest.mark.parametrize("kind", ["thread", "trio"])
async def test_the_factory_is_given_why_it_is_called_and_the_number_of_the_session(kind: str) -> None:
    ledger = Ledger()
    service = service_for(ledger, kind, renew_after_jobs=2)
    async with service.open() as queue:
        for what in ("a", "b", "fail", "lost", "c"):
            with contextlib.suppress(JobFailed):
                await queue.result((await queue.submit("work", what)).job_id)
    assert ledger.openings == [
        Opening("start", 1, unclean=False),
        Opening("renew", 2, unclean=False),
        Opening("error", 3, unclean=False),
        Opening("lost", 4, unclean=False),
    ]


async def test_an_opening_that_fails_is_repeated_with_the_same_opening(autojump_clock: MockClock) -> None:
    ledger = Ledger([Busy("no licence"), Busy("no licence"), None])
    store = MemoryStore()
    service = service_for(ledger, "trio", open_retry=Retry(waits=(1.0,), max_retries=5))
    async with service.open(store=store):
        pass
    assert ledger.openings == [Opening("start", 1, unclean=False)] * 3
    found = await read_events(store)
    assert names(found) == [
        "SessionOpening", "SessionOpeningFailed", "SessionOpening", "SessionOpeningFailed", "SessionOpening",
        "SessionOpened", "SessionClosed",
    ]  # fmt: skip
    assert isinstance(found[1], events.SessionOpeningFailed)
    assert found[1].problem == "Busy: no licence"


async def test_after_a_close_that_raised_the_next_session_is_unclean(autojump_clock: MockClock) -> None:
    ledger = Ledger(close_errors=[Busy("the disk is full"), None])
    service = service_for(ledger, "trio", renew_after_jobs=1)
    async with service.open(clock=trio_jobs.TrioClock()) as queue:
        for what in "abc":
            await queue.result((await queue.submit("work", what)).job_id)
    assert [opening.unclean for opening in ledger.openings] == [False, True, False]


# over a restart


async def crashed_after(disk: CrashableStore, service: Service, jobs: int) -> None:
    """Run a queue that ends as if its process were killed."""
    store = disk.store()
    async with service.open(store=store, clock=trio_jobs.TrioClock()) as queue:
        for n in range(jobs):
            await queue.result((await queue.submit("work", str(n))).job_id)
        store.crash()


@pytest.mark.parametrize("jobs", [0, 3])
async def test_after_a_crash_the_next_session_is_unclean_and_after_a_stop_it_is_not(
    jobs: int, autojump_clock: MockClock
) -> None:
    disk = CrashableStore()
    ledger = Ledger()
    for _ in range(2):
        await crashed_after(disk, service_for(ledger, "trio"), jobs)
    for _ in range(2):
        async with service_for(ledger, "trio").open(store=disk.store()):
            pass
    assert [opening.unclean for opening in ledger.openings] == [False, True, True, False]
    assert {opening.reason for opening in ledger.openings} == {"start"}


async def test_a_failed_opening_leaves_unclean_as_it_was_before_it(autojump_clock: MockClock) -> None:
    disk = CrashableStore()
    await crashed_after(disk, service_for(Ledger(), "trio"), 1)
    for _ in range(2):
        ledger = Ledger([Busy("no licence")])
        with pytest.raises(SdkOpenFailed):
            async with service_for(ledger, "trio").open(store=disk.store()):
                pass
        assert [opening.unclean for opening in ledger.openings] == [True]
    async with service_for(ledger, "trio").open(store=disk.store()):
        pass
    with pytest.raises(SdkOpenFailed):
        async with service_for(Ledger([Busy("no licence")]), "trio").open(store=disk.store()):
            pass
    async with service_for(ledger, "trio").open(store=disk.store()):
        pass
    assert [opening.unclean for opening in ledger.openings] == [True, True, False]


@pytest.mark.parametrize("last", ["closed", "crashed while it opened"])
async def test_a_pruned_journal_keeps_whether_the_last_session_has_closed(tmp_path: Path, last: str) -> None:
    store = SqliteStore(tmp_path / "jobs.db")
    async with service_for(Ledger()).open(store=store) as queue:
        job = (await queue.submit("work", "a")).job_id
        await queue.result(job)
    store = SqliteStore(tmp_path / "jobs.db")
    await store.open(lambda found: None)
    if last != "closed":
        store.append([events.SessionOpening(seq=store.last_seq + 1, at=1.0, session=1, reason="start")])
    await store.committed(store.last_seq)
    await store.prune({job: (1, store.last_seq)})
    await store.aclose()
    ledger = Ledger()
    async with service_for(ledger).open(journal=tmp_path / "jobs.db") as queue:
        assert not any(queue.statistics().jobs.values())
    assert [opening.unclean for opening in ledger.openings] == [last != "closed"]


def test_what_an_older_version_has_pruned_is_not_known_to_have_closed() -> None:
    projection = Projection()
    assert not projection.is_unclean, "there was no session yet"
    projection.seq = 7
    assert projection.is_unclean


OPENING, FAILED, OPENED, CLOSED, BROKEN = range(5)


@given(st.lists(st.sampled_from([OPENING, FAILED, OPENED, CLOSED, BROKEN]), max_size=8))
def test_unclean_is_the_state_of_the_last_session_that_was_begun(steps: list[int]) -> None:
    """A model: a session that was begun is unclean until it has closed well, or until its opening has failed, which
    restores what was known before."""
    projection, unclean, before = Projection(), False, False
    for seq, step in enumerate(steps, 1):
        known = projection.is_unclean
        assert known is unclean or seq == 1
        at: dict[str, Any] = {"seq": seq, "at": 0.0, "session": 1}
        if step == OPENING:
            before, unclean = unclean, True
            projection.apply(events.SessionOpening(**at, reason="start", unclean=before))
        elif step == FAILED:
            unclean = before
            projection.apply(events.SessionOpeningFailed(**at, problem="busy", unclean=before))
        elif step == OPENED:
            unclean = True
            projection.apply(events.SessionOpened(**at))
        else:
            unclean = step == BROKEN
            problem = "the disk is full" if unclean else None
            projection.apply(events.SessionClosed(**at, problem=problem))
    assert not steps or projection.is_unclean is unclean


# the record


async def test_the_record_is_committed_before_the_factory_is_called(autojump_clock: MockClock) -> None:
    store = SlowStore(events.SessionOpening)
    ledger = Ledger()
    with deadline("the opening"):
        async with trio.open_nursery() as nursery:

            async def run() -> None:
                async with service_for(ledger, "trio").open(store=store):
                    pass

            nursery.start_soon(run)
            await wait_all_tasks_blocked()
            assert store.handed_over(events.SessionOpening)
            assert ledger.openings == []
            store.keep()
    assert len(ledger.openings) == 1


async def test_a_stop_ends_the_wait_for_the_record_and_the_factory_is_not_called(autojump_clock: MockClock) -> None:
    store = SlowStore(events.SessionOpening)
    store.keep()
    ledger = Ledger()
    service = service_for(ledger, "trio", renew_after_jobs=1)
    with deadline("the opening"):
        async with trio.open_nursery() as nursery, service.open(store=store, clock=trio_jobs.TrioClock()) as queue:
            await queue.result((await queue.submit("work", "a")).job_id)
            store.hold()
            await queue.submit("work", "b")
            await wait_all_tasks_blocked()
            assert store.handed_over(events.SessionOpening)
            nursery.start_soon(keep_after, store, 2)
            started = trio.current_time()
        assert trio.current_time() - started == 2, "the stop has waited for the store alone"
    assert len(ledger.openings) == 1
    found = await read_events(store)
    assert names(found)[-2:] == ["SessionOpening", "SessionOpeningFailed"]


async def keep_after(store: SlowStore, seconds: float) -> None:
    await trio.sleep(seconds)
    store.keep()


async def test_a_slow_commit_of_the_record_does_not_count_as_time_of_the_opening(autojump_clock: MockClock) -> None:
    store = SlowStore(events.SessionOpening)
    ledger = Ledger()
    with deadline("the opening"):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(keep_after, store, 100)
            async with service_for(ledger, "trio", open_timeout=5).open(store=store):
                assert trio.current_time() >= 100
    assert len(ledger.openings) == 1
