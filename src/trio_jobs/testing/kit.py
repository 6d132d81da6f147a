"""Tools for tests of a service: a queue in virtual time, waiting for all its jobs, one attempt of one handler.

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
from pathlib import Path
from typing import Any, Final

import attrs
import trio
import trio.testing

from trio_jobs._concurrency import protected_manager
from trio_jobs._engine.handlers import Handler
from trio_jobs._engine.jobs import ErrorInfo, Job, Outcome, State
from trio_jobs._engine.retry import Retry
from trio_jobs._errors import QueueClosed, UsageError
from trio_jobs._ports import Clock, SdkExecutor, Store
from trio_jobs._runtime.clock import SystemClock, TrioClock
from trio_jobs._runtime.queue import Queue, runtime_of
from trio_jobs._runtime.supervisor import open_queue as open_real_queue
from trio_jobs._runtime.verification import work_is_left
from trio_jobs._service import Service, parts_of
from trio_jobs._stores.memory import MemoryStore
from trio_jobs._stores.sqlite.store import SqliteStore
from trio_jobs.testing._virtual_time import ExecutorLog, ThreadActivity, VirtualTimeExecutor, VirtualTimeStore

__all__ = ["AttemptReport", "assert_submitted", "drain", "find_handler", "open_queue", "perform", "virtual_clock"]

_UNFINISHED: Final = (State.SCHEDULED, State.PENDING, State.PROCESSING, State.SAVING, State.RETRYING)
_ANY: Final = object()


def virtual_clock() -> trio.testing.MockClock:
    """The clock of the current Trio run. Raises `UsageError` if it is not a `MockClock`: the test would be slow and
    its result would depend on timing."""
    clock = trio.lowlevel.current_clock()
    if not isinstance(clock, trio.testing.MockClock):
        raise UsageError(
            "this needs virtual time: use pytest-trio's autojump_clock, or "
            "trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))"
        )
    return clock


@protected_manager
async def open_queue(
    service: Service,
    clock: object = None,
    *,
    journal: str | Path | None = None,
    store: Store | None = None,
    seed: int = 0,
    activity: ThreadActivity | None = None,
    handlers: Mapping[str, Handler] | None = None,
    log: ExecutorLog | None = None,
    **settings: Any,
) -> AsyncIterator[Queue]:
    """Open a queue of `service` in virtual time.

    Virtual time does not pass while a thread (the SDK's, the journal's) is active, so nothing times out because a
    machine is slow. To make a call slow, use a `Blocker` or a `Slow`.

    Args:
        service: The service; its SDK runs in the executor that it needs.
        clock: Ignored. It lets a test use the `autojump_clock` fixture that it requests.
        journal: A path, as in `Service.open`.
        store: A store, as in `Service.open`; not together with `journal`.
        seed: The seed of job ids and of random retry delays.
        activity: Counts the active threads; for other tools of this package.
        handlers: Replace the handlers of the service.
        log: Records what goes through the executor; for other tools of this package.
        settings: Override settings of the service.

    Raises:
        UsageError: Time is real; this needs a `MockClock`.
        TrioJobsError: What `Service.open` raises.

    Cancelled:
        The queue is closed, as by `Service.open`.
    """
    virtual_clock()
    if store is None:
        store = MemoryStore() if journal is None else SqliteStore(journal)
    threads = ThreadActivity(trio.lowlevel.current_clock()) if activity is None else activity
    if store.durable:
        store = VirtualTimeStore(store, threads)
    parts = parts_of(service).in_process()  # no virtual time passes for another process
    threaded = parts.async_sdk is None

    def make_executor(nursery: trio.Nursery) -> SdkExecutor:
        executor: SdkExecutor = VirtualTimeExecutor(parts.make_executor(nursery), threads, threaded=threaded, log=log)
        return executor

    real: Clock = TrioClock()
    async with open_real_queue(
        handlers=dict(parts.handlers if handlers is None else handlers),
        settings=attrs.evolve(service.settings, **settings) if settings else service.settings,
        store=store,
        make_executor=make_executor,
        clock=real,
        chance=random.Random(seed),
        hooks=parts.fixed_hooks(),
    ) as queue:
        yield queue


async def drain(queue: Queue) -> dict[str, Job]:
    """Wait until no job is scheduled, pending, processing, saving or retrying, and none in doubt waits for its verify.

    Unlike `Queue.drain` it waits for scheduled jobs too, and the queue continues to accept jobs. Other jobs in doubt
    remain, since only a person can resolve them.

    Returns:
        All jobs by id.

    Raises:
        AssertionError: The queue is paused.
        QueueClosed: The queue stopped.

    Cancelled:
        Nothing has changed.
    """
    events = queue.events()
    runtime = runtime_of(queue)
    while any(queue.statistics().jobs[state] for state in _UNFINISHED) or work_is_left(
        runtime.event_log.projection, runtime.handlers
    ):
        assert queue.paused is None, f"the queue is paused ({queue.paused}), so its jobs cannot end"
        async for _ in events:
            break
        else:
            raise QueueClosed("the queue stopped before its jobs ended")
    return {job_id: queue.get(job_id) for job_id in queue.job_ids()}


def assert_submitted(
    queue: Queue,
    handler: str | Callable[..., Any],
    payload: Any = _ANY,
    *,
    key: str | None = None,
    times: int | None = None,
) -> tuple[Job, ...]:
    """Assert that a job was submitted.

    Args:
        queue: The queue; jobs that have been pruned are not found.
        handler: The kind, or the function of the handler.
        payload: What the decoded payload must be equal to, or a function of it that returns whether it matches.
        key: The key of the job; any if None.
        times: How many such jobs there must be; one or more if None.

    Returns:
        The jobs that match.

    Raises:
        AssertionError: There is no such job, or not `times` of them. The message lists the other jobs.
        UnknownKind: The service has no such handler.
    """
    found = runtime_of(queue).submissions.handler(handler)
    matches: list[Job] = []
    others: list[str] = []
    for job_id in queue.job_ids():
        job = queue.get(job_id)
        assert job.payload is not None
        value = found.decode(job.payload) if job.kind == found.kind else None
        if job.kind == found.kind and (key is None or job.key == key) and _matches(payload, value):
            matches.append(job)
        else:
            shown = job.payload.decode("utf-8", "replace") if value is None else repr(value)
            others.append(f"{job.kind}({shown:.200})" + ("" if job.key is None else f" key={job.key!r}"))
    if (not matches) if times is None else len(matches) != times:
        wanted = "a job" if times is None else f"{times} jobs"
        equal = "" if payload is _ANY else f" with payload {payload!r}"
        rest = "\n".join(f"  {other}" for other in others) or "  none"
        raise AssertionError(
            f"expected {wanted} of kind {found.kind!r}{equal}{'' if key is None else f' and key {key!r}'}, "
            f"found {len(matches)}; other jobs:\n{rest}"
        )
    return tuple(matches)


def _matches(wanted: Any, value: Any) -> bool:
    if wanted is _ANY:
        return True
    if callable(wanted) and not isinstance(wanted, type(value)):
        return bool(wanted(value))
    return bool(wanted == value)


@attrs.frozen
class AttemptReport:
    """The result of one attempt, see `perform`."""

    outcome: Outcome
    """The outcome of the attempt, see docs/attempts.md."""

    result: Any
    """What the handler returned; None if it did not return."""

    raised: BaseException | None
    """What the handler raised; None if it returned."""

    error: ErrorInfo | None
    """The same exception as it is recorded; None if none is."""

    entered: bool
    """A call into the SDK began."""

    steps: tuple[str, ...]
    """The names of the finished steps."""

    job: Job
    """The job after the attempt."""


async def perform(
    service: Service,
    handler: str | Callable[..., Any],
    payload: Any,
    *,
    key: str | None = None,
    store: Store | None = None,
) -> AttemptReport:
    """Open the SDK, run one attempt of one job without retry and verify, and close the SDK.

    The payload goes through JSON as in a queue, and timeouts apply. Time is virtual if the current clock is a
    `MockClock`, otherwise real.

    Args:
        service: The service that the handler belongs to.
        handler: Its kind or function.
        payload: The payload of the job.
        key: The key of the job.
        store: A store that is not open; a new `MemoryStore` if None.

    Returns:
        The result of the attempt.

    Raises:
        UsageError: The service has no such handler.
        TrioJobsError: What `Service.open` and `Queue.submit` raise.

    Cancelled:
        The attempt is cancelled, and the SDK is closed.
    """
    found = find_handler(service, handler)
    raised: list[BaseException] = []
    returned: list[Any] = []
    rules = attrs.evolve(found.rules, retry=Retry(0), verifies=False, on_doubt="hold")
    alone = attrs.evolve(
        found, rules=rules, verify=None, verify_first=False, fn=_recorded(found, returned.append, raised.append)
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
        raised=raised[-1] if raised else None,
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
        make_executor=parts_of(service).make_executor,
        clock=SystemClock(),
        chance=random.Random(0),
        hooks={},
    )


def find_handler(service: Service, handler: str | Callable[..., Any]) -> Handler:
    """The handler of a function or a kind. Raises `UsageError` if the service has none."""
    for found in parts_of(service).handlers.values():
        if handler is found.fn or handler == found.kind:
            return found
    raise UsageError(f"{service!r} has no handler {handler!r}")


def _recorded(handler: Handler, returned: Callable[[Any], None], raised: Callable[[BaseException], None]) -> Any:
    """The handler's function, which passes its result to `returned` and its exception to `raised`."""
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
