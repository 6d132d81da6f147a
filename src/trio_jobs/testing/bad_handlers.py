"""Handlers that do what a handler should not, and what each must come to, as data.

The queue classifies all of them, and the next job completes. Whoever puts something of their own around handlers (a
decorator that logs, times, translates errors) can see with `check_bad_handlers(wrap=...)` that it still does.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final

import attrs
import trio
import trio.testing

from trio_jobs._engine.directives import Cancel, Fail, RetryAfter, Snooze
from trio_jobs._engine.jobs import Job, Outcome, State
from trio_jobs._engine.retry import Retry
from trio_jobs._service import Service
from trio_jobs.testing.fakes import FakeSdk, FakeSession
from trio_jobs.testing.kit import open_queue
from trio_jobs.testing.report import CheckReport, Finding

__all__ = ["BAD_HANDLERS", "LIMIT", "BadHandler", "check_bad_handlers"]

LIMIT: Final = 5.0  #: the attempt_timeout under which the table holds


class Odd(BaseException):
    """Neither an Exception nor one that Python itself raises."""


class Mute(Exception):
    """An error that cannot be told."""

    def __str__(self) -> str:
        raise ValueError("no words")


@attrs.frozen
class BadHandler:
    """One of the table.

    name: what it does, in words. do: that. outcome, state: what it must come to, with attempt_timeout=LIMIT, no
    retries, no verify, in a handler that has entered its SDK. error: the type that is kept, None for none. late: it
    ended after its limit. plain: it may be done in a plain handler too, where it comes to the same.
    """

    name: str
    do: Callable[[], Awaitable[Any]]
    outcome: Outcome
    state: State
    error: str | None = None
    late: bool = False
    plain: Callable[[], Any] | None = None


async def _swallow() -> str:
    try:
        await trio.sleep_forever()
    except trio.Cancelled:
        return "swallowed"
    raise AssertionError


async def _overrun() -> str:
    with trio.CancelScope(shield=True):
        await trio.sleep(LIMIT * 1.8)
    return "after the deadline"


async def _overrun_and_look() -> None:
    await _overrun()
    await trio.lowlevel.checkpoint()


async def _raise_a_stored_cancelled() -> None:
    stored: list[trio.Cancelled] = []
    with trio.CancelScope() as scope:
        scope.cancel()
        try:
            await trio.lowlevel.checkpoint()
        except trio.Cancelled as cancelled:
            stored.append(cancelled)
    raise stored[0]


async def _fail_while_cleaning_up() -> None:
    try:
        await trio.sleep_forever()
    finally:
        raise ValueError("the cleanup broke")


async def _fail_in_a_nursery_while_cleaning_up() -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_fail_while_cleaning_up)
        await trio.sleep_forever()


async def _fail_twice() -> None:
    async def one(error: Exception) -> None:
        raise error

    async with trio.open_nursery() as nursery:
        nursery.start_soon(one, ValueError("one"))
        nursery.start_soon(one, TypeError("two"))


async def _fail_beside_a_cancelled() -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.sleep_forever)
        raise ValueError("the real one")


async def _cancel_its_own_scope() -> str:
    with trio.CancelScope() as scope:
        scope.cancel()
        await trio.lowlevel.checkpoint()
    return "went on"


async def _fall_behind() -> None:
    with trio.fail_after(1):
        await trio.sleep_forever()


def _raising(name: str, make: Callable[[], BaseException], **expected: Any) -> BadHandler:
    """One that just raises, wherever it runs."""

    def raise_it() -> None:
        raise make()

    async def araise_it() -> None:
        raise make()

    came_to = {"outcome": Outcome.ERROR, "state": State.FAILED, "error": type(make()).__name__} | expected
    return BadHandler(name, araise_it, plain=raise_it, **came_to)


def _deep() -> BaseException:
    return ExceptionGroup("outer", [ExceptionGroup("inner", [ValueError("the one error")])])


BAD_HANDLERS: Final = (
    _raising("raises SystemExit", lambda: SystemExit(3)),
    _raising("raises GeneratorExit", GeneratorExit),
    _raising("raises a BaseException of its own", Odd),
    _raising("raises StopAsyncIteration", StopAsyncIteration),
    _raising("raises an error without words", Mute),
    _raising("raises groups of one in each other", _deep, error="ValueError"),
    _raising("raises a group of two", lambda: ExceptionGroup("two", [ValueError(), TypeError()])),
    _raising("raises Fail", lambda: Fail("never again"), outcome=Outcome.FAIL),
    _raising("raises Fail in a group", lambda: ExceptionGroup("", [Fail("no")]), outcome=Outcome.FAIL, error="Fail"),
    _raising("raises Cancel", lambda: Cancel("no more"), outcome=Outcome.CANCEL, state=State.CANCELLED),
    _raising("raises RetryAfter without a retry left", lambda: RetryAfter(1), outcome=Outcome.RETRY_AFTER),
    _raising("raises Snooze", lambda: Snooze(1e6), outcome=Outcome.SNOOZE, state=State.SCHEDULED, error=None),
    BadHandler("crashes twice in a nursery", _fail_twice, Outcome.ERROR, State.FAILED, "ExceptionGroup"),
    BadHandler("raises beside a Cancelled", _fail_beside_a_cancelled, Outcome.ERROR, State.FAILED, "ValueError"),
    BadHandler("swallows Cancelled and returns", _swallow, Outcome.COMPLETED, State.COMPLETED),
    BadHandler("overruns behind a shield and returns", _overrun, Outcome.COMPLETED, State.COMPLETED, late=True),
    BadHandler("overruns behind a shield", _overrun_and_look, Outcome.TIMED_OUT, State.IN_DOUBT, late=True),
    BadHandler("raises a Cancelled it has kept", _raise_a_stored_cancelled, Outcome.ERROR, State.FAILED, "Cancelled"),
    BadHandler("raises while cleaning up", _fail_while_cleaning_up, Outcome.TIMED_OUT, State.IN_DOUBT, "ValueError"),
    BadHandler(
        "raises in a nursery while cleaning up",
        _fail_in_a_nursery_while_cleaning_up,
        Outcome.TIMED_OUT,
        State.IN_DOUBT,
        "ValueError",
    ),
    BadHandler("cancels a scope of its own", _cancel_its_own_scope, Outcome.COMPLETED, State.COMPLETED),
    BadHandler("lets its own deadline pass", _fall_behind, Outcome.ERROR, State.FAILED, "TooSlowError"),
)
"""KeyboardInterrupt is not among them: it alone goes through, and ends the queue."""


async def check_bad_handlers(
    wrap: Callable[[Callable[..., Any]], Callable[..., Any]] = lambda fn: fn, *, raises: bool = True
) -> CheckReport:
    """Run the table in a queue, each one followed by a good job, and compare what it came to.

    wrap: put around each handler's function, `(sdk, name)`; async ones, then plain ones. In virtual time. Raises
    `ConformanceError` with what was found, unless `raises` is False; `UsageError` where time is real.
    """
    findings: list[Finding] = []
    checked: list[str] = []
    for bad in BAD_HANDLERS:
        checked.append(f"an async handler that {bad.name}")
        findings += await _check(bad, wrap, plain=False)
    for bad in BAD_HANDLERS:
        if bad.plain is not None:
            checked.append(f"a plain handler that {bad.name}")
            findings += await _check(bad, wrap, plain=True)
    report = CheckReport("the bad handlers", tuple(checked), tuple(findings))
    return report.check() if raises else report


async def _check(bad: BadHandler, wrap: Callable[..., Any], *, plain: bool) -> list[Finding]:
    sdk = FakeSdk()
    limits: dict[str, Any] = {"drain_timeout": 0.0, "watchdog": None}
    service = Service(sdk=sdk.session, **limits) if plain else Service(async_sdk=sdk.async_session, **limits)

    async def aperform(session: FakeSession, what: str) -> Any:
        return await bad.do() if what == "bad" else what

    def perform(session: FakeSession, what: str) -> Any:
        assert bad.plain is not None
        return bad.plain() if what == "bad" else what

    fn = wrap(perform if plain else aperform)
    service.handler(kind="work", payload_type=str, attempt_timeout=LIMIT, retry=Retry(0))(fn)
    async with open_queue(service) as queue:
        receipt = await queue.submit("work", "bad")
        following = await queue.submit("work", "good")
        await trio.sleep(LIMIT * 4)
        job = queue.get(receipt.job_id)
        good = queue.get(following.job_id)
    kind = "plain" if plain else "async"
    found = _differences(bad, job)
    if good.state is not State.COMPLETED:
        found.append(f"the next job is {good.state}")
    rule = f"an attempt that {bad.name} comes to {bad.outcome}, and the next job completes"
    return [Finding(rule, f"the {kind} handler that {bad.name}: {why}", f"BAD_HANDLERS, {bad.name!r}") for why in found]


def _differences(bad: BadHandler, job: Job) -> list[str]:
    attempt = (job.attempts or ())[-1]
    found = []
    if attempt.outcome is not bad.outcome:
        found.append(f"its outcome is {attempt.outcome}, not {bad.outcome}")
    if job.state is not bad.state:
        found.append(f"its job is {job.state}, not {bad.state}")
    error = None if attempt.error is None else attempt.error.type
    if error != bad.error:
        found.append(f"the error that is kept is {error}, not {bad.error}")
    if attempt.late is not bad.late:
        found.append(f"late is {attempt.late}, not {bad.late}")
    return found
