"""What a test of a service needs: a queue in virtual time, all its jobs done, one handler alone.

    async def test_an_invoice_is_booked(autojump_clock):
        async with testing.open_queue(service) as queue:
            receipt = await queue.submit(post_invoice, Invoice("A-1", 100), key="A-1")
            done = await testing.drain(queue)
        assert done[receipt.job_id].state == "completed"

`autojump_clock` is pytest-trio's; without it: `trio.run(test, clock=trio.testing.MockClock(autojump_threshold=0))`.
"""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import attrs
import trio
import trio.testing

from trio_jobs._engine.handlers import Handler
from trio_jobs._engine.jobs import ErrorInfo, Job, Outcome, State
from trio_jobs._engine.retry import Retry
from trio_jobs._errors import QueueClosed, UsageError
from trio_jobs._ports import Clock, SdkExecutor, Store
from trio_jobs._runtime.clock import SystemClock, TrioClock
from trio_jobs._runtime.queue import Queue, runtime_of
from trio_jobs._runtime.supervisor import open_queue as open_real_queue
from trio_jobs._service import Service
from trio_jobs._stores.memory import MemoryStore
from trio_jobs._stores.sqlite.store import SqliteStore
from trio_jobs.testing._virtual import ExecutorLog, PatientExecutor, PatientStore, Work

__all__ = ["AttemptReport", "assert_submitted", "drain", "find_handler", "open_queue", "perform", "virtual_clock"]

_AHEAD: Final = (State.SCHEDULED, State.PENDING, State.PROCESSING, State.RETRYING)
_ANY: Final = object()


def virtual_clock() -> trio.testing.MockClock:
    """The running MockClock. Raises `UsageError` where time is real: a test that waits for it would be slow, and its
    result luck."""
    clock = trio.lowlevel.current_clock()
    if not isinstance(clock, trio.testing.MockClock):
        raise UsageError(
            "this needs virtual time: take pytest-trio's autojump_clock, or "
            "trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))"
        )
    return clock


@asynccontextmanager
async def open_queue(
    service: Service,
    clock: object = None,
    *,
    journal: str | Path | None = None,
    store: Store | None = None,
    seed: int = 0,
    work: Work | None = None,
    handlers: Mapping[str, Handler] | None = None,
    log: ExecutorLog | None = None,
    **settings: Any,
) -> AsyncIterator[Queue]:
    """A queue of `service` in virtual time, on whichever host its SDK needs; chance begins from `seed`.

    While a thread works (the SDK's, the journal's), time stands still, so nothing times out because a machine is slow.
    A call that is to be slow says so: `Blocker`, `Slow`. clock: what is running anyway, for the test's fixture to be
    used. journal, store: as in `Service.open`. handlers, settings: instead of the service's own. work, log: to see how
    its threads are doing.

    Raises what `Service.open` raises, in the same way; `UsageError` where time is real.
    """
    virtual_clock()
    if store is None:
        store = MemoryStore() if journal is None else SqliteStore(journal)
    mine = Work(trio.lowlevel.current_clock()) if work is None else work
    if store.durable:
        store = PatientStore(store, mine)
    threaded = service._async_sdk is None

    def make_executor(nursery: trio.Nursery) -> SdkExecutor:
        executor: SdkExecutor = PatientExecutor(service._make_executor(nursery), mine, threaded=threaded, log=log)
        return executor

    real: Clock = TrioClock()
    async with open_real_queue(
        handlers=dict(service._handlers if handlers is None else handlers),
        settings=attrs.evolve(service.settings, **settings) if settings else service.settings,
        store=store,
        make_executor=make_executor,
        clock=real,
        chance=random.Random(seed),
        hooks={hook: tuple(hooks) for hook, hooks in service._hooks.items()},
    ) as queue:
        yield queue


async def drain(queue: Queue) -> dict[str, Job]:
    """Wait until nothing is ahead of the queue: no job scheduled, pending, processing or retrying. Give all jobs as
    they then stand, by id. Unlike `Queue.drain` it goes on taking jobs.

    Jobs in doubt stay: they wait for a person. Raises `AssertionError` where the queue is paused, `QueueClosed` if it
    stops. Cancelled: nothing is changed.
    """
    events = queue.events()
    while any(queue.statistics().jobs[state] for state in _AHEAD):
        assert queue.paused is None, f"the queue is paused ({queue.paused}), its jobs cannot end"
        async for _ in events:
            break
        else:
            raise QueueClosed("the queue has stopped before its jobs have ended")
    return {job_id: queue.get(job_id) for job_id in queue.job_ids()}


