"""The traceback that is kept of an error begins with the handler, and has at most 16 KiB."""

from __future__ import annotations

from collections.abc import Callable

import outcome
import pytest
import trio
from trio.testing import MockClock

from support.process_rig import IN_A_PROCESS, make_service, serve_sdk
from support.rig import NO_RETRY, HostKind, ended, last, open_queue, service_for
from trio_jobs import Service
from trio_jobs._engine.error_info import describe
from trio_jobs._validation import check_seconds
from trio_jobs.testing import FakeSdk, FakeSession
from trio_jobs.testing._remote_session import open_session


class Busy(Exception):
    """The error of an SDK."""


def raise_in(depth: int) -> None:
    if depth:
        raise_at(depth - 1)
    raise Busy("now")


def raise_at(depth: int) -> None:
    """Python shows a repeated line only three times, so two functions take turns."""
    raise_in(depth)


def fail_by_lambda() -> None:
    (lambda: raise_in(0))()


def fail_with_cause() -> None:
    try:
        raise_in(0)
    except Busy as error:
        raise ValueError("wrong") from error


def fail_deep() -> None:
    raise_in(300)


def handler(session: FakeSession, what: str) -> None:
    FAILURES[what]()


async def async_handler(session: FakeSession, what: str) -> None:
    await trio.lowlevel.checkpoint()
    FAILURES[what]()


FAILURES = {fail.__name__: fail for fail in (fail_by_lambda, fail_with_cause, fail_deep)}


def process_service() -> Service:
    service = Service(sdk=open_session, **IN_A_PROCESS)
    service.handler(kind="work", retry=NO_RETRY)(handler)
    return service


async def traceback_of(kind: HostKind, fail: Callable[[], None]) -> str:
    """The traceback that is kept of a handler that calls `fail`."""
    if kind == "process":
        serve_sdk()
        service = make_service(process_service)
    else:
        service = service_for(FakeSdk(), kind)
        service.handler(kind="work", retry=NO_RETRY)(handler if kind == "thread" else async_handler)
    async with open_queue(service) as queue:
        error = last(await ended(queue, (await queue.submit("work", fail.__name__)).job_id)).error
    assert error is not None
    assert error.traceback is not None
    return error.traceback


def functions(traceback: str) -> list[str]:
    return [line.rpartition(" in ")[2] for line in traceback.splitlines() if line.startswith("  File")]


async def test_a_kept_traceback_begins_with_the_handler(kind: HostKind, clock: MockClock) -> None:
    kept = await traceback_of(kind, fail_by_lambda)
    assert kept.startswith("Traceback (most recent call last):\n")
    first = "async_handler" if kind == "trio" else "handler"
    assert functions(kept) == [first, "fail_by_lambda", "<lambda>", "raise_in"]
    assert kept.endswith("Busy: now\n")


async def test_a_kept_traceback_has_the_cause_of_the_error(kind: HostKind, clock: MockClock) -> None:
    kept = await traceback_of(kind, fail_with_cause)
    first = "async_handler" if kind == "trio" else "handler"
    assert functions(kept) == ["fail_with_cause", "raise_in", first, "fail_with_cause"]


async def test_a_kept_traceback_has_the_last_16_kib(kind: HostKind, clock: MockClock) -> None:
    kept = await traceback_of(kind, fail_deep)
    assert len(kept) == 16 * 1024
    assert functions(kept)[-2:] == ["raise_at", "raise_in"]
    assert kept.endswith("Busy: now\n")


def test_a_traceback_without_a_frame_of_a_handler_is_kept_whole() -> None:
    raised = outcome.capture(check_seconds, "wait", -1)
    assert isinstance(raised, outcome.Error)
    assert functions(describe(raised.error, with_traceback=True).traceback or "") == ["check_seconds"]


@pytest.mark.parametrize("module", ["trio_jobs", "trio", "outcome"])
def test_frames_of_the_handler_behind_its_first_one_are_kept(module: str) -> None:
    """Also those of this package, where the handler has called it."""
    scope: dict[str, object] = {"__name__": f"{module}.part"}
    exec("def between(fn):\n    fn()", scope)
    between = scope["between"]
    assert callable(between)

    def handler() -> None:
        between(lambda: raise_in(0))

    def call() -> None:
        between(handler)

    raised = outcome.capture(between, call)
    assert isinstance(raised, outcome.Error)
    names = functions(describe(raised.error, with_traceback=True).traceback or "")
    assert names == ["call", "between", "handler", "between", "<lambda>", "raise_in"]
