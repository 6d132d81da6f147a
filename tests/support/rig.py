"""What the tests of the queue share: one service with one handler, on the host of choice, before a FakeSdk.

Time is virtual. In the loop it jumps by itself when nothing else can happen; with a thread it stands still until a test
moves it (`clock.jump`), so that no test depends on how fast a thread is.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, Literal
from weakref import WeakKeyDictionary

import attrs
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

import trio_jobs
from trio_jobs import Attempt, Job, Queue, Service, TrioClock
from trio_jobs._engine.events import Event
from trio_jobs._runtime.queue import runtime_of
from trio_jobs.testing import Blocker, FakeSdk, FakeSession

HostKind = Literal["thread", "trio"]
BOTH: tuple[HostKind, ...] = ("thread", "trio")

#: Pass this as `settings` of a service whose failed open is not to be tried again
NO_RETRY = trio_jobs.Retry(0)


@attrs.define
class Rig:
    """sdk: the fake. kind: which host. service: with a handler "work", whose payload names its SDK call, and which
    gives back what that gives back."""

    sdk: FakeSdk
    kind: HostKind
    service: Service

    def open(self, **kwargs: Any) -> Any:
        return self.service.open(clock=TrioClock(), seed=1, **kwargs)

    async def reached(self, hold: Blocker) -> None:
        """The call stands in `hold`."""
        await (hold.reached() if self.kind == "thread" else hold.reached_in_trio())


def make_rig(kind: HostKind, *, verifies: bool = False, settings: dict[str, Any] | None = None, **rules: Any) -> Rig:
    """A rig whose handler has these `rules`. verifies: it asks the fake's "verify" door, with the job's kind."""
    sdk = FakeSdk()
    service = service_for(sdk, kind, **(settings or {}))

    def work(session: FakeSession, what: str) -> Any:
        return session.call(what)

    async def awork(session: FakeSession, what: str) -> Any:
        return await session.acall(what)

    def verify(session: FakeSession, job: trio_jobs.JobContext) -> Any:
        return session.verify(job.kind)

    async def averify(session: FakeSession, job: trio_jobs.JobContext) -> Any:
        return await session.averify(job.kind)

    if verifies:
        rules["verify"] = verify if kind == "thread" else averify
    service.handler(kind="work", **rules)(work if kind == "thread" else awork)
    return Rig(sdk, kind, service)


def service_for(sdk: FakeSdk, kind: HostKind, **settings: Any) -> Service:
    return (
        Service(sdk=sdk.session, **settings) if kind == "thread" else Service(async_sdk=sdk.async_session, **settings)
    )


def make_clock(kind: HostKind) -> MockClock:
    return MockClock(autojump_threshold=0) if kind == "trio" else MockClock()


async def pass_time(clock: MockClock, seconds: float) -> None:
    """Let `seconds` go by where time stands still, and everything happen that then does without a thread."""
    await wait_all_tasks_blocked()
    clock.jump(seconds)
    await wait_all_tasks_blocked()


_NEWS: WeakKeyDictionary[Queue, set[trio.Event]] = WeakKeyDictionary()


async def until(queue: Queue, job_id: str, says: Callable[[Job], bool]) -> Job:
    """The job, as soon as `says` is true of it. Unlike the feed, which rests between two wake-ups, this takes no time:
    the clock of a test may stand still."""
    if queue not in _NEWS:
        feed, waiting = runtime_of(queue).feed, _NEWS.setdefault(queue, set())
        publish = feed.publish

        def tell(events: Sequence[Event]) -> None:
            publish(events)
            for waiter in waiting:
                waiter.set()

        feed.publish = tell  # type: ignore[method-assign]
    while not says(queue.get(job_id)):
        assert queue.report is None, f"the queue has stopped, and the job is {queue.get(job_id)}"
        news = trio.Event()
        _NEWS[queue].add(news)
        await news.wait()
        _NEWS[queue].discard(news)
    return queue.get(job_id)


async def everything_committed(queue: Queue) -> None:
    """Return when all that was appended so far is committed."""
    event_log = runtime_of(queue).event_log
    await event_log.committed(event_log.projection.seq)


async def until_state(queue: Queue, job_id: str, state: str) -> Job:
    return await until(queue, job_id, lambda job: job.state == state)


async def ended(queue: Queue, job_id: str) -> Job:
    """The job, once it is final."""
    return await until(queue, job_id, lambda job: job.is_final)


def last(job: Job) -> Attempt:
    return job.attempts[-1]


def outcomes(job: Job) -> list[str]:
    return [str(attempt.outcome) for attempt in job.attempts]


@asynccontextmanager
async def standing_line(rig: Rig, **kwargs: Any) -> AsyncIterator[tuple[Queue, Blocker, str]]:
    """A queue whose SDK is busy with a first job, in a hold, so that what is submitted stands in the line."""
    hold = Blocker("first")
    rig.sdk.script("call", hold)
    try:
        async with rig.open(**kwargs) as queue:
            first = await queue.submit("work", "first")
            await rig.reached(hold)
            try:
                yield queue, hold, first.job_id
            finally:
                hold.let_go()
    finally:
        hold.let_go()