def assert_submitted(
    queue: Queue,
    handler: str | Callable[..., Any],
    payload: Any = _ANY,
    *,
    key: str | None = None,
    times: int | None = None,
) -> tuple[Job, ...]:
    """Assert that such a job was submitted, once or more (or `times` times), and give those that were.

    payload: what it must be equal to, as the handler gets it; or a function that says whether it fits. key: its key.
    Raises `AssertionError` which tells what was submitted; `UnknownKind`.
    """
    found = runtime_of(queue).submissions.handler(handler)
    fits: list[Job] = []
    others: list[str] = []
    for job_id in queue.job_ids():
        job = queue.get(job_id)
        assert job.payload is not None
        value = found.decode(job.payload) if job.kind == found.kind else None
        if job.kind == found.kind and (key is None or job.key == key) and _fits(payload, value):
            fits.append(job)
        else:
            shown = job.payload.decode("utf-8", "replace") if value is None else repr(value)
            others.append(f"{job.kind}({shown:.200})" + ("" if job.key is None else f" key={job.key!r}"))
    if (not fits) if times is None else len(fits) != times:
        wanted = "a job" if times is None else f"{times} jobs"
        like = "" if payload is _ANY else f" like {payload!r}"
        told = "\n".join(f"  {other}" for other in others) or "  nothing else"
        raise AssertionError(
            f"{wanted} of kind {found.kind!r}{like}{'' if key is None else f' with key {key!r}'} should have been "
            f"submitted; there were {len(fits)}, and beside them:\n{told}"
        )
    return tuple(fits)


def _fits(wanted: Any, value: Any) -> bool:
    if wanted is _ANY:
        return True
    if callable(wanted) and not isinstance(wanted, type(value)):
        return bool(wanted(value))
    return bool(wanted == value)


@attrs.frozen
class AttemptReport:
    """What one attempt came to.

    outcome: docs/attempts.md. result: what the handler returned, None without. raised: what it raised, None if nothing.
    error: the same as it would be kept. entered: a call into the SDK began. steps: those that were done. job: as it
    stood at the end.
    """

    outcome: Outcome
    result: Any
    raised: BaseException | None
    error: ErrorInfo | None
    entered: bool
    steps: tuple[str, ...]
    job: Job


async def perform(
    service: Service,
    handler: str | Callable[..., Any],
    payload: Any,
    *,
    key: str | None = None,
    store: Store | None = None,
) -> AttemptReport:
    """Open the SDK, run one attempt of one job, close it, and tell what came of it.

    There is no retry and no verify; the payload goes through JSON as always, timeouts hold. In virtual time, or real
    time where that is what runs. Raises what `Service.open` and `Queue.submit` raise. Cancelled: the attempt is too,
    and the SDK is closed.
    """
    found = find_handler(service, handler)
    seen: list[BaseException] = []
    returned: list[Any] = []
    rules = attrs.evolve(found.rules, retry=Retry(0), verifies=False, on_doubt="hold")
    alone = attrs.evolve(
        found, rules=rules, verify=None, verify_first=False, fn=_watched(found, returned.append, seen.append)
    )
    settings: dict[str, Any] = {"drain_timeout": 0.0, "watchdog": None}
    if isinstance(trio.lowlevel.current_clock(), trio.testing.MockClock):
        opening = open_queue(service, store=store, handlers={found.kind: alone}, **settings)
    else:
        opening = _open_in_real_time(service, {found.kind: alone}, store, settings)
    async with opening as queue:
        receipt = await queue.submit(found.kind, payload, key=key)
        while not (job := queue.get(receipt.job_id)).attempts or job.attempts[0].outcome is None:
            async for _ in queue.events(after=job.seq, jobs=[job.id]):
                break
    attempt = job.attempts[0]
    assert attempt.outcome is not None
    return AttemptReport(
        outcome=attempt.outcome,
        result=returned[-1] if returned else None,
        raised=seen[-1] if seen else None,
        error=attempt.error,
        entered=attempt.entered,
        steps=job.steps or (),
        job=job,
    )


def _open_in_real_time(
    service: Service, handlers: dict[str, Handler], store: Store | None, settings: dict[str, Any]
) -> Any:
    return open_real_queue(
        handlers=handlers,
        settings=attrs.evolve(service.settings, **settings),
        store=MemoryStore() if store is None else store,
        make_executor=service._make_executor,
        clock=SystemClock(),
        chance=random.Random(0),
        hooks={},
    )


def find_handler(service: Service, handler: str | Callable[..., Any]) -> Handler:
    """The handler of a function or a kind. Raises `UsageError`."""
    for found in service._handlers.values():
        if handler is found.fn or handler == found.kind:
            return found
    raise UsageError(f"{service!r} has no handler {handler!r}")


def _watched(handler: Handler, returned: Callable[[Any], None], raised: Callable[[BaseException], None]) -> Any:
    """The handler's function, which tells what it gives back and what it raises."""
    fn = handler.fn
    if handler.is_async:

        async def aperform(*args: Any) -> Any:
            try:
                result = await fn(*args)
            except BaseException as error:
                raised(error)
                raise
            returned(result)
            return result

        return aperform

    def perform(*args: Any) -> Any:
        try:
            result = fn(*args)
        except BaseException as error:
            raised(error)
            raise
        returned(result)
        return result

    return perform
