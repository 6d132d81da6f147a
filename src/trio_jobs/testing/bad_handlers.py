"""A table of misbehaving handlers, each with the outcome that its attempt must have.

The queue classifies all of them, and the next job completes. A decorator around handlers (one that logs, measures or
translates errors) can break that; `check_bad_handlers(wrap=...)` finds out.
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
from trio_jobs.testing._quiet_log import quiet_log
from trio_jobs.testing.fake_sdk import FakeSdk, FakeSession
from trio_jobs.testing.kit import open_queue
from trio_jobs.testing.report import CheckReport, Finding

__all__ = ["BAD_HANDLERS", "LIMIT", "BadHandler", "check_bad_handlers"]

LIMIT: Final = 5.0  #: the attempt_timeout under which the table holds


class UnusualError(BaseException):
    """Neither an `Exception` nor one that Python raises."""


class UnprintableError(Exception):
    """An exception whose `str` raises."""

    def __str__(self) -> str:
        raise ValueError("no message")


@attrs.frozen
class BadHandler:
    """A row of the table.

    The expected values hold for a handler with `attempt_timeout=LIMIT`, without retries and without a verify, which has
    entered the SDK.
    """

    name: str
    """What the handler does, such as "raises SystemExit"."""

    do: Callable[[], Awaitable[Any]]
    """The body of an async handler."""

    outcome: Outcome
    """The expected outcome of the attempt."""

    state: State
    """The expected state of the job."""

    error: str | None = None
    """The expected type of the recorded error; None if no error is recorded."""

    late: bool = False
    """The attempt ends after its limit."""

    plain: Callable[[], Any] | None = None
    """The body of a plain handler with the same result; None if only an async handler can do it."""


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


async def _overrun_and_checkpoint() -> None:
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
        raise ValueError("the cleanup failed")


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


async def _exceed_own_deadline() -> None:
    with trio.fail_after(1):
        await trio.sleep_forever()


def _raising(name: str, make: Callable[[], BaseException], **expected: Any) -> BadHandler:
    """A handler that raises, async and plain."""

    def raise_it() -> None:
        raise make()

    async def araise_it() -> None:
        raise make()

    expectations = {"outcome": Outcome.ERROR, "state": State.FAILED, "error": type(make()).__name__} | expected
    return BadHandler(name, araise_it, plain=raise_it, **expectations)


def _nested_group() -> BaseException:
    return ExceptionGroup("outer", [ExceptionGroup("inner", [ValueError("the one error")])])


BAD_HANDLERS: Final = (
    _raising("raises SystemExit", lambda: SystemExit(3)),
    _raising("raises GeneratorExit", GeneratorExit),
    _raising("raises KeyboardInterrupt without a signal", KeyboardInterrupt),
    _raising("raises a BaseException of its own", UnusualError),
    _raising("raises StopAsyncIteration", StopAsyncIteration),
    _raising("raises an error whose str raises", UnprintableError),
    _raising("raises nested groups of one", _nested_group, error="ValueError"),
    _raising("raises a group of two", lambda: ExceptionGroup("two", [ValueError(), TypeError()])),
    _raising("raises Fail", lambda: Fail("never again"), outcome=Outcome.FAIL),
    _raising("raises Fail in a group", lambda: ExceptionGroup("", [Fail("no")]), outcome=Outcome.FAIL, error="Fail"),
    _raising("raises Cancel", lambda: Cancel("no more"), outcome=Outcome.CANCEL, state=State.CANCELLED),
    _raising("raises RetryAfter without a retry left", lambda: RetryAfter(1), outcome=Outcome.RETRY_AFTER),
    _raising("raises Snooze", lambda: Snooze(1e6), outcome=Outcome.SNOOZE, state=State.SCHEDULED, error=None),
    BadHandler("crashes twice in a nursery", _fail_twice, Outcome.ERROR, State.FAILED, "ExceptionGroup"),
    BadHandler(
        "raises in a nursery with a Cancelled task", _fail_beside_a_cancelled, Outcome.ERROR, State.FAILED, "ValueError"
    ),
    BadHandler("swallows Cancelled and returns", _swallow, Outcome.COMPLETED, State.COMPLETED),
    BadHandler("overruns behind a shield and returns", _overrun, Outcome.COMPLETED, State.COMPLETED, late=True),
    BadHandler("overruns behind a shield", _overrun_and_checkpoint, Outcome.TIMED_OUT, State.IN_DOUBT, late=True),
    BadHandler("raises a stored Cancelled", _raise_a_stored_cancelled, Outcome.ERROR, State.FAILED, "Cancelled"),
    BadHandler("raises while cleaning up", _fail_while_cleaning_up, Outcome.TIMED_OUT, State.IN_DOUBT, "ValueError"),
    BadHandler(
        "raises in a nursery while cleaning up",
        _fail_in_a_nursery_while_cleaning_up,
        Outcome.TIMED_OUT,
        State.IN_DOUBT,
        "ValueError",
    ),
    BadHandler("cancels a scope of its own", _cancel_its_own_scope, Outcome.COMPLETED, State.COMPLETED),
    BadHandler("exceeds a deadline of its own", _exceed_own_deadline, Outcome.ERROR, State.FAILED, "TooSlowError"),
)
"""Ctrl-C is not in the table: it is the one exception that ends the queue."""


async def check_bad_handlers(
    wrap: Callable[[Callable[..., Any]], Callable[..., Any]] = lambda fn: fn, *, raises: bool = True, log: bool = False
) -> CheckReport:
    """Check that each handler of the table has the expected outcome, and that the job after it completes.

    Args:
        wrap: A decorator to check. It receives the function of each handler, with the parameters `(sdk, name)`; first
            the async ones, then the plain ones.
        raises: Raise if there are findings. Otherwise the report has them.
        log: Let the log records of trio-jobs reach the handlers of `logging`.

    Returns:
        The report.

    Raises:
        ConformanceError: An outcome differs, and `raises` is true.
        UsageError: Time is real; the check needs a `MockClock`.

    Cancelled:
        The current queue is closed.
    """
    findings: list[Finding] = []
    checked: list[str] = []
    with quiet_log(log):
        for bad in BAD_HANDLERS:
            checked.append(f"an async handler that {bad.name}")
            findings += await _check(bad, wrap, plain=False)
        for bad in BAD_HANDLERS:
            if bad.plain is not None:
                checked.append(f"a plain handler that {bad.name}")
                findings += await _check(bad, wrap, plain=True)
    report = CheckReport("BAD_HANDLERS", tuple(checked), tuple(findings))
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
    rule = f"an attempt that {bad.name} has the outcome {bad.outcome}, and the next job completes"
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
        found.append(f"the recorded error is {error}, not {bad.error}")
    if attempt.late is not bad.late:
        found.append(f"late is {attempt.late}, not {bad.late}")
    return found
