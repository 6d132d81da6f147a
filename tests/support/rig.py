"""A service with one handler before a FakeSdk, on either executor, and its queue in virtual time.

In the loop, time jumps when nothing else can happen; with a thread it moves only when a test moves it (`clock.jump`),
so no test depends on the speed of a thread. `trio_jobs.testing.open_queue` is not used here: it wraps the executor and
the store, and these tests are about the executor and the store as they are.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import Any, Final, Literal
from weakref import WeakKeyDictionary

import attrs
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

import trio_jobs.testing
from support.process_rig import make_process_service, serve_sdk
from support.process_time import virtual_time_of_processes
from support.waiting import deadline
from trio_jobs import Attempt, Job, Queue, Service, TrioClock
from trio_jobs._engine.events import Event
from trio_jobs._runtime.queue import runtime_of
from trio_jobs._service import parts_of
from trio_jobs.testing import Blocker, FakeSdk, FakeSession

HostKind = Literal["thread", "trio", "process"]
BOTH: tuple[HostKind, ...] = ("thread", "trio")
#: The executor with a process, as parameters of the fixture `kind`
IN_PROCESS: Final = (
    ("process", pytest.param("process started", id="started", marks=pytest.mark.campaign))
    if sys.platform != "win32"
    else ()
)

#: As `open_retry`: an opening that fails is not retried. As `retry`: a job is not
NO_RETRY = trio_jobs.Retry(0)


@attrs.define
class Rig:
    """An SDK and a service with the handler "work", whose payload names its call and which returns its result.

    kind: The executor.
    """

    sdk: FakeSdk
    kind: HostKind
    service: Service

    def open(self, **kwargs: Any) -> AbstractAsyncContextManager[Queue]:
        return open_queue(self.service, **kwargs)

    @asynccontextmanager
    async def open_jumping(self, *, seed: int = 1, **kwargs: Any) -> AsyncIterator[Queue]:
        """As `open`, under pytest-trio's autojump_clock on each executor. See `open_jumping_queue`."""
        async with open_jumping_queue(self.service, seed=seed, **kwargs) as queue:
            yield queue

    async def reached(self, hold: Blocker) -> None:
        """Wait until a call has reached `hold`."""
        await (hold.reached_in_trio() if self.kind == "trio" else hold.reached())


@asynccontextmanager
async def open_queue(
    service: Service, *, seed: int = 1, clock: TrioClock | None = None, **kwargs: Any
) -> AsyncIterator[Queue]:
    """The queue of a service, in virtual time.

    Args:
        clock: One that the test changes.
        seed: Another one for a second queue on the same store at the same moment; otherwise it draws the same ids.
    """
    async with service.open(clock=TrioClock() if clock is None else clock, seed=seed, **kwargs) as queue:
        yield queue


@asynccontextmanager
async def open_jumping_queue(service: Service, *, seed: int = 0, **kwargs: Any) -> AsyncIterator[Queue]:
    """A queue whose virtual time jumps when nothing can happen, wherever its SDK is. Time waits for a thread and for a
    process, but not for those that a `Blocker` blocks: nobody can wait for that without time passing."""
    if parts_of(service).process is None:
        async with trio_jobs.testing.open_queue(service, seed=seed, **kwargs) as queue:
            yield queue
    else:
        with virtual_time_of_processes():
            async with open_queue(service, seed=seed, **kwargs) as queue:
                yield queue


def make_rig(
    kind: HostKind,
    *,
    verifies: bool = False,
    settings: dict[str, Any] | None = None,
    kinds: tuple[str, ...] = ("work",),
    **rules: Any,
) -> Rig:
    """A rig whose handlers have these `rules`, see `declared`.

    Args:
        kinds: The kinds of the handlers.
        verifies: The handler has a verify, which passes the kind of the job to the SDK's verify.
    """
    if kind == "process":
        served = serve_sdk()
        declaration = declared({**rules, "verify": True} if verifies else rules)
        declaration.pop("verify", None)
        return Rig(served, kind, make_process_service(settings or {}, declaration, kinds, verifies=verifies))
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
    for name in kinds:
        service.handler(kind=name, **declared(rules))(partial(work if kind == "thread" else awork))
    return Rig(sdk, kind, service)


def declared(rules: Mapping[str, Any]) -> dict[str, Any]:
    """The rules of a handler. Without one about repetition, attempts that raised are retried."""
    if any(rules.get(name) for name in ("verify", "idempotent", "retry", "on_doubt")):
        return dict(rules)
    return {**rules, "retry": trio_jobs.Retry()}


def service_for(sdk: FakeSdk, kind: HostKind, **settings: Any) -> Service:
    assert kind != "process", "its process must find the service: use make_rig"
    return (
        Service(sdk=sdk.session, **settings) if kind == "thread" else Service(async_sdk=sdk.async_session, **settings)
    )


def make_clock(kind: HostKind) -> MockClock:
    return MockClock(autojump_threshold=0) if kind == "trio" else MockClock()


async def pass_time(clock: MockClock, seconds: float) -> None:
    """Move the clock by `seconds`, then wait for everything that happens without a thread."""
    await wait_all_tasks_blocked()
    clock.jump(seconds)
    await wait_all_tasks_blocked()


_WAITERS: WeakKeyDictionary[Queue, set[trio.Event]] = WeakKeyDictionary()


async def until(queue: Queue, job_id: str, says: Callable[[Job], bool]) -> Job:
    """The job, as soon as `says` is true of it. Unlike the feed, which pauses between two wake-ups, this takes no
    virtual time, so it also works where the clock does not move."""
    if queue not in _WAITERS:
        feed, waiting = runtime_of(queue).feed, _WAITERS.setdefault(queue, set())
        publish = feed.publish

        def publish_and_wake(events: Sequence[Event]) -> None:
            publish(events)
            for waiter in waiting:
                waiter.set()

        feed.publish = publish_and_wake  # type: ignore[method-assign]
    while not says(queue.get(job_id)):
        assert queue.report is None, f"the queue has stopped, and the job is {queue.get(job_id)}"
        published = trio.Event()
        _WAITERS[queue].add(published)
        with deadline(f"another event, while the job is {queue.get(job_id)}"):
            await published.wait()
        _WAITERS[queue].discard(published)
    return queue.get(job_id)


async def everything_committed(queue: Queue) -> None:
    """Return when all that was appended so far is committed."""
    event_log = runtime_of(queue).event_log
    await event_log.committed(event_log.projection.seq)


async def until_state(queue: Queue, job_id: str, state: str) -> Job:
    """The job, once it is in this state. Raises `AssertionError` at once if it is final, in another one."""

    def says(job: Job) -> bool:
        assert not job.is_final or job.state == state, f"the job is {job.state}, and does not become {state}: {job}"
        return job.state == state

    return await until(queue, job_id, says)


async def ended(queue: Queue, job_id: str) -> Job:
    """The job, once it is final."""
    return await until(queue, job_id, lambda job: job.is_final)


def last(job: Job) -> Attempt:
    return (job.attempts or ())[-1]


def outcomes(job: Job) -> list[str]:
    return [str(attempt.outcome) for attempt in job.attempts or ()]


@asynccontextmanager
async def busy_queue(rig: Rig, **kwargs: Any) -> AsyncIterator[tuple[Queue, Blocker, str]]:
    """A queue whose SDK is busy with a first job until the `Blocker` lets it go, so the next jobs stay pending."""
    hold = Blocker("first")
    rig.sdk.script("call", hold)
    try:
        async with rig.open(**kwargs) as queue:
            first = await queue.submit("work", "first")
            await rig.reached(hold)
            try:
                yield queue, hold, first.job_id
            finally:
                hold.release()
    finally:
        hold.release()
